"""Jobs as processes of this machine: no Docker, the caller's own Python, a private ``/opt/ml``.

A small supervisor in a session of its own runs the job and records how it ended, so that the launcher may go away.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.faults import CUT, DELAY, SLOW
from launcher.jobs.spec import OPT_ML, ContainerSpec, Mount
from launcher.runtimes import machine, networks
from launcher.runtimes.base import EndCause, Ending, Execution, HostState, Inside, Remains, Runtime, open_log
from launcher.runtimes.entering import CANNOT_ENTER
from launcher.runtimes.fork_server import read_at_start
from launcher.runtimes.usage import HostUsage, descendants, tree_usage
from launcher.runtimes.warm_pools import WARM_SERVER, Pools
from launcher.settings import (
    data_path,
    host_networks_wanted,
    namespaces_wanted,
    stop_grace_seconds,
    warm_pool_limit,
)

# What a job inherits from the caller's environment; a container would get none of it. Programs, certificates and
# devices are found by these; any other variable would make a job depend on who started it.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_FIND_LINKS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_SUPERVISOR = Path(__file__).with_name("start_supervisor.py")
_SUPERVISOR_NAMES = ("/start_supervisor.py", "/supervisor.py")  # the second of older launchers, whose jobs may run
_ENTERING = Path(__file__).with_name("entering.py")
_NETWORKS = Path(__file__).with_name("networks.py")
_OF_A_JOB = b"AWS_DEFAULT_REGION="  # every job has this variable, and no supervisor
_ENDING_SECONDS = 10.0


_LOOPBACK = "127.0.0.1"
_PROBING = threading.Lock()
_FORKED_SECONDS = 2.0  # after which a supervisor that was asked for has written down that it is there
_STUTTER_SECONDS = 0.1
_PORT_FILE = "port"  # in the state folder: the port that the process was told to serve at


class ProcessExecution(Execution):
    """A job process, by the folder that its supervisor keeps.

    Args:
        state_path: the folder.
        supervisor: its process, when this process started it, so that it can be reaped.
        warm: the supervisor's process id, the warm pool that it was started from, and the job that used that before.
        warning: about its start.
    """

    def __init__(
        self,
        state_path: Path,
        supervisor: subprocess.Popen[bytes] | None = None,
        *,
        warm: Mapping[str, Any] | None = None,
        warning: str = "",
    ) -> None:
        self._state_path = state_path
        self._warm = dict(warm or {})
        self._warning = warning
        self._supervisor = supervisor
        self._ended = threading.Event()
        self._factor = 1.0
        threading.Thread(target=self._watch, name="supervisor-watch", daemon=True).start()

    @property
    def reference(self) -> dict[str, Any]:
        """The supervisor's process id."""
        return {"runtime": "process", **self._warm, "pid": self._pid()}

    def state(self) -> HostState:
        """Return whether the supervisor still holds its lock."""
        return HostState.ENDED if self._ended.is_set() else HostState.RUNNING

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait until the supervisor lets go of its lock, then read what it recorded."""
        if not self._ended.wait(timeout_seconds):
            return None
        if self._supervisor is not None:
            self._supervisor.wait()
        ended = self._recorded_end()
        return 128 + signal.SIGKILL if ended is None else int(ended["exit_code"])

    @property
    def warning(self) -> str:
        """What the system did not let the supervisor enforce; empty until the host has ended."""
        ended = self._recorded_end()
        own = "" if ended is None else str(ended.get("warning", ""))
        return "; ".join(text for text in (self._warning, own) if text)

    def ending(self) -> Ending:
        """Return what the supervisor recorded."""
        ended = self._recorded_end()
        if ended is None:
            return Ending(EndCause.REMOVED, "the job's supervisor was killed, not by the launcher, and the job with it")
        return Ending(EndCause(ended.get("cause", "")), ended.get("detail", ""), float(ended.get("ended", 0.0)))

    def _recorded_end(self) -> dict[str, Any] | None:
        try:
            recorded: dict[str, Any] = json.loads((self._state_path / "exit.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return recorded

    def address(self) -> tuple[str, int]:
        """Return the loopback address and the port that the process was told to take."""
        try:
            return _LOOPBACK, int((self._state_path / _PORT_FILE).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise RuntimeUnavailableError("the process serves no port.", "It has ended, or was no server.") from error

    def process_id(self) -> int:
        """Return the supervisor's."""
        return self._pid()

    def usage(self) -> HostUsage | None:
        """Return what the job's processes use; when it has ended, what the supervisor recorded of them."""
        if not self._ended.is_set():
            return tree_usage(pid) if (pid := self._pid()) else None
        ended = self._recorded_end() or {}
        if "cpu_seconds" not in ended:
            return None
        return HostUsage(float(ended["cpu_seconds"]), 0, int(ended["memory_peak_bytes"]))

    def run_inside(self, command: Sequence[str]) -> int:
        """Run the command in the job's namespaces, on this process's own terminal."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the command
        try:
            words, environment = self.inside(command)
            process = subprocess.Popen(words, env=environment)
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
        if code == CANNOT_ENTER:
            raise RuntimeUnavailableError(
                "the system does not let you into the job's namespaces.",
                "Be the user who started the job, outside of any other namespace.",
            )
        return code if code >= 0 else 128 - code

    def pipe_inside(self, command: Sequence[str]) -> Inside:
        """Start the command in the job's namespaces, and return its streams."""
        words, environment = self.inside(command)
        return PipedCommand(
            subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        )

    def inside(self, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return what runs a command in the job's namespaces, and its environment."""
        return self._entering(command), self._job_environment()

    def connect_inside(self, port: int) -> Inside:
        """Connect to the port; where the job has a network of its own, from within that."""
        supervisor = self._pid()
        networks = {self._namespace(pid, "net") for pid in [supervisor, *descendants(supervisor)]} - {""}
        if len(networks) == 1:
            return _Connection(socket.create_connection((_LOOPBACK, port)))
        return super().connect_inside(port)

    def _entering(self, command: Sequence[str]) -> list[str]:
        """Return what runs a command beside the job."""
        supervisor = self._pid()
        if not sys.platform.startswith("linux"):
            raise RuntimeUnavailableError("only Linux lets a command into a job that is a process.", "Use Docker.")
        outside, inside = self._namespace(supervisor), supervisor
        for pid in descendants(supervisor):
            if (namespace := self._namespace(pid)) and namespace != outside:
                inside = pid
                break
        request = self._request()
        folder = "/opt/ml/code" if inside != supervisor else f"{request['tree']}/code"
        return [sys.executable, "-I", "-S", str(_ENTERING), str(inside), folder, *command]

    @staticmethod
    def _namespace(pid: int, kind: str = "pid") -> str:
        try:
            return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
        except OSError:  # it has ended
            return ""

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = json.loads((self._state_path / "request.json").read_text(encoding="utf-8"))
        return request

    def _job_environment(self) -> dict[str, str]:
        """Return the environment of the job's program; before that runs, what it will be made of."""
        terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
        for pid in descendants(self._pid()):
            try:
                data = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:  # it has ended
                continue
            if _OF_A_JOB in data:
                pairs = (entry.partition("=") for entry in os.fsdecode(data).split("\0"))
                return terminal | {name: value for name, separator, value in pairs if separator}
        return terminal | dict(self._request()["environment"])

    def pause(self) -> None:
        """Send SIGSTOP to the supervisor, which may not have started the job yet, and to all processes below it."""
        self._send_to_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Send them SIGCONT."""
        self._send_to_all(signal.SIGCONT)

    def slow(self, factor: float) -> None:
        """Pause and resume them ten times a second, from a thread of this process."""
        self._factor, was_slow = factor, self._factor > 1
        if factor > 1 and not was_slow:
            threading.Thread(target=self._stutter, name="supervisor-slow", daemon=True).start()

    def _stutter(self) -> None:
        while self._factor > 1 and not self._ended.is_set():
            self.pause()
            self._ended.wait(_STUTTER_SECONDS * (1 - 1 / self._factor))
            self.resume()
            self._ended.wait(_STUTTER_SECONDS / self._factor)

    def _send_to_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the host, also to those that are started meanwhile."""
        sent: set[int] = set()
        while self._lock_is_held() and (pid := self._pid()) and (pids := {pid, *descendants(pid)} - sent):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            sent |= pids

    def cut_off(self) -> None:
        """Switch off the cable of the host on the bridge of its job."""
        self._switch("cut")

    def rejoin(self) -> None:
        """Switch it on again."""
        self._switch("rejoin")

    def _switch(self, word: str) -> None:
        number = self._request()["number"]
        with contextlib.ExitStack() as stack:
            descriptors = self.namespaces()
            for descriptor in descriptors:
                stack.callback(os.close, descriptor)
            if not descriptors:
                raise RuntimeUnavailableError("the host has no network of its own.", "It has ended.")
            _run_networks(word, number, *descriptors)

    def namespaces(self) -> list[int]:
        """Return descriptors of what the hosts of the job share, for the caller to close; empty for one that ended."""
        opened: list[int] = []
        try:
            pid = self._pid()
            recorded = json.loads((self._state_path / "supervisor.json").read_text(encoding="utf-8"))
            for number in recorded["namespaces"]:
                opened.append(os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC))
        except (OSError, KeyError):  # a supervisor of an older launcher has none
            for descriptor in opened:
                os.close(descriptor)
            return []
        return opened

    def terminate(self) -> None:
        """Have the supervisor send SIGTERM to the job's main process."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have the supervisor end every process of the job."""
        self._signal(signal.SIGUSR1)

    def remove(self) -> None:
        """Kill what still runs; the folder goes away with the job's work."""
        self.kill()
        self._ended.wait(_ENDING_SECONDS)
        if self._supervisor is not None:
            self._supervisor.wait()

    def _watch(self) -> None:
        with (self._state_path / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        self._ended.set()

    def _pid(self) -> int:
        if self._warm.get("pid"):
            return int(self._warm["pid"])
        path = self._state_path / "supervisor.json"
        if self._supervisor is not None:
            return self._supervisor.pid
        return int(json.loads(path.read_text(encoding="utf-8"))["pid"]) if path.exists() else 0

    def _signal(self, number: signal.Signals) -> None:
        if self._supervisor is not None:  # a child of ours, whatever became of the folder
            if self._supervisor.poll() is None:
                self._supervisor.send_signal(number)
                self._supervisor.send_signal(signal.SIGCONT)  # it may stand still
            return
        # While the lock is held, the pid is the supervisor's; afterwards it may be another process's.
        if self._lock_is_held() and (pid := self._pid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)

    def _lock_is_held(self) -> bool:
        with (self._state_path / "lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


class _Connection:
    """A connection as the streams of a command."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self) -> bytes:
        return self._connection.recv(1 << 16)

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)

    def close_input(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the other side has gone
            self._connection.shutdown(socket.SHUT_RDWR)  # a thread may be reading
        self._connection.close()


class PipedCommand:
    """A command with pipes for its standard streams, as ``Inside`` has them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._input, self._output = process, process.stdin, process.stdout

    def read(self) -> bytes:
        """Return what it has printed next; empty at the end."""
        return self._output.read(1 << 16) or b""

    def write(self, data: bytes) -> None:
        """Hand all of the bytes to it."""
        view = memoryview(data)
        while view:
            view = view[self._input.write(view) or 0 :]

    def close_input(self) -> None:
        """End its standard input."""
        self._input.close()

    def close(self) -> None:
        """End it, and wait for that."""
        self._input.close()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
        self._output.close()


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")  # noqa: PTH208 - an entry of sys.path may be an archive, or no path
    except OSError:
        return []


class ProcessRuntime(Runtime):
    """Runs the bundled entry points' contract on this machine's own Python."""

    name = "process"
    network_interface = "lo"
    needs_local_libraries = True
    runs_images = False
    no_warm_pools = ""
    no_entry = ""

    def __init__(self) -> None:
        self._namespaces: dict[Path, list[int]] = {}

    def interface_of(self, hosts: int) -> str:
        """Return the interface of the hosts' own network, where they can have one; else the loopback's."""
        return networks.INTERFACE if hosts > 1 and not networks_missing(hosts) else self.network_interface

    @property
    def host_address(self) -> str:
        """The loopback address: jobs run on this machine."""
        return "127.0.0.1"

    @property
    def interpreter(self) -> str:
        """This one, whatever is at its path later."""
        return f"{sys.executable} {sys.version}"

    @property
    def gpus(self) -> int:
        """The NVIDIA devices of this machine."""
        return len(machine.gpu_numbers())

    def check(self, container: ContainerSpec) -> None:
        """Refuse foreign images, and isolation where the kernel does not offer it."""
        if not container.bundled:
            raise RuntimeUnavailableError(
                f"the process runtime has no containers and cannot run the image {container.image}.",
                'Use runtime="docker", or leave image_uri out.',
            )
        for mount in container.mounts:
            if not f"{mount.target}/".startswith(f"{OPT_ML}/"):
                raise RuntimeUnavailableError(
                    f"the process runtime can put nothing at {mount.target}: a process has a private {OPT_ML} alone.",
                    f'Use runtime="docker", or a path below {OPT_ML}.',
                )
        for name, _, hard in map(_parsed_ulimit, container.limits.ulimits):
            present = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            if os.geteuid() != 0 and present != resource.RLIM_INFINITY and (hard == -1 or hard > present):
                raise RuntimeUnavailableError(
                    f"LAUNCHER_ULIMITS asks for {name}={hard}, and a process of yours may have {present} at most.",
                    'Ask for less, or use runtime="docker".',
                )
        if container.network_isolated and container.port:
            raise RuntimeUnavailableError(
                "a process without a network can serve no requests: enable_network_isolation needs a container.",
                'Use runtime="docker".',
            )
        hosts = len(container.hosts)
        if container.network_isolated and hosts > 1 and (reason := networks_missing(hosts)):
            raise RuntimeUnavailableError(
                "enable_network_isolation of several hosts needs a network of theirs, which processes cannot have "
                f"here: {reason}.",
                'Use runtime="docker".',
            )
        if container.network_isolated and (reason := namespaces_missing(Path(container.state_path).parents[2])):
            raise RuntimeUnavailableError(
                f"enable_network_isolation needs namespaces, which a process cannot have here: {reason}.",
                'Use runtime="docker".',
            )

    def refused_faults(self, container: ContainerSpec) -> dict[str, str]:
        """Return why a host cannot be cut off, or held back."""
        reasons = {}
        if len(container.hosts) < 2:
            reasons[CUT] = "a lone host has no others"
        elif reason := networks_missing(len(container.hosts)):
            reasons[CUT] = f"its hosts share this machine's network ({reason})"
        if sys.platform != "linux":
            reasons |= dict.fromkeys((DELAY, SLOW), "the processes of a job are known on Linux alone")
        return reasons

    def describe_image(self, container: ContainerSpec) -> str:
        """Return the interpreter that stands in for the image."""
        return f"none: {sys.executable} on this machine"

    def prepare(self, container: ContainerSpec) -> None:
        """Nothing to prepare: the interpreter is there."""

    def describe_environment(self, container: ContainerSpec) -> dict[str, Any]:
        """Return the interpreter and its packages, by the names of their folders: reading each would take too long."""
        names = {
            entry.removesuffix(".dist-info")
            for folder in sys.path
            for entry in _listed(folder)
            if entry.endswith(".dist-info")
        }
        packages = dict(sorted(name.rsplit("-", 1) for name in names if "-" in name))
        return {"Python": sys.version.split()[0], "Executable": sys.executable, "Packages": packages}

    def open(self, containers: Sequence[ContainerSpec]) -> None:
        """Make a network for a job of several hosts, or take that of the hosts that run already."""
        key = _job_key(containers[0])
        if _shares_network(containers[0]) or key in self._namespaces:
            return
        for container in containers:
            if (execution := self.find(container)) is not None and (namespaces := execution.namespaces()):
                self._namespaces[key] = namespaces
                return
        self._namespaces[key] = _make_network()

    def close(self, containers: Sequence[ContainerSpec]) -> None:
        """Let go of the network: it ends with the last supervisor that has it."""
        for descriptor in self._namespaces.pop(_job_key(containers[0]), ()):
            os.close(descriptor)

    def start(self, container: ContainerSpec) -> ProcessExecution:
        """Write the request and start the supervisor, which holds the lock from its first moment."""
        state_path = Path(container.state_path)
        shared_network = _shares_network(container)
        serving = {}
        if container.port:
            port = str(_free_port())
            state_path.mkdir(parents=True, exist_ok=True)
            (state_path / _PORT_FILE).write_text(port, encoding="ascii")
            serving = {"SAGEMAKER_BIND_TO_PORT": port, "LAUNCHER_SERVE_HOST": _LOOPBACK}
        environment = job_environment(container)
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        cpus = _chosen_cpus(container) if container.limits.cpus else []
        variables = {**environment, **container.environment, **serving}
        write_request(container, variables, cpus, shared_network=shared_network)
        warm, warning = None, ""
        namespaces = [] if shared_network else self._namespaces[_job_key(container)]
        # Not in the request, because values of credentials are written nowhere.
        standard_input = _pipe_with({name: os.environ[name] for name in container.inherited if name in os.environ})
        # The lock belongs to the open file, so the supervisor holds it before this call returns and until it ends.
        with (state_path / "lock").open("wb") as lock, open_log(container) as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if container.keep_alive_seconds:
                descriptors = [lock.fileno(), standard_input, log.fileno(), *namespaces]
                warm, warning = _started_warm(container, environment, descriptors)
            if warm is not None:
                os.close(standard_input)
                return ProcessExecution(state_path, warm=warm)
            try:
                supervisor = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", str(_SUPERVISOR), str(state_path)),
                        *map(str, (lock.fileno(), *namespaces)),
                    ],
                    stdin=standard_input,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock.fileno(), *namespaces],
                    start_new_session=True,
                    cwd="/",
                    env=own,  # a job may read its supervisor's environment: it holds nothing that the job has not
                )
            except OSError as error:
                raise RuntimeUnavailableError(
                    f"{sys.executable} could not be started: {error.strerror}.", "Check its permissions."
                ) from error
            finally:
                os.close(standard_input)
        return ProcessExecution(state_path, supervisor, warning=warning)

    def keep_warm(self, container: ContainerSpec) -> str:
        """Start a process that has loaded torch and its like, for jobs of the same kind."""
        if not container.bundled or container.entry_point:
            raise RuntimeUnavailableError("it runs a program of its own, and only Python scripts are started warm")
        try:
            ended = json.loads((Path(container.state_path) / "exit.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RuntimeUnavailableError("its supervisor was killed") from None
        if not ended["isolated"]:
            raise RuntimeUnavailableError(
                "without namespaces, which this machine does not offer, a job can reach the pool's process and files"
            )
        if not warm_pool_limit():
            raise RuntimeUnavailableError("LAUNCHER_WARM_POOLS is 0")
        environment = job_environment(container)
        requirements = container.environment.get("LAUNCHER_REQUIREMENTS", "")
        pools = Pools(_home_of(container))
        own = {**environment, **read_at_start({**container.environment})}
        del own["TMPDIR"]  # the job's own
        cpus = _chosen_cpus(container) if container.limits.cpus else []
        try:
            name = pools.name_of(container, {**environment, **container.environment}, requirements)
            pools.make(name, container, own, requirements, cpus)
        except OSError as error:
            raise RuntimeUnavailableError(f"its process could not be started: {error.strerror or error}") from error
        return name

    def find(self, container: ContainerSpec) -> ProcessExecution | None:
        """Return the execution if a supervisor was ever started in the state folder."""
        state_path = Path(container.state_path)
        return ProcessExecution(state_path) if (state_path / "lock").exists() else None

    def leftovers(self, home: str) -> list[Remains]:
        """Return the jobs of a home that run, whatever became of their folders; only Linux can say."""
        remains = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state_path, lost = _supervised(folder)
                kind, name, *_ = state_path.relative_to(home).parts
            except (OSError, ValueError):
                continue  # no supervisor of that home, or not any more
            text = f"process {folder.name}" + (", whose folder is gone," if lost else "")
            job_name = name if kind == "jobs" else f"{kind}/{name}"
            remains.append(Remains(job_name, text, partial(_end_supervisor, folder, state_path), lost))
        return remains


def write_request(
    container: ContainerSpec, environment: Mapping[str, str], cpus: Sequence[int], *, shared_network: str
) -> None:
    """Make a host's state folder, with all that the supervisor reads.

    Args:
        container: the host.
        environment: all variables of its program.
        cpus: numbers of those that it may use; none sets no limit.
        shared_network: why the hosts share this machine's network; empty where they have one of their own.
    """
    state_path = Path(container.state_path)
    (state_path / "tmp").mkdir(parents=True, exist_ok=True)
    (state_path / "rest").mkdir(exist_ok=True)
    hosts = container.hosts or (container.host,)
    (state_path / "hosts").write_text(_hosts_file(hosts, own_network=not shared_network), encoding="utf-8")
    command, work = [*container.entry_point, *container.arguments], state_path.parent
    request = {
        "argv": command if container.entry_point else [sys.executable, "-m", "job_toolkit", *container.arguments],
        "environment": dict(environment),
        "toolkit": "" if container.entry_point else str(data_path("container")),
        "host": container.host,
        "mounts": [{"source": m.source, "target": m.target, "read_only": m.read_only} for m in container.mounts],
        "tree": container.tree_path,
        "rest": str(state_path / "rest"),
        # Inputs that may be links to files which others have as well: objects of the built-in S3, and of the cache.
        "shared": [m.source for m in container.mounts if m.read_only and Path(m.source).is_relative_to(work)],
        "hosts_file": str(state_path / "hosts"),
        "max_run_seconds": container.max_run_seconds,
        "grace_seconds": stop_grace_seconds(),
        "cpus": list(cpus),
        "memory_bytes": container.limits.memory_bytes,
        "ulimits": [_parsed_ulimit(text) for text in container.limits.ulimits],
        "network_isolated": container.network_isolated,
        "network_shared": shared_network if len(hosts) > 1 else "",
        "number": hosts.index(container.host),
        "hosts": len(hosts),
        "isolate": namespaces_wanted(),
    }
    (state_path / "request.json").write_text(json.dumps(request), encoding="utf-8")


def job_environment(container: ContainerSpec) -> dict[str, str]:
    """Return the variables that every job of this machine gets, without those of its request."""
    own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    own |= {"PYTHONPATH": str(data_path("container")), "PYTHONUNBUFFERED": "1"}
    own["TMPDIR"] = str(Path(container.state_path) / "tmp")
    if container.entry_point:  # its "python3" is the caller's own Python, as it is for a script
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])
    if container.limits.gpus is not None:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, container.limits.gpus)) or "-1"
    return own


def _chosen_cpus(container: ContainerSpec) -> list[int]:
    cpus, count = machine.cpu_ids(), container.limits.cpus
    if not count or count >= len(cpus):
        return cpus
    return machine.chosen_cpus(cpus, count, f"{container.job_name}/{container.host}")


def _home_of(container: ContainerSpec) -> Path:
    return Path(container.labels["launcher.home"])


def _started_warm(
    container: ContainerSpec, environment: Mapping[str, str], descriptors: list[int]
) -> tuple[dict[str, Any] | None, str]:
    """Start a host from a warm pool of its kind.

    Returns:
        The pool and the job before, None where it was not started; and then why, where there is such a pool.
    """
    if not container.bundled or container.entry_point or not namespaces_wanted() or sys.platform != "linux":
        return None, ""
    pools = Pools(_home_of(container))
    requirements = container.environment.get("LAUNCHER_REQUIREMENTS", "")
    try:
        pool = pools.find(pools.name_of(container, {**environment, **container.environment}, requirements))
    except OSError as error:
        return None, f"{container.host} was not started warm: {error}"
    if pool is None:
        return None, ""
    pid, reason = pools.start(pool, container, descriptors)
    if pid == 0 and not _appears(Path(container.state_path) / "supervisor.json"):
        pid, reason = None, "its process was killed"
    if pid is None:
        return None, f"{container.host} was not started warm: {reason}"
    return {"pid": pid, "warm_pool": pool.name, "previous_job": pool.last_job}, ""


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + _FORKED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _supervised(folder: Path) -> tuple[Path, bool]:
    """Return the state folder of a supervisor, and whether that is gone.

    Args:
        folder: of a process, in ``/proc``.
    Raises:
        OSError: the process has ended, or is somebody else's.
        ValueError: it is no supervisor. What one has forked has its command line, but not its lock.
    """
    words = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
    if len(words) > 2 and Path(words[2]).name == WARM_SERVER.name:
        return _supervised_copy(folder, pool=Path(words[3]))
    script, state, descriptor = words[3:6]
    lock = folder / "fd" / descriptor
    if not script.endswith(_SUPERVISOR_NAMES) or str(lock.readlink()).removesuffix(" (deleted)") != f"{state}/lock":
        raise ValueError(script)
    return Path(state), lock.stat().st_nlink == 0


def _supervised_copy(folder: Path, *, pool: Path) -> tuple[Path, bool]:
    """The same for a supervisor that is a copy of a warm pool's process, and has its command line."""
    for descriptor in (folder / "fd").iterdir():
        path = Path(str(descriptor.readlink()).removesuffix(" (deleted)"))
        if path.name == "lock" and path.parent != pool:
            return path.parent, descriptor.stat().st_nlink == 0
    raise ValueError(str(pool))


def _end_supervisor(folder: Path, state_path: Path) -> None:
    """Have a supervisor end every process of its job, and wait for it.

    Raises:
        RuntimeUnavailableError: it does not end.
    """
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):  # it has ended meanwhile
        process = os.pidfd_open(int(folder.name))
        try:
            if _supervised(folder)[0] != state_path:  # another process has the number now
                return
            signal.pidfd_send_signal(process, signal.SIGUSR1)
            if not select.select([process], [], [], _ENDING_SECONDS)[0]:
                raise RuntimeUnavailableError(f"process {folder.name} does not end.", f"Try: kill -9 {folder.name}")
        finally:
            os.close(process)


def _parsed_ulimit(text: str) -> tuple[str, int, int]:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    return name, int(soft), int(hard)


def _hosts_file(names: Sequence[str], *, own_network: bool) -> str:
    """Return this machine's hosts file with the hosts of a job.

    Where they share this machine's network, each has a loopback address of its own: two hosts may then listen on the
    same port, each at its own name.
    """
    path = Path("/etc/hosts")
    text = path.read_text(encoding="utf-8", errors="replace").rstrip() if path.exists() else ""
    lines = [
        f"{networks.address_of(number) if own_network else f'127.0.{number // 250}.{number % 250 + 1}'} {name}"
        for number, name in enumerate(names)
    ]
    return "\n".join([text, *lines, ""])


def _free_port() -> int:
    """Return a port of the loopback address that nothing listens at."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _pipe_with(values: Mapping[str, str]) -> int:
    """Return a descriptor that the values can be read from, also when this process has ended.

    Raises:
        RuntimeUnavailableError: a pipe cannot take so many.
    """
    data = json.dumps(values).encode()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        taken = os.write(writer, data)
    except BlockingIOError:
        taken = 0
    finally:
        os.close(writer)
    if taken < len(data):
        os.close(reader)
        raise RuntimeUnavailableError(
            f"the values of {', '.join(values)} are {len(data):,} bytes, too many to hand to a process.",
            "Shorten them.",
        )
    return reader


def _job_key(container: ContainerSpec) -> Path:
    return Path(container.state_path).parent


def _shares_network(container: ContainerSpec) -> str:
    """Return why a host has no network of its job's hosts; empty where it has one."""
    if len(container.hosts) < 2:
        return "it is alone"
    return "they serve" if container.port else networks_missing(len(container.hosts))


def networks_missing(hosts: int) -> str:
    """Return why the hosts of a job that are processes share this machine's network; empty where they do not."""
    if not sys.platform.startswith("linux"):
        return "only Linux has networks of processes"
    if not namespaces_wanted():
        return "LAUNCHER_NAMESPACES is off"
    if not host_networks_wanted():
        return "LAUNCHER_HOST_NETWORKS is off"
    if hosts > networks.MOST_HOSTS:
        return f"a network has {networks.MOST_HOSTS} hosts at most"
    with _PROBING:
        return _probe_networks()


@lru_cache(maxsize=1)
def _probe_networks() -> str:
    try:
        _run_networks("probe")
    except RuntimeUnavailableError as error:
        return error.message
    return ""


def _run_networks(word: str, *arguments: int) -> None:
    """Have a process change the network of a job.

    Args:
        arguments: numbers; descriptors among them are inherited.
    Raises:
        RuntimeUnavailableError: it could not.
    """
    command = [sys.executable, "-I", "-S", str(_NETWORKS), word, *map(str, arguments)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, pass_fds=arguments[1:], check=False, text=True)
    except OSError as error:
        raise RuntimeUnavailableError(f"{sys.executable} could not be started: {error.strerror}.") from error
    if done.returncode:
        raise RuntimeUnavailableError(done.stdout or f"{_NETWORKS.name} ended with {done.returncode}")


def _make_network() -> list[int]:
    """Make the network of a job; return descriptors of its namespaces, which are all that keeps it.

    Raises:
        RuntimeUnavailableError: the system does not allow it any more.
    """
    command = [sys.executable, "-I", "-S", str(_NETWORKS), "make"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        if reason := maker.stdout.readline().decode().strip():
            raise RuntimeUnavailableError(f"the hosts could not get a network of their own: {reason}.")
        opened: list[int] = []
        for name in ("net", "user"):  # whoever has no namespace of users for it has all rights on this machine
            path = Path(f"/proc/{maker.pid}/ns/{name}")
            if path.readlink() != Path(f"/proc/self/ns/{name}").readlink():
                opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        maker.communicate()
    return opened


def namespaces_missing(scratch_parent: Path) -> str:
    """Return why a job cannot have a private ``/opt/ml`` here; empty when it can.

    Args:
        scratch_parent: a folder, or where one may be made, for a moment.
    """
    if not namespaces_wanted():
        return "LAUNCHER_NAMESPACES is off"
    with _PROBING:  # threads of a server ask at the same time
        return _probe_namespaces(scratch_parent)


def _probe_namespaces(scratch_parent: Path) -> str:
    scratch = scratch_parent / f".probe-{os.getpid()}"
    created = [path for path in (scratch_parent, *scratch_parent.parents) if not path.exists()]
    try:
        opt_ml = scratch / "opt_ml"
        opt_ml.mkdir(parents=True)
        container = ContainerSpec(
            job_name="probe",
            host="algo-1",
            image="",
            entry_point=("true",),
            arguments=(),
            environment={},
            mounts=(Mount(str(opt_ml), OPT_ML, read_only=False),),
            state_path=str(scratch / "state"),
            log_path=str(scratch / "log"),
            tree_path=str(opt_ml),
        )
        execution = ProcessRuntime().start(container)
        execution.wait(10)
        ended = json.loads((scratch / "state" / "exit.json").read_text(encoding="utf-8"))
        if ended["isolated"]:
            return ""
        return (scratch / "log").read_text(encoding="utf-8").partition("(")[2].partition(")")[0]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for path in created:
            with contextlib.suppress(OSError):  # another process has put something there meanwhile
                path.rmdir()
