"""What an engine is and can do, as far as containers and networks of jobs depend on it."""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

import docker
import docker.errors
import docker.utils

from launcher.runtimes.docker_engine.connection import BROKEN, is_podman, is_rootless
from launcher.runtimes.probe import engine_address

_SIOCGIFADDR = 0x8915


class EngineTraits:
    """The engine that the environment names; each property asks it when it is read."""

    def __init__(self, client: docker.APIClient) -> None:
        self._client = client

    @property
    def is_rootless(self) -> bool:
        """Whether it is the caller's own, without root's rights."""
        return is_rootless()

    @property
    def is_podman(self) -> bool:
        """Whether it is podman."""
        return is_podman(engine_address())

    @property
    def cpu_count(self) -> int:
        """How many CPUs it gives to containers."""
        return int(self._client.info()["NCPU"])

    @property
    def fixes_addresses(self) -> bool:
        """Whether containers get the addresses that they ask for in a network whose subnet the engine chose.

        podman gives them; Docker does since 29.0.4 (moby/moby#51583).
        """
        if docker.utils.version_lt(self._client.api_version, "1.52"):  # which is known without a question
            return self.is_podman
        return self.is_podman or is_version(self._client.version()["Version"], 29, 0, 4)

    @property
    def sees_containers(self) -> bool:
        """Whether this machine is on its networks, so that it reaches containers at their own addresses.

        It is not where the engine runs in a machine of its own (Docker Desktop), elsewhere, or without root's rights.
        """
        if sys.platform != "linux":
            return False
        try:
            network = self._client.inspect_network("bridge")
        except (docker.errors.NotFound, *BROKEN):
            return False
        interface = (network.get("Options") or {}).get("com.docker.network.bridge.name", "")
        return bool(interface) and _interface_address(interface) == bridge_address(network) != ""


def is_version(text: str, *least: int) -> bool:
    """Return whether a version, such as ``29.1.0-rc.1`` or ``20.10.24+dfsg1``, is that one or newer."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[: len(least)]) >= least


def bridge_address(network: Mapping[str, Any]) -> str:
    """Return this machine's address on a bridge network; empty where the network names none.

    An engine of 20.10 that has just made its own bridge names no gateway before it is restarted. The interface has
    the address then; where it cannot be seen, the engine has taken the first address of the subnet.

    Args:
        network: as the engine's inspection returns it.
    """
    configs = [config for config in (network.get("IPAM") or {}).get("Config") or () if config]
    for config in configs:
        if config.get("Gateway"):
            return str(config["Gateway"])
    interface = (network.get("Options") or {}).get("com.docker.network.bridge.name", "")
    subnets = [ipaddress.ip_network(config["Subnet"]) for config in configs if config.get("Subnet")]
    subnets = [subnet for subnet in subnets if subnet.version == 4]
    own_address = _interface_address(interface) if interface else ""
    if own_address and (not subnets or any(ipaddress.ip_address(own_address) in subnet for subnet in subnets)):
        return own_address
    return str(next(subnets[0].hosts())) if subnets else ""


def _interface_address(name: str) -> str:
    """Return the IPv4 address of a network interface of this machine; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])
