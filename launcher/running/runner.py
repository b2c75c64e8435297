"""The ordered steps of a job, from the first record to the last.

Each step is recorded when it is over and can be repeated safely, so any process may take a job up where another left
it: it gets the driver's lock, skips the recorded steps, and goes on. A file asks for a stop: any process can write it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from launcher.channels.resolving import ChannelSource
from launcher.errors import JobFolderError, LauncherError, RuntimeUnavailableError
from launcher.jobs.clock import clock_mark
from launcher.jobs.interruptions import Interruption, interruption_of
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import ContainerSpec, JobKeys, TrainingJobSpec, job_keys
from launcher.jobs.states import SecondaryStatus, Status, StopReason
from launcher.running import artifacts
from launcher.running.debugging import launch_configuration, with_debugger, within_reach, write_configuration
from launcher.running.following import LogReader
from launcher.running.limits import pending_limit
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.running.plan import RunPlan, make_plan
from launcher.running.signals import HandOver
from launcher.running.stages.collecting import Collecting
from launcher.running.stages.hosts import LOOKING_SECONDS
from launcher.running.stages.job_state import ENDED_SECONDS, TICK_SECONDS, HostsRecordType
from launcher.running.syncing import FolderSync
from launcher.runtimes import EndCause
from launcher.storage import Storage, recorded_storage
from launcher.terminal import say_error
from launcher.trees import remove_tree

_LONGEST_PAUSE_SECONDS = 30.0  # before an attempt that follows a failure of the platform


class HostsDriver(Collecting[HostsRecordType]):
    """Carries a job through the steps that are not recorded yet; the caller holds the driver's lock.

    The stages do the steps. This class has their order, and the attempts: a job that was interrupted, or whose host was
    lost, begins again with the first step. The driver of each kind of job adds the kind's own files and results.
    """

    def _prepare_folders(self) -> None:
        """Do further steps before the image is prepared."""

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, whatever happens.

        Raises:
            HandOver: this process has to go; everything is as the next driver needs it.
            JobFolderError: the job's own files could not be written or read.
        """
        try:
            if self._has_place():
                while reason := self._attempt():
                    self._begin_again(reason)
                self.step("reclaim", self._reclaim)
                self.step("collect", self._collect)
            with self._interrupts.held():
                self._finish()
        except HandOver:
            raise
        except OSError as error:
            named = self.named(error)
            if error.errno != errno.EROFS:  # on a read-only disk no end can be recorded: the next driver sees to it
                self.give_up(named)
            raise named from error
        except BaseException as error:
            self.give_up(error)
            raise
        finally:
            self._place.leave()

    def _has_place(self) -> bool:
        """Wait until the job may run; return False where its end comes before that.

        A job that has begun goes on at once: its hosts may run already.
        """
        if self._runtime.own_machines:  # they have a queue of their own
            return True
        begun = bool(self._record.steps or self._record.attempts)
        try:
            if self._place.enter(at_once=begun or self._folder.stop_requested()):
                return True
            self._record.marks.setdefault("queued", clock_mark())
            self._move(Status.IN_PROGRESS, SecondaryStatus.PENDING, "Waiting for other jobs to end")
            if self._lines is not None:
                say_error(f"job '{self._name}' waits for other jobs to end (LAUNCHER_JOBS_AT_ONCE)")
            while not self._place.may_run():
                reason = StopReason.ASKED if self._folder.stop_requested() else self._overdue("queued")
                if reason:
                    self._end_before_its_hosts(reason)
                    return False
                if not self._folder.record_path.exists():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder.record_path))
                time.sleep(TICK_SECONDS)
                self._interrupts.check()
        except OSError as error:
            if not self._folder.record_path.exists():
                raise
            self._record.warn(f"it does not wait for its turn: {error.filename}: {error.strerror}")
        return True

    def _end_before_its_hosts(self, reason: StopReason) -> None:
        self._record.stop_reason = reason
        self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")

    def _attempt(self) -> str:
        """Do every step up to the end of the hosts; return why it all has to be done again, empty where it has not."""
        try:
            self.step("fetch_channels", self._fetch_channels)
            self.step("write_config", self._write_config)
            self._prepare_folders()
            self.step("prepare", self._prepare)
            if self._requirements_file is not None:
                self.step("install_requirements", self._install_requirements)
            not_installed = "start" not in self._record.steps and bool(self._record.exit_codes)
            if "start" not in self._record.steps and (overdue := self._overdue()):
                self._end_before_its_hosts(overdue)
            unwanted = self._folder.stop_requested() or self._record.status == Status.STOPPING
            if not not_installed and (not unwanted or self._executions_left()):
                with self._s3_within_reach():
                    # From here on a host may have results: Ctrl-C stops all of them in order.
                    self._interrupts.deferred = True
                    with self._interrupts.held():  # cut in two, it would leave a host that is not recorded
                        self.step("start", self._start)
                    self._interrupts.check()
                    if self._record.secondary_status == SecondaryStatus.PENDING:
                        self.step("await_start", self._await_start)
                    self.step("follow", self._follow)
        except Exception as error:
            if reason := self._why_after(error):
                return reason
            raise
        return self._why_again()

    def _why_again(self) -> str:
        """Return why an attempt that is over does not count; empty where it does."""
        return ""

    def _why_after(self, error: Exception) -> str:
        """Return why an attempt that this process could not bring to its end is repeated; empty where it is not."""
        return ""

    def _begin_again(self, reason: str) -> None:
        """Clear away what an attempt has left, and record the next one; can be repeated until that is recorded."""
        if self._record.stop_reason is StopReason.INTERRUPTED:
            self._move(Status.IN_PROGRESS, SecondaryStatus.INTERRUPTED, f"{self.activity.capitalize()} job interrupted")
        for sync in self._syncs:
            self._warn(sync.run())
        self._until_it_answers(self._remove_hosts)
        self._feeder.stop()
        self._clear_work()
        with self._interrupts.held():
            self._record.begin_again(reason, self._log_lengths(), time.time())
            self._plan_made, self._executions, self._interrupts.deferred = None, {}, False
            self._feeder = self._new_feeder()
            self._syncs = self._folders_to_follow()
            self._move(Status.IN_PROGRESS, SecondaryStatus.STARTING, f"Starting the {self.activity} job")
        failures = sum(attempt["reason"] != StopReason.INTERRUPTED for attempt in self._record.attempts)
        deadline = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, 2.0 ** (failures - 1))
        while reason != StopReason.INTERRUPTED and time.monotonic() < deadline and not self._folder.stop_requested():
            self._interrupts.check()
            time.sleep(TICK_SECONDS)

    def _clear_work(self) -> None:
        """Remove what an attempt wrote; processes whose supervisor was killed may write for a moment more.

        Raises:
            OSError: something in it cannot be removed.
        """
        deadline = time.monotonic() + ENDED_SECONDS
        while True:
            try:
                remove_tree(self._folder.work_path)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(TICK_SECONDS)
            else:
                return

    def _remove_hosts(self) -> None:
        """Remove the hosts of an attempt, whatever their state, and give back the files of other users."""
        if "prepare" not in self._record.steps:
            return
        for container in self._plan.containers:
            execution = self._executions.get(container.host) or self._runtime.find(container)
            if execution is not None:
                execution.kill()
                execution.wait(ENDED_SECONDS)
                execution.remove()
            self._runtime.reclaim(container)
        self._runtime.close(self._plan.containers)

    def _until_it_answers(self, effect: Callable[[], None]) -> None:
        """Do what needs the runtime, and try again as long as that does not answer; a second Ctrl-C gives up."""
        while True:
            try:
                effect()
            except RuntimeUnavailableError as error:
                if self._interrupts.count > 1:
                    raise
                self._note_silence(error.message)
                time.sleep(LOOKING_SECONDS)
                self._interrupts.check()
            else:
                self._note_silence("")
                return

    def _log_lengths(self) -> dict[str, int]:
        """Return how long the log of each host is; each ends with a whole line afterwards."""
        lengths = {}
        for host, _ in self._hosts:
            path = self._folder.log_path(host)
            if path.is_file() and path.stat().st_size:
                with path.open("rb+") as log:
                    log.seek(-1, os.SEEK_END)
                    if log.read(1) != b"\n":
                        log.write(b"\n")
                lengths[host] = path.stat().st_size
        return lengths

    def give_up(self, error: BaseException) -> None:
        """End the job because of an error of this process: stop its hosts, leave what they wrote where it is."""
        for execution in self._found_executions():
            # Each by itself: a container whose end cannot be waited for is removed all the same.
            for effect in (execution.kill, lambda execution=execution: execution.wait(10), execution.remove):
                with contextlib.suppress(LauncherError, OSError):
                    effect()
        self._feeder.stop()
        if "prepare" in self._record.steps:
            with contextlib.suppress(LauncherError, OSError):
                self._runtime.close(self._plan.containers)
        if "start" in self._record.steps:
            if isinstance(error, LauncherError):
                error.exit_code = 1  # 2 says that nothing has run
            with contextlib.suppress(LauncherError, OSError):
                self._reclaim()
            if isinstance(error, Exception):  # Ctrl-C waits for nothing more
                for sync in self._syncs:
                    try:
                        self._warn(sync.run())
                    except Exception as later:  # noqa: BLE001 - nothing may keep the record from its end
                        self._warn([f"not everything was copied out: {later}"])
            if self._folder.work_path.is_dir():
                self._record.warn(self._left_behind)
        else:
            with contextlib.suppress(OSError):
                remove_tree(self._folder.work_path)
        if self._record.terminal:
            return
        with contextlib.suppress(LauncherError, OSError):  # must not hide what went wrong first
            if isinstance(error, KeyboardInterrupt | SystemExit) or self._folder.stop_requested():
                self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
                self._end(Status.STOPPED, SecondaryStatus.STOPPED, f"{self.activity.capitalize()} job stopped")
            else:
                kind = "ClientError" if isinstance(error, LauncherError) else "InternalServerError"
                text = error.message if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
                self._record.failure_reason = f"{kind}: {text}"[:FAILURE_REASON_LIMIT]
                self._end(Status.FAILED, SecondaryStatus.FAILED, f"{self.activity.capitalize()} job failed")

    def named(self, error: OSError) -> JobFolderError:
        """Return an error of the operating system as one of the job."""
        if not self._folder.record_path.exists():
            return JobFolderError(
                f"job '{self._name}': its folder {self._folder.path} is gone.",
                "It was removed, or its home was moved, while the job ran; the job was ended.",
            )
        place = f": {error.filename}" if error.filename else ""
        if error.errno == errno.EROFS:
            return JobFolderError(
                f"job '{self._name}': {error.strerror}{place}.",
                f"The job goes on. When the disk can be written again: launcher logs -f {self._name}",
            )
        return JobFolderError(
            f"job '{self._name}': {error.strerror or error}{place}.",
            f"Make room or give rights back. What is left of the job is packed by: launcher collect {self._name}",
        )


class Driver(HostsDriver[JobRecord]):
    """Sees a training job through."""

    @property
    def _spec(self) -> TrainingJobSpec:
        return self._record.training_spec

    @property
    def _planned_faults(self) -> Sequence[str]:
        return self._spec.faults or ()

    @property
    def _keys(self) -> JobKeys:
        return job_keys(self._spec)

    @property
    def _storage(self) -> Storage:
        return recorded_storage(self._keys.output, self._spec.s3)

    @property
    def _interruption(self) -> Interruption | None:
        spot = self._spec.spot
        return None if spot is None else interruption_of(spot.interruptions or (), self._record.attempt)

    def _line_watch(self) -> LogReader | None:
        self._line_came = False
        interruption = self._interruption
        if interruption is None or not interruption.pattern:
            return None
        pattern = re.compile(interruption.pattern)

        def look(_host: str, line: str) -> None:
            self._line_came = self._line_came or pattern.search(line) is not None

        purpose = "its log is no longer looked at for an interruption"
        return LogReader(self._folder, look, purpose, self._record.log_offsets)

    def _is_interrupted(self) -> bool:
        interruption = self._interruption
        if interruption is None:
            return False
        if interruption.after_seconds is None:
            return self._line_came
        return self._record.seconds_since("training", None) >= interruption.after_seconds

    def _taken_away(self, host: str) -> bool:
        container = next(entry for entry in self._plan.containers if entry.host == host)
        return self._spec.spot is not None and self._ending(container).cause is EndCause.INTERRUPTED

    def _overdue(self, mark: str = "") -> StopReason:
        spot, most = self._spec.spot, pending_limit(self._spec)
        if spot is not None and self._record.seconds_since("submitted", self._record.created) > spot.max_wait_seconds:
            return StopReason.MAX_WAIT_TIME_EXCEEDED
        if mark and most and self._record.seconds_since(mark, None) > most:
            return StopReason.MAX_PENDING_TIME_EXCEEDED
        return StopReason.NONE

    def _why_again(self) -> str:
        if self._record.stop_reason is StopReason.INTERRUPTED:
            return str(StopReason.INTERRUPTED)
        unwanted = self._record.stop_reason not in (StopReason.NONE, StopReason.HOST_FAILED)
        return "" if unwanted else self._retried(self._record.platform_failure)

    def _why_after(self, error: Exception) -> str:
        if isinstance(error, RuntimeUnavailableError):
            return self._retried(error.message)
        if isinstance(error, LauncherError | OSError):  # the same would happen again
            return ""
        return self._retried(f"{type(error).__name__}: {error}")

    def _retried(self, problem: str) -> str:
        """Return a failure that is none of the job's as the reason of another attempt, if the job may have one."""
        retries = sum(attempt["reason"] != StopReason.INTERRUPTED for attempt in self._record.attempts)
        stopped = self._folder.stop_requested() or self._record.status == Status.STOPPING
        if not problem or stopped or retries >= self._spec.max_retries:
            return ""
        reason = f"InternalServerError: {problem}"[:FAILURE_REASON_LIMIT]
        self._record.warn(f"attempt {self._record.attempt} is repeated: {reason}")
        return reason

    def _folders_to_follow(self) -> list[FolderSync]:
        inside, uri = "output/intermediate", self._keys.intermediate
        syncs = [FolderSync("intermediate files", self._trees, inside, self._storage, uri)]
        if (config := self._spec.checkpoint_config) is not None:
            storage = recorded_storage(config.s3_uri, self._spec.s3)
            syncs.append(FolderSync("checkpoints", self._trees, config.tree_path, storage, config.s3_uri))
        return syncs

    def _make_plan(self, channels: Mapping[str, ChannelSource]) -> RunPlan:
        return make_plan(
            self._spec,
            home=self._store.home,
            job_path=self._folder.path,
            work_path=self._folder.work_path,
            channels=channels,
            network_interface=self._runtime.interface_of(len(self._hosts)),
        )

    def _lay_out(self) -> None:
        if self._spec.source_uri is not None:
            storage = recorded_storage(self._spec.source_uri, self._spec.s3)
            source = storage.fetch(self._spec.source_uri, self._folder.work_path / "source")
            for _, tree in self._hosts:
                shutil.rmtree(tree.code, ignore_errors=True)
                artifacts.unpack(source, tree.code)

    def _to_start(self, container: ContainerSpec) -> ContainerSpec:
        started = super()._to_start(container)
        return with_debugger(started, self._runtime) if self._spec.debug else started

    @contextlib.contextmanager
    def _debugger_within_reach(self) -> Iterator[None]:
        if not self._spec.debug:
            yield
            return
        ports = self._record.debug_ports
        with within_reach(self._folder, self.containers, ports, lambda: dict(self._executions)) as taken:
            self._record.debug_ports = taken
            write_configuration(self._folder.launch_path, launch_configuration(self._spec, self._folder, taken))
            self._save()
            yield

    def _prepare_folders(self) -> None:
        if self._spec.checkpoint_config is not None:
            self.step("restore_checkpoints", self._restore_checkpoints)

    def _restore_checkpoints(self) -> None:
        """Copy the checkpoints of earlier jobs to every host; the job may change them, so nothing is linked."""
        sync = self._syncs[-1]
        for folder in sync.folders:
            remove_tree(folder)  # a driver before this one may have died in the middle
        sync.restore()
        for (_, tree), folder in zip(self._hosts, sync.folders, strict=True):
            tree.share(folder)

    def _results(self) -> tuple[Callable[[], None], ...]:
        return (
            partial(self._pack, "model", self._keys.model),
            partial(self._pack, "output/data", self._keys.output),
            self._note_failure_reason,
            *(partial(self._copy_out, sync) for sync in self._syncs),
        )

    def _pack(self, inside: str, uri: str) -> None:
        archive = self._folder.work_path / uri.rsplit("/", 1)[1]
        report = artifacts.pack_hosts(self._trees, inside, archive)
        self._warn([f"not packed: {line}" for line in report.skipped])
        if archive.exists():
            self._storage.put_file(archive, uri)
