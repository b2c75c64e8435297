"""Keeps the workers: starts them, starts another where one dies, and drains them at the end.

The workers are forked from this process and share its listening socket. What the bundled policy needs is imported here,
once, so that a worker is up again in a fraction of the time that the import takes.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from types import FrameType

from model_server import policy, worker
from model_server.app import log
from model_server.errors import ServingError
from model_server.settings import ServerSettings
from model_server.waiting import answer_not_ready
from model_server.worker import BEAT, FAILED, GO, READY, WorkerPipes, run_worker

BACKLOG = 2048
WAITING_END_SECONDS = 0.25
LOADS_TRIED = 3  # by workers that died without a word, before the model counts as one that cannot be loaded
RESTART_SECONDS = 30  # the longest pause before a worker is started that could not load its model
FAILURE_SHOWN_SECONDS = 5  # for which requests are told why the model cannot be loaded, before this process ends
SILENT_SECONDS = 10  # beyond the timeout of a request, after which a worker that does not beat is killed


@dataclass
class _Slot:
    """One worker's place, whoever holds it."""

    number: int
    pid: int = 0  # 0: none now
    report: int = -1
    orders: int = -1
    is_ready: bool = False
    failures: int = 0
    start_at: float = 0.0  # when another is to be started
    was_silent: bool = False
    said: bytearray = field(default_factory=bytearray)


class Supervisor:
    """The server as a whole.

    Args:
        settings: of the server.
        program: file with the user's functions; None: the defaults alone.
    """

    def __init__(self, settings: ServerSettings, program: Path | None) -> None:
        self._settings, self._program = settings, program
        self._slots = [_Slot(number) for number in range(settings.workers)]
        self._beats = mmap(-1, BEAT.size * settings.workers)
        self._waiting_pid = 0
        self._is_serving = False
        self._is_stopping = False
        self._wakeup = -1

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code of this process.

        Raises:
            ServingError: the port is taken.
        """
        with self._listening() as listener, self._signals():
            self._wait_with(listener, {"status": "loading"})
            if self._program is None and policy.has_exported_policy(self._settings.model):
                # One that cannot be read is reported by the worker, as any model is that cannot be loaded.
                with contextlib.suppress(ServingError, ImportError):
                    policy.preload(self._settings.model)
            gc.freeze()  # keeps what was imported in memory that the workers share
            if not self._is_stopping:
                self._start(self._slots[0], listener)
            while not self._is_stopping:
                self._watch(1.0)
                failure = self._keep_up(listener)
                if failure is not None:
                    return self._end_with(failure, listener)
            listener.close()
            return self._drain()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        host, port = self._settings.host, self._settings.port
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                raise ServingError(
                    f"cannot listen at {host}:{port}: {error.strerror}. SAGEMAKER_BIND_TO_PORT chooses another port, "
                    "LAUNCHER_SERVE_HOST another address."
                ) from error
            listener.listen(BACKLOG)
            yield listener

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        readable, writable = os.pipe()
        os.set_blocking(readable, False)
        os.set_blocking(writable, False)
        self._wakeup = readable
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        yield

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _fork(self, run: Callable[[], int]) -> int:
        """Run a function in a process of its own; return its process id."""
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._wakeup)
            for slot in self._slots:
                for descriptor in (slot.report, slot.orders):
                    if descriptor >= 0:
                        os.close(descriptor)
            exit_code = run()
        except BaseException as error:  # noqa: BLE001 - nothing may run on in the supervisor's place
            log(f"a process of the server failed: {error!r}", error)
            exit_code = worker.REQUESTS_LOST_EXIT
        os._exit(exit_code)

    def _wait_with(self, listener: socket.socket, state: dict[str, str]) -> None:
        """Let a process of its own answer for the workers, until they can."""

        def answer() -> int:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            answer_not_ready(listener, state)
            return 0

        self._waiting_pid = self._fork(answer)

    def _end_waiting(self) -> None:
        if not self._waiting_pid:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._waiting_pid, signal.SIGTERM)
            end = time.monotonic() + WAITING_END_SECONDS
            while os.waitpid(self._waiting_pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > end:  # a client that connected and says nothing
                    os.kill(self._waiting_pid, signal.SIGKILL)
                    os.waitpid(self._waiting_pid, 0)
                    break
                time.sleep(0.002)
        self._waiting_pid = 0

    def _start(self, slot: _Slot, listener: socket.socket) -> None:
        slot.report, report = os.pipe()
        orders, slot.orders = os.pipe()
        slot.said.clear()
        slot.is_ready = slot.was_silent = False
        pipes = WorkerPipes(report, orders, self._beats, slot.number)
        slot.pid = self._fork(lambda: run_worker(self._settings, self._program, listener, pipes))
        os.close(report)
        os.close(orders)

    def _watch(self, seconds: float) -> None:
        """Wait until a worker says something or ends, a signal comes, or the time is over."""
        reports = [slot.report for slot in self._slots if slot.report >= 0]
        ready, _, _ = select.select([self._wakeup, *reports], [], [], seconds)
        if self._wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 512)
        for slot in self._slots:
            if slot.report in ready:
                text = os.read(slot.report, 4096)
                slot.said += text
                if not text:
                    os.close(slot.report)
                    slot.report = -1
                elif text[:1] == READY:
                    self._welcome(slot)

    def _welcome(self, slot: _Slot) -> None:
        """Let a worker serve whose model is loaded."""
        slot.is_ready, slot.failures = True, 0
        BEAT.pack_into(self._beats, slot.number * BEAT.size, time.monotonic())
        # No request may meet the process that says 503 once a worker has said 200.
        self._end_waiting()
        os.write(slot.orders, GO)
        if not self._is_serving:
            self._is_serving = True
            log(f"ready at {self._settings.host}:{self._settings.port}, workers: {len(self._slots)}")

    def _keep_up(self, listener: socket.socket) -> str | None:
        """Start what has to be started; return why the model cannot be loaded, where that is so."""
        for slot, status in self._ended():
            exit_code = os.waitstatus_to_exitcode(status)
            reason = bytes(slot.said[1:]).decode(errors="replace") if slot.said[:1] == FAILED else ""
            how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
            if slot.is_ready:
                log(f"a worker ended by {how}; another one is started")
            else:
                slot.failures += 1
                if not self._is_serving:
                    if reason:
                        return reason
                    if slot.failures >= LOADS_TRIED:
                        return f"the worker ended by {how} while it loaded the model, {slot.failures} times."
                pause = min(RESTART_SECONDS, 2 ** (slot.failures - 1))
                log(f"a worker ended by {how} before it was ready; another one is started in {pause} s")
                slot.start_at = time.monotonic() + pause
        now = time.monotonic()
        for slot in self._slots:
            if not slot.pid and slot.start_at <= now and (self._is_serving or slot.number == 0):
                self._start(slot, listener)
            elif slot.is_ready:
                self._check_beat(slot, now)
        return None

    def _check_beat(self, slot: _Slot, now: float) -> None:
        """Kill a worker whose loop has not run for longer than any request may take."""
        (beat,) = BEAT.unpack_from(self._beats, slot.number * BEAT.size)
        is_silent = now - beat > self._settings.timeout_seconds + SILENT_SECONDS
        if is_silent and slot.was_silent:  # twice, because this machine may have slept
            log(f"a worker did nothing for {now - beat:.0f} s and is killed")
            os.kill(slot.pid, signal.SIGKILL)
        slot.was_silent = is_silent

    def _ended(self) -> list[tuple[_Slot, int]]:
        """Return the workers that have ended, and how."""
        ended: list[tuple[_Slot, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)  # also what others left behind, where this is process 1
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if pid == self._waiting_pid:
                self._waiting_pid = 0
            for slot in self._slots:
                if slot.pid == pid:
                    slot.pid = 0
                    if slot.report >= 0:  # what it said last
                        with contextlib.suppress(OSError):
                            slot.said += os.read(slot.report, 4096)
                    for descriptor in (slot.report, slot.orders):
                        if descriptor >= 0:
                            os.close(descriptor)
                    slot.report = slot.orders = -1
                    ended.append((slot, status))

    def _end_with(self, reason: str, listener: socket.socket) -> int:
        """Tell the reason to whoever asks for a while, then end."""
        self._end_waiting()
        self._wait_with(listener, {"status": "failed", "error": reason})
        log(f"the model cannot be served: {reason}")
        end = time.monotonic() + FAILURE_SHOWN_SECONDS
        while not self._is_stopping and (left := end - time.monotonic()) > 0:
            self._watch(left)
        self._end_waiting()
        return 1

    def _drain(self) -> int:
        """Have the workers answer what they hold; return 0 when they did."""
        self._end_waiting()
        for slot in self._slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.pid, signal.SIGTERM)
        exit_code = 0
        end = time.monotonic() + self._settings.drain_seconds + 1
        while any(slot.pid for slot in self._slots):
            left = end - time.monotonic()
            if left <= 0:
                break
            self._watch(left)
            for slot, status in self._ended():
                if slot.is_ready and os.waitstatus_to_exitcode(status) != 0:
                    exit_code = 1
        for slot in self._slots:
            if slot.pid:
                exit_code = 1
                os.kill(slot.pid, signal.SIGKILL)
                os.waitpid(slot.pid, 0)
        if exit_code:
            log("some requests were not answered before the time was over")
        return exit_code
