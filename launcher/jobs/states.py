"""The states of a job and the one table of its legal moves; words and order are SageMaker's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """TrainingJobStatus."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state has ended."""
        return not MOVES[self]


class SecondaryStatus(StrEnum):
    """SecondaryStatus, as far as a job of one machine has them."""

    STARTING = "Starting"
    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    INTERRUPTED = "Interrupted"
    STOPPING = "Stopping"
    UPLOADING = "Uploading"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"


class StopReason(StrEnum):
    """Why the hosts of a job were told to end; empty until then."""

    NONE = ""
    ASKED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"
    MAX_PENDING_TIME_EXCEEDED = "MaxPendingTimeExceeded"
    INTERRUPTED = "Interrupted"
    HOST_FAILED = "HostFailed"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.IN_PROGRESS: frozenset({Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.STOPPING}),
    Status.STOPPING: frozenset({Status.STOPPING, Status.STOPPED, Status.FAILED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.STOPPED: frozenset(),
}
"""What a job in each status may become; nothing, once it has ended."""

STATUSES: Mapping[SecondaryStatus, frozenset[Status]] = {
    SecondaryStatus.STARTING: frozenset({Status.IN_PROGRESS}),
    SecondaryStatus.PENDING: frozenset({Status.IN_PROGRESS}),
    SecondaryStatus.DOWNLOADING: frozenset({Status.IN_PROGRESS}),
    SecondaryStatus.TRAINING: frozenset({Status.IN_PROGRESS}),
    SecondaryStatus.INTERRUPTED: frozenset({Status.IN_PROGRESS}),
    SecondaryStatus.STOPPING: frozenset({Status.STOPPING}),
    SecondaryStatus.UPLOADING: frozenset({Status.IN_PROGRESS, Status.STOPPING}),
    SecondaryStatus.COMPLETED: frozenset({Status.COMPLETED}),
    SecondaryStatus.FAILED: frozenset({Status.FAILED}),
    SecondaryStatus.STOPPED: frozenset({Status.STOPPED}),
    SecondaryStatus.MAX_RUNTIME_EXCEEDED: frozenset({Status.STOPPED}),
    SecondaryStatus.MAX_WAIT_TIME_EXCEEDED: frozenset({Status.STOPPED}),
}
"""The statuses that a secondary status may stand beside."""

STOPS: Mapping[StopReason, SecondaryStatus | None] = {
    StopReason.NONE: None,
    StopReason.ASKED: SecondaryStatus.STOPPED,
    StopReason.MAX_RUNTIME_EXCEEDED: SecondaryStatus.MAX_RUNTIME_EXCEEDED,
    StopReason.MAX_WAIT_TIME_EXCEEDED: SecondaryStatus.MAX_WAIT_TIME_EXCEEDED,
    StopReason.MAX_PENDING_TIME_EXCEEDED: SecondaryStatus.STOPPED,  # AWS has no word of its own for it
    StopReason.INTERRUPTED: None,  # the next attempt decides
    StopReason.HOST_FAILED: None,
}
"""How a job ends that was stopped for this reason; None where the exit codes of its hosts decide."""
