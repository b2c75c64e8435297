"""From hosts that run to their end."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Container, Sequence

from launcher.jobs.clock import clock_mark
from launcher.jobs.log_times import FolderTimes
from launcher.jobs.metrics import MetricRecorder
from launcher.jobs.states import STOPS, SecondaryStatus, Status, StopReason
from launcher.jobs.usage import added_usage
from launcher.running.following import LogReader
from launcher.running.metering import measured
from launcher.running.signals import HandOver
from launcher.running.stages.hosts import Hosts
from launcher.running.stages.job_state import TICK_SECONDS, HostsRecordType
from launcher.running.stages.starting import Starting
from launcher.settings import stop_grace_seconds

_SYNC_SECONDS = 1.0
_NOT_FINAL = (StopReason.NONE, StopReason.INTERRUPTED)  # why hosts end while the job may still be stopped


class Following(Starting[HostsRecordType]):
    """Follows all hosts at once to their end: hands on what they print, copies what grows, and stops them."""

    def _follow(self) -> None:
        """Follow the hosts to their end, and measure meanwhile what they use."""
        with (
            measured(
                self._plan.containers,
                self._spec.volume_size_gb,
                self._folder.usage_path,
                lambda: dict(self._executions),
                since=self._record.attempts[-1]["ended"] if self._record.attempts else 0.0,
            ) as meter,
            self._debugger_within_reach(),
        ):
            self._follow_hosts()
        earlier = self._record.attempts[-1].get("usage", {}) if self._record.attempts else {}
        self._record.usage = added_usage(earlier, meter.totals(self._executions))

    def _debugger_within_reach(self) -> contextlib.AbstractContextManager[None]:
        """Lead debuggers to the job while it is followed, where its program waits for one."""
        return contextlib.nullcontext()

    def _follow_hosts(self) -> None:
        """Wait for all hosts at once; meanwhile hand on log lines, copy what grows, and stop when asked or overdue."""
        recorder = MetricRecorder(self._spec.metric_definitions, self._folder.metrics_path)
        # Metrics are read from the log's beginning, even where a driver before this one had begun to.
        readers = [self._lines] if self._lines else []
        times = FolderTimes(self._folder)
        if self._spec.metric_definitions:
            readers.append(self._metric_reader(recorder, times))
        if (watch := self._line_watch()) is not None:
            readers.append(watch)
        hosts = Hosts(self._runtime, self._plan.containers, self._executions)
        self._faults.take_over(hosts.running)
        if self._record.stop_reason:
            self._faults.release(hosts.running)
            hosts.terminate()  # a driver before this one may have died before it could
        next_sync = time.monotonic() + _SYNC_SECONDS
        grace, killed = stop_grace_seconds(), False
        while hosts.left:
            codes = hosts.wait(TICK_SECONDS)
            self._executions |= hosts.running
            times.note()
            for reader in readers:
                reader.read()
            self._look_at(readers)
            self._interrupts.check()
            if codes:
                self._heed_stop(hosts)
            if not self._record.stop_reason and any(self._taken_away(host) for host in codes):
                self._stop(hosts, StopReason.INTERRUPTED)
            for host, code in codes.items():
                self._record.exit_codes[host] = code
                for warning in hosts.warnings:
                    self._record.warn(warning)
                if lost := self._what_took(host, code, hosts.vanished):
                    self._record.platform_failure = self._record.platform_failure or lost
                    self._record.warn(lost)
            self._tell_of_silence(hosts)
            if self._streams and not self._record.stop_reason and (reason := self._feeder.failure()):
                self._record.input_failure = reason
                self._stop(hosts, StopReason.HOST_FAILED)
            failed = next((host for host, code in codes.items() if code != 0), "")
            if failed and hosts.left and not self._record.stop_reason:
                self._stop(hosts, StopReason.HOST_FAILED)
            if codes:
                continue
            if time.monotonic() >= next_sync:
                if not self._folder.record_path.exists():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder.record_path))
                self._sync_meanwhile()
                next_sync = time.monotonic() + _SYNC_SECONDS
            self._stop_if_due(hosts)
            if not self._record.stop_reason and self._faults.look(
                self._record.seconds_since("training", None), hosts.running
            ):
                self._save()
            overdue = (
                self._record.stop_reason and self._record.seconds_since("stopping", self._record.stop_started) > grace
            )
            if (overdue or self._interrupts.count > 1) and not killed:
                killed = True
                hosts.kill()
        for reader in readers:
            reader.read(final=True)
        self._look_at(readers)
        if self._streams and not self._record.stop_reason:
            self._record.input_failure = self._feeder.failure(now=True)
        for sync in self._syncs:
            sync.wait()
        self._heed_stop(hosts)
        self._record.final_metrics = [[point.name, point.value, point.timestamp] for point in recorder.last.values()]

    def _metric_reader(self, recorder: MetricRecorder, times: FolderTimes) -> LogReader:
        """Return what hands the log to a recorder; a value that a driver before this one saw keeps its time."""
        seen = times.moments()

        def feed(host: str, line: str) -> None:
            moments = seen.get(host)
            if moments is None or reader.line_end > moments.size:
                recorder.feed(line, time.time())
            else:
                recorder.feed(line, moments.at(reader.line_end) / 1000)

        reader = LogReader(self._folder, feed, "metrics are no longer read from the log")
        return reader

    def _line_watch(self) -> LogReader | None:
        """Return what looks for the line of a log that interrupts the job; None where none does."""
        return None

    def _is_interrupted(self) -> bool:
        """Return whether the hosts are to be taken away from the job now."""
        return False

    def _taken_away(self, host: str) -> bool:
        """Return whether a host has ended because of an interruption that the job is prepared for."""
        return False

    def _what_took(self, host: str, code: int, vanished: Container[str]) -> str:
        """Return what took a host away, so that its end is no failure of the job; empty where the job ended it."""
        if host in vanished:
            return f"{host} was gone when it was looked for"
        if code == 0 or self._record.stop_reason:
            return ""
        return self._faults.killed(host) or self._lost(host)

    def _lost(self, host: str) -> str:
        """Return what took a host away that has ended; empty where it ended by itself."""
        ending = self._ending(next(entry for entry in self._plan.containers if entry.host == host))
        named = f"{host}: " if len(self._plan.containers) > 1 else ""
        return f"{named}{ending.detail}" if ending.cause.is_none_of_the_jobs else ""

    def _look_at(self, readers: Sequence[LogReader]) -> None:
        """Note which reader has lost its sink; leave the job to another driver where the caller only looked on."""
        for reader in readers:
            if reader.failure:
                if reader is self._lines and self._looking_on:
                    raise HandOver
                self._record.warn(reader.failure)

    def _tell_of_silence(self, hosts: Hosts) -> None:
        """Note since when the runtime does not answer, and when it answers again."""
        self._note_silence(hosts.silence)

    def _stop_if_due(self, hosts: Hosts) -> None:
        if self._record.stop_reason not in _NOT_FINAL:
            return
        if self._folder.stop_requested() or self._interrupts.count:
            self._stop(hosts, StopReason.ASKED)
        elif self._record.training_seconds > self._spec.max_run_seconds:
            self._stop(hosts, StopReason.MAX_RUNTIME_EXCEEDED)
        elif overdue := self._overdue():
            self._stop(hosts, overdue)
        elif not self._record.stop_reason and self._is_interrupted():
            self._stop(hosts, StopReason.INTERRUPTED)

    def _stop(self, hosts: Hosts, reason: StopReason) -> None:
        had_reason, self._record.stop_reason = self._record.stop_reason, reason
        if not had_reason:
            self._record.stop_started, self._record.marks["stopping"] = time.time(), clock_mark()
        if STOPS[reason] is not None:
            self._note(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
        self._faults.release(hosts.running)
        self._save()
        if not had_reason:
            hosts.terminate()

    def _heed_stop(self, hosts: Hosts) -> None:
        """Let a stop count that was asked for before the end of the hosts is recorded: others were told of it."""
        if self._folder.stop_requested() and self._record.stop_reason in _NOT_FINAL:
            self._stop(hosts, StopReason.ASKED)

    def _sync_meanwhile(self) -> None:
        for sync in self._syncs:
            if warning := sync.run_meanwhile():
                self._record.warn(warning)
