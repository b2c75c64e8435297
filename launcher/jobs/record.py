"""What is recorded of a job, as JSON that older and newer versions of the launcher read.

A field that this version does not know is kept and written again; one that is missing takes its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from launcher.errors import LauncherError
from launcher.jobs.clock import seconds_since, wall_mark
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import MOVES, STATUSES, SecondaryStatus, Status, StopReason

RECORD_VERSION = 2
"""Written into each record; records of 0.1.0 have no number and count as 1."""

_NUMBERS = (int, float)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "version": (int,),
    "created": _NUMBERS,
    "started": (*_NUMBERS, type(None)),
    "ended": (*_NUMBERS, type(None)),
    "modified": _NUMBERS,
    "billable_seconds": (*_NUMBERS, type(None)),
    "stop_started": (*_NUMBERS, type(None)),
    "unknown_since": (*_NUMBERS, type(None)),
    "transitions": (list,),
    "final_metrics": (list,),
    "warnings": (list,),
}


@dataclass
class Transition:
    """One entry of SecondaryStatusTransitions; times in seconds since 1970."""

    status: str
    message: str = ""
    start: float = 0.0
    end: float | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class JobRecord:
    """Everything about a job; written to ``job.json`` after each step.

    Attributes:
        spec: what runs, as ``TrainingJobSpec.to_dict`` returns it.
        request: the CreateTrainingJob document as it was accepted; empty in a record of version 0.1.0.
        version: of the record's form.
        secondary_status: a ``SecondaryStatus``; text where a newer version has written another.
        marks: moments that durations are measured from, by name, as ``clock_mark`` returns them.
        billable_seconds: between the first download and the end, whatever the wall clock did.
        steps: when each step of the runner ended, in seconds since 1970.
        channels: host path, and whether it is a file, of every input, by channel.
        executions: what each runtime needs to find a host's container or process again, by host.
        exit_codes: by host, in the order in which they ended.
        failure_reason: FailureReason; empty unless the job failed.
        unknown_since: when the runtime last stopped answering, in seconds since 1970; None while it answers.
        warnings: for the user, such as files that could not be packed.
        extra: fields of a newer version.
    """

    spec: dict[str, Any]
    created: float = 0.0
    version: int = RECORD_VERSION
    request: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.IN_PROGRESS
    secondary_status: str = SecondaryStatus.STARTING
    transitions: list[Transition] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None
    modified: float = 0.0
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)
    billable_seconds: float | None = None
    steps: dict[str, float] = field(default_factory=dict)
    channels: dict[str, list[Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    failure_reason: str = ""
    stop_reason: StopReason = StopReason.NONE
    stop_started: float | None = None
    unknown_since: float | None = None
    final_metrics: list[list[Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def training_spec(self) -> TrainingJobSpec:
        """The spec as it was submitted."""
        return TrainingJobSpec.from_dict(self.spec)

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return Status(self.status).terminal

    def move(self, status: Status, secondary_status: SecondaryStatus, message: str, now: float) -> None:
        """Change the status, if that move is legal, and note the transition.

        Raises:
            LauncherError: the job has ended, or the two states do not belong together.
        """
        status, secondary_status = Status(status), SecondaryStatus(secondary_status)
        if status not in MOVES[self.status]:
            raise LauncherError(f"a job that is {self.status} cannot become {status}.")
        if status not in STATUSES[secondary_status]:
            raise LauncherError(f"a job that is {status} cannot be {secondary_status}.")
        self.status, self.secondary_status = status, secondary_status
        if self.transitions and self.transitions[-1].status == secondary_status:
            self.transitions[-1].message = message
            return
        if self.transitions:
            self.transitions[-1].end = now
        self.transitions.append(Transition(str(secondary_status), message, now, now if self.terminal else None))

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def seconds_since(self, mark: str, otherwise: float | None) -> float:
        """Return the seconds since a mark of the record.

        Args:
            mark: its name.
            otherwise: the moment by the wall clock, for a record of 0.1.0; None is this moment.
        """
        if mark in self.marks:
            return seconds_since(self.marks[mark])
        return 0.0 if otherwise is None else seconds_since(wall_mark(otherwise))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with every field that a newer version had written.

        Raises:
            ValueError: status or stop reason stands in no table.
        """
        values = {**self.extra, **vars(self)}
        del values["extra"]
        values["version"] = max(RECORD_VERSION, self.version)
        values["status"], values["stop_reason"] = str(Status(self.status)), str(StopReason(self.stop_reason))
        values["secondary_status"] = str(self.secondary_status)
        values["transitions"] = [
            {
                **transition.extra,
                "status": transition.status,
                "message": transition.message,
                "start": transition.start,
                "end": transition.end,
            }
            for transition in self.transitions
        ]
        return values

    @classmethod
    def from_dict(cls, values: object) -> JobRecord:
        """Rebuild a record, also of an older or newer version.

        Raises:
            ValueError: it is no record; the message says why.
        """
        names = {field.name for field in fields(cls)} - {"extra"}
        given = _object(values, "the record")
        own = {"version": 1, **{name: value for name, value in given.items() if name in names}}
        for name, value in own.items():
            kinds = _KINDS.get(name, (str,) if name.endswith(("status", "reason")) else (dict,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"'{name}' is {_kind(value)}")
        if "spec" not in own:
            raise ValueError("'spec' is missing")
        own["transitions"] = [_transition(entry) for entry in own.get("transitions", ())]
        if "status" in own:
            if own["status"] not in set(Status):
                raise ValueError(f"'status' is {own['status']!r}, which this version does not know")
            own["status"] = Status(own["status"])
        if own.get("secondary_status") in set(SecondaryStatus):
            own["secondary_status"] = SecondaryStatus(own["secondary_status"])
        if "stop_reason" in own:
            own["stop_reason"] = _stop_reason(own["stop_reason"], own.get("status", Status.IN_PROGRESS))
        record = cls(**own, extra={name: value for name, value in given.items() if name not in names})
        try:
            spec = record.training_spec
        except (TypeError, KeyError, AttributeError, LauncherError) as error:
            raise ValueError(f"'spec' cannot be read: {error}") from error
        if not isinstance(spec.job_name, str) or not isinstance(spec.runtime, str):
            raise ValueError("'spec' names no job and runtime")
        return record


def _stop_reason(text: str, status: Status) -> StopReason:
    """Return the reason; 0.1.0 wrote a sentence where a host had failed, and a newer version may have more reasons."""
    if text in set(StopReason):
        return StopReason(text)
    return StopReason.HOST_FAILED if status in (Status.IN_PROGRESS, Status.FAILED) else StopReason.ASKED


def _transition(values: object) -> Transition:
    given = _object(values, "a transition")
    names = ("status", "message", "start", "end")
    return Transition(
        str(given.get("status", "")),
        str(given.get("message", "")),
        _seconds(given.get("start")) or 0.0,
        _seconds(given.get("end")),
        {name: value for name, value in given.items() if name not in names},
    )


def _seconds(value: object) -> float | None:
    if value is None or (isinstance(value, _NUMBERS) and not isinstance(value, bool)):
        return value
    raise ValueError(f"a time is {_kind(value)}")


def _object(value: object, subject: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{subject} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def utc(seconds: float) -> datetime:
    """Return the moment as boto3 returns times."""
    return datetime.fromtimestamp(seconds, UTC)
