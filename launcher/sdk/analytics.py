"""The metrics that a job printed, and the results of a tuning job, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from launcher.errors import UnsupportedOptionError
from launcher.jobs.metrics import MetricPoint, points_table, read_points
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob
from launcher.sdk.tuning_job import tuning_job
from launcher.settings import AWS_MODE

if TYPE_CHECKING:
    import pandas as pd


_AWS_PERIOD_SECONDS = 60


class TrainingJobAnalytics:
    """The metrics of a job, with the SDK's arguments.

    Every value that the log held is there, not a mean by the minute. Of a job on AWS there is what CloudWatch has: a
    mean for each period.

    Args:
        training_job_name: the job.
        metric_names: default: all metrics.
        start_time: earlier values are left out.
        end_time: later values are left out.
        sagemaker_session: with the mode ``aws``, the job is one on AWS.
        period: in seconds, of a job on AWS alone; default: 60.
    Raises:
        UnsupportedOptionError: ``period`` was given for a job of this machine.
    """

    CLOUDWATCH_NAMESPACE = "/aws/sagemaker/TrainingJobs"

    def __init__(
        self,
        training_job_name: str,
        metric_names: Sequence[str] | None = None,
        sagemaker_session: object | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        period: int | None = None,
    ) -> None:
        session = check_session(sagemaker_session, "TrainingJobAnalytics")
        self._session = session if session is not None and session.mode == AWS_MODE else None
        if period is not None and self._session is None:
            raise UnsupportedOptionError(
                "TrainingJobAnalytics(period=...) is not emulated.",
                "Leave it out: the table holds every value, without averaging.",
            )
        self._period = period or _AWS_PERIOD_SECONDS
        self._job = self._session._training_job(training_job_name) if self._session else TrainingJob(training_job_name)
        self._metric_names = metric_names
        self._start, self._end = start_time, end_time
        self._table: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """The job's name."""
        return self._job.name

    def dataframe(self, force_refresh: bool = False) -> pd.DataFrame:
        """Return columns ``timestamp`` (seconds since the first point), ``metric_name`` and ``value``."""
        if self._table is None or force_refresh:
            first = self._start.timestamp() if self._start else float("-inf")
            last = self._end.timestamp() if self._end else float("inf")
            points = self._points()
            self._table = points_table(
                [point for point in points if first <= point.timestamp <= last], self._metric_names
            )
        return self._table

    def _points(self) -> list[MetricPoint]:
        if self._session is None:
            return read_points(self._job._store.folder(self.name).metrics_path)
        return _cloudwatch_points(self._session, self._job.describe(), self.CLOUDWATCH_NAMESPACE, self._period)

    def export_csv(self, filename: str) -> None:
        """Write the table as CSV."""
        self.dataframe().to_csv(filename)

    def clear_cache(self) -> None:
        """Read the metrics again next time."""
        self._table = None


class HyperparameterTuningJobAnalytics:
    """The training jobs of a tuning job as a table, with the SDK's arguments.

    Args:
        hyperparameter_tuning_job_name: the tuning job.
        sagemaker_session: with the mode ``aws``, the tuning job is one on AWS.
    Raises:
        TuningJobNotFoundError: there is no such tuning job.
    """

    def __init__(self, hyperparameter_tuning_job_name: str, sagemaker_session: object | None = None) -> None:
        session = check_session(sagemaker_session, "HyperparameterTuningJobAnalytics")
        self._job = tuning_job(hyperparameter_tuning_job_name, session)
        self._table: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """The tuning job's name."""
        return self._job.name

    @property
    def tuning_ranges(self) -> dict[str, Any]:
        """The ranges of the hyperparameters that are tuned, by name; by definition first where there are several."""
        description = self.description()
        if "TrainingJobDefinition" in description:
            return _by_name(description["HyperParameterTuningJobConfig"]["ParameterRanges"])
        definitions = description["TrainingJobDefinitions"]
        return {entry["DefinitionName"]: _by_name(entry["HyperParameterRanges"]) for entry in definitions}

    def description(self, force_refresh: bool = False) -> dict[str, Any]:
        """Return what DescribeHyperParameterTuningJob returns; it is read again each time."""
        return self._job.describe()

    def training_job_summaries(self, force_refresh: bool = False) -> list[dict[str, Any]]:
        """Return what ListTrainingJobsForHyperParameterTuningJob returns; it is read again each time."""
        return self._job.training_jobs()

    def dataframe(self, force_refresh: bool = False) -> pd.DataFrame:
        """Return a row for each training job: its values, name, status, FinalObjectiveValue and times."""
        if self._table is None or force_refresh:
            self._table = self._job.dataframe()
        return self._table

    def export_csv(self, filename: str) -> None:
        """Write the table as CSV."""
        self.dataframe().to_csv(filename)

    def clear_cache(self) -> None:
        """Read the results again next time."""
        self._table = None


def _by_name(ranges: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {entry["Name"]: entry for listed in ranges.values() for entry in listed}


def _cloudwatch_points(
    session: Session, description: Mapping[str, Any], namespace: str, period_seconds: int
) -> list[MetricPoint]:
    """Return the mean of each period of each metric of a job on AWS, in the order of their times."""
    name = description["TrainingJobName"]
    margin = timedelta(seconds=period_seconds)
    points = []
    for definition in description["AlgorithmSpecification"].get("MetricDefinitions", ()):
        answer = session.wire.ask(
            "cloudwatch",
            "GetMetricStatistics",
            Namespace=namespace,
            MetricName=definition["Name"],
            Dimensions=[{"Name": "TrainingJobName", "Value": name}],
            StartTime=description["CreationTime"] - margin,
            EndTime=description.get("TrainingEndTime", datetime.now(UTC)) + margin,
            Period=period_seconds,
            Statistics=["Average"],
        )
        points += [
            MetricPoint(point["Timestamp"].timestamp(), definition["Name"], point["Average"])
            for point in answer["Datapoints"]
        ]
    return sorted(points, key=lambda point: point.timestamp)
