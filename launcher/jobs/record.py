"""What is recorded of a job, a model or an endpoint, as JSON that older and newer versions of the launcher read.

A field that this version does not know is kept and written again; one that is missing takes its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from launcher.errors import LauncherError
from launcher.jobs.clock import seconds_since, wall_mark
from launcher.jobs.spec import TrainingJobSpec, job_keys
from launcher.jobs.states import MOVES, STATUSES, SecondaryStatus, Status, StopReason

if TYPE_CHECKING:
    from launcher.jobs.processing_spec import HostsSpec

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
    "trials": (list,),
    "attempts": (list, dict),  # of a service job; of an endpoint, by container
    "final_metrics": (list,),
    "warnings": (list,),
    "port": (int,),
    "token": (str,),
    "exit_message": (str,),
    "origin": (str,),
    "given_up": (str,),
    "input_failure": (str,),
    "platform_failure": (str,),
    "requirements": (str,),
    "warm_pool": (str,),
    "faults": (list,),
}


@dataclass
class Transition:
    """One entry of SecondaryStatusTransitions; times in seconds since 1970."""

    status: str
    message: str = ""
    start: float = 0.0
    end: float | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


_Self = TypeVar("_Self", bound="Record")


@dataclass
class Record:
    """What is written of anything that lives under a name in the home: a job, a model, an endpoint.

    Attributes:
        spec: what was asked for, as the ``to_dict`` of its spec returns it.
        request: the document as it was accepted; empty in a record of version 0.1.0.
        version: of the record's form.
        warnings: for the user, such as files that could not be packed.
        extra: fields of a newer version.
    """

    spec: dict[str, Any]
    created: float = 0.0
    version: int = RECORD_VERSION
    request: dict[str, Any] = field(default_factory=dict)
    modified: float = 0.0
    warnings: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether nothing will happen to it any more; so it is with what is no job."""
        return True

    def check_spec(self) -> None:
        """Refuse a spec that this version cannot read.

        Raises:
            TypeError, KeyError, AttributeError, LauncherError, ValueError: it cannot.
        """

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with every field that a newer version had written.

        Raises:
            ValueError: a state stands in no table.
        """
        values = {**self.extra, **{entry.name: getattr(self, entry.name) for entry in fields(self)}}
        del values["extra"]
        values["version"] = max(RECORD_VERSION, self.version)
        return values

    @classmethod
    def from_dict(cls: type[_Self], values: object) -> _Self:
        """Rebuild a record, also of an older or newer version.

        Raises:
            ValueError: it is none; the message says why.
        """
        names = {entry.name for entry in fields(cls)} - {"extra"}
        given = object_of(values, "the record")
        own = {"version": 1, **{name: value for name, value in given.items() if name in names}}
        for name, value in own.items():
            kinds = _KINDS.get(name, (str,) if name.endswith(("status", "reason", "_by")) else (dict,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"'{name}' is {_kind(value)}")
        if "spec" not in own:
            raise ValueError("'spec' is missing")
        cls._decode(own)
        record = cls(**own, extra={name: value for name, value in given.items() if name not in names})
        try:
            record.check_spec()
        except (TypeError, KeyError, AttributeError, LauncherError) as error:
            raise ValueError(f"'spec' cannot be read: {error}") from error
        return record

    @classmethod
    def _decode(cls, own: dict[str, Any]) -> None:
        """Turn plain values of a record's own fields into what they stand for.

        Raises:
            ValueError: one stands for nothing that this version knows.
        """


@dataclass
class DrivenRecord(Record):
    """A job of any kind: what a process needs to see it through to its end.

    Attributes:
        marks: moments that durations are measured from, by name, as ``clock_mark`` returns them.
        billable_seconds: between the first download and the end, whatever the wall clock did.
        steps: when each step of the runner ended, in seconds since 1970.
        executions: what each runtime needs to find a host's container or process again, by host.
        exit_codes: by host, in the order in which they ended.
        failure_reason: FailureReason, empty unless the job failed.
        unknown_since: when the runtime last stopped answering, in seconds since 1970; None while it answers.
    """

    status: Status = Status.IN_PROGRESS
    started: float | None = None
    ended: float | None = None
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)
    billable_seconds: float | None = None
    steps: dict[str, float] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    failure_reason: str = ""
    stop_reason: StopReason = StopReason.NONE
    stop_started: float | None = None
    unknown_since: float | None = None

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return Status(self.status).terminal

    @property
    def runtime(self) -> str:
        """The name of the runtime that the job was submitted for."""
        return str(self.spec["runtime"])

    @property
    def results_uri(self) -> str:
        """The folder or prefix that its results are in."""
        return str(self.spec.get("output_uri", ""))

    def change_status(self, status: Status) -> None:
        """Change the status, if that move is legal.

        Raises:
            LauncherError: a job that has ended is to change.
        """
        status = Status(status)
        if status not in MOVES[self.status]:
            raise LauncherError(f"a job that is {self.status} cannot become {status}.")
        self.status = status

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
        values = super().to_dict()
        values["status"], values["stop_reason"] = str(Status(self.status)), str(StopReason(self.stop_reason))
        return values

    @classmethod
    def _decode(cls, own: dict[str, Any]) -> None:
        super()._decode(own)
        if "status" in own:
            if own["status"] not in set(Status):
                raise ValueError(f"'status' is {own['status']!r}, which this version does not know")
            own["status"] = Status(own["status"])
        if "stop_reason" in own:
            own["stop_reason"] = _stop_reason(own["stop_reason"], own.get("status", Status.IN_PROGRESS))


@dataclass
class HostsRecord(DrivenRecord):
    """A job whose hosts run to their end by themselves: a training job or a processing job.

    Attributes:
        secondary_status: a ``SecondaryStatus``; text where a newer version has written another.
        channels: host path, and whether it is a file, of every input, by channel, or by host and channel.
        input_failure: why the streams of Pipe channels were not what was asked for; empty where all is well.
        platform_failure: what took a host away that had not ended by itself; empty where nothing did.
        requirements: the folder of packages that the job was lent; empty where it was lent none.
        debug_ports: of this machine's loopback address, by host; they lead a debugger to its program.
        usage: what each host used over all attempts, by host: cpu_seconds, memory_peak_bytes, disk_bytes.
        attempts: those that were interrupted, or failed and were tried again: how they ended, when, their seconds, and
            what had been used by then.
        log_offsets: where the output of this attempt begins in the log of each host, in bytes.
        warm_pool: the name of the warm pool that the job started from, or left; empty where there is none.
    """

    secondary_status: str = SecondaryStatus.STARTING
    transitions: list[Transition] = field(default_factory=list)
    channels: dict[str, list[Any]] = field(default_factory=dict)
    input_failure: str = ""
    platform_failure: str = ""
    requirements: str = ""
    warm_pool: str = ""
    faults: list[dict[str, Any]] = field(default_factory=list)
    final_metrics: list[list[Any]] = field(default_factory=list)
    debug_ports: dict[str, int] = field(default_factory=dict)
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    log_offsets: dict[str, int] = field(default_factory=dict)

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs, or is about to; 1 for the first."""
        return len(self.attempts) + 1

    @property
    def run_seconds(self) -> float:
        """How long the job has been at work, in all its attempts; waiting does not count."""
        seconds = sum(float(attempt["seconds"]) for attempt in self.attempts)
        if self.started is not None and ("started" in self.marks or not self.attempts):
            seconds += self.seconds_since("started", self.started)
        return seconds

    @property
    def training_seconds(self) -> float:
        """How long the job's hosts have run, in all its attempts."""
        seconds = sum(float(attempt["training_seconds"]) for attempt in self.attempts)
        trained = next((move.start for move in self.transitions if move.status == SecondaryStatus.TRAINING), None)
        if "training" in self.marks or not self.attempts:
            seconds += self.seconds_since("training", trained)
        return seconds

    def begin_again(self, reason: str, log_offsets: Mapping[str, int], now: float) -> None:
        """Note the end of an attempt, and forget what it did: the next one begins with the first step.

        Args:
            reason: why it did not count.
            log_offsets: how long the log of each host is, in bytes.
            now: in seconds since 1970.
        """
        seconds = sum(float(attempt["seconds"]) for attempt in self.attempts)
        trained = sum(float(attempt["training_seconds"]) for attempt in self.attempts)
        self.attempts.append(
            {
                "reason": reason,
                "ended": now,
                "seconds": self.run_seconds - seconds,
                "training_seconds": self.training_seconds - trained,
                "exit_codes": dict(self.exit_codes),
                "usage": dict(self.usage),
            }
        )
        self.log_offsets = dict(log_offsets)
        for mark in ("started", "training", "stopping"):
            self.marks.pop(mark, None)
        self.steps, self.executions, self.exit_codes, self.channels = {}, {}, {}, {}
        self.requirements = self.input_failure = self.platform_failure = self.failure_reason = ""
        self.stop_reason, self.stop_started = StopReason.NONE, None

    @property
    def hosts_spec(self) -> HostsSpec:
        """The spec as it was submitted."""
        raise NotImplementedError

    def check_spec(self) -> None:
        """Refuse a spec that is none of this kind of job."""
        spec = self.hosts_spec
        if not isinstance(spec.job_name, str) or not isinstance(spec.runtime, str):
            raise ValueError("'spec' names no job and runtime")

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with every field that a newer version had written.

        Raises:
            ValueError: status or stop reason stands in no table.
        """
        values = super().to_dict()
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
    def _decode(cls, own: dict[str, Any]) -> None:
        own["transitions"] = [_transition(entry) for entry in own.get("transitions", ())]
        super()._decode(own)
        if own.get("secondary_status") in set(SecondaryStatus):
            own["secondary_status"] = SecondaryStatus(own["secondary_status"])


@dataclass
class JobRecord(HostsRecord):
    """All that is known of a training job; written to ``job.json`` after each step.

    Attributes:
        origin: what tells apart the submission that came from another machine; empty where it came from this one.
    """

    origin: str = ""

    @cached_property  # a driver asks many times a second
    def training_spec(self) -> TrainingJobSpec:
        """The spec as it was submitted."""
        return TrainingJobSpec.from_dict(self.spec)

    @property
    def hosts_spec(self) -> TrainingJobSpec:
        """The spec as it was submitted."""
        return self.training_spec

    @property
    def results_uri(self) -> str:
        """The folder or prefix that its results are in."""
        return job_keys(self.training_spec).model.rpartition("/")[0]


def _stop_reason(text: str, status: Status) -> StopReason:
    """Return the reason; 0.1.0 wrote a sentence where a host had failed, and a newer version may have more reasons."""
    if text in set(StopReason):
        return StopReason(text)
    return StopReason.HOST_FAILED if status in (Status.IN_PROGRESS, Status.FAILED) else StopReason.ASKED


def _transition(values: object) -> Transition:
    given = object_of(values, "a transition")
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


def object_of(value: object, subject: str) -> dict[str, Any]:
    """Return a JSON object that was read; ``subject`` names it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{subject} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def utc(seconds: float) -> datetime:
    """Return the moment as boto3 returns times."""
    return datetime.fromtimestamp(seconds, UTC)
