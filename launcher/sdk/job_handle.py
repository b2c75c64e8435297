"""What the handles on transform and processing jobs have in common: description, log, end, stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher.jobs.record import DrivenRecord
from launcher.jobs.store import Store
from launcher.running.driving import drive, drive_detached, take_up
from launcher.running.following import LineSink, LogReader
from launcher.runtimes import Runtime
from launcher.terminal import print_line, say_error

_Record = TypeVar("_Record", bound=DrivenRecord)


class JobHandle(ABC, Generic[_Record]):
    """A handle on one job; all it knows is read from the job's record.

    Whoever asks for the status of a job that has lost its driver gives it another one.

    Args:
        name: the job.
        store: the home it lives in.
        runtime: None takes the one it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: Store[_Record], runtime: Runtime | None = None) -> None:
        self._store = store
        self._runtime = runtime
        self.name = name
        self._said = ""
        self._store.load(name)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what the Describe call of its kind returns, in boto3's types."""

    @abstractmethod
    def _raise_unless_completed(self, record: _Record) -> None:
        """Raise what a failed job means for its caller; a stopped one is no error, as with SageMaker.

        Raises:
            JobFailedError: with the reason and the last lines of the log.
        """

    @property
    def job_name(self) -> str:
        """The name again, under the SDK's other word for it."""
        return self.name

    @property
    def status(self) -> str:
        """``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or ``Stopped``."""
        return str(self._looked_after().status)

    @property
    def failure_reason(self) -> str:
        """Why it failed; empty when it did not."""
        return self._record.failure_reason

    @property
    def path(self) -> Path:
        """The job's own folder."""
        return self._store.folder(self.name).path

    @property
    def log_path(self) -> Path:
        """The file with everything that the first container printed."""
        return self._store.folder(self.name).log_path("algo-1")

    @property
    def warnings(self) -> list[str]:
        """What its user should know."""
        return list(self._record.warnings)

    def logs(self) -> str:
        """Return everything that the first container printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def print_logs(self) -> None:
        """Print everything that the containers printed so far."""
        LogReader(self._store.folder(self.name), self._printer()).read(final=True)

    def wait(self, logs: bool = True, on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended, and take it up if nobody drives it any more.

        Args:
            logs: whether to print what the containers print.
            on_line: gets every line of the log instead.
            looking_on: whether the caller only wants to see the log.
        Raises:
            JobFailedError: it failed.
        """
        printed = self._printer() if logs else None
        record = drive(self._store, self.name, runtime=self._runtime, on_line=on_line or printed, looking_on=looking_on)
        self._raise_unless_completed(record)

    def detach(self) -> None:
        """Have a process of its own see the job through."""
        drive_detached(self._store, self.name)

    def stop(self, wait: bool = True) -> None:
        """Stop the job, as the Stop call of its kind does. Nothing happens when it has ended.

        Args:
            wait: until it has stopped.
        """
        if self._record.terminal:
            return
        self._store.folder(self.name).request_stop()
        if wait:
            drive(self._store, self.name, runtime=self._runtime)
        elif not self._store.folder(self.name).driven():
            drive_detached(self._store, self.name)

    def _printer(self) -> LineSink:
        return partial(print_line, hosts=int(self._record.spec.get("instance_count", 1)))

    @property
    def _record(self) -> _Record:
        return self._store.load(self.name)

    def _looked_after(self) -> _Record:
        """Return the record, and see to it that somebody drives the job."""
        record = self._record
        text = take_up(self._store, self.name, record)
        if text and text != self._said:  # once, however often somebody asks
            say_error(text)
            self._said = text
        return record

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, status={str(self._record.status)!r})"
