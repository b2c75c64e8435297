"""What is recorded of an endpoint and of its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from launcher.jobs.endpoint_spec import Deployment, EndpointConfigSpec
from launcher.jobs.record import Record


class EndpointStatus(StrEnum):
    """EndpointStatus, as far as an endpoint of one machine has them."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    DELETING = "Deleting"
    FAILED = "Failed"


@dataclass
class EndpointConfigRecord(Record):
    """An endpoint configuration; its spec is that of an ``EndpointConfigSpec``."""

    @property
    def config_spec(self) -> EndpointConfigSpec:
        """The spec as it was accepted."""
        return EndpointConfigSpec.from_dict(self.spec)

    def check_spec(self) -> None:
        """Refuse a spec that is no configuration's."""
        if not isinstance(self.config_spec.config_name, str):
            raise ValueError("'spec' names no endpoint configuration")


@dataclass
class EndpointRecord(Record):
    """An endpoint; after its creation only the process that holds its lock writes it.

    Attributes:
        spec: name, runtime and tags.
        status: an ``EndpointStatus``.
        failure_reason: why it failed, or why its last update was given up.
        port: where it listens, on the loopback address.
        token: what its process and the launcher prove to one another that they have.
        deployment: what answers, or is to answer first.
        coming: what an update that is under way brings; empty where there is none.
        given_up: the identity of a deployment that could not be made.
        leaving: former deployments whose containers may still be there, by identity.
        attempts: how often each container was started again, by the name of the host without that number.
    """

    status: str = EndpointStatus.CREATING
    failure_reason: str = ""
    port: int = 0
    token: str = field(default="", repr=False)
    deployment: dict[str, Any] = field(default_factory=dict)
    coming: dict[str, Any] = field(default_factory=dict)
    given_up: str = ""
    leaving: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """Whether nothing runs, and nothing will by itself."""
        return self.status == EndpointStatus.FAILED

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self.spec["endpoint_name"])

    @property
    def runtime(self) -> str:
        """The name of the runtime that its containers run on."""
        return str(self.spec["runtime"])

    @property
    def current(self) -> Deployment:
        """What answers, or is to answer first."""
        return Deployment.from_dict(self.deployment)

    def check_spec(self) -> None:
        """Refuse a spec that is no endpoint's."""
        if not isinstance(self.name, str) or not isinstance(self.runtime, str):
            raise ValueError("'spec' names no endpoint and runtime")
        if not isinstance(self.attempts, dict):
            raise ValueError("'attempts' is a list")
        if self.status not in set(EndpointStatus):
            raise ValueError(f"'status' is {self.status!r}, which this version does not know")
        _ = self.current
