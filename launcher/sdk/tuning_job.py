"""A tuning job that was submitted, by whichever process: its description, log, training jobs and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError
from launcher.jobs.store import TuningStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import TuningJobSpec
from launcher.requests.tuning import best_trial
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.sdk.session import Session
from launcher.sdk.training_job import TrainingJob
from launcher.settings import AWS_MODE, home_path
from launcher.tuning import service

if TYPE_CHECKING:
    import pandas as pd


class TuningJob(JobHandle[TuningRecord]):
    """A handle on one tuning job, whose log has a line for each training job that begins, is stopped early, or ends.

    Args:
        store: the home it lives in; default: ``LAUNCHER_HOME``.
        name, runtime: as of ``JobHandle``; the runtime is that of its training jobs.
    Raises:
        TuningJobNotFoundError: there is no such tuning job.
    """

    def __init__(self, name: str, store: TuningStore | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(name, store or TuningStore(home_path()), runtime)

    @property
    def announcement(self) -> str:
        """What ``fit`` says when it has submitted it."""
        return f"Tuning job {self.name} in {self.path}"

    @property
    def request(self) -> Mapping[str, Any]:
        """The document that it was made of."""
        return self._record.request

    @property
    def spec(self) -> TuningJobSpec:
        """What it was asked to do."""
        return self._record.tuning_spec

    @property
    def best_training_job(self) -> TrainingJob | None:
        """The training job with the best objective so far; None where none has a result."""
        record = self._record
        best = best_trial(record.tuning_spec, record.trials)
        return TrainingJob(best.job) if best else None

    def describe(self) -> dict[str, Any]:
        """Return what DescribeHyperParameterTuningJob returns, in boto3's types."""
        self._looked_after()
        return service.describe(self._store, self.name)

    def training_jobs(self) -> list[dict[str, Any]]:
        """Return what ListTrainingJobsForHyperParameterTuningJob returns, the oldest training job first."""
        return service.list_training_jobs(self._store, self.name)

    def dataframe(self) -> pd.DataFrame:
        """Return a row for each training job: its values, name, status, objective and times, as the SDK has them."""
        import pandas as pd

        return pd.DataFrame([_row(summary) for summary in self.training_jobs()])

    @property
    def _hosts(self) -> int:
        return 1  # the driver's own log

    def _why_failed(self, record: TuningRecord) -> str:
        """Return the reason, with the failure of the last training job."""
        failures = [trial for trial in record.trials if trial.failure]
        return record.failure_reason + (f"\n    {failures[-1].job}: {failures[-1].failure}" if failures else "")


def tuning_job(name: str, session: Session | None = None) -> TuningJob:
    """Return a handle on a tuning job.

    Args:
        session: with the mode ``aws``, the job is one on AWS.
    Raises:
        BadInputError: the name is no text.
        TuningJobNotFoundError: there is no such tuning job.
    """
    if not isinstance(name, str) or not name:
        raise BadInputError(f"the tuning job {name!r} is no name.", "List them with: launcher ls --kind tuning")
    if session is not None and session.mode == AWS_MODE:
        from launcher.sdk.remote_jobs import RemoteTuningJob

        return RemoteTuningJob(name, session.wire)
    return TuningJob(name)


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, text in summary["TunedHyperParameters"].items():
        try:
            row[name] = float(text)
        except ValueError:
            row[name] = text
    start, end = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    row |= {
        "TrainingJobName": summary["TrainingJobName"],
        "TrainingJobStatus": summary["TrainingJobStatus"],
        "FinalObjectiveValue": summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
        "TrainingStartTime": start,
        "TrainingEndTime": end,
    }
    if start and end:
        row["TrainingElapsedTimeSeconds"] = (end - start).total_seconds()
    if "TrainingJobDefinitionName" in summary:
        row["TrainingJobDefinitionName"] = summary["TrainingJobDefinitionName"]
    return row
