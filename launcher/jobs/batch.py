"""What AWS Batch keeps in the home: service environments, job queues, scheduling policies and service jobs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import NotFoundError, TakenError
from launcher.jobs.kinds import Kind, RecordType
from launcher.jobs.record import Record
from launcher.jobs.spec import dataclass_of
from launcher.jobs.store import Store
from launcher.paths import make_private

SUCCEEDED, FAILED = "SUCCEEDED", "FAILED"
WAITING = ("SUBMITTED", "RUNNABLE")
"""The statuses of a service job that has no place to run."""


@dataclass
class Attempt:
    """One training job of a service job; times in seconds since 1970.

    Attributes:
        job: the training job's name.
        environment: the service environment whose capacity it takes.
        claimed: when it got that capacity.
        started: when its training began; None before.
        ended: when its training job was seen to have ended; None before.
        reason: why it did not succeed, or is being stopped.
    """

    job: str
    environment: str
    claimed: float
    started: float | None = None
    ended: float | None = None
    reason: str = ""


@dataclass
class ServiceJobRecord(Record):
    """A service job; its spec is the SubmitServiceJob document, its request the CreateTrainingJob document.

    Attributes:
        attempts: the training jobs that were made of it, the first one first.
        terminate_reason: what TerminateServiceJob said; empty where nobody asked for the end.
    """

    status: str = "SUBMITTED"
    status_reason: str = ""
    terminate_reason: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    ended: float | None = None

    @property
    def terminal(self) -> bool:
        """Whether the service job has ended."""
        return self.status in (SUCCEEDED, FAILED)

    @property
    def active(self) -> bool:
        """Whether it has a place to run."""
        return not self.terminal and self.status not in WAITING

    @property
    def instances(self) -> int:
        """How many instances its training job takes."""
        resources = self.request["ResourceConfig"]
        groups = resources.get("InstanceGroups")
        return sum(group["InstanceCount"] for group in groups) if groups else int(resources.get("InstanceCount", 1))

    def end(self, status: str, reason: str, now: float) -> None:
        """Record the end of the service job."""
        self.status, self.status_reason, self.ended = status, reason, now

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with every field that a newer version had written."""
        return {**super().to_dict(), "attempts": [dict(vars(attempt)) for attempt in self.attempts]}

    @classmethod
    def _decode(cls, own: dict[str, Any]) -> None:
        super()._decode(own)
        try:
            own["attempts"] = [dataclass_of(Attempt, entry) for entry in own.get("attempts", ())]
        except (TypeError, AttributeError) as error:
            raise ValueError(f"an attempt cannot be read: {error}") from error


def _kind(noun: str, folder: str, record_file: str, record: type[RecordType]) -> Kind[RecordType]:
    return Kind(
        folder=folder,
        record_file=record_file,
        noun=noun,
        form=f"{record.__module__}:{record.__name__}",
        arn_kind=noun.replace(" ", "-"),
        taken=TakenError,
        missing=NotFoundError,
        taken_words="Object already exists",
        missing_words="{arn} does not exist",
        service="batch",
    )


SERVICE_ENVIRONMENTS = _kind("service environment", "batch-environments", "environment.json", Record)
JOB_QUEUES = _kind("job queue", "batch-queues", "queue.json", Record)
SCHEDULING_POLICIES = _kind("scheduling policy", "batch-policies", "policy.json", Record)
SERVICE_JOBS = _kind("service job", "batch-jobs", "service-job.json", ServiceJobRecord)


class BatchHome:
    """AWS Batch's part of one home.

    Args:
        home: ``LAUNCHER_HOME``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environments = Store(home, SERVICE_ENVIRONMENTS)
        self.queues = Store(home, JOB_QUEUES)
        self.policies = Store(home, SCHEDULING_POLICIES)
        self.jobs = Store(home, SERVICE_JOBS)
        self.scheduler_lock_path = self.jobs.path / ".scheduler.lock"
        self.scheduler_log_path = self.jobs.path / ".scheduler.log"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the right to change any of it. The kernel releases it with the process."""
        make_private(self.jobs.path)
        descriptor = os.open(self.jobs.path / ".records.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)
