"""Who may run now: the jobs of a home take places on the machine in the order of their submission; others wait.

A job's driver holds a ticket: a file whose name says when the job was submitted, what it takes and whether it runs.
The file is locked as long as the driver lives, so a driver that was killed gives its place back.

A job that nobody drives can stand in the queue as well, by a ticket that nobody locks: it costs no process while it
waits. Drivers are started for as many as there is room for, and for one beyond, which takes the next place that
becomes free; whoever leaves a place sees to that. The ticket stays until the job runs, so a driver that is killed
while it waits leaves the job in the queue.
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
_ON_ITS_WAY_SECONDS = 15.0  # a driver that was started, and has not come with a ticket by then, has failed


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
        self._folder = _folder(home)
        self._name = name
        self._turn = f"{int(created * 1e9):020d}"
        self._share = share
        self._in_queue = self._folder / _ticket_name("queued", self._turn, share, name)
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
        with _alone(self._folder):
            ticket = self._folder / _ticket_name("waits", self._turn, self._share, self._name)
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
        with _alone(self._folder):
            return self._run_if(self._is_next())

    def queue(self) -> None:
        """Put the job into the queue without a driver; nothing changes where it stands there already.

        Raises:
            OSError: no ticket can be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._in_queue, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.utime(self._in_queue, (0, 0))  # no driver was started for it

    def leave_queue(self) -> None:
        """Take the job out of the queue of those that nobody drives."""
        with contextlib.suppress(OSError):
            self._in_queue.unlink()

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
            self.leave_queue()
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
                taken += _share_of_ticket(ticket)
        return taken.jobs == 0 or (taken + self._share).fits(whole)


def names_in_queue(home: Path) -> set[str]:
    """Return the names of places of all jobs that are in the queue without a driver, or with one that waits."""
    return {entry.split(".", 4)[4] for entry in _tickets(_folder(home)) if entry.startswith("queued.")}


def next_in_queue(home: Path) -> list[str]:
    """Return the names of places of the jobs in the queue that need a driver now, in the order of their submission.

    Each of them counts as driven from now on, until it should have come. There are none where nobody is in the queue
    without a driver, and then the question costs a look at a folder.

    Raises:
        OSError: the tickets cannot be read.
        SettingsError: ``LAUNCHER_JOBS_AT_ONCE`` says nothing of the kind.
    """
    folder = _folder(home)
    if not any(entry.startswith("queued.") for entry in _tickets(folder)):
        return []
    chosen = []
    with _alone(folder):
        whole, taken = whole_share(), Share(0, 0, 0)
        in_order: dict[tuple[str, str], dict[str, str]] = {}
        for ticket in _tickets(folder):
            state, turn, _, _, name = ticket.split(".", 4)
            in_order.setdefault((turn, name), {})[state] = ticket
        for tickets in in_order.values():
            if "runs" in tickets and _is_held(folder / tickets["runs"]):
                taken += _share_of_ticket(tickets["runs"])
                tickets.clear()
        for (_, name), tickets in sorted(in_order.items()):
            waiting, queued = (folder / tickets[state] if state in tickets else None for state in ("waits", "queued"))
            if waiting is not None and _is_held(waiting):
                if _is_suspended(waiting):
                    continue
            elif queued is None:
                continue
            elif not _is_on_its_way(queued):
                os.utime(queued)
                chosen.append(name)
            share = _share_of_ticket(next(iter(tickets.values())))
            if taken.jobs and not (taken + share).fits(whole):
                break  # it waits for the next place that becomes free
            taken += share
    return chosen


def drop_from_queue(home: Path, name: str) -> None:
    """Take what is no job any more, or has ended, out of the queue.

    Args:
        name: of its place.
    """
    folder = _folder(home)
    for ticket in _tickets(folder):
        if ticket.startswith("queued.") and ticket.split(".", 4)[4] == name:
            (folder / ticket).unlink(missing_ok=True)


def _folder(home: Path) -> Path:
    return home / ".places"


def _tickets(folder: Path) -> list[str]:
    try:
        entries = os.listdir(folder)  # noqa: PTH208 - there may be ten thousand
    except FileNotFoundError:
        return []
    return [entry for entry in entries if not entry.startswith(".")]


def _ticket_name(state: str, turn: str, share: Share, name: str) -> str:
    return f"{state}.{turn}.{share.cpus}.{share.memory_bytes}.{name}"


def _share_of_ticket(ticket: str) -> Share:
    _, _, cpus, memory, _ = ticket.split(".", 4)
    return Share(1, int(cpus), int(memory))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from coming, looking and going on at the same time."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _is_on_its_way(queued: Path) -> bool:
    """Return whether a driver was started for a job of the queue, and may still come."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - queued.stat().st_mtime < _ON_ITS_WAY_SECONDS
    return True  # its driver has come, and its job runs
