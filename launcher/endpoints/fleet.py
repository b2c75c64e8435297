"""The containers of one deployment: started together, watched one by one, started again when they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.endpoints.routing import Instance, Variant
from launcher.errors import LauncherError, ModelHostError
from launcher.jobs.endpoint_spec import Deployment, VariantSpec
from launcher.jobs.folder import JobFolder
from launcher.jobs.model_spec import ModelSpec
from launcher.running.reach import Reach, s3_in_reach
from launcher.runtimes import Runtime
from launcher.serving.model_host import (
    HEALTH_CHECK_SECONDS,
    STOP_GRACE_SECONDS,
    ModelHost,
    ping,
    plan_host,
)
from launcher.trees import remove_tree

MOST_RESTARTS = 5
"""In a row, of one container, before its endpoint fails."""

_TICK_SECONDS = 0.25
_PING_SECONDS = 10.0
_MISSED_PINGS = 3
_LASTING_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 10.0
_HOST_NAME_CHARACTERS = 32
_LOG = logging.getLogger("launcher.endpoint")


class _EndedError(Exception):
    """The fleet is to be left or stopped."""


@dataclass
class _Replica:
    """One of a variant's containers; another takes its place when it ends.

    Attributes:
        name: of the host, without the number of its start.
        model: what it serves.
        host: the container as it is now.
        failures: in a row.
    """

    name: str
    model: ModelSpec
    variant: VariantSpec
    instance: Instance
    host: ModelHost
    failures: int = 0


class Fleet:
    """All containers of a deployment.

    Args:
        deployment: what they serve.
        folder: the endpoint's.
        home: the store's.
        runtime: what runs them.
        attempts: how often each was started again; changed here, and told by ``on_attempt`` before a start.
        fresh: whether none of them has ever answered: one that ends before it does is not started again.
    """

    def __init__(
        self,
        deployment: Deployment,
        folder: JobFolder,
        home: Path,
        runtime: Runtime,
        attempts: dict[str, int],
        on_attempt: Callable[[], None],
        *,
        fresh: bool,
    ) -> None:
        self.deployment = deployment
        self.failure: LauncherError | None = None
        self.failed_variant = ""
        self._folder = folder
        self._home = home
        self._runtime = runtime
        self._attempts = attempts
        self._on_attempt = on_attempt
        self._fresh = fresh
        self._ending = threading.Event()
        self._kept = ExitStack()
        self._reaches: dict[str, Reach] = {}
        self.warnings: list[str] = []
        self._replicas = [
            self._replica(variant, position, number)
            for position, variant in enumerate(deployment.config.variants)
            for number in range(variant.instance_count)
        ]
        self._threads = [
            threading.Thread(target=self._keep, args=(replica,), name=replica.name, daemon=True)
            for replica in self._replicas
        ]

    @property
    def variants(self) -> list[Variant]:
        """Who answers, for the router."""
        return [
            Variant(
                variant.name,
                variant.weight,
                tuple(replica.instance for replica in self._replicas if replica.variant.name == variant.name),
            )
            for variant in self.deployment.config.variants
        ]

    @property
    def ready(self) -> bool:
        """Whether every container answers."""
        return all(replica.instance.up for replica in self._replicas)

    @property
    def in_flight(self) -> int:
        """How many requests the containers are at."""
        return sum(replica.instance.in_flight for replica in self._replicas)

    def start(self) -> None:
        """Begin to start what does not run, and to watch all; returns at once, ``ready`` and ``failure`` tell more.

        Raises:
            LauncherError: a model's S3, or the image, cannot be had.
        """
        for name, model in self.deployment.models.items():
            reach = self._kept.enter_context(s3_in_reach(model, self._runtime, self._home))
            self._reaches[name] = reach
            if reach.problem:
                self.warnings.append(f"the model's container cannot reach its S3: {reach.problem}")
        self._folder.make_work_path()
        for replica in self._replicas:
            self._runtime.prepare(replica.host.container)
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Watch no more; the containers go on."""
        self._ending.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._kept.close()

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End all containers, together; nothing of them is left but their logs.

        Raises:
            LauncherError: one of them could not be removed; the others are.
        """
        self.leave()
        errors: list[LauncherError | OSError] = []

        def stop(replica: _Replica) -> None:
            replica.instance.up = False
            try:
                replica.host.stop(grace_seconds)
                replica.instance.forget_connections()
                remove_tree(Path(replica.host.container.state_path))
            except (LauncherError, OSError) as error:
                errors.append(error)

        threads = [threading.Thread(target=stop, args=(replica,)) for replica in self._replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0] if isinstance(errors[0], LauncherError) else LauncherError(str(errors[0]))

    def log_paths(self) -> list[Path]:
        """Return the logs of the containers as they are now."""
        return [Path(replica.host.container.log_path) for replica in self._replicas]

    def _replica(self, variant: VariantSpec, position: int, number: int) -> _Replica:
        identity = self.deployment.containers
        name = f"{variant.name[:_HOST_NAME_CHARACTERS]}-{position + 1}-{number + 1}-{identity}"
        model = self.deployment.models[variant.name]
        if self.deployment.config.enable_network_isolation:
            model = replace(model, enable_network_isolation=True)
        return _Replica(name, model, variant, Instance(name, variant.name), self._host(name, model, variant))

    def _host(self, name: str, model: ModelSpec, variant: VariantSpec) -> ModelHost:
        """Return the container as often as it was started."""
        attempt = self._attempts.get(name, 0)
        plan = plan_host(
            model,
            self._folder,
            home=self._home,
            kind="endpoints",
            host=f"{name}-{attempt}" if attempt else name,
            limit_seconds=variant.health_check_seconds or HEALTH_CHECK_SECONDS,
        )
        if plan.container.network_isolated:  # a network of its own, not one that all hosts of a job share
            plan = replace(plan, container=replace(plan.container, job_name=f"{plan.container.job_name}-{name}"))
        return ModelHost(self._runtime, plan, self._home)

    def _keep(self, replica: _Replica) -> None:
        """See to it that a container answers, until the fleet ends or that is hopeless."""
        while not self._ending.is_set():
            up_since = None
            try:
                replica.host.start(self._reaches[replica.variant.name])
                replica.instance.address = replica.host.wait_until_healthy(self._check_ending)
                replica.instance.up, up_since = True, time.monotonic()
                self._fresh = self._fresh and not self.ready
                self._watch(replica)
            except _EndedError:
                return
            except LauncherError as error:
                replica.instance.up = False
                replica.instance.forget_connections()
                if up_since is not None and time.monotonic() - up_since > _LASTING_SECONDS:
                    replica.failures = 0
                replica.failures += 1
                _LOG.warning("%s: %s", replica.name, error)
                if (self._fresh and up_since is None) or replica.failures > MOST_RESTARTS:
                    self.failure, self.failed_variant = self.failure or error, replica.variant.name
                    return
                pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (replica.failures - 1))
                self._ending.wait(pause)
                if isinstance(error, ModelHostError) and not self._ending.is_set():
                    self._replace(replica)

    def _watch(self, replica: _Replica) -> None:
        """Return never: raise when the container has ended, answers no health check, or is to be left."""
        missed, next_ping = 0, time.monotonic() + _PING_SECONDS
        while True:
            self._ending.wait(_TICK_SECONDS)
            self._check_ending()
            replica.host.check_alive()
            if time.monotonic() < next_ping:
                continue
            next_ping = time.monotonic() + _PING_SECONDS
            # A server with one thread answers no ping while it is at a request: that is no fault.
            is_idle = not replica.instance.in_flight
            answers = replica.instance.address is not None and ping(replica.instance.address)
            missed = missed + 1 if is_idle and not answers and not replica.instance.in_flight else 0
            if missed >= _MISSED_PINGS:
                raise replica.host.failure(f"did not answer {missed} health checks in a row")

    def _replace(self, replica: _Replica) -> None:
        """Remove a container that has ended, and put another in its place, with the model's files that it had."""
        before = Path(replica.host.container.state_path)
        try:
            replica.host.stop(0)
        except LauncherError as error:
            _LOG.warning("%s is not removed: %s", replica.name, error)
        self._attempts[replica.name] = self._attempts.get(replica.name, 0) + 1
        self._on_attempt()
        replica.host = self._host(replica.name, replica.model, replica.variant)
        remove_tree(before)

    def _check_ending(self) -> None:
        if self._ending.is_set():
            raise _EndedError
