"""When a rehearsed interruption of a spot job comes: a plan as texts, and what it means in each attempt."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.errors import BadInputError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_HINT = "Write after:30s, random:0.01 (a second), random:0.01:SEED or at-line:REGEX."


@dataclass(frozen=True)
class Interruption:
    """What interrupts one attempt.

    Attributes:
        after_seconds: of training; None where a line of the log decides.
        pattern: interrupts when a line of the attempt's log matches it; empty where the time decides.
    """

    after_seconds: float | None = None
    pattern: str = ""


def interruption_of(plan: Sequence[str], attempt: int) -> Interruption | None:
    """Return what interrupts an attempt; None lets it run to its end.

    Each entry of a plan interrupts one attempt, in order; ``random`` at its end goes on for ever. The answer is a
    function of plan and attempt: whichever driver asks, it is the same.

    Args:
        plan: as ``check_plan`` accepts it.
        attempt: 1 for the first.
    Raises:
        BadInputError: an entry cannot be read.
    """
    if not plan or (attempt > len(plan) and not plan[-1].startswith("random:")):
        return None
    return _entry(plan[min(attempt, len(plan)) - 1], attempt)


def check_plan(plan: Sequence[str], place: str) -> None:
    """Refuse a plan that cannot be read.

    Args:
        plan: a text for each interruption.
        place: where it was given, for the message.
    Raises:
        BadInputError: an entry is none of the three kinds, or follows ``random``, which never ends.
    """
    for number, text in enumerate(plan):
        try:
            _entry(text, 1)
        except BadInputError as error:
            raise BadInputError(f"{place}: {error.message}", error.hint) from error
        if text.startswith("random:") and number < len(plan) - 1:
            raise BadInputError(
                f"{place}: '{plan[number + 1]}' follows '{text}', which interrupts every attempt from then on.",
                "Put random at the end.",
            )


def _entry(text: str, attempt: int) -> Interruption:
    kind, _, value = text.partition(":")
    if kind == "after" and (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)):
        return Interruption(after_seconds=float(match[1]) * _UNITS[match[2]])
    if kind == "random" and (match := re.fullmatch(r"(\d*\.?\d+(?:e-\d+)?)(?::(\d+))?", value)):
        probability = float(match[1])
        if 0 < probability <= 1:
            return Interruption(after_seconds=_seconds_until(probability, f"{match[2] or 0}:{attempt}"))
    if kind == "at-line" and value:
        try:
            re.compile(value)
        except re.error as error:
            raise BadInputError(f"{value!r} is not a regular expression: {error}.", "Correct the pattern.") from error
        return Interruption(pattern=value)
    raise BadInputError(f"'{text}' is no interruption.", _HINT)


def _seconds_until(probability: float, seed: str) -> float:
    """Return after how many seconds something happens that has this probability in each second."""
    if probability == 1:
        return 0.0
    return math.log(1 - random.Random(seed).random()) / math.log(1 - probability)
