"""Faults on purpose, while a job runs: each happens once, and the record says which have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.faults import CUT, DELAY, KILL, SLOW, Fault
from launcher.runtimes import Execution

_BEGIN: Mapping[str, Callable[[Execution, Fault], None]] = {
    KILL: lambda execution, _: execution.kill(),
    DELAY: lambda execution, _: execution.pause(),
    CUT: lambda execution, _: execution.cut_off(),
    SLOW: lambda execution, fault: execution.slow(fault.factor),
}
_END: Mapping[str, Callable[[Execution], None]] = {
    KILL: lambda _: None,
    DELAY: lambda execution: execution.resume(),
    CUT: lambda execution: execution.rejoin(),
    SLOW: lambda execution: execution.slow(1.0),
}


class FaultInjector:
    """Lets faults happen to the hosts of a job.

    Args:
        faults: the plan.
        events: of the record; it gets an entry when a fault begins, which is changed when it is over.
        tell: takes a line for people about each fault that happens.
    """

    def __init__(self, faults: Sequence[Fault], events: list[dict[str, Any]], tell: Callable[[str], None]) -> None:
        self._faults = faults
        self._events = events
        self._tell = tell

    def begin_late(self, host: str, execution: Execution) -> None:
        """Hold a host back that has just been started, where the plan says so."""
        for number, fault in enumerate(self._faults):
            if fault.host == host and fault.kind == DELAY and self._event(number) is None:
                self._begin(number, execution)

    def take_over(self, running: Mapping[str, Execution]) -> None:
        """Do again what a driver before this one had begun, and what ends with its process."""
        for number, event in self._open_events():
            fault = self._faults[number]
            if fault.host in running and fault.kind in (DELAY, SLOW) and event["over"] is None:
                _BEGIN[fault.kind](running[fault.host], fault)

    def look(self, seconds: float, running: Mapping[str, Execution]) -> bool:
        """Begin and end what is due; return whether the record has changed.

        Args:
            seconds: of training.
            running: the hosts that have not ended.
        """
        changed = False
        for number, fault in enumerate(self._faults):
            if fault.host not in running:
                continue
            event = self._event(number)
            if event is None and fault.kind != DELAY and seconds >= fault.at_seconds:
                self._begin(number, running[fault.host], seconds)
                changed = True
            elif event is not None and event["over"] is None and seconds >= fault.until_seconds:
                self._end(number, event, running[fault.host], seconds)
                changed = True
        return changed

    def release(self, running: Mapping[str, Execution]) -> None:
        """Let hosts go that are held back or slow, so that they hear a signal: the job is to stop."""
        for number, event in self._open_events():
            fault = self._faults[number]
            if fault.kind in (DELAY, SLOW) and fault.host in running:
                self._end(number, event, running[fault.host], fault.at_seconds)

    def killed(self, host: str) -> str:
        """Return why a host has ended that a fault has killed; empty for any other."""
        events = [(self._faults[event["number"]], event) for event in self._events]
        if any(fault.kind == KILL and fault.host == host and not event["failed"] for fault, event in events):
            return f"{host} was killed on purpose"
        return ""

    def _event(self, number: int) -> dict[str, Any] | None:
        return next((event for event in self._events if event["number"] == number), None)

    def _open_events(self) -> list[tuple[int, dict[str, Any]]]:
        return [(event["number"], event) for event in self._events if event["over"] is None]

    def _begin(self, number: int, execution: Execution, seconds: float = 0.0) -> None:
        fault, failed = self._faults[number], ""
        try:
            _BEGIN[fault.kind](execution, fault)
        except (RuntimeUnavailableError, OSError) as error:
            failed = error.message if isinstance(error, RuntimeUnavailableError) else str(error)
        lasts = not failed and math.isfinite(fault.seconds)
        over = None if lasts or (fault.kind == SLOW and not failed) else seconds
        self._events.append({"number": number, "begun": seconds, "over": over, "failed": failed, "fault": str(fault)})
        self._tell(f"a fault on purpose: {fault}" + (f"; it could not be caused: {failed}" if failed else ""))

    def _end(self, number: int, event: dict[str, Any], execution: Execution, seconds: float) -> None:
        fault = self._faults[number]
        event["over"] = seconds
        try:
            _END[fault.kind](execution)
        except (RuntimeUnavailableError, OSError) as error:
            text = error.message if isinstance(error, RuntimeUnavailableError) else str(error)
            self._tell(f"a fault on purpose could not be ended: {fault}: {text}")
