"""A training job that runs elsewhere, with the calls of one that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError
from launcher.jobs.metrics import read_metric_csv
from launcher.jobs.spec import JobKeys, hyperparameter_text
from launcher.remote.client import TRAINING, WireClient
from launcher.remote.results import fetch_part, result_uris
from launcher.sdk.remote_job import RemoteJob, copies_path
from launcher.sdk.training_job import JobOutputs, TrainingJob, say_savings
from launcher.settings import home_path

if TYPE_CHECKING:
    import pandas as pd

    from launcher.sdk.training_job import PolicyEstimates


class RemoteOutputs(JobOutputs):
    """The results of a job elsewhere, brought here when they are first asked for.

    Args:
        client: of the place.
        name: the job.
    """

    def __init__(self, client: WireClient, name: str) -> None:
        self.home = home_path()
        self._client = client
        self._name = name

    @property
    def job_name(self) -> str:
        """The job whose results they are."""
        return self._name

    @property
    def status(self) -> str:
        """The job's status."""
        return str(self._described["TrainingJobStatus"])

    def has(self, part: str) -> bool:
        """Return whether the job has left something of a part."""
        return self._client.storage.exists(result_uris(self._described)[part])

    def files(self, part: str) -> list[tuple[str, int]]:
        """Return path and size in bytes of each file of a part; an archive is brought here for it."""
        if not self.has(part):
            return []
        folder = self.part_path(part)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
        return [(path.relative_to(folder).as_posix(), path.lstat().st_size) for path in paths]

    def size(self, part: str) -> int:
        """Return the bytes of the archive of ``model`` or ``output``; 0 where there is none."""
        return self._client.storage.size(result_uris(self._described)[part]) or 0

    def has_intermediate(self, name: str) -> bool:
        """Return whether something of that name was copied to the job's intermediate files; AWS copies none."""
        uri = f"{result_uris(self._described)['intermediate']}/{name}"
        return self._client.storage.exists(uri)

    @property
    def model_path(self) -> Path:
        """What the job left in ``/opt/ml/model``."""
        return self._part("model")

    @property
    def data_path(self) -> Path:
        """What the job left in ``/opt/ml/output/data``."""
        return self._part("output")

    @property
    def intermediate_path(self) -> Path:
        """What was copied of ``/opt/ml/output/intermediate``; AWS copies nothing of it."""
        return self._part("intermediate")

    @property
    def _described(self) -> dict[str, Any]:
        return self._client.describe(self._name)

    def _part(self, part: str) -> Path:
        described = self._described
        return fetch_part(self._client, described, part, copies_path(self._client, described, TRAINING))


class RemoteTrainingJob(RemoteJob, TrainingJob):  # type: ignore[misc]  # of its notebook view, which is none
    """A handle on a training job that runs elsewhere: on AWS, or on another machine."""

    remote_kind = TRAINING
    noun = "training job"

    @property
    def keys(self) -> JobKeys:
        """Where its results are."""
        uris = result_uris(self._first)
        source = hyperparameter_text(self._first.get("HyperParameters", {}), "sagemaker_submit_directory") or ""
        return JobKeys(uris["model"], uris["output"], uris["intermediate"], source)

    @property
    def image_uri(self) -> str | None:
        """The image that it runs in."""
        image: str | None = self._first.get("AlgorithmSpecification", {}).get("TrainingImage")
        return image

    @property
    def entry_point(self) -> str | None:
        """The script that it runs; None for an image's own program."""
        return hyperparameter_text(self._first.get("HyperParameters", {}), "sagemaker_program")

    @property
    def outputs(self) -> JobOutputs:
        """Its results as folders of this machine, brought here when they are first asked for."""
        return RemoteOutputs(self._client, self.name)

    def metrics(self) -> pd.DataFrame:
        """Return the metric CSV of the bundled programs, a row an epoch.

        AWS keeps nothing of ``/opt/ml/output/intermediate``: the bundled image puts it into its output data, which is
        there when the job has ended.
        """
        outputs = self.outputs
        if outputs.has("output"):
            return read_metric_csv(outputs.data_path / "intermediate")
        return read_metric_csv(outputs.intermediate_path)

    def estimates(self) -> PolicyEstimates:
        """Raise: estimates are read from jobs of this machine."""
        raise BadInputError(
            f"job '{self.name}' runs elsewhere, and estimates are read from jobs of this machine.",
            "Its results as folders: outputs.data_path",
        )

    def _news(self, description: Mapping[str, Any]) -> str:
        step: dict[str, Any] = next(reversed(description.get("SecondaryStatusTransitions", [])), {})
        return f"{step.get('Status', '')}: {step.get('StatusMessage', '')}" if step else ""

    def _say_end(self, description: Mapping[str, Any]) -> None:
        if "TrainingTimeInSeconds" in description:
            say_savings(description)

    @property
    def _hosts(self) -> int:
        resources = self._first.get("ResourceConfig", {})
        groups = resources.get("InstanceGroups", ())
        return sum(group["InstanceCount"] for group in groups) or int(resources.get("InstanceCount", 1))
