"""A ``ContainerSpec`` as an engine's options; pure, but for the caller's own variables and limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from typing import Any

import docker.types

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import machine
from launcher.runtimes.docker_engine.lending import CERTIFICATE_VARIABLES
from launcher.runtimes.docker_engine.names import network_name
from launcher.runtimes.docker_engine.traits import EngineTraits
from launcher.settings import stop_grace_seconds

# Capabilities that an engine grants and no algorithm needs: raw packets, device files, programs with own rights.
# Official images run as root, change owners and users, and start an sshd for MPI, which needs the rest.
_DROPPED_CAPABILITIES = ("NET_RAW", "MKNOD", "SETFCAP")
_PIDS_LIMIT = 32768  # more than any training needs, and less than a machine has
PUBLISHED_AT = "127.0.0.1"


def own_limits(engine: EngineTraits) -> list[docker.types.Ulimit] | None:
    """Return the caller's own limits for podman, which asks for more open files than every caller may have."""
    if not engine.is_podman:
        return None
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind) for name, kind in names.items()}
    return [docker.types.Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in limits.items()]


def own_deadline(container: ContainerSpec) -> dict[str, str]:
    """Return what the toolkit needs to end the job in time by itself; an image of somebody else's has no toolkit."""
    if not container.bundled or container.entry_point or not container.max_run_seconds:
        return {}
    return {
        "LAUNCHER_MAX_RUN_SECONDS": str(container.max_run_seconds),
        "LAUNCHER_STOP_GRACE_SECONDS": str(stop_grace_seconds()),
    }


def host_options(
    container: ContainerSpec, engine: EngineTraits, addresses: Mapping[str, str], lent: Sequence[docker.types.Mount]
) -> dict[str, Any]:
    """Return what a container may use of its machine, as docker-py's ``create_host_config`` takes it.

    Args:
        container: the host.
        engine: where it will run.
        addresses: of all hosts of its job; empty where it has no network with others.
        lent: mounts beside its own.
    Raises:
        RuntimeUnavailableError: it could not be reached.
    """
    options: dict[str, Any] = {
        "init": True,
        "mounts": [
            *(
                docker.types.Mount(mount.target, mount.source, type="bind", read_only=mount.read_only)
                for mount in container.mounts
            ),
            *lent,
        ],
        # Not the engine's default: another process may have to read the log again, whole and in order.
        "log_config": docker.types.LogConfig(type="json-file", config={}),
        "shm_size": container.limits.shm_bytes or (container.limits.memory_bytes or machine.memory_bytes()) // 2,
        "ulimits": [*(own_limits(engine) or ()), *map(_ulimit, container.limits.ulimits)] or None,
    }
    if container.limits.gpus:
        numbers = [str(number) for number in container.limits.gpus]
        options["device_requests"] = [docker.types.DeviceRequest(device_ids=numbers, capabilities=[["gpu"]])]
    if addresses:
        # Names in a file as well: the engine's own names know a host only while it runs.
        peers = {host: address for host, address in addresses.items() if host != container.host}
        options |= {"network_mode": network_name(container), "extra_hosts": peers}
    elif container.network_isolated:
        options["network_mode"] = "none"
    if container.port and not engine.sees_containers:
        if container.network_isolated:
            raise RuntimeUnavailableError(
                "a container without a network can be reached only where this machine is on the engine's networks.",
                "Leave enable_network_isolation out.",
            )
        options["port_bindings"] = {container.port: (PUBLISHED_AT, None)}
    options |= {"security_opt": ["no-new-privileges"], "cap_drop": list(_DROPPED_CAPABILITIES)}
    if container.bundled:
        options["cap_drop"] = ["ALL"]
    if not engine.is_rootless:  # a rootless engine can only set the limits that the machine hands to its users
        allowed = container.limits.memory_bytes
        options |= {
            "pids_limit": _PIDS_LIMIT,
            "mem_limit": min(allowed, _memory_for_jobs()) if allowed else _memory_for_jobs(),
        }
        if container.limits.cpus and (cpus := _chosen_cpus(engine.cpu_count, container)):
            options["cpuset_cpus"] = cpus
    return options


def inherited_variables(container: ContainerSpec) -> dict[str, str]:
    """Return the caller's own variables that a container gets; certificates are lent instead."""
    names = [name for name in container.inherited if name not in CERTIFICATE_VARIABLES]
    return {name: os.environ[name] for name in names if name in os.environ}


def _ulimit(text: str) -> docker.types.Ulimit:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    return docker.types.Ulimit(name=name, soft=int(soft), hard=int(hard))


def _chosen_cpus(count: int, container: ContainerSpec) -> str:
    """Return the CPUs of a container, as the engine takes them; empty where it has no more of them than that."""
    own = machine.cpu_ids()
    ids = own if len(own) <= count else list(range(count))
    if container.limits.cpus >= len(ids):
        return ""
    chosen = machine.chosen_cpus(ids, container.limits.cpus, f"{container.job_name}/{container.host}")
    return ",".join(map(str, chosen))


def _memory_for_jobs() -> int:
    """Return the memory limit of a container in bytes: a job that wants more is killed before other programs are."""
    memory = machine.memory_bytes()
    return memory - min(memory // 16, 1 << 30)
