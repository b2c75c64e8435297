"""Runs one job process, outlives the launcher, and leaves the exit code where any process finds it.

Started by ``start_supervisor.py`` with the standard library alone: ``python -I -S start_supervisor.py STATE_PATH
LOCK_FD [NETWORK_FD [USERS_FD]]``.

The state folder holds ``request.json`` (what to run) and gets ``supervisor.json`` (who runs it) and ``exit.json`` (how
it ended). The lock on the given descriptor is held as long as this process lives: whoever gets it knows that the job is
over. Standard input brings the values of variables that are written nowhere, as JSON. The other descriptors are
namespaces that the hosts of the job share (``networks.py``); they last as long as a supervisor has them.

Where the kernel allows it, the job lives in namespaces of its own: it sees a real ``/opt/ml``, a host named ``algo-1``,
and no process of it survives it. Elsewhere it is told its base folder in ``SAGEMAKER_BASE_DIR``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME = 2, 4, 8, 1024, 2048, 1 << 21
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 23, 24, 47, 4
_CAPABILITY_VERSION = 0x20080522
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE: what programs that root runs expect, and
# a container has as well. None of them can mount, or change what is mounted.
_KEPT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 10)
_FICLONE, _COPY_BYTES = 0x40049409, 1 << 20
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_READY = b"\0"
_EXIT_SETUP_FAILED = 125
_RESERVED_BYTES = 4096
_RECORDING_SECONDS, _RECORDING_PAUSE_SECONDS = 86_400.0, 0.5  # how long an end that cannot be recorded is tried again
_SHARED_NOTICE = "launcher: the hosts of this job share this machine's network, its ports too ({reason})\n"
_FALLBACK_NOTICE = (
    "launcher: no private /opt/ml on this machine ({reason}); "
    "the job finds its folders under SAGEMAKER_BASE_DIR={base}\n"
)

_libc = ctypes.CDLL(None, use_errno=True)


Start = Callable[..., Any]
"""Starts a script in another way than by a new interpreter; the toolkit says what it gets and returns."""


class StartProgram(BaseException):
    """Unwinds the stack of a copy up to its top, where the script is run as a new interpreter would run it."""

    def __init__(self, program: list[str], folder: str, environment: dict[str, str]) -> None:
        super().__init__(program)
        self.program, self.folder, self.environment = program, folder, environment


def begin(arguments: Sequence[str]) -> None:
    """Be the supervisor that a command line asks for."""
    state_path, lock_descriptor, *shared_namespaces = arguments
    main(Path(state_path), int(lock_descriptor), [int(number) for number in shared_namespaces])


def main(
    state_path: Path, lock_descriptor: int, shared_namespaces: Sequence[int] = (), start: Start | None = None
) -> None:
    """Run the job that ``request.json`` describes, and record its exit code.

    Args:
        shared_namespaces: descriptors: the network of the job's hosts, and where it has one of users, that.
        start: of a warm pool: then nothing runs where the job can have no namespaces of its own.
    """
    for descriptor in (lock_descriptor, *shared_namespaces):
        os.set_inheritable(descriptor, False)
    request: dict[str, Any] = json.loads((state_path / "request.json").read_text(encoding="utf-8"))
    request["inherited"] = _read_standard_input()
    _write_json(state_path / "supervisor.json", {"pid": os.getpid(), "namespaces": list(shared_namespaces)})
    _reserve(state_path / "exit.json")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    job = _Job(request, lock_descriptor, shared_namespaces, start)
    signal.signal(signal.SIGTERM, job.on_terminate)
    signal.signal(signal.SIGUSR1, job.on_kill)
    signal.signal(signal.SIGALRM, job.on_deadline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    group = _MemoryGroup(request["memory_bytes"]) if request.get("memory_bytes") else None
    job.group = group
    memory = _MemoryEvents(group)
    code = job.run()
    signal.setitimer(signal.ITIMER_REAL, 0)
    _kill_descendants()
    if code == 128 + signal.SIGKILL and not job.cause and not job.kill_wanted and memory.have_killed():
        job.cause, job.detail = "OutOfMemory", memory.limit()
    warning = group.warning if group is not None else ""
    if group is not None:
        group.remove()
    ended = {"exit_code": code, "isolated": job.isolated, "ended": time.time(), "cause": job.cause, "warning": warning}
    _record_end(state_path / "exit.json", {**ended, "detail": job.detail, **_used()})


class _Job:
    def __init__(
        self, request: dict[str, Any], lock_descriptor: int, namespaces: Sequence[int], start: Start | None
    ) -> None:
        self._request = request
        self._start = start
        self._lock = lock_descriptor
        self._namespaces = namespaces
        self._networks = _beside("networks") if namespaces else None
        self._way_out: Any = None
        self._main_pid = 0
        self._terminate_wanted = False
        self._terminated = False
        self._overdue = False
        self.group: _MemoryGroup | None = None
        self.isolated = False
        self.kill_wanted = False
        self.cause = ""
        self.detail = ""

    def run(self) -> int:
        reason = "this system has no namespaces"
        if self._request["network_shared"]:
            os.write(1, _SHARED_NOTICE.format(reason=self._request["network_shared"]).encode())
        if self._request.get("removal"):
            return self._run_engine(self._request["removal"])
        if sys.platform == "linux" and self._request["isolate"]:
            code, reason = self._run_isolated()
            if code is not None:
                return code
        elif not self._request["isolate"]:
            reason = "LAUNCHER_NAMESPACES is off"
        if self._start is not None:
            os.write(1, f"launcher: no job of a warm pool runs without namespaces ({reason})\n".encode())
            return _EXIT_SETUP_FAILED
        if self._networks is not None:
            os.write(1, f"launcher: the host cannot have a network of its own ({reason})\n".encode())
            return _EXIT_SETUP_FAILED
        if self._request["network_isolated"]:
            os.write(1, f"launcher: the network cannot be taken away from a process here ({reason})\n".encode())
            return _EXIT_SETUP_FAILED
        return self._run_plain(reason)

    def on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminate_wanted = True
        # Once: the deadline and the launcher may both ask, and a second SIGTERM could cut a handler short.
        if self._main_pid and not self._terminated:
            self._terminated = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._main_pid, signal.SIGTERM)

    def on_deadline(self, _signal: int, _frame: FrameType | None) -> None:
        """End a job that has run for too long, though nobody may drive it any more: SIGTERM, the grace, SIGKILL."""
        if self._overdue:
            self.on_kill(signal.SIGUSR1, None)
            return
        self._overdue = True
        if not self._terminate_wanted:
            self.cause = "MaxRuntimeExceeded"
        signal.setitimer(signal.ITIMER_REAL, max(float(self._request["grace_seconds"]), 0.001))
        self.on_terminate(signal.SIGTERM, None)

    def on_kill(self, _signal: int, _frame: FrameType | None) -> None:
        self.kill_wanted = True
        if self._main_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._main_pid, signal.SIGKILL)
        if not self.isolated and not self._request.get("removal"):
            _kill_children()  # only killed: whoever waits for the job takes its exit code, and then the rest

    def _watch(self, pid: int) -> None:
        self._main_pid = pid
        if self._request["max_run_seconds"]:
            signal.setitimer(signal.ITIMER_REAL, float(self._request["max_run_seconds"]))
        if self._terminate_wanted:
            self.on_terminate(signal.SIGTERM, None)

    def _run_plain(self, reason: str) -> int:
        """Run without namespaces: the base folder is told, and channels are links to where the data lie."""
        base = self._request["tree"]
        os.write(1, _FALLBACK_NOTICE.format(reason=reason, base=base).encode())
        try:
            for source in self._request["shared"]:
                _make_own(Path(source))
        except OSError as error:
            os.write(1, f"launcher: {error.filename2 or error.filename}: {error.strerror}\n".encode())
            return _EXIT_SETUP_FAILED
        for mount in self._request["mounts"]:
            point = Path(_in_base(base, mount["target"]))
            if Path(mount["source"]) == point:
                continue
            if not point.is_symlink():
                if point.is_dir():
                    point.rmdir()
                else:
                    point.unlink(missing_ok=True)
                point.symlink_to(mount["source"])
        # A program that came with the job, and folders that it is told, lie below the base as well.
        self._request["argv"] = [_in_base(base, word) for word in self._request["argv"]]
        pid = os.fork()
        if pid == 0:
            os.close(self._lock)
            os.setpgid(0, 0)
            self._limit()
            with contextlib.suppress(OSError):  # nothing is promised here that would depend on it
                _give_up_rights()
            self._execute({"SAGEMAKER_BASE_DIR": base})
        self._watch(pid)
        code = _exit_code(_wait_for(pid))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # where orphans are not taken in, at least the job's own group
        return code

    def _run_engine(self, removal: list[str]) -> int:
        """Run an engine's program, which makes a container, and then have the engine remove what is left of that.

        Processes of the container may be of users that only the engine can end them for.
        """
        pid = os.fork()
        if pid == 0:
            os.close(self._lock)
            os.setpgid(0, 0)
            self._limit()
            self._execute({})
        self._watch(pid)
        code = _exit_code(_wait_for(pid))
        self._main_pid = 0
        remover = os.fork()
        if remover == 0:
            os.close(self._lock)
            os.setpgid(0, 0)
            self._request["argv"] = removal
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # it prints what it has removed
            self._execute({})
        _wait_for(remover)
        return code

    def _limit(self) -> None:
        """Put this process, and all that it starts, under the job's limits, while it has the rights to."""
        if self.group is not None:
            self.group.enter()
        if self._request.get("cpus") and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self._request["cpus"])
        if self._request.get("ulimits"):
            import resource  # few jobs need it

            for name, soft, hard in self._request["ulimits"]:
                kind = getattr(resource, f"RLIMIT_{name.upper()}")
                try:
                    resource.setrlimit(kind, (soft, hard))
                except (OSError, ValueError) as error:
                    os.write(1, f"launcher: the limit {name}={soft}:{hard} could not be set: {error}\n".encode())

    def _run_isolated(self) -> tuple[int | None, str]:
        """Return (exit code, ""), or (None, why it could not be done)."""
        pid_reader, pid_writer = os.pipe()
        status_reader, status_writer = os.pipe()
        supervisor = os.getpid()
        if self._networks is not None and not self._request["network_isolated"]:
            self._way_out = self._networks.WayOut(self._request["hosts"])
        outer = os.fork()
        if outer == 0:
            os.close(pid_reader)
            os.close(status_reader)
            os.close(self._lock)
            self._limit()
            self._enter_namespaces(supervisor, pid_writer, status_writer)
        os.close(pid_writer)
        os.close(status_writer)
        pid_text, status = _read_all(pid_reader), _read_all(status_reader)
        if status != _READY:
            _wait_for(outer)
            return None, status.decode(errors="replace") or "the first process of the namespace ended early"
        self.isolated = True
        if self._way_out is not None:
            self._way_out.keep()
        self._watch(int(pid_text))
        return _exit_code(_wait_for(outer)), ""

    def _enter_namespaces(self, supervisor: int, pid_writer: int, status_writer: int) -> NoReturn:
        """Be the process between: make the namespaces, start their first process, hand on how it ended."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            flags = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID
            flags |= _CLONE_NEWNET if self._request["network_isolated"] or self._networks else 0
            uid, gid = os.getuid(), os.getgid()
            if self._networks is not None:
                self._join_hosts(flags)
            elif uid != 0 or _libc.unshare(flags) != 0:
                _call("unshare", _libc.unshare(flags | _CLONE_NEWUSER))
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
                Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
            # Only now: the kernel forgets it when credentials change.
            _die_with(supervisor)
            first = os.fork()
            if first == 0:
                os.close(pid_writer)
                self._be_first_process(status_writer)
            os.write(pid_writer, str(first).encode())
        except OSError as error:
            os.write(status_writer, _reason(error))
            os._exit(_EXIT_SETUP_FAILED)
        os.close(pid_writer)
        os.close(status_writer)
        os._exit(_exit_code(_wait_for(first)))

    def _join_hosts(self, flags: int) -> None:
        """Make the namespaces with a network that the other hosts of the job are in as well."""
        networks: Any = self._networks
        network, *users = self._namespaces
        for descriptor in users:
            networks.enter(descriptor)
        _call("unshare", _libc.unshare(flags))
        networks.join(network, self._request["number"], way_out=self._way_out is not None)
        for descriptor in self._namespaces:
            os.close(descriptor)

    def _be_first_process(self, status_writer: int) -> NoReturn:
        """Be process 1 of the namespace: mount, start the job, hand on signals, take in orphans."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            self._mount()
            _call("sethostname", _libc.sethostname(self._request["host"].encode(), len(self._request["host"])))
            if self._request["network_isolated"] and self._networks is None:
                _loopback_up()
            _give_up_rights()
        except OSError as error:
            os.write(status_writer, _reason(error))
            os._exit(_EXIT_SETUP_FAILED)
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            self._execute({}, ready=status_writer)

        def forward(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(job, number)

        signal.signal(signal.SIGTERM, forward)
        os.close(status_writer)
        while True:
            pid, status = os.wait()
            if pid == job:
                os._exit(_exit_code(status))

    def _mount(self) -> None:
        """Put a private /opt in front of the host's, with all that was there, and the job's part of /opt/ml in it.

        What the machine itself has in /opt/ml stays visible where the job has nothing of that name.
        """
        mounts = self._request["mounts"]
        opened = [os.open(mount["source"], os.O_PATH) for mount in mounts]
        rest = os.open(self._request["rest"], os.O_PATH)
        taken = {Path(mount["target"]).relative_to("/opt/ml").parts[:1] for mount in mounts}
        _call("mount /", _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        around = [entry for entry in _Entry.all_of("/opt") if entry.name != "ml"]
        inside = [entry for entry in _Entry.all_of("/opt/ml") if (entry.name,) not in taken] if () not in taken else []
        _call("mount /opt", _libc.mount(b"tmpfs", b"/opt", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755,size=64m"))
        for entry in around:
            entry.put_into(Path("/opt"))
        opt_ml = Path("/opt/ml")
        opt_ml.mkdir()
        _bind(rest, opt_ml)  # a folder of the disk: a tmpfs would bound what a job writes beside its folders
        for entry in inside:
            entry.put_into(opt_ml)
        for mount, descriptor in zip(mounts, opened, strict=True):
            point = Path(mount["target"])
            if not point.exists():
                point.mkdir(parents=True)
            _bind(descriptor, point)
            if mount["read_only"]:
                _make_read_only(point)
        for descriptor in [*opened, rest, *(entry.descriptor for entry in (*around, *inside))]:
            os.close(descriptor)
        if Path("/etc/hosts").exists():
            hosts = os.open(self._request["hosts_file"], os.O_PATH)
            _bind(hosts, Path("/etc/hosts"))
            os.close(hosts)
        # Without it the job would see the host's processes; some systems do not allow it, and no job depends on it.
        _libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)

    def _execute(self, extra: dict[str, str], ready: int | None = None) -> NoReturn:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        argv = self._request["argv"]
        try:
            os.chdir("/")
            if self._way_out is not None:
                self._way_out.take()
            if ready is not None:
                os.write(ready, _READY)
                os.close(ready)
            environment = {**self._request["inherited"], **self._request["environment"], **extra}
            if self._request["toolkit"]:
                _become_toolkit(self._request["toolkit"], argv, environment, self._start)
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            os.write(2, f"launcher: {argv[0]}: {error.strerror}\n".encode())
            os._exit(127)


def _in_base(base: str, word: str) -> str:
    """Return a path below ``/opt/ml`` where a job without namespaces has it; any other text as it is."""
    return base + word.removeprefix("/opt/ml") if f"{word}/".startswith("/opt/ml/") else word


def _become_toolkit(folder: str, argv: list[str], environment: dict[str, str], start: Start | None = None) -> NoReturn:
    """Run ``python -m job_toolkit`` in this interpreter: starting another one takes longer than all that it does."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = argv[2:]
    code = 1
    try:
        code = int(import_module("job_toolkit.__main__").main(argv[3:], start))
    except StartProgram:
        raise
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - this process ends here, and its last word is the traceback
        traceback = import_module("traceback")
        os.write(2, traceback.format_exc().encode(errors="replace"))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class _Entry:
    """Something in a folder of the machine, held open so that it can be put elsewhere when the folder is hidden."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name = entry.name
        self.descriptor = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW)
        self._link = str(Path(entry.path).readlink()) if entry.is_symlink() else ""
        self._is_folder = entry.is_dir(follow_symlinks=False)

    @classmethod
    def all_of(cls, folder: str) -> list[_Entry]:
        try:
            return [cls(entry) for entry in os.scandir(folder)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []

    def put_into(self, folder: Path) -> None:
        point = folder / self.name
        if self._link:
            if not point.is_symlink():
                point.symlink_to(self._link)
            return
        if self._is_folder:
            point.mkdir(exist_ok=True)
        else:
            point.touch()
        _bind(self.descriptor, point)


def _bind(descriptor: int, point: Path) -> None:
    source = f"/proc/self/fd/{descriptor}".encode()
    _call(f"mount {point}", _libc.mount(source, bytes(point), None, _MS_BIND | _MS_REC, None))


def _make_read_only(point: Path) -> None:
    # A user namespace may not drop flags that the mount came with: repeat them.
    present = os.statvfs(point).f_flag
    flags = 0
    for statvfs_flag, mount_flag in (
        (os.ST_NOSUID, _MS_NOSUID),
        (os.ST_NODEV, _MS_NODEV),
        (os.ST_NOEXEC, _MS_NOEXEC),
        (os.ST_NOATIME, _MS_NOATIME),
        (os.ST_NODIRATIME, _MS_NODIRATIME),
        (os.ST_RELATIME, _MS_RELATIME),
    ):
        flags |= mount_flag if present & statvfs_flag else 0
    read_only = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags
    _call(f"remount {point}", _libc.mount(None, bytes(point), None, read_only, None))


def _give_up_rights() -> None:
    """Give up for good, for this process and all that it starts, what root needs to undo a mount.

    An ordinary user's rights in a user namespace of its own end with the next program; that can get none back either.

    Raises:
        OSError: the system does not let this process give them up.
    """
    if sys.platform != "linux":
        return
    _call("no_new_privs", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if os.geteuid() != 0:
        return
    for capability in range(64):
        present = _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)
        if present < 0:  # the kernel has no more of them
            break
        if present and capability not in _KEPT_CAPABILITIES:
            _call("drop capabilities", _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for capabilities from 32 on
    _call("capget", _libc.capget(header, sets))
    mask = sum(1 << capability for capability in _KEPT_CAPABILITIES)
    sets[:] = [sets[0] & mask, sets[1] & mask, 0, 0, 0, 0]
    _call("capset", _libc.capset(header, sets))


def _beside(name: str) -> Any:
    """Return a module that lies beside this script, as few jobs need it; no program of the job finds it loaded."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        return import_module(name)
    finally:
        del sys.path[0]
        sys.modules.pop(name, None)


def _read_standard_input() -> dict[str, str]:
    """Return the variables that the launcher hands over; the job's own standard input is empty."""
    with os.fdopen(os.dup(0), "rb") as pipe:
        values: dict[str, str] = json.loads(pipe.read() or b"{}")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return values


def _loopback_up() -> None:
    import socket  # loaded by the few jobs that need it: every other one would wait for it
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


class _MemoryGroup:
    """A cgroup of the job's own with a memory limit, where the system lets this process make one.

    Attributes:
        folder: of the cgroup; empty where there is none.
        files: that count its kills, and hold its limit.
        warning: why the limit does not hold; empty where it does.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.folder = ""
        around, events, limit = _memory_cgroup()
        self.files = events, limit
        self.warning = ""
        reason = "this system has no cgroup for memory"
        # A cgroup of version 2 that has processes can have no limited children: one further up may.
        parents = [around] if limit != "memory.max" else _up_to_the_root(around)
        for parent in parents:
            _remove_abandoned(parent)
            folder = f"{parent}/launcher-{os.getpid()}"
            try:
                os.mkdir(folder)  # noqa: PTH102 - plain paths throughout, as below
            except OSError as error:
                reason = f"{parent}: {error.strerror}"
                continue
            self.folder = folder
            try:
                with open(f"{folder}/{limit}", "w", encoding="ascii") as file:  # noqa: PTH123
                    file.write(str(limit_bytes))
                self._try()
            except OSError as error:
                reason = f"{parent}: {error.strerror}"
                self.remove()
                self.folder = ""
            else:
                return
        self.warning = f"memory is not limited to the {limit_bytes / 2**20:,.0f} MiB of the instance type ({reason})"

    def enter(self) -> None:
        """Move this process, and all that it will start, into the cgroup."""
        if self.folder:
            with open(f"{self.folder}/cgroup.procs", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("0")

    def _try(self) -> None:
        """See whether a process can be moved there: the right to that is one of its own."""
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(OSError):
                self.enter()
                code = 0
            os._exit(code)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise PermissionError(1, "no process may be moved into a cgroup there")

    def remove(self) -> None:
        """Remove the cgroup, when its last process has ended."""
        for _ in range(50):
            if not self.folder:
                return
            try:
                os.rmdir(self.folder)  # noqa: PTH106
            except FileNotFoundError:
                return
            except OSError:  # the kernel has not buried the last process yet
                time.sleep(0.02)
            else:
                return


def _remove_abandoned(parent: str) -> None:
    """Remove the cgroups of supervisors that were killed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208
            number = name.removeprefix("launcher-")
            if name != number and number.isdigit() and not os.path.exists(f"/proc/{number}"):  # noqa: PTH110
                with contextlib.suppress(OSError):
                    os.rmdir(f"{parent}/{name}")  # noqa: PTH106


def _up_to_the_root(folder: str) -> list[str]:
    folders = [folder]
    while os.path.exists(f"{os.path.dirname(folder)}/cgroup.procs"):  # noqa: PTH110, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
        folders.append(folder)
    return folders


class _MemoryEvents:
    """Whether the kernel has killed for lack of memory, as the cgroup of the job counts it.

    Args:
        group: the job's own; None, or one that could not be made, for that of this process.
    """

    def __init__(self, group: _MemoryGroup | None = None) -> None:
        self._folder, self._events, self._limit = _memory_cgroup()
        if group is not None and group.folder:
            self._folder = group.folder
        self._before = self._kills()

    def have_killed(self) -> bool:
        return self._kills() > self._before

    def limit(self) -> str:
        text = _read_text(f"{self._folder}/{self._limit}").strip()
        limited = text.isdigit() and int(text) < 1 << 60  # version 1 writes a number near 2**63 for no limit
        return f"the memory limit is {int(text) / 2**20:,.0f} MiB" if limited else "this machine ran out of memory"

    def _kills(self) -> int:
        for line in _read_text(f"{self._folder}/{self._events}").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
        return 0


def _memory_cgroup() -> tuple[str, str, str]:
    """Return the folder of this process's cgroup, and the files that count its kills and hold its limit."""
    for line in _read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            # In a container the path may be the host's, and the mount begins at the container's own cgroup.
            folder = f"/sys/fs/cgroup/memory{path.rstrip('/')}"
            return (
                folder if os.path.exists(folder) else "/sys/fs/cgroup/memory",  # noqa: PTH110
                "memory.oom_control",
                "memory.limit_in_bytes",
            )
        if not controllers:
            unified = f"/sys/fs/cgroup{path.rstrip('/')}", "memory.events", "memory.max"
            if os.path.exists(f"{unified[0]}/memory.events"):  # noqa: PTH110
                return unified
    return "/sys/fs/cgroup", "memory.events", "memory.max"


def _used() -> dict[str, float]:
    """Return the CPU time of all that the job ran, and the memory that the largest of its processes had."""
    import resource  # only now: a start does not wait for it

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "memory_peak_bytes": usage.ru_maxrss * unit}


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def _make_own(path: Path) -> None:
    """Put a copy in the place of every hard link at or below ``path``: what a job writes to it changes nothing else."""
    paths = [path] if path.is_file() else (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in paths:
        if file.is_symlink() or file.stat().st_nlink < 2:
            continue
        part = file.with_name(f".{os.getpid()}.launcher-part")
        with file.open("rb") as source, part.open("wb") as copy:
            try:
                fcntl.ioctl(copy, _FICLONE, source.fileno())
            except OSError:  # only some file systems let two files share what neither has changed
                while chunk := source.read(_COPY_BYTES):
                    copy.write(chunk)
        status = file.stat()
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
        part.replace(file)


def _call(attempt: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{attempt}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)


def _wait_for(pid: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


def _reason(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_EXIT_SETUP_FAILED)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _kill_descendants() -> None:
    """End whatever the job left running; this process takes in orphans, so they are all its children by and by."""
    while _children():
        _kill_children()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _kill_children() -> None:
    for pid in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    try:
        text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def _write_json(path: Path, value: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    # In place: what ``_reserve`` has kept on the disk is there even when the job has filled the rest.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(value).encode())
        file.flush()
        file.truncate()
    part.replace(path)


def _record_end(path: Path, value: dict[str, Any]) -> None:
    """Write how the job ended; on a disk that takes nothing at the moment, such as a read-only one, when it does again.

    Whoever looks sees a job that runs until then, because this process holds its lock.
    """
    deadline = time.monotonic() + _RECORDING_SECONDS
    while True:
        try:
            _write_json(path, value)
        except OSError:
            if time.monotonic() > deadline or not path.parent.is_dir():
                return  # nobody will ask any more
        else:
            return
        time.sleep(_RECORDING_PAUSE_SECONDS)


def _reserve(path: Path) -> None:
    """Keep room on the disk for what ``_write_json`` will write: how a job ended must not be lost with a full disk."""
    with contextlib.suppress(OSError):  # a disk that is full already has no room to keep
        path.with_name(path.name + ".part").write_bytes(b" " * _RESERVED_BYTES)
