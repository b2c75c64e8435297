"""Who may run now: the jobs of a home take places on the machine in the order of their submission; others wait.

A job's driver holds a ticket: a file whose name says when the job was submitted, what it takes and whether it runs.
The file is locked as long as the driver lives, so a driver that was killed gives its place back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.jobs.folder import is_locked
from launcher.jobs.instance_types import instance_type
from launcher.jobs.processing_spec import HostsSpec
from launcher.runtimes import machine
from launcher.settings import jobs_at_once

_LOOKING_SECONDS = 1.0  # between two looks at tickets that nobody has come with or gone away from
_PASSED_BY_SECONDS = 15.0  # a driver that has not looked for so long is suspended
_JOBS_A_CPU, _FEWEST_JOBS = 4, 8
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Share:
    """What jobs take of the machine, or the machine has.

    Attributes:
        jobs: how many they are.
        cpus: of all hosts.
        memory_bytes: of all hosts; 0 for jobs that were not given any.
    """

    jobs: int
    cpus: int
    memory_bytes: int

    def __add__(self, other: Share) -> Share:
        return Share(self.jobs + other.jobs, self.cpus + other.cpus, self.memory_bytes + other.memory_bytes)

    @property
    def endless(self) -> bool:
        """Whether everything fits into it."""
        return min(self.jobs, self.cpus, self.memory_bytes) >= _ENDLESS

    def fits(self, whole: Share) -> bool:
        """Return whether all of it is there."""
        return self.jobs <= whole.jobs and self.cpus <= whole.cpus and self.memory_bytes <= whole.memory_bytes


def share_of(spec: HostsSpec) -> Share:
    """Return what a job takes: its instance type's CPUs and memory, as far as this machine has them, on each host.

    ``local`` is no type: it takes one CPU.
    """
    cpus = memory = 0
    for group in spec.groups:
        kind = instance_type(group.instance_type)
        cpus += group.instance_count * (1 if kind is None else min(kind.cpus, len(machine.cpu_ids())))
        memory += group.instance_count * (0 if kind is None else min(kind.memory_bytes, machine.memory_bytes()))
    return Share(1, cpus, memory)


def whole_share() -> Share:
    """Return what all jobs together may take, as ``LAUNCHER_JOBS_AT_ONCE`` says.

    Raises:
        SettingsError: the variable says nothing of the kind.
    """
    asked, cpus = jobs_at_once(), len(machine.cpu_ids())
    if asked == "machine":
        return Share(_ENDLESS, cpus, machine.memory_bytes())
    if asked == "all":
        return Share(_ENDLESS, _ENDLESS, _ENDLESS)
    return Share(max(_FEWEST_JOBS, _JOBS_A_CPU * cpus) if asked == "auto" else int(asked), _ENDLESS, _ENDLESS)


class Place:
    """A job's place among those that run, and its turn before that.

    Args:
        home: whose jobs share the machine.
        name: of the job and its kind, of letters, digits and ``-``.
        created: when it was submitted, in seconds since 1970.
        share: what it takes.
    """

    def __init__(self, home: Path, name: str, created: float, share: Share) -> None:
        self._folder = home / ".places"
        self._name = name
        self._turn = f"{int(created * 1e9):020d}"
        self._share = share
        self._ticket: Path | None = None
        self._descriptor = -1
        self._looked = 0.0
        self._seen = 0
        self._before: Path | None = None  # the ticket of a driver whose turn comes before

    def enter(self, *, at_once: bool) -> bool:
        """Come with a ticket; return whether the job may run already.

        Args:
            at_once: whether it runs in any case, since it did before.
        Raises:
            OSError: no ticket can be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            share = self._share
            ticket = self._folder / f"waits.{self._turn}.{share.cpus}.{share.memory_bytes}.{self._name}"
            self._descriptor = os.open(ticket, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._ticket = ticket
            return self._run_if(at_once or self._is_next())

    def may_run(self) -> bool:
        """Return whether the job's turn has come; often asked, it mostly costs a look at a folder.

        Raises:
            OSError: the tickets cannot be read.
        """
        changed = self._folder.stat().st_mtime_ns
        if changed == self._seen and time.monotonic() < self._looked + _LOOKING_SECONDS:
            return False
        os.utime(self._descriptor)
        if self._before is not None and is_locked(self._before) and not _is_suspended(self._before):
            # One file tells it: thousands that wait must not all read all tickets whenever one of them begins.
            self._seen, self._looked = changed, time.monotonic()
            return False
        with self._alone():
            return self._run_if(self._is_next())

    def leave(self) -> None:
        """Give the place, or the turn, back; a second call does no harm."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if self._ticket is not None:
                self._ticket.unlink()
            # Closing is not enough: a forked child of the caller may hold the descriptor as well.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1

    def _run_if(self, allowed: bool) -> bool:
        if allowed and self._ticket is not None:
            running = self._ticket.with_name(self._ticket.name.replace("waits.", "runs.", 1))
            self._ticket = self._ticket.rename(running)
        return allowed

    def _is_next(self) -> bool:
        """Return whether nobody is before this job, and there is room for it; a lone job always has room."""
        self._seen, self._looked = self._folder.stat().st_mtime_ns, time.monotonic()
        self._before = None
        whole = whole_share()
        if whole.endless:
            return True
        waiting, running = [], []
        for ticket in os.listdir(self._folder):  # noqa: PTH208 - there may be ten thousand
            state, _, rest = ticket.partition(".")
            if state == "runs":
                running.append(ticket)
            elif state == "waits":
                turn, _, _, name = rest.split(".", 3)
                if (turn, name) < (self._turn, self._name):
                    waiting.append((turn, name, ticket))
        for _, _, ticket in sorted(waiting, reverse=True):
            path = self._folder / ticket
            if _is_held(path) and not _is_suspended(path):
                self._before = path
                return False
        taken = Share(0, 0, 0)
        for ticket in running:
            if _is_held(self._folder / ticket):
                _, _, cpus, memory, _ = ticket.split(".", 4)
                taken += Share(1, int(cpus), int(memory))
        return taken.jobs == 0 or (taken + self._share).fits(whole)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from coming, looking and going on at the same time."""
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _is_held(path: Path) -> bool:
    """Return whether the driver of a ticket lives; the ticket of another is removed."""
    if is_locked(path):
        return True
    path.unlink(missing_ok=True)
    return False


def _is_suspended(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _PASSED_BY_SECONDS
    return True
