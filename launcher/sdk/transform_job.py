"""A transform job that was submitted, by whichever process: its description, log, progress and outputs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from launcher.errors import JobFailedError
from launcher.jobs.record import TransformRecord
from launcher.jobs.states import Status
from launcher.jobs.store import TransformStore
from launcher.requests.transform import describe_transform
from launcher.running.driving import drive, drive_detached
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.runtimes import Runtime
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text, print_line


class TransformJob:
    """A handle on one transform job; all it knows is read from the job's record.

    Args:
        name: the job.
        store: the home it lives in; None takes ``LAUNCHER_HOME``.
        runtime: None takes the one it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: TransformStore | None = None, runtime: Runtime | None = None) -> None:
        self._store = store or TransformStore(home_path())
        self._runtime = runtime
        self.name = name
        self._store.load(name)

    @property
    def job_name(self) -> str:
        """The name again, under the SDK's other word for it."""
        return self.name

    @property
    def status(self) -> str:
        """``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or ``Stopped``."""
        return str(self._record.status)

    @property
    def failure_reason(self) -> str:
        """Why it failed; empty when it did not."""
        return self._record.failure_reason

    @property
    def output_path(self) -> str:
        """The prefix that its outputs are below, as a URI."""
        return self._record.transform_spec.output_uri

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

    @property
    def progress(self) -> dict[str, float]:
        """How far it is: objects, done, failed, records, records a second; empty before it has begun."""
        try:
            facts: dict[str, float] = json.loads((self.path / "progress.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return facts

    @property
    def counts(self) -> dict[str, int]:
        """What was counted when it ended: objects, failed, skipped, records, bytes_out; requests, retried, bytes_in."""
        return dict(self._record.done)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTransformJob returns, in boto3's types."""
        return describe_transform(self._record)

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
        raise_unless_completed(self._store, record)

    def detach(self) -> None:
        """Have a process of its own see the job through."""
        drive_detached(self._store, self.name)

    def stop(self, wait: bool = True) -> None:
        """Stop the job, as StopTransformJob does; outputs that are whole stay. Nothing happens when it has ended.

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
        return partial(print_line, hosts=self._record.transform_spec.instance_count)

    @property
    def _record(self) -> TransformRecord:
        return self._store.load(self.name)

    def __repr__(self) -> str:
        return f"TransformJob(name={self.name!r}, status={self.status!r})"


def raise_unless_completed(store: TransformStore, record: TransformRecord) -> None:
    """Raise what a failed job means for its caller; a stopped one is no error, as with SageMaker.

    Raises:
        JobFailedError: with the reason and the last lines of the log.
    """
    if record.status != Status.FAILED:
        return
    name = record.transform_spec.job_name
    log_path = store.folder(name).log_path("algo-1")
    tail = "".join(f"\n    {line}" for line in log_tail(log_path))
    raise JobFailedError(
        neutralised_text(f"transform job '{name}': {masked_text(record.failure_reason)}"),
        neutralised_text(f"Log: {log_path}" + (f", which ends with:{tail}" if tail else "")),
        job_name=name,
        reason=record.failure_reason,
    )
