"""A process that has loaded what a driver needs: each driver that is asked of it is a copy, there in milliseconds.

The local AWS starts it, and it ends with that; drivers go on. Whoever starts a driver asks it first, and starts an
interpreter of its own where it refuses or is not there: no job depends on it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from launcher.runtimes import fork_server

_AGAIN_SECONDS = 10.0  # between two starts of one that ends by itself
# What drivers of most jobs use; one that is not installed, as docker in the image of the jobs, is left out.
_LOADED = (
    *("launcher.running.driving", "launcher.running.runner", "launcher.processing_jobs.driver"),
    *("launcher.transform.driver", "launcher.tuning.driver", "launcher.runtimes.process"),
    *("launcher.runtimes.docker_engine.runtime", "launcher.storage.file", "launcher.storage.embedded"),
    *("launcher.storage.own_s3", "launcher.storage.cache", "launcher.s3_server.store", "launcher.channels.resolving"),
)


def socket_path(home: Path) -> Path:
    """Return where the spawner of a home is asked."""
    return home / "drivers" / "socket"


def spawned(home: Path, arguments: list[str], environment: dict[str, str], log: IO[bytes]) -> bool:
    """Have a copy of the home's spawner run as a driver; return False where it does not.

    Args:
        arguments: the job's name, and the folder of its kind.
        environment: all variables of the driver.
        log: gets what the driver prints.
    """
    path = socket_path(home)
    if sys.platform != "linux" or not path.exists():
        return False
    try:
        around = fork_server.surroundings(environment)
    except OSError:  # a system that does not show all of it
        return False
    request = {"arguments": arguments, "environment": environment, "surroundings": around, "package": __file__}
    answer = fork_server.ask(path, request, [log.fileno()])
    return answer is not None and "pid" in answer


class Spawner:
    """Keeps a home's spawner up for as long as this process lives.

    Args:
        home: whose drivers it starts.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._next_start = 0.0

    def keep(self) -> None:
        """Start it, if it does not run: its code may be out of date, or somebody has killed it."""
        if sys.platform != "linux" or (self._process is not None and self._process.poll() is None):
            return
        if time.monotonic() < self._next_start:
            return
        self._next_start = time.monotonic() + _AGAIN_SECONDS
        folder = socket_path(self._home).parent
        # Its standard input ends with this process, however that ends, and it with that.
        with contextlib.suppress(OSError):  # every driver starts without it
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "launcher.running.spawner", str(self._home)],
                    stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd="/",
                    env=driver_environment(self._home),
                )  # fmt: skip


def driver_environment(home: Path) -> dict[str, str]:
    """Return the variables of a driver that this process starts."""
    package_parent = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "LAUNCHER_HOME": str(home), "PYTHONPATH": package_parent}


def _main(home: Path) -> int:
    """Be the spawner of a home; in a copy, be a driver. Return the exit code."""
    folder = socket_path(home).parent
    held = fork_server.lock(folder / "lock")
    if held is None:  # another server of this home has one
        return 0
    for name in _LOADED:
        with contextlib.suppress(ImportError):
            import_module(name)
    own = fork_server.surroundings(dict(os.environ))
    ages = _ages_of_code()
    gc.freeze()  # the memory of what is loaded stays shared with the copies
    path = folder / "socket"
    listener = fork_server.listen(path)

    outdated = False

    def refusal(request: dict[str, Any]) -> str:
        nonlocal outdated
        outdated = _ages_of_code() != ages
        same = request.get("surroundings") == own and request.get("package") == __file__
        return "" if same and not outdated else "a copy would not be what is asked for"

    asked = fork_server.serve(
        listener, refusal, lambda _copies: outdated or not path.exists(), watched=0, tick_seconds=5
    )
    if asked is None:
        path.unlink(missing_ok=True)
        return 0
    os.close(held)
    return _drive(asked)


def _drive(asked: fork_server.Asked) -> int:
    empty = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((empty, 0), (asked.descriptors[0], 1), (asked.descriptors[0], 2)):
        os.dup2(descriptor, number)
    for descriptor in {empty, *asked.descriptors} - {0, 1, 2}:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked.request["environment"])
    name, kind = asked.request["arguments"]
    code: int = import_module("launcher.running.driving").be_driver(name, kind)
    return code


def _ages_of_code() -> list[tuple[str, int]]:
    """Return the files of the launcher that are loaded, each with the time of its last change."""
    ages = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] == "launcher":
            try:
                ages.append((file, os.stat(file).st_mtime_ns))  # noqa: PTH116 - some hundred of them, each time
            except OSError:
                ages.append((file, 0))
    return ages


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
