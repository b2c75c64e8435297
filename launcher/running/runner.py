"""The one ordered list of effects that makes a job, from the first record to the last.

Each step is recorded when it is over and can be repeated safely, so any process may take a job up where another left
it: it gets the driver's lock, skips what is recorded, and goes on. A stop is asked for by a file: anybody can ask.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from launcher.errors import (
    ChannelError,
    JobFailedError,
    LauncherError,
    OutputPathError,
    RuntimeUnavailableError,
    SourceError,
    StorageError,
)
from launcher.jobs.metrics import MetricRecorder
from launcher.jobs.spec import CheckpointConfig, ContainerSpec, TrainingJobSpec, job_keys
from launcher.jobs.store import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    STOPPED,
    STOPPING,
    Claim,
    JobFolder,
    JobRecord,
    JobStore,
)
from launcher.requests.training import check_training_request
from launcher.running import artifacts
from launcher.running.failure import failure_reason
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.running.opt_ml import FAILURE_REASON_LIMIT, OptMl
from launcher.running.plan import (
    ChannelSource,
    RunPlan,
    host_names,
    make_plan,
    planned_s3_address,
    with_s3_address,
)
from launcher.running.syncing import FolderSync
from launcher.runtimes import EndCause, Ending, Execution, HostState, Runtime, choose_runtime, get_runtime
from launcher.secrets import masked_text
from launcher.settings import S3Settings, default_runtime, stop_grace_seconds
from launcher.storage import Storage, storage_for, which_s3
from launcher.storage.address import credentials_within, s3_within_reach

_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0
_PATIENT_INTERRUPTS = 2  # the first stops the job, the second kills it, one more gives up on its results
_KILLED = 128 + signal.SIGKILL
_ENGINE_SECONDS = 1.0
_ENDED_SECONDS = 10.0
_TRAINING = "Training image download completed. Training in progress."


def job_storage(spec: TrainingJobSpec, uri: str) -> Storage:
    """Return the storage of one of the job's URIs: its ``s3://`` means what it meant when the job was submitted."""
    return storage_for(uri, None if spec.s3 is None else S3Settings.from_dict(dict(spec.s3)))


def resolve_channels(spec: TrainingJobSpec, cache_path: Path, *, fetch: bool) -> dict[str, ChannelSource]:
    """Find the data of every channel on this machine.

    Args:
        spec: the job.
        cache_path: a folder for what has to be copied here.
        fetch: False copies nothing, and says where the data would be.
    Raises:
        ChannelError: a channel has nothing to read; the message names channel and job.
        StorageError: an S3 refuses it, or does not answer.
    """
    found = {}
    for channel in spec.channels:
        storage, path = job_storage(spec, channel.uri), cache_path / channel.name
        try:
            if fetch:
                path = storage.fetch(channel.uri, path)
                if channel.name in spec.own_channels:
                    path = _own_copy(path, cache_path / f".own-{channel.name}")
                found[channel.name] = ChannelSource(path, path.is_file())
            else:
                found[channel.name] = ChannelSource(*storage.locate(channel.uri, path))
        except ChannelError as error:
            raise ChannelError(
                f"channel '{channel.name}' of job '{spec.job_name}': {error.message}", error.hint
            ) from error
    return found


@dataclass(frozen=True)
class AcceptedJob:
    """A request that was checked, with what is decided when it is submitted.

    Attributes:
        request: the document as it was given.
        spec: what runs: the runtime and the S3 are decided.
        runtime: what runs it.
        warnings: what its user should know before it runs.
    """

    request: Mapping[str, Any]
    spec: TrainingJobSpec
    runtime: Runtime
    warnings: tuple[str, ...] = ()


def accept(request: Mapping[str, Any], runtime: Runtime | None = None) -> AcceptedJob:
    """Check a CreateTrainingJob document, and decide where it runs and which S3 it means; changes nothing.

    Args:
        request: as boto3's ``create_training_job`` takes it, with the member ``Launcher`` or without.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_training_request(request)
    if runtime is None:
        name = default_runtime() if spec.runtime == "auto" else spec.runtime
        runtime = choose_runtime(name, image_uri=spec.image_uri)
    warnings = []
    if not runtime.runs_images and spec.image_uri is not None and spec.brings_code:
        warnings.append(
            f"the image {spec.image_uri} is not used: the runtime '{runtime.name}' runs the request's own code"
        )
        spec = replace(spec, image_uri=None)
    uris = [spec.output_uri, spec.source_uri or "", *(channel.uri for channel in spec.channels)]
    uris.append(spec.checkpoint_config.s3_uri if spec.checkpoint_config else "")
    if spec.s3 is None and any(uri.startswith("s3://") for uri in uris):
        spec = replace(spec, s3=which_s3().to_dict())
    return AcceptedJob(request, replace(spec, runtime=runtime.name), runtime, tuple(warnings))


def plan_job(job: AcceptedJob, store: JobStore, *, source_members: Sequence[str] | None = None) -> RunPlan:
    """Work out what ``drive`` would do, and check that it could; writes nothing.

    Args:
        job: what was accepted.
        store: the home it would live in.
        source_members: the names in a source archive that the caller is about to upload; None: it is there already.
    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    spec = job.spec
    store.check_writable()
    store.check_unused(spec.job_name)
    folder = store.folder(spec.job_name)
    keys = job_keys(spec)
    # A source in the folder of a job that has no record is what a submission left that was killed.
    to_be_written = [] if source_members is None or _lies_within(keys.source, str(folder.path)) else [keys.source]
    channels = resolve_channels(spec, folder.work_path / "channels", fetch=False)
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
        if _lies_within(spec.output_uri, str(channels[channel.name].path)):
            raise OutputPathError(
                f"the output path {spec.output_uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Write results somewhere else, or the job would read what it writes.",
            )
    if spec.checkpoint_config is not None:
        _check_checkpoint_place(spec, spec.checkpoint_config, channels, folder)
    plan = _plan(spec, store, channels, job.runtime.network_interface, source_members or ())
    for container in plan.containers:
        job.runtime.check(container)
    return replace(plan, image=job.runtime.describe_image(plan.containers[0]))


def submit(request: Mapping[str, Any], store: JobStore, runtime: Runtime | None = None) -> JobFolder:
    """Check a CreateTrainingJob document and record it as a job: from here on it cannot be lost.

    Args:
        request: as boto3's ``create_training_job`` takes it; its source archive, if it names one, is there.
        store: the home that the job lives in.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    job = accept(request, runtime)
    plan_job(job, store)
    with store.claim(job.spec.job_name) as claim:
        return record_job(job, claim)


def record_job(job: AcceptedJob, claim: Claim) -> JobFolder:
    """Record a job that was planned, under a name that the caller holds."""
    now = time.time()
    record = JobRecord(spec=job.spec.to_dict(), created=now, request=dict(job.request), warnings=list(job.warnings))
    record.move(IN_PROGRESS, "Starting", "Starting the training job", now)
    claim.record(record)
    return claim.folder


def drive(store: JobStore, name: str, *, runtime: Runtime | None = None, on_line: LineSink | None = None) -> JobRecord:
    """See a job through to its end, whoever began it; follow it, if another process is at it.

    Ctrl-C asks for a stop and waits for it: SIGTERM, two minutes, SIGKILL. A second one kills at once.

    Args:
        store: the home that the job lives in.
        name: the job.
        runtime: None takes the one that the job was submitted for.
        on_line: gets every line that the job prints.
    Raises:
        JobNotFoundError: there is no such job.
        KeyboardInterrupt: after the stop that it asked for.
    """
    store.load(name)
    folder = store.folder(name)
    lines = LogReader(folder, on_line) if on_line else None
    with _interrupts(folder) as interrupts:
        while True:
            with folder.driving(wait=False) as had:
                if had:
                    record = store.load(name)
                    if not record.terminal:
                        chosen = runtime or get_runtime(record.training_spec.runtime)
                        Driver(store, name, chosen, lines, interrupts).run()
                    if lines:
                        lines.read(final=True)
                    break
            # Another process drives it: read along, and take over should it go away.
            interrupts.deferred = True
            if lines:
                lines.read()
            time.sleep(_TICK_SECONDS)
    if interrupts.count:
        raise KeyboardInterrupt
    return store.load(name)


def drive_detached(store: JobStore, name: str) -> None:
    """Have a process of its own see the job through; it outlives this one."""
    package_parent = str(Path(__file__).resolve().parents[2])
    with (store.folder(name).path / "driver.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "launcher", "drive", name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "LAUNCHER_HOME": str(store.home), "PYTHONPATH": package_parent},
        )


def raise_unless_completed(store: JobStore, record: JobRecord) -> None:
    """Raise what a failed job means for its caller; a stopped one is no error, as with SageMaker.

    Raises:
        JobFailedError: with the reason, the exit code and the last lines of the log.
    """
    if record.status != FAILED:
        return
    spec = record.training_spec
    folder = store.folder(spec.job_name)
    seconds = (record.ended or record.modified) - (record.started or record.created)
    hosts = record.exit_codes
    host, code = next(((host, code) for host, code in hosts.items() if code != 0), ("algo-1", None))
    program = spec.entry_point or spec.image_uri or "the container"
    where = f" on {host}" if spec.instance_count > 1 else ""
    what = (
        f"{program} exited with {code} after {seconds:.0f} s{where}" if code is not None else "it never ran to an end"
    )
    tail = "".join(f"\n    {line}" for line in log_tail(folder.log_path(host)))
    error = JobFailedError(
        f"job '{spec.job_name}': {what}. {masked_text(record.failure_reason)}",
        f"Log: {folder.log_path(host)}" + (f", which ends with:{tail}" if tail else ""),
        job_name=spec.job_name,
        reason=record.failure_reason,
    )
    error.exit_code_of_job = code
    raise error


@dataclass
class _Interrupts:
    """Ctrl-C: how often, and whether it has to wait because a job is running or its results are being kept."""

    count: int = 0
    deferred: bool = False


class Driver:
    """Carries a job through the steps that are not recorded yet; the caller holds the driver's lock."""

    def __init__(
        self,
        store: JobStore,
        name: str,
        runtime: Runtime,
        lines: LogReader | None = None,
        interrupts: _Interrupts | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._folder = store.folder(name)
        self._record = store.load(name)
        self._spec = self._record.training_spec
        self._runtime = runtime
        self._lines = lines
        self._interrupts = interrupts or _Interrupts()
        self._hosts = [(host, OptMl(self._folder.tree_path(host))) for host in host_names(self._spec)]
        self._keys = job_keys(self._spec)
        self._storage = job_storage(self._spec, self._keys.output)
        self._syncs = [sync for host, tree in self._hosts for sync in self._syncs_of(host, tree)]
        self._plan_made: RunPlan | None = None
        self._executions: dict[str, Execution] = {}
        self._s3_address = ""
        self._s3_credentials: dict[str, str] = {}

    def _syncs_of(self, host: str, tree: OptMl) -> list[FolderSync]:
        """Return what is copied from a host while it runs: as on SageMaker, hosts share a place for checkpoints."""
        own = "" if host == host_names(self._spec)[0] else f"/{host}"
        syncs = [FolderSync("intermediate files", tree.intermediate, self._storage, f"{self._keys.intermediate}{own}")]
        if (config := self._spec.checkpoint_config) is not None:
            folder, storage = tree.path / config.tree_path, job_storage(self._spec, config.s3_uri)
            syncs.append(FolderSync("checkpoints", folder, storage, config.s3_uri))
        return syncs

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, whatever happens."""
        try:
            self.step("fetch_channels", self._fetch_channels)
            self.step("write_config", self._write_config)
            if self._spec.checkpoint_config is not None:
                self.step("restore_checkpoints", self._restore_checkpoints)
            self.step("prepare", self._prepare)
            if not self._folder.stop_requested() or self._executions_left():
                with self._s3_within_reach():
                    self.step("start", self._start)
                    if self._record.secondary_status == "Pending":
                        self.step("await_start", self._await_start)
                    self.step("follow", self._follow)
            self.step("reclaim", self._reclaim)
            self.step("collect", self._collect)
            self._finish()
        except BaseException as error:
            self.give_up(error)
            raise

    def step(self, name: str, effect: Callable[[], None]) -> None:
        """Do ``effect`` unless it is recorded as done, then record it."""
        if name not in self._record.steps:
            effect()
            self._record.steps[name] = time.time()
            self._save()

    def give_up(self, error: BaseException) -> None:
        """End the job for a reason that is not its own: nothing keeps running, what it wrote stays where it is."""
        for execution in self._found_executions():
            with contextlib.suppress(LauncherError, OSError):
                execution.kill()
                execution.wait(10)
                execution.remove()
        if "prepare" in self._record.steps:
            with contextlib.suppress(LauncherError, OSError):
                self._runtime.close(self._plan.containers)
        if "start" in self._record.steps:
            with contextlib.suppress(LauncherError, OSError):
                self._reclaim()
            if isinstance(error, Exception):  # Ctrl-C waits for nothing more
                for sync in self._syncs:
                    with contextlib.suppress(LauncherError, OSError):
                        sync.run()
            self._record.warnings.append(f"what the job wrote and was not packed is in {self._folder.work_path}")
        else:
            _remove_tree(self._folder.work_path)
        if self._record.terminal:
            return
        with contextlib.suppress(OSError):  # a full disk must not hide what went wrong first
            if isinstance(error, KeyboardInterrupt | SystemExit) or self._folder.stop_requested():
                self._move(STOPPING, "Stopping", "Stopping the training job")
                self._end(STOPPED, "Stopped", "Training job stopped")
            else:
                kind = "ClientError" if isinstance(error, LauncherError) else "InternalServerError"
                text = error.message if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
                self._record.failure_reason = f"{kind}: {text}"[:FAILURE_REASON_LIMIT]
                self._end(FAILED, "Failed", "Training job failed")

    def _fetch_channels(self) -> None:
        self._record.started = time.time()
        self._note(IN_PROGRESS, "Downloading", "Downloading input data")
        self._folder.make_work_path()
        channels = resolve_channels(self._spec, self._folder.work_path / "channels", fetch=True)
        self._record.channels = {name: [str(found.path), found.is_file] for name, found in channels.items()}

    def _write_config(self) -> None:
        plan = self._plan
        source = None
        if self._spec.source_uri is not None:
            storage = job_storage(self._spec, self._spec.source_uri)
            source = storage.fetch(self._spec.source_uri, self._folder.work_path / "source")
        for host, tree in self._hosts:
            tree.prepare({**plan.config_files, **plan.host_files[host]}, plan.mount_points)
            if source is not None:
                shutil.rmtree(tree.code, ignore_errors=True)
                artifacts.unpack(source, tree.code)

    def _restore_checkpoints(self) -> None:
        """Copy what earlier jobs have left to every host; the job may change it, so nothing is linked."""
        config = self._spec.checkpoint_config
        if config is None:
            return
        folders = [tree.path / config.tree_path for _, tree in self._hosts]
        for sync in self._syncs:
            if sync.folder in folders:
                _remove_tree(sync.folder)  # a driver before this one may have died in the middle
                sync.restore()
        for (_, tree), folder in zip(self._hosts, folders, strict=True):
            tree.share(folder)

    def _prepare(self) -> None:
        for container in self._plan.containers:
            self._runtime.prepare(container)

    def _start(self) -> None:
        """Start each host, or find the one that a driver before this one started and could not record."""
        planned = planned_s3_address(self._spec)
        self._runtime.open(self._plan.containers)
        for container in self._plan.containers:
            execution = self._runtime.find(container) or self._runtime.start(
                self._with_credentials(with_s3_address(container, planned, self._s3_address))
            )
            self._executions[container.host] = execution
            self._record.executions[container.host] = execution.reference
        if any(execution.state() is HostState.PENDING for execution in self._executions.values()):
            self._note(IN_PROGRESS, "Pending", "Waiting for a place to run")
        else:
            self._note(IN_PROGRESS, "Training", _TRAINING)

    def _await_start(self) -> None:
        """Wait until every host has a place to run: a queue's time is no training time and has no limit."""
        executions = [self._find_again(container) for container in self._plan.containers]
        while not self._folder.stop_requested() and any(
            execution is not None and execution.state() is HostState.PENDING for execution in executions
        ):
            time.sleep(_TICK_SECONDS)
        self._note(IN_PROGRESS, "Training", _TRAINING)

    def _find_again(self, container: ContainerSpec) -> Execution | None:
        """Return a host that was started, once what runs it answers: until then nobody knows how it is."""
        while True:
            try:
                return self._executions.get(container.host) or self._runtime.find(container)
            except RuntimeUnavailableError:
                time.sleep(_ENGINE_SECONDS)

    def _with_credentials(self, container: ContainerSpec) -> ContainerSpec:
        """Return the container with the S3's credentials, which no record holds; the caller's own variables win."""
        own = {name: value for name, value in self._s3_credentials.items() if name not in self._spec.environment}
        return replace(container, environment={**container.environment, **own})

    @contextlib.contextmanager
    def _s3_within_reach(self) -> Iterator[None]:
        """Keep the S3 within reach of code inside the job, which is warned if it cannot be: it may not need it."""
        with contextlib.ExitStack() as kept:
            if planned_s3_address(self._spec) and "follow" not in self._record.steps:
                settings = S3Settings.from_dict(dict(self._spec.s3 or {}))
                try:
                    reached = s3_within_reach(settings, self._store.home, self._runtime.host_address)
                    self._s3_address = kept.enter_context(reached)
                    self._s3_credentials = credentials_within(settings, self._store.home, self._runtime.host_address)
                except LauncherError as error:
                    self._record.warnings.append(f"code inside the job cannot reach its S3: {error.message}")
            yield

    def _follow(self) -> None:
        """Wait for every host; meanwhile hand on log lines, copy what grows, and stop when asked or overdue."""
        self._interrupts.deferred = True
        recorder = MetricRecorder(self._spec.metric_definitions, self._folder.metrics_path)
        # Metrics are read from the log's beginning, even where a driver before this one had begun to.
        readers = [self._lines] if self._lines else []
        if self._spec.metric_definitions:
            readers.append(LogReader(self._folder, lambda _host, line: recorder.feed(line, time.time())))
        running = {}
        for container in self._plan.containers:
            execution = self._find_again(container)
            if execution is None:
                self._record.exit_codes[container.host] = _KILLED
                self._record.warnings.append(f"{container.host} was gone when it was looked for")
            else:
                running[container.host] = execution
        self._executions = dict(running)
        if self._record.stop_started is not None:
            for execution in running.values():
                execution.terminate()  # a driver before this one may have died before it could
        next_sync = time.monotonic() + _SYNC_SECONDS
        grace, killed = stop_grace_seconds(), False
        while running:
            host, execution = next(iter(running.items()))
            code = execution.wait(_TICK_SECONDS)
            for reader in readers:
                reader.read()
            if code is not None:
                self._record.exit_codes[host] = code
                del running[host]
                if code != 0 and running:
                    self._stop(running, f"{host} ended with {code}")
                continue
            if time.monotonic() >= next_sync:
                self._sync_meanwhile()
                next_sync = time.monotonic() + _SYNC_SECONDS
            self._stop_if_due(running)
            overdue = self._record.stop_started and time.time() > self._record.stop_started + grace
            if (overdue or self._interrupts.count > 1) and not killed:
                killed = True
                for execution in running.values():
                    execution.kill()
        for reader in readers:
            reader.read(final=True)
        for sync in self._syncs:
            sync.wait()
        self._record.final_metrics = [[point.name, point.value, point.timestamp] for point in recorder.last.values()]

    def _stop_if_due(self, running: dict[str, Execution]) -> None:
        if self._record.stop_started is not None:
            return
        started = next((one.start for one in self._record.transitions if one.status == "Training"), time.time())
        if self._folder.stop_requested():
            self._stop(running, "Stopped")
        elif time.time() > started + self._spec.max_run_seconds:
            self._stop(running, "MaxRuntimeExceeded")

    def _stop(self, running: dict[str, Execution], reason: str) -> None:
        self._record.stop_started, self._record.stop_reason = time.time(), reason
        if reason in ("Stopped", "MaxRuntimeExceeded"):
            self._move(STOPPING, "Stopping", "Stopping the training job")
        self._save()
        for execution in running.values():
            execution.terminate()

    def _heed_endings(self) -> None:
        """Note what the hosts themselves tell of their end: one that had nobody to stop it in time has done so."""
        if self._record.stop_started is not None or not self._record.exit_codes:
            return
        if any(self._ending(container).cause is EndCause.MAX_RUNTIME for container in self._plan.containers):
            self._record.stop_started, self._record.stop_reason = time.time(), "MaxRuntimeExceeded"
            self._move(STOPPING, "Stopping", "Stopping the training job")

    def _reclaim(self) -> None:
        self._heed_endings()
        for container in self._plan.containers:
            self._runtime.reclaim(container)

    def _collect(self) -> None:
        """Pack what the job left and put it under its keys; a failed or stopped job's as well."""
        self._move(self._record.status, "Uploading", "Uploading generated training model")
        for sync in self._syncs:
            sync.run()
        tree = self._hosts[0][1]
        for folder, uri in ((tree.model, self._keys.model), (tree.output_data, self._keys.output)):
            archive = self._folder.work_path / uri.rsplit("/", 1)[1]
            report = artifacts.pack_folder(folder, archive) if folder.is_dir() else artifacts.PackReport()
            self._record.warnings += [f"not packed: {line}" for line in report.skipped]
            if archive.exists():
                self._storage.put_file(archive, uri)
        self._record.failure_reason = self._find_failure_reason()

    def _find_failure_reason(self) -> str:
        """Return why the job failed: the first host that did says so, the others were only stopped for it."""
        host, code = next(((host, code) for host, code in self._record.exit_codes.items() if code != 0), ("", 0))
        if code == 0 or self._record.status == STOPPING:
            return ""
        container = next(container for container in self._plan.containers if container.host == host)
        return failure_reason(container, code, self._ending(container), dict(self._hosts)[host].read_failure())

    def _ending(self, container: ContainerSpec) -> Ending:
        """Return how a host ended, also where another driver saw it end."""
        with contextlib.suppress(RuntimeUnavailableError):
            execution = self._executions.get(container.host) or self._runtime.find(container)
            if execution is not None and execution.wait(_ENDED_SECONDS) is not None:
                self._executions[container.host] = execution
                return execution.ending()
        return Ending()

    def _finish(self) -> None:
        for execution in self._found_executions():
            execution.remove()
        if "start" in self._record.steps:
            self._runtime.close(self._plan.containers)
        _remove_tree(self._folder.work_path)
        if self._folder.stop_requested() and not self._record.exit_codes:
            self._move(STOPPING, "Stopping", "Stopping the training job")
        if self._record.status == STOPPING:
            exceeded = self._record.stop_reason == "MaxRuntimeExceeded"
            self._end(STOPPED, "MaxRuntimeExceeded" if exceeded else "Stopped", "Training job stopped")
        elif any(self._record.exit_codes.values()):
            self._end(FAILED, "Failed", "Training job failed")
        else:
            self._end(COMPLETED, "Completed", "Training job completed")

    def _end(self, status: str, secondary: str, message: str) -> None:
        self._record.ended = time.time()
        self._move(status, secondary, message)

    def _note(self, status: str, secondary: str, message: str) -> None:
        """Change the status without writing it: the step that is under way is about to."""
        self._record.move(status, secondary, message, time.time())

    def _move(self, status: str, secondary: str, message: str) -> None:
        self._note(status, secondary, message)
        self._save()

    def _save(self) -> None:
        self._store.save(self._name, self._record)

    def _sync_meanwhile(self) -> None:
        for sync in self._syncs:
            warning = sync.run_meanwhile()
            if warning and warning not in self._record.warnings:
                self._record.warnings.append(warning)

    @property
    def _plan(self) -> RunPlan:
        if self._plan_made is None:
            found = self._record.channels.items()
            channels = {name: ChannelSource(Path(path), is_file) for name, (path, is_file) in found}
            self._plan_made = _plan(self._spec, self._store, channels, self._runtime.network_interface)
        return self._plan_made

    def _executions_left(self) -> bool:
        return bool(self._record.executions) or any(self._runtime.find(one) for one in self._plan.containers)

    def _found_executions(self) -> Iterator[Execution]:
        if "prepare" not in self._record.steps:
            return
        with contextlib.suppress(LauncherError):
            for container in self._plan.containers:
                execution = self._executions.get(container.host) or self._runtime.find(container)
                if execution is not None:
                    yield execution


@contextlib.contextmanager
def _interrupts(folder: JobFolder) -> Iterator[_Interrupts]:
    """Turn SIGINT into a request to stop; only a main thread gets to do so."""
    interrupts = _Interrupts()

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupts.count += 1
        folder.request_stop()
        if not interrupts.deferred or interrupts.count > _PATIENT_INTERRUPTS:
            raise KeyboardInterrupt

    try:
        previous: Any = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:
        yield interrupts
        return
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, previous)


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


def _own_copy(path: Path, target: Path) -> Path:
    """Copy a channel for a job that changes what is in it; any user may do so."""
    if path.is_file():
        target.mkdir(parents=True, exist_ok=True)
        target /= path.name
        shutil.copyfile(path, target)
        target.chmod(0o666)
        return target
    shutil.copytree(path, target, dirs_exist_ok=True)
    for entry in (target, *target.rglob("*")):
        entry.chmod(0o777 if entry.is_dir() else 0o666)
    return target


def _plan(
    spec: TrainingJobSpec,
    store: JobStore,
    channels: dict[str, ChannelSource],
    network_interface: str,
    members: Sequence[str] = (),
) -> RunPlan:
    folder = store.folder(spec.job_name)
    return make_plan(
        spec,
        home=store.home,
        job_path=folder.path,
        work_path=folder.work_path,
        channels=channels,
        source_members=members,
        network_interface=network_interface,
    )


def _remove_tree(path: Path) -> None:
    """Remove a folder that a job has written to, and may have taken rights away in."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    if path.exists():
        shutil.rmtree(path)


def _check_checkpoint_place(
    spec: TrainingJobSpec, config: CheckpointConfig, channels: Mapping[str, ChannelSource], folder: JobFolder
) -> None:
    """Refuse a place for checkpoints that cannot be read or written, or that is mixed up with others of the job.

    Raises:
        BadInputError: it is.
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
        if in_s3 or _lies_within(uri, str(channels[channel.name].path)):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Keep checkpoints somewhere else, or jobs would read them as data.",
            )
    for place in (job_keys(spec).model, spec.source_uri or "", f"file://{folder.path}"):
        if place.startswith(f"{uri}/"):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} is around {place}, which is no checkpoint and would be restored as one.",
                "Give checkpoints a folder of their own.",
            )


def _lies_within(uri: str, path: str) -> bool:
    return uri.startswith("file://") and Path(uri.removeprefix("file://")).resolve().is_relative_to(path)
