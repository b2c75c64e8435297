"""One worker: a process that holds a model and accepts requests on the socket that all workers share."""

import asyncio
import errno
import os
import signal
import socket
import struct
import sys
import time
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import uvicorn

from model_server.app import Application, log
from model_server.errors import HandlerError, ServingError
from model_server.handlers import Handlers
from model_server.settings import ServerSettings

READY, FAILED, GO = b"R", b"F", b"G"
LOAD_FAILED_EXIT, REQUESTS_LOST_EXIT = 3, 1
# Between SIGTERM and the end of idle connections: a request that is on its way on one of them is still answered.
LINGER_SECONDS = 0.3
# A client that keeps connections should not meet one that is being closed.
KEEP_ALIVE_SECONDS = 600
ACCEPT_PAUSE_SECONDS = 1  # where there are no descriptors left
BEAT = struct.Struct("d")


class WorkerPipes(NamedTuple):
    """What joins a worker to the supervisor.

    Attributes:
        report: descriptor that takes ``READY``, or ``FAILED`` and the reason.
        orders: descriptor that gives ``GO``; its end means that the supervisor is gone.
        beats: shared memory; the worker writes the time there, once a second, as a sign that its loop runs.
        place: of this worker's time in it.
    """

    report: int
    orders: int
    beats: mmap
    place: int


def run_worker(settings: ServerSettings, program: Path | None, listener: socket.socket, pipes: WorkerPipes) -> int:
    """Load the model, wait for the word, serve until SIGTERM; return the exit code of this process."""
    try:
        handlers = Handlers(settings, program)
        handlers.load()
    except (HandlerError, ServingError) as error:
        return _report_failure(str(error), error.__cause__, pipes)
    except Exception as error:  # noqa: BLE001 - whatever a model's loader raises is the reason that is reported
        return _report_failure(f"{type(error).__name__}: {error}", error, pipes)
    os.write(pipes.report, READY)
    if os.read(pipes.orders, 1) != GO:
        return 0  # the supervisor is gone
    config = uvicorn.Config(
        app=Application(handlers, settings),
        lifespan="off",
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
    )
    server = _Server(config, pipes)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # what uvicorn raises again when it has drained
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
        # The runner would wait for the thread of a request that never ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(REQUESTS_LOST_EXIT if server.requests_lost else 0)


def _report_failure(reason: str, cause: BaseException | None, pipes: WorkerPipes) -> int:
    log(reason, cause)
    os.write(pipes.report, FAILED + reason.encode(errors="replace")[:4000])
    return LOAD_FAILED_EXIT


class _Server(uvicorn.Server):
    """uvicorn's server, which also beats, notices that the supervisor is gone, and closes idle connections last."""

    def __init__(self, config: uvicorn.Config, pipes: WorkerPipes) -> None:
        super().__init__(config)
        self._pipes = pipes
        self.requests_lost = 0
        self._accepting: set[asyncio.Task[object]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept one connection at a time: uvicorn's loop would take all that wait, and leave other workers idle."""
        assert sockets
        self.servers = []
        self._listener = sockets[0]
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)
        self.started = True

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                log(f"no connection can be accepted for {ACCEPT_PAUSE_SECONDS} s: {error.strerror}")
                loop.remove_reader(self._listener.fileno())
                loop.call_later(ACCEPT_PAUSE_SECONDS, self._accept_again)
            return  # otherwise another worker was faster, or the client went away
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state={}
        )
        return protocol

    async def main_loop(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipes.orders, self._end_of_orders)
        await super().main_loop()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            BEAT.pack_into(self._pipes.beats, self._pipes.place * BEAT.size, time.monotonic())
        app: Application = self.config.app  # type: ignore[assignment]
        return await super().on_tick(counter) or app.is_stuck

    def _end_of_orders(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipes.orders)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        app: Application = self.config.app  # type: ignore[assignment]
        app.is_closing = True
        await asyncio.sleep(LINGER_SECONDS)
        beating = asyncio.ensure_future(self._beat())
        try:
            await super().shutdown(sockets)
        finally:
            beating.cancel()
        self.requests_lost = len(self.server_state.tasks)

    async def _beat(self) -> None:
        while True:
            BEAT.pack_into(self._pipes.beats, self._pipes.place * BEAT.size, time.monotonic())
            await asyncio.sleep(1)
