"""From a processing job's spec to what will be run: pure, so that a dry run shows exactly what a real one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.channels.resolving import ChannelSource, host_names, source_of
from launcher.jobs.kinds import PROCESSING_JOBS
from launcher.jobs.processing_spec import ProcessingInput, ProcessingJobSpec
from launcher.jobs.spec import OPT_ML, Mount
from launcher.requests.processing import processing_request
from launcher.requests.shapes import OWN_MEMBER
from launcher.running.plan import RunPlan, compact, make_containers, resource_config

INPUTS = "processing/.inputs"
"""Below ``/opt/ml``: where inputs are mounted that the job sees elsewhere, as links to their files."""

_FOLDERS = ("processing", "config", "output")


def is_linked(spec: ProcessingJobSpec, given: ProcessingInput, source: ChannelSource) -> bool:
    """Return whether a job sees links to an input's files, because something else lies inside the input.

    It is mounted aside then: a mount inside the caller's own folder would need a folder there.
    """
    others = [*(other.local_path for other in spec.inputs), *(output.local_path for output in spec.outputs)]
    is_outer = any(path.startswith(f"{given.local_path}/") for path in others)
    return is_outer and not given.copied and not source.is_file


def present_inputs(spec: ProcessingJobSpec) -> tuple[ProcessingInput, ...]:
    """Return the inputs whose files are there before the job begins."""
    return tuple(given for given in spec.inputs if not given.app_managed and not given.channel.is_stream)


def make_processing_plan(
    spec: ProcessingJobSpec,
    *,
    home: Path,
    job_path: Path,
    work_path: Path,
    channels: Mapping[str, ChannelSource],
    channel_notes: Sequence[str] = (),
    network_interface: str,
) -> RunPlan:
    """Work out every container, file, mount and result of a job.

    Args:
        spec: the job.
        home: the store's folder.
        job_path: the job's folder, for the logs.
        work_path: the folder with each host's ``/opt/ml`` tree and the runtimes' own folders.
        channels: what the inputs resolve to, by name, or by host and name.
        channel_notes: about inputs that are no plain mounts.
        network_interface: by which the hosts of the job reach each other.
    """
    hosts = host_names(spec)
    interface = "lo" if spec.enable_network_isolation and len(hosts) == 1 else network_interface
    points = {point: source.is_file for point, (_, source) in _mounted(spec, hosts[0], channels).items()}
    containers = make_containers(
        spec,
        label=f"{PROCESSING_JOBS.folder}/{spec.job_name}",
        home=home,
        job_path=job_path,
        work_path=work_path,
        entry_point=spec.container_entry_point,
        arguments=spec.container_arguments,
        environment={},
        mounts=lambda host: _mounts(spec, host, work_path / host / "opt_ml", channels),
    )
    return RunPlan(
        job_name=spec.job_name,
        runtime=spec.runtime,
        image=containers[0].image,
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
            *(given.tree_path for given in present_inputs(spec)),
            *(str(PurePosixPath(path).parent) for path in spec.stream_places.values()),
            *(output.tree_path for output in spec.outputs if output.local_path),
        ),
        channel_notes=tuple(channel_notes),
    )


def _mounted(
    spec: ProcessingJobSpec, host: str, channels: Mapping[str, ChannelSource]
) -> dict[str, tuple[ProcessingInput, ChannelSource]]:
    """Return the inputs of a host by their mount points below ``/opt/ml``."""
    mounted = {}
    for given in present_inputs(spec):
        source = source_of(channels, host, given.channel.name)
        linked = is_linked(spec, given, source)
        point = f"{INPUTS}/{given.channel.name}" if linked else given.tree_path
        mounted[point + (f"/{source.path.name}" if source.is_file else "")] = given, source
    return mounted


def _mounts(spec: ProcessingJobSpec, host: str, tree: Path, channels: Mapping[str, ChannelSource]) -> tuple[Mount, ...]:
    own = [Mount(str(tree / name), f"{OPT_ML}/{name}", read_only=False) for name in _FOLDERS]
    inputs = sorted(_mounted(spec, host, channels).items(), key=lambda entry: entry[0])
    mounts = [
        Mount(str(source.path), f"{OPT_ML}/{point}", read_only=not given.copied) for point, (given, source) in inputs
    ]
    return (*own, *mounts, *spec.limits.mounts)


def _job_config(spec: ProcessingJobSpec) -> dict[str, Any]:
    """Return what ``processingjobconfig.json`` tells the job."""
    config = processing_request(spec)
    for member in ("Tags", OWN_MEMBER):
        config.pop(member)
    return {"ProcessingJobArn": PROCESSING_JOBS.arn(spec.job_name), **config}
