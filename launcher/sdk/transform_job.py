"""A transform job that was submitted, by whichever process: its description, log, progress and outputs."""

from __future__ import annotations

import json
from typing import Any

from launcher.errors import JobFailedError
from launcher.jobs.record import TransformRecord
from launcher.jobs.states import Status
from launcher.jobs.store import TransformStore
from launcher.requests.transform import describe_transform
from launcher.running.following import log_tail
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text


class TransformJob(JobHandle[TransformRecord]):
    """A handle on one transform job.

    Args:
        name: the job.
        store: the home it lives in; None takes ``LAUNCHER_HOME``.
        runtime: None takes the one it was submitted for.
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

    def _raise_unless_completed(self, record: TransformRecord) -> None:
        if record.status != Status.FAILED:
            return
        tail = "".join(f"\n    {line}" for line in log_tail(self.log_path))
        raise JobFailedError(
            neutralised_text(f"transform job '{self.name}': {masked_text(record.failure_reason)}"),
            neutralised_text(f"Log: {self.log_path}" + (f", which ends with:{tail}" if tail else "")),
            job_name=self.name,
            reason=record.failure_reason,
        )
