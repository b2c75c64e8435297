"""Warm pools of process jobs: for each a process that has loaded torch and its like, and is copied for every job.

A pool has a folder in the home while it lives, and a lock that its process holds, so no process id is trusted. It ends
by itself when no job has run for the time that the last job asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import fork_server
from launcher.settings import data_path, warm_libraries, warm_pool_limit

WARM_SERVER = Path(__file__).with_name("warm_server.py")
_READY_SECONDS = 30.0  # a pool that is being made is waited for: a job by itself would load as much
_ENDING_SECONDS = 10.0
_IMPORT = re.compile(rb"\bfrom[ \t]+([.\w]+)[ \t]+import\b|\bimport[ \t]+([\w., \t]+)")
_MOST_FILES, _MOST_BYTES = 100, 1 << 20  # of a source that is looked through before its job begins


@dataclass(frozen=True)
class WarmPool:
    """A pool that is there.

    Attributes:
        match: what jobs that can start from it have in common, as texts.
        last_job: that has used it, or still does.
        used: when that began, in seconds of the Unix clock.
        keep_alive_seconds: how long it stays without a job.
        pid: of its process.
    """

    name: str
    path: Path
    match: tuple[str, ...]
    last_job: str
    used: float
    keep_alive_seconds: float
    pid: int


class Pools:
    """The warm pools of a home.

    Args:
        home: the launcher's.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "pools"

    def all(self) -> list[WarmPool]:
        """Return the pools that live, the least recently used first."""
        pools = [pool for path in sorted(self._path.glob("*")) if (pool := self.find(path.name)) is not None]
        return sorted(pools, key=lambda pool: pool.used)

    def find(self, name: str) -> WarmPool | None:
        """Return a pool by its name; None where it does not live. What is left of one that was killed is removed."""
        path = self._path / name
        if not _is_locked(path / "lock"):
            if (path / "lock").exists():
                self._remove_dead(path)
            return None
        try:
            about = json.loads((path / "pool.json").read_text(encoding="utf-8"))
            keep_alive = float((path / "keep-alive").read_text(encoding="ascii"))
            used = (path / "last").stat().st_mtime
            last_job = (path / "last").read_text(encoding="utf-8")
        except (OSError, ValueError):  # it ends at this moment
            return None
        if not keep_alive:  # it is told to end
            return None
        return WarmPool(name, path, tuple(about["match"]), last_job, used, keep_alive, about["pid"])

    def name_of(self, container: ContainerSpec, environment: Mapping[str, str], requirements: str) -> str:
        """Return the name of the pool that a host can start from: all that such hosts have in common is in it.

        Args:
            environment: the host's own variables.
            requirements: the folder of the packages that it is lent.
        """
        limits = container.limits
        common = {
            "match": list(container.warm_match),
            "surroundings": fork_server.surroundings({**environment, "PYTHONPATH": requirements}),
            "cpus": limits.cpus,
            "memory": limits.memory_bytes,
            "gpus": limits.gpus,
            "ulimits": limits.ulimits,
            "toolkit": str(data_path("container")),
            "libraries": warm_libraries(),
        }
        return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:12]

    def start(self, pool: WarmPool, container: ContainerSpec, descriptors: list[int]) -> tuple[int | None, str]:
        """Start a host as a copy of a pool's process, if that agrees.

        Args:
            descriptors: the lock of the host's supervisor, its standard input, its log.
        Returns:
            The supervisor's process id, None where none was started, and then why.
        """
        request = {"state": container.state_path}
        server = "socket" if uses_libraries(Path(container.tree_path, "code")) else "light"
        answer = fork_server.ask(pool.path / server, request, descriptors, timeout_seconds=_READY_SECONDS)
        if answer is None:
            return None, "its process does not answer"
        if "pid" not in answer:
            return None, str(answer.get("refused", "its process ended"))
        self.note_use(pool.path, container.job_name, container.keep_alive_seconds)
        return int(answer["pid"]), ""

    def note_use(self, path: Path, job_name: str, keep_alive_seconds: int) -> None:
        """Write down which job uses a pool, and how long it is to stay when that has ended."""
        with contextlib.suppress(OSError):  # it ends at this moment
            for name, text in (("last", job_name), ("keep-alive", str(keep_alive_seconds))):
                part = path / f"{name}.{os.getpid()}"
                part.write_text(text, encoding="utf-8")
                part.replace(path / name)

    def make(
        self, name: str, container: ContainerSpec, environment: Mapping[str, str], requirements: str, cpus: list[int]
    ) -> None:
        """Start a pool, unless it lives; where there are too many, the least recently used one is ended.

        Args:
            environment: its process's variables; without what is secret, since every job can read them.
            requirements: the folder of the packages that its jobs are lent.
            cpus: that it loads its libraries on, which count them; none where jobs are not limited.
        Raises:
            OSError: it cannot be started.
        """
        if self.find(name) is not None:
            return
        pools = self.all()
        for pool in pools[: max(0, len(pools) - warm_pool_limit() + 1)]:
            self.stop(pool)
        path = self._path / name
        self._path.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        lock = fork_server.lock(path / "lock")
        if lock is None:  # another job of its kind has ended at this moment
            return
        toolkit = str(data_path("container"))
        own = {**environment, "PYTHONPATH": requirements, "PYTHONUNBUFFERED": "1"}
        try:
            wanted = {"libraries": warm_libraries(), "cpus": cpus}
            (path / "load.json").write_text(json.dumps(wanted), encoding="utf-8")
            self.note_use(path, container.job_name, container.keep_alive_seconds)
            with (
                fork_server.listen(path / "socket") as listener,
                fork_server.listen(path / "light") as light,
                (path / "log").open("wb") as log,
            ):
                numbers = (listener.fileno(), light.fileno(), lock)
                process = subprocess.Popen(
                    [sys.executable, "-u", str(WARM_SERVER), str(path), *map(str, numbers), toolkit],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", env=own,
                    pass_fds=numbers, start_new_session=True,
                )  # fmt: skip
            threading.Thread(target=process.wait, name="warm-pool", daemon=True).start()  # a child, to be buried
            about = {"match": container.warm_match, "pid": process.pid, "made": time.time()}
            (path / "pool.json").write_text(json.dumps(about), encoding="utf-8")
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            os.close(lock)

    def stop(self, pool: WarmPool) -> None:
        """End a pool; jobs that were started from it go on."""
        with contextlib.suppress(OSError):
            (pool.path / "keep-alive").write_text("0", encoding="ascii")
        deadline = time.monotonic() + _ENDING_SECONDS
        while _is_locked(pool.path / "lock") and time.monotonic() < deadline:
            time.sleep(0.05)

    def _remove_dead(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # another process removes it at this moment
            lock = fork_server.lock(path / "lock")
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def uses_libraries(code: Path) -> bool:
    """Return whether a source imports, or names, what is neither Python's own nor its own.

    A guess that only decides how soon the job begins: what a program imports is there in any case.

    Args:
        code: the folder of the source.
    """
    own = {"job_toolkit"}
    paths: list[Path] = []
    for place, folders, files in os.walk(code):
        own |= {name.partition(".")[0] for name in (*folders, *files)}
        paths += [Path(place, name) for name in files if name.endswith(".py")]
    words = [name.partition(".")[0].encode() for name in warm_libraries()]
    try:
        if len(paths) > _MOST_FILES or sum(path.stat().st_size for path in paths) > _MOST_BYTES:
            return True
        texts = [path.read_bytes() for path in paths]
    except OSError:
        return True
    imported: set[str] = set()
    for text in texts:
        for module, modules in _IMPORT.findall(text):
            names = [module] if module else [parts[0] for entry in modules.split(b",") if (parts := entry.split())]
            imported |= {name.partition(b".")[0].decode(errors="replace") for name in names}
    named = any(word in text for word in words for text in texts)
    return named or bool(imported - own - sys.stdlib_module_names - {""})


def _is_locked(path: Path) -> bool:
    """Return whether a process holds a lock; its copies do not have it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
