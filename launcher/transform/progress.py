"""Says how far a transform job is: in a file that any process reads, and in a line on the terminal."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType

from launcher.transform.engine import Counts

_EVERY_SECONDS = 0.5


class Progress:
    """The progress of one job, told about twice a second.

    Args:
        path: of the file.
        objects: how many there are.
        done: how many of them were done before.
    """

    def __init__(self, path: Path, objects: int, done: int) -> None:
        self._path = path
        self._objects = objects
        self._before = done
        self._began = time.monotonic()
        self._next = 0.0
        self._shows = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._shows:
            sys.stderr.write("\n")

    def tell(self, counts: Counts, *, final: bool = False) -> None:
        """Write down how far it is, if that was not done just now."""
        now = time.monotonic()
        if now < self._next and not final:
            return
        self._next = now + _EVERY_SECONDS
        seconds = now - self._began
        facts = {
            "objects": self._objects,
            "done": self._before + counts.objects + counts.failed,
            "failed": counts.failed,
            "records": counts.records,
            "seconds": round(seconds, 3),
            "records_per_second": round(counts.records / seconds, 1) if seconds > 0 else 0.0,
        }
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(self._path)
        if self._shows:
            sys.stderr.write(f"\r{progress_line(facts)}\x1b[K")
            sys.stderr.flush()


def progress_line(facts: dict[str, float]) -> str:
    """Return the facts of a progress file as a line for people."""
    failed = f", {facts['failed']} failed" if facts["failed"] else ""
    return (
        f"{facts['done']} of {facts['objects']} files{failed}, {facts['records']:,} records, "
        f"{facts['records_per_second']:,.0f} records/s"
    )
