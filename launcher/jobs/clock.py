"""Durations of a job, which outlive the process that began to measure them and a wall clock that jumps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def clock_mark() -> dict[str, Any]:
    """Return this moment as JSON values for a record; ``seconds_since`` measures from it."""
    return {"boot": _boot_id(), "monotonic": time.monotonic(), "wall": time.time()}


def wall_mark(seconds: float) -> dict[str, Any]:
    """Return a mark for a moment of which the record has only the wall clock, in seconds since 1970."""
    return {"wall": seconds}


def later_mark(mark: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the mark of a moment so much later; durations from it do not count that time."""
    return {**mark, **{clock: float(mark[clock]) + seconds for clock in ("monotonic", "wall") if clock in mark}}


def seconds_since(mark: Mapping[str, Any]) -> float:
    """Return the seconds since a mark, never below 0.

    As long as the machine has not been started again, its monotonic clock measures; else only the wall clock can.
    """
    if mark.get("boot") == _boot_id() != "":
        return max(0.0, time.monotonic() - float(mark["monotonic"]))
    return max(0.0, time.time() - float(mark["wall"]))


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID_PATH.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # not Linux: a monotonic clock of another process says nothing
