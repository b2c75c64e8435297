"""A container of a job: watched, asked, signalled, removed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import docker.errors

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.spec import OPT_ML, ContainerSpec
from launcher.runtimes.base import EndCause, Ending, Execution, HostState, Inside
from launcher.runtimes.docker_engine.connection import (
    ANSWER_SECONDS,
    BROKEN,
    engine_errors,
    patient_client,
    quick_client,
    silent,
    words_of,
)
from launcher.runtimes.docker_engine.inside import ExecutedCommand, pump_input, raw_terminal
from launcher.runtimes.docker_engine.job_network import addresses_of
from launcher.runtimes.docker_engine.names import network_name
from launcher.runtimes.docker_engine.options import PUBLISHED_AT
from launcher.runtimes.docker_engine.output import STDERR, STDOUT, Frames, LogCopy, frames_of
from launcher.runtimes.usage import HostUsage

_RETRY_SECONDS = 1.0
# The words of an engine's first process (Docker's tini, podman's catatonit) when it cannot start the image's.
_NO_PROGRAM = re.compile(r"(?:\[FATAL\s+tini \(\d+\)\] exec .* failed|failed to exec pid1): (.+)")
_IS_SO_ALREADY = re.compile(r"already paused|not paused|is not connected|already exists in network|not running")
_REASON_PATH = "output/.stop-reason"
# The first process of a container starts the image's, which may be the toolkit; that starts the script.
_PRINT_ENVIRONMENT = """
main=$(cat /proc/1/task/1/children) && main=${main%% *} && script=$(cat /proc/$main/task/$main/children)
script=${script%% *}
cat /proc/${script:-$main}/environ
"""
_KILLED, _NOT_FOUND = 128 + signal.SIGKILL, 127
_REMOVED = Ending(EndCause.REMOVED, "its container was removed, not by the launcher (docker rm)")


class DockerExecution(Execution):
    """A container of a job.

    Args:
        client: of the engine; it waits long for an answer.
        container_id: the container.
        container: what it was started from.
        frames: its output from the beginning; default: read again from the engine's copy.
    """

    def __init__(
        self, client: docker.APIClient, container_id: str, container: ContainerSpec, frames: Frames | None = None
    ) -> None:
        self._client = client
        self._id = container_id
        self._container = container
        self._log = LogCopy(container)
        self._ended = threading.Event()
        self._code = 0
        self._ending = Ending()
        self._lost = False
        self._owed_signal = ""
        self._thread = threading.Thread(target=self._watch, args=(frames,), name=container_id[:12], daemon=True)

    def watch(self) -> None:
        """Begin to read the output and to wait for the end."""
        self._thread.start()

    @property
    def reference(self) -> dict[str, Any]:
        """The container's id."""
        return {"runtime": "docker", "container": self._id}

    def state(self) -> HostState:
        """Return what is known without asking the engine."""
        if self._ended.is_set():
            return HostState.ENDED
        return HostState.LOST if self._lost else HostState.RUNNING

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the container's end; by then its log is written. An engine that is gone ends nothing."""
        return self._code if self._ended.wait(timeout_seconds) else None

    def ending(self) -> Ending:
        """Return what the engine said of the end."""
        return self._ending

    @property
    def warning(self) -> str:
        """Why the log is not complete; empty where it is."""
        return self._log.warning

    def address(self) -> tuple[str, int]:
        """Return the container's own address where this machine is on its network, else a port published here."""
        try:
            about = quick_client().inspect_container(self._id)
        except docker.errors.NotFound as error:
            raise RuntimeUnavailableError("the container is gone.", "Somebody removed it.") from error
        except BROKEN as error:
            raise silent(error) from error
        networking, port = about["NetworkSettings"], self._container.port
        for published in (networking.get("Ports") or {}).get(f"{port}/tcp") or ():
            return PUBLISHED_AT, int(published["HostPort"])
        for network in (networking.get("Networks") or {}).values():
            if network.get("IPAddress"):
                return str(network["IPAddress"]), port
        raise RuntimeUnavailableError("the container has no address.", "It has ended, or has no network.")

    def process_id(self) -> int:
        """Return the container's first process, where the engine and this program count processes alike."""
        try:
            number = int(quick_client().inspect_container(self._id)["State"].get("Pid") or 0)
            groups = Path(f"/proc/{number}/cgroup").read_text(encoding="utf-8")
        except (RuntimeUnavailableError, *BROKEN):
            return 0
        return number if self._id in groups else 0

    def usage(self) -> HostUsage | None:
        """Return what the engine counts for the container, without the cache of files; None once it has ended."""
        try:
            numbers = quick_client().stats(self._id, stream=False, one_shot=True)
        except (RuntimeUnavailableError, docker.errors.APIError, *BROKEN):
            return None
        memory = numbers.get("memory_stats") or {}
        if not memory.get("usage"):
            return None
        details = memory.get("stats") or {}
        cache = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
        seconds = numbers["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        return HostUsage(seconds, max(0, int(memory["usage"]) - cache))

    def run_inside(self, command: Sequence[str]) -> int:
        """Run the command by the engine's exec, on a pseudo-terminal if this process has a terminal."""
        has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        with contextlib.closing(self._exec(command, has_terminal=has_terminal)) as inside, raw_terminal(has_terminal):
            if has_terminal:
                inside.resize()
                signal.signal(signal.SIGWINCH, lambda _number, _frame: inside.resize())
            threading.Thread(target=pump_input, args=(inside,), name="input", daemon=True).start()
            for stream, data in inside.frames:
                os.write(2 if stream == STDERR else 1, data)
            return inside.exit_code()

    def pipe_inside(self, command: Sequence[str]) -> Inside:
        """Start the command by the engine's exec, and return its streams."""
        return self._exec(command, has_terminal=False)

    def _exec(self, command: Sequence[str], *, has_terminal: bool) -> ExecutedCommand:
        client = patient_client()
        environment = self._program_environment(client)
        if has_terminal:
            environment["TERM"] = os.environ.get("TERM", "xterm")
        folder = f"{OPT_ML}/code" if any(mount.target == f"{OPT_ML}/code" for mount in self._container.mounts) else None
        with engine_errors("the engine does not let you into the container"):
            return ExecutedCommand(client, self._id, command, environment, folder, has_terminal)

    def _program_environment(self, client: docker.APIClient) -> dict[str, str]:
        """Return the environment of the job's program, as a command in the container sees it; none where it cannot."""
        with engine_errors("the engine does not let you into the container"):
            command = ExecutedCommand(client, self._id, ["/bin/sh", "-c", _PRINT_ENVIRONMENT], {}, None, False)
            with contextlib.closing(command):
                data = b"".join(piece for stream, piece in command.frames if stream == STDOUT)
        pairs = (entry.partition("=") for entry in os.fsdecode(data).split("\0"))
        return {name: value for name, separator, value in pairs if separator and name}

    def pause(self) -> None:
        """Freeze the container."""
        with self._asking("it could not be paused"):
            quick_client().pause(self._id)

    def resume(self) -> None:
        """Let it go on."""
        with self._asking("it could not be resumed"):
            quick_client().unpause(self._id)

    def slow(self, factor: float) -> None:
        """Give it that part of one CPU; 1 gives back all that it had."""
        period = 100_000
        with self._asking("its CPUs could not be limited"):
            quick_client().update_container(
                self._id, cpu_period=period, cpu_quota=max(round(period / factor), 1000) if factor > 1 else -1
            )

    def cut_off(self) -> None:
        """Disconnect it from the job's network."""
        with self._asking("it could not be cut off"):
            quick_client().disconnect_container_from_network(self._id, network_name(self._container), force=True)

    def rejoin(self) -> None:
        """Connect it again, at the address that the others know."""
        host, addresses = self._container.host, addresses_of(quick_client(), self._container)
        with self._asking("it could not be connected again"):
            quick_client().connect_container_to_network(
                self._id, network_name(self._container), ipv4_address=addresses[host], aliases=[host]
            )

    @contextlib.contextmanager
    def _asking(self, problem: str) -> Iterator[None]:
        """Ask something that changes nothing where it has come to pass already, or where the container has ended."""
        with engine_errors(f"{self._container.host}: {problem}"):
            try:
                yield
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409) and not _IS_SO_ALREADY.search(words_of(error)):
                    raise

    def terminate(self) -> None:
        """Send SIGTERM to the container's first process, which hands it on; an engine that is gone gets it later."""
        self._signal("SIGTERM")

    def kill(self) -> None:
        """Send SIGKILL: the kernel ends every process of the container; an engine that is gone gets it later."""
        self._signal("SIGKILL")

    def remove(self) -> None:
        """Remove the container, its log and its anonymous volumes.

        Raises:
            RuntimeUnavailableError: the engine does not do it.
        """
        remove_container(self._id)

    def _signal(self, name: str) -> None:
        try:
            try:
                quick_client().kill(self._id, signal=name)
            except docker.errors.APIError as error:
                if "paused" not in words_of(error):
                    raise
                quick_client().unpause(self._id)
                quick_client().kill(self._id, signal=name)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):  # gone, or not running any more
                raise RuntimeUnavailableError(f"{name} could not be sent: {words_of(error)}") from error
        except (RuntimeUnavailableError, *BROKEN):
            self._owed_signal = name

    def _watch(self, frames: Frames | None) -> None:
        """Read the output, then the exit code; whenever the engine goes away, wait until it is back."""
        try:
            while not self._ended.is_set():
                try:
                    self._watch_once(frames)
                except docker.errors.NotFound:
                    self._code = _KILLED
                    self._ending = _REMOVED
                    return
                except BROKEN:
                    frames = None
                    self._lost = True
                    time.sleep(_RETRY_SECONDS)
                else:
                    return
        finally:
            self._ended.set()

    def _watch_once(self, frames: Frames | None) -> None:
        if frames is None:
            quick_client().inspect_container(self._id)  # is it back?
            self._lost = False
            if owed := self._owed_signal:
                self._signal(owed)
                self._owed_signal = "" if self._owed_signal == owed else self._owed_signal
            frames = self._output_so_far()
            self._log.begin_again()
        self._log.copy(frames)
        self._code = int(self._client.wait(self._id, timeout=None)["StatusCode"])
        if self._log.incomplete:  # the disk was full for a while: the engine still has what is missing
            self._log.begin_again()
            self._log.copy(self._output_so_far())
            if not self._log.incomplete:
                self._log.warning = ""
        self._ending = self._asked_ending()

    def _asked_ending(self) -> Ending:
        about = self._client.inspect_container(self._id)
        return replace(self._cause(about), time=_seconds_since_1970(about["State"].get("FinishedAt") or ""))

    def _cause(self, about: Mapping[str, Any]) -> Ending:
        if about["State"].get("Status") in ("removing", "dead"):
            return _REMOVED
        if about["State"].get("OOMKilled") and self._code == _KILLED:
            limit = (about.get("HostConfig") or {}).get("Memory") or 0
            detail = f"the container's memory limit is {limit / 2**20:,.0f} MiB" if limit else "this machine ran out"
            return Ending(EndCause.OUT_OF_MEMORY, detail)
        if self._container.bundled and (cause := _stop_reason(Path(self._container.tree_path))):
            return Ending(cause)
        if self._code == _NOT_FOUND and (reason := _NO_PROGRAM.search(self._log.end())):
            return Ending(EndCause.NO_PROGRAM, reason.group(1).strip())
        return Ending()

    def _output_so_far(self) -> Frames:
        """Read all that the container has printed, and follow it, from the engine's own copy."""
        url = f"{self._client.base_url}/v{self._client.api_version}/containers/{self._id}/logs"
        options = {"stdout": "1", "stderr": "1", "follow": "1", "tail": "all"}
        answer = self._client.get(url, params=options, stream=True, timeout=(ANSWER_SECONDS, None))
        if answer.status_code == 404:
            raise docker.errors.NotFound(f"no container {self._id}", answer)
        answer.raise_for_status()
        return frames_of(answer.iter_content(chunk_size=None))


def _seconds_since_1970(text: str) -> float:
    """Return a moment as the engine writes it, which is in nanoseconds; 0 for what is none."""
    moment = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?", text)
    return datetime.fromisoformat(f"{moment[0]}+00:00").timestamp() if moment else 0.0


def _stop_reason(tree: Path) -> EndCause | None:
    """Return why the toolkit in the container ended the job, if it did; never through a link of the job's."""
    try:
        descriptor = os.open(tree / _REASON_PATH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(64).decode("utf-8", "replace") if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    return EndCause.MAX_RUNTIME if text == EndCause.MAX_RUNTIME.value else None


def remove_container(container_id: str) -> None:
    """Remove a container, its log and its anonymous volumes.

    Raises:
        RuntimeUnavailableError: the engine does not do it.
    """
    by_hand = f"Do it by hand: docker rm -f {container_id[:12]}"
    with engine_errors(f"the container {container_id[:12]} could not be removed", by_hand):
        try:
            patient_client().remove_container(container_id, v=True, force=True)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):  # gone, or being removed by somebody else
                raise
