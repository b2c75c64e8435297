"""What every row needs: interleaved timing, disk usage while something runs, and the comparison with a floor."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
_SPEEDS = ("MiB/s", "1/s")


@dataclass(frozen=True)
class Aim:
    """A bound on how ours compares with the floor.

    Attributes:
        quantity: ``ratio`` (ours / floor), ``difference`` (ours - floor, in the row's unit) or ``ours``.
        bound: the value itself still counts as reached.
        at_least: the bound is a lower one.
    """

    quantity: str
    bound: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class Row:
    """One comparison.

    Attributes:
        group: what ``--only`` selects.
        title: what is compared, in a few words.
        unit: of every value; of ``MiB/s`` and ``1/s`` more is better.
        floor: measured values of the floor, in the order of the runs; empty where there is none.
        ours: as many of the launcher's.
        skipped: why nothing was measured.
    """

    group: str
    title: str
    unit: str = "ms"
    floor: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    aims: tuple[Aim, ...] = ()
    note: str = ""
    skipped: str = ""

    def best(self, values: list[float]) -> float:
        return max(values) if self.unit in _SPEEDS else min(values)

    def value(self, quantity: str, middle: Callable[[list[float]], float]) -> float:
        """Return ``floor``, ``ours``, ``difference`` or ``ratio``, of the best values or of the medians."""
        if quantity == "ours":
            return middle(self.ours)
        floor = middle(self.floor)
        if quantity == "floor":
            return floor
        ours = middle(self.ours)
        return ours / floor if quantity == "ratio" else ours - floor

    def verdict(self, aim: Aim) -> str:
        """Return ``yes``, ``no``, or which of best and median alone reaches the aim."""
        best = aim.reached(self.value(aim.quantity, self.best))
        median = aim.reached(self.value(aim.quantity, statistics.median))
        if best == median:
            return "yes" if best else "no"
        return "best only" if best else "median only"

    def cells(self) -> list[str]:
        """Return the row of the table; a pair of numbers is the best and the median."""
        if self.skipped:
            return [self.title, "", "", "", "", "", f"skipped: {self.skipped}"]
        middles = (self.best, statistics.median) if len(self.ours) > 1 else (statistics.median,)

        def shown(quantity: str, sign: str = "") -> str:
            values = (self.value(quantity, middle) for middle in middles)
            return " / ".join(f"{value:{sign}{_digits(quantity, self.unit)}}" for value in values)

        compared = bool(self.floor)
        # Of two amounts of disk only the difference means anything: the floor may be nothing at all.
        has_ratio, has_difference = compared and self.unit != "MiB", compared and self.unit not in _SPEEDS
        aims = [f"{'≥' if aim.at_least else '≤'} {aim.bound:g}{_suffix(aim, self.unit)}" for aim in self.aims]
        return [
            self.title,
            f"{shown('floor')} {self.unit}" if compared else "",
            f"{shown('ours')} {self.unit}",
            f"{shown('difference', '+')} {self.unit}" if has_difference else "",
            shown("ratio") if has_ratio else "",
            ", ".join(aims),
            ", ".join(self.verdict(aim) for aim in self.aims) if self.aims else "information",
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the row for the results file, with every single value."""
        answer: dict[str, object] = {"group": self.group, "title": self.title, "unit": self.unit, "note": self.note}
        if self.skipped:
            return answer | {"skipped": self.skipped}
        quantities = [
            "ours",
            *(["floor", "difference"] if self.floor else []),
            *(["ratio"] if self.floor and all(self.floor) else []),
        ]
        for quantity in quantities:
            answer[f"{quantity}_best"] = self.value(quantity, self.best)
            answer[f"{quantity}_median"] = self.value(quantity, statistics.median)
        aims = [
            {"quantity": aim.quantity, "bound": aim.bound, "at_least": aim.at_least, "reached": self.verdict(aim)}
            for aim in self.aims
        ]
        return answer | {"aims": aims, "floor_values": self.floor, "ours_values": self.ours}


HEADINGS = ["Row", "Floor", "Ours", "Difference", "Ratio", "Aim", "Reached"]


def markdown_table(rows: list[Row]) -> str:
    """Return the rows as a table that a terminal and a Markdown page both show well."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)


def interleave(actions: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time each action ``runs`` times in turn, so that a slow minute of the machine meets all of them.

    One more round goes first and is not counted: it fills caches and loads modules.

    Returns:
        Milliseconds, by the action's name.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(runs + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if number:
                times[name].append((time.perf_counter() - started) * 1000)
    return times


def disk_usage(folder: Path) -> int:
    """Return the bytes on disk below a folder, each inode once, as ``du`` counts them."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - called thousands of times a second
            except OSError:
                continue  # renamed or removed meanwhile
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


class Peak:
    """The largest growth of a folder while something ran, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self.samples = 0


@contextmanager
def watched_disk_usage(folder: Path, every_seconds: float = 0.005) -> Iterator[Peak]:
    """Sample a folder's disk usage from a thread; the peak counts from what is there at the beginning."""
    peak, over, before = Peak(), threading.Event(), disk_usage(folder)

    def watch() -> None:
        while not over.wait(every_seconds):
            peak.bytes = max(peak.bytes, disk_usage(folder) - before)
            peak.samples += 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _digits(quantity: str, unit: str) -> str:
    if quantity == "ratio":
        return ".2f"
    return ".0f" if unit in ("MiB", *_SPEEDS) else ".1f"


def _suffix(aim: Aim, unit: str) -> str:
    return {"ratio": " ×", "difference": f" {unit} more", "ours": f" {unit}"}[aim.quantity]
