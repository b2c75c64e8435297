"""The hosts of a job, waited for at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from launcher.errors import LauncherError, RuntimeUnavailableError
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import Execution, HostState, Runtime

LOOKING_SECONDS = 2.0  # between two questions to a runtime that does not answer
_KILLED = 128 + signal.SIGKILL


class Hosts:
    """The hosts of a job that have not ended, waited for at once, whether or not their runtime answers.

    Args:
        runtime: finds a host again that this process did not start, or has lost.
        containers: every host of the job.
        executions: those that this process has started.

    Attributes:
        running: the hosts that answer.
        lost: the hosts whose state is unknown.
        vanished: the hosts of which nothing is left.
        warnings: what their executions had to say when they ended.
        silence: why the runtime does not answer; empty while it does.
    """

    def __init__(
        self, runtime: Runtime, containers: Sequence[ContainerSpec], executions: Mapping[str, Execution]
    ) -> None:
        self._runtime = runtime
        self._containers = {container.host: container for container in containers}
        self.running = dict(executions)
        self.lost = {host: container for host, container in self._containers.items() if host not in executions}
        self._next_look = 0.0
        self._signals: list[Callable[[Execution], None]] = []
        self.vanished: set[str] = set()
        self._ended: dict[str, float] = {}
        self.warnings: list[str] = []
        self.silence = ""

    @property
    def left(self) -> bool:
        """Whether any host has not ended."""
        return bool(self.running or self.lost)

    def wait(self, seconds: float) -> dict[str, int]:
        """Wait until a host has ended, at most ``seconds``; return the exit codes of those that have, in that order."""
        codes = self._look_again()
        silence = ""
        if not self.running and not codes:
            time.sleep(seconds)
        for host, execution in list(self.running.items()):
            try:
                code = execution.wait(0 if codes else seconds / len(self.running))
            except (RuntimeUnavailableError, OSError) as error:
                silence = _text(error)
                del self.running[host]
                self.lost[host] = self._containers[host]
                continue
            if code is not None:
                codes[host] = code
                self.warnings += [execution.warning] if execution.warning else []
                self._ended[host] = execution.ending().time
                del self.running[host]
            elif execution.state() is HostState.LOST:
                silence = f"{host} cannot be reached"
        if silence or not self.lost:
            self.silence = silence
        return dict(sorted(codes.items(), key=lambda ended: self._ended.get(ended[0], 0.0)))

    def terminate(self) -> None:
        """Send SIGTERM to all hosts, to a lost host as soon as it is found."""
        self._signal(lambda execution: execution.terminate())

    def kill(self) -> None:
        """Kill all hosts, a lost host as soon as it is found."""
        self._signal(lambda execution: execution.kill())

    def _signal(self, send: Callable[[Execution], None]) -> None:
        self._signals.append(send)
        for execution in self.running.values():
            self._send(execution, [send])

    def _send(self, execution: Execution, signals: Sequence[Callable[[Execution], None]]) -> None:
        for send in signals:
            try:
                send(execution)
            except (RuntimeUnavailableError, OSError) as error:
                self.silence = _text(error)

    def _look_again(self) -> dict[str, int]:
        """Look for lost hosts; a host of which nothing is left counts as killed."""
        codes: dict[str, int] = {}
        if not self.lost or time.monotonic() < self._next_look:
            return codes
        for host, container in list(self.lost.items()):
            try:
                execution = self._runtime.find(container)
            except (RuntimeUnavailableError, OSError) as error:
                self.silence = _text(error)
                self._next_look = time.monotonic() + LOOKING_SECONDS
                continue
            del self.lost[host]
            if execution is None:
                codes[host] = _KILLED
                self.vanished.add(host)
            else:
                self.running[host] = execution
                self._send(execution, self._signals)
        return codes


def _text(error: Exception) -> str:
    return error.message if isinstance(error, LauncherError) else str(error)
