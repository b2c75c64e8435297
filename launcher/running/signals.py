"""What Ctrl-C, SIGTERM and SIGHUP mean while a job is driven: stop it, or leave it to another driver."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from launcher.errors import LauncherError
from launcher.jobs.folder import JobFolder
from launcher.terminal import say_from_signal

_PATIENT_INTERRUPTS = 2  # the first stops the job, the second kills it, one more gives up on its results
_LEAVING = (signal.SIGTERM, signal.SIGHUP)


class HandOver(BaseException):
    """This process has to go and the job goes on: everything stays as it is for the next driver.

    Args:
        number: the signal; 0 where the caller only looked on and its sink has failed.
    """

    def __init__(self, number: int = 0) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Interrupts:
    """The signals that came meanwhile.

    Attributes:
        count: how often Ctrl-C was pressed.
        deferred: whether a job is running or its results are being packed, so that Ctrl-C waits for that.
        holding: whether an effect is under way that a hand-over must not cut in two.
        leaving: the signal that asked the caller to go; 0 while none did.
    """

    count: int = 0
    deferred: bool = False
    holding: bool = False
    leaving: int = 0

    def check(self) -> None:
        """Raise the hand-over that is due.

        Raises:
            HandOver: the caller was asked to go.
        """
        if self.leaving:
            raise HandOver(self.leaving)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold a hand-over back until the effect is over and recorded."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False


@contextlib.contextmanager
def watch_signals(folder: JobFolder, *, hand_over: bool) -> Iterator[Interrupts]:
    """Turn SIGINT into a request to stop, SIGTERM and SIGHUP into a hand-over; only a main thread gets to do so.

    A handler that the caller has set itself, or SIGHUP ignored as by nohup, stays as it is.

    Args:
        folder: the job's.
        hand_over: False leaves SIGTERM and SIGHUP alone.
    """
    interrupts = Interrupts()

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupts.count += 1
        with contextlib.suppress(LauncherError):  # a folder that is gone or full: the count says it as well
            folder.request_stop()
        if not interrupts.deferred or interrupts.count > _PATIENT_INTERRUPTS:
            raise KeyboardInterrupt
        if interrupts.count == 1:
            say_from_signal(f"stopping {folder.name}; press Ctrl-C again to kill it")
        else:
            say_from_signal(f"killing {folder.name}; press Ctrl-C again to leave its results unpacked")

    def on_leave(number: int, _frame: FrameType | None) -> None:
        if interrupts.leaving:
            return  # it is on its way out
        interrupts.leaving = number
        if not interrupts.holding:
            raise HandOver(number)

    wanted: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: on_interrupt}
    if hand_over:
        wanted |= {number: on_leave for number in _LEAVING if signal.getsignal(number) == signal.SIG_DFL}
    previous: dict[int, Any] = {}
    try:
        for number, handler in wanted.items():
            previous[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        yield interrupts
        return
    try:
        yield interrupts
    finally:
        for number, handler_before in previous.items():
            signal.signal(number, handler_before)
