"""Which service job gets a place next. Pure: queues, jobs and free instances in, a choice out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Queue:
    """A job queue.

    Attributes:
        priority: of two queues with the same environment, the one with the higher is first.
        environments: where its jobs may run, the first choice first.
        weights: of the shares, by identifier; one that ends in ``*`` is for all that begin so. None: first in, first
            out.
    """

    name: str
    priority: int
    environments: tuple[str, ...]
    weights: Mapping[str, float] | None = None

    def weight(self, share: str) -> float:
        """Return the weight of a share; half the weight gets twice the capacity."""
        weights = self.weights or {}
        if share in weights:
            return weights[share]
        prefixes = [name for name in weights if name.endswith("*") and share.startswith(name[:-1])]
        return weights[max(prefixes, key=len)] if prefixes else 1.0


@dataclass(frozen=True)
class QueuedJob:
    """A service job that waits.

    Attributes:
        created: in seconds since 1970.
        instances: that it takes.
        priority: in its queue, or in its share where the queue has shares.
    """

    name: str
    queue: str
    created: float
    instances: int = 1
    priority: int = 0
    share: str = ""


def next_job(
    queues: Sequence[Queue],
    waiting: Sequence[QueuedJob],
    usage: Mapping[tuple[str, str], float],
    free: Mapping[str, int],
    limits: Mapping[str, int],
) -> tuple[QueuedJob, str] | None:
    """Return the job that is to start now, and the environment; None where nothing can start.

    A queue's first job waits until there is room for it: nothing smaller passes it by, neither in its queue nor from a
    queue of lower priority in the same environments. A job that is larger than every environment of its queue holds up
    nobody.

    Args:
        usage: instance seconds by queue and share, of the time that counts.
        free: instances by environment.
        limits: instances that each environment has in all.
    """
    held_up: set[str] = set()
    for queue in sorted(queues, key=lambda queue: (-queue.priority, queue.name)):
        largest = max((limits.get(name, 0) for name in queue.environments), default=0)
        jobs = [job for job in waiting if job.queue == queue.name and job.instances <= largest]
        if not jobs:
            continue
        first = min(jobs, key=lambda job: _place(queue, job, usage))
        for name in queue.environments:
            if name not in held_up and free.get(name, 0) >= first.instances:
                return first, name
        held_up.update(queue.environments)
    return None


def _place(queue: Queue, job: QueuedJob, usage: Mapping[tuple[str, str], float]) -> tuple[float, int, float, str]:
    used = 0.0
    if queue.weights is not None:
        used = usage.get((queue.name, job.share), 0.0) * queue.weight(job.share)
    return used, -job.priority, job.created, job.name
