"""A job's status and its legal moves, every path of its folder, and the store: one JSON file a job.

What a process needs to take a job up where another left it stands in the record; nothing is only in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.errors import JobExistsError, JobNameError, JobNotFoundError, LauncherError, OutputPathError
from launcher.jobs.spec import TrainingJobSpec, log_file_name
from launcher.settings import training_job_arn

IN_PROGRESS, COMPLETED, FAILED, STOPPING, STOPPED = "InProgress", "Completed", "Failed", "Stopping", "Stopped"
TERMINAL = frozenset({COMPLETED, FAILED, STOPPED})
_LEGAL_MOVES = {
    IN_PROGRESS: {IN_PROGRESS, COMPLETED, FAILED, STOPPING},
    STOPPING: {STOPPING, STOPPED, FAILED},
    COMPLETED: set[str](),
    FAILED: set[str](),
    STOPPED: set[str](),
}
_NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
MAX_NAME_LENGTH = 63


def check_job_name(name: str) -> str:
    """Return ``name`` if SageMaker would take it.

    Raises:
        JobNameError: too long, or with a character that is not allowed.
    """
    if not isinstance(name, str) or not name:
        raise JobNameError(f"the job name {name!r} is empty or not text.", "Use letters, digits and single '-' signs.")
    if len(name) > MAX_NAME_LENGTH:
        raise JobNameError(
            f"the job name '{name}' has {len(name)} characters; SageMaker takes {MAX_NAME_LENGTH}.", "Shorten it."
        )
    if not _NAME_PATTERN.fullmatch(name):
        raise JobNameError(
            f"the job name '{name}' is not one that SageMaker takes.",
            "Use letters, digits and '-', beginning and ending with a letter or digit.",
        )
    return name


def make_job_name(base: str, now: float | None = None) -> str:
    """Return ``base`` and a time stamp to the millisecond, cut to SageMaker's length, as its SDK names jobs."""
    seconds = time.time() if now is None else now
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S-", time.gmtime(seconds)) + f"{int(seconds * 1000) % 1000:03d}"
    cleaned = re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", base)).strip("-") or "job"
    return f"{cleaned[: MAX_NAME_LENGTH - len(stamp) - 1].strip('-')}-{stamp}"


@dataclass
class Transition:
    """One entry of SecondaryStatusTransitions; times in seconds since 1970."""

    status: str
    message: str
    start: float
    end: float | None = None


@dataclass
class JobRecord:
    """All that is known of a job; written to ``job.json`` after each step.

    Attributes:
        spec: what was asked for, as ``TrainingJobSpec.to_dict`` returns it.
        steps: when each step of the runner ended, in seconds since 1970.
        channels: host path, and whether it is a file, of every input, by channel.
        executions: what each runtime needs to find a host's container or process again, by host.
        exit_codes: by host.
        failure_reason: FailureReason, empty unless the job failed.
        warnings: what the user should know, such as files that could not be packed.
    """

    spec: dict[str, Any]
    created: float
    status: str = IN_PROGRESS
    secondary_status: str = "Starting"
    transitions: list[Transition] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None
    modified: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    channels: dict[str, list[Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    failure_reason: str = ""
    stop_reason: str = ""
    stop_started: float | None = None
    final_metrics: list[list[Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def training_spec(self) -> TrainingJobSpec:
        """The spec as it was submitted."""
        return TrainingJobSpec.from_dict(self.spec)

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status in TERMINAL

    def move(self, status: str, secondary_status: str, message: str, now: float) -> None:
        """Change the status, if that move is legal, and note the transition.

        Raises:
            LauncherError: a job that has ended is to change.
        """
        if status not in _LEGAL_MOVES[self.status]:
            raise LauncherError(f"a job that is {self.status} cannot become {status}.")
        self.status, self.secondary_status = status, secondary_status
        if self.transitions and self.transitions[-1].status == secondary_status:
            self.transitions[-1].message = message
            return
        if self.transitions:
            self.transitions[-1].end = now
        self.transitions.append(Transition(secondary_status, message, now, now if self.terminal else None))


class JobFolder:
    """Every path of one job.

    Args:
        path: ``<home>/jobs/<job name>``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "job.json"
        self.lock_path = path / "driver.lock"
        self.stop_path = path / "stop-requested"
        self.metrics_path = path / "metrics.jsonl"
        self.work_path = path / "work"
        self.opt_ml_path = path / "work" / "opt_ml"
        self.unpacked_path = path / "unpacked"

    @property
    def name(self) -> str:
        """The job's name."""
        return self.path.name

    def log_path(self, host: str) -> Path:
        """Return where everything that ``host`` prints is kept."""
        return self.path / log_file_name(host)

    def make_work_path(self) -> None:
        """Make the folder for everything that goes away when the job is over; the caller's alone."""
        self.work_path.mkdir(exist_ok=True)
        self.work_path.chmod(0o700)

    def stop_requested(self) -> bool:
        """Return whether any process has asked for this job to be stopped."""
        return self.stop_path.exists()

    def request_stop(self) -> None:
        """Ask whoever drives the job to stop it."""
        self.stop_path.touch()

    @contextmanager
    def driving(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to drive this job; yield whether it was had. The kernel gives it up with the process.

        Args:
            wait: wait until another driver has ended.
        """
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                try:
                    yield True
                finally:
                    # Not left to the closing: a forked child of the caller's may hold the descriptor as well.
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


class JobStore:
    """The jobs of one home.

    Args:
        home: ``LAUNCHER_HOME``; made when the first job is.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.jobs_path = home / "jobs"

    def folder(self, name: str) -> JobFolder:
        """Return the paths of a job, whether or not it exists."""
        return JobFolder(self.jobs_path / name)

    def check_writable(self) -> None:
        """Refuse a home that jobs cannot be written to; writes nothing.

        Raises:
            OutputPathError: it is not writable.
        """
        parent = self.jobs_path
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise OutputPathError(
                f"jobs cannot be kept in {self.jobs_path}: {parent} is not a folder that can be written.",
                "Name another: export LAUNCHER_HOME=/path/to/folder",
            )

    def check_unused(self, name: str) -> None:
        """Refuse a name that a job of this home has.

        Raises:
            JobExistsError: there is such a job.
        """
        if self.folder(name).record_path.exists():
            raise JobExistsError(
                "Training job names must be unique within an AWS account and region, and a training job with this name "
                f"already exists ({training_job_arn(name)})",
                f"Choose another name, leave it out to have one made, or remove {self.folder(name).path}.",
            )

    def create(self, name: str, record: JobRecord) -> JobFolder:
        """Record a new job; of two processes that try the same name, one gets it.

        Raises:
            JobExistsError: the name is used.
        """
        self.check_unused(name)
        self.jobs_path.mkdir(parents=True, exist_ok=True)
        scratch = JobFolder(self.jobs_path / f".new-{os.getpid()}-{time.monotonic_ns()}")
        scratch.path.mkdir()
        try:
            self._write(scratch, record, durable=True)
            try:
                scratch.path.rename(self.folder(name).path)
            except OSError as error:
                self.check_unused(name)
                raise OutputPathError(
                    f"job '{name}' cannot have the folder {self.folder(name).path}: {error.strerror}.",
                    "Something that is no job is in the way; move it, or choose another job name.",
                ) from error
        finally:
            shutil.rmtree(scratch.path, ignore_errors=True)
        return self.folder(name)

    def load(self, name: str) -> JobRecord:
        """Read a job's record.

        Raises:
            JobNotFoundError: there is no such job.
        """
        try:
            values = json.loads(self.folder(name).record_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(f"no job '{name}' in {self.jobs_path}.", "List them with: launcher ls") from None
        values["transitions"] = [Transition(**one) for one in values["transitions"]]
        known = {one.name for one in fields(JobRecord)}
        return JobRecord(**{key: value for key, value in values.items() if key in known})

    def save(self, name: str, record: JobRecord) -> None:
        """Write the record; a terminal one survives a power cut as well."""
        self._write(self.folder(name), record, durable=record.terminal)

    def names(self) -> list[str]:
        """Return the names of all jobs, the oldest first."""
        if not self.jobs_path.is_dir():
            return []
        names = [path.parent.name for path in self.jobs_path.glob("[!.]*/job.json")]
        return sorted(names, key=lambda name: self.load(name).created)

    def _write(self, folder: JobFolder, record: JobRecord, *, durable: bool) -> None:
        record.modified = time.time()
        part = folder.record_path.with_name(f"job.json.{os.getpid()}.part")
        values = {**vars(record), "transitions": [vars(one) for one in record.transitions]}
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(values))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(folder.record_path)


def utc(seconds: float) -> datetime:
    """Return the moment as boto3 returns times."""
    return datetime.fromtimestamp(seconds, UTC)
