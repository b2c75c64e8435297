"""A training job that was submitted, by whichever process: its description, log, metrics and results."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import artifacts
from launcher.errors import ArtifactError, UnsupportedOptionError
from launcher.jobs import JobRecord, JobStore, utc
from launcher.metrics import points_table, read_metric_csv, read_points
from launcher.plan import JobKeys, job_keys
from launcher.runner import LineSink, drive, drive_detached, job_storage, raise_unless_completed
from launcher.runtimes import Runtime
from launcher.session import check_session
from launcher.settings import LOCAL_ROLE_ARN, home_path, training_job_arn

if TYPE_CHECKING:
    import pandas as pd


class JobOutputs:
    """A job's results as folders; an archive is unpacked when it is first asked for.

    Args:
        store: the home of the job.
        name: the job.
    """

    def __init__(self, store: JobStore, name: str) -> None:
        self._folder = store.folder(name)
        self._spec = store.load(name).training_spec
        self._keys = job_keys(self._spec)

    @property
    def model_path(self) -> Path:
        """What the job left in ``/opt/ml/model``."""
        return self._unpacked("model", self._keys.model)

    @property
    def data_path(self) -> Path:
        """What the job left in ``/opt/ml/output/data``."""
        return self._unpacked("output", self._keys.output)

    @property
    def intermediate_path(self) -> Path:
        """What the job wrote to ``/opt/ml/output/intermediate`` while it ran."""
        uri = self._keys.intermediate
        storage = job_storage(self._spec, uri)
        if not storage.exists(uri):
            raise ArtifactError(
                f"job '{self._folder.name}' has written nothing to /opt/ml/output/intermediate.",
                "A running job's files arrive there a second after they were written.",
            )
        return storage.fetch(uri, self._folder.unpacked_path / "intermediate")

    def _unpacked(self, what: str, uri: str) -> Path:
        target = self._folder.unpacked_path / what
        if not target.exists():
            storage = job_storage(self._spec, uri)
            if not storage.exists(uri):
                raise ArtifactError(f"job '{self._folder.name}' left no {uri.rsplit('/', 1)[1]}.", "Read its log.")
            fetched = self._folder.unpacked_path / f".{what}-archive"
            artifacts.unpack(storage.fetch(uri, fetched), target)
            shutil.rmtree(fetched, ignore_errors=True)
        return target


class TrainingJob:
    """A handle on one job; all it knows is read from the job's record.

    Args:
        name: the job.
        store: the home it lives in; None takes ``LAUNCHER_HOME``.
        runtime: None takes the one it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: JobStore | None = None, runtime: Runtime | None = None) -> None:
        self._store = store or JobStore(home_path())
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
        return self._record.status

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
    def keys(self) -> JobKeys:
        """Where its results are."""
        return job_keys(self._record.training_spec)

    @property
    def model_data(self) -> str:
        """The URI of ``model.tar.gz``."""
        return self.keys.model

    @property
    def outputs(self) -> JobOutputs:
        """Its results as folders."""
        return JobOutputs(self._store, self.name)

    @property
    def warnings(self) -> list[str]:
        """What its user should know, such as files that could not be packed."""
        return list(self._record.warnings)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob returns, in boto3's types."""
        return describe_record(self._record)

    def logs(self) -> str:
        """Return everything that the first host printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def metrics(self) -> pd.DataFrame:
        """Return the metric CSV as far as it is written, a row an epoch."""
        return read_metric_csv(self.outputs.intermediate_path)

    def wait(self, logs: str | bool = "All", on_line: LineSink | None = None) -> None:
        """Follow the job until it has ended, and take it up if nobody drives it any more.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
        Raises:
            JobFailedError: it failed.
        """
        hosts = self._record.training_spec.instance_count
        printed: LineSink | None = partial(print_line, hosts=hosts) if logs_wanted(logs) else None
        record = drive(self._store, self.name, runtime=self._runtime, on_line=on_line or printed)
        raise_unless_completed(self._store, record)

    def detach(self) -> None:
        """Have a process of its own see the job through."""
        drive_detached(self._store, self.name)

    def stop(self) -> None:
        """Stop the job, as StopTrainingJob does, and wait until it has ended; nothing happens when it has already."""
        if not self._record.terminal:
            self._store.folder(self.name).request_stop()
            drive(self._store, self.name, runtime=self._runtime)

    @property
    def _record(self) -> JobRecord:
        return self._store.load(self.name)

    def __repr__(self) -> str:
        return f"TrainingJob(name={self.name!r}, status={self.status!r})"


class TrainingJobAnalytics:
    """The metrics of a job, with the SDK's arguments.

    Every value that the log held is there, not a mean by the minute.

    Args:
        training_job_name: the job.
        metric_names: which; None takes all.
        start_time: leave out what came before.
        end_time: leave out what came after.
        period: not emulated.
    Raises:
        UnsupportedOptionError: ``period`` was given.
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
        check_session(sagemaker_session, "TrainingJobAnalytics")
        if period is not None:
            raise UnsupportedOptionError(
                "TrainingJobAnalytics(period=...) is not emulated.",
                "Leave it out: the table holds every value, without averaging.",
            )
        self._job = TrainingJob(training_job_name)
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
            points = read_points(self._job._store.folder(self.name).metrics_path)
            self._table = points_table([one for one in points if first <= one.timestamp <= last], self._metric_names)
        return self._table

    def export_csv(self, filename: str) -> None:
        """Write the table as CSV."""
        self.dataframe().to_csv(filename)

    def clear_cache(self) -> None:
        """Read the metrics again next time."""
        self._table = None


def logs_wanted(logs: str | bool) -> bool:
    """Return whether the job's log is to be printed, by the SDK's values.

    Raises:
        UnsupportedOptionError: the logs of rules are wanted.
    """
    if logs in ("All", "Training", True):
        return True
    if logs in ("None", False, None):
        return False
    raise UnsupportedOptionError(f"logs={logs!r} is not emulated.", 'Use "All", "Training", "None", True or False.')


def print_line(host: str, line: str, hosts: int = 1) -> None:
    """Print one line of a job's log, with its host when there are several, and no control sequence but colours."""
    prefix = f"{host} | " if hosts > 1 else ""
    sys.stdout.write(prefix + neutralised(line) + "\n")
    sys.stdout.flush()


def neutralised(line: str) -> str:
    """Return a log line that cannot move a terminal's cursor or change its title; of a progress bar, its last state."""
    if line.isprintable():
        return line
    last = line.rsplit("\r", 1)[-1]
    parts = last.split("\x1b")
    safe = [parts[0]]
    for part in parts[1:]:
        end = part.find("m")
        colour = part.startswith("[") and end > 0 and all(one.isdigit() or one == ";" for one in part[1:end])
        safe.append(f"\x1b{part}" if colour else f"^[{part}")
    return "".join(
        one if one.isprintable() or one in "\t\x1b" else "\N{REPLACEMENT CHARACTER}" for one in "".join(safe)
    )


def describe_record(record: JobRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeTrainingJob's answer."""
    spec = record.training_spec
    keys = job_keys(spec)
    algorithm: dict[str, Any] = {
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": one.name, "Regex": one.regex} for one in spec.metric_definitions],
    }
    if spec.image_uri:
        algorithm["TrainingImage"] = spec.image_uri
    if spec.container_entry_point:
        algorithm["ContainerEntrypoint"] = list(spec.container_entry_point)
    if spec.container_arguments:
        algorithm["ContainerArguments"] = list(spec.container_arguments)
    answer: dict[str, Any] = {
        "TrainingJobName": spec.job_name,
        "TrainingJobArn": training_job_arn(spec.job_name),
        "ModelArtifacts": {"S3ModelArtifacts": keys.model},
        "TrainingJobStatus": record.status,
        "SecondaryStatus": record.secondary_status,
        "HyperParameters": dict(spec.hyperparameters),
        "AlgorithmSpecification": algorithm,
        "RoleArn": spec.role or LOCAL_ROLE_ARN,
        "InputDataConfig": [
            {
                "ChannelName": channel.name,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": channel.s3_data_type,
                        "S3Uri": channel.uri,
                        "S3DataDistributionType": channel.distribution,
                    }
                },
                **({"ContentType": channel.content_type} if channel.content_type else {}),
                "CompressionType": channel.compression,
                "RecordWrapperType": channel.record_wrapping,
            }
            for channel in spec.channels
        ],
        "OutputDataConfig": {"S3OutputPath": spec.output_uri, "KmsKeyId": "", "CompressionType": "GZIP"},
        "ResourceConfig": {
            "InstanceType": spec.instance_type,
            "InstanceCount": spec.instance_count,
            "VolumeSizeInGB": spec.volume_size_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_run_seconds},
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "SecondaryStatusTransitions": [
            {
                "Status": one.status,
                "StartTime": utc(one.start),
                **({"EndTime": utc(one.end)} if one.end is not None else {}),
                "StatusMessage": one.message,
            }
            for one in record.transitions
        ],
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": utc(seconds)}
            for name, value, seconds in record.final_metrics
        ],
        "EnableNetworkIsolation": spec.enable_network_isolation,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "Environment": dict(spec.environment),
        "ProfilingStatus": "Disabled",
    }
    if spec.checkpoint_config is not None:
        answer["CheckpointConfig"] = {
            "S3Uri": spec.checkpoint_config.s3_uri,
            "LocalPath": spec.checkpoint_config.local_path,
        }
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    if record.started is not None:
        answer["TrainingStartTime"] = utc(record.started)
    if record.ended is not None:
        answer["TrainingEndTime"] = utc(record.ended)
        if record.started is not None:
            seconds = max(1, round(record.ended - record.started))
            answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return answer
