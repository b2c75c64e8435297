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

from launcher.errors import ChannelError, JobFailedError, LauncherError, OutputPathError
from launcher.jobs.metrics import MetricRecorder
from launcher.jobs.spec import CheckpointConfig, TrainingJobSpec, job_keys
from launcher.jobs.store import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    STOPPED,
    STOPPING,
    JobFolder,
    JobRecord,
    JobStore,
    check_job_name,
)
from launcher.running import artifacts
from launcher.running.following import LineSink, LogReader, log_tail
from launcher.running.opt_ml import FAILURE_REASON_LIMIT, OptMl
from launcher.running.plan import ChannelSource, RunPlan, make_plan, planned_s3_address, with_s3_address
from launcher.running.source import list_members
from launcher.running.syncing import FolderSync
from launcher.runtimes import Execution, Runtime, get_runtime
from launcher.settings import S3Settings, stop_grace_seconds
from launcher.storage import Storage, storage_for
from launcher.storage.address import s3_within_reach

_TICK_SECONDS = 0.1
_SYNC_SECONDS = 1.0
_SOURCE_MTIME = 315532800  # 1980, the first year that every archive format knows: the same files make the same bytes
_PATIENT_INTERRUPTS = 2  # the first stops the job, the second kills it, one more gives up on its results
_KILLED, _NOT_FOUND = 128 + signal.SIGKILL, 127


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
                found[channel.name] = ChannelSource(path, path.is_file())
            else:
                found[channel.name] = ChannelSource(*storage.locate(channel.uri, path))
        except ChannelError as error:
            raise ChannelError(
                f"channel '{channel.name}' of job '{spec.job_name}': {error.message}", error.hint
            ) from error
    return found


def plan_job(spec: TrainingJobSpec, store: JobStore, runtime: Runtime) -> RunPlan:
    """Work out what ``run`` would do, and check that it could; writes nothing.

    Raises:
        BadInputError: something about the job cannot be done as it was asked for.
    """
    check_job_name(spec.job_name)
    store.check_writable()
    store.check_unused(spec.job_name)
    members = _source_members(spec)
    folder = store.folder(spec.job_name)
    channels = resolve_channels(spec, folder.work_path / "channels", fetch=False)
    keys = job_keys(spec)
    for uri in (keys.output, keys.model, keys.source):
        storage = job_storage(spec, uri)
        if storage.exists(uri):
            raise OutputPathError(
                f"{uri} is there already, from another job named '{spec.job_name}'.", "Choose another job name."
            )
        storage.check_writable(uri.rpartition("/")[0])
    for channel in spec.channels:
        if _lies_within(spec.output_uri, str(channels[channel.name].path)):
            raise OutputPathError(
                f"the output path {spec.output_uri} lies inside channel '{channel.name}' ({channel.uri}).",
                "Write results somewhere else, or the job would read what it writes.",
            )
    if spec.checkpoint_config is not None:
        _check_checkpoint_place(spec, spec.checkpoint_config, channels, folder)
    plan = _plan(spec, store, channels, [name for name, _ in members])
    for container in plan.containers:
        runtime.check(container)
    return replace(plan, image=runtime.describe_image(plan.containers[0]))


def submit(spec: TrainingJobSpec, store: JobStore, runtime: Runtime) -> JobFolder:
    """Check a job, record it, and keep its source as it is now: from here on it cannot be lost.

    Raises:
        BadInputError: the job cannot be run; nothing has been recorded.
    """
    plan_job(spec, store, runtime)
    now = time.time()
    record = JobRecord(spec=spec.to_dict(), created=now)
    record.move(IN_PROGRESS, "Starting", "Starting the training job", now)
    folder = store.create(spec.job_name, record)
    with folder.driving(wait=True):
        driver = Driver(store, spec.job_name, runtime)
        try:
            driver.step("pack_source", driver.pack_source)
        except BaseException as error:
            driver.give_up(error)
            raise
    return folder


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
    code = next((code for code in record.exit_codes.values() if code != 0), None)
    program = spec.entry_point or spec.image_uri or "the container"
    what = f"{program} exited with {code} after {seconds:.0f} s" if code is not None else "it never ran to an end"
    tail = "".join(f"\n    {line}" for line in log_tail(folder.log_path("algo-1")))
    error = JobFailedError(
        f"job '{spec.job_name}': {what}. {record.failure_reason}",
        f"Log: {folder.log_path('algo-1')}" + (f", which ends with:{tail}" if tail else ""),
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
        self._opt_ml = OptMl(self._folder.opt_ml_path)
        self._keys = job_keys(self._spec)
        self._storage = job_storage(self._spec, self._keys.output)
        self._syncs = [
            FolderSync("intermediate files", self._opt_ml.intermediate, self._storage, self._keys.intermediate)
        ]
        if (kept := self._spec.checkpoint_config) is not None:
            folder, storage = self._opt_ml.path / kept.tree_path, job_storage(self._spec, kept.s3_uri)
            self._syncs.append(FolderSync("checkpoints", folder, storage, kept.s3_uri))
        self._plan_made: RunPlan | None = None
        self._executions: dict[str, Execution] = {}
        self._s3_address = ""

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, whatever happens."""
        try:
            self.step("pack_source", self.pack_source)
            self.step("fetch_channels", self._fetch_channels)
            self.step("write_config", self._write_config)
            if self._spec.checkpoint_config is not None:
                self.step("restore_checkpoints", self._restore_checkpoints)
            self.step("prepare", self._prepare)
            if not self._folder.stop_requested() or self._executions_left():
                with self._s3_within_reach():
                    self.step("start", self._start)
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

    def pack_source(self) -> None:
        """Keep the source as it is at this moment, under its own key."""
        if self._spec.source_path is None:
            return
        self._folder.make_work_path()
        archive = self._folder.work_path / "sourcedir.tar.gz"
        artifacts.write_archive(_source_members(self._spec), archive, mtime=_SOURCE_MTIME, durable=False)
        job_storage(self._spec, self._keys.source).put_file(archive, self._keys.source)

    def give_up(self, error: BaseException) -> None:
        """End the job for a reason that is not its own: nothing keeps running, what it wrote stays where it is."""
        for execution in self._found_executions():
            with contextlib.suppress(LauncherError, OSError):
                execution.kill()
                execution.wait(10)
                execution.remove()
        if "start" in self._record.steps:
            with contextlib.suppress(LauncherError, OSError):
                self._reclaim()
            if isinstance(error, Exception):  # Ctrl-C waits for nothing more
                for sync in self._syncs:
                    with contextlib.suppress(LauncherError, OSError):
                        sync.run()
            self._record.warnings.append(f"what the job wrote and was not packed is in {self._folder.opt_ml_path}")
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
        self._opt_ml.prepare(plan.config_files, plan.mount_points)
        if self._spec.source_path is None:
            return
        storage = job_storage(self._spec, self._keys.source)
        source = storage.fetch(self._keys.source, self._folder.work_path / "source")
        shutil.rmtree(self._opt_ml.code, ignore_errors=True)
        artifacts.unpack(source, self._opt_ml.code)

    def _restore_checkpoints(self) -> None:
        """Copy what earlier jobs have left into the folder; the job may change it, so nothing is linked."""
        sync = self._syncs[-1]
        _remove_tree(sync.folder)  # a driver before this one may have died in the middle
        sync.restore()
        self._opt_ml.share(sync.folder)

    def _prepare(self) -> None:
        for container in self._plan.containers:
            self._runtime.prepare(container)

    def _start(self) -> None:
        """Start each host, or find the one that a driver before this one started and could not record."""
        planned = planned_s3_address(self._spec)
        for container in self._plan.containers:
            execution = self._runtime.find(container) or self._runtime.start(
                with_s3_address(container, planned, self._s3_address)
            )
            self._executions[container.host] = execution
            self._record.executions[container.host] = execution.reference
        self._note(IN_PROGRESS, "Training", "Training image download completed. Training in progress.")

    @contextlib.contextmanager
    def _s3_within_reach(self) -> Iterator[None]:
        """Keep the S3 within reach of code inside the job, which is warned if it cannot be: it may not need it."""
        with contextlib.ExitStack() as kept:
            if planned_s3_address(self._spec) and "follow" not in self._record.steps:
                settings = S3Settings.from_dict(dict(self._spec.s3 or {}))
                try:
                    reached = s3_within_reach(settings, self._store.home, self._runtime.host_address)
                    self._s3_address = kept.enter_context(reached)
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
            execution = self._executions.get(container.host) or self._runtime.find(container)
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

    def _reclaim(self) -> None:
        for container in self._plan.containers:
            self._runtime.reclaim(container)

    def _collect(self) -> None:
        """Pack what the job left and put it under its keys; a failed or stopped job's as well."""
        self._move(self._record.status, "Uploading", "Uploading generated training model")
        for sync in self._syncs:
            sync.run()
        for folder, uri in ((self._opt_ml.model, self._keys.model), (self._opt_ml.output_data, self._keys.output)):
            archive = self._folder.work_path / uri.rsplit("/", 1)[1]
            report = artifacts.pack_folder(folder, archive) if folder.is_dir() else artifacts.PackReport()
            self._record.warnings += [f"not packed: {line}" for line in report.skipped]
            if archive.exists():
                self._storage.put_file(archive, uri)
        self._record.failure_reason = self._find_failure_reason()

    def _find_failure_reason(self) -> str:
        code = next((code for code in self._record.exit_codes.values() if code != 0), 0)
        if code == 0 or self._record.status == STOPPING:
            return ""
        text = self._opt_ml.read_failure()
        if not text and code == _KILLED:
            text = "the process was killed (signal 9), which is what happens when memory runs out"
        elif not text and code > 128:
            text = f"the process was ended by signal {code - 128}, which did not come from the launcher"
        if not text and code == _NOT_FOUND:
            command = " ".join([*self._plan.containers[0].entry_point, *self._plan.containers[0].arguments])
            text = f"there is no '{command}' to run; an algorithm image must be runnable as: docker run IMAGE train"
        # The end matters as much as the beginning: the text gives way, not the exit code.
        ending = f", exit code: {code}"
        return f"AlgorithmError: {text}"[: FAILURE_REASON_LIMIT - len(ending)] + ending

    def _finish(self) -> None:
        for execution in self._found_executions():
            execution.remove()
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
            self._plan_made = _plan(self._spec, self._store, channels)
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


def _source_members(spec: TrainingJobSpec) -> list[tuple[str, Path]]:
    if spec.source_path is None:
        return []
    return list_members(Path(spec.source_path), spec.source_members, [Path(one) for one in spec.dependencies])


def _plan(
    spec: TrainingJobSpec, store: JobStore, channels: dict[str, ChannelSource], members: Sequence[str] = ()
) -> RunPlan:
    folder = store.folder(spec.job_name)
    return make_plan(
        spec,
        home=store.home,
        job_path=folder.path,
        work_path=folder.work_path,
        channels=channels,
        source_members=members,
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
    for place in (job_keys(spec).model, job_keys(spec).source, f"file://{folder.path}"):
        if place.startswith(f"{uri}/"):
            raise OutputPathError(
                f"checkpoint_s3_uri={uri} is around {place}, which is no checkpoint and would be restored as one.",
                "Give checkpoints a folder of their own.",
            )


def _lies_within(uri: str, path: str) -> bool:
    return uri.startswith("file://") and Path(uri.removeprefix("file://")).resolve().is_relative_to(path)
