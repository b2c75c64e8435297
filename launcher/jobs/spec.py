"""What a job is, in SageMaker's words: frozen data, no behaviour beyond turning into JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OPT_ML = "/opt/ml"
CHECKPOINTS = f"{OPT_ML}/checkpoints"


def log_file_name(host: str) -> str:
    """Return the name of the file, in a job's folder, that keeps what ``host`` prints."""
    return "job.log" if host == "algo-1" else f"job.{host}.log"


@dataclass(frozen=True)
class Channel:
    """One named input of a training job.

    Attributes:
        name: as in ``/opt/ml/input/data/<name>``.
        uri: where the data lie, always with a scheme.
        content_type: a MIME type, told to the job and not checked; None leaves it out.
    """

    name: str
    uri: str
    content_type: str | None = None
    input_mode: str = "File"
    distribution: str = "FullyReplicated"
    compression: str = "None"
    record_wrapping: str = "None"
    s3_data_type: str = "S3Prefix"


@dataclass(frozen=True)
class MetricDefinition:
    """A metric that is read from the log: group 1 of ``regex`` is the value."""

    name: str
    regex: str


@dataclass(frozen=True)
class CheckpointConfig:
    """Where a job's checkpoints outlive it.

    Attributes:
        s3_uri: a folder or a prefix, always with a scheme and without a ``/`` at its end.
        local_path: where the job sees them.
    """

    s3_uri: str
    local_path: str = CHECKPOINTS

    @property
    def tree_path(self) -> str:
        """The folder in the job's own tree that holds them, relative to it: a path outside is mounted from there."""
        inside = self.local_path.removeprefix(f"{OPT_ML}/")
        return inside if inside != self.local_path else "checkpoints"


@dataclass(frozen=True)
class TrainingJobSpec:
    """Everything that one training job was asked to do.

    Attributes:
        image_uri: an image that follows the contract; None stands for the bundled one.
        runtime: ``docker`` or ``process``; ``auto`` has been decided before.
        hyperparameters: text to text, as a request to SageMaker holds them.
        output_uri: the prefix; results go to ``<output_uri>/<job_name>/output/``.
        code_uri: the prefix of ``<code_uri>/<job_name>/source/sourcedir.tar.gz``.
        source_path: the folder to pack, or the folder of a lone entry point; None runs the image as it is.
        source_members: paths below ``source_path`` to pack; empty packs all of it.
        dependencies: files and folders that are packed beside the source, under their own names.
        max_run_seconds: after so long the job is stopped.
        checkpoint_config: None keeps no checkpoints.
        s3: which S3 the job's ``s3://`` URIs mean, as ``S3Settings.to_dict`` writes it; None where it has none.
    """

    job_name: str
    runtime: str
    image_uri: str | None = None
    role: str = ""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    output_uri: str = ""
    code_uri: str = ""
    instance_type: str = "local"
    instance_count: int = 1
    volume_size_gb: int = 30
    environment: Mapping[str, str] = field(default_factory=dict)
    metric_definitions: tuple[MetricDefinition, ...] = ()
    max_run_seconds: int = 86400
    entry_point: str | None = None
    source_path: str | None = None
    source_members: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    container_entry_point: tuple[str, ...] = ()
    container_arguments: tuple[str, ...] = ()
    enable_network_isolation: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    checkpoint_config: CheckpointConfig | None = None
    s3: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingJobSpec:
        """Rebuild the spec from what ``to_dict`` returned, after a trip through JSON."""
        known = dict(values)
        known["channels"] = tuple(Channel(**channel) for channel in known["channels"])
        known["metric_definitions"] = tuple(MetricDefinition(**one) for one in known["metric_definitions"])
        known["tags"] = tuple((key, value) for key, value in known["tags"])
        if known.get("checkpoint_config") is not None:
            known["checkpoint_config"] = CheckpointConfig(**known["checkpoint_config"])
        for name in ("source_members", "dependencies", "container_entry_point", "container_arguments"):
            known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True)
class Mount:
    """A host path that the job sees at ``target``."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class ContainerSpec:
    """One host of a job, as a runtime has to start it.

    Attributes:
        host: its name, ``algo-1`` and so on.
        image: the image; empty for the bundled one, which a runtime provides in its own way.
        entry_point: replaces the image's, when not empty.
        arguments: the command, ``("train",)`` by the contract.
        mounts: the first one is the ``/opt/ml`` tree itself.
        state_path: a folder of the runtime's own, for this host and this job.
        log_path: the file that everything the job prints goes to.
        inherited: variables that the job gets with the value they have where it is started; the values are written
            nowhere.
    """

    job_name: str
    host: str
    image: str
    entry_point: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    state_path: str
    log_path: str
    labels: Mapping[str, str] = field(default_factory=dict)
    network_isolated: bool = False
    inherited: tuple[str, ...] = ()

    @property
    def bundled(self) -> bool:
        """Whether the job runs in the launcher's own image."""
        return not self.image


@dataclass(frozen=True)
class JobKeys:
    """Where results go: URIs in SageMaker's layout."""

    model: str
    output: str
    intermediate: str
    source: str


def job_keys(spec: TrainingJobSpec) -> JobKeys:
    """Return where a job's results go, by SageMaker's layout."""
    prefix = f"{spec.output_uri.rstrip('/')}/{spec.job_name}"
    return JobKeys(
        model=f"{prefix}/output/model.tar.gz",
        output=f"{prefix}/output/output.tar.gz",
        intermediate=f"{prefix}/output/intermediate",
        source=f"{(spec.code_uri or spec.output_uri).rstrip('/')}/{spec.job_name}/source/sourcedir.tar.gz",
    )
