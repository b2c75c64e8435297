"""A transform job that was submitted, by whichever process: its description, log, progress and outputs."""

from __future__ import annotations

import json
from typing import Any

from launcher.errors import JobFailedError
from launcher.jobs.states import Status
from launcher.jobs.store import Store, TransformStore
from launcher.jobs.transform_record import TransformRecord
from launcher.requests.transform import describe_transform
from launcher.running.following import LineSink, log_tail
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text


class TransformJob(JobHandle[TransformRecord]):
    """A handle on one transform job.

    Args:
        store: the home it lives in; default: ``LAUNCHER_HOME``.
        name, runtime: as of ``JobHandle``.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: TransformStore | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(name, store or TransformStore(home_path()), runtime)

    @property
    def output_path(self) -> str:
        """The prefix that its outputs are below, as a URI."""
        return self._record.transform_spec.output_uri

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
        return describe_transform(self._looked_after())

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
        raise_unless_completed(self._store, self._drive(on_line or printed, looking_on=looking_on))

    @property
    def _hosts(self) -> int:
        return self._record.transform_spec.instance_count


def raise_unless_completed(store: Store[TransformRecord], record: TransformRecord) -> None:
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
