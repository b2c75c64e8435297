"""Sees a transform job through: containers, questions, outputs; each step can be repeated by another process.

What is done stands in the journal beside the job, an object a line, so that the next driver goes on where this one was
killed; a container that still serves is found and used again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from launcher.errors import JobFolderError, LauncherError, ModelHostError
from launcher.jobs.clock import clock_mark
from launcher.jobs.log_times import FolderTimes
from launcher.jobs.states import Status, StopReason
from launcher.jobs.transform_record import TransformRecord
from launcher.running.job_driver import JobDriver
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.running.reach import Reach, s3_in_reach
from launcher.running.signals import HandOver
from launcher.serving.model_host import ModelHost
from launcher.settings import stop_grace_seconds
from launcher.storage import recorded_storage
from launcher.transform.engine import Counts, HostWork, Journal, Parameters
from launcher.transform.inputs import InputObject, find_inputs, output_uri_of, share_of
from launcher.transform.packing import MIB
from launcher.transform.progress import Progress
from launcher.transform.submission import host_plans
from launcher.trees import remove_tree

_TICK_SECONDS = 0.1
_MAX_TOTAL_MB = 100  # of all requests under way, by SageMaker's rule
_STRATEGIES = {"SINGLE_RECORD": True, "MULTI_RECORD": False}


class _StoppedError(Exception):
    """Somebody has asked for the end."""


class TransformDriver(JobDriver[TransformRecord]):
    """Carries a transform job through the steps that are not recorded yet; the runtime runs its containers."""

    def _set_up(self) -> None:
        self._spec = self._record.transform_spec
        self._model = self._record.model_spec
        self._times = FolderTimes(self._folder)
        self._hosts: list[ModelHost] = []
        self._cancelled = threading.Event()
        self._objects: list[InputObject] = []

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, whatever happens.

        Raises:
            HandOver: this process has to go; everything is as the next driver needs it.
            JobFolderError: the job's own files could not be written or read.
        """
        try:
            self._interrupts.deferred = True
            self.step("find_inputs", self._find_inputs)
            self._read_inputs()
            try:
                if "transform" not in self._record.steps:
                    self._check_stop()
                    with s3_in_reach(self._model, self._runtime, self._store.home) as reach:
                        if reach.problem:
                            self._record.warn(f"the model's container cannot reach its S3: {reach.problem}")
                        self.step("prepare", self._prepare)
                        with self._interrupts.held():  # cut in two, it would leave a container that nobody has recorded
                            self._start(reach)
                        self._interrupts.check()
                        self.step("transform", self._transform)
            except _StoppedError:
                self._note_stop()
            with self._interrupts.held():
                self._finish()
        except HandOver:
            raise
        except OSError as error:
            named = JobFolderError(
                f"transform job '{self._name}': {error.strerror or error}"
                + (f": {error.filename}." if error.filename else "."),
                "Make room or give rights back.",
            )
            self._give_up(named)
            raise named from error
        except ModelHostError as error:
            self._end_failed(f"AlgorithmError: {error.message} {' | '.join(error.log_lines[-5:])}")
        except LauncherError as error:
            self._end_failed(f"ClientError: {error.message}")
        except BaseException as error:
            self._give_up(error)
            raise

    def _find_inputs(self) -> None:
        """Write down what is to be done: what others put beside it later is no input."""
        self._record.started = time.time()
        self._record.marks["started"] = clock_mark()
        self._folder.make_work_path()
        objects = find_inputs(self._spec, self._folder.work_path / "manifest")
        lines = [json.dumps([source.uri, source.name]) + "\n" for source in objects]
        part = self._inputs_path.with_suffix(".part")
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(self._inputs_path)

    @property
    def _inputs_path(self) -> Path:
        return self._folder.work_path / "inputs.jsonl"

    def _read_inputs(self) -> None:
        if "transform" in self._record.steps and not self._inputs_path.exists():
            return
        with self._inputs_path.open(encoding="utf-8") as file:
            self._objects = [InputObject(*json.loads(line)) for line in file]
        count = min(self._spec.instance_count, len(self._objects))
        plans = host_plans(self._spec, self._model, self._folder, self._store.home, count)
        self._hosts = [ModelHost(self._runtime, plan, self._store.home) for plan in plans]

    def _prepare(self) -> None:
        for host in self._hosts:
            self._runtime.prepare(host.container)

    def _start(self, reach: Reach) -> None:
        for host in self._hosts:
            host.start(reach)
            if host.execution is not None:
                self._record.executions[host.container.host] = host.execution.reference
        self._save()

    def _transform(self) -> None:
        for host in self._hosts:
            host.wait_until_healthy(self._tick)
        parameters = self._parameters()
        self._record.parameters = {
            "MaxConcurrentTransforms": parameters.concurrency,
            "MaxPayloadInMB": parameters.payload_bytes // MIB,
            "BatchStrategy": "SingleRecord" if parameters.single else "MultiRecord",
        }
        self._save()
        journal = Journal(self._folder.path / "done.jsonl")
        left = self._left(journal)
        works = [
            HostWork(
                self._spec,
                parameters,
                host.address(),
                [source for source in share_of(self._objects, number, len(self._hosts)) if source.name in left],
                self._folder.work_path / host.container.host / "files",
                journal,
                partial(self._look_after, host),
            )
            for number, host in enumerate(self._hosts)
        ]
        done = len(self._objects) - len(left)
        with Progress(self._folder.path / "progress.json", len(self._objects), done) as progress:
            self._run_all(works, progress)
        counts = sum((work.counts for work in works), Counts())
        self._record.done = {name: getattr(counts, name) for name in ("requests", "retried", "bytes_in")}
        self._check_stop()  # one that was asked for before the end is recorded counts: others were told of it

    def _left(self, journal: Journal) -> set[str]:
        """Return the objects that no driver has done; with ``resume`` what is there already is done too."""
        left = {source.name for source in self._objects} - journal.entries.keys()
        if self._spec.resume:
            results = recorded_storage(self._spec.output_uri, self._spec.s3)
            there = {name for name in left if results.exists(output_uri_of(self._spec, name))}
            for name in sorted(there):
                journal.add(name, skipped=True)
            left -= there
        return left

    def _run_all(self, works: list[HostWork], progress: Progress) -> None:
        """Run each host's work in a thread of its own; this one looks after log, stop and signals."""
        errors: list[BaseException] = []

        ended = threading.Semaphore(0)

        def work_off(work: HostWork) -> None:
            try:
                work.run()
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that can act on it
                errors.append(error)
            finally:
                ended.release()

        threads = [threading.Thread(target=work_off, args=(work,), name="transform", daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) and not errors:
                ended.acquire(timeout=_TICK_SECONDS)
                progress.tell(sum((work.counts for work in works), Counts()))
                self._tick()
        finally:
            self._cancelled.set()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        progress.tell(sum((work.counts for work in works), Counts()), final=True)

    def _look_after(self, host: ModelHost) -> None:
        """Be called from a host's thread: its work ends with the container, or when it is cancelled."""
        if self._cancelled.is_set():
            raise _StoppedError
        host.check_alive()

    def _tick(self) -> None:
        self._times.note()
        if self._lines:
            self._lines.read()
            if self._lines.failure:
                if self._looking_on:
                    raise HandOver
                self._record.warn(self._lines.failure)
        self._interrupts.check()
        self._check_stop()

    def _check_stop(self) -> None:
        if self._folder.stop_requested() or self._interrupts.count:
            raise _StoppedError

    def _parameters(self) -> Parameters:
        """Ask the first container how it wants to be asked; the request's own words count for more."""
        answer = _execution_parameters(self._hosts[0].address())
        spec = self._spec
        concurrency = spec.max_concurrent_transforms or _whole(answer.get("MaxConcurrentTransforms"), 1) or 1
        payload = spec.max_payload_mb
        if payload is None:
            payload = min(_whole(answer.get("MaxPayloadInMB"), 6), _MAX_TOTAL_MB)
        if spec.batch_strategy is not None:
            single = spec.batch_strategy == "SingleRecord"
        else:
            single = _STRATEGIES.get(str(answer.get("BatchStrategy")), False)
        if payload and payload * concurrency > _MAX_TOTAL_MB:
            fewer = max(1, _MAX_TOTAL_MB // payload)
            self._record.warn(
                f"{concurrency} requests of {payload} MB are more than {_MAX_TOTAL_MB} MB: {fewer} are under way"
            )
            concurrency = fewer
        return Parameters(concurrency, payload * MIB, single)

    def _note_stop(self) -> None:
        if self._record.status == Status.IN_PROGRESS:
            self._record.stop_reason, self._record.stop_started = StopReason.ASKED, time.time()
            self._record.change_status(Status.STOPPING)
            self._save()

    def _finish(self) -> None:
        self._remove_hosts(grace=0 if self._interrupts.count > 1 else None)
        if self._lines:
            self._lines.read(final=True)
        journal = Journal(self._folder.path / "done.jsonl")
        self._record.done |= journal.summary()
        self._clear_away()
        if self._record.status == Status.STOPPING or self._record.stop_reason:
            self._end(Status.STOPPED)
        elif failures := journal.failures:
            self._record.failure_reason = _failure_reason(failures, len(journal.entries))
            self._end(Status.FAILED)
        else:
            self._end(Status.COMPLETED)

    def _remove_hosts(self, grace: float | None = None) -> None:
        """End every container; the grace is that of hosting, or the user's own where that is shorter."""
        limit = min(30.0, stop_grace_seconds()) if grace is None else grace
        # All are told before the first is waited for; what they share goes after the last.
        effects = [host.terminate for host in self._hosts if limit]
        effects += [partial(host.stop, limit) for host in self._hosts]
        effects += [host.close for host in self._hosts[:1]]
        for effect in effects:
            try:
                effect()
            except (LauncherError, OSError) as error:
                self._record.warn(f"what its runtime keeps of it could not be removed: {error}; try: launcher gc")
        for host in self._hosts:
            for warning in host.warnings:
                self._record.warn(warning)

    def _clear_away(self) -> None:
        try:
            remove_tree(self._folder.work_path)
        except OSError as error:
            self._record.warn(f"{self._folder.work_path} could not be removed: {error}")

    def _end_failed(self, reason: str) -> None:
        """End the job for a reason that a user can act on; what is done stays."""
        self._remove_hosts()
        if self._lines:
            self._lines.read(final=True)
        self._record.done |= Journal(self._folder.path / "done.jsonl").summary()
        self._clear_away()
        self._record.failure_reason = reason.strip()[:FAILURE_REASON_LIMIT]
        self._end(Status.FAILED if self._record.status == Status.IN_PROGRESS else Status.STOPPED)

    def _give_up(self, error: BaseException) -> None:
        """End the job for a reason that is not its own: nothing keeps running."""
        self._cancelled.set()
        with contextlib.suppress(LauncherError, OSError):  # must not hide what went wrong first
            self._remove_hosts(grace=0)
            self._clear_away()
        if self._record.terminal:
            return
        with contextlib.suppress(LauncherError, OSError):
            if isinstance(error, KeyboardInterrupt | SystemExit) or self._folder.stop_requested():
                self._note_stop()
                self._end(Status.STOPPED)
            else:
                text = error.message if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
                self._record.failure_reason = f"InternalServerError: {text}"[:FAILURE_REASON_LIMIT]
                self._end(Status.FAILED)

    def _end(self, status: Status) -> None:
        self._record.ended = time.time()
        if self._record.started is not None:
            self._record.billable_seconds = self._record.seconds_since("started", self._record.started)
        self._record.unknown_since = None
        self._record.change_status(status)
        self._save()


def _failure_reason(failures: list[dict[str, Any]], total: int) -> str:
    """Return why a job failed: which file, which record, what the container said of it."""
    first = failures[0]
    count = f"{len(failures)} of {total} files failed. " if total > 1 else ""
    return f"AlgorithmError: {count}{first['name']}: {first['error']}"[:FAILURE_REASON_LIMIT]


def _execution_parameters(address: tuple[str, int]) -> dict[str, Any]:
    """Return what the container says of itself; nothing where it does not say it."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", "/execution-parameters")
        answer = connection.getresponse()
        body = answer.read(1 << 16)
        values = json.loads(body) if answer.status == http.HTTPStatus.OK else {}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return values if isinstance(values, dict) else {}


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
