"""Sees a tuning job through: chooses values, has training jobs made of them and driven, and takes their results.

A training job is written down before it is made, and made before it is driven, so whichever process takes the tuning
job up finds every one of them and makes none twice. They are driven in threads of this process; after a crash their
hosts go on, and the threads of the next driver find them.
"""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from pathlib import Path

from launcher.errors import JobFolderError, JobNotFoundError, LauncherError
from launcher.jobs.clock import clock_mark
from launcher.jobs.metrics import read_points
from launcher.jobs.record import JobRecord
from launcher.jobs.states import Status, StopReason
from launcher.jobs.store import DISK_FULL, JobStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import Trial
from launcher.requests.tuning import best_trial, consumed_seconds, not_improving, trial_request, tuning_job_arn
from launcher.running.accepting import submit
from launcher.running.driving import drive_in_thread
from launcher.running.job_driver import JobDriver
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.running.signals import HandOver, Interrupts
from launcher.runtimes import Runtime
from launcher.tuning.stopping import reason_to_stop
from launcher.tuning.submission import next_values

_TICK_SECONDS = 0.1
_AGAIN_SECONDS = 2.0  # between two attempts to drive a training job that this machine refuses
_LEAVING_SECONDS = 10.0
_ENOUGH_FAILURES = 5  # without a single result: SageMaker gives up
_DETAILS = (
    "For additional details, please take a look at the training job failures by listing training jobs for the "
    "hyperparameter tuning job."
)


class TuningDriver(JobDriver[TuningRecord]):
    """Carries a tuning job to its end; the runtime runs its training jobs."""

    def _set_up(self) -> None:
        self._jobs = JobStore(self._store.home)
        self._spec = self._record.tuning_spec
        self._children: dict[int, _Child] = {}
        self._changed = threading.Event()
        self._histories: dict[int, list[float]] = {}
        self._sizes: dict[int, int] = {}

    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, unless this process has to go.

        Raises:
            HandOver: this process has to go; everything is as the next driver needs it.
            JobFolderError: the tuning job's own files could not be written or read.
        """
        self._interrupts.deferred = True
        try:
            self._begin()
            for trial in self._record.trials:
                self._read_history(trial)  # of those that a driver before this one saw end
            while not self._over():
                self._changed.wait(_TICK_SECONDS)
                self._changed.clear()
                self._interrupts.check()
                self._read_along()
            with self._interrupts.held():
                self._finish()
        except OSError as error:
            raise JobFolderError(
                f"tuning job '{self._name}': {error.strerror or error}"
                + (f": {error.filename}." if error.filename else "."),
                f"Make room or give rights back; then: launcher logs -f {self._name}",
            ) from error
        finally:
            self._leave_children()

    def _begin(self) -> None:
        if self._record.started is None:
            self._record.started = time.time()
            self._record.marks["started"] = clock_mark()
            self._save()
            spec = self._spec
            self._say(f"{spec.strategy}: up to {spec.max_jobs} training jobs, {spec.max_parallel_jobs} at once")

    def _over(self) -> bool:
        """Look at everything once; return whether nothing is left to do."""
        for trial in self._running():
            self._look_at(trial)
        self._decide()
        if not self._ending:
            while len(self._running()) < self._spec.max_parallel_jobs and self._may_ask():
                self._interrupts.check()
                self._ask()
        for trial in self._running():
            self._see_to(trial)
        return not self._running() and (self._ending or not self._may_ask())

    def _running(self) -> list[Trial]:
        return [trial for trial in self._record.trials if not trial.ended]

    @property
    def _ending(self) -> bool:
        """Whether no further training job is made, and those that run are stopped or waited for."""
        return bool(self._record.stop_reason or self._record.completed_by or self._record.failure_reason)

    def _may_ask(self) -> bool:
        return len(self._record.trials) < self._spec.max_jobs

    def _ask(self) -> None:
        """Choose the values of the next training job, and write them down: from here on it is part of the job."""
        place, values = next_values(self._spec, self._record, self._store)
        number = len(self._record.trials) + 1
        digest = hashlib.sha256(f"{self._name}:{self._record.created}:{number}".encode()).hexdigest()[:8]
        trial = Trial(number, f"{self._name}-{number:03d}-{digest}", place, values)
        self._record.trials.append(trial)
        self._save()
        texts = [f"{entry.name}={entry.text(values[entry.name])}" for entry in self._spec.definitions[place].ranges]
        self._say(f"{number:03d} {' '.join(texts)}, job {trial.job}")

    def _see_to(self, trial: Trial) -> None:
        """Have a training job made, if it is not there, and driven, if nobody does; ask it to stop, if it has to."""
        if not self._jobs.folder(trial.job).record_path.exists():
            if self._ending:
                self._end_trial(trial, Status.STOPPED)  # it was never made
                return
            try:
                with self._interrupts.held():
                    submit(trial_request(self._spec, trial), self._jobs, self._runtime)
            except LauncherError as error:
                self._end_trial(trial, Status.FAILED, failure=f"ClientError: {error.message}")
                return
        child = self._children.get(trial.number)
        if child is None or child.may_try_again:
            if child is None and not self._is_own(trial):
                return
            child = self._children[trial.number] = _Child(self._jobs, trial.job, self._runtime, self._changed)
        child.interrupts.count = max(child.interrupts.count, self._interrupts.count - 1)
        if trial.stopping or self._record.stop_reason or self._record.completed_by:
            folder = self._jobs.folder(trial.job)
            if folder.record_path.exists() and not folder.stop_requested():
                folder.request_stop()

    def _is_own(self, trial: Trial) -> bool:
        """Return whether the training job of that name was made by this tuning job; else the trial has failed."""
        try:
            owner = self._jobs.load(trial.job).training_spec.tuning_job_arn
        except JobNotFoundError:
            return False
        if owner != tuning_job_arn(self._name):
            self._end_trial(trial, Status.FAILED, failure=f"ClientError: another training job is named {trial.job}")
            return False
        return True

    def _look_at(self, trial: Trial) -> None:
        """Take the result of a training job that has ended; judge one that runs."""
        child = self._children.get(trial.number)
        if child is None:
            return
        alive = child.is_alive()
        self._read_history(trial)
        if not alive:
            try:
                record = self._jobs.load(trial.job)
            except JobNotFoundError:
                self._end_trial(trial, Status.FAILED, failure="ClientError: its training job was removed")
                return
            if record.terminal:
                self._take_result(trial, record)
                return
        if not trial.stopping and not self._ending:
            trial.stopping = reason_to_stop(self._spec, trial, self._record.trials, self._histories)
            if trial.stopping:
                self._save()
                self._say(f"{trial.number:03d} is stopped, {trial.stopping}")

    def _read_history(self, trial: Trial) -> None:
        """Read the objective's values that a training job has emitted so far, if there are new ones."""
        if not (self._spec.early_stopping or self._spec.strategy == "Hyperband"):
            return
        path = self._jobs.folder(trial.job).metrics_path
        size = path.stat().st_size if path.exists() else 0
        if size != self._sizes.get(trial.number):
            self._sizes[trial.number] = size
            self._histories[trial.number] = self._values(trial, path)

    def _values(self, trial: Trial, path: Path) -> list[float]:
        metric = self._spec.definitions[trial.definition].objective.metric
        return [point.value for point in read_points(path) if point.name == metric]

    def _take_result(self, trial: Trial, record: JobRecord) -> None:
        metric = self._spec.definitions[trial.definition].objective.metric
        values = [value for name, value, _ in record.final_metrics if name == metric]
        trial.objective = values[-1] if values else None
        trial.epochs = len(self._values(trial, self._jobs.folder(trial.job).metrics_path))
        self._end_trial(trial, Status(record.status), failure=record.failure_reason)

    def _end_trial(self, trial: Trial, status: Status, *, failure: str = "") -> None:
        metric = self._spec.definitions[trial.definition].objective.metric
        if status == Status.COMPLETED and trial.objective is None:
            failure = f"no value of the objective metric '{metric}' was found in its log"
        trial.status, trial.failure = str(status), failure[:FAILURE_REASON_LIMIT]
        self._save()
        best = best_trial(self._spec, self._record.trials)
        shown = f" {metric}={trial.objective:g}{', the best so far' if best is trial else ''}" if trial.counts else ""
        self._say(f"{trial.number:03d} {status}{shown}{': ' + failure if failure else ''}")

    def _decide(self) -> None:
        """Note why no further training job is to be made, once there is a reason."""
        if self._folder.stop_requested() or self._interrupts.count:
            if not self._record.stop_reason:
                self._record.stop_reason, self._record.stop_started = StopReason.ASKED, time.time()
                self._record.change_status(Status.STOPPING)
                self._save()
                self._say("stopping, with every training job")
            return
        if self._ending:
            return
        spec, trials = self._spec, self._record.trials
        best = best_trial(spec, trials)
        ended = [trial for trial in trials if trial.ended]
        if best is None and len(ended) >= _ENOUGH_FAILURES:
            self._record.failure_reason = _failure_reason(ended)
        elif spec.max_runtime_seconds and consumed_seconds(self._record) > spec.max_runtime_seconds:
            self._record.completed_by = "MaxRuntimeInSeconds"
        elif best is not None and spec.target is not None and self._reaches_target(best):
            self._record.completed_by = "TargetObjectiveMetricValue"
        elif spec.max_not_improving and not_improving(spec, trials) >= spec.max_not_improving:
            self._record.completed_by = "BestObjectiveNotImproving"
        else:
            return
        self._save()
        self._say(f"no further training job: {self._record.failure_reason or self._record.completed_by}")

    def _reaches_target(self, best: Trial) -> bool:
        sign = self._spec.definitions[best.definition].objective.sign
        return sign * (best.objective or 0.0) >= sign * (self._spec.target or 0.0)

    def _finish(self) -> None:
        """Record the end: the training jobs have all ended."""
        record = self._record
        best = best_trial(self._spec, record.trials)
        if not (record.stop_reason or record.completed_by or record.failure_reason) and best is None:
            record.failure_reason = _failure_reason(record.trials)
        record.ended = time.time()
        record.billable_seconds = record.seconds_since("started", record.started)
        ending = Status.STOPPED if record.stop_reason else Status.FAILED if record.failure_reason else Status.COMPLETED
        record.change_status(ending)
        self._save()
        result = f", the best: {best.objective:g} by {best.job}" if best else ""
        self._say(f"{ending}{': ' + record.failure_reason if record.failure_reason else ''}{result}")

    def _leave_children(self) -> None:
        """End the threads: at the job's end they have nothing to do, else the next driver of each goes on.

        A thread in the middle of something long, such as the build of an image, ends with its process, as by a kill.
        """
        for child in self._children.values():
            child.interrupts.leaving = child.interrupts.leaving or signal.SIGTERM
        deadline = time.monotonic() + _LEAVING_SECONDS
        for child in self._children.values():
            child.join(max(0.0, deadline - time.monotonic()))

    def _read_along(self) -> None:
        if self._lines is None:
            return
        self._lines.read()
        if self._lines.failure:
            if self._looking_on:
                raise HandOver
            self._record.warn(self._lines.failure)

    def _say(self, line: str) -> None:
        """Add a line to the log."""
        with self._folder.log_path("algo-1").open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def _save(self) -> None:
        """Write the record; on a full disk the tuning job waits: a training job that nobody knows of would be lost."""
        while True:
            try:
                self._store.save(self._name, self._record)
                return
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                self._record.warn(f"the record could not be written for a while: {error.strerror}")
                self._interrupts.check()
                time.sleep(_AGAIN_SECONDS)


class _Child(threading.Thread):
    """Drives a training job; ``error`` says why it could not be driven, where it was not."""

    def __init__(self, jobs: JobStore, name: str, runtime: Runtime, changed: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.interrupts = Interrupts(deferred=True)
        self.error = ""
        self._jobs, self._name, self._runtime, self._changed = jobs, name, runtime, changed
        self._ended = 0.0
        self.start()

    @property
    def may_try_again(self) -> bool:
        """Whether it ended before its job did, some time ago."""
        return not self.is_alive() and time.monotonic() - self._ended > _AGAIN_SECONDS

    def run(self) -> None:
        """Drive the job to its end, or until this process has to go."""
        try:
            drive_in_thread(self._jobs, self._name, self._runtime, self.interrupts)
        except HandOver:
            pass
        except (LauncherError, OSError) as error:  # in the record of the job, unless that could not be written
            self.error = str(error)
        finally:
            self._ended = time.monotonic()
            self._changed.set()


def _failure_reason(ended: list[Trial]) -> str:
    """Return SageMaker's words for a tuning job without a result."""
    count = len(ended)
    if any(trial.status == Status.COMPLETED for trial in ended):
        return (
            f"No objective metrics found after running {count} training jobs. Please ensure that the custom algorithm "
            "is emitting the objective metric as defined by the regular expression provided."
        )
    if count < _ENOUGH_FAILURES:
        return f"All training jobs failed. {_DETAILS}"
    return f"No training job succeeded after {count} attempts. {_DETAILS}"
