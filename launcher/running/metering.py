"""Measures what a job's hosts use while it runs, in a thread beside the driver's own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from launcher.jobs.spec import ContainerSpec
from launcher.jobs.usage import UsageSample, append_samples, latest_samples
from launcher.runtimes import Execution, HostState
from launcher.runtimes.machine import cpu_ids, memory_bytes
from launcher.trees import NoFolderError, Skipped, Tree

_FIRST_SECONDS = 0.3
_SECONDS = 1.0
_LONGEST_SECONDS = 30.0
_AGE_SHARE = 1 / 600  # between two samples, of the time that the job has been measured
_COST_SHARE = 0.01  # of one CPU: what takes longer is done less often
_DISK_SECONDS = 1.0
_QUICK_SECONDS = 0.05
_LEAVING_SECONDS = 1.0
_GIB = 1 << 30

Executions = Callable[[], Mapping[str, Execution]]


class UsageMeter:
    """Turns what executions count into samples.

    Args:
        containers: the hosts.
        volume_gb: the volume that the job asked for, in GiB.
        earlier: the last samples of a process before this one, by host.
    """

    def __init__(
        self, containers: Sequence[ContainerSpec], volume_gb: int, earlier: Mapping[str, UsageSample] | None = None
    ) -> None:
        self._containers = {container.host: container for container in containers}
        self._volume_bytes = volume_gb * _GIB
        self._began = time.time()
        self.latest = dict(earlier or {})
        self._disk_bytes = {host: sample.disk_bytes for host, sample in self.latest.items()}
        self._next_disk = self._disk_seconds = 0.0

    def sample(self, executions: Mapping[str, Execution]) -> list[UsageSample]:
        """Return a sample of each host that somebody knows something of."""
        self._measure_disk()
        samples = []
        for host, execution in executions.items():
            usage = None if execution.state() is HostState.ENDED else execution.usage()
            if usage is None:
                continue
            now, before = time.time(), self.latest.get(host)
            seconds = now - (before.time if before else self._began)
            spent = usage.cpu_seconds - (before.cpu_seconds if before else 0.0)
            if spent < 0:  # the host was started again
                spent = usage.cpu_seconds
            allowed = self._containers[host].limits.memory_bytes or memory_bytes()
            disk = self._disk_bytes.get(host, 0)
            percent = min(100 * spent / max(seconds, 0.001), 100.0 * len(cpu_ids()))
            sample = UsageSample(
                time=round(now, 3),
                host=host,
                cpu_percent=round(percent, 1),
                memory_percent=round(100 * usage.memory_bytes / allowed, 2),
                disk_percent=round(100 * disk / self._volume_bytes, 2),
                cpu_seconds=round(usage.cpu_seconds, 3),
                memory_bytes=usage.memory_bytes,
                memory_peak_bytes=max(
                    usage.memory_bytes, usage.memory_peak_bytes, before.memory_peak_bytes if before else 0
                ),
                disk_bytes=disk,
            )
            samples.append(sample)
            self.latest[host] = sample
        return samples

    def totals(self, executions: Mapping[str, Execution]) -> dict[str, dict[str, float]]:
        """Return what hosts that have ended used in all, by host: CPU seconds, and bytes of memory and disk."""
        if self._disk_seconds < _QUICK_SECONDS:
            self._next_disk = 0.0
            self._measure_disk()
        totals = {}
        for host, execution in executions.items():
            usage, last = execution.usage(), self.latest.get(host)
            if usage is None and last is None:
                continue
            cpu = [usage.cpu_seconds if usage else 0.0, last.cpu_seconds if last else 0.0]
            memory = [usage.memory_peak_bytes if usage else 0, last.memory_peak_bytes if last else 0]
            totals[host] = {
                "cpu_seconds": round(max(cpu), 3),
                "memory_peak_bytes": max(memory),
                "disk_bytes": self._disk_bytes.get(host, 0),
            }
        return totals

    def _measure_disk(self) -> None:
        """Add up what the hosts have written; a tree of many files is looked at less often."""
        began = time.monotonic()
        if began < self._next_disk:
            return
        for host, container in self._containers.items():
            with contextlib.suppress(NoFolderError), Tree.open(Path(container.tree_path)) as tree:
                self._disk_bytes[host] = sum(entry.status.st_blocks for entry in tree.walk(Skipped().add)) * 512
        now = time.monotonic()
        self._disk_seconds = now - began
        self._next_disk = now + max(_DISK_SECONDS, self._disk_seconds / _COST_SHARE)


@contextlib.contextmanager
def measured(
    containers: Sequence[ContainerSpec], volume_gb: int, path: Path, executions: Executions, *, since: float
) -> Iterator[UsageMeter]:
    """Write samples to a file as long as the ``with`` block lasts.

    Args:
        containers: the hosts.
        volume_gb: the volume that the job asked for, in GiB.
        path: the file; samples of a driver before this one stay in it.
        executions: returns the hosts that run, by name; called from another thread.
        since: when they were started at the earliest, in seconds since 1970: samples before are of other hosts.
    """
    earlier = {host: sample for host, sample in latest_samples(path).items() if sample.time >= since}
    meter = UsageMeter(containers, volume_gb, earlier)
    ended = threading.Event()

    def measure() -> None:
        began, pause = time.monotonic(), _FIRST_SECONDS
        while not ended.wait(pause):
            before, spent = time.monotonic(), time.thread_time()
            samples = meter.sample(executions())
            if samples and not ended.is_set():
                with contextlib.suppress(OSError):  # a full disk: the job goes on without a sample
                    append_samples(path, samples)
            pause = min(max(_SECONDS, (before - began) * _AGE_SHARE), _LONGEST_SECONDS)
            pause = max(pause, (time.thread_time() - spent) / _COST_SHARE)

    thread = threading.Thread(target=measure, name="usage", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        ended.set()
        thread.join(_LEAVING_SECONDS)
