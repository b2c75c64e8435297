"""Looks into a job that runs, from a process that does not drive it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from launcher.errors import BadInputError, RuntimeUnavailableError
from launcher.jobs.record import HostsRecord
from launcher.jobs.spec import ContainerSpec
from launcher.jobs.store import Store
from launcher.jobs.usage import UsageSample, latest_samples
from launcher.running.driving import driver_class
from launcher.running.metering import UsageMeter
from launcher.running.runner import HostsDriver
from launcher.runtimes import Execution, Runtime, get_runtime

_FIRST_SECONDS = 0.5  # between the two looks that a first number of CPU time needs


class RunningJob:
    """The hosts of a job that runs.

    Args:
        store: the home that the job lives in.
        name: the job.
        runtime: default: the runtime that the job was submitted for.
    Raises:
        BadInputError: it has ended, has not started its hosts yet, or is of a kind without hosts.
    """

    def __init__(self, store: Store[Any], name: str, runtime: Runtime | None = None) -> None:
        record = store.load(name)
        if not isinstance(record, HostsRecord):
            raise BadInputError(
                f"a {store.kind.noun} has no hosts of its own to look into.",
                "Name a training job or a processing job: launcher ls",
            )
        if record.terminal:
            raise BadInputError(
                f"{store.kind.noun} '{name}' has ended ({record.status}); nothing of it runs any more.",
                f"What it left: launcher describe {name}, launcher logs {name}",
            )
        if "start" not in record.steps:
            raise BadInputError(
                f"{store.kind.noun} '{name}' has not started yet ({record.secondary_status}).",
                f"Try again when it runs; see: launcher logs -f {name}",
            )
        self._runtime = runtime or get_runtime(record.runtime)
        driver = driver_class(store)(store, name, self._runtime)
        assert isinstance(driver, HostsDriver)  # its record says so
        self._name = name
        self.containers: Mapping[str, ContainerSpec] = {entry.host: entry for entry in driver.containers}
        self._meter = UsageMeter(
            driver.containers, record.hosts_spec.volume_size_gb, latest_samples(store.folder(name).usage_path)
        )
        self._executions: dict[str, Execution] = {}

    def host(self, host: str) -> Execution:
        """Return a host that runs.

        Raises:
            BadInputError: the job has no such host, or it has ended.
            RuntimeUnavailableError: the engine does not answer.
        """
        if host not in self.containers:
            raise BadInputError(f"job '{self._name}' has no host '{host}'.", f"It has: {', '.join(self.containers)}.")
        execution = self._runtime.look(self.containers[host])
        if execution is None:
            raise BadInputError(f"host '{host}' of job '{self._name}' has ended.", "The others may still run.")
        return execution

    def usage(self) -> dict[str, UsageSample]:
        """Return what each host uses at this moment; a host that has ended has its last sample."""
        for host, container in self.containers.items():
            if host not in self._executions:
                try:
                    execution = self._runtime.look(container)
                except RuntimeUnavailableError:
                    continue
                if execution is not None:
                    self._executions[host] = execution
        if not self._meter.latest:
            self._meter.sample(self._executions)
            time.sleep(_FIRST_SECONDS)
        self._meter.sample(self._executions)
        return {host: self._meter.latest[host] for host in self.containers if host in self._meter.latest}
