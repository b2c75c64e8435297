"""From a processing job's spec to what will be run: pure, so that a dry run shows exactly what a real one does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from launcher.jobs.kinds import PROCESSING_JOBS
from launcher.jobs.processing_spec import ProcessingInput, ProcessingJobSpec
from launcher.jobs.spec import OPT_ML, Mount
from launcher.requests.processing import processing_request
from launcher.requests.shapes import OWN_MEMBER
from launcher.running.plan import ChannelSource, RunPlan, compact, host_names, make_containers, resource_config

INPUTS = "processing/.inputs"
"""Below ``/opt/ml``: where inputs are mounted that the job sees elsewhere, file by file, as links."""

_FOLDERS = ("processing", "config", "output")


class Placement(StrEnum):
    """How an input comes to its place on a host."""

    MOUNTED = "mounted"
    COPIED = "copied"
    LINKED = "linked"
    """Each file is a link to where the input is mounted: something else lies inside it, or the host has only a part."""


def placement(spec: ProcessingJobSpec, given: ProcessingInput, source: ChannelSource) -> Placement:
    """Return how an input comes to its place."""
    if given.copied:
        return Placement.COPIED
    if is_sharded(spec, given):
        return Placement.LINKED
    others = [*(other.local_path for other in spec.inputs), *(output.local_path for output in spec.outputs)]
    nests = not source.is_file and any(path.startswith(f"{given.local_path}/") for path in others)
    return Placement.LINKED if nests else Placement.MOUNTED


def is_sharded(spec: ProcessingJobSpec, given: ProcessingInput) -> bool:
    """Return whether a host gets only a part of an input."""
    return given.channel.distribution == "ShardedByS3Key" and spec.instance_count > 1


def tree_path(local_path: str) -> str:
    """Return a path of the job relative to its tree."""
    return local_path.removeprefix(f"{OPT_ML}/")


def present_inputs(spec: ProcessingJobSpec) -> tuple[ProcessingInput, ...]:
    """Return the inputs that are there before the job begins."""
    return tuple(given for given in spec.inputs if not given.app_managed)


def make_processing_plan(
    spec: ProcessingJobSpec,
    *,
    home: Path,
    job_path: Path,
    work_path: Path,
    channels: Mapping[str, ChannelSource],
    network_interface: str,
) -> RunPlan:
    """Work out every container, file, mount and result of a job.

    Args:
        spec: the job.
        home: the store's folder.
        job_path: the job's folder, for the logs.
        work_path: the folder with each host's ``/opt/ml`` tree and the runtimes' own folders.
        channels: what the inputs resolve to, by name.
        network_interface: by which the hosts of the job reach each other.
    """
    hosts = host_names(spec)
    interface = "lo" if spec.enable_network_isolation and len(hosts) == 1 else network_interface
    points = {point: is_file for point, (_, is_file) in _mounted(spec, channels).items()}
    containers = make_containers(
        spec,
        label=f"{PROCESSING_JOBS.folder}/{spec.job_name}",
        home=home,
        job_path=job_path,
        work_path=work_path,
        entry_point=spec.container_entry_point,
        arguments=spec.container_arguments,
        environment={},
        mounts=lambda host: _mounts(spec, work_path / host / "opt_ml", channels),
    )
    return RunPlan(
        job_name=spec.job_name,
        runtime=spec.runtime,
        image=spec.image_uri or "",
        containers=containers,
        config_files={"config/processingjobconfig.json": compact(_job_config(spec))},
        host_files={
            host: {"config/resourceconfig.json": compact(resource_config(spec, host, hosts, interface))}
            for host in hosts
        },
        source_members=(),
        mount_points=points,
        results=tuple(
            f"{output.uri}/ <- {output.local_path}/ "
            + ("(while it runs)" if output.continuous else "(when it has completed)")
            for output in spec.outputs
            if not output.app_managed
        ),
        max_run_seconds=spec.max_run_seconds,
        folders=(
            *_FOLDERS,
            *(tree_path(given.local_path) for given in present_inputs(spec)),
            *(output.tree_path for output in spec.outputs if output.local_path),
        ),
    )


def _mounted(spec: ProcessingJobSpec, channels: Mapping[str, ChannelSource]) -> dict[str, tuple[Path, bool]]:
    """Return what is mounted, by its point below ``/opt/ml``: the path, and whether it is a file."""
    mounted = {}
    for given in present_inputs(spec):
        source = channels[given.channel.name]
        how = placement(spec, given, source)
        if how is Placement.COPIED:
            continue
        point = tree_path(given.local_path) if how is Placement.MOUNTED else f"{INPUTS}/{given.channel.name}"
        mounted[point + (f"/{source.path.name}" if source.is_file else "")] = (source.path, source.is_file)
    return mounted


def _mounts(spec: ProcessingJobSpec, tree: Path, channels: Mapping[str, ChannelSource]) -> tuple[Mount, ...]:
    own = [Mount(str(tree / name), f"{OPT_ML}/{name}", read_only=False) for name in _FOLDERS]
    inputs = sorted(_mounted(spec, channels).items())
    return (*own, *(Mount(str(path), f"{OPT_ML}/{point}", read_only=True) for point, (path, _) in inputs))


def _job_config(spec: ProcessingJobSpec) -> dict[str, Any]:
    """Return what ``processingjobconfig.json`` tells the job."""
    config = processing_request(spec)
    for member in ("Tags", OWN_MEMBER):
        config.pop(member)
    return {"ProcessingJobArn": PROCESSING_JOBS.arn(spec.job_name), **config}
