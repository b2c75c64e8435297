"""``AnotherMachine``: a runtime that hands a whole training job to the launcher of another machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher.elsewhere.connection import borrow, give_back, inside_command, ssh_line
from launcher.elsewhere.messages import container_values
from launcher.errors import LauncherError, RuntimeUnavailableError, UnsupportedOptionError
from launcher.jobs.spec import ContainerSpec, Limits, TrainingJobSpec
from launcher.runtimes import Execution, HostState, Runtime
from launcher.runtimes.addresses import MachineAddress
from launcher.runtimes.usage import HostUsage
from launcher.settings import S3Settings
from launcher.storage.address import is_loopback_url


class AnotherMachine(Runtime):
    """Runs training jobs by the launcher of another machine; the driver there does all that a job needs.

    What decides whether a job can run, its engine, its limits and its name, is asked there before anything is sent.

    Args:
        address: the machine, and its runtime; ``auto`` is decided there.
        image_uri: the user's own image, which decides with it.
    """

    driver = "launcher.elsewhere.driver:ElsewhereDriver"
    no_warm_pools = ""  # that is decided there

    def __init__(self, address: MachineAddress, image_uri: str | None = None) -> None:
        self.address = address
        self._image_uri = image_uri
        self._facts: dict[str, Any] = {}
        self._checked: dict[str, Any] = {}

    def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Ask the other machine for something.

        Raises:
            RuntimeUnavailableError: it cannot be reached.
            LauncherError: what it said.
        """
        connection = borrow(self.address)
        try:
            return connection.ask(call, **arguments)
        finally:
            give_back(connection)

    def _fact(self, name: str) -> Any:
        if not self._facts:
            self._facts = self.ask("choose", runtime=self.address.runtime, image_uri=self._image_uri)
            self.address = replace(self.address, runtime=self._facts["name"])
        return self._facts[name]

    @property
    def inner_name(self) -> str:
        """The runtime there."""
        return str(self._fact("name")) if self.address.runtime == "auto" else self.address.runtime

    @property
    def name(self) -> str:  # type: ignore[override]
        """The runtime and the machine, as records have them."""
        self.inner_name  # noqa: B018 - decides it
        return self.address.runtime_name

    @property
    def network_interface(self) -> str:  # type: ignore[override]
        """As it is there."""
        return str(self._fact("network_interface"))

    @property
    def runs_images(self) -> bool:  # type: ignore[override]
        """As it is there."""
        return bool(self._fact("runs_images"))

    @property
    def gpus(self) -> int:
        """How many there are there."""
        return int(self._fact("gpus"))

    @property
    def host_address(self) -> str:
        """There is none: a job there does not reach servers of this machine."""
        raise RuntimeUnavailableError(
            f"jobs on {self.address} do not reach servers of this machine.", "Use an S3 that both machines reach."
        )

    def place(self, spec: TrainingJobSpec) -> tuple[Limits, tuple[str, ...]]:
        """Ask what each host may use there, and refuse what cannot be done there."""
        _refuse_what_stays(spec, self.address)
        answer = self.ask("place", spec=spec.to_dict(), runtime=self.inner_name)
        return Limits.from_dict(answer["limits"]), (*answer["warnings"], *_notes(spec, self.address))

    def check(self, container: ContainerSpec) -> None:
        """Ask whether the host could be run there, and whether the job's name is free."""
        self._checked = self.ask("check", container=container_values(container), runtime=self.inner_name)

    def refused_faults(self, container: ContainerSpec) -> Mapping[str, str]:
        """Return what was said when the host was checked."""
        if not self._checked:
            self.check(container)
        refused: Mapping[str, str] = self._checked["refused_faults"]
        return refused

    def describe_image(self, container: ContainerSpec) -> str:
        """Return what the job runs in there."""
        if not self._checked:
            self.check(container)
        return f"{self._checked['image']} on {self.address}"

    def prepare(self, container: ContainerSpec) -> None:
        """Do nothing: the driver there does it."""

    def start(self, container: ContainerSpec) -> Execution:
        """Refuse: hosts are started there."""
        raise RuntimeUnavailableError(f"hosts of {self.address} are started by the launcher there.", "Submit a job.")

    def find(self, container: ContainerSpec) -> Execution | None:
        """Return a host as others may look at it."""
        return _HostElsewhere(self, container)


class _HostElsewhere(Execution):
    """A host of a job that runs on another machine, to be looked into."""

    def __init__(self, machine: AnotherMachine, container: ContainerSpec) -> None:
        self._machine = machine
        self._container = container

    @property
    def reference(self) -> dict[str, Any]:
        return {"machine": str(self._machine.address)}

    def state(self) -> HostState:
        return HostState.RUNNING

    def wait(self, timeout_seconds: float) -> int | None:
        raise RuntimeUnavailableError("the launcher there waits for the host.", "Follow the job.")

    def usage(self) -> HostUsage | None:
        """Ask what the host uses; None where it has ended, or cannot be asked."""
        try:
            answer = self._machine.ask("usage", name=self._container.job_name, host=self._container.host)
        except LauncherError:
            return None
        return None if answer["usage"] is None else HostUsage(**answer["usage"])

    def run_inside(self, command: Sequence[str]) -> int:
        """Run a command where the job runs, by the launcher there."""
        connection = borrow(self._machine.address)
        try:
            arguments = ["shell", self._container.job_name, "--host", self._container.host, "--", *command]
            line = inside_command(connection.facts, arguments)
        finally:
            give_back(connection)
        terminal = all(os.isatty(stream.fileno()) for stream in (sys.stdin, sys.stdout))
        return subprocess.call([*ssh_line(self._machine.address, terminal=terminal), line])

    def terminate(self) -> None:
        """Ask for a stop of the job, as its driver does it."""
        self._machine.ask("stop", name=self._container.job_name)

    def kill(self) -> None:
        """Ask for a stop of the job, as its driver does it."""
        self.terminate()

    def remove(self) -> None:
        """Do nothing: the driver there does it."""


def _refuse_what_stays(spec: TrainingJobSpec, address: MachineAddress) -> None:
    """Refuse what has a meaning on this machine alone.

    Raises:
        UnsupportedOptionError: the job has something of the kind.
    """
    if os.environ.get("LAUNCHER_MOUNTS"):
        raise UnsupportedOptionError(
            f"LAUNCHER_MOUNTS lends folders of this machine, and the job runs on {address}.",
            "Unset it; give the folder as a channel.",
        )
    if spec.debug:
        raise UnsupportedOptionError(
            f"a debugger cannot reach a job on {address} from here.",
            f"Log in there: {address.login}; or debug on this machine: unset LAUNCHER_HOST",
        )
    for channel in spec.channels:
        if channel.s3_data_type != "S3Prefix" and (spec.s3 is None or spec.s3["kind"] == "embedded"):
            raise UnsupportedOptionError(
                f"channel '{channel.name}': S3DataType={channel.s3_data_type} names objects of this machine one by "
                f"one, and the job runs on {address}.",
                "Put the objects below one prefix or folder, or on an S3 that both machines reach.",
            )
    if spec.s3 is not None and is_loopback_url(S3Settings.from_dict(dict(spec.s3)).endpoint_url or ""):
        raise UnsupportedOptionError(
            f"the S3 at {spec.s3['endpoint_url']} is on this machine's own network, and the job runs on {address}.",
            "Use an S3 that both machines reach, or the embedded one.",
        )


def _notes(spec: TrainingJobSpec, address: MachineAddress) -> list[str]:
    if spec.s3 is None:
        return []
    if spec.s3["kind"] == "embedded":
        return [f"requests of the job itself to S3 reach the S3 that is built in on {address}, not this machine's"]
    return [f"the job reads and writes {S3Settings.from_dict(dict(spec.s3)).place} with the keys that {address} has"]
