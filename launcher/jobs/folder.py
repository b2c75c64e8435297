"""Every path of one job's folder, the right to drive the job, and the bytes kept back for a full disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.errors import JobNotFoundError, OutputPathError
from launcher.jobs.spec import log_file_name

SPARE_BYTES = 64 << 10
"""What is kept back on the disk for the last record; a longer first record keeps back twice its own length."""


class _Inside:
    """The path of something in a job's folder, made when it is asked for: most users of a folder need two or three."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: JobFolder, _owner: object) -> Path:
        return folder.path / self._name


class JobFolder:
    """Every path of one job, or of a model or endpoint, which have fewer of them.

    Args:
        path: ``<home>/jobs/<job name>``.
        record_file: the name of the record's file.
        noun: what it is, as a person says it.
    """

    lock_path = _Inside("driver.lock")
    driver_log_path = _Inside("driver.log")
    stop_path = _Inside("stop-requested")
    reused_path = _Inside("reused-by")
    metrics_path = _Inside("metrics.jsonl")
    usage_path = _Inside("usage.jsonl")
    launch_path = _Inside("launch.json")
    environment_path = _Inside("environment.json")
    work_path = _Inside("work")
    unpacked_path = _Inside("unpacked")

    def __init__(self, path: Path, record_file: str = "job.json", noun: str = "job") -> None:
        self.path = path
        self.noun = noun
        self.record_path = path / record_file

    @property
    def spare_path(self) -> Path:
        """The room that is kept for the last record."""
        return self.record_path.with_name(f"{self.record_path.name}.spare")

    @property
    def name(self) -> str:
        """The job's name."""
        return self.path.name

    def log_path(self, host: str) -> Path:
        """Return where everything that ``host`` prints is kept."""
        return self.path / log_file_name(host)

    def log_paths(self) -> list[Path]:
        """Return the logs of all hosts that have begun to print, in the order of their names."""
        return sorted(self.path.glob("job*.log"))

    def tree_path(self, host: str) -> Path:
        """Return the folder that ``host`` sees as ``/opt/ml``."""
        return self.work_path / host / "opt_ml"

    def make_work_path(self) -> None:
        """Make the folder that is removed when the job is over; only the caller may enter it."""
        self.work_path.mkdir(exist_ok=True)
        self.work_path.chmod(0o700)

    def stop_requested(self) -> bool:
        """Return whether any process has asked for this job to be stopped."""
        return self.stop_path.exists()

    def request_stop(self) -> None:
        """Ask the job's driver to stop it.

        Raises:
            OutputPathError: the folder cannot be written.
        """
        try:
            self.stop_path.touch()
        except OSError as error:
            raise OutputPathError(
                f"the stop of {self.noun} '{self.name}' cannot be asked for: {self.stop_path}: {error.strerror}.",
                "Make the folder writable, or make room on its disk.",
            ) from error

    def driven(self) -> bool:
        """Return whether a process drives the job at this moment.

        Raises:
            OSError: the lock is there and cannot be looked at.
        """
        return is_locked(self.lock_path)

    @contextmanager
    def driving(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to drive this job; yield whether this process got it. The kernel releases it with the process.

        Args:
            wait: wait until another driver has ended.
        Raises:
            JobNotFoundError: the folder is gone.
            OutputPathError: the folder cannot be written.
        """
        try:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(
                f"the folder of {self.noun} '{self.name}' is gone: {self.path}.", "List the jobs there are: launcher ls"
            ) from None
        except OSError as error:
            raise OutputPathError(
                f"{self.noun} '{self.name}' cannot be driven: {self.lock_path}: {error.strerror}.",
                "Make the folder writable, or act as the user who owns it.",
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                try:
                    yield True
                finally:
                    # Closing is not enough: a forked child of the caller may hold the descriptor as well.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def keep_spare(self, record_bytes: int) -> None:
        """Reserve room on the disk for the last record: a job may fill the disk.

        Args:
            record_bytes: the length of the first record.
        Raises:
            OSError: there is no such room.
        """
        size = max(SPARE_BYTES, 2 * record_bytes)
        descriptor = os.open(self.spare_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, size)
                else:
                    os.write(descriptor, b" " * size)
        finally:
            os.close(descriptor)

    def drop_spare(self) -> None:
        """Give that room back."""
        with contextlib.suppress(OSError):
            self.spare_path.unlink()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file at this moment; False where there is no file.

    Raises:
        OSError: the file is there and cannot be looked at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
