"""A tuning job that was submitted, by whichever process: its description, log, training jobs and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError
from launcher.jobs.store import TuningStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import TuningJobSpec
from launcher.remote.client import TUNING
from launcher.requests.for_aws import as_request
from launcher.requests.tuning import OPERATION, best_trial, check_tuning_request
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.sdk.remote_job import RemoteJob
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


class RemoteTuningJob(RemoteJob, TuningJob):  # type: ignore[misc]  # of its notebook view, which is none
    """A handle on a tuning job that runs elsewhere; it has no log, and ``wait`` says how many jobs have ended."""

    remote_kind = TUNING
    noun = "tuning job"

    @property
    def request(self) -> Mapping[str, Any]:
        """The document that would make it again."""
        return as_request(OPERATION, self._first)

    @property
    def spec(self) -> TuningJobSpec:
        """What it was asked to do."""
        return check_tuning_request(self.request)

    @property
    def best_training_job(self) -> TrainingJob | None:
        """The training job with the best objective so far; None where none has a result."""
        from launcher.sdk.remote_training_job import RemoteTrainingJob

        best = self._describe().get("BestTrainingJob", {}).get("TrainingJobName")
        return RemoteTrainingJob(best, self._client) if best else None

    def training_jobs(self) -> list[dict[str, Any]]:
        """Return what ListTrainingJobsForHyperParameterTuningJob returns, the oldest training job first."""
        jobs: list[dict[str, Any]] = []
        page: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Ascending"}
        while True:
            answer = self._client.ask(
                "sagemaker",
                "ListTrainingJobsForHyperParameterTuningJob",
                HyperParameterTuningJobName=self.name,
                **page,
            )
            jobs += answer["TrainingJobSummaries"]
            if not answer.get("NextToken"):
                return jobs
            page["NextToken"] = answer["NextToken"]

    def _news(self, description: Mapping[str, Any]) -> str:
        counters = description.get("TrainingJobStatusCounters", {})
        counts = {
            "completed": counters.get("Completed", 0),
            "in progress": counters.get("InProgress", 0),
            "stopped": counters.get("Stopped", 0),
            "failed": counters.get("NonRetryableError", 0) + counters.get("RetryableError", 0),
        }
        text = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return f"Training jobs: {text}" if text else ""


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
