"""Jobs as containers of a Docker engine, over its API; the only module that knows docker-py.

A container is found again by its labels. Its output is read by a connection that is opened before it starts, because
one opened later loses lines; the engine keeps a whole copy for the process that takes the job up later.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import re
import resource
import signal
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.types
import docker.utils
import requests

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.jobs.faults import CUT
from launcher.jobs.spec import OPT_ML, ContainerSpec
from launcher.runtimes import machine
from launcher.runtimes.base import EndCause, Ending, Execution, HostState, Inside, Remains, Runtime, open_log
from launcher.runtimes.image import build_image, extend_image, extended_tag, image_tag
from launcher.runtimes.images import is_of_aws, line_to_add
from launcher.runtimes.probe import engine_address
from launcher.runtimes.usage import HostUsage
from launcher.settings import build_settings, pip_settings, stop_grace_seconds
from launcher.trees import NoFolderError, Skipped, Tree

# An engine that does not answer a question in this time counts as hung. Work gets longer: under load it is slow.
_ANSWER_SECONDS = 10
_WORK_SECONDS = 120
_RETRY_SECONDS = 1.0
_SIOCGIFADDR = 0x8915
# Capabilities that an engine grants and no algorithm needs: raw packets, device files, programs with own rights.
# Official images run as root, change owners and users, and start an sshd for MPI, which needs the rest.
_DROPPED_CAPABILITIES = ("NET_RAW", "MKNOD", "SETFCAP")
_PIDS_LIMIT = 32768  # more than any training needs, and less than a machine has
_BROKEN = (requests.exceptions.RequestException, docker.errors.APIError, OSError)
_NO_ENGINE_HINT = 'Start it (launcher doctor says how), or run as a local process: Estimator(..., runtime="process").'
_STDOUT, _STDERR = 1, 2
_FRAME_HEADER = struct.Struct(">BxxxL")
# The words of an engine's first process (Docker's tini, podman's catatonit) when it cannot start the image's.
_NO_PROGRAM = re.compile(r"(?:\[FATAL\s+tini \(\d+\)\] exec .* failed|failed to exec pid1): (.+)")
_MISSING_PROGRAM = re.compile(r"exec: .* (?:executable file not found|no such file or directory)")
_IS_SO_ALREADY = re.compile(r"already paused|not paused|is not connected|already exists in network|not running")
_REASON_PATH = "output/.stop-reason"
# The first process of a container starts the image's, which may be the toolkit; that starts the script.
_PRINT_ENVIRONMENT = """
main=$(cat /proc/1/task/1/children) && main=${main%% *} && script=$(cat /proc/$main/task/$main/children)
script=${script%% *}
cat /proc/${script:-$main}/environ
"""
_JOB_LABELS = ("launcher.job", "launcher.home")
_LENT = "/run/launcher"
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_PUBLISHED_AT = "127.0.0.1"
_KILLED, _NOT_FOUND = 128 + signal.SIGKILL, 127

_REMOVED = Ending(EndCause.REMOVED, "its container was removed, not by the launcher (docker rm)")

Frames = Iterable[tuple[int, bytes]]
"""Output as it came: which stream (1 stdout, 2 stderr), and a piece of it."""


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
        self._log = _LogCopy(container)
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
            about = _client().inspect_container(self._id)
        except docker.errors.NotFound as error:
            raise RuntimeUnavailableError("the container is gone.", "Somebody removed it.") from error
        except _BROKEN as error:
            raise _silent(error) from error
        networking, port = about["NetworkSettings"], self._container.port
        for published in (networking.get("Ports") or {}).get(f"{port}/tcp") or ():
            return _PUBLISHED_AT, int(published["HostPort"])
        for network in (networking.get("Networks") or {}).values():
            if network.get("IPAddress"):
                return str(network["IPAddress"]), port
        raise RuntimeUnavailableError("the container has no address.", "It has ended, or has no network.")

    def process_id(self) -> int:
        """Return the container's first process, where the engine and this program count processes alike."""
        try:
            number = int(_client().inspect_container(self._id)["State"].get("Pid") or 0)
            groups = Path(f"/proc/{number}/cgroup").read_text(encoding="utf-8")
        except (RuntimeUnavailableError, *_BROKEN):
            return 0
        return number if self._id in groups else 0

    def usage(self) -> HostUsage | None:
        """Return what the engine counts for the container, without the cache of files; None once it has ended."""
        try:
            numbers = _client().stats(self._id, stream=False, one_shot=True)
        except (RuntimeUnavailableError, docker.errors.APIError, *_BROKEN):
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
        with contextlib.closing(self._exec(command, has_terminal=has_terminal)) as inside, _raw_terminal(has_terminal):
            if has_terminal:
                inside.resize()
                signal.signal(signal.SIGWINCH, lambda _number, _frame: inside.resize())
            threading.Thread(target=_pump_input, args=(inside,), name="input", daemon=True).start()
            for stream, data in inside.frames:
                os.write(2 if stream == _STDERR else 1, data)
            return inside.exit_code()

    def pipe_inside(self, command: Sequence[str]) -> Inside:
        """Start the command by the engine's exec, and return its streams."""
        return self._exec(command, has_terminal=False)

    def _exec(self, command: Sequence[str], *, has_terminal: bool) -> _ExecutedCommand:
        client = _worker()
        environment = self._program_environment(client)
        if has_terminal:
            environment["TERM"] = os.environ.get("TERM", "xterm")
        folder = f"{OPT_ML}/code" if any(mount.target == f"{OPT_ML}/code" for mount in self._container.mounts) else None
        with _engine_errors("the engine does not let you into the container"):
            return _ExecutedCommand(client, self._id, command, environment, folder, has_terminal)

    def _program_environment(self, client: docker.APIClient) -> dict[str, str]:
        """Return the environment of the job's program, as a command in the container sees it; none where it cannot."""
        with _engine_errors("the engine does not let you into the container"):
            command = _ExecutedCommand(client, self._id, ["/bin/sh", "-c", _PRINT_ENVIRONMENT], {}, None, False)
            with contextlib.closing(command):
                data = b"".join(piece for stream, piece in command.frames if stream == _STDOUT)
        pairs = (entry.partition("=") for entry in os.fsdecode(data).split("\0"))
        return {name: value for name, separator, value in pairs if separator and name}

    def pause(self) -> None:
        """Freeze the container."""
        with self._asking("it could not be paused"):
            _client().pause(self._id)

    def resume(self) -> None:
        """Let it go on."""
        with self._asking("it could not be resumed"):
            _client().unpause(self._id)

    def slow(self, factor: float) -> None:
        """Give it that part of one CPU; 1 gives back all that it had."""
        period = 100_000
        with self._asking("its CPUs could not be limited"):
            _client().update_container(
                self._id, cpu_period=period, cpu_quota=max(round(period / factor), 1000) if factor > 1 else -1
            )

    def cut_off(self) -> None:
        """Disconnect it from the job's network."""
        with self._asking("it could not be cut off"):
            _client().disconnect_container_from_network(self._id, _network_name(self._container), force=True)

    def rejoin(self) -> None:
        """Connect it again, at the address that the others know."""
        host, addresses = self._container.host, _addresses(_client(), self._container)
        with self._asking("it could not be connected again"):
            _client().connect_container_to_network(
                self._id, _network_name(self._container), ipv4_address=addresses[host], aliases=[host]
            )

    @contextlib.contextmanager
    def _asking(self, problem: str) -> Iterator[None]:
        """Ask something that changes nothing where it has come to pass already, or where the container has ended."""
        with _engine_errors(f"{self._container.host}: {problem}"):
            try:
                yield
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409) and not _IS_SO_ALREADY.search(_text(error)):
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
        _remove_container(self._id)

    def _signal(self, name: str) -> None:
        try:
            try:
                _client().kill(self._id, signal=name)
            except docker.errors.APIError as error:
                if "paused" not in _text(error):
                    raise
                _client().unpause(self._id)
                _client().kill(self._id, signal=name)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):  # gone, or not running any more
                raise RuntimeUnavailableError(f"{name} could not be sent: {_text(error)}") from error
        except (RuntimeUnavailableError, *_BROKEN):
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
                except _BROKEN:
                    frames = None
                    self._lost = True
                    time.sleep(_RETRY_SECONDS)
                else:
                    return
        finally:
            self._ended.set()

    def _watch_once(self, frames: Frames | None) -> None:
        if frames is None:
            _client().inspect_container(self._id)  # is it back?
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
        answer = self._client.get(url, params=options, stream=True, timeout=(_ANSWER_SECONDS, None))
        if answer.status_code == 404:
            raise docker.errors.NotFound(f"no container {self._id}", answer)
        answer.raise_for_status()
        return _frames(answer.iter_content(chunk_size=None))


class _ExecutedCommand:
    """A command that the engine's exec runs in a container.

    Attributes:
        frames: what it prints; on a terminal all of it is one stream.
    """

    def __init__(
        self,
        client: docker.APIClient,
        container_id: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str | None,
        has_terminal: bool,
    ) -> None:
        self._client = client
        self._id: str = client.exec_create(
            container_id, [*command], stdin=True, tty=has_terminal, environment=dict(environment), workdir=folder
        )["Id"]
        url = f"{client.base_url}/v{client.api_version}/exec/{self._id}/start"
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        self._answer = client.post(
            url,
            json={"Tty": has_terminal, "Detach": False},
            headers=upgrade,
            stream=True,
            timeout=(_ANSWER_SECONDS, None),
        )
        if self._answer.status_code >= 400:
            raise docker.errors.APIError(self._answer.text, self._answer)
        # The reader, and not the socket below it: it may have read the first output together with the headers.
        response: Any = self._answer.raw._fp
        self._reader = response.fp
        self._socket: socket.socket = self._reader.raw._sock
        chunks = iter(lambda: self._reader.read1(1 << 16), b"")
        self.frames: Frames = ((_STDOUT, chunk) for chunk in chunks) if has_terminal else _frames(chunks)

    def read(self) -> bytes:
        return next((data for stream, data in self.frames if stream == _STDOUT), b"")

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close_input(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._answer.close()

    def resize(self) -> None:
        """Tell the pseudo-terminal the size of this process's own."""
        columns, lines = os.get_terminal_size()
        with contextlib.suppress(docker.errors.APIError):  # it has ended
            self._client.exec_resize(self._id, height=lines, width=columns)

    def exit_code(self) -> int:
        return int(self._client.exec_inspect(self._id)["ExitCode"] or 0)


def _pump_input(inside: Inside) -> None:
    """Hand standard input to a command until it ends."""
    with contextlib.suppress(OSError):  # the command has ended
        while data := os.read(0, 1 << 16):
            inside.write(data)
        inside.close_input()


@contextlib.contextmanager
def _raw_terminal(is_terminal: bool) -> Iterator[None]:
    """Hand keys on as they are pressed, Ctrl-C among them, until the end of the ``with`` block."""
    if not is_terminal:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed before is for the command as well
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _seconds_since_1970(text: str) -> float:
    """Return a moment as the engine writes it, which is in nanoseconds; 0 for what is none."""
    moment = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?", text)
    return datetime.fromisoformat(f"{moment[0]}+00:00").timestamp() if moment else 0.0


class _LogCopy:
    """A host's log file, which gets each byte of the container's output once, however often the output is read."""

    def __init__(self, container: ContainerSpec) -> None:
        self._container = container
        self._path = Path(container.log_path)
        self._written = {_STDOUT: 0, _STDERR: 0}
        self._skip = dict(self._written)
        self._begun = False
        self.incomplete = False
        self.warning = ""

    def begin_again(self) -> None:
        """Expect the output from its beginning, and skip what is written already.

        Each stream is counted by itself: the engine's copy may have the two in another order.
        """
        self._skip = dict(self._written)

    def copy(self, frames: Frames) -> None:
        try:
            log: IO[bytes] = self._path.open("ab", buffering=0) if self._begun else open_log(self._container)
        except OSError as error:
            self._drop(error)
            log = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115 - closed below, with either file
        else:
            self._begun, self.incomplete = True, False
        with log:
            for stream, data in frames:
                passed = min(self._skip[stream], len(data))
                self._skip[stream] -= passed
                if (rest := data[passed:]) and not self.incomplete:
                    self._append(log, stream, rest)

    def _append(self, log: IO[bytes], stream: int, data: bytes) -> None:
        try:
            while data:
                count = log.write(data)
                self._written[stream] += count
                data = data[count:]
        except OSError as error:  # a full disk; the job goes on, and the container must not block on its output
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.incomplete = True
        self.warning = f"the rest of the log was dropped: {self._path}: {error.strerror}"

    def end(self) -> str:
        """Return the last of what was written."""
        if not self._path.exists():
            return ""
        with self._path.open("rb") as log:
            log.seek(max(self._container.log_offset, self._path.stat().st_size - 4096))
            return log.read().decode("utf-8", "replace")


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Take the engine's multiplexed output apart: a header of 8 bytes (stream, length), then the bytes."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _FRAME_HEADER.size:
            stream, length = _FRAME_HEADER.unpack_from(buffer)
            end = _FRAME_HEADER.size + length
            if len(buffer) < end:
                break
            yield (_STDERR if stream == _STDERR else _STDOUT), bytes(buffer[_FRAME_HEADER.size : end])
            del buffer[:end]


def _pairs(stream: Iterable[tuple[bytes | None, bytes | None]]) -> Iterator[tuple[int, bytes]]:
    for stdout, stderr in stream:
        if stdout:
            yield _STDOUT, stdout
        if stderr:
            yield _STDERR, stderr


def _stop_reason(tree: Path) -> EndCause | None:
    """Return why the toolkit in the container ended the job, if it did; never through a link of the job's."""
    try:
        descriptor = os.open(tree / _REASON_PATH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(64).decode("utf-8", "replace") if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    return EndCause.MAX_RUNTIME if text == EndCause.MAX_RUNTIME.value else None


def _remove_container(container_id: str) -> None:
    by_hand = f"Do it by hand: docker rm -f {container_id[:12]}"
    with _engine_errors(f"the container {container_id[:12]} could not be removed", by_hand):
        try:
            _worker().remove_container(container_id, v=True, force=True)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):  # gone, or being removed by somebody else
                raise


@contextlib.contextmanager
def _engine_errors(problem: str, hint: str = "") -> Iterator[None]:
    """Raise what the engine refuses as ``problem``, with its own words; and say so when it does not answer."""
    try:
        yield
    except docker.errors.APIError as error:
        raise RuntimeUnavailableError(f"{problem}: {_text(error)}", hint) from error
    except _BROKEN as error:
        raise _silent(error) from error


def _silent(error: Exception) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
        f"the engine at {engine_address()} does not answer ({type(error).__name__}).", _NO_ENGINE_HINT
    )


class DockerRuntime(Runtime):
    """Runs the bundled image, or any that follows the contract."""

    name = "docker"
    no_entry = ""
    no_warm_pools = (
        "a container that is kept has what its job left outside the job's folders, in the image's own, in /tmp and in "
        "shared memory, and a new job's folders cannot be mounted into it; a fresh one takes a fraction of a second"
    )

    @property
    def host_address(self) -> str:
        """The address of this machine on the network that containers are put in by default."""
        for name in ("bridge", "podman"):
            try:
                network = _client().inspect_network(name)
            except docker.errors.NotFound:
                continue
            except _BROKEN as error:
                raise RuntimeUnavailableError(f"the engine at {engine_address()} does not answer.") from error
            if address := bridge_address(network):
                return address
        raise RuntimeUnavailableError(f"the engine at {engine_address()} has no gateway to this machine.")

    def check(self, container: ContainerSpec) -> None:
        """Refuse when no engine answers, or when a foreign image is neither here nor in a registry."""
        client = _client()
        try:
            client.ping()
            if container.bundled:
                return
            client.inspect_image(container.image)
        except docker.errors.ImageNotFound:
            if is_of_aws(container.image):
                raise ImageError(
                    f"image '{container.image}' is in a registry of AWS and not on this machine, and nothing is "
                    "pulled from AWS.",
                    f"Say what runs in its place, for example: {line_to_add(container.image)}",
                ) from None
            self._pull(_worker(), container.image)
        except docker.errors.APIError as error:
            raise ImageError(f"image '{container.image}': {_text(error)}", "Check how it is written.") from error
        except _BROKEN as error:
            raise _silent(error) from error

    def refused_faults(self, container: ContainerSpec) -> dict[str, str]:
        """Return why a host cannot be cut off."""
        return {} if len(container.hosts) > 1 else {CUT: "a lone host has no others"}

    def describe_image(self, container: ContainerSpec) -> str:
        """Return the image's name."""
        if not container.bundled:
            return container.image
        return extended_tag(self._own_image, container.packages) if container.packages else self._own_image

    @cached_property
    def _own_image(self) -> str:
        return image_tag()

    def prepare(self, container: ContainerSpec) -> None:
        """Build the bundled image, if this engine has none of this content."""
        if not container.bundled:
            return
        log_path = Path(container.log_path).with_name("image-build.log")
        self._have(self._own_image, lambda tag: build_image(tag, log_path))
        if container.packages:
            base, packages = self._own_image, container.packages
            self._have(self.describe_image(container), lambda tag: extend_image(tag, base, packages, log_path))

    def describe_environment(self, container: ContainerSpec) -> dict[str, Any]:
        """Return the image's name and id."""
        name = self.describe_image(container)
        with contextlib.suppress(docker.errors.ImageNotFound):  # the start says so
            return {"Image": name, "ImageId": _client().inspect_image(name)["Id"]}
        return {"Image": name}

    def _have(self, tag: str, build: Callable[[str], None]) -> None:
        try:
            _client().inspect_image(tag)
        except docker.errors.ImageNotFound:
            print(
                f"Building the image {tag}; this happens once and can take some minutes.", file=sys.stderr, flush=True
            )
            build(tag)

    def open(self, containers: Sequence[ContainerSpec]) -> None:
        """Make a network for a job of several hosts, and for one that serves without a way out."""
        if not _needs_network(containers[0]):
            return
        client, name = _worker(), _network_name(containers[0])
        problem = f"the hosts of job '{containers[0].job_name}' could not get a network"
        with _engine_errors(problem, "List networks that nobody uses any more: docker network ls"):
            if _network_of(client, containers[0]) is not None:
                return
            # Fixed addresses need a subnet that was asked for: let the engine pick a free one, then ask for that.
            probe = client.create_network(f"{name}-probe", driver="bridge", check_duplicate=True)["Id"]
            try:
                subnet = client.inspect_network(probe)["IPAM"]["Config"][0]["Subnet"]
            finally:
                client.remove_network(probe)
            client.create_network(
                name,
                driver="bridge",
                check_duplicate=True,
                # Without a way out the hosts still reach each other, as with SageMaker.
                internal=containers[0].network_isolated,
                ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)]),
                labels={label: containers[0].labels[label] for label in _JOB_LABELS},
            )

    def close(self, containers: Sequence[ContainerSpec]) -> None:
        """Remove the job's network."""
        if not _needs_network(containers[0]):
            return
        name = _network_name(containers[0])
        problem = f"the network of job '{containers[0].job_name}' could not be removed"
        by_hand = f"Do it by hand: docker network rm {name}"
        with _engine_errors(problem, by_hand), contextlib.suppress(docker.errors.NotFound):
            _worker().remove_network(name)

    def start(self, container: ContainerSpec) -> DockerExecution:
        """Create the container, connect to its output, start it."""
        client = _worker()
        name = f"{container.job_name}-{container.host}-{_home_hash(container)}"
        lent = _lent_for_installing(container)
        try:
            addresses = _addresses(client, container)
            created = client.create_container(
                self.describe_image(container),
                command=list(container.arguments),
                entrypoint=list(container.entry_point) or None,
                environment={
                    **_inherited(container),
                    **lent.variables,
                    **_own_deadline(container),
                    **container.environment,
                },
                hostname=container.host,
                labels=dict(container.labels),
                name=name,
                ports=[container.port] if container.port else None,
                user=_own_user() if container.bundled else None,
                host_config=_host_config(client, container, addresses, lent.mounts),
                networking_config=_networking(client, container, addresses),
            )
        except docker.errors.APIError as error:
            raise _start_error(container, error) from error
        except _BROKEN as error:
            raise _silent(error) from error
        execution_id = created["Id"]
        try:
            stream = client.attach(execution_id, stdout=True, stderr=True, stream=True, demux=True)
            execution = DockerExecution(client, execution_id, container, _pairs(stream))
            client.start(execution_id)
        except BaseException as error:
            with contextlib.suppress(*_BROKEN):
                client.remove_container(execution_id, v=True, force=True)
            if isinstance(error, docker.errors.APIError):
                raise _start_error(container, error) from error
            if isinstance(error, _BROKEN):
                raise _silent(error) from error
            raise
        execution.watch()
        return execution

    def find(self, container: ContainerSpec) -> DockerExecution | None:
        """Return the job's container by its labels; one that never started is removed."""
        for summary in self._summaries(container):
            execution = DockerExecution(_worker(), summary["Id"], container)
            if summary["State"] == "created":
                execution.remove()
                continue
            execution.watch()
            return execution
        return None

    def look(self, container: ContainerSpec) -> DockerExecution | None:
        """Return the job's running container by its labels; nothing of it is read or changed."""
        for summary in self._summaries(container):
            if summary["State"] == "running":
                return DockerExecution(_worker(), summary["Id"], container)
        return None

    def _summaries(self, container: ContainerSpec) -> list[dict[str, Any]]:
        labels = [f"{name}={value}" for name, value in container.labels.items()]
        with _engine_errors(f"the containers of job '{container.job_name}' could not be listed"):
            summaries: list[dict[str, Any]] = _client().containers(all=True, filters={"label": labels})
        return summaries

    def reclaim(self, container: ContainerSpec) -> None:
        """Make the caller the owner of what the image's own user wrote, also of what the caller could not touch."""
        tree = Path(container.tree_path)
        uid, gid = os.getuid(), os.getgid()
        try:
            opened = Tree.open(tree)
        except NoFolderError as error:
            if not isinstance(error.cause, PermissionError):
                return
        else:
            with opened:
                if not _take_over(opened, uid, gid, change=uid == 0) or uid == 0:
                    return
        _change_owner(_worker(), self.describe_image(container), tree, "0:0" if _rootless() else f"{uid}:{gid}")

    def leftovers(self, home: str) -> list[Remains]:
        """Return the containers and networks that carry the labels of a home."""
        filters = {"label": [f"launcher.home={home}"]}
        with _engine_errors("the containers of jobs could not be listed"):
            containers = _client().containers(all=True, filters=filters)
            networks = _client().networks(filters=filters)
        remains = []
        for entry in containers:
            remove: Callable[[], None] = partial(_remove_container, entry["Id"])
            text = f"container {entry['Id'][:12]} ({entry['State']})"
            remains.append(Remains(entry["Labels"].get("launcher.job", ""), text, remove))
        for entry in networks:
            remove = partial(_worker().remove_network, entry["Id"])
            remains.append(Remains(entry["Labels"].get("launcher.job", ""), f"network {entry['Name']}", remove))
        return remains

    def _pull(self, client: docker.APIClient, image: str) -> None:
        print(f"Pulling the image {image}.", file=sys.stderr, flush=True)
        try:
            client.pull(image)
            client.inspect_image(image)
        except docker.errors.APIError as error:
            raise ImageError(
                f"image '{image}' is not on this machine and cannot be pulled: {_text(error)}",
                "Check the name; list what is here with: docker images",
            ) from error


def saved_image(name: str, folder: Path) -> tuple[str, Path] | None:
    """Write an image of this machine's engine to an archive, unless it is there; other engines can read it.

    Args:
        name: of the image.
        folder: for the archive, which is named by the image's id.
    Returns:
        The id and the archive; None where no engine answers, or it has no such image.
    Raises:
        ImageError: it cannot be written.
    """
    try:
        image_id = str(_client().inspect_image(name)["Id"])
    except (RuntimeUnavailableError, *_BROKEN):
        return None
    path = folder / f"{image_id.removeprefix('sha256:')}.tar"
    if path.exists():
        return image_id, path
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".image.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in _worker().get_image(image_id):
                file.write(chunk)
        Path(part).replace(path)
    except _BROKEN as error:
        Path(part).unlink(missing_ok=True)
        raise ImageError(f"the image {name} cannot be written to {path}: {_text(error)}", "Make room there.") from error
    return image_id, path


def describe_engine() -> tuple[str, str, set[str]]:
    """Return the engine's version, its API's version, and the names of the images it has.

    Raises:
        RuntimeUnavailableError: no engine answers.
    """
    client = _client()
    version = client.version()
    names = {name for image in client.images() for name in image["RepoTags"] or ()}
    return version["Version"], version["ApiVersion"], names


def bridge_address(network: Mapping[str, Any]) -> str:
    """Return this machine's address on a bridge network; empty where the network names none.

    An engine of 20.10 that has just made its own bridge names no gateway before it is restarted. The interface has
    the address then; where it cannot be seen, the engine has taken the first address of the subnet.

    Args:
        network: as the engine's inspection returns it.
    """
    configs = [config for config in (network.get("IPAM") or {}).get("Config") or () if config]
    for config in configs:
        if config.get("Gateway"):
            return str(config["Gateway"])
    interface = (network.get("Options") or {}).get("com.docker.network.bridge.name", "")
    subnets = [ipaddress.ip_network(config["Subnet"]) for config in configs if config.get("Subnet")]
    subnets = [subnet for subnet in subnets if subnet.version == 4]
    own_address = _interface_address(interface) if interface else ""
    if own_address and (not subnets or any(ipaddress.ip_address(own_address) in subnet for subnet in subnets)):
        return own_address
    return str(next(subnets[0].hosts())) if subnets else ""


def _interface_address(name: str) -> str:
    """Return the IPv4 address of a network interface of this machine; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


@lru_cache(maxsize=2)
def _connected(_address: str, timeout_seconds: int = _ANSWER_SECONDS) -> docker.APIClient:
    version = "auto" if timeout_seconds == _ANSWER_SECONDS else _connected(_address).api_version
    return docker.APIClient(**docker.utils.kwargs_from_env(), version=version, timeout=timeout_seconds)


def _own_limits() -> list[docker.types.Ulimit] | None:
    """Return the caller's own limits for podman, which asks for more open files than every caller may have."""
    if not _is_podman(engine_address()):
        return None
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind) for name, kind in names.items()}
    return [docker.types.Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in limits.items()]


@lru_cache(maxsize=1)
def _is_podman(address: str) -> bool:
    components = _connected(address).version().get("Components") or ()
    return any("Podman" in component.get("Name", "") for component in components)


def _client() -> docker.APIClient:
    """Return a client for questions of the engine that the environment names, one for each address.

    Raises:
        RuntimeUnavailableError: none answers, or not in time.
    """
    try:
        return _connected(engine_address())
    except (docker.errors.DockerException, requests.exceptions.RequestException, ValueError) as error:
        reason = "no Docker engine answers"
        if "Permission denied" in str(error):
            raise RuntimeUnavailableError(
                f"you may not use the socket of the Docker engine, {engine_address()}.",
                "Join its group (sudo usermod -aG docker $USER) and log in again, or run as a local process: "
                'runtime="process", -r process.',
            ) from None  # five tracebacks of the client's inside say no more
        if isinstance(error, ValueError):
            reason = f"DOCKER_HOST names no address ({error}): nothing answers"
        raise RuntimeUnavailableError(f"{reason} at {engine_address()}.", _NO_ENGINE_HINT) from None


def _worker() -> docker.APIClient:
    """Return a client that waits longer for an answer, for work that may take its time.

    Raises:
        RuntimeUnavailableError: no engine answers.
    """
    _client()
    return _connected(engine_address(), _WORK_SECONDS)


def _network_name(container: ContainerSpec) -> str:
    return f"launcher-{container.job_name}-{_home_hash(container)}"


def _network_of(client: docker.APIClient, container: ContainerSpec) -> dict[str, Any] | None:
    """Return the job's own network as the engine inspects it; None where there is none."""
    try:
        network: dict[str, Any] = client.inspect_network(_network_name(container))
    except docker.errors.NotFound:
        return None
    return network


def _addresses(client: docker.APIClient, container: ContainerSpec) -> dict[str, str]:
    """Return the address of each host of a job with a network of its own, fixed before any of them runs."""
    if not _needs_network(container):
        return {}
    network = _network_of(client, container)
    if network is None:
        raise RuntimeUnavailableError(
            f"the network of job '{container.job_name}' is gone: somebody removed it.", "Start the job again."
        )
    subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
    # The first address of a subnet is the gateway's.
    return {host: str(subnet[number + 2]) for number, host in enumerate(container.hosts or (container.host,))}


def _needs_network(container: ContainerSpec) -> bool:
    """Return whether a job gets a network of its own: hosts that reach each other, or a server without a way out."""
    return len(container.hosts) > 1 or bool(container.port and container.network_isolated)


def _networking(client: docker.APIClient, container: ContainerSpec, addresses: Mapping[str, str]) -> Any:
    if not addresses:
        return None
    own = client.create_endpoint_config(ipv4_address=addresses[container.host], aliases=[container.host])
    return {"EndpointsConfig": {_network_name(container): own}}


@dataclass(frozen=True)
class _Lent:
    """What the machine lends a job for installing its own requirements; nothing of it is recorded."""

    variables: dict[str, str]
    mounts: list[docker.types.Mount]


def _lent_for_installing(container: ContainerSpec) -> _Lent:
    """Return the caller's certificates and package indexes as a container can use them: files are mounted."""
    variables: dict[str, str] = {}
    mounts: list[docker.types.Mount] = []

    def lend(path: Path, inside: str) -> str:
        if all(mount["Target"] != inside for mount in mounts):
            mounts.append(docker.types.Mount(inside, str(path.resolve()), type="bind", read_only=True))
        return inside

    given = {name: os.environ[name] for name in container.inherited if os.environ.get(name)}
    wanted = {name: value for name, value in pip_settings().items() if name in container.inherited} | given
    for name in _CERTIFICATE_VARIABLES:
        if name in wanted and Path(wanted[name]).is_file():
            variables[name] = lend(Path(wanted[name]), f"{_LENT}/{name.lower()}.pem")
    if "PIP_CERT" in container.inherited and not variables and (bundle := build_settings().ca_bundle):
        variables["PIP_CERT"] = lend(bundle, f"{_LENT}/pip_cert.pem")
    if "PIP_FIND_LINKS" in container.inherited and "PIP_FIND_LINKS" not in wanted:
        wanted["PIP_FIND_LINKS"] = " ".join(str(folder) for folder in build_settings().wheel_folders)
    for name, kind in (
        ("PIP_FIND_LINKS", "wheels"),
        ("PIP_INDEX_URL", "index"),
        ("PIP_EXTRA_INDEX_URL", "extra-index"),
    ):
        places = []
        for number, place in enumerate(wanted.get(name, "").split()):
            path = Path(place.removeprefix("file://"))
            is_folder = (place.startswith(("file:///", "/")) or name == "PIP_FIND_LINKS") and path.is_dir()
            inside = lend(path, f"{_LENT}/{kind}-{number}") if is_folder else place
            places.append(f"file://{inside}" if is_folder and name != "PIP_FIND_LINKS" else inside)
        if places:
            variables[name] = " ".join(places)
    if "PIP_TRUSTED_HOST" in wanted:
        variables["PIP_TRUSTED_HOST"] = wanted["PIP_TRUSTED_HOST"]
    return _Lent(variables, mounts)


def _sees_containers(client: docker.APIClient) -> bool:
    """Return whether this machine is on the engine's networks, so that it reaches containers at their own addresses.

    It is not where the engine runs in a machine of its own (Docker Desktop), elsewhere, or without root's rights.
    """
    if sys.platform != "linux":
        return False
    try:
        network = client.inspect_network("bridge")
    except (docker.errors.NotFound, *_BROKEN):
        return False
    interface = (network.get("Options") or {}).get("com.docker.network.bridge.name", "")
    return bool(interface) and _interface_address(interface) == bridge_address(network) != ""


def _own_deadline(container: ContainerSpec) -> dict[str, str]:
    """Return what the toolkit needs to end the job in time by itself; an image of somebody else's has no toolkit."""
    if not container.bundled or container.entry_point or not container.max_run_seconds:
        return {}
    return {
        "LAUNCHER_MAX_RUN_SECONDS": str(container.max_run_seconds),
        "LAUNCHER_STOP_GRACE_SECONDS": str(stop_grace_seconds()),
    }


def _host_config(
    client: docker.APIClient, container: ContainerSpec, addresses: Mapping[str, str], lent: list[docker.types.Mount]
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "init": True,
        "mounts": [
            *(
                docker.types.Mount(mount.target, mount.source, type="bind", read_only=mount.read_only)
                for mount in container.mounts
            ),
            *lent,
        ],
        # Not the engine's default: another process may have to read the log again, whole and in order.
        "log_config": docker.types.LogConfig(type="json-file", config={}),
        "shm_size": container.limits.shm_bytes or (container.limits.memory_bytes or machine.memory_bytes()) // 2,
        "ulimits": [*(_own_limits() or ()), *map(_ulimit, container.limits.ulimits)] or None,
    }
    if container.limits.gpus:
        numbers = [str(number) for number in container.limits.gpus]
        options["device_requests"] = [docker.types.DeviceRequest(device_ids=numbers, capabilities=[["gpu"]])]
    if addresses:
        # Names in a file as well: the engine's own names know a host only while it runs.
        peers = {host: address for host, address in addresses.items() if host != container.host}
        options |= {"network_mode": _network_name(container), "extra_hosts": peers}
    elif container.network_isolated:
        options["network_mode"] = "none"
    if container.port and not _sees_containers(client):
        if container.network_isolated:
            raise RuntimeUnavailableError(
                "a container without a network can be reached only where this machine is on the engine's networks.",
                "Leave enable_network_isolation out.",
            )
        options["port_bindings"] = {container.port: (_PUBLISHED_AT, None)}
    options |= {"security_opt": ["no-new-privileges"], "cap_drop": list(_DROPPED_CAPABILITIES)}
    if container.bundled:
        options["cap_drop"] = ["ALL"]
    if not _rootless():  # a rootless engine can only set the limits that the machine hands to its users
        allowed = container.limits.memory_bytes
        options |= {
            "pids_limit": _PIDS_LIMIT,
            "mem_limit": min(allowed, _memory_for_jobs()) if allowed else _memory_for_jobs(),
        }
        if container.limits.cpus and (cpus := _chosen_cpus(client, container)):
            options["cpuset_cpus"] = cpus
    config: dict[str, Any] = client.create_host_config(**options)
    return config


def _inherited(container: ContainerSpec) -> dict[str, str]:
    names = [name for name in container.inherited if name not in _CERTIFICATE_VARIABLES]
    return {name: os.environ[name] for name in names if name in os.environ}


def _take_over(tree: Tree, uid: int, gid: int, *, change: bool) -> bool:
    """Return whether anything in the tree belongs to another user than ``uid``, or cannot be looked into.

    Args:
        change: make it belong to ``uid`` and ``gid``, which only root can.
    """
    closed = Skipped()
    foreign = False
    for entry in tree.walk(closed.add):
        if entry.status.st_uid != uid:
            foreign = True
            if not change:
                break
            os.chown(entry.name, uid, gid, dir_fd=entry.folder, follow_symlinks=False)
    return foreign or closed.count > 0


def _change_owner(client: docker.APIClient, image: str, path: Path, owner: str) -> None:
    """Run the host's own chown as the engine's root.

    The job's image is here, but may have no such program: the host's folders of programs are mounted over its own.
    """
    programs = [Path(folder) for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix") if Path(folder).exists()]
    mounts = [
        docker.types.Mount(str(folder), str(folder.resolve()), type="bind", read_only=True) for folder in programs
    ]
    script = 'chown -hR "$0" /opt/ml && chmod -R u+rwX /opt/ml'
    by_hand = f"Do it by hand: sudo chown -R {owner} {path}"
    try:
        helper = client.create_container(
            image,
            entrypoint=["/bin/sh", "-c", script, owner],
            environment={"PATH": "/usr/bin:/bin"},
            user="0:0",
            host_config=client.create_host_config(
                mounts=[*mounts, docker.types.Mount("/opt/ml", str(path), type="bind")],
                network_mode="none",
                ulimits=_own_limits(),
                userns_mode="host",
            ),
        )
    except docker.errors.APIError as error:
        raise RuntimeUnavailableError(
            f"what the job wrote to {path} could not be given back: {_text(error)}", by_hand
        ) from error
    try:
        client.start(helper["Id"])
        code = client.wait(helper["Id"])["StatusCode"]
        said = client.logs(helper["Id"]).decode(errors="replace").strip()
    except docker.errors.APIError as error:
        code, said = -1, _text(error)
    finally:
        client.remove_container(helper["Id"], v=True, force=True)
    if code != 0:
        raise RuntimeUnavailableError(f"what the job wrote to {path} could not be given back: {said}", by_hand)


def _start_error(container: ContainerSpec, error: docker.errors.APIError) -> Exception:
    text = _text(error)
    if _MISSING_PROGRAM.search(text):
        command = " ".join([*container.entry_point, *container.arguments])
        return ImageError(
            f"the image {container.image} has no '{command}' that could be started: {text}",
            "An algorithm image must be runnable as: docker run IMAGE train",
        )
    if container.limits.gpus and "device driver" in text and "gpu" in text:
        return RuntimeUnavailableError(
            f"the engine can lend no GPUs: {text}",
            "Install the NVIDIA Container Toolkit, or: export LAUNCHER_GPUS=none",
        )
    if "bind source path does not exist" in text:
        return RuntimeUnavailableError(
            f"the engine does not see this machine's folders: {text}", f"{engine_address()} must be on this machine."
        )
    return RuntimeUnavailableError(
        f"the container could not be started: {text}", "launcher doctor looks at the engine."
    )


def _own_user() -> str:
    """Return the user whose files are the caller's; a rootless engine calls the caller root."""
    return "0:0" if _rootless() else f"{os.getuid()}:{os.getgid()}"


def _rootless() -> bool:
    address = urlsplit(engine_address())
    if address.scheme != "unix" or os.getuid() == 0:
        return False
    try:
        return Path(address.path).stat().st_uid == os.getuid()
    except OSError:
        return False


def _ulimit(text: str) -> docker.types.Ulimit:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    return docker.types.Ulimit(name=name, soft=int(soft), hard=int(hard))


def _chosen_cpus(client: docker.APIClient, container: ContainerSpec) -> str:
    """Return the CPUs of a container, as the engine takes them; empty where it has no more of them than that."""
    count = int(client.info()["NCPU"])
    own = machine.cpu_ids()
    ids = own if len(own) <= count else list(range(count))
    if container.limits.cpus >= len(ids):
        return ""
    chosen = machine.chosen_cpus(ids, container.limits.cpus, f"{container.job_name}/{container.host}")
    return ",".join(map(str, chosen))


def _memory_for_jobs() -> int:
    """Return the memory limit of a container in bytes: a job that wants more is killed before other programs are."""
    memory = machine.memory_bytes()
    return memory - min(memory // 16, 1 << 30)


def _home_hash(container: ContainerSpec) -> str:
    """Return what tells apart the containers of two homes, and of two kinds of job of one name."""
    kind, _, name = container.labels["launcher.job"].rpartition("/")
    return _short_hash(container.labels["launcher.home"] + (f"/{kind}" if name and kind else ""))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _text(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip()
