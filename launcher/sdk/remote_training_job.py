"""A training job that runs elsewhere, with the calls of one that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, JobFailedError, JobNotFoundError, RemoteRequestError
from launcher.jobs.metrics import read_metric_csv
from launcher.jobs.spec import JobKeys, hyperparameter_text
from launcher.remote.client import WireClient
from launcher.remote.following import RemoteLogs, follow
from launcher.remote.results import fetch_part, result_uris
from launcher.running.following import LineSink
from launcher.sdk.training_job import JobOutputs, TrainingJob, logs_wanted, say_savings
from launcher.secrets import masked_text
from launcher.settings import AWS_MODE, home_path
from launcher.terminal import neutralised_text, print_line, say

if TYPE_CHECKING:
    import pandas as pd

    from launcher.sdk.training_job import PolicyEstimates

COPIES = "remote"
"""The folder of a home with copies of what jobs of other places left."""


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
        return fetch_part(self._client, described, part, copies_path(self._client, described))


class RemoteTrainingJob(TrainingJob):
    """A handle on a training job that runs elsewhere: on AWS, or on another machine.

    Nothing of it is recorded here; every answer is the place's own.

    Args:
        name: the job.
        client: of the place.
        warnings: for the user.
    Raises:
        JobNotFoundError: there is no such job.
        RemoteRequestError: the place does not say.
    """

    command_options = f" --mode {AWS_MODE}"

    def __init__(self, name: str, client: WireClient, *, warnings: tuple[str, ...] = ()) -> None:
        self.name = name
        self._client = client
        self._warned = warnings
        self._first = self._describe()

    @property
    def announcement(self) -> str:
        """What ``fit`` says when it has submitted it."""
        return f"Training job {self.name} on {self._client.place.title}"

    @property
    def status(self) -> str:
        """``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or ``Stopped``."""
        return str(self._describe()["TrainingJobStatus"])

    @property
    def failure_reason(self) -> str:
        """Why it failed; empty when it did not."""
        return str(self._describe().get("FailureReason", ""))

    @property
    def path(self) -> Path:
        """The folder of this machine that gets copies of its results."""
        return copies_path(self._client, self._first)

    @property
    def log_path(self) -> Path:
        """A copy of the first host's log, as it is now."""
        path = self.path / "job.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.logs(), encoding="utf-8")
        return path

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, of this submission."""
        return list(self._warned)

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

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob answers."""
        return self._describe()

    def logs(self) -> str:
        """Return everything that the first host printed, as far as its log stream has it."""
        lines: list[str] = []
        RemoteLogs(self._client, self.name).read(lambda host, line: lines.append(line) if host == "algo-1" else None)
        return "".join(f"{line}\n" for line in lines)

    def print_logs(self) -> None:
        """Print everything that the hosts printed so far, without control sequences but colours."""
        RemoteLogs(self._client, self.name).read(self._printer())

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

    def wait(self, logs: str | bool = "All", on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended.

        Ctrl-C ends the waiting and not the job: it goes on there, and costs, until it is stopped.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
            looking_on: taken and not needed.
        Raises:
            JobFailedError: it failed.
        """
        shown = logs_wanted(logs)
        sink = on_line or (self._printer() if shown else None)
        said: list[str] = []

        def tell(description: Mapping[str, Any]) -> None:
            step: dict[str, Any] = next(reversed(description.get("SecondaryStatusTransitions", [])), {})
            text = f"{step.get('Status', '')}: {step.get('StatusMessage', '')}"
            if shown and step and text not in said:
                said.append(text)
                say(text)

        try:
            description = follow(self._client, self.name, sink=sink, on_status=tell)
        except KeyboardInterrupt:
            say(f"Training job {self.name} goes on at {self._client.place.title}.")
            raise
        if shown and "TrainingTimeInSeconds" in description:
            say_savings(description)
        self._raise_unless_done(description)

    def detach(self) -> None:
        """Do nothing: the job goes on there without this process."""

    def stop(self, wait: bool = True) -> None:
        """Stop the job; nothing happens when it has ended.

        Args:
            wait: until it has stopped.
        """
        self._client.stop(self.name)
        if wait:
            follow(self._client, self.name)

    @property
    def _hosts(self) -> int:
        resources = self._first.get("ResourceConfig", {})
        groups = resources.get("InstanceGroups", ())
        return sum(group["InstanceCount"] for group in groups) or int(resources.get("InstanceCount", 1))

    def _printer(self) -> LineSink:
        return partial(print_line, hosts=self._hosts)

    def _describe(self) -> dict[str, Any]:
        try:
            return self._client.describe(self.name)
        except RemoteRequestError as error:
            if error.aws_code == "ValidationException" and "not found" in error.message:
                raise JobNotFoundError(
                    f"no training job '{self.name}' at {self._client.place.title}.", "Names are case-sensitive."
                ) from error
            raise

    def _raise_unless_done(self, description: Mapping[str, Any]) -> None:
        if description["TrainingJobStatus"] != "Failed":
            return
        reason = str(description.get("FailureReason", ""))
        raise JobFailedError(
            neutralised_text(f"training job '{self.name}': {masked_text(reason)}"),
            f"It ran on {self._client.place.title}; its log is in CloudWatch.",
            job_name=self.name,
            reason=reason,
        )

    def _repr_html_(self) -> str | None:  # type: ignore[override]  # a notebook then shows the text
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, place={self._client.place.title!r})"


def copies_path(client: WireClient, description: Mapping[str, Any]) -> Path:
    """Return the folder of this home for copies of a job's results; another job of that name has another.

    Args:
        description: as DescribeTrainingJob answers.
    """
    _, _, _, region, account, *_ = description["TrainingJobArn"].split(":")
    place = "".join(letter if letter.isalnum() else "-" for letter in client.place.name)
    created = f"{description['CreationTime'].timestamp():.0f}"
    return home_path() / COPIES / f"{place}-{account}-{region}" / f"{description['TrainingJobName']}-{created}"
