"""Metrics of a job: values that patterns find in its log, and the CSV files it writes while it runs."""

from __future__ import annotations

import json
import math
import os
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import BadInputError
from launcher.jobs.spec import MetricDefinition

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class MetricPoint:
    """One value: when it was seen (seconds since 1970), which metric, what."""

    timestamp: float
    name: str
    value: float


class MetricRecorder:
    """Finds values in log lines and appends each to a file, a JSON object a line.

    Args:
        definitions: what to look for.
        path: the file; started anew.
    """

    def __init__(self, definitions: Sequence[MetricDefinition], path: Path) -> None:
        self._patterns = [(definition.name, re.compile(definition.regex)) for definition in definitions]
        self._path = path
        self._descriptor = -1
        self.last: dict[str, MetricPoint] = {}
        if self._patterns:
            path.unlink(missing_ok=True)

    def feed(self, line: str, timestamp: float) -> None:
        """Look at one line; a match whose group is not a finite number is no value."""
        points = []
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                try:
                    value = float(match.group(1))
                except (TypeError, ValueError):
                    continue
                if math.isfinite(value):
                    points.append(MetricPoint(timestamp, name, value))
        if points:
            self._append("".join(json.dumps([point.timestamp, point.name, point.value]) + "\n" for point in points))
            self.last.update({point.name: point for point in points})

    def _append(self, text: str) -> None:
        """Write whole lines at once; the file stays open, since a log may have thousands of values a second."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            weakref.finalize(self, os.close, self._descriptor)
        data = text.encode()
        while data:
            data = data[os.write(self._descriptor, data) :]


def read_points(path: Path) -> list[MetricPoint]:
    """Return what a recorder wrote; none when there is no file. A line that is not whole yet is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [MetricPoint(*json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def points_table(points: Sequence[MetricPoint], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return columns ``timestamp`` (seconds since the first point), ``metric_name`` and ``value``."""
    import pandas as pd

    start = min((point.timestamp for point in points), default=0.0)
    rows = [
        (point.timestamp - start, point.name, point.value) for point in points if names is None or point.name in names
    ]
    return pd.DataFrame(rows, columns=["timestamp", "metric_name", "value"])


def read_metric_csv(folder: Path) -> pd.DataFrame:
    """Return the one ``worker_*.csv`` that a job wrote to its intermediate folder.

    Raises:
        BadInputError: there is none yet, or several.
    """
    import pandas as pd

    files = sorted(folder.glob("worker_*.csv"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise BadInputError(
            f"{folder} holds {len(files)} metric files, not one: {names}.",
            "A training job writes its first row when its first epoch is over; read a certain file with pandas.",
        )
    return pd.read_csv(files[0])
