"""What a processing job is, in SageMaker's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher.jobs.spec import (
    HOMOGENEOUS,
    OPT_ML,
    Channel,
    InstanceGroup,
    Limits,
    MetricDefinition,
    TrainingJobSpec,
    dataclass_of,
)

PROCESSING = f"{OPT_ML}/processing"
CODE_PATH = f"{PROCESSING}/input/code"
ENTRYPOINT_PATH = f"{PROCESSING}/input/entrypoint"
BUNDLED_IMAGE = "launcher-job"
"""The ``ImageUri`` that stands for the bundled image, or on the process runtime for this machine's Python."""


@dataclass(frozen=True)
class ProcessingInput:
    """One named input of a processing job.

    Attributes:
        channel: its name, where its data lie, and how they arrive.
        local_path: where the job sees them, below ``/opt/ml/processing``.
        app_managed: whether the job itself gets the data; then nothing is there before it begins.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    channel: Channel
    local_path: str
    app_managed: bool = False
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tree_path(self) -> str:
        """Where the job sees them, relative to its own tree."""
        return self.local_path.removeprefix(f"{OPT_ML}/")

    @property
    def copied(self) -> bool:
        """Whether every host gets a copy to write to: the folders in which the SDK sends programs, which unpack there.

        Any other input is read where it lies, and read only.
        """
        return self.local_path in (CODE_PATH, ENTRYPOINT_PATH)


@dataclass(frozen=True)
class ProcessingOutput:
    """One named output of a processing job.

    Attributes:
        uri: the prefix that the files go to, always with a scheme and without a ``/`` at its end.
        local_path: the folder that the job writes to.
        continuous: whether files are copied while the job runs, else when it has completed.
        app_managed: whether the job itself takes the files away.
        asked: the member of the request, as it was given.
    """

    name: str
    uri: str
    local_path: str
    continuous: bool = False
    app_managed: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tree_path(self) -> str:
        """The folder in the job's own tree, relative to it."""
        return self.local_path.removeprefix(f"{OPT_ML}/")


@dataclass(frozen=True)
class ProcessingJobSpec:
    """Everything that one processing job was asked to do; ``requests.processing`` makes it of a checked request.

    Attributes:
        image_uri: an image; None stands for the bundled one.
        runtime: its name; ``auto`` until it is decided, when the job is submitted.
        container_entry_point: the command; empty runs the image's own.
        max_run_seconds: the job is stopped after this time.
        s3: which S3 the job's ``s3://`` URIs mean, as ``S3Settings.to_dict`` writes it; None where it has none.
        limits: what each host may use.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    job_name: str
    runtime: str
    image_uri: str | None = None
    role: str = ""
    inputs: tuple[ProcessingInput, ...] = ()
    outputs: tuple[ProcessingOutput, ...] = ()
    instance_type: str = "local"
    instance_count: int = 1
    volume_size_gb: int = 30
    environment: Mapping[str, str] = field(default_factory=dict)
    max_run_seconds: int = 86400
    container_entry_point: tuple[str, ...] = ()
    container_arguments: tuple[str, ...] = ()
    enable_network_isolation: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    s3: Mapping[str, Any] | None = None
    limits: Limits = field(default_factory=Limits)
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The inputs that are there before the job begins."""
        return tuple(given.channel for given in self.inputs if not given.app_managed)

    @property
    def own_channels(self) -> frozenset[str]:
        """The inputs that each host gets a copy of."""
        return frozenset(given.channel.name for given in self.inputs if given.copied)

    @property
    def stream_places(self) -> dict[str, str]:
        """Where the pipes of each input that is a stream lie below ``/opt/ml``, without their number."""
        return {
            given.channel.name: given.tree_path
            for given in self.inputs
            if given.channel.is_stream and not given.app_managed
        }

    @property
    def source_uri(self) -> str | None:
        """None: the program comes as an input."""
        return None

    @property
    def entry_point(self) -> str | None:
        """The program that runs, as a person would name it; None runs the image as it is."""
        return " ".join(self.container_entry_point) or None

    @property
    def brings_code(self) -> bool:
        """Whether the request brings what runs, as the SDK's processors do; an image then only has to run it."""
        return bool(self.container_entry_point) and any(given.copied for given in self.inputs)

    @property
    def metric_definitions(self) -> tuple[MetricDefinition, ...]:
        """None: a processing job has no metrics."""
        return ()

    @property
    def groups(self) -> tuple[InstanceGroup, ...]:
        """The group of all hosts."""
        return (InstanceGroup(HOMOGENEOUS, self.instance_type, self.instance_count),)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessingJobSpec:
        """Rebuild the spec from what ``to_dict`` returned, in this version or another.

        Raises:
            TypeError, ValueError: it is no spec.
        """
        given = dict(values)
        given["inputs"] = tuple(
            dataclass_of(ProcessingInput, {**entry, "channel": dataclass_of(Channel, entry["channel"])})
            for entry in given.get("inputs", ())
        )
        given["outputs"] = tuple(dataclass_of(ProcessingOutput, entry) for entry in given.get("outputs", ()))
        given["limits"] = Limits.from_dict(given.get("limits", {}))
        for name in ("container_entry_point", "container_arguments"):
            given[name] = tuple(given.get(name, ()))
        return dataclass_of(cls, given)


HostsSpec = TrainingJobSpec | ProcessingJobSpec
"""A job whose hosts run to their end by themselves."""
