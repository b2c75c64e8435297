"""What a driver knows of its job, and how it writes that down."""

from __future__ import annotations

import contextlib
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from launcher.channels.feeding import Feeder
from launcher.channels.resolving import ChannelSource, host_names
from launcher.errors import LauncherError, RuntimeUnavailableError
from launcher.jobs.faults import faults_of
from launcher.jobs.processing_spec import HostsSpec
from launcher.jobs.record import HostsRecord
from launcher.jobs.spec import ContainerSpec
from launcher.jobs.states import SecondaryStatus, Status, StopReason
from launcher.running.injecting import FaultInjector
from launcher.running.job_driver import JobDriver
from launcher.running.opt_ml import OptMl
from launcher.running.places import Place, share_of
from launcher.running.plan import RunPlan
from launcher.running.reach import Reach
from launcher.running.syncing import FolderSync
from launcher.runtimes import Ending, Execution

TICK_SECONDS = 0.1
ENDED_SECONDS = 10.0

HostsRecordType = TypeVar("HostsRecordType", bound=HostsRecord)


class JobState(JobDriver[HostsRecordType]):
    """A job as its driver holds it: the record, the plan, the hosts."""

    activity = "training"
    """What the hosts do, in the words of a status."""

    def _set_up(self) -> None:
        self._hosts = [(host, OptMl(self._folder.tree_path(host))) for host in host_names(self._spec)]
        self._syncs = self._folders_to_follow()
        self._feeder = self._new_feeder()
        self._faults = FaultInjector(
            faults_of(self._planned_faults, [host for host, _ in self._hosts]), self._record.faults, self._record.warn
        )
        share = share_of(self._spec)
        self._place = Place(self._store.home, f"{self._store.kind.folder}-{self._name}", self._record.created, share)
        self._plan_made: RunPlan | None = None
        self._executions: dict[str, Execution] = {}
        self._reach = Reach()

    def _new_feeder(self) -> Feeder:
        return Feeder(self._folder.work_path / "feeder", on_nodes=self._runtime.own_machines)

    @property
    @abstractmethod
    def _spec(self) -> HostsSpec:
        """The job."""

    @abstractmethod
    def _folders_to_follow(self) -> list[FolderSync]:
        """Return the folders whose files are copied out while the job runs."""

    @abstractmethod
    def _make_plan(self, channels: Mapping[str, ChannelSource]) -> RunPlan:
        """Return what runs, with the inputs where they are."""

    @property
    def _planned_faults(self) -> Sequence[str]:
        """What happens to the hosts on purpose."""
        return ()

    @property
    def _streams(self) -> bool:
        """Whether a feeder writes streams for the job."""
        return any(channel.is_stream for channel in self._spec.channels)

    @property
    def containers(self) -> tuple[ContainerSpec, ...]:
        """What is started, a container a host; only when the inputs are there."""
        return self._plan.containers

    @property
    def _trees(self) -> list[tuple[str, Path]]:
        """Name and ``/opt/ml`` tree of each host, in their order."""
        return [(host, tree.path) for host, tree in self._hosts]

    def _overdue(self, mark: str = "") -> StopReason:
        """Return why the job has to end: it has taken, or waited, longer than it may; NONE where it has not.

        Args:
            mark: since when it waits for a place to run; empty where it does not.
        """
        return StopReason.NONE

    @property
    def _plan(self) -> RunPlan:
        if self._plan_made is None:
            places = self._record.channels.items()
            channels = {name: ChannelSource(Path(path), is_file) for name, (path, is_file) in places}
            self._plan_made = self._make_plan(channels)
            if self._record.attempts:
                left = max(1, math.ceil(self._spec.max_run_seconds - self._record.training_seconds))
                containers = (
                    replace(container, log_offset=self._record.log_offsets.get(container.host, 0), max_run_seconds=left)
                    for container in self._plan_made.containers
                )
                self._plan_made = replace(self._plan_made, containers=tuple(containers))
        return self._plan_made

    def _executions_left(self) -> bool:
        return bool(self._record.executions) or any(
            self._runtime.find(container) for container in self._plan.containers
        )

    def _found_executions(self) -> Iterator[Execution]:
        if "prepare" not in self._record.steps:
            return
        with contextlib.suppress(LauncherError, OSError):
            for container in self._plan.containers:
                execution = self._executions.get(container.host) or self._runtime.find(container)
                if execution is not None:
                    yield execution

    def _ending(self, container: ContainerSpec) -> Ending:
        """Return how a host ended, also where another driver saw it end."""
        with contextlib.suppress(RuntimeUnavailableError):
            execution = self._executions.get(container.host) or self._runtime.find(container)
            if execution is not None and execution.wait(ENDED_SECONDS) is not None:
                self._executions[container.host] = execution
                return execution.ending()
        return Ending()

    def _end(self, status: Status, secondary: SecondaryStatus, message: str) -> None:
        self._record.ended = time.time()
        if self._record.started is not None:
            self._record.billable_seconds = self._record.run_seconds
        self._record.unknown_since = None
        self._move(status, secondary, message)

    def _note(self, status: Status, secondary: SecondaryStatus, message: str) -> None:
        """Change the status without writing it: the step that is under way is about to."""
        self._record.move(status, secondary, message, time.time())

    def _move(self, status: Status, secondary: SecondaryStatus, message: str) -> None:
        self._note(status, secondary, message)
        self._save()

    def _warn(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._record.warn(line)

    def _note_silence(self, silence: str) -> None:
        if silence and self._record.unknown_since is None:
            self._record.unknown_since = time.time()
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._record.unknown_since))
            self._record.warn(f"since {moment} the job's state is unknown: {silence}")
            self._save()
        elif not silence and self._record.unknown_since is not None:
            self._record.unknown_since = None
            self._record.warn(f"at {time.strftime('%Y-%m-%d %H:%M:%S')} its runtime answered again")
            self._save()
