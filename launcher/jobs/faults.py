"""Faults that happen to the hosts of a job on purpose: a plan as texts, and what it means for the job's hosts."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.errors import BadInputError

KILL, DELAY, CUT, SLOW = "kill", "delay", "cut", "slow"
KINDS = (KILL, DELAY, CUT, SLOW)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TIME = r"(\d+(?:\.\d+)?)([smh]?)"
_ENTRY = re.compile(rf"([a-z]+)(?::([\w-]+))?(?:@{_TIME}(?:-{_TIME})?)?(?:\+{_TIME})?(?:\*(\d+(?:\.\d+)?))?")
_SEED = re.compile(r"seed=(\d+)")
_RANDOM_SECONDS = 60.0  # a moment that is not named lies before this
_DELAY_SECONDS, _SLOWNESS = 10.0, 4.0
_HINT = "Write kill, delay, cut or slow, then :HOST, @MOMENT, +DURATION; for example kill:algo-2@30s, or kill alone."


@dataclass(frozen=True)
class Fault:
    """A thing that happens to one host.

    Attributes:
        kind: ``kill``, ``delay``, ``cut`` or ``slow``.
        at_seconds: of training, when it begins.
        seconds: how long it lasts; infinite for good.
        factor: how many times slower the host is, of ``slow``.
    """

    kind: str
    host: str
    at_seconds: float = 0.0
    seconds: float = math.inf
    factor: float = 1.0

    @property
    def until_seconds(self) -> float:
        """When it is over, in seconds of training."""
        return self.at_seconds + self.seconds

    def __str__(self) -> str:
        when = f" {self.at_seconds:.3g} s after the start"
        lasting = "" if math.isinf(self.seconds) else f" for {self.seconds:.3g} s"
        return {
            KILL: f"{self.host} is killed{when}",
            DELAY: f"{self.host} begins {self.seconds:.3g} s late",
            CUT: f"{self.host} is cut off from the others{when}{lasting}",
            SLOW: f"{self.host} becomes {self.factor:.3g} times slower{when}{lasting}",
        }[self.kind]


def faults_of(plan: Sequence[str], hosts: Sequence[str]) -> list[Fault]:
    """Return what a plan means for the hosts of a job: the same for the same plan, whoever asks.

    Args:
        plan: ``KIND[:HOST][@MOMENT[-MOMENT]][+DURATION][*FACTOR]``, and perhaps ``seed=N``. A host or moment that is
            left out, and one between two moments, is drawn by the seed.
        hosts: their names.
    Raises:
        BadInputError: an entry cannot be read, or names a host that the job has not.
    """
    seed, faults = 0, []
    for text in plan:
        if match := _SEED.fullmatch(text):
            seed = int(match[1])
    for number, text in enumerate(entry for entry in plan if not _SEED.fullmatch(entry)):
        faults.append(_fault(text, hosts, random.Random(f"{seed}:{number}")))
    return faults


def _fault(text: str, hosts: Sequence[str], drawn: random.Random) -> Fault:
    match = _ENTRY.fullmatch(text)
    if match is None or match[1] not in KINDS:
        raise BadInputError(f"'{text}' is no fault.", _HINT)
    kind, host, begin, _, end, _, lasting, _, factor = match.groups()
    # Both are drawn always: what an entry leaves out does not change what the rest of it means.
    any_host, share = drawn.choice(list(hosts)), drawn.random()
    if host not in (None, "random", *hosts):
        raise BadInputError(f"'{text}' names a host that the job has not.", f"Its hosts are {', '.join(hosts)}.")
    for part, given, meant_for in (
        ("a duration", lasting, (DELAY, CUT, SLOW)),
        ("a moment", begin, (KILL, CUT, SLOW)),
        ("a factor", factor, (SLOW,)),
    ):
        if given is not None and kind not in meant_for:
            raise BadInputError(f"'{text}' has {part}, which a {kind} has not.", _HINT)
    first = 0.0 if begin is None else _seconds(begin, match[4])
    last = _RANDOM_SECONDS if begin is None else first if end is None else _seconds(end, match[6])
    slowness = _SLOWNESS if factor is None else float(factor)
    if last < first or slowness < 1 or (lasting is not None and not _seconds(lasting, match[8])):
        raise BadInputError(f"'{text}': a time ends before it begins, or a factor is below 1.", _HINT)
    seconds = math.inf if lasting is None else _seconds(lasting, match[8])
    return Fault(
        kind=kind,
        host=any_host if host in (None, "random") else host,
        at_seconds=0.0 if kind == DELAY else first + share * (last - first),
        seconds=_DELAY_SECONDS if kind == DELAY and lasting is None else seconds,
        factor=slowness if kind == SLOW else 1.0,
    )


def _seconds(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
