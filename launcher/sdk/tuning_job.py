"""A tuning job that was submitted, by whichever process: its description, log, training jobs and the best of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, JobFailedError
from launcher.jobs.states import Status
from launcher.jobs.store import Store, TuningStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.requests.tuning import best_trial
from launcher.running.following import LineSink, log_tail
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.sdk.training_job import TrainingJob
from launcher.secrets import masked_text
from launcher.settings import home_path
from launcher.terminal import neutralised_text
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

    def wait(self, logs: bool = True, on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the tuning job until it has ended, and drive it if it has no driver.

        Args:
            logs: whether to print its log.
            on_line: gets every line of the log instead.
            looking_on: whether the caller only wants to see the log.
        Raises:
            JobFailedError: it failed.
        """
        printed = self._printer() if logs else None
        raise_unless_completed(self._store, self._drive(on_line or printed, looking_on=looking_on))

    @property
    def _hosts(self) -> int:
        return 1  # the driver's own log


def raise_unless_completed(store: Store[TuningRecord], record: TuningRecord) -> None:
    """Raise the error of a failed tuning job; a stopped one is no error, as with SageMaker.

    Raises:
        JobFailedError: with the reason, and the failure of the last training job.
    """
    if record.status != Status.FAILED:
        return
    name = record.tuning_spec.job_name
    failures = [trial for trial in record.trials if trial.failure]
    last = f"\n    {failures[-1].job}: {failures[-1].failure}" if failures else ""
    tail = "".join(f"\n    {line}" for line in log_tail(store.folder(name).log_path("algo-1"))[-3:])
    raise JobFailedError(
        neutralised_text(f"tuning job '{name}': {masked_text(record.failure_reason)}{masked_text(last)}"),
        neutralised_text(f"Log: {store.folder(name).log_path('algo-1')}, which ends with:{tail}"),
        job_name=name,
        reason=record.failure_reason,
    )


def tuning_job(name: str) -> TuningJob:
    """Return a handle on a tuning job.

    Raises:
        BadInputError: the name is no text.
        TuningJobNotFoundError: there is no such tuning job.
    """
    if not isinstance(name, str) or not name:
        raise BadInputError(f"the tuning job {name!r} is no name.", "List them with: launcher ls --kind tuning")
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
