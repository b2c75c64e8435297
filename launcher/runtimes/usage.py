"""What processes of this machine use, as its kernel counts it; nothing is known of it on a system without ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TIMES = slice(11, 15)  # utime, stime, cutime, cstime, counted from the third field of /proc/PID/stat


@dataclass(frozen=True)
class HostUsage:
    """What a host has used so far.

    Attributes:
        cpu_seconds: of all its processes, those that have ended included.
        memory_bytes: at this moment; 0 when it has ended.
        memory_peak_bytes: the most that the system knows of; it may be less than ``memory_bytes`` was once.
    """

    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int = 0


def tree_usage(root: int) -> HostUsage | None:
    """Return what the descendants of a process use, without the process itself; None where nobody can say.

    Memory that processes share is counted once, where the system lets this process look.

    Args:
        root: the process's id.
    """
    ticks = memory = peak = 0
    pids = list(descendants(root))
    # What a process has waited for is in its own numbers: those of the root hold what has ended altogether.
    for pid in (root, *pids):
        times = _times(pid)
        ticks += sum(times[2:] if pid == root else times)
    for pid in pids:
        memory += _memory(pid, is_alone=len(pids) == 1)
        peak = max(peak, _field(_read(f"/proc/{pid}/status"), b"VmHWM:"))
    return HostUsage(ticks / _TICK, memory, peak) if pids else None


def descendants(root: int) -> Iterator[int]:
    """Yield the processes below one, parents before their children."""
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        try:
            threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - read a hundred times a minute
        except OSError:
            continue
        for thread in threads:
            children = [int(word) for word in _read(f"/proc/{pid}/task/{thread}/children").split()]
            waiting += children
            yield from children


def _times(pid: int) -> list[int]:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # a program's name may hold anything before it
    return [int(field) for field in fields[_TIMES]] or [0] * 4


def _memory(pid: int, *, is_alone: bool) -> int:
    share = 0 if is_alone else _field(_read(f"/proc/{pid}/smaps_rollup"), b"Pss:")
    if share:
        return share
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def _field(text: bytes, name: bytes) -> int:
    """Return a number of kilobytes, in bytes; 0 where there is none."""
    words = text.partition(name)[2].split(maxsplit=1)
    return int(words[0]) * 1024 if words else 0


def _read(path: str) -> bytes:
    """Return what a file of ``/proc`` holds; nothing where the process has ended, or is somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
