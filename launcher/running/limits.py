"""What each host of a job may use: its instance type's CPUs, memory and GPUs, and the caller's own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.errors import BadInputError
from launcher.jobs.instance_types import instance_type
from launcher.jobs.processing_spec import HostsSpec
from launcher.jobs.spec import OPT_ML, Limits, Mount, TrainingJobSpec
from launcher.requests.training import LOCAL_INSTANCE_TYPES
from launcher.runtimes import Runtime, machine
from launcher.runtimes.images import local_image
from launcher.settings import LaunchSettings, launch_settings

_ALL = -1
_OWN_FOLDERS = tuple(f"{OPT_ML}/{name}" for name in ("input", "model", "output", "checkpoints", "code"))


@dataclass(frozen=True)
class JobLimits:
    """The limits of a job's hosts.

    Attributes:
        limits: of every host; its GPUs are those of the whole job.
        warnings: what was asked for and cannot be had.
    """

    limits: Limits
    warnings: tuple[str, ...] = ()


def job_limits(spec: HostsSpec, runtime: Runtime) -> JobLimits:
    """Return what the hosts of a job may use: the smaller of what their type has and of what this machine has.

    Raises:
        BadInputError: it needs GPUs, and this machine has none, or not those that ``LAUNCHER_GPUS`` names.
    """
    if isinstance(spec, TrainingJobSpec) and (decided := runtime.place(spec)) is not None:
        return JobLimits(*decided)
    if not isinstance(spec, TrainingJobSpec) or not spec.instance_groups:
        return _limits_of_type(spec, runtime)
    hosts, warnings = [], []
    for group in spec.instance_groups:
        alone = replace(
            spec, instance_type=group.instance_type, instance_count=group.instance_count, instance_groups=()
        )
        allowed = _limits_of_type(alone, runtime)
        hosts += [allowed.limits.of_host(number) for number in range(group.instance_count)]
        warnings += [line for line in allowed.warnings if line not in warnings]
    lent: list[int] = [gpu for host in hosts for gpu in host.gpus or () if not runtime.own_machines]
    if len(set(lent)) < len(lent):
        warnings.append("instance groups: hosts share GPUs, for there are fewer than they would have")
    return JobLimits(
        Limits(mounts=hosts[0].mounts, hosts=tuple(hosts), placing=hosts[0].placing, engine=hosts[0].engine),
        tuple(warnings),
    )


def _limits_of_type(spec: HostsSpec, runtime: Runtime) -> JobLimits:
    settings = launch_settings()
    kind = instance_type(spec.instance_type)
    cpus = memory = 0
    if kind is not None:
        cpus = kind.cpus if runtime.own_machines or kind.cpus < len(machine.cpu_ids()) else 0
        memory = kind.memory_bytes if runtime.own_machines or kind.memory_bytes < machine.memory_bytes() else 0
    gpus, warnings = _gpus_elsewhere(spec, settings) if runtime.own_machines else _gpus(spec, settings)
    if kind is None and spec.instance_type not in LOCAL_INSTANCE_TYPES:
        warnings.append(
            f"InstanceType={spec.instance_type} sets no limits: what such an instance has is not known here"
        )
    engine = runtime.engine_for(local_image(spec.image_uri))
    if settings.shm_bytes and not (runtime.runs_images and (engine or not runtime.own_machines)):
        warnings.append(
            f"LAUNCHER_SHM_SIZE has no effect on the {runtime.name} runtime: a job has the machine's /dev/shm"
        )
    mounts = tuple(Mount(*mount) for mount in settings.mounts)
    for mount in mounts:
        _check_mount(mount)
    return JobLimits(
        Limits(
            cpus=cpus,
            memory_bytes=memory,
            gpus=gpus,
            gpus_per_host=kind.gpus
            if kind is not None and gpus and not runtime.own_machines and kind.gpus * spec.instance_count <= len(gpus)
            else 0,
            shm_bytes=settings.shm_bytes,
            ulimits=settings.ulimits,
            mounts=mounts,
            placing=runtime.placing,
            engine=engine,
        ),
        tuple(warnings),
    )


def _gpus(spec: HostsSpec, settings: LaunchSettings) -> tuple[tuple[int, ...] | None, list[str]]:
    """Return the devices that a job gets, None for those that a job without a type sees, and warnings."""
    kind = instance_type(spec.instance_type)
    wanted = _ALL if spec.instance_type == "local_gpu" else kind.gpus if kind is not None else 0
    present = machine.gpu_numbers()
    if settings.gpus:
        _check_present(settings.gpus, present)
    allowed = present if settings.gpus is None else settings.gpus
    if not wanted:
        if kind is not None:
            return ((), []) if present else (None, [])
        return settings.gpus, []
    if allowed:
        count = len(allowed) if wanted == _ALL else wanted * spec.instance_count
        few = (
            f"{spec.instance_type} has {wanted} GPU{'s' if wanted > 1 else ''}, and this job gets {len(allowed)} in all"
        )
        return allowed[:count], [few] if wanted != _ALL and count > len(allowed) else []
    if settings.gpus is not None and spec.instance_type != "local_gpu":
        return (), [f"{spec.instance_type} has GPUs, and the job runs without any: LAUNCHER_GPUS is none"]
    raise BadInputError(
        f"ResourceConfig.InstanceType={spec.instance_type!r} has GPUs, and this machine has no NVIDIA device for it.",
        'Use "local" or a type without GPUs; or run a type with GPUs without any: export LAUNCHER_GPUS=none',
    )


def _gpus_elsewhere(spec: HostsSpec, settings: LaunchSettings) -> tuple[tuple[int, ...] | None, list[str]]:
    """Return as many devices as a host's type has, from 0 on: those of another machine are numbered there."""
    kind = instance_type(spec.instance_type)
    if settings.gpus:
        raise BadInputError(
            f"LAUNCHER_GPUS names {', '.join(map(str, settings.gpus))}, and the hosts are machines of a cluster.",
            "Unset it, or say none: the cluster hands out devices by the instance type.",
        )
    if spec.instance_type == "local_gpu":
        raise BadInputError(
            'ResourceConfig.InstanceType="local_gpu" means all NVIDIA devices of this machine; the hosts are others.',
            "Name a type with as many GPUs as a host needs, such as ml.g4dn.xlarge for one.",
        )
    if settings.gpus is not None and kind is not None and kind.gpus:
        return (), [f"{spec.instance_type} has GPUs, and the job runs without any: LAUNCHER_GPUS is none"]
    return (tuple(range(kind.gpus)) if kind is not None else settings.gpus), []


def _check_present(asked: Sequence[int], present: Sequence[int]) -> None:
    missing = [str(number) for number in asked if number not in present]
    if missing:
        there = ", ".join(map(str, present)) or "none"
        raise BadInputError(
            f"LAUNCHER_GPUS names {', '.join(missing)}, and this machine's NVIDIA devices are: {there}.",
            "Name devices of this machine, or unset it.",
        )


def _check_mount(mount: Mount) -> None:
    for folder in _OWN_FOLDERS:
        if f"{mount.target}/".startswith(f"{folder}/") or folder.startswith(f"{mount.target}/"):
            raise BadInputError(
                f"LAUNCHER_MOUNTS puts {mount.source} at {mount.target}, in the way of the job's own {folder}.",
                f"Choose another place, such as {OPT_ML}/shared.",
            )


def pending_limit(spec: TrainingJobSpec) -> int:
    """Return how many seconds a job may wait for a place to run; 0 for no limit.

    AWS heeds MaxPendingTimeInSeconds for instance types with GPUs alone.
    """
    kind = instance_type(spec.instance_type)
    return spec.max_pending_seconds if kind is not None and kind.gpus else 0
