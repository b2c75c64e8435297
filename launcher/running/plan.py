"""From what was asked to what will be run: pure, so that a dry run shows exactly what a real one does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.jobs.spec import (
    OPT_ML,
    CheckpointConfig,
    ContainerSpec,
    JobKeys,
    Mount,
    TrainingJobSpec,
    job_keys,
    log_file_name,
)
from launcher.settings import LOCAL_CREDENTIALS, REGION, training_job_arn

EMBEDDED_S3 = "(the embedded S3; its address is known when the job starts)"
"""Stands in a plan for the address of a server that runs only while somebody needs it."""

_CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class ChannelSource:
    """Where the runner found a channel's data.

    Attributes:
        path: a file or a folder of this machine.
        is_file: a channel of one file is a folder with that file in it.
    """

    path: Path
    is_file: bool


@dataclass(frozen=True)
class RunPlan:
    """Everything that will be run, read and written.

    Attributes:
        image: what the containers are started from, as a person would name it.
        containers: one for each host.
        config_files: content by path below ``/opt/ml``.
        source_members: what ``sourcedir.tar.gz`` will hold.
        mount_points: paths below ``/opt/ml`` that inputs are mounted on; True for a file.
    """

    job_name: str
    runtime: str
    image: str
    containers: tuple[ContainerSpec, ...]
    config_files: Mapping[str, str]
    source_members: tuple[str, ...]
    mount_points: Mapping[str, bool]
    keys: JobKeys
    max_run_seconds: int
    checkpoint_config: CheckpointConfig | None = None

    def __str__(self) -> str:
        lines = [f"job        {self.job_name}", f"runtime    {self.runtime}", f"image      {self.image}"]
        for container in self.containers:
            command = " ".join([*container.entry_point, *container.arguments])
            lines.append(f"host       {container.host}: {command}")
            lines += [
                f"  mount    {mount.target} <- {mount.source}{' (read-only)' if mount.read_only else ''}"
                for mount in container.mounts
            ]
            lines += [f"  variable {name}={value}" for name, value in sorted(container.environment.items())]
            lines += [f"  variable {name} (inherited, if it is set)" for name in container.inherited]
            if container.network_isolated:
                lines.append("  network  none")
        lines += [f"file       {OPT_ML}/{path}: {text}" for path, text in sorted(self.config_files.items())]
        lines += [f"source     {name}" for name in self.source_members]
        if self.checkpoint_config is not None:
            uri, path = self.checkpoint_config.s3_uri, self.checkpoint_config.local_path
            lines += [f"restores   {path}/ <- {uri}/", f"writes     {uri}/ <- {path}/ (while it runs)"]
        lines += [
            f"writes     {self.keys.source}" if self.source_members else "",
            f"writes     {self.keys.model}",
            f"writes     {self.keys.output}",
            f"writes     {self.keys.intermediate}/ (while it runs)",
            f"stops      after {self.max_run_seconds} s at the latest",
        ]
        return "\n".join(line for line in lines if line)


def make_plan(
    spec: TrainingJobSpec,
    *,
    home: Path,
    job_path: Path,
    work_path: Path,
    channels: Mapping[str, ChannelSource],
    source_members: Sequence[str] = (),
) -> RunPlan:
    """Work out every container, file, mount and result of a job.

    Args:
        spec: the job.
        home: the store's folder; containers carry it as a label, so that they are found by it.
        job_path: the job's folder, for the logs.
        work_path: the folder with the ``/opt/ml`` tree and the runtimes' own folders.
        channels: what the inputs resolve to, by channel.
        source_members: names in the source archive.
    """
    hosts = [f"algo-{number}" for number in range(1, spec.instance_count + 1)]
    interface = "eth0" if spec.runtime == "docker" and not spec.enable_network_isolation else "lo"
    mounts = [Mount(str(work_path / "opt_ml"), OPT_ML, read_only=False)]
    mount_points = {}
    for channel in spec.channels:
        found = channels[channel.name]
        inner = f"input/data/{channel.name}" + (f"/{found.path.name}" if found.is_file else "")
        mounts.append(Mount(str(found.path), f"{OPT_ML}/{inner}"))
        mount_points[inner] = found.is_file
    kept = spec.checkpoint_config
    if kept is not None and not kept.local_path.startswith(f"{OPT_ML}/"):
        mounts.append(Mount(str(work_path / "opt_ml" / kept.tree_path), kept.local_path, read_only=False))
    if spec.container_entry_point or spec.container_arguments:
        entry_point, arguments = spec.container_entry_point, spec.container_arguments
    else:
        entry_point, arguments = (), ("train",)
    variables, inherited = s3_variables(spec)
    environment = {
        "TRAINING_JOB_NAME": spec.job_name,
        "TRAINING_JOB_ARN": training_job_arn(spec.job_name),
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        **variables,
        **spec.environment,
    }
    containers = tuple(
        ContainerSpec(
            job_name=spec.job_name,
            host=host,
            image=spec.image_uri or "",
            entry_point=tuple(entry_point),
            arguments=tuple(arguments),
            environment=environment,
            mounts=tuple(mounts),
            state_path=str(work_path / host),
            log_path=str(job_path / log_file_name(host)),
            labels={"launcher.job": spec.job_name, "launcher.host": host, "launcher.home": str(home)},
            network_isolated=spec.enable_network_isolation,
            inherited=tuple(name for name in inherited if name not in spec.environment),
        )
        for host in hosts
    )
    return RunPlan(
        job_name=spec.job_name,
        runtime=spec.runtime,
        image=spec.image_uri or "",
        containers=containers,
        config_files={
            "input/config/hyperparameters.json": _compact(spec.hyperparameters),
            "input/config/inputdataconfig.json": _compact(input_data_config(spec)),
            "input/config/resourceconfig.json": _compact(resource_config(spec, hosts, interface)),
        },
        source_members=tuple(source_members),
        mount_points=mount_points,
        keys=job_keys(spec),
        max_run_seconds=spec.max_run_seconds,
        checkpoint_config=kept,
    )


def planned_s3_address(spec: TrainingJobSpec) -> str:
    """Return the address that a job finds in its variables for its S3; empty where it needs none, or has no network."""
    if spec.s3 is None or spec.enable_network_isolation:
        return ""
    return EMBEDDED_S3 if spec.s3["kind"] == "embedded" else spec.s3["endpoint_url"] or ""


def s3_variables(spec: TrainingJobSpec) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables by which code inside the job reaches its S3, and the names of those that it inherits."""
    if spec.s3 is None or spec.enable_network_isolation:
        return {}, ()
    region = spec.s3["region"] or REGION
    variables = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if address := planned_s3_address(spec):
        variables |= {"AWS_ENDPOINT_URL": address, "AWS_ENDPOINT_URL_S3": address}
    return (variables | LOCAL_CREDENTIALS, ()) if address == EMBEDDED_S3 else (variables, _CREDENTIAL_VARIABLES)


def with_s3_address(container: ContainerSpec, planned: str, address: str) -> ContainerSpec:
    """Return the container with the address at which its job reaches the S3 in place of the planned one."""
    environment = {
        name: address if value == planned else value
        for name, value in container.environment.items()
        if address or value != planned
    }
    return replace(container, environment=environment)


def input_data_config(spec: TrainingJobSpec) -> dict[str, dict[str, str]]:
    """Return what ``inputdataconfig.json`` tells the job: no place, only how each channel arrives."""
    config = {}
    for channel in spec.channels:
        content_type = {"ContentType": channel.content_type} if channel.content_type else {}
        config[channel.name] = {
            **content_type,
            "TrainingInputMode": channel.input_mode,
            "S3DistributionType": channel.distribution,
            "RecordWrapperType": channel.record_wrapping,
        }
    return config


def resource_config(spec: TrainingJobSpec, hosts: Sequence[str], interface: str) -> dict[str, object]:
    """Return what ``resourceconfig.json`` tells the first host."""
    group = "homogeneousCluster"
    return {
        "current_host": hosts[0],
        "current_instance_type": spec.instance_type,
        "current_group_name": group,
        "hosts": list(hosts),
        "instance_groups": [{"instance_group_name": group, "instance_type": spec.instance_type, "hosts": list(hosts)}],
        "network_interface_name": interface,
    }


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
