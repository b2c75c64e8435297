"""A process that has loaded torch and its like, and starts each job of a warm pool as a copy of itself.

Started as a script with the interpreter of the jobs: ``python -u warm_server.py POOL_FOLDER LISTENER LIGHT_LISTENER
LOCK TOOLKIT``. The standard library alone, and what it is told to load. It runs nothing of a job: a copy becomes the
job's supervisor, whose copies make namespaces, read the contract and run the script, each in the place of a new
interpreter. So no job finds anything of another one in it.

A copy of a process with torch takes several times as long as one of a process without, and a job is five of them. So
before it loads anything, the server makes a copy of itself that loads nothing, and serves jobs that use no library.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

_PR_SET_DUMPABLE = 4
_HUGE_PAGE, _MADV_COLLAPSE = 2 << 20, 25  # of Linux 6.1 and newer
_TICK_SECONDS = 0.5
_EXPENDABLE = {"jemalloc_bg_thd"}  # of pyarrow's allocator, which goes on without it in a copy
_OWN = ("fork_server", "supervisor")
# Beside this script, whose folder is the first of the search path.
fork_server, supervisor = (importlib.import_module(name) for name in _OWN)
del sys.path[0]


class ForkedProgram:
    """A script that runs in a copy of this process, seen as ``subprocess`` shows one.

    Attributes:
        stdout: what it prints, errors too.
        returncode: None while it runs; -n where signal n ended it.
    """

    def __init__(self, pid: int, output: int) -> None:
        self.pid = pid
        self.stdout = io.FileIO(output, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        code = self._look(0)
        return -signal.SIGKILL if code is None else code

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class _Programs:
    """Starts a job's scripts as copies.

    Args:
        search_path: of a new interpreter, behind its own folder and ``PYTHONPATH``.
        lent: the entries of ``PYTHONPATH`` that this process has loaded packages from.
        descriptors: that libraries hold since they were loaded.
    """

    def __init__(self, search_path: list[str], lent: list[str], descriptors: set[int]) -> None:
        self._search_path = search_path
        self._lent = lent
        self._descriptors = descriptors

    def start(self, arguments: list[str], folder: str, environment: dict[str, str]) -> ForkedProgram | None:
        """Run ``python -u PROGRAM ...`` in a copy; None where only a new interpreter can be what that asks for."""
        if arguments[:2] != [sys.executable, "-u"] or (name := self._hidden(arguments[2], folder, environment)):
            if arguments[:2] == [sys.executable, "-u"]:
                print(f"launcher: not started warm: {name} of the job is another than what is loaded", flush=True)
            return None
        sys.stdout.flush()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            return ForkedProgram(pid, reader)
        self._close_all_but(writer)
        empty = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((empty, 0), (writer, 1), (writer, 2)):
            os.dup2(descriptor, number)
        os.close(empty)
        os.close(writer)
        raise supervisor.StartProgram(arguments[2:], folder, environment)

    def _close_all_but(self, descriptor: int) -> None:
        for number in _open_descriptors() - self._descriptors - {0, 1, 2, descriptor}:
            with contextlib.suppress(OSError):  # the one by which they were listed
                os.close(number)

    def _hidden(self, program: str, folder: str, environment: dict[str, str]) -> str:
        """Return the name of a module of the job's own that is loaded already, from elsewhere; empty where none is."""
        loaded = {name.partition(".")[0] for name in sys.modules} - {*sys.builtin_module_names, *_OWN, "__main__"}
        for place in (str(Path(folder, program).parent), *_entries(environment)):
            if place in self._lent:
                continue
            with contextlib.suppress(OSError):
                for entry in os.scandir(place):
                    if (name := entry.name.partition(".")[0]) in loaded and name.isidentifier():
                        return name
        return ""

    def run(self, wanted: Any) -> None:
        """Run the script, in its copy; returns where it ends by itself, and raises what ends it otherwise."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)
        os.environ.clear()
        os.environ.update(wanted.environment)
        if _is_c_locale(wanted.environment):
            os.environ["LC_CTYPE"] = "C.UTF-8"
        os.chdir(wanted.folder)
        path = Path(wanted.folder, wanted.program[0])
        sys.argv = list(wanted.program)
        sys.orig_argv = [sys.executable, "-u", *wanted.program]
        sys.path[:] = [str(path.parent.resolve()), *_entries(wanted.environment), *self._search_path]
        for name in _OWN:
            sys.modules.pop(name, None)
        for place in [place for place in sys.path_importer_cache if place not in self._search_path]:
            del sys.path_importer_cache[place]
        importlib.invalidate_caches()
        _forget_chance()
        main = ModuleType("__main__")
        main.__dict__.update(__file__=str(path), __builtins__=__builtins__, __cached__=None)
        sys.modules["__main__"] = main
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, main.__dict__)


def _is_c_locale(environment: dict[str, str]) -> bool:
    """Return whether an interpreter that begins sets another LC_CTYPE, for itself and its children, by PEP 538."""
    if environment.get("LC_ALL") or environment.get("PYTHONCOERCECLOCALE") == "0":
        return False
    return (environment.get("LC_CTYPE") or environment.get("LANG") or "C") in ("C", "POSIX")


def _entries(environment: dict[str, str]) -> list[str]:
    return [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _forget_chance() -> None:
    """Draw new what libraries drew when they were loaded; Python's own random does it by itself."""
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.default_generator.seed()
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None
        tempfile._name_sequence = None


def _load(names: list[str]) -> None:
    """Load what scripts will ask for, and what the first optimizer loads besides."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if (torch := sys.modules.get("torch")) is not None:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _set_dumpable(value: int) -> None:
    """With 0, no process of the same user may look into this one, or change it."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, value, 0, 0, 0)


def _use_huge_pages() -> None:
    """Have memory in pages of 2 MiB where the kernel can: a fork copies the table of pages, which is then short."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, _, _, _, *name = line.split()
        if rights != "rw-p" or name not in ([], ["[heap]"]):
            continue
        begin, end = (int(number, 16) for number in place.split("-"))
        for address in range(-(-begin // _HUGE_PAGE) * _HUGE_PAGE, end - _HUGE_PAGE + 1, _HUGE_PAGE):
            libc.madvise(address, _HUGE_PAGE, _MADV_COLLAPSE)  # one that is refused stays as it is


def _threads_left() -> list[str]:
    """Return the names of threads that a fork of this process would lose: most libraries end theirs before one."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in threads if thread != os.getpid()]
    return [name for name in names if name not in _EXPENDABLE]


def _keep_alive_seconds(folder: Path) -> float:
    try:
        return float((folder / "keep-alive").read_text(encoding="ascii"))
    except (OSError, ValueError):  # the pool was removed
        return 0


class _Freshness:
    """Whether all that a server was made of is as it was.

    Args:
        paths: files, and folders of packages.
    """

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._ages = _ages(paths)
        self.is_over = False

    def complaint(self) -> str:
        """Return why no copy can be made any more; empty where it can."""
        self.is_over = _ages(self._paths) != self._ages
        return "packages or the launcher have changed since it began" if self.is_over else ""


def main(folder: Path, listener_descriptor: int, light_descriptor: int, lock_descriptor: int, toolkit: str) -> None:
    """Be the server; in its copies, be what they are for."""
    for descriptor in (listener_descriptor, light_descriptor, lock_descriptor):
        os.set_inheritable(descriptor, False)
    lent = _entries(dict(os.environ))
    search_path = [entry for entry in sys.path if entry not in lent]
    _set_dumpable(0)
    wanted = json.loads((folder / "load.json").read_text(encoding="utf-8"))
    if wanted["cpus"]:
        os.sched_setaffinity(0, wanted["cpus"])
    sys.path.insert(0, toolkit)
    importlib.import_module("job_toolkit.__main__")
    sys.path.remove(toolkit)
    own = [__file__, *(str(module.__file__) for module in (fork_server, supervisor))]
    watched = [*search_path, *lent, *own, *map(str, Path(toolkit, "job_toolkit").glob("*.py"))]
    link, light_link = socket.socketpair()  # each of the two processes ends with the other
    if os.fork() == 0:
        for descriptor in (listener_descriptor, lock_descriptor):
            os.close(descriptor)
        link.close()
        programs = _Programs(search_path, [toolkit], set())
        asked = _serve_light(socket.socket(fileno=light_descriptor), light_link, _Freshness(watched))
    else:
        os.close(light_descriptor)
        light_link.close()
        before = _open_descriptors()
        _load(wanted["libraries"])
        programs = _Programs(search_path, [*lent, toolkit], _open_descriptors() - before)
        listener = socket.socket(fileno=listener_descriptor)
        asked = _serve(folder, listener, link, _Freshness(watched), wanted["libraries"])
        if asked is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        os.close(lock_descriptor)
    if asked is None:
        os._exit(0)
    _be_job(asked, programs)


def _serve(
    folder: Path, listener: socket.socket, link: socket.socket, freshness: _Freshness, libraries: list[str]
) -> Any:
    """Serve jobs that use the libraries; return what is asked for in a copy, None when the pool has to end."""
    problem = ""
    if threads := _threads_left():
        problem = f"threads of what is loaded ({', '.join(libraries)}) would be lost in a copy: {', '.join(threads)}"
    gc.collect()
    _use_huge_pages()
    gc.freeze()  # what is loaded stays in memory that the copies share
    last_end = time.monotonic()
    for connection in (listener, link):
        connection.setblocking(False)

    def finished(copies: int) -> bool:
        nonlocal last_end
        keep_alive = _keep_alive_seconds(folder)
        other_is_busy = False
        with contextlib.suppress(BlockingIOError):
            other_is_busy = bool(link.recv(4096))
            if not other_is_busy:  # it has ended
                return True
        if copies or other_is_busy:
            last_end = time.monotonic()
        return freshness.is_over or not keep_alive or time.monotonic() - last_end > keep_alive

    asked = fork_server.serve(
        listener, lambda _: problem or freshness.complaint(), finished, tick_seconds=_TICK_SECONDS
    )
    if asked is not None:
        link.close()
    return asked


def _serve_light(listener: socket.socket, link: socket.socket, freshness: _Freshness) -> Any:
    """Serve jobs that use no library; return what is asked for in a copy, None when the pool has ended."""
    gc.collect()
    gc.freeze()
    listener.setblocking(False)
    watched = link.detach()
    os.set_blocking(watched, False)

    def finished(copies: int) -> bool:
        if copies:
            with contextlib.suppress(OSError):  # nobody has read the last ones, or the other has ended
                os.write(watched, b"\1")
        return freshness.is_over

    return fork_server.serve(
        listener, lambda _: freshness.complaint(), finished, watched=watched, tick_seconds=_TICK_SECONDS
    )


def _be_job(asked: Any, programs: _Programs) -> NoReturn:
    """Be the supervisor of a job, and in its copies what that starts."""
    _set_dumpable(1)
    own_lock, standard_input, log, *namespaces = asked.descriptors
    for descriptor, number in ((standard_input, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.close(standard_input)
    os.close(log)
    try:
        supervisor.main(Path(asked.request["state"]), own_lock, namespaces, programs.start)
    except supervisor.StartProgram as wanted:
        request = wanted
    else:
        os._exit(0)  # at once: its end, by which the lock is free, is the job's
    _run_to_the_end(programs, request)


def _run_to_the_end(programs: _Programs, wanted: Any) -> NoReturn:
    """Run a script, and end as an interpreter ends that has run it."""
    loaded = set(sys.modules)
    code = 0
    try:
        programs.run(wanted)
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException as error:  # noqa: BLE001 - this process ends here
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
            traceback = traceback.tb_next
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    _end(code, loaded)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _end(code: int, loaded: set[str]) -> NoReturn:
    """Do what an interpreter does when it ends, but leave what was loaded before: that would copy all of its memory.

    Args:
        code: the exit code; -n for an end by signal n.
        loaded: the modules that were there before the script.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons, as the interpreter
    atexit._run_exitfuncs()
    for name in ["__main__", *(name for name in sys.modules if name not in loaded)]:
        values = getattr(sys.modules[name], "__dict__", {})
        for key in [key for key in values if key != "__builtins__"]:
            values[key] = None
    gc.collect()
    for item in gc.get_objects():
        if isinstance(item, io.IOBase):
            with contextlib.suppress(Exception):  # the interpreter keeps silent about them as well
                item.flush()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        code = code or 120
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _open_descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208


def _ages(paths: list[str]) -> list[int]:
    ages = []
    for path in paths:
        try:
            ages.append(os.stat(path).st_mtime_ns)  # noqa: PTH116
        except OSError:
            ages.append(0)
    return ages


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
