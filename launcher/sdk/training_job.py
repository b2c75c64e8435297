"""A submitted training job, whichever process began it: its description, log, metrics and results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import ArtifactError, UnsupportedOptionError
from launcher.jobs.metrics import read_metric_csv
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import JobKeys, job_keys
from launcher.jobs.store import JobStore, Store
from launcher.requests.describe import describe_record
from launcher.running import artifacts
from launcher.running.driving import raise_unless_completed
from launcher.running.following import LineSink
from launcher.running.runner import job_storage
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle
from launcher.settings import home_path

if TYPE_CHECKING:
    import pandas as pd


class JobOutputs:
    """A job's results as folders; an archive is unpacked when it is first asked for.

    Args:
        store: the home of the job.
        name: the job.
    """

    def __init__(self, store: Store[JobRecord], name: str) -> None:
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

    def _unpacked(self, part: str, uri: str) -> Path:
        target = self._folder.unpacked_path / part
        if not target.exists():
            storage = job_storage(self._spec, uri)
            if not storage.exists(uri):
                raise ArtifactError(f"job '{self._folder.name}' left no {uri.rsplit('/', 1)[1]}.", "Read its log.")
            fetched = self._folder.unpacked_path / f".{part}-archive"
            artifacts.unpack(storage.fetch(uri, fetched), target)
            shutil.rmtree(fetched, ignore_errors=True)
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

    @property
    def model_data(self) -> str:
        """The URI of ``model.tar.gz``."""
        return self.keys.model

    @property
    def image_uri(self) -> str | None:
        """The image that it ran in; None for the bundled one, and where the runtime ran its code without an image."""
        return self._record.training_spec.image_uri

    @property
    def outputs(self) -> JobOutputs:
        """Its results as folders."""
        return JobOutputs(self._store, self.name)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob returns, in boto3's types."""
        return describe_record(self._looked_after())

    def metrics(self) -> pd.DataFrame:
        """Return the metric CSV as far as it is written, a row an epoch."""
        return read_metric_csv(self.outputs.intermediate_path)

    def wait(self, logs: str | bool = "All", on_line: LineSink | None = None) -> None:
        """Follow the job until it has ended, and drive it if it has no driver.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
        Raises:
            JobFailedError: it failed.
        """
        printed = self._printer() if logs_wanted(logs) else None
        raise_unless_completed(self._store, self._drive(on_line or printed))

    @property
    def _hosts(self) -> int:
        return self._record.training_spec.instance_count


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
