"""What this machine has: CPUs, memory, GPUs."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

DEVICES = Path("/dev")


def cpu_ids() -> list[int]:
    """Return the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def memory_bytes() -> int:
    """Return how much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpu_numbers() -> tuple[int, ...]:
    """Return the numbers of the NVIDIA devices; looks at ``/dev``, so that it costs nothing."""
    names = [device.name.removeprefix("nvidia") for device in DEVICES.glob("nvidia*")]
    return tuple(sorted(int(name) for name in names if name.isdigit()))


def chosen_cpus(ids: list[int], count: int, key: str) -> list[int]:
    """Return ``count`` of the CPUs; hosts of different keys begin at different CPUs, and so share none if they can."""
    first = zlib.crc32(key.encode()) % len(ids)
    return sorted((ids[first:] + ids[:first])[:count])
