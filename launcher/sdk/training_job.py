"""A submitted training job, whichever process began it: its description, log, metrics and results."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import ArtifactError, UnsupportedOptionError
from launcher.jobs.metrics import read_metric_csv
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import JobKeys, job_keys
from launcher.jobs.store import JobStore
from launcher.requests.describe import describe_record
from launcher.running import artifacts
from launcher.running.driving import drive, drive_detached, raise_unless_completed, take_up
from launcher.running.following import LineSink, LogReader
from launcher.running.runner import job_storage
from launcher.runtimes import Runtime
from launcher.settings import home_path
from launcher.terminal import print_line, say_error

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


class TrainingJob:
    """A handle on one job; everything is read from the job's record.

    Whoever asks for the status of a job that has lost its driver, as with a process that was killed, gives it another
    one: a loop that waits for the status to change comes to its end.

    Args:
        name: the job.
        store: the home it lives in; default: ``LAUNCHER_HOME``.
        runtime: default: the runtime that it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: JobStore | None = None, runtime: Runtime | None = None) -> None:
        self._store = store or JobStore(home_path())
        self._runtime = runtime
        self.name = name
        self._said = ""
        self._store.load(name)

    @property
    def job_name(self) -> str:
        """The name again, under the SDK's other word for it."""
        return self.name

    @property
    def status(self) -> str:
        """``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or ``Stopped``."""
        return str(self._looked_after().status)

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
    def image_uri(self) -> str | None:
        """The image that it ran in; None for the bundled one, and where the runtime ran its code without an image."""
        return self._record.training_spec.image_uri

    @property
    def outputs(self) -> JobOutputs:
        """Its results as folders."""
        return JobOutputs(self._store, self.name)

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, such as files that could not be packed."""
        return list(self._record.warnings)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob returns, in boto3's types."""
        return describe_record(self._looked_after())

    def logs(self) -> str:
        """Return everything that the first host printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def print_logs(self) -> None:
        """Print everything that the hosts printed so far, without control sequences but colours."""
        on_line = partial(print_line, hosts=self._record.training_spec.instance_count)
        LogReader(self._store.folder(self.name), on_line).read(final=True)

    def metrics(self) -> pd.DataFrame:
        """Return the metric CSV as far as it is written, a row an epoch."""
        return read_metric_csv(self.outputs.intermediate_path)

    def wait(self, logs: str | bool = "All", on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended, and drive it if it has no driver.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
            looking_on: whether the caller only wants to see the log.
        Raises:
            JobFailedError: it failed.
        """
        hosts = self._record.training_spec.instance_count
        printed: LineSink | None = partial(print_line, hosts=hosts) if logs_wanted(logs) else None
        record = drive(self._store, self.name, runtime=self._runtime, on_line=on_line or printed, looking_on=looking_on)
        raise_unless_completed(self._store, record)

    def detach(self) -> None:
        """Leave the job to a process that outlives this one."""
        drive_detached(self._store, self.name)

    def stop(self) -> None:
        """Stop the job, as StopTrainingJob does, and wait until it has ended; nothing happens when it has already."""
        if not self._record.terminal:
            self._store.folder(self.name).request_stop()
            drive(self._store, self.name, runtime=self._runtime)

    @property
    def _record(self) -> JobRecord:
        return self._store.load(self.name)

    def _looked_after(self) -> JobRecord:
        """Return the record, and see to it that somebody drives the job."""
        record = self._record
        text = take_up(self._store, self.name, record)
        if text and text != self._said:  # once, however often somebody asks
            say_error(text)
            self._said = text
        return record

    def __repr__(self) -> str:
        return f"TrainingJob(name={self.name!r}, status={str(self._record.status)!r})"


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
