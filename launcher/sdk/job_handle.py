"""What handles on jobs of every kind have in common."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher.errors import ArtifactError, JobFailedError
from launcher.jobs.record import DrivenRecord
from launcher.jobs.states import Status
from launcher.jobs.store import Store
from launcher.running.driving import drive, drive_detached, take_up
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.runtimes import Runtime
from launcher.sdk.notebook import progress_shown
from launcher.secrets import masked_text
from launcher.storage import Storage
from launcher.terminal import neutralised_text, print_line, say_error

RecordType = TypeVar("RecordType", bound=DrivenRecord)


class JobHandle(Generic[RecordType]):
    """A handle on one job; everything is read from the job's record.

    Whoever asks for the status of a job that has lost its driver, as with a process that was killed, gives it another
    one: a loop that waits for the status to change comes to its end.

    Args:
        name: the job.
        store: the home it lives in.
        runtime: default: the runtime that it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: Store[RecordType], runtime: Runtime | None) -> None:
        self._store = store
        self._runtime = runtime
        self.name = name
        self._said = ""
        self._store.load(name)

    @property
    def job_name(self) -> str:
        """The name again, under the SDK's other word for it."""
        return self.name

    @property
    def announcement(self) -> str:
        """What is said when it goes on without the caller."""
        kind = self._store.kind
        noun = kind.noun.capitalize()
        return f"{noun} {self.name} runs; follow it with: launcher logs -f {self.name} --kind {kind.noun.split()[0]}"

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
        """The file with everything that the first host printed."""
        return self._store.folder(self.name).log_path("algo-1")

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, such as files that could not be packed."""
        return list(self._record.warnings)

    def logs(self) -> str:
        """Return everything that the first host printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def print_logs(self) -> None:
        """Print everything that the hosts printed so far, without control sequences but colours."""
        LogReader(self._store.folder(self.name), self._printer()).read(final=True)

    def describe(self) -> dict[str, Any]:
        """Return what AWS's Describe call returns, in boto3's types."""
        raise NotImplementedError

    def wait(self, logs: bool = True, on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended, and drive it if it has no driver.

        Args:
            logs: whether to print its log.
            on_line: gets every line of the log instead.
            looking_on: whether the caller only wants to see the log.
        Raises:
            JobFailedError: it failed.
        """
        sink = on_line or (self._printer() if logs else None)
        self._raise_unless_completed(self._drive(sink, looking_on=looking_on), log_shown=sink is not None)

    def detach(self) -> None:
        """Leave the job to a process that outlives this one."""
        drive_detached(self._store, self.name)

    def stop(self, wait: bool = True) -> None:
        """Stop the job, as AWS's Stop call does: what it has written is kept. Nothing happens when it has ended.

        Args:
            wait: until it has stopped.
        """
        if self._record.terminal:
            return
        self._store.folder(self.name).request_stop()
        if wait:
            self._drive()
        elif not self._store.folder(self.name).driven():
            self.detach()

    @property
    def _hosts(self) -> int:
        raise NotImplementedError

    def _raise_unless_completed(self, record: RecordType, *, log_shown: bool) -> None:
        """Raise the error of a failed job; a stopped one is no error, as with SageMaker."""
        if record.status != Status.FAILED:
            return
        tail = "".join(f"\n    {line}" for line in log_tail(self.log_path))
        raise JobFailedError(
            neutralised_text(f"{self._store.kind.noun} '{self.name}': {masked_text(self._why_failed(record))}"),
            neutralised_text(f"Log: {self.log_path}" + (f", which ends with:{tail}" if tail else "")),
            job_name=self.name,
            reason=record.failure_reason,
        )

    def _why_failed(self, record: RecordType) -> str:
        return record.failure_reason

    @property
    def _record(self) -> RecordType:
        return self._store.load(self.name)

    def _printer(self) -> LineSink:
        return partial(print_line, hosts=self._hosts)

    def _drive(self, on_line: LineSink | None = None, **options: Any) -> RecordType:
        with progress_shown(self._store, self.name):
            return drive(self._store, self.name, runtime=self._runtime, on_line=on_line, **options)

    def _looked_after(self) -> RecordType:
        """Return the record, and see to it that somebody drives the job."""
        record = self._record
        text = take_up(self._store, self.name, record)
        if text and text != self._said:  # once, however often somebody asks
            say_error(text)
            self._said = text
        return record

    def _repr_html_(self) -> str:
        """Return what a notebook shows: how the job is, with its curves and estimates."""
        from launcher.console.notebook import job_html

        return job_html(self._store.home, self._store.kind.folder, self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, status={str(self._record.status)!r})"


def fetched_folder(storage: Storage, uri: str, copies: Path) -> Path:
    """Return a folder of this machine with what lies below a prefix now.

    Args:
        storage: of the prefix.
        copies: gets files that are in S3; what an earlier call left there is replaced.
    Raises:
        ArtifactError: there is nothing.
    """
    files = storage.files_below(uri.rstrip("/"))
    if not files:
        raise ArtifactError(f"there is nothing at {uri} yet.", "A job's outputs are there when it has ended.")
    if uri.startswith("file://"):
        return storage.fetch(uri, copies)
    shutil.rmtree(copies, ignore_errors=True)
    storage.download_all({inner: copies / name for name, inner in files.items()})
    return copies
