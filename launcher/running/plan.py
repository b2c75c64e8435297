"""From what was asked to what will be run: pure, so that a dry run shows exactly what a real one does."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from launcher.aws_names.variables import PROXY_VARIABLES
from launcher.channels.resolving import ChannelSource, host_names, hosts_by_group, hosts_of, source_of
from launcher.jobs.faults import Fault, faults_of
from launcher.jobs.processing_spec import HostsSpec
from launcher.jobs.spec import (
    OPT_ML,
    CheckpointConfig,
    ContainerSpec,
    Mount,
    TrainingJobSpec,
    job_keys,
    log_file_name,
)
from launcher.running.opt_ml import TRAINING_FOLDERS
from launcher.runtimes.images import is_bundled, local_image
from launcher.secrets import masked, masked_json
from launcher.settings import LOCAL_CREDENTIALS, REGION, training_job_arn

EMBEDDED_S3 = "(the embedded S3; its address is known when the job starts)"
"""Stands in a plan for the address of a server that runs only while somebody needs it."""

UNREACHABLE_S3 = "http://127.0.0.1:9/the-S3-of-this-job-is-out-of-its-reach"
"""Refuses every connection, and says why in boto3's error: without an endpoint boto3 would talk to real AWS."""

CONTRACT_FOLDERS = ("input", "model", "output", "checkpoints")
"""What a job sees of its tree below ``/opt/ml``, beside ``code``."""

INSTALLING_VARIABLES = (
    *("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_FIND_LINKS"),
)
"""By these a job's own ``requirements.txt`` is installed as the caller would install it."""

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_LEADING_VARIABLES = (*_ENDPOINT_VARIABLES, *PROXY_VARIABLES)
_CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class RunPlan:
    """Everything that will be run, read and written. As a text it shows no secrets; its fields have the real values.

    Attributes:
        image: what the containers are started from, as a person would name it.
        containers: one for each host.
        config_files: content by path below ``/opt/ml``, the same on every host.
        host_files: the same for what each host is told apart, by host.
        source_members: what ``sourcedir.tar.gz`` will hold, where it is still to be packed.
        mount_points: paths below ``/opt/ml`` that inputs are mounted on, the same on every host; True for a file.
        results: where what the job writes goes, a line for people each.
        source_uri: the source archive; empty where there is none.
        folders: paths below ``/opt/ml`` of the folders that are there when the job begins.
        channel_notes: a line about each channel that is no plain mount, for people.
        faults: what happens to the hosts on purpose.
        submits: the command that starts the hosts, where that is one.
    """

    job_name: str
    runtime: str
    image: str
    containers: tuple[ContainerSpec, ...]
    config_files: Mapping[str, str]
    host_files: Mapping[str, Mapping[str, str]]
    source_members: tuple[str, ...]
    mount_points: Mapping[str, bool]
    results: tuple[str, ...]
    max_run_seconds: int
    source_uri: str = ""
    folders: tuple[str, ...] = TRAINING_FOLDERS
    checkpoint_config: CheckpointConfig | None = None
    channel_notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    submits: str = ""

    def __str__(self) -> str:
        lines = [f"job        {self.job_name}", f"runtime    {self.runtime}", f"image      {self.image}"]
        lines += [f"channel    {note}" for note in self.channel_notes]
        for container in self.containers:
            command = " ".join([*container.entry_point, *container.arguments])
            lines.append(f"host       {container.host}: {command}")
            lines += [
                f"  mount    {mount.target} <- {mount.source}{' (read-only)' if mount.read_only else ''}"
                for mount in container.mounts
            ]
            lines += [f"  variable {name}={value}" for name, value in sorted(masked(container.environment).items())]
            lines += [f"  variable {name} (inherited, if it is set)" for name in container.inherited]
            lines += [f"  limit    {line}" for line in container.limits.lines]
            if container.network_isolated:
                lines.append("  network  none")
        lines += [
            f"file       {OPT_ML}/{path}: {masked_json(text)}" for path, text in sorted(self.config_files.items())
        ]
        for host, files in self.host_files.items():
            lines += [
                f"file       {OPT_ML}/{path} on {host}: {masked_json(text)}" for path, text in sorted(files.items())
            ]
        lines += [f"submits    {self.submits}"] if self.submits else []
        lines += [f"source     {name}" for name in self.source_members]
        if self.checkpoint_config is not None:
            uri, path = self.checkpoint_config.s3_uri, self.checkpoint_config.local_path
            lines += [f"restores   {path}/ <- {uri}/", f"writes     {uri}/ <- {path}/ (while it runs)"]
        lines += [
            f"{'writes' if self.source_members else 'unpacks':<10} {self.source_uri}" if self.source_uri else "",
            *(f"writes     {result}" for result in self.results),
            *(f"fault      {fault}" for fault in self.faults),
            f"stops      after {self.max_run_seconds} s at the latest",
        ]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the same lines, as a table."""
        rows = [line.strip().partition(" ")[::2] for line in str(self).splitlines()]
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(word)}</th>'
            f'<td style="text-align:left;overflow-wrap:anywhere"><code>{html.escape(text)}</code></td></tr>'
            for word, text in rows
        )
        return f"<table>{cells}</table>"


def make_plan(
    spec: TrainingJobSpec,
    *,
    home: Path,
    job_path: Path,
    work_path: Path,
    channels: Mapping[str, ChannelSource],
    channel_notes: Sequence[str] = (),
    source_members: Sequence[str] = (),
    network_interface: str = "eth0",
) -> RunPlan:
    """Work out every container, file, mount and result of a job.

    Args:
        spec: the job.
        home: the store's folder; containers carry it as a label, so that they are found by it.
        job_path: the job's folder, for the logs.
        work_path: the folder with each host's ``/opt/ml`` tree and the runtimes' own folders.
        channels: what the inputs resolve to, by channel, or by host and channel.
        channel_notes: about channels that are no plain mounts.
        source_members: names in the source archive.
        network_interface: by which the hosts of the job reach each other.
    """
    hosts = host_names(spec)
    # A lone host without a network has its loopback; several still reach each other.
    interface = "lo" if spec.enable_network_isolation and len(hosts) == 1 else network_interface
    mount_points = {
        _channel_point(channel.name, source): source.is_file
        for channel in spec.channels
        if not channel.is_stream
        for source in [source_of(channels, hosts_of(spec, channel)[0], channel.name)]
    }
    if spec.container_entry_point or spec.container_arguments:
        entry_point, arguments = spec.container_entry_point, spec.container_arguments
    else:
        entry_point, arguments = (), ("train",)
    keys = job_keys(spec)
    containers = make_containers(
        spec,
        label=spec.job_name,
        home=home,
        job_path=job_path,
        work_path=work_path,
        entry_point=entry_point,
        arguments=arguments,
        environment={"TRAINING_JOB_NAME": spec.job_name, "TRAINING_JOB_ARN": training_job_arn(spec.job_name)},
        mounts=lambda host: _mounts(spec, host, work_path / host / "opt_ml", channels),
    )
    if spec.keep_alive_seconds and not spec.debug:
        match = warm_match(spec)
        containers = tuple(
            replace(container, keep_alive_seconds=spec.keep_alive_seconds, warm_match=match) for container in containers
        )
    return RunPlan(
        job_name=spec.job_name,
        runtime=spec.runtime,
        image=containers[0].image,
        containers=containers,
        config_files={
            "input/config/hyperparameters.json": compact(spec.hyperparameters),
            "input/config/inputdataconfig.json": compact(input_data_config(spec)),
        },
        host_files={
            host: {
                "input/config/resourceconfig.json": compact(resource_config(spec, host, hosts, interface)),
                **_input_config_of(spec, host),
            }
            for host in hosts
        },
        source_members=tuple(source_members),
        mount_points=mount_points,
        results=(keys.model, keys.output, f"{keys.intermediate}/ (while it runs)"),
        source_uri=keys.source,
        max_run_seconds=spec.max_run_seconds,
        checkpoint_config=spec.checkpoint_config,
        channel_notes=tuple(channel_notes),
        faults=tuple(faults_of(spec.faults or (), hosts)),
    )


def make_containers(
    spec: HostsSpec,
    *,
    label: str,
    home: Path,
    job_path: Path,
    work_path: Path,
    entry_point: Sequence[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    mounts: Callable[[str], tuple[Mount, ...]],
) -> tuple[ContainerSpec, ...]:
    """Work out the containers of a job, one for each host.

    Args:
        spec: the job.
        label: what runtimes call the job; its name and kind, so that no other job of the home has it.
        home: the store's folder.
        job_path: the job's folder.
        work_path: the folder with each host's tree and the runtimes' own folders.
        entry_point: replaces the image's, when not empty.
        arguments: the command.
        environment: variables beside the request's own, which win.
        mounts: what a host gets of its tree and its inputs, by its name.
    """
    hosts = host_names(spec)
    variables, inherited = s3_variables(spec)
    image = local_image(spec.image_uri)
    if is_bundled(image):
        inherited += INSTALLING_VARIABLES
    wanted = {**environment, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, **variables, **spec.environment}
    return tuple(
        ContainerSpec(
            job_name=spec.job_name,
            host=host,
            image=image,
            entry_point=tuple(entry_point),
            arguments=tuple(arguments),
            environment=wanted,
            limits=spec.limits.of_host(number),
            mounts=mounts(host),
            state_path=str(work_path / host),
            log_path=str(job_path / log_file_name(host)),
            labels={"launcher.job": label, "launcher.host": host, "launcher.home": str(home)},
            network_isolated=spec.enable_network_isolation,
            inherited=tuple(name for name in inherited if name not in spec.environment),
            tree_path=str(work_path / host / "opt_ml"),
            hosts=tuple(hosts),
            max_run_seconds=spec.max_run_seconds,
        )
        for number, host in enumerate(hosts)
    )


def warm_match(spec: TrainingJobSpec) -> tuple[str, ...]:
    """Return what two jobs have to have in common for one to start from the warm pool of the other, by AWS's rules."""
    resources = spec.without_effect.get("ResourceConfig", {})
    vpc, encryption = (spec.without_effect.get(name) for name in ("VpcConfig", "EnableInterContainerTrafficEncryption"))
    values = {
        "InstanceType": spec.instance_type,
        "InstanceCount": spec.instance_count,
        "InstanceGroups": [asdict(group) for group in spec.instance_groups],
        "VolumeSizeInGB": spec.volume_size_gb,
        "VolumeKmsKeyId": resources.get("VolumeKmsKeyId", ""),
        "RoleArn": spec.role,
        "TrainingImage": spec.image_uri or "",
        "VpcConfig": vpc or {},
        "EnableInterContainerTrafficEncryption": bool(encryption),
        "EnableNetworkIsolation": spec.enable_network_isolation,
    }
    return tuple(f"{name}={json.dumps(value, sort_keys=True)}" for name, value in values.items())


def _input_config_of(spec: TrainingJobSpec, host: str) -> dict[str, str]:
    """Return the configuration of a host's own channels, where hosts have different ones."""
    if all(not channel.instance_groups for channel in spec.channels):
        return {}
    own = tuple(channel for channel in spec.channels if host in hosts_of(spec, channel))
    return {"input/config/inputdataconfig.json": compact(input_data_config(replace(spec, channels=own)))}


def _channel_point(name: str, source: ChannelSource) -> str:
    return f"input/data/{name}" + (f"/{source.path.name}" if source.is_file else "")


def _mounts(spec: TrainingJobSpec, host: str, tree: Path, channels: Mapping[str, ChannelSource]) -> tuple[Mount, ...]:
    """Return what a host gets of its tree, its inputs and its checkpoints.

    Each folder of the contract is mounted by itself, ``code`` only where there is a source: everything else below
    ``/opt/ml`` is the image's, such as code that was copied there when the image was built.
    """
    names = [*CONTRACT_FOLDERS, *(["code"] if spec.source_uri is not None else [])]
    mounts = [Mount(str(tree / name), f"{OPT_ML}/{name}", read_only=False) for name in names]
    for channel in spec.channels:
        if channel.is_stream or host not in hosts_of(spec, channel):
            continue
        source = source_of(channels, host, channel.name)
        point = f"{OPT_ML}/{_channel_point(channel.name, source)}"
        mounts.append(Mount(str(source.path), point, read_only=channel.name not in spec.own_channels))
    checkpoints = spec.checkpoint_config
    if checkpoints is not None and not checkpoints.local_path.startswith(tuple(f"{OPT_ML}/{name}/" for name in names)):
        own = Mount(str(tree / checkpoints.tree_path), checkpoints.local_path, read_only=False)
        mounts += [own] if own not in mounts else []
    return (*mounts, *spec.limits.mounts)


class SeesS3(Protocol):
    """Whatever has code that may talk to an S3: a training job, a model."""

    @property
    def s3(self) -> Mapping[str, Any] | None:
        """Which S3 it means; None where it means none."""

    @property
    def enable_network_isolation(self) -> bool:
        """Whether it has no network."""


def planned_s3_address(spec: SeesS3) -> str:
    """Return the address that a job finds in its variables for its S3; empty where it needs none, or has no network."""
    if spec.s3 is None or spec.enable_network_isolation:
        return ""
    return EMBEDDED_S3 if spec.s3["kind"] == "embedded" else spec.s3["endpoint_url"] or ""


def s3_variables(spec: SeesS3) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables by which code inside the job reaches its S3, and the names of those that it inherits."""
    if spec.s3 is None or spec.enable_network_isolation:
        return {}, ()
    region = spec.s3["region"] or REGION
    variables = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if address := planned_s3_address(spec):
        variables |= dict.fromkeys(_ENDPOINT_VARIABLES, address)
    if spec.s3.get("aws_names"):
        variables |= dict.fromkeys(PROXY_VARIABLES, address)
    return (variables | LOCAL_CREDENTIALS, ()) if address == EMBEDDED_S3 else (variables, _CREDENTIAL_VARIABLES)


def with_s3_address(container: ContainerSpec, planned: str, address: str) -> ContainerSpec:
    """Return the container with the address at which its job reaches the S3 in place of the planned one.

    Args:
        container: as planned.
        planned: what ``planned_s3_address`` returned.
        address: empty where this machine cannot be reached: the job then gets an address that nothing answers at.
    """
    if not planned:
        return container
    reached = address or UNREACHABLE_S3
    variables = {name: reached for name in _LEADING_VARIABLES if container.environment.get(name) == planned}
    return replace(container, environment={**container.environment, **variables})


def input_data_config(spec: TrainingJobSpec) -> dict[str, dict[str, str]]:
    """Return what ``inputdataconfig.json`` tells the job: no place, only how each channel arrives."""
    config = {}
    for channel in spec.channels:
        content_type = {"ContentType": channel.content_type} if channel.content_type else {}
        config[channel.name] = {
            **content_type,
            # A job reads FastFile as it reads File, and is told so.
            "TrainingInputMode": "Pipe" if channel.is_stream else "File",
            "S3DistributionType": channel.distribution,
            "RecordWrapperType": channel.record_wrapping,
        }
    return config


def resource_config(spec: HostsSpec, host: str, hosts: Sequence[str], interface: str) -> dict[str, object]:
    """Return what ``resourceconfig.json`` tells ``host``."""
    groups = hosts_by_group(spec)
    own = next(group for group in spec.groups if host in groups[group.name])
    return {
        "current_host": host,
        "current_instance_type": own.instance_type,
        "current_group_name": own.name,
        "hosts": list(hosts),
        "instance_groups": [
            {
                "instance_group_name": group.name,
                "instance_type": group.instance_type,
                "hosts": groups[group.name],
            }
            for group in spec.groups
        ],
        "network_interface_name": interface,
    }


def compact(value: object) -> str:
    """Return JSON as the files of a job's configuration hold it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
