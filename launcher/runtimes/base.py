"""The one seam of the launcher: where and how a host of a job is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from launcher.jobs.spec import ContainerSpec


class Execution(ABC):
    """One host of a job that has been started, by this process or by another one before it."""

    @property
    @abstractmethod
    def reference(self) -> dict[str, Any]:
        """JSON values for the record, for people; the runtime itself finds an execution by the job."""

    @abstractmethod
    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the end; return the exit code (128 + n after signal n), or None when the time is up.

        Everything that the host printed is in its log file before the exit code is returned.

        Raises:
            RuntimeUnavailableError: the engine has gone away for good; nobody knows how the job ended.
        """

    @abstractmethod
    def terminate(self) -> None:
        """Send SIGTERM to the main process and return at once; nothing happens when it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End every process of the host at once; nothing happens when it has ended."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what the runtime keeps of the host, whatever state it is in; again does no harm."""


class Runtime(ABC):
    """A way of running containers, or something like them."""

    name: str

    @property
    def host_address(self) -> str:
        """The address of this machine at which a job reaches what listens here.

        Raises:
            RuntimeUnavailableError: there is none, as with an engine on another machine.
        """
        return "127.0.0.1"

    @abstractmethod
    def check(self, container: ContainerSpec) -> None:
        """Refuse, before anything is started, what could not be run.

        Raises:
            RuntimeUnavailableError: the runtime itself does not work here.
            ImageError: the image is not to be had.
        """

    @abstractmethod
    def describe_image(self, container: ContainerSpec) -> str:
        """Return what the job will run in, as a person would name it."""

    @abstractmethod
    def prepare(self, container: ContainerSpec) -> None:
        """Have the image ready, building it if need be; again costs next to nothing.

        Raises:
            ImageError: it cannot be built.
        """

    @abstractmethod
    def start(self, container: ContainerSpec) -> Execution:
        """Start a host; its log file begins anew.

        Raises:
            ImageError: the image does not follow the contract.
            RuntimeUnavailableError: the runtime could not start it.
        """

    @abstractmethod
    def find(self, container: ContainerSpec) -> Execution | None:
        """Return the host that was started for this job and this home before, if anything of it is left."""

    def reclaim(self, container: ContainerSpec) -> None:  # noqa: B027 - most runtimes have nothing to do here
        """Make everything that the host wrote to ``/opt/ml`` belong to the caller."""
