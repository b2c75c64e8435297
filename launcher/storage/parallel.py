"""Many transfers at once: worker threads with one queue, and a progress bar for long transfers."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

_TICK_SECONDS = 0.1
_BAR_AFTER_SECONDS = 1.0

Task = Callable[[], "Iterable[Task] | None"]
"""Something to do; may return more to do, which goes before what is waiting."""


class Transfers:
    """Runs tasks in threads, in their order; the first error ends all of them.

    Args:
        workers: threads.
        title: what the progress bar says.
        total_bytes: what all tasks together transfer.
    Attributes:
        stopping: set when a task has failed or the caller was interrupted; a long task looks at it and returns.
    """

    def __init__(self, workers: int, title: str, total_bytes: int) -> None:
        self.stopping = threading.Event()
        self._workers = workers
        self._title = title
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._wake = threading.Condition()
        self._first: deque[Task] = deque()
        self._running = 0
        self._error: BaseException | None = None

    def advance(self, count: int) -> None:
        """Note that ``count`` more bytes are transferred; negative when they have to be transferred again."""
        with self._wake:
            self._done_bytes += count

    def run(self, tasks: Iterable[Task]) -> None:
        """Do all tasks; returns when no thread is left, also after an error.

        Raises:
            BaseException: what the first task to fail raised.
        """
        pending = iter(tasks)
        threads = [
            threading.Thread(target=self._work, args=(pending,), name=f"transfer-{number}", daemon=True)
            for number in range(self._workers)
        ]
        for thread in threads:
            thread.start()
        bar = _ProgressBar(self._title, self._total_bytes)
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK_SECONDS)
                    bar.show(self._done_bytes)
        finally:
            self.stopping.set()
            with self._wake:
                self._wake.notify_all()
            for thread in threads:
                thread.join()
            bar.close(self._done_bytes)
        if self._error is not None:
            raise self._error

    def _work(self, pending: Any) -> None:
        while (task := self._take(pending)) is not None:
            try:
                tasks = task()
            except BaseException as error:  # noqa: BLE001 - raised again by run()
                with self._wake:
                    self._error = self._error or error
                    self._wake.notify_all()
                self.stopping.set()
                return
            with self._wake:
                self._first.extend(tasks or ())
                self._running -= 1
                self._wake.notify_all()

    def _take(self, pending: Any) -> Task | None:
        """Return the next task; None when there will be no more. Waits while a running task may return more."""
        with self._wake:
            while not self.stopping.is_set() and self._error is None:
                task: Task | None = self._first.popleft() if self._first else next(pending, None)
                if task is not None:
                    self._running += 1
                    return task
                if not self._running:
                    return None
                self._wake.wait()
        return None


class _ProgressBar:
    """A bar on stderr; it appears on a terminal alone, and only when the transfer takes its time."""

    def __init__(self, title: str, total_bytes: int) -> None:
        self._title = title
        self._total_bytes = total_bytes
        self._show_at = time.monotonic() + _BAR_AFTER_SECONDS if sys.stderr.isatty() else float("inf")
        self._bar: Any = None
        self._task: Any = None

    def show(self, done_bytes: int) -> None:
        """Draw what is done; makes the bar when it is time."""
        if time.monotonic() < self._show_at:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=self._total_bytes)
            self._bar.start()
        self._bar.update(self._task, completed=done_bytes)

    def close(self, done_bytes: int) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done_bytes)
            self._bar.stop()
