"""The network of a job whose hosts reach each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import docker
import docker.errors
import docker.types

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes.docker_engine.connection import words_of
from launcher.runtimes.docker_engine.names import JOB_LABELS, network_name
from launcher.runtimes.docker_engine.traits import EngineTraits

_ATTEMPTS = 5


def _network_of(client: docker.APIClient, container: ContainerSpec) -> dict[str, Any] | None:
    """Return the job's own network as the engine inspects it; None where there is none."""
    try:
        network: dict[str, Any] = client.inspect_network(network_name(container))
    except docker.errors.NotFound:
        return None
    return network


def make_network(client: docker.APIClient, container: ContainerSpec) -> None:
    """Make the network of a job, unless it is there; the addresses of its hosts are fixed before any of them runs.

    Raises:
        docker.errors.APIError: the engine does not do it.
    """
    if _network_of(client, container) is not None:
        return
    # Without a way out the hosts still reach each other, as with SageMaker.
    labels = {label: container.labels[label] for label in JOB_LABELS}
    create = partial(client.create_network, driver="bridge", check_duplicate=True, labels=labels)
    name, isolated = network_name(container), container.network_isolated
    if EngineTraits(client).fixes_addresses:
        create(name, internal=isolated)
        return
    for attempt in range(_ATTEMPTS):
        pool = docker.types.IPAMPool(subnet=_free_subnet(client, f"{name}-probe", create))
        try:
            create(name, internal=isolated, ipam=docker.types.IPAMConfig(pool_configs=[pool]))
        except docker.errors.APIError as error:
            if "overlap" not in words_of(error) or attempt + 1 == _ATTEMPTS:  # another job has got it meanwhile
                raise
        else:
            return


def _free_subnet(client: docker.APIClient, probe: str, create: Callable[..., dict[str, Any]]) -> str:
    """Return a subnet that no network has: fixed addresses need one that was asked for, and the engine knows which."""
    try:
        create(probe)
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        client.remove_network(probe)  # of a driver that was killed here
        create(probe)
    try:
        return str(client.inspect_network(probe)["IPAM"]["Config"][0]["Subnet"])
    finally:
        client.remove_network(probe)


def addresses_of(client: docker.APIClient, container: ContainerSpec) -> dict[str, str]:
    """Return the address of each host of a job with a network of its own, fixed before any of them runs."""
    if not needs_network(container):
        return {}
    network = _network_of(client, container)
    if network is None:
        raise RuntimeUnavailableError(
            f"the network of job '{container.job_name}' is gone: somebody removed it.", "Start the job again."
        )
    subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
    # The first address of a subnet is the gateway's.
    return {host: str(subnet[number + 2]) for number, host in enumerate(container.hosts or (container.host,))}


def needs_network(container: ContainerSpec) -> bool:
    """Return whether a job gets a network of its own: hosts that reach each other, or a server without a way out."""
    return len(container.hosts) > 1 or bool(container.port and container.network_isolated)


def networking_config(client: docker.APIClient, container: ContainerSpec, addresses: Mapping[str, str]) -> Any:
    """Return a container's place in its job's network, as the engine takes it; None without such a network."""
    if not addresses:
        return None
    own = client.create_endpoint_config(ipv4_address=addresses[container.host], aliases=[container.host])
    return {"EndpointsConfig": {network_name(container): own}}
