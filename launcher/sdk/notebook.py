"""A line on a job's progress in the notebook that waits for it; nothing in any other program."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from launcher.jobs.metrics import read_points
from launcher.jobs.store import Store

_LOOK_SECONDS = 1.0
_MOST_METRICS = 4


@contextmanager
def progress_shown(store: Store[Any], name: str) -> Iterator[None]:
    """Show how a job gets on, for as long as it is waited for, where a notebook's kernel is what waits."""
    if not in_notebook():
        yield
        return
    line = _Line(store, name)
    handle = sys.modules["IPython.display"].display(line, display_id=True)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS) and handle is not None:
            handle.update(line)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if handle is not None:
            handle.update(line)


def in_notebook() -> bool:
    """Return whether this program is the kernel of a notebook."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and hasattr(get_shell(), "kernel") and "IPython.display" in sys.modules


class _Line:
    """A job's progress, as it is when the notebook asks for it."""

    def __init__(self, store: Store[Any], name: str) -> None:
        self._store = store
        self._name = name

    def __repr__(self) -> str:
        from launcher.console.notebook import progress_text

        return progress_text(self._store, self._name, self._store.load(self._name))

    def _repr_html_(self) -> str:
        from launcher.console.notebook import progress_html

        points = read_points(self._store.folder(self._name).metrics_path)
        last = {point.name: point.value for point in points}
        metrics = dict(list(last.items())[:_MOST_METRICS])
        return progress_html(self._store, self._name, self._store.load(self._name), metrics)
