"""``torch.distributed`` over the hosts of a job: who is who, and where they meet, in the variables that torchrun sets.

The SDK asks for it by hyperparameters, as the official toolkit reads them.
"""

import os
import socket
import sys
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from job_toolkit.environment import (
    TORCH_DISTRIBUTED,
    JobEnvironment,
    JobInputError,
    count_gpus,
    distribution_groups,
    instance_groups,
)

MASTER_PORT = 7777  # SageMaker's
_LOOPBACK = "lo"
_SHARED_PORTS = range(20_000, 30_000)  # below those that systems hand out


class Place(NamedTuple):
    """Where this host stands among those that train together.

    Attributes:
        hosts: those that do, in order; the first is where they meet.
        number: of this one, from 0.
        processes: on each of them.
    """

    hosts: tuple[str, ...]
    number: int
    processes: int


def torch_place(environment: JobEnvironment) -> Place | None:
    """Return this host's place; None where the job asks for no ``torch.distributed``, or not on this host."""
    if environment.platform_hyperparameters.get(TORCH_DISTRIBUTED) is not True:
        return None
    hosts = _training_hosts(environment)
    if environment.current_host not in hosts:
        return None
    return Place(hosts, hosts.index(environment.current_host), count_gpus() or 1)


def launched(arguments: Sequence[str], environment: JobEnvironment, place: Place | None) -> list[str]:
    """Return the command that starts the entry point: torchrun's, where a host runs several processes.

    Args:
        arguments: that start one process.
        place: as ``torch_place`` gave it.
    Raises:
        JobInputError: the entry point is no Python program.
    """
    if place is None:
        return list(arguments)
    interpreter = [sys.executable, "-u"]
    if list(arguments[:2]) != interpreter:
        raise JobInputError(f"entry point {arguments[-1]!r}: torch.distributed starts Python programs (.py) alone.")
    if place.processes == 1:
        return list(arguments)
    options = {
        "--nnodes": len(place.hosts),
        "--nproc_per_node": place.processes,
        "--node_rank": place.number,
        "--master_addr": _address(place.hosts[0], environment),
        "--master_port": _port(environment),
    }
    words = [str(word) for option in options.items() for word in option]
    return [*interpreter, "-m", "torch.distributed.run", *words, *arguments[2:]]


def meeting_variables(environment: JobEnvironment, place: Place | None) -> dict[str, str]:
    """Return the variables by which the processes of a job find each other; what the job was given by name wins.

    Where hosts meet is told to every job of several hosts, as by the official images of PyTorch: scripts of theirs join
    by the numbers of the hosts alone.
    """
    hosts = place.hosts if place else environment.hosts
    variables: dict[str, str] = {}
    if place or len(hosts) > 1:
        variables = {"MASTER_ADDR": _address(hosts[0], environment), "MASTER_PORT": str(_port(environment))}
        interface = environment.network_interface_name
        if interface in (name for _, name in socket.if_nameindex()):  # /sys may show those of another network
            variables |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    if place and place.processes == 1:
        variables |= _ranks(environment, place)
    elif place:
        variables["NODE_RANK"] = str(place.number)
    return {name: value for name, value in variables.items() if name not in os.environ}


def _ranks(environment: JobEnvironment, place: Place) -> dict[str, str]:
    """Return what torchrun tells the only process of a host."""
    number, count = str(place.number), str(len(place.hosts))
    return {
        **dict.fromkeys(("RANK", "ROLE_RANK", "GROUP_RANK", "NODE_RANK"), number),
        **dict.fromkeys(("WORLD_SIZE", "ROLE_WORLD_SIZE", "GROUP_WORLD_SIZE"), count),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "TORCHELASTIC_RUN_ID": environment.job_name or "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


def _training_hosts(environment: JobEnvironment) -> tuple[str, ...]:
    groups = instance_groups(environment.resource_config)
    listed = [groups.get(name, {}).get("hosts") for name in distribution_groups(environment)]
    members = {str(host) for hosts in listed if isinstance(hosts, list) for host in hosts}
    return tuple(host for host in environment.hosts if host in members) or environment.hosts


def _address(host: str, environment: JobEnvironment) -> str:
    """Return the name of a host, or where names do not resolve and all hosts are this machine, its own address."""
    if environment.network_interface_name != _LOOPBACK:
        return host
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "127.0.0.1"
    return host


def _port(environment: JobEnvironment) -> int:
    """Return SageMaker's port; another for each job where jobs share the machine's own network."""
    if environment.network_interface_name != _LOOPBACK:
        return MASTER_PORT
    return _SHARED_PORTS[zlib.crc32(environment.job_name.encode()) % len(_SHARED_PORTS)]
