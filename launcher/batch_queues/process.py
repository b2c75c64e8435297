"""The scheduler as a process: started when something waits and none lives, gone when nothing is left to do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from launcher.batch_queues.scheduler import Scheduler
from launcher.errors import LauncherError
from launcher.jobs.batch import BatchHome
from launcher.terminal import say_error

_TICK_SECONDS = 0.2
_WAITING_SECONDS = 1.0  # where nothing runs, but a service job waits for capacity that there is not


def ensure_scheduler(home: Path) -> None:
    """Start a scheduler that outlives this process, unless there is one.

    The lock that only one of them holds is taken here and handed to the new process. Call it after the service job was
    recorded: a scheduler looks at the records once more before it gives the lock back.
    """
    batch = BatchHome(home)
    try:
        descriptor = os.open(batch.scheduler_lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _start(batch, descriptor)
        except BlockingIOError:
            return  # there is one
        finally:
            os.close(descriptor)
    except OSError as error:  # the service job is recorded; whoever asks for it next starts one
        say_error(f"no scheduler of service jobs could be started: {error}")


def run(home: Path, descriptor: int) -> None:
    """Be that process.

    Args:
        home: ``LAUNCHER_HOME``.
        descriptor: of the locked file.
    """
    batch = BatchHome(home)
    scheduler = Scheduler(home)
    while batch.jobs.path.is_dir():
        try:
            scheduler.tick()
            with batch.changing():
                if scheduler.is_idle():
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # before another service job can be recorded
                    return
        except (OSError, LauncherError) as error:  # such as a full disk
            say_error(str(error))
            time.sleep(_WAITING_SECONDS)
        time.sleep(_WAITING_SECONDS if scheduler.is_waiting() else _TICK_SECONDS)


def _start(batch: BatchHome, descriptor: int) -> None:
    with batch.scheduler_log_path.open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "launcher.batch_queues", str(batch.home), str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[descriptor],
            cwd="/",
            env={
                **os.environ,
                "LAUNCHER_HOME": str(batch.home),
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            },
        )
