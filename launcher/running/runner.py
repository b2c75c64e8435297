"""The ordered steps of a job, from the first record to the last.

Each step is recorded when it is over and can be repeated safely, so any process may take a job up where another left
it: it gets the driver's lock, skips the recorded steps, and goes on. A file asks for a stop: any process can write it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher import __version__
from launcher.channels.feeding import Feeder
from launcher.channels.resolving import ChannelSource, ResolvedChannels, host_names, resolve_channels
from launcher.errors import (
    ArtifactError,
    BadInputError,
    ChannelError,
    JobFolderError,
    LauncherError,
    OutputPathError,
    RuntimeUnavailableError,
    SourceError,
    StorageError,
)
from launcher.jobs.clock import clock_mark, later_mark
from launcher.jobs.faults import faults_of
from launcher.jobs.folder import JobFolder
from launcher.jobs.instance_types import instance_type
from launcher.jobs.interruptions import Interruption, check_plan, interruption_of
from launcher.jobs.log_times import FolderTimes
from launcher.jobs.metrics import MetricRecorder
from launcher.jobs.processing_spec import HostsSpec, ProcessingJobSpec
from launcher.jobs.record import HostsRecord, JobRecord
from launcher.jobs.spec import (
    OPT_ML,
    CheckpointConfig,
    ContainerSpec,
    JobKeys,
    Limits,
    Mount,
    TrainingJobSpec,
    job_keys,
)
from launcher.jobs.states import STOPS, SecondaryStatus, Status, StopReason
from launcher.jobs.store import DISK_FULL, Claim, JobStore, Store
from launcher.requests.distribution import check_distribution
from launcher.requests.members import without_effect
from launcher.requests.training import check_training_request
from launcher.running import artifacts
from launcher.running.debugging import (
    check_debugging,
    launch_configuration,
    with_debugger,
    within_reach,
    write_configuration,
)
from launcher.running.failure import failure_reason
from launcher.running.following import LogReader
from launcher.running.injecting import FaultInjector
from launcher.running.limits import JobLimits, job_limits
from launcher.running.metering import measured
from launcher.running.opt_ml import FAILURE_REASON_LIMIT, OptMl
from launcher.running.places import Place, share_of
from launcher.running.plan import (
    RunPlan,
    make_plan,
    planned_s3_address,
    with_s3_address,
)
from launcher.running.requirements import IN_USE, RequirementsCache, entry_name, is_cacheable, requirements_cache
from launcher.running.signals import HandOver, Interrupts
from launcher.running.syncing import FolderSync
from launcher.runtimes import EndCause, Ending, Execution, HostState, Runtime, choose_runtime
from launcher.runtimes.images import image_note, is_bundled, local_image
from launcher.settings import (
    S3Settings,
    cache_bytes,
    default_runtime,
    planned_faults,
    spot_interruptions,
    spot_price,
    stop_grace_seconds,
)
from launcher.storage import Storage, recorded_storage, which_s3
from launcher.storage.address import credentials_within, s3_within_reach
from launcher.terminal import say_error
from launcher.trees import OnSkip, Skipped, remove_tree

TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0
_LOOKING_SECONDS = 2.0  # between two questions to a runtime that does not answer
_KILLED = 128 + signal.SIGKILL
_NOT_FINAL = (StopReason.NONE, StopReason.INTERRUPTED)  # why hosts end while the job may still be stopped
_ENDED_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0  # before an attempt that follows a failure of the platform
_INSTALLER = "requirements"  # the host that installs them
_REQUIREMENTS = "LAUNCHER_REQUIREMENTS"  # tells the toolkit where they are
_FEEDING_SECONDS = 600.0  # a feeder that nobody ends outlives the longest run by this


_Spec = TypeVar("_Spec", TrainingJobSpec, ProcessingJobSpec)
_Record = TypeVar("_Record", bound=HostsRecord)


def job_storage(spec: HostsSpec, uri: str) -> Storage:
    """Return the storage of one of the job's URIs: its ``s3://`` means what it meant when the job was submitted."""
    return recorded_storage(uri, spec.s3)


def resolve_job_channels(spec: HostsSpec, work_path: Path, *, fetch: bool) -> ResolvedChannels:
    """Find the data of every channel of a job on this machine; ``resolve_channels`` says how."""
    storage_of = partial(job_storage, spec)
    return resolve_channels(spec, work_path / "channels", storage_of, fetch=fetch)


@dataclass(frozen=True)
class AcceptedJob(Generic[_Spec]):
    """A request that was checked, with the decisions made when it is submitted.

    Attributes:
        request: the document as it was given.
        spec: the job, with its runtime and its S3 decided.
        runtime: what runs it.
        warnings: for the user, before it runs.
    """

    request: Mapping[str, Any]
    spec: _Spec
    runtime: Runtime
    warnings: tuple[str, ...] = ()


def accept(request: Mapping[str, Any], runtime: Runtime | None = None) -> AcceptedJob[TrainingJobSpec]:
    """Check a CreateTrainingJob document, and decide where it runs and which S3 it means; changes nothing.

    Args:
        request: as boto3's ``create_training_job`` takes it, with the member ``Launcher`` or without.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_training_request(request)
    uris = [spec.output_uri, spec.source_uri or "", *(channel.uri for channel in spec.channels)]
    uris.append(spec.checkpoint_config.s3_uri if spec.checkpoint_config else "")
    placed, runtime, warnings = place_job(spec, uris, runtime)
    if placed.debug:
        check_debugging(placed, runtime)
    if is_bundled(local_image(placed.image_uri)):
        check_distribution(placed)
    placed, notes = _with_times(placed)
    placed = _with_faults(placed)
    return AcceptedJob(request, placed, runtime, (*without_effect(request), *notes, *warnings))


def _with_faults(spec: TrainingJobSpec) -> TrainingJobSpec:
    """Decide which faults happen to a job on purpose.

    Raises:
        BadInputError: the plan cannot be read, or names a host that the job has not.
    """
    plan, place = (planned_faults(), "LAUNCHER_FAULTS") if spec.faults is None else (spec.faults, "faults")
    try:
        faults_of(plan, host_names(spec))
    except BadInputError as error:
        raise BadInputError(f"{place}: {error.message}", error.hint) from error
    return replace(spec, faults=plan) if plan else spec


def pending_limit(spec: TrainingJobSpec) -> int:
    """Return how many seconds a job may wait for a place to run; 0 for no limit.

    AWS heeds MaxPendingTimeInSeconds for instance types with GPUs alone.
    """
    kind = instance_type(spec.instance_type)
    return spec.max_pending_seconds if kind is not None and kind.gpus else 0


def _with_times(spec: TrainingJobSpec) -> tuple[TrainingJobSpec, list[str]]:
    """Decide when a spot job is interrupted; return the job, and warnings for the user."""
    warnings = []
    if spec.max_pending_seconds and not pending_limit(spec):
        warnings.append(
            f"StoppingCondition.MaxPendingTimeInSeconds={spec.max_pending_seconds} has no effect here: as on AWS, it "
            f"counts for instance types with GPUs, and {spec.instance_type} has none"
        )
    if spec.spot is None:
        return spec, warnings
    plan = spec.spot.interruptions
    if plan is None:
        plan = spot_interruptions()
        check_plan(plan, "LAUNCHER_SPOT_INTERRUPTIONS")
    if plan and spec.checkpoint_config is None:
        warnings.append("each interruption begins the job anew: it has no checkpoint_s3_uri")
    return replace(spec, spot=replace(spec.spot, interruptions=plan, price=spot_price())), warnings


def place_job(
    spec: _Spec, uris: Sequence[str], runtime: Runtime | None = None
) -> tuple[_Spec, Runtime, tuple[str, ...]]:
    """Decide where a checked job runs and which S3 it means; changes nothing.

    Args:
        spec: the job.
        uris: all that it reads and writes.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Returns:
        The job as it will run, what runs it, and warnings for the user.
    """
    if runtime is None:
        name = default_runtime() if spec.runtime == "auto" else spec.runtime
        runtime = choose_runtime(name, image_uri=spec.image_uri)
    warnings: list[str] = [line] if (line := image_note(spec.image_uri)) else []
    if not runtime.runs_images and spec.image_uri is not None and spec.brings_code:
        warnings.append(
            f"the image {spec.image_uri} is not used: the {runtime.name} runtime runs the request's own code"
        )
        spec = replace(spec, image_uri=None)
    manifests = any(channel.s3_data_type != "S3Prefix" for channel in spec.channels)  # which may name s3://
    if spec.s3 is None and (manifests or any(uri.startswith("s3://") for uri in uris)):
        spec = replace(spec, s3=which_s3().to_dict())
    streamed = next((channel.name for channel in spec.channels if channel.is_stream), "")
    if streamed and runtime.no_streams:
        raise RuntimeUnavailableError(
            f"the {runtime.name} runtime cannot stream the channel '{streamed}': {runtime.no_streams}.",
            "Use the input mode File or FastFile.",
        )
    allowed: JobLimits = job_limits(spec, runtime)
    warnings += [*allowed.warnings, *_channel_warnings(spec)]
    if isinstance(spec, TrainingJobSpec) and spec.keep_alive_seconds and (spec.debug or runtime.no_warm_pools):
        why = "a job that waits for a debugger starts by itself" if spec.debug else runtime.no_warm_pools
        warnings.append(f"KeepAlivePeriodInSeconds keeps no warm pool here: {why}")
    return replace(spec, limits=allowed.limits, runtime=runtime.name), runtime, tuple(warnings)


def _channel_warnings(spec: HostsSpec) -> list[str]:
    """Name the channels that are read another way than they were asked for."""
    if spec.s3 is None or spec.s3["kind"] == "embedded":
        return []
    place = S3Settings.from_dict(dict(spec.s3)).place
    return [
        f"channel '{channel.name}': {channel.input_mode} downloads all objects from {place} before the job starts, "
        "through the cache"
        for channel in spec.channels
        if channel.input_mode != "File" and channel.uri.startswith("s3://")
    ]


def plan_job(
    job: AcceptedJob[TrainingJobSpec], store: JobStore, *, source_members: Sequence[str] | None = None
) -> RunPlan:
    """Work out what ``drive`` would do, and check that it could; writes nothing.

    Args:
        job: what was accepted.
        store: the home it would live in.
        source_members: the names in a source archive that the caller is about to upload; None: it is uploaded.
    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    spec = job.spec
    store.check_writable()
    store.check_unused(spec.job_name)
    folder = store.folder(spec.job_name)
    keys = job_keys(spec)
    # A source in the folder of a job without a record was left by a submission that was killed.
    to_be_written = [] if source_members is None or _lies_within(keys.source, str(folder.path)) else [keys.source]
    resolved = resolve_job_channels(spec, folder.work_path, fetch=False)
    places = _channel_places(spec, resolved)
    for uri in (keys.output, keys.model, *to_be_written):
        storage = job_storage(spec, uri)
        if storage.exists(uri):
            raise OutputPathError(
                f"{uri} is there already, from another job named '{spec.job_name}'.", "Choose another job name."
            )
        storage.check_writable(uri.rpartition("/")[0])
    if source_members is None and spec.source_uri is not None:
        _check_source_archive(spec, spec.source_uri)
    for channel in spec.channels:
        if any(_lies_within(spec.output_uri, path) for path in places[channel.name]):
            raise OutputPathError(
                f"the output path {spec.output_uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Write results somewhere else, or the job would read what it writes.",
            )
    if spec.checkpoint_config is not None:
        _check_checkpoint_place(spec, spec.checkpoint_config, places, folder)
    plan = _plan(
        spec, store, resolved.sources, job.runtime.network_interface, source_members or (), notes=resolved.notes
    )
    for container in plan.containers:
        job.runtime.check(container)
    for fault in plan.faults:
        container = next(container for container in plan.containers if container.host == fault.host)
        if reason := job.runtime.refused_faults(container).get(fault.kind):
            raise RuntimeUnavailableError(
                f"the fault '{fault.kind}' cannot be caused on the {job.runtime.name} runtime: {reason}.",
                "Use another fault, or another runtime.",
            )
    return replace(
        plan,
        image=job.runtime.describe_image(plan.containers[0]),
        submits=job.runtime.describe_start(plan.containers),
    )


def submit(
    request: Mapping[str, Any], store: JobStore, runtime: Runtime | None = None, *, warnings: Sequence[str] = ()
) -> JobFolder:
    """Check a CreateTrainingJob document and record it as a job: from here on it cannot be lost.

    Args:
        request: as boto3's ``create_training_job`` takes it; its source archive, if it names one, is there.
        store: the home that the job lives in.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    job = accept(request, runtime)
    job = replace(job, warnings=(*warnings, *job.warnings))
    plan_job(job, store)
    with store.claim(job.spec.job_name) as claim:
        return record_job(job, claim)


def record_job(job: AcceptedJob[TrainingJobSpec], claim: Claim[JobRecord]) -> JobFolder:
    """Record a job that was planned, under a name that the caller holds."""
    now = time.time()
    record = JobRecord(spec=job.spec.to_dict(), created=now, request=dict(job.request), warnings=list(job.warnings))
    record.marks["submitted"] = clock_mark()
    record.move(Status.IN_PROGRESS, SecondaryStatus.STARTING, "Starting the training job", now)
    claim.record(record)
    return claim.folder


class HostsDriver(ABC, Generic[_Record]):
    """Carries a job through the steps that are not recorded yet; the caller holds the driver's lock.

    What a kind of job has besides, its files and its results, its own driver adds.

    Args:
        lines: reads the log for the caller.
        interrupts: what Ctrl-C and other signals have asked for meanwhile.
        looking_on: whether the job is left to another driver when the sink of ``lines`` has failed.
    """

    activity = "training"
    """What the hosts do, in the words of a status."""

    uploading = "Uploading generated training model"
    """The message of a status: the hosts have ended."""

    def __init__(
        self,
        store: Store[_Record],
        name: str,
        runtime: Runtime,
        lines: LogReader | None = None,
        interrupts: Interrupts | None = None,
        *,
        looking_on: bool = False,
    ) -> None:
        self._store = store
        self._name = name
        self._folder = store.folder(name)
        self._record = store.load(name)
        self._runtime = runtime
        self._lines = lines
        self._looking_on = looking_on
        self._interrupts = interrupts or Interrupts()
        self._hosts = [(host, OptMl(self._folder.tree_path(host))) for host in host_names(self._spec)]
        self._syncs = self._folders_to_follow()
        self._feeder = Feeder(self._folder.work_path / "feeder")
        self._faults = FaultInjector(
            faults_of(self._planned_faults, [host for host, _ in self._hosts]), self._record.faults, self._record.warn
        )
        share = share_of(self._spec)
        self._place = Place(store.home, f"{store.kind.folder}-{name}", self._record.created, share)
        self._plan_made: RunPlan | None = None
        self._executions: dict[str, Execution] = {}
        self._s3_address = ""
        self._s3_credentials: dict[str, str] = {}

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

    @abstractmethod
    def _results(self) -> tuple[Callable[[], None], ...]:
        """Return what puts the results in their places, in order; an error of one does not stop the others."""

    @abstractmethod
    def _lay_out(self) -> None:
        """Add to each host's tree what this kind of job has besides its configuration; can be repeated."""

    def _prepare_folders(self) -> None:
        """Do further steps before the image is prepared."""

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

    def _overdue(self, mark: str = "") -> StopReason:
        """Return why the job has to end: it has taken, or waited, longer than it may; NONE where it has not.

        Args:
            mark: since when it waits for a place to run; empty where it does not.
        """
        return StopReason.NONE

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
            self._feeder = Feeder(self._folder.work_path / "feeder")
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
        deadline = time.monotonic() + _ENDED_SECONDS
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
                execution.wait(_ENDED_SECONDS)
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
                time.sleep(_LOOKING_SECONDS)
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

    def collect_again(self) -> None:
        """Pack what a job has left whose results could not be packed when it ended; its status stays as it is.

        Raises:
            ArtifactError: nothing of it is left.
        """
        if not self._folder.work_path.is_dir():
            raise ArtifactError(
                f"job '{self._name}' has nothing left to pack: {self._folder.work_path} is gone.",
                f"What was packed when it ended is in {self._record.results_uri}.",
            )
        reason = self._record.failure_reason
        self._reclaim()
        self._collect()
        self._record.failure_reason = reason
        self._record.warnings = [text for text in self._record.warnings if text != self._left_behind]
        self._record.warn("its results were packed again after it had ended")
        self._save()
        remove_tree(self._folder.work_path)

    def step(self, name: str, effect: Callable[[], None]) -> None:
        """Do ``effect`` unless it is recorded as done, then record it."""
        if name not in self._record.steps:
            effect()
            self._record.steps[name] = time.time()
            self._save()

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

    @property
    def _left_behind(self) -> str:
        return f"what the job wrote and was not packed is in {self._folder.work_path}: launcher collect {self._name}"

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

    def _fetch_channels(self) -> None:
        if not self._record.attempts:
            self._record.started = time.time()
        self._record.marks["started"] = clock_mark()
        self._note(Status.IN_PROGRESS, SecondaryStatus.DOWNLOADING, "Downloading input data")
        self._folder.make_work_path()
        resolved = resolve_job_channels(self._spec, self._folder.work_path, fetch=True)
        self._record.channels = {name: [str(source.path), source.is_file] for name, source in resolved.sources.items()}
        if resolved.streams:
            folders = [tree.channels for _, tree in self._hosts]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            longest = self._spec.max_run_seconds + stop_grace_seconds() + _FEEDING_SECONDS
            self._feeder.prepare(resolved.streams, folders, self._folder.lock_path, longest)

    def _write_config(self) -> None:
        plan = self._plan
        for host, tree in self._hosts:
            tree.prepare({**plan.config_files, **plan.host_files[host]}, plan.mount_points, plan.folders)
        self._lay_out()

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
            limits=Limits(placing=container.limits.placing),
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
        """Start each host, or find the one that a driver before this one started and could not record."""
        planned = planned_s3_address(self._spec)
        self._runtime.open(self._plan.containers)
        if not self._record.executions:
            self._feeder.start()
        for container in self._plan.containers:
            execution = self._runtime.find(container) or self._runtime.start(
                self._to_start(with_s3_address(container, planned, self._s3_address))
            )
            self._executions[container.host] = execution
            self._record.executions[container.host] = execution.reference
            self._note_warm_pool(execution.reference)
            self._faults.begin_late(container.host, execution)
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

    def _keep_warm(self) -> None:
        """Keep what a matching job can start from, where the job asked for it; its hosts have ended."""
        container = self._with_requirements(self._plan.containers[0])
        if not container.keep_alive_seconds or "follow" not in self._record.steps or self._runtime.no_warm_pools:
            return
        try:
            self._record.warm_pool = self._runtime.keep_warm(container)
        except LauncherError as error:
            self._record.warn(f"no warm pool is kept: {error.message}")

    def _await_start(self) -> None:
        """Wait until every host runs: time in a queue is no training time and has no limit."""
        while not self._folder.stop_requested() and not self._interrupts.count and self._any_pending():
            if overdue := self._overdue("pending"):
                self._record.stop_started, self._record.stop_reason = time.time(), overdue
                self._record.marks["stopping"] = clock_mark()
                self._note(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
                return
            time.sleep(TICK_SECONDS)
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
        return self._with_requirements(self._with_credentials(container))

    def _with_credentials(self, container: ContainerSpec) -> ContainerSpec:
        """Return the container with the S3's credentials, which are not recorded; the caller's own variables win."""
        own = {name: value for name, value in self._s3_credentials.items() if name not in self._spec.environment}
        return replace(container, environment={**container.environment, **own})

    def _with_requirements(self, container: ContainerSpec) -> ContainerSpec:
        """Return the container with the packages that were installed for it, which it can only read."""
        entry = self._record.requirements
        if not entry:
            # What the job installs itself is another's no more than its files are.
            return container if self._requirements_file is None else replace(container, keep_alive_seconds=0)
        if self._runtime.needs_local_libraries:
            return replace(container, environment={**container.environment, _REQUIREMENTS: entry})
        lent = Mount(entry, "/run/launcher/requirements")
        environment = {**container.environment, _REQUIREMENTS: lent.target}
        return replace(container, environment=environment, mounts=(*container.mounts, lent))

    @contextlib.contextmanager
    def _s3_within_reach(self) -> Iterator[None]:
        """Keep the S3 within reach of code inside the job; where that fails, warn: the job may not need it."""
        with contextlib.ExitStack() as stack:
            if planned_s3_address(self._spec) and "follow" not in self._record.steps:
                settings = S3Settings.from_dict(dict(self._spec.s3 or {}))
                try:
                    own_address = self._runtime.host_address  # a question to the engine
                    reached = s3_within_reach(settings, self._store.home, own_address)
                    self._s3_address = stack.enter_context(reached)
                    self._s3_credentials = credentials_within(settings, self._store.home, own_address)
                except LauncherError as error:
                    self._record.warn(f"code inside the job cannot reach its S3: {error.message}")
            yield

    def _follow(self) -> None:
        """Follow the hosts to their end, and measure meanwhile what they use."""
        with (
            measured(
                self._plan.containers,
                self._spec.volume_size_gb,
                self._folder.usage_path,
                lambda: dict(self._executions),
            ) as meter,
            self._debugger_within_reach(),
        ):
            self._follow_hosts()
        self._record.usage = meter.totals(self._executions)

    def _debugger_within_reach(self) -> contextlib.AbstractContextManager[None]:
        """Lead debuggers to the job while it is followed, where its program waits for one."""
        return contextlib.nullcontext()

    def _follow_hosts(self) -> None:
        """Wait for all hosts at once; meanwhile hand on log lines, copy what grows, and stop when asked or overdue."""
        recorder = MetricRecorder(self._spec.metric_definitions, self._folder.metrics_path)
        # Metrics are read from the log's beginning, even where a driver before this one had begun to.
        readers = [self._lines] if self._lines else []
        times = FolderTimes(self._folder)
        if self._spec.metric_definitions:
            readers.append(self._metric_reader(recorder, times))
        if (watch := self._line_watch()) is not None:
            readers.append(watch)
        hosts = _Hosts(self._runtime, self._plan.containers, self._executions)
        self._faults.take_over(hosts.running)
        if self._record.stop_reason:
            self._faults.release(hosts.running)
            hosts.terminate()  # a driver before this one may have died before it could
        next_sync = time.monotonic() + _SYNC_SECONDS
        grace, killed = stop_grace_seconds(), False
        while hosts.left:
            codes = hosts.wait(TICK_SECONDS)
            self._executions |= hosts.running
            times.note()
            for reader in readers:
                reader.read()
            self._look_at(readers)
            self._interrupts.check()
            if codes:
                self._heed_stop(hosts)
            if not self._record.stop_reason and any(self._taken_away(host) for host in codes):
                self._stop(hosts, StopReason.INTERRUPTED)
            for host, code in codes.items():
                self._record.exit_codes[host] = code
                for warning in hosts.warnings:
                    self._record.warn(warning)
                lost = self._lost(host) if code != 0 else ""
                if host in hosts.vanished:
                    self._record.platform_failure = f"{host} was gone when it was looked for"
                    self._record.warn(self._record.platform_failure)
                elif (
                    code != 0
                    and (lost := self._faults.killed(host) or self._lost(host))
                    and not self._record.stop_reason
                ):
                    self._record.platform_failure = lost
                    lost = f"{host} was gone when it was looked for"
                    self._record.warn(lost)
                if code != 0 and not self._record.stop_reason:
                    self._record.platform_failure = self._record.platform_failure or lost
            self._tell_of_silence(hosts)
            if self._streams and not self._record.stop_reason and (reason := self._feeder.failure()):
                self._record.input_failure = reason
                self._stop(hosts, StopReason.HOST_FAILED)
            failed = next((host for host, code in codes.items() if code != 0), "")
            if failed and hosts.left and not self._record.stop_reason:
                self._stop(hosts, StopReason.HOST_FAILED)
            if codes:
                continue
            if time.monotonic() >= next_sync:
                if not self._folder.record_path.exists():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder.record_path))
                self._sync_meanwhile()
                next_sync = time.monotonic() + _SYNC_SECONDS
            self._stop_if_due(hosts)
            if not self._record.stop_reason and self._faults.look(
                self._record.seconds_since("training", None), hosts.running
            ):
                self._save()
            overdue = (
                self._record.stop_reason and self._record.seconds_since("stopping", self._record.stop_started) > grace
            )
            if (overdue or self._interrupts.count > 1) and not killed:
                killed = True
                hosts.kill()
        for reader in readers:
            reader.read(final=True)
        self._look_at(readers)
        if self._streams and not self._record.stop_reason:
            self._record.input_failure = self._feeder.failure(now=True)
        for sync in self._syncs:
            sync.wait()
        self._heed_stop(hosts)
        self._record.final_metrics = [[point.name, point.value, point.timestamp] for point in recorder.last.values()]

    def _metric_reader(self, recorder: MetricRecorder, times: FolderTimes) -> LogReader:
        """Return what hands the log to a recorder; a value that a driver before this one saw keeps its time."""
        seen = times.moments()

        def feed(host: str, line: str) -> None:
            moments = seen.get(host)
            if moments is None or reader.line_end > moments.size:
                recorder.feed(line, time.time())
            else:
                recorder.feed(line, moments.at(reader.line_end) / 1000)

        reader = LogReader(self._folder, feed, "metrics are no longer read from the log")
        return reader

    def _line_watch(self) -> LogReader | None:
        """Return what looks for the line of a log that interrupts the job; None where none does."""
        return None

    def _is_interrupted(self) -> bool:
        """Return whether the hosts are to be taken away from the job now."""
        return False

    def _taken_away(self, host: str) -> bool:
        """Return whether a host has ended because of an interruption that the job is prepared for."""
        return False

    def _lost(self, host: str) -> str:
        """Return what took a host away that has ended; empty where it ended by itself."""
        ending = self._ending(next(entry for entry in self._plan.containers if entry.host == host))
        named = f"{host}: " if len(self._plan.containers) > 1 else ""
        return f"{named}{ending.detail}" if ending.cause.is_none_of_the_jobs else ""

    def _look_at(self, readers: Sequence[LogReader]) -> None:
        """Note which reader has lost its sink; leave the job to another driver where the caller only looked on."""
        for reader in readers:
            if reader.failure:
                if reader is self._lines and self._looking_on:
                    raise HandOver
                self._record.warn(reader.failure)

    def _tell_of_silence(self, hosts: _Hosts) -> None:
        """Note since when the runtime does not answer, and when it answers again."""
        self._note_silence(hosts.silence)

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

    def _stop_if_due(self, hosts: _Hosts) -> None:
        if self._record.stop_reason not in _NOT_FINAL:
            return
        if self._folder.stop_requested() or self._interrupts.count:
            self._stop(hosts, StopReason.ASKED)
        elif self._record.training_seconds > self._spec.max_run_seconds:
            self._stop(hosts, StopReason.MAX_RUNTIME_EXCEEDED)
        elif overdue := self._overdue():
            self._stop(hosts, overdue)
        elif not self._record.stop_reason and self._is_interrupted():
            self._stop(hosts, StopReason.INTERRUPTED)

    def _stop(self, hosts: _Hosts, reason: StopReason) -> None:
        had_reason, self._record.stop_reason = self._record.stop_reason, reason
        if not had_reason:
            self._record.stop_started, self._record.marks["stopping"] = time.time(), clock_mark()
        if STOPS[reason] is not None:
            self._note(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
        self._faults.release(hosts.running)
        self._save()
        if not had_reason:
            hosts.terminate()

    def _heed_stop(self, hosts: _Hosts) -> None:
        """Let a stop count that was asked for before the end of the hosts is recorded: others were told of it."""
        if self._folder.stop_requested() and self._record.stop_reason in _NOT_FINAL:
            self._stop(hosts, StopReason.ASKED)

    def _heed_endings(self) -> None:
        """Note what the hosts tell of their end: a host without a driver stops itself at its limit."""
        stopped = STOPS[self._record.stop_reason] is not None  # a host that ended after another's failure was not
        if stopped or not self._record.exit_codes or self._record.terminal:
            return
        if any(self._ending(container).cause is EndCause.MAX_RUNTIME for container in self._plan.containers):
            self._record.stop_started, self._record.stop_reason = time.time(), StopReason.MAX_RUNTIME_EXCEEDED
            self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")

    def _reclaim(self) -> None:
        self._heed_endings()
        for container in self._plan.containers:
            self._runtime.reclaim(container)

    def _collect(self) -> None:
        """Pack the job's results and put them under their keys, also after a failure or a stop.

        Model and output come first; an error of one part does not stop the others.

        Raises:
            Exception: the first error, after all parts were tried.
        """
        if not self._record.terminal:
            self._move(self._record.status, SecondaryStatus.UPLOADING, self.uploading)
        errors = []
        for part in self._results():
            try:
                part()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def _copy_out(self, sync: FolderSync) -> None:
        self._warn(sync.run())

    def _warn(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._record.warn(line)

    def _note_failure_reason(self) -> None:
        """Note why the job failed: the first host that did says so, the others were only stopped for it."""
        skipped = Skipped()
        texts = self._last_words(skipped.add)
        self._warn([f"not read: {line}" for line in skipped.lines])
        host, code = next(((host, code) for host, code in self._record.exit_codes.items() if code != 0), ("", 0))
        self._record.failure_reason = ""
        if self._record.input_failure and self._record.status != Status.STOPPING:
            self._record.failure_reason = f"ClientError: {self._record.input_failure}"[:FAILURE_REASON_LIMIT]
        elif code != 0 and self._record.platform_failure and self._record.status != Status.STOPPING:
            tail = f", exit code: {code}"
            text = f"InternalServerError: {self._record.platform_failure}"
            self._record.failure_reason = text[: FAILURE_REASON_LIMIT - len(tail)] + tail
        elif code != 0 and self._record.status != Status.STOPPING:
            container = next(container for container in self._plan.containers if container.host == host)
            self._record.failure_reason = failure_reason(container, code, self._ending(container), texts[host])

    def _last_words(self, on_skip: OnSkip) -> dict[str, str]:
        """Return what each host says of its failure, by host."""
        return {host: tree.read_failure(on_skip) for host, tree in self._hosts}

    def _ending(self, container: ContainerSpec) -> Ending:
        """Return how a host ended, also where another driver saw it end."""
        with contextlib.suppress(RuntimeUnavailableError):
            execution = self._executions.get(container.host) or self._runtime.find(container)
            if execution is not None and execution.wait(_ENDED_SECONDS) is not None:
                self._executions[container.host] = execution
                return execution.ending()
        return Ending()

    def _finish(self) -> None:
        self._keep_warm()
        for execution in self._found_executions():
            try:
                execution.remove()
            except (LauncherError, OSError) as error:
                self._record.warn(f"what its runtime keeps of it could not be removed: {error}; try: launcher gc")
        if "start" in self._record.steps:
            try:
                self._runtime.close(self._plan.containers)
            except (LauncherError, OSError) as error:
                self._record.warn(f"what its hosts shared could not be removed: {error}; try: launcher gc")
        self._feeder.stop()
        try:
            remove_tree(self._folder.work_path)
        except OSError as error:  # every result is in its place, and that counts
            self._record.warn(f"{self._folder.work_path} could not be removed: {error}")
        if self._folder.stop_requested() and not self._record.exit_codes:
            self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
        if self._record.status == Status.STOPPING:
            secondary = STOPS[self._record.stop_reason] or SecondaryStatus.STOPPED
            self._end(Status.STOPPED, secondary, f"{self.activity.capitalize()} job stopped")
        elif any(self._record.exit_codes.values()) or self._record.failure_reason or self._record.input_failure:
            self._end(Status.FAILED, SecondaryStatus.FAILED, f"{self.activity.capitalize()} job failed")
        else:
            self._end(Status.COMPLETED, SecondaryStatus.COMPLETED, f"{self.activity.capitalize()} job completed")

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

    def _save(self) -> None:
        """Write the record. On a full disk the job goes on without: a step that is not recorded is repeated."""
        try:
            self._store.save(self._name, self._record)
        except OSError as error:
            if self._record.terminal or error.errno not in DISK_FULL:
                raise
            self._record.warn(f"the record could not be written for a while: {error.strerror}")

    def _sync_meanwhile(self) -> None:
        for sync in self._syncs:
            if warning := sync.run_meanwhile():
                self._record.warn(warning)

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
        return job_storage(self._spec, self._keys.output)

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
            storage = job_storage(self._spec, config.s3_uri)
            syncs.append(FolderSync("checkpoints", self._trees, config.tree_path, storage, config.s3_uri))
        return syncs

    def _make_plan(self, channels: Mapping[str, ChannelSource]) -> RunPlan:
        return _plan(self._spec, self._store, channels, self._runtime.network_interface)

    def _lay_out(self) -> None:
        if self._spec.source_uri is not None:
            storage = job_storage(self._spec, self._spec.source_uri)
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


class _Hosts:
    """The hosts of a job that have not ended, waited for at once, whether or not their runtime answers.

    Args:
        runtime: finds a host again that this process did not start, or has lost.
        containers: every host of the job.
        executions: those that this process has started.

    Attributes:
        running: the hosts that answer.
        lost: the hosts whose state is unknown.
        vanished: the hosts of which nothing is left.
        warnings: what their executions had to say when they ended.
        silence: why the runtime does not answer; empty while it does.
    """

    def __init__(
        self, runtime: Runtime, containers: Sequence[ContainerSpec], executions: Mapping[str, Execution]
    ) -> None:
        self._runtime = runtime
        self._containers = {container.host: container for container in containers}
        self.running = dict(executions)
        self.lost = {host: container for host, container in self._containers.items() if host not in executions}
        self._next_look = 0.0
        self._signals: list[Callable[[Execution], None]] = []
        self.vanished: set[str] = set()
        self._ended: dict[str, float] = {}
        self.warnings: list[str] = []
        self.silence = ""

    @property
    def left(self) -> bool:
        """Whether any host has not ended."""
        return bool(self.running or self.lost)

    def wait(self, seconds: float) -> dict[str, int]:
        """Wait until a host has ended, at most ``seconds``; return the exit codes of those that have, in that order."""
        codes = self._look_again()
        silence = ""
        if not self.running and not codes:
            time.sleep(seconds)
        for host, execution in list(self.running.items()):
            try:
                code = execution.wait(0 if codes else seconds / len(self.running))
            except (RuntimeUnavailableError, OSError) as error:
                silence = _text(error)
                del self.running[host]
                self.lost[host] = self._containers[host]
                continue
            if code is not None:
                codes[host] = code
                self.warnings += [execution.warning] if execution.warning else []
                self._ended[host] = execution.ending().time
                del self.running[host]
            elif execution.state() is HostState.LOST:
                silence = f"{host} cannot be reached"
        if silence or not self.lost:
            self.silence = silence
        return dict(sorted(codes.items(), key=lambda ended: self._ended.get(ended[0], 0.0)))

    def terminate(self) -> None:
        """Send SIGTERM to all hosts, to a lost host as soon as it is found."""
        self._signal(lambda execution: execution.terminate())

    def kill(self) -> None:
        """Kill all hosts, a lost host as soon as it is found."""
        self._signal(lambda execution: execution.kill())

    def _signal(self, send: Callable[[Execution], None]) -> None:
        self._signals.append(send)
        for execution in self.running.values():
            self._send(execution, [send])

    def _send(self, execution: Execution, signals: Sequence[Callable[[Execution], None]]) -> None:
        for send in signals:
            try:
                send(execution)
            except (RuntimeUnavailableError, OSError) as error:
                self.silence = _text(error)

    def _look_again(self) -> dict[str, int]:
        """Look for lost hosts; a host of which nothing is left counts as killed."""
        codes: dict[str, int] = {}
        if not self.lost or time.monotonic() < self._next_look:
            return codes
        for host, container in list(self.lost.items()):
            try:
                execution = self._runtime.find(container)
            except (RuntimeUnavailableError, OSError) as error:
                self.silence = _text(error)
                self._next_look = time.monotonic() + _LOOKING_SECONDS
                continue
            del self.lost[host]
            if execution is None:
                codes[host] = _KILLED
                self.vanished.add(host)
            else:
                self.running[host] = execution
                self._send(execution, self._signals)
        return codes


def _text(error: Exception) -> str:
    return error.message if isinstance(error, LauncherError) else str(error)


def _check_source_archive(spec: TrainingJobSpec, uri: str) -> None:
    try:
        _, is_file = job_storage(spec, uri).locate(uri, Path(os.devnull))
    except (ChannelError, StorageError) as error:
        raise SourceError(f"the source of job '{spec.job_name}': {error.message}", error.hint) from error
    if not is_file:
        raise SourceError(
            f"the source of job '{spec.job_name}', {uri}, is no archive.",
            "Name the one sourcedir.tar.gz in the hyperparameter sagemaker_submit_directory.",
        )


def _plan(
    spec: TrainingJobSpec,
    store: Store[JobRecord],
    channels: Mapping[str, ChannelSource],
    network_interface: str,
    members: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> RunPlan:
    folder = store.folder(spec.job_name)
    return make_plan(
        spec,
        home=store.home,
        job_path=folder.path,
        work_path=folder.work_path,
        channels=channels,
        channel_notes=notes,
        source_members=members,
        network_interface=network_interface,
    )


def _check_checkpoint_place(
    spec: TrainingJobSpec, config: CheckpointConfig, places: Mapping[str, Sequence[str]], folder: JobFolder
) -> None:
    """Refuse a place for checkpoints that cannot be read or written, or that overlaps another place of the job.

    Raises:
        BadInputError: it does.
    """
    uri, storage = config.s3_uri, job_storage(spec, config.s3_uri)
    try:
        storage.check_writable(uri)
        storage.files_below(uri)
    except (ChannelError, OutputPathError) as error:
        raise type(error)(f"checkpoint_s3_uri={uri}: {error.message}", error.hint) from error
    for channel in spec.channels:
        # A channel in S3 is every key that begins with its URI.
        in_s3 = channel.uri.startswith("s3://") and f"{uri}/".startswith(channel.uri)
        if in_s3 or any(_lies_within(uri, path) for path in places[channel.name]):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Keep checkpoints somewhere else, or jobs would read them as data.",
            )
    for place in (job_keys(spec).model, spec.source_uri or "", f"file://{folder.path}"):
        if place.startswith(f"{uri}/"):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} contains {place}, which is no checkpoint and would be restored as one.",
                "Give checkpoints a folder of their own.",
            )


def _channel_places(spec: TrainingJobSpec, resolved: ResolvedChannels) -> dict[str, list[str]]:
    """Return the folders and files that each channel is read from."""
    places: dict[str, list[str]] = {}
    for channel in spec.channels:
        own = [str(source.path) for name, source in resolved.sources.items() if name.rpartition("/")[2] == channel.name]
        places[channel.name] = [*own, *([channel.uri.removeprefix("file://")] if channel.uri[:7] == "file://" else [])]
    return places


def _lies_within(uri: str, path: str) -> bool:
    return uri.startswith("file://") and Path(uri.removeprefix("file://")).resolve().is_relative_to(path)
