"""What a job is, in SageMaker's words: frozen data, no behaviour beyond turning into JSON and back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any, TypeVar, cast

OPT_ML = "/opt/ml"
CHECKPOINTS = f"{OPT_ML}/checkpoints"
SDK_DRIVERS = "sm_drivers"
SDK_CODE_CHANNELS = frozenset({SDK_DRIVERS, "code"})
"""Channels in which version 3 of the SDK sends its driver and the source; the driver makes itself executable there."""


def log_file_name(host: str) -> str:
    """Return the name of the file, in a job's folder, that keeps what ``host`` prints."""
    return "job.log" if host == "algo-1" else f"job.{host}.log"


def host_of_log(file_name: str) -> str:
    """Return the host that ``log_file_name`` made a name for."""
    return file_name.removeprefix("job").removesuffix("log").strip(".") or "algo-1"


@dataclass(frozen=True)
class Channel:
    """One named input of a training job.

    Attributes:
        name: as in ``/opt/ml/input/data/<name>``.
        uri: where the data lie, always with a scheme.
        content_type: a MIME type, told to the job and not checked; None leaves it out.
        attribute_names: of an augmented manifest, in the order in which a job gets them.
        shuffle_seed: decides the order of objects, anew in each epoch of a stream; None keeps the keys' order.
        writable: the job gets a copy of its own, which it may change.
        instance_groups: the groups whose hosts get it; empty for all hosts.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    name: str
    uri: str
    content_type: str | None = None
    input_mode: str = "File"
    distribution: str = "FullyReplicated"
    compression: str = "None"
    record_wrapping: str = "None"
    s3_data_type: str = "S3Prefix"
    attribute_names: tuple[str, ...] = ()
    shuffle_seed: int | None = None
    writable: bool = False
    instance_groups: tuple[str, ...] = ()
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_stream(self) -> bool:
        """Whether the job reads it from named pipes."""
        return self.input_mode == "Pipe"

    @property
    def is_sharded(self) -> bool:
        """Whether each host gets another part of the objects."""
        return self.distribution == "ShardedByS3Key"


@dataclass(frozen=True)
class MetricDefinition:
    """A metric that is read from the log: group 1 of ``regex`` is the value."""

    name: str
    regex: str


HOMOGENEOUS = "homogeneousCluster"
"""The group of all hosts, where a request names none."""


@dataclass(frozen=True)
class InstanceGroup:
    """Hosts of one type among those of a job."""

    name: str
    instance_type: str
    instance_count: int


@dataclass(frozen=True)
class CheckpointConfig:
    """Where a job's checkpoints outlive it.

    Attributes:
        s3_uri: a folder or a prefix, always with a scheme and without a ``/`` at its end.
        local_path: where the job sees them.
        asked: the member of the request, as it was given; empty in a record of version 0.1.0.
    """

    s3_uri: str
    local_path: str = CHECKPOINTS
    asked: Mapping[str, str] = field(default_factory=dict)

    @property
    def tree_path(self) -> str:
        """The folder in the job's own tree that holds them, relative to it: a path outside is mounted from there."""
        inside = self.local_path.removeprefix(f"{OPT_ML}/")
        return inside if inside != self.local_path else "checkpoints"


@dataclass(frozen=True)
class Spot:
    """What makes a job a managed spot training job.

    Attributes:
        max_wait_seconds: from its submission to its end, waiting included.
        interruptions: the plan of a rehearsal, as ``jobs.interruptions`` reads it; None until it is decided, when the
            job is submitted.
        price: what a second costs, as a part of its price on demand.
    """

    max_wait_seconds: int
    interruptions: tuple[str, ...] | None = None
    price: float = 1.0


@dataclass(frozen=True)
class Mount:
    """A host path that the job sees at ``target``."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Limits:
    """What a host of a job may use; by default, all that this machine has.

    Attributes:
        cpus: how many CPUs; 0 sets no limit.
        memory_bytes: 0 sets no limit of its own.
        gpus: numbers of the NVIDIA devices that the job sees; None leaves them as they are.
        gpus_per_host: how many of them each host gets; 0 gives all of them to every host.
        shm_bytes: the size of ``/dev/shm``; 0 takes the runtime's own.
        ulimits: ``NAME=SOFT:HARD``, as ``docker run --ulimit`` names them; -1 sets none.
        mounts: folders and files of this machine that the job sees besides.
        hosts: those of each host by itself, where they are of several types.
        placing: what the runtime's queue is told besides, in its own words.
        engine: what runs the image on the machines of a cluster, with options of its own; empty where no image runs
            there.
    """

    cpus: int = 0
    memory_bytes: int = 0
    gpus: tuple[int, ...] | None = None
    gpus_per_host: int = 0
    shm_bytes: int = 0
    ulimits: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hosts: tuple[Limits, ...] = ()
    placing: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()

    def of_host(self, number: int) -> Limits:
        """Return the limits of a host, with the GPUs that are its own, by its place among the hosts of the job."""
        if self.hosts:
            return self.hosts[number]
        if not self.gpus or not self.gpus_per_host:
            return self
        first = number * self.gpus_per_host
        return replace(self, gpus=self.gpus[first : first + self.gpus_per_host])

    @property
    def lines(self) -> list[str]:
        """The limits for people, a line each."""
        listed = ", ".join(map(str, self.gpus or ()))
        return [
            *([f"{self.cpus} CPUs"] if self.cpus else []),
            *([f"{self.memory_bytes / 2**20:,.0f} MiB of memory"] if self.memory_bytes else []),
            *([f"GPUs {listed}" if self.gpus else "no GPUs"] if self.gpus is not None else []),
            *([f"{self.shm_bytes / 2**20:,.0f} MiB at /dev/shm"] if self.shm_bytes else []),
            *(f"ulimit {ulimit}" for ulimit in self.ulimits),
            *(f"placing {word}" for word in self.placing),
            *([f"engine {shlex.join(self.engine)}"] if self.engine else []),
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """Return the limits that a spec was written with."""
        given = dict(values)
        given["mounts"] = tuple(dataclass_of(Mount, mount) for mount in given.get("mounts", ()))
        for name in ("ulimits", "placing", "engine"):
            given[name] = tuple(given.get(name, ()))
        given["hosts"] = tuple(map(cls.from_dict, given.get("hosts", ())))
        given["gpus"] = None if given.get("gpus") is None else tuple(given["gpus"])
        return dataclass_of(cls, given)


@dataclass(frozen=True)
class TrainingJobSpec:
    """Everything that one training job was asked to do; ``requests.training`` makes it of a checked request.

    Attributes:
        image_uri: an image that follows the contract; None stands for the bundled one.
        runtime: its name; ``auto`` until it is decided, when the job is submitted.
        hyperparameters: text to text, as a request to SageMaker holds them.
        input_mode: how channels arrive that do not say it themselves.
        output_uri: the prefix; results go to ``<output_uri>/<job_name>/output/``.
        instance_type: of all hosts, or of the first group of them.
        instance_groups: the hosts by their groups, in their order; empty where all are of one.
        max_run_seconds: the job is stopped after this time of training, in all its attempts together.
        max_retries: how often it begins again after a failure that is none of its own.
        max_pending_seconds: how long it may wait for a place to run; 0 sets no limit.
        spot: None for a job that is not interrupted.
        faults: what happens to its hosts on purpose, as ``jobs.faults`` reads it; None until it is decided, when the
            job is submitted.
        checkpoint_config: None keeps no checkpoints.
        s3: which S3 the job's ``s3://`` URIs mean, as ``S3Settings.to_dict`` writes it; None where it has none.
        limits: what each host may use, decided when the job is submitted.
        estimator: options of the estimator that no member of AWS holds, for ``attach``.
        keep_alive_seconds: how long a matching job can start from what this one leaves; 0 and None keep nothing.
        tuning_job_arn: of the tuning job that made it; empty where none did.
        debug: its program waits for a debugger; None is as good as False.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    job_name: str
    runtime: str
    image_uri: str | None = None
    role: str = ""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    input_mode: str = "File"
    output_uri: str = ""
    instance_type: str = "local"
    instance_count: int = 1
    instance_groups: tuple[InstanceGroup, ...] = ()
    volume_size_gb: int = 30
    environment: Mapping[str, str] = field(default_factory=dict)
    metric_definitions: tuple[MetricDefinition, ...] = ()
    max_run_seconds: int = 86400
    max_retries: int = 0
    max_pending_seconds: int = 0
    spot: Spot | None = None
    faults: tuple[str, ...] | None = None
    container_entry_point: tuple[str, ...] = ()
    container_arguments: tuple[str, ...] = ()
    enable_network_isolation: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    checkpoint_config: CheckpointConfig | None = None
    s3: Mapping[str, Any] | None = None
    limits: Limits = field(default_factory=Limits)
    estimator: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_seconds: int | None = None
    tuning_job_arn: str = ""
    debug: bool | None = None
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry_point(self) -> str | None:
        """The script that runs, relative to the root of the source; None runs the image as it is."""
        return hyperparameter_text(self.hyperparameters, "sagemaker_program")

    @property
    def source_uri(self) -> str | None:
        """The archive that is unpacked to ``/opt/ml/code``; None where there is none, or the image holds the source."""
        location = hyperparameter_text(self.hyperparameters, "sagemaker_submit_directory")
        return location if location and "://" in location else None

    @property
    def stream_places(self) -> dict[str, str]:
        """Where the pipes of each channel that is a stream lie below ``/opt/ml``, without their number."""
        return {channel.name: f"input/data/{channel.name}" for channel in self.channels if channel.is_stream}

    @property
    def own_channels(self) -> frozenset[str]:
        """The channels that the job gets a copy of: those asked for, and those in which SDK version 3 sends code."""
        writable = {channel.name for channel in self.channels if channel.writable}
        return frozenset(writable | self._code_channels)

    @property
    def _code_channels(self) -> set[str]:
        names = {channel.name for channel in self.channels}
        return names & SDK_CODE_CHANNELS if SDK_DRIVERS in names else set()

    @property
    def brings_code(self) -> bool:
        """Whether the request brings what runs, as both versions of the SDK do; an image then only has to run it."""
        return bool(self.source_uri or self._code_channels)

    @property
    def groups(self) -> tuple[InstanceGroup, ...]:
        """The hosts by their groups; a lone one where the request names none."""
        return self.instance_groups or (InstanceGroup(HOMOGENEOUS, self.instance_type, self.instance_count),)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingJobSpec:
        """Rebuild the spec from what ``to_dict`` returned, after a trip through JSON, in this version or another.

        Fields of a newer version are left out; fields that an older one lacks take their default.

        Raises:
            TypeError, ValueError: it is no spec.
        """
        given = dict(values)
        if "estimator" not in given and given.get("source_path"):
            # 0.1.0 kept the folder beside the request.
            lone = given.get("source_members")
            given["estimator"] = {
                **({} if lone else {"SourceDir": given["source_path"]}),
                "EntryPoint": f"{given['source_path']}/{given['entry_point']}" if lone else given["entry_point"],
                "Dependencies": list(given.get("dependencies", ())),
            }
        for name, kind in (("channels", Channel), ("metric_definitions", MetricDefinition)):
            given[name] = tuple(dataclass_of(kind, entry) for entry in given.get(name, ()))
        given["channels"] = tuple(
            replace(
                channel,
                attribute_names=tuple(channel.attribute_names),
                instance_groups=tuple(channel.instance_groups),
            )
            for channel in given["channels"]
        )
        given["instance_groups"] = tuple(
            dataclass_of(InstanceGroup, group) for group in given.get("instance_groups", ())
        )
        if given.get("checkpoint_config") is not None:
            given["checkpoint_config"] = dataclass_of(CheckpointConfig, given["checkpoint_config"])
        if given.get("spot") is not None:
            spot = dataclass_of(Spot, given["spot"])
            given["spot"] = replace(
                spot, interruptions=None if spot.interruptions is None else tuple(spot.interruptions)
            )
        if given.get("faults") is not None:
            given["faults"] = tuple(given["faults"])
        given["limits"] = Limits.from_dict(given.get("limits", {}))
        for name in ("container_entry_point", "container_arguments"):
            given[name] = tuple(given.get(name, ()))
        return dataclass_of(cls, given)


def hyperparameter_text(hyperparameters: Mapping[str, str], name: str) -> str | None:
    """Return the text of a hyperparameter that the SDK wrote, as JSON or as it is; None where there is none."""
    text = hyperparameters.get(name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


_Data = TypeVar("_Data")


def dataclass_of(kind: type[_Data], values: Mapping[str, Any]) -> _Data:
    """Make a dataclass of its own fields among ``values``; what another version has added is left out, tags are pairs.

    Raises:
        TypeError: a field without a default is missing.
    """
    names = _field_names(cast(Any, kind))
    given = {name: value for name, value in values.items() if name in names}
    if "tags" in given:
        given["tags"] = tuple((key, value) for key, value in given["tags"])
    return kind(**given)


@cache
def _field_names(kind: type[Any]) -> frozenset[str]:
    """Return the names of a dataclass's fields: lists make ten thousand of the same."""
    return frozenset(entry.name for entry in fields(kind))


@dataclass(frozen=True)
class ContainerSpec:
    """One host of a job, as a runtime has to start it.

    Attributes:
        host: its name, ``algo-1`` and so on.
        image: the image; empty for the bundled one, which a runtime provides in its own way; ``bundled + PACKAGE ...``
            for the bundled one with more in it.
        entry_point: replaces the image's, when not empty.
        arguments: the command, ``("train",)`` by the contract.
        mounts: folders and files of this machine, an outer one before those inside it.
        state_path: a folder of the runtime's own, for this host and this job.
        log_path: the file that everything the job prints goes to.
        inherited: variables whose values the job gets from the process that starts it; the values are never
            recorded.
        tree_path: the folder of this machine with the folders that the contract names below ``/opt/ml``; the image's
            other files there stay visible.
        hosts: the names of all hosts of the job, this one among them.
        log_offset: where its own output begins in that file, after that of the job's earlier attempts; in bytes.
        max_run_seconds: the host ends itself after this time, even without a driver; 0 sets no limit.
        limits: what it may use; its mounts are among ``mounts``.
        port: at which the host answers requests of this machine; 0 for a host that serves nothing.
        keep_alive_seconds: how long what it leaves stays for a matching job; 0 keeps nothing, and uses nothing.
        warm_match: what a job has to have in common with it for that, by AWS's rules, as texts.
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
    tree_path: str = ""
    hosts: tuple[str, ...] = ()
    max_run_seconds: int = 0
    log_offset: int = 0
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    keep_alive_seconds: int = 0
    warm_match: tuple[str, ...] = ()

    @property
    def bundled(self) -> bool:
        """Whether the job runs in the launcher's own image."""
        return not self.image or bool(self.packages)

    @property
    def packages(self) -> tuple[str, ...]:
        """What the launcher's own image gets on top, as packages of Python's index."""
        name, _, packages = self.image.partition(" + ")
        return tuple(packages.split()) if name == "bundled" else ()


@dataclass(frozen=True)
class JobKeys:
    """Where results go: URIs in SageMaker's layout.

    Attributes:
        source: the source archive, which is there before the job; empty where there is none.
    """

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
        source=spec.source_uri or "",
    )
