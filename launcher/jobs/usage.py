"""What the hosts of a job use: CPU, memory and disk, a line a sample in ``usage.jsonl`` beside the log.

Each line is a JSON object, one host's numbers at one moment; a line that is not whole is passed over::

    {"time": 1763770000.1, "host": "algo-1", "cpu_percent": 153.2, "memory_percent": 12.5, "disk_percent": 0.1,
     "cpu_seconds": 12.31, "memory_bytes": 1048576, "memory_peak_bytes": 2097152, "disk_bytes": 4096}

Samples come once a second in the first ten minutes; then the pause is a 600th of the job's age, at most half a minute.
The record has the totals of each host in ``usage``: ``cpu_seconds``, ``memory_peak_bytes``, ``disk_bytes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

METRICS = {
    "CPUUtilization": "cpu_percent",
    "MemoryUtilization": "memory_percent",
    "DiskUtilization": "disk_percent",
}
"""The names that CloudWatch has for a host's numbers."""


@dataclass(frozen=True)
class UsageSample:
    """What one host of a job used at one moment.

    Attributes:
        time: in seconds since 1970.
        host: its name, such as ``algo-1``.
        cpu_percent: of one CPU, since the sample before; two busy CPUs are 200.
        memory_percent: of what the host may use: its limit, or the machine's memory.
        disk_percent: of the volume that the job asked for.
        cpu_seconds: since the host began, of all its processes and CPUs together.
        memory_bytes: of all its processes; what the system keeps of files in its cache is not counted.
        memory_peak_bytes: the most that is known of so far.
        disk_bytes: of what it has written below ``/opt/ml``; inputs that are mounted there are not counted.
    """

    time: float
    host: str
    cpu_percent: float
    memory_percent: float
    disk_percent: float
    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int
    disk_bytes: int


_END_BYTES = 64 << 10
_KINDS = {entry.name: (str,) if entry.name == "host" else (int, float) for entry in fields(UsageSample)}


def append_samples(path: Path, samples: Iterable[UsageSample]) -> None:
    """Add samples to a file.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(sample)) + "\n" for sample in samples))


def read_samples(path: Path, *, last_bytes: int = 0) -> list[UsageSample]:
    """Return the samples of a file in their order; none where there is no file.

    Args:
        path: the file.
        last_bytes: read only so many of its end; 0 reads all.
    """
    try:
        with path.open("rb") as file:
            if last_bytes:
                file.seek(max(0, path.stat().st_size - last_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    samples = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # a full disk has cut it short
            continue
        if isinstance(values, dict) and all(isinstance(values.get(name), kinds) for name, kinds in _KINDS.items()):
            samples.append(UsageSample(**{name: values[name] for name in _KINDS}))
    return samples


def latest_samples(path: Path) -> dict[str, UsageSample]:
    """Return the last sample of each host in a file, by host in the order of their numbers; reads only its end."""
    latest = {sample.host: sample for sample in read_samples(path, last_bytes=_END_BYTES)}
    return dict(sorted(latest.items(), key=lambda item: (len(item[0]), item[0])))


def added_usage(
    earlier: Mapping[str, Mapping[str, float]], last: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return the totals of hosts over several attempts: CPU seconds add up, of memory and disk the most counts.

    Args:
        earlier: of all attempts before, by host.
        last: of the last one.
    """
    totals: dict[str, dict[str, float]] = {host: dict(used) for host, used in earlier.items()}
    for host, used in last.items():
        before = totals.get(host, {})
        totals[host] = {
            name: round(before.get(name, 0.0) + value, 3) if name == "cpu_seconds" else max(before.get(name, 0), value)
            for name, value in used.items()
        }
    return totals
