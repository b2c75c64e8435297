"""From the inputs to hosts that run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from launcher import __version__
from launcher.channels.resolving import resolve_channels
from launcher.errors import RuntimeUnavailableError
from launcher.jobs.clock import clock_mark, later_mark
from launcher.jobs.spec import OPT_ML, ContainerSpec, Limits, Mount
from launcher.jobs.states import SecondaryStatus, Status
from launcher.running.reach import s3_in_reach
from launcher.running.requirements import IN_USE, RequirementsCache, entry_name, is_cacheable, requirements_cache
from launcher.running.stages.job_state import TICK_SECONDS, HostsRecordType, JobState
from launcher.runtimes import Execution, HostState
from launcher.settings import cache_bytes, stop_grace_seconds
from launcher.trees import remove_tree

_INSTALLER = "requirements"  # the host that installs them
_REQUIREMENTS = "LAUNCHER_REQUIREMENTS"  # tells the toolkit where they are
_STARTERS = 16  # that start hosts at the same time
_FEEDING_SECONDS = 600.0  # a feeder that nobody ends outlives the longest run by this


class Starting(JobState[HostsRecordType]):
    """Brings the inputs, lays out each host's tree, has the image and the packages, and starts the hosts."""

    def _fetch_channels(self) -> None:
        if not self._record.attempts:
            self._record.started = time.time()
        self._record.marks["started"] = clock_mark()
        self._note(Status.IN_PROGRESS, SecondaryStatus.DOWNLOADING, "Downloading input data")
        self._folder.make_work_path()
        resolved = resolve_channels(self._spec, self._folder.work_path / "channels", fetch=True)
        self._record.channels = {name: [str(source.path), source.is_file] for name, source in resolved.sources.items()}
        if resolved.streams:
            trees = [tree.path for _, tree in self._hosts]
            longest = self._spec.max_run_seconds + stop_grace_seconds() + _FEEDING_SECONDS
            places = self._spec.stream_places
            self._feeder.prepare(resolved.streams, trees, places, self._folder.lock_path, longest)

    def _write_config(self) -> None:
        plan = self._plan
        for host, tree in self._hosts:
            tree.prepare({**plan.config_files, **plan.host_files[host]}, plan.mount_points, plan.folders)
        self._lay_out()

    @abstractmethod
    def _lay_out(self) -> None:
        """Add to each host's tree what this kind of job has besides its configuration; can be repeated."""

    def _prepare(self) -> None:
        for container in self._plan.containers:
            self._runtime.prepare(container)
        self._note_environment()

    def _note_environment(self) -> None:
        """Write what the job finds beside its own files, for a later comparison with another job."""
        system = os.uname()
        environment = {
            "Launcher": __version__,
            "Machine": {"System": system.sysname, "Release": system.release, "Architecture": system.machine},
            **self._runtime.describe_environment(self._plan.containers[0]),
        }
        self._folder.environment_path.write_text(json.dumps(environment), encoding="utf-8")

    @property
    def _requirements_file(self) -> Path | None:
        """What the toolkit of the bundled image would install; None where it has nothing to install."""
        container = self._plan.containers[0]
        file = self._hosts[0][1].code / "requirements.txt"
        installs = container.bundled and not container.entry_point and self._spec.source_uri is not None
        return file if installs and file.is_file() else None

    def _install_requirements(self) -> None:
        """Have what ``requirements.txt`` names installed, once for all jobs with the same file.

        It is installed by a host of its own, before the job's: no job can change what another one gets.
        """
        container, file = self._plan.containers[0], self._requirements_file
        if file is None:
            return
        text = file.read_text(encoding="utf-8", errors="replace")
        if not is_cacheable(text) or not cache_bytes():
            return  # the toolkit in the job installs it
        cache = requirements_cache(self._store.path)
        name = entry_name(text, f"{self._runtime.describe_image(container)} {self._runtime.interpreter}")
        while not self._folder.stop_requested() and not self._interrupts.count:
            # First the mark, then the look: an entry in use is not removed.
            (self._folder.work_path / IN_USE).write_text(name, encoding="utf-8")
            if (entry := cache.entry(name)) is not None:
                self._record.requirements = str(entry)
                return
            with cache.locked(name) as alone:
                if alone and cache.entry(name) is None and self._installed(cache, name, container) is None:
                    return
            time.sleep(TICK_SECONDS)
            self._interrupts.check()

    def _installed(self, cache: RequirementsCache, name: str, container: ContainerSpec) -> Path | None:
        """Install into a new entry; None where that failed, or was stopped, or left nothing to lend."""
        folder = cache.new_folder()
        log_path = self._folder.path / "requirements.log"
        installer = replace(
            container,
            host=_INSTALLER,
            hosts=(_INSTALLER,),
            arguments=("install",),
            mounts=(*container.mounts, Mount(str(folder), f"{OPT_ML}/requirements", read_only=False)),
            state_path=str(self._folder.work_path / _INSTALLER),
            log_path=str(log_path),
            labels={**container.labels, "launcher.host": _INSTALLER},
            limits=Limits(placing=container.limits.placing, engine=container.limits.engine),
        )
        if (abandoned := self._runtime.find(installer)) is not None:  # of a driver that was killed
            abandoned.remove()
            shutil.rmtree(installer.state_path, ignore_errors=True)
        execution = self._runtime.start(installer)
        try:
            while (code := execution.wait(TICK_SECONDS)) is None:
                if self._folder.stop_requested() or self._interrupts.count:
                    execution.kill()
                self._interrupts.check()
        finally:
            execution.kill()
            execution.remove()
        if code == 0:
            return cache.add(name, folder)
        remove_tree(folder)
        if not self._folder.stop_requested() and not self._interrupts.count:
            # The failure of a job's own installation: its reason is in the tree of the first host.
            self._record.exit_codes[container.host] = code
            shutil.copyfile(log_path, container.log_path)
        return None

    def _start(self) -> None:
        """Start all hosts side by side, or find those that a driver before this one started and could not record."""
        self._runtime.open(self._plan.containers)
        if not self._record.executions:
            self._feeder.start()

        def start(container: ContainerSpec) -> Execution:
            return self._runtime.find(container) or self._runtime.start(self._to_start(container))

        failures: dict[str, Exception] = {}
        for host, execution in _started(start, self._plan.containers, in_order=self._runtime.starts_in_order):
            try:
                self._executions[host] = execution()
                self._faults.begin_late(host, self._executions[host])
            except Exception as error:  # noqa: BLE001 - raised below, when the others have been started
                failures[host] = error
        hosts = [container.host for container in self._plan.containers]
        if failures:
            raise next(failures[host] for host in hosts if host in failures)
        self._executions = {host: self._executions[host] for host in hosts}
        for host, running in self._executions.items():
            self._record.executions[host] = running.reference
            self._note_warm_pool(running.reference)
        if self._streams:
            self._feeder.watch([execution.process_id() for execution in self._executions.values()])
        if any(execution.state() is HostState.PENDING for execution in self._executions.values()):
            self._record.marks["pending"] = clock_mark()
            self._note(Status.IN_PROGRESS, SecondaryStatus.PENDING, "Waiting for a place to run")
        else:
            self._note_training()

    def _note_warm_pool(self, reference: Mapping[str, Any]) -> None:
        """Note that a host was started from what another job had left, for that job too."""
        if "warm_pool" not in reference:
            return
        self._record.warm_pool = reference["warm_pool"]
        if reference["previous_job"] != self._name:
            with contextlib.suppress(OSError):  # that job was removed
                self._store.folder(reference["previous_job"]).reused_path.write_text(self._name, encoding="utf-8")

    def _await_start(self) -> None:
        """Wait until every host runs: time in a queue is no training time and has no limit."""
        pause = TICK_SECONDS / 16  # a queue that is empty starts a job at once
        while not self._folder.stop_requested() and not self._interrupts.count and self._any_pending():
            if overdue := self._overdue("pending"):
                self._record.stop_started, self._record.stop_reason = time.time(), overdue
                self._record.marks["stopping"] = clock_mark()
                self._note(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
                return
            time.sleep(pause)
            pause = min(2 * pause, TICK_SECONDS)
            self._interrupts.check()
        if "pending" in self._record.marks:
            waited = self._record.seconds_since("pending", None)
            self._record.marks["started"] = later_mark(self._record.marks["started"], waited)
        self._note_training()

    def _any_pending(self) -> bool:
        try:
            executions = [
                self._executions.get(container.host) or self._runtime.find(container)
                for container in self._plan.containers
            ]
        except RuntimeUnavailableError:
            return True  # unknown: look again
        return any(execution is not None and execution.state() is HostState.PENDING for execution in executions)

    def _note_training(self) -> None:
        self._record.marks["training"] = clock_mark()
        activity = self.activity.capitalize()
        message = f"{activity} image download completed. {activity} in progress."
        self._note(Status.IN_PROGRESS, SecondaryStatus.TRAINING, message)

    def _to_start(self, container: ContainerSpec) -> ContainerSpec:
        """Return a planned container with all that is not in the plan."""
        return self._with_requirements(self._reach.given_to(container, self._runtime, self._spec.environment))

    def _with_requirements(self, container: ContainerSpec) -> ContainerSpec:
        """Return the container with the packages that were installed for it, which it can only read."""
        entry = self._record.requirements
        if not entry:
            # What the job installs itself is another's no more than its files are.
            return container if self._requirements_file is None else replace(container, keep_alive_seconds=0)
        if not self._runtime.runs_in_image(container.limits):
            return replace(container, environment={**container.environment, _REQUIREMENTS: entry})
        lent = Mount(entry, "/run/launcher/requirements")
        environment = {**container.environment, _REQUIREMENTS: lent.target}
        return replace(container, environment=environment, mounts=(*container.mounts, lent))

    @contextlib.contextmanager
    def _s3_within_reach(self) -> Iterator[None]:
        """Keep the S3 within reach of code inside the job; where that fails, warn: the job may not need it."""
        if "follow" in self._record.steps:
            yield
            return
        with s3_in_reach(self._spec, self._runtime, self._store.home) as self._reach:
            if self._reach.problem:
                self._record.warn(f"code inside the job cannot reach its S3: {self._reach.problem}")
            yield


def _started(
    start: Callable[[ContainerSpec], Execution], containers: Sequence[ContainerSpec], *, in_order: bool
) -> Iterator[tuple[str, Callable[[], Execution]]]:
    """Start hosts at the same time; yield each as soon as it is there, and what returns it or raises why it is not."""
    if in_order or len(containers) == 1:
        yield from ((container.host, partial(start, container)) for container in containers)
        return
    from concurrent.futures import ThreadPoolExecutor, as_completed  # a lone host does not wait for it

    with ThreadPoolExecutor(min(len(containers), _STARTERS), thread_name_prefix="start") as starters:
        started = {starters.submit(start, container): container.host for container in containers}
        for future in as_completed(started):
            yield started[future], future.result
