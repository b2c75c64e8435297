"""The driver's side of a feeder: starts it, looks whether it lives, ends it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.channels.feeder import PIPE_MODE, make_pipe

_FEEDER = Path(__file__).with_name("feeder.py")
_ENDING_SECONDS = 5.0
_LOOKING_SECONDS = 1.0


class Feeder:
    """The process that writes a job's pipes, by the folder that it keeps; any driver of the job finds it by that.

    Args:
        state_path: the folder.
        on_nodes: whether each host's machine feeds the host, in a folder of the host's name below the other one.
    """

    def __init__(self, state_path: Path, *, on_nodes: bool = False) -> None:
        self._state_path = state_path
        self._on_nodes = on_nodes
        self._process: subprocess.Popen[bytes] | None = None
        self._next_look = 0.0

    def prepare(
        self,
        channels: Mapping[str, Mapping[str, Any]],
        trees: Sequence[Path],
        places: Mapping[str, str],
        driver_lock_path: Path,
        longest_seconds: float,
    ) -> None:
        """Write down what is to be fed, and make the first pipe of every channel.

        Args:
            channels: what is streamed, by channel.
            trees: what each host sees as ``/opt/ml``, in their order.
            places: by channel, where its pipes are below that, without ``_0``, ``_1`` at their end.
            driver_lock_path: the lock of whoever drives the job.
            longest_seconds: after which the feeder ends in any case.
        """
        self._state_path.mkdir(parents=True, exist_ok=True)
        streams = []
        for number, tree in enumerate(trees):
            for name in channels:
                folder, stem = (tree / places[name]).parent, Path(places[name]).name
                folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    make_pipe(f"{stem}_0", descriptor)
                    os.chmod(f"{stem}_0", PIPE_MODE, dir_fd=descriptor)
                finally:
                    os.close(descriptor)
                streams.append(
                    {"channel": name, "folder": str(folder), "stem": stem, "number": number, "hosts": len(trees)}
                )
        request = {
            "channels": dict(channels),
            "streams": streams,
            "driver_lock": str(driver_lock_path),
            "longest_seconds": longest_seconds,
        }
        (self._state_path / "request.json").write_text(json.dumps(request), encoding="utf-8")

    def start(self) -> None:
        """Start the feeder, unless it runs: the lock is held from this moment until it ends."""
        if self._on_nodes or not (self._state_path / "request.json").exists() or self._is_alive():
            return
        with (self._state_path / "lock").open("wb") as lock, (self._state_path / "log").open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_FEEDER), str(self._state_path), str(lock.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )

    def watch(self, processes: Sequence[int]) -> None:
        """Tell the feeder of the processes that end with the hosts; 0 for a host of which none is known."""
        if not self._on_nodes and (self._state_path / "request.json").exists():
            part = self._state_path / "hosts.json.part"
            part.write_text(json.dumps(list(processes)), encoding="utf-8")
            part.replace(part.with_name("hosts.json"))

    def failure(self, *, now: bool = False) -> str:
        """Return why the streams are not what the job asked for; empty while all is well.

        Args:
            now: look at once, however short the last look is ago.
        """
        if self._on_nodes:
            return self._failure_on_nodes()
        if not (self._state_path / "lock").exists() or (not now and time.monotonic() < self._next_look):
            return ""
        self._next_look = time.monotonic() + _LOOKING_SECONDS / 5
        alive = self._is_alive()  # asked first: it writes how it ended before it ends
        with contextlib.suppress(FileNotFoundError):
            ended: dict[str, str] = json.loads((self._state_path / "ended.json").read_text(encoding="utf-8"))
            return ended["error"]
        if alive:
            return ""
        said = (self._state_path / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "the process that writes the pipes was killed" + (f": {said[-1]}" if said else ", not by the launcher")

    def _failure_on_nodes(self) -> str:
        errors = (
            json.loads(path.read_text(encoding="utf-8"))["error"] for path in self._state_path.glob("*/ended.json")
        )
        return next(filter(None, errors), "")

    def stop(self) -> None:
        """End the feeder, if it runs; every writer that waits for a reader ends with it."""
        with contextlib.suppress(OSError, ValueError):
            if self._is_alive():
                pid = self._process.pid if self._process else self._recorded_pid()
                for number in (signal.SIGTERM, signal.SIGKILL):
                    os.kill(pid, number)
                    deadline = time.monotonic() + _ENDING_SECONDS
                    while self._is_alive() and time.monotonic() < deadline:
                        time.sleep(0.01)
                    if not self._is_alive():
                        break

    def _recorded_pid(self) -> int:
        return int(json.loads((self._state_path / "feeder.json").read_text(encoding="utf-8"))["pid"])

    def _is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        try:
            with (self._state_path / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False
