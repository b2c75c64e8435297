"""Starts the service jobs that wait, as training jobs of this home, and takes the results of those that ran.

An attempt is written down before its training job is made. The training job's name follows from the service job, so
whichever scheduler comes next finds it, or makes it: none is lost, none runs twice. Drivers of their own see the
training jobs through, whether or not a scheduler lives.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.batch_queues.ordering import Queue, QueuedJob, next_job
from launcher.errors import BadInputError, JobExistsError, JobFolderError, JobNotFoundError, LauncherError, RecordError
from launcher.jobs.batch import FAILED, SUCCEEDED, Attempt, BatchHome, ServiceJobRecord
from launcher.jobs.record import JobRecord, Record
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.running.accepting import submit
from launcher.running.driving import drive_detached, take_up
from launcher.runtimes import Runtime
from launcher.terminal import say_error

MIN_WINDOW_SECONDS = 600
"""What a share has used counts for so long, unless ``shareDecaySeconds`` is longer."""
TIMED_OUT = "Job attempt duration exceeded timeout"
_MIN_USAGE_SECONDS = 1.0  # an attempt that has just begun counts, so that shares take turns
_STARTING = (SecondaryStatus.STARTING, SecondaryStatus.PENDING, SecondaryStatus.DOWNLOADING)
_NAME_LENGTH = 63


def training_job_name(service_job: str, request: dict[str, Any], attempt: int) -> str:
    """Return the name of the training job of an attempt.

    Args:
        service_job: the service job's id.
        request: its CreateTrainingJob document.
        attempt: counted from 1.
    """
    ending = f"-{hashlib.sha256(service_job.encode()).hexdigest()[:12]}-{attempt}"
    base = re.sub(r"[^A-Za-z0-9-]+", "-", f"AWSBatch{request['TrainingJobName']}")
    return base[: _NAME_LENGTH - len(ending)].rstrip("-") + ending


class Scheduler:
    """Sees every service job of a home through; one at a time, its process holds the lock.

    Args:
        home: ``LAUNCHER_HOME``.
        runtime: default: the one that each request names, else ``LAUNCHER_RUNTIME``.
        start: has a training job driven that was just recorded.
    """

    def __init__(
        self, home: Path, runtime: Runtime | None = None, start: Callable[[JobStore, str], None] = drive_detached
    ) -> None:
        self._batch = BatchHome(home)
        self._jobs = JobStore(home)
        self._runtime = runtime
        self._start = start
        self._ended: dict[str, ServiceJobRecord] = {}

    def tick(self) -> None:
        """Look at everything once, and start what there is room for."""
        with self._batch.changing():
            now = time.time()
            records = self._records()
            for name, record in records.items():
                if record.active:
                    self._look_at(name, record, now)
                elif not record.terminal:
                    self._see_to_waiting(name, record, now)
            self._give_places(records, now)
        active = [(name, record) for name, record in records.items() if record.active]
        for name, record in sorted(active, key=lambda entry: entry[1].attempts[-1].claimed):
            self._have_run(name, record)

    def is_waiting(self) -> bool:
        """Return whether nothing runs, so that there is no hurry."""
        try:
            return not any(record.active for record in self._records().values())
        except OSError:  # the home is gone
            return True

    def is_idle(self) -> bool:
        """Return whether no service job waits or runs; the caller holds ``changing()``."""
        return all(record.terminal for record in self._records().values())

    def _records(self) -> dict[str, ServiceJobRecord]:
        """Return every service job that can be read; those that have ended are read once."""
        records = dict(self._ended)
        for path in self._batch.jobs.path.iterdir():
            if path.name.startswith(".") or path.name in records:
                continue
            try:
                record = records[path.name] = self._batch.jobs.load(path.name)
            except LauncherError:  # Describe says why; a folder without a record is no job
                continue
            if record.terminal:
                self._ended[path.name] = record
        return records

    def _save(self, name: str, record: ServiceJobRecord) -> None:
        self._batch.jobs.save(name, record)

    def _see_to_waiting(self, name: str, record: ServiceJobRecord, now: float) -> None:
        if record.terminate_reason:
            record.end(FAILED, record.terminate_reason, now)
        elif record.status == "SUBMITTED":
            record.status = "RUNNABLE"
        else:
            return
        self._save(name, record)

    def _look_at(self, name: str, record: ServiceJobRecord, now: float) -> None:
        """Follow the training job of the last attempt; ask for its stop where that is wanted."""
        before = record.to_dict()
        attempt = record.attempts[-1]
        try:
            job = self._jobs.load(attempt.job)
        except JobNotFoundError:
            if record.status != "SCHEDULED":
                self._end_attempt(record, "Its training job was removed", now, may_retry=False)
            elif record.terminate_reason:
                self._end_attempt(record, record.terminate_reason, now, may_retry=False)
        except RecordError as error:
            self._end_attempt(record, error.message, now, may_retry=False)
        else:
            if job.terminal:
                self._take_result(record, job, now)
            else:
                self._follow(record, job, now)
        if record.to_dict() != before:
            self._save(name, record)
        folder = self._jobs.folder(attempt.job)
        is_unwanted = record.terminate_reason or attempt.reason  # recorded, so that the next scheduler knows why
        if record.active and is_unwanted and folder.record_path.exists() and not folder.stop_requested():
            folder.request_stop()

    def _follow(self, record: ServiceJobRecord, job: JobRecord, now: float) -> None:
        attempt = record.attempts[-1]
        record.status = "STARTING" if job.secondary_status in _STARTING else "RUNNING"
        if record.status == "RUNNING" and attempt.started is None:
            attempt.started = now
        limit = record.spec.get("timeoutConfig", {}).get("attemptDurationSeconds")
        if limit is not None and attempt.started is not None and now - attempt.started > limit:
            attempt.reason = TIMED_OUT

    def _take_result(self, record: ServiceJobRecord, job: JobRecord, now: float) -> None:
        attempt = record.attempts[-1]
        attempt.started = attempt.started or job.started or job.created
        if job.status == Status.COMPLETED:
            attempt.ended, attempt.reason = job.ended or now, ""
            record.end(SUCCEEDED, "", now)
        elif reason := record.terminate_reason or attempt.reason:
            self._end_attempt(record, reason, job.ended or now, may_retry=False)
        else:
            text = job.failure_reason or str(job.secondary_status)
            may_retry = job.status == Status.FAILED  # one that somebody stopped stays stopped
            self._end_attempt(record, f"Received status from SageMaker:{text}", job.ended or now, may_retry=may_retry)

    def _end_attempt(self, record: ServiceJobRecord, reason: str, ended: float, *, may_retry: bool) -> None:
        attempt = record.attempts[-1]
        attempt.ended, attempt.reason = ended, reason
        if may_retry and not record.terminate_reason and is_retried(record.spec, reason, len(record.attempts)):
            record.status, record.status_reason = "RUNNABLE", reason
        else:
            record.end(FAILED, reason, ended)

    def _give_places(self, records: dict[str, ServiceJobRecord], now: float) -> None:
        """Write down an attempt of each service job that may start now."""
        if all(record.status != "RUNNABLE" for record in records.values()):
            return
        environments = dict(self._batch.environments.records()[0])
        limits = {name: _capacity(record) for name, record in environments.items()}
        windows, queues = {}, []
        for name, record in self._batch.queues.records()[0]:
            policy = self._policy(record)
            windows[name] = max(MIN_WINDOW_SECONDS, (policy or {}).get("shareDecaySeconds", 0))
            queues.append(_queue(name, record, policy))
        while True:
            free = {name: limits[name] if _is_enabled(environments[name]) else 0 for name in environments}
            usage: dict[tuple[str, str], float] = {}
            waiting = []
            for name, record in records.items():
                queue, share = record.spec["jobQueue"], record.spec.get("shareIdentifier", "")
                if record.active:
                    place = record.attempts[-1].environment
                    free[place] = free.get(place, 0) - record.instances
                elif record.status == "RUNNABLE":
                    priority = record.spec.get("schedulingPriority", 0)
                    waiting.append(QueuedJob(name, queue, record.created, record.instances, priority, share))
                used = record.instances * _used_seconds(record, now, windows.get(queue, MIN_WINDOW_SECONDS))
                usage[queue, share] = usage.get((queue, share), 0.0) + used
            choice = next_job(queues, waiting, usage, free, limits)
            if choice is None:
                self._say_what_is_too_large(records, queues, limits)
                return
            job, environment = choice
            record = records[job.name]
            number = len(record.attempts) + 1
            record.attempts.append(
                Attempt(training_job_name(job.name, record.request, number), environment, claimed=time.time())
            )
            record.status, record.status_reason = "SCHEDULED", ""
            self._save(job.name, record)

    def _say_what_is_too_large(
        self, records: dict[str, ServiceJobRecord], queues: Sequence[Queue], limits: Mapping[str, int]
    ) -> None:
        """Give those service jobs a reason that no environment of their queue can ever hold."""
        largest = {queue.name: max((limits.get(name, 0) for name in queue.environments), default=0) for queue in queues}
        for name, record in records.items():
            room = largest.get(record.spec["jobQueue"], 0)
            reason = ""
            if record.instances > room:
                reason = f"It takes {record.instances} instances; no service environment of its queue has above {room}."
            if record.status == "RUNNABLE" and reason and record.status_reason != reason:
                record.status_reason = reason
                self._save(name, record)

    def _policy(self, queue: Record) -> dict[str, Any] | None:
        name = queue.spec.get("schedulingPolicyArn", "").rpartition("/")[2]
        if not name:
            return None
        try:
            policy: dict[str, Any] = self._batch.policies.load(name).spec.get("fairsharePolicy", {})
        except BadInputError:
            return {}
        return policy

    def _have_run(self, name: str, record: ServiceJobRecord) -> None:
        """Make the training job of the last attempt, unless it is there, and see to it that somebody drives it."""
        job = record.attempts[-1].job
        try:
            current = self._jobs.load(job)
        except JobNotFoundError:
            if record.status == "SCHEDULED":
                self._make(name, record, job)
        except RecordError:  # the next look ends the attempt
            return
        else:
            if text := take_up(self._jobs, job, current):
                say_error(text)

    def _make(self, name: str, record: ServiceJobRecord, job: str) -> None:
        try:
            request = {**record.request, "TrainingJobName": job}
            submit(request, self._jobs, self._runtime, warnings=record.warnings)
            self._start(self._jobs, job)
        except (JobExistsError, JobFolderError) as error:
            say_error(str(error))  # the next look finds it there, or without a driver
        except LauncherError as error:
            with self._batch.changing():
                current = self._batch.jobs.load(name)
                reason = f"Received status from SageMaker:ClientError: {error.message}"
                self._end_attempt(current, reason, time.time(), may_retry=True)
                self._save(name, current)


def is_retried(spec: dict[str, Any], reason: str, attempts: int) -> bool:
    """Return whether a service job is tried again after an attempt that failed.

    Args:
        spec: the SubmitServiceJob document.
        reason: of the failure.
        attempts: that there were.
    """
    strategy = spec.get("retryStrategy", {})
    if attempts >= strategy.get("attempts", 1):
        return False
    for rule in strategy.get("evaluateOnExit", ()):
        pattern = rule.get("onStatusReason", "*")
        matches = reason.startswith(pattern[:-1]) if pattern.endswith("*") else reason == pattern
        if matches:
            return str(rule.get("action", "")).upper() == "RETRY"
    return True


def _capacity(environment: Record) -> int:
    return sum(int(limit.get("maxCapacity", 0)) for limit in environment.spec["capacityLimits"])


def _is_enabled(environment: Record) -> bool:
    return bool(environment.spec["state"] == "ENABLED")


def _queue(name: str, record: Record, policy: dict[str, Any] | None) -> Queue:
    order = sorted(record.spec["serviceEnvironmentOrder"], key=lambda entry: int(entry["order"]))
    weights = None
    if policy is not None:
        shares = policy.get("shareDistribution", ())
        weights = {share["shareIdentifier"]: float(share.get("weightFactor", 1.0)) for share in shares}
    places = tuple(str(entry["serviceEnvironment"]).rpartition("/")[2] for entry in order)
    return Queue(name, int(record.spec["priority"]), places, weights)


def _used_seconds(record: ServiceJobRecord, now: float, window: float) -> float:
    used = 0.0
    for attempt in record.attempts:
        ended = now if attempt.ended is None else attempt.ended
        if ended > now - window:
            used += max(_MIN_USAGE_SECONDS, ended - max(attempt.claimed, now - window))
    return used
