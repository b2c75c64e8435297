"""A submitted training job, whichever process began it: its description, log, metrics and results."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import ArtifactError, BadInputError, UnsupportedOptionError
from launcher.jobs.metrics import read_metric_csv
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import JobKeys, job_keys
from launcher.jobs.store import JobStore, Store
from launcher.requests.describe import describe_record
from launcher.running import artifacts
from launcher.running.driving import raise_unless_completed
from launcher.running.following import LineSink
from launcher.running.warm_pools import warm_pool_status
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.settings import home_path
from launcher.storage import recorded_storage
from launcher.terminal import say

if TYPE_CHECKING:
    import pandas as pd

    from launcher.console.reading import Estimates


class JobOutputs:
    """A job's results as folders; an archive is unpacked when it is first asked for.

    Args:
        store: the home of the job.
        name: the job.
    """

    def __init__(self, store: Store[JobRecord], name: str) -> None:
        self.home = store.home
        self._folder = store.folder(name)
        self._spec = store.load(name).training_spec
        self._store = store
        self._keys = job_keys(self._spec)

    @property
    def job_name(self) -> str:
        """The job whose results they are."""
        return self._folder.name

    @property
    def status(self) -> str:
        """The job's status."""
        return str(self._store.load(self.job_name).status)

    def has(self, part: str) -> bool:
        """Return whether the job has left something of a part."""
        uri: str = getattr(self._keys, part)
        return recorded_storage(uri, self._spec.s3).exists(uri)

    def part_path(self, part: str) -> Path:
        """Return the folder of one part: ``model``, ``output`` (the output data) or ``intermediate``."""
        paths = {"model": "model_path", "output": "data_path", "intermediate": "intermediate_path"}
        path: Path = getattr(self, paths[part])
        return path

    def files(self, part: str) -> list[tuple[str, int]]:
        """Return path and size in bytes of each file of a part; nothing is unpacked, and none is no error."""
        uri: str = getattr(self._keys, part)
        storage = recorded_storage(uri, self._spec.s3)
        if not storage.exists(uri):
            return []
        if part == "intermediate":
            folder = self.intermediate_path
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
        with tempfile.TemporaryDirectory(prefix="launcher-") as fetched:
            return artifacts.list_files(storage.fetch(uri, Path(fetched)))

    def size(self, part: str) -> int:
        """Return the bytes of the archive of ``model`` or ``output``, wherever it is; 0 where there is none."""
        uri: str = getattr(self._keys, part)
        return recorded_storage(uri, self._spec.s3).size(uri) or 0

    def has_intermediate(self, name: str) -> bool:
        """Return whether the job has written something of that name to ``/opt/ml/output/intermediate``."""
        uri = f"{self._keys.intermediate}/{name}"
        return recorded_storage(uri, self._spec.s3).exists(uri)

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
        storage = recorded_storage(uri, self._spec.s3)
        if not storage.exists(uri):
            raise ArtifactError(
                f"job '{self._folder.name}' has written nothing to /opt/ml/output/intermediate.",
                f"It has ended. What patterns found in its log: launcher metrics {self.job_name}"
                if self._store.load(self.job_name).terminal
                else "A running job's files arrive there a second after they were written.",
            )
        return storage.fetch(uri, self._folder.unpacked_path / "intermediate")

    def _unpacked(self, part: str, uri: str) -> Path:
        target = self._folder.unpacked_path / part
        if not target.exists():
            storage = recorded_storage(uri, self._spec.s3)
            if not storage.exists(uri):
                raise ArtifactError(f"job '{self._folder.name}' left no {uri.rsplit('/', 1)[1]}.", "Read its log.")
            self._folder.unpacked_path.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{part}-", dir=self._folder.unpacked_path) as fetched:
                try:
                    artifacts.unpack(storage.fetch(uri, Path(fetched)), target)
                except ArtifactError:
                    if not target.exists():  # else another process was the first to unpack it
                        raise
        return target


class TrainingJob(JobHandle[JobRecord]):
    """A handle on one training job.

    Args:
        store: the home it lives in; default: ``LAUNCHER_HOME``.
        name, runtime: as of ``JobHandle``.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: JobStore | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(name, store or JobStore(home_path()), runtime)

    @property
    def keys(self) -> JobKeys:
        """Where its results are."""
        return job_keys(self._record.training_spec)

    command_options = ""
    """What a command line needs besides its name to mean this job."""

    @property
    def announcement(self) -> str:
        """What ``fit`` says when it has submitted it."""
        return f"Training job {self.name} in {self.path}"

    @property
    def model_data(self) -> str:
        """The URI of ``model.tar.gz``."""
        return self.keys.model

    @property
    def image_uri(self) -> str | None:
        """The image that it ran in; None for the bundled one, and where the runtime ran its code without an image."""
        return self._record.training_spec.image_uri

    @property
    def entry_point(self) -> str | None:
        """The script that it ran; None for an image's own program."""
        return self._record.training_spec.entry_point

    @property
    def outputs(self) -> JobOutputs:
        """Its results as folders."""
        return JobOutputs(self._store, self.name)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob returns, in boto3's types."""
        record = self._looked_after()
        return {**describe_record(record), **warm_pool_status(self._store, record)}

    def metrics(self) -> pd.DataFrame:
        """Return the metric CSV as far as it is written, a row an epoch."""
        return read_metric_csv(self.outputs.intermediate_path)

    def estimates(self) -> PolicyEstimates:
        """Return the estimates of the policy's value that batch_rl wrote, as far as it has come.

        Raises:
            BadInputError: there are none, or they are on another S3 than the one that is built in.
        """
        from launcher.console.reading import read_estimates

        estimates = read_estimates(self._record, self._store.home)
        if estimates is None or not estimates.values:
            raise BadInputError(
                f"job '{self.name}' has no estimates of a policy's value.",
                "Offline training writes them after its first epoch. On another S3, read them with metrics().",
            )
        return PolicyEstimates(estimates)

    def wait(self, logs: str | bool = "All", on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended, and drive it if it has no driver.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
            looking_on: whether the caller only wants to see the log.
        Raises:
            JobFailedError: it failed.
        """
        printed = self._printer() if logs_wanted(logs) else None
        sink = on_line or printed
        record = self._drive(sink, looking_on=looking_on)
        if printed is not None and record.training_spec.spot is not None:
            say_savings(describe_record(record))
        raise_unless_completed(self._store, record, log_shown=sink is not None)

    @property
    def _hosts(self) -> int:
        return self._record.training_spec.instance_count


class PolicyEstimates:
    """What a policy is worth by each estimator, with intervals: a table as text, a picture in a notebook.

    Args:
        estimates: as the job's metric file holds them.

    Attributes:
        logged: what the policy is worth that logged the data; None where the job does not say.
    """

    def __init__(self, estimates: Estimates) -> None:
        self._estimates = estimates
        self.logged = estimates.baseline

    def table(self) -> pd.DataFrame:
        """Return the last value of each estimator, in discounted reward per episode, and the ends of its interval."""
        import pandas as pd

        rows = [
            (
                curve.name,
                curve.x[-1],
                curve.y[-1],
                *((curve.lower[-1], curve.upper[-1]) if curve.lower else (None, None)),
            )
            for curve in self._estimates.values
        ]
        return pd.DataFrame(rows, columns=["estimator", "epoch", "value", "lower", "upper"])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from launcher.console.notebook import estimates_html

        return estimates_html(self._estimates)

    def __repr__(self) -> str:
        return f"{self.table().to_string(index=False)}\nlogged policy: {self.logged}"


def say_savings(description: Mapping[str, Any]) -> None:
    """Say what a job took and is billed, in the words of SageMaker's SDK; nothing for one that never ran."""
    if "TrainingTimeInSeconds" not in description:
        return
    resources = description["ResourceConfig"]
    groups = resources.get("InstanceGroups", ())
    hosts = sum(group["InstanceCount"] for group in groups) or resources["InstanceCount"]
    trained, billed = description["TrainingTimeInSeconds"], description["BillableTimeInSeconds"]
    say(f"Training seconds: {trained * hosts}")
    say(f"Billable seconds: {billed * hosts}")
    if description.get("EnableManagedSpotTraining"):
        say(f"Managed Spot Training savings: {(1 - billed / trained) * 100:.1f}%")


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
