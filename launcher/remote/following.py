"""A job of another place, seen through to its end: its status, and its hosts' logs as they grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from launcher.errors import RemoteRequestError
from launcher.remote.client import TERMINAL, TRAINING, JobKind, WireClient
from launcher.running.following import LineSink

_LEAST_SECONDS, _MOST_SECONDS, _SLOWER = 0.2, 10.0, 1.5
# CloudWatch shows a line some seconds after it was printed.
_LATE_SECONDS, _NEAR_LATE_SECONDS = 5.0, 0.0


class RemoteLogs:
    """Hands on each line of a job's logs once, as they come.

    Args:
        client: of the place.
        name: the job.
        kind: of the job.
    """

    def __init__(self, client: WireClient, name: str, kind: JobKind = TRAINING) -> None:
        self._client = client
        self._name = name
        self._kind = kind
        self._tokens: dict[str, str] = {}

    def read(self, sink: LineSink) -> int:
        """Hand on what is new, host by host; return how many lines that was."""
        count = 0
        for stream, host in sorted(self._client.log_streams(self._name, self._kind).items()):
            while True:
                token = self._tokens.get(stream, "")
                events, after = self._client.log_events(stream, token, self._kind)
                self._tokens[stream] = after
                for event in events:
                    sink(host, str(event["message"]).rstrip("\r\n"))
                count += len(events)
                if after == token or not events:
                    break
        return count


def follow(
    client: WireClient,
    name: str,
    kind: JobKind = TRAINING,
    *,
    sink: LineSink | None = None,
    on_status: Callable[[dict[str, Any]], object] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Any]:
    """Wait until a job has ended; return its description.

    What is asked too often is asked again later, and so is a place that does not answer: the job goes on there.

    Args:
        sink: takes the lines of the logs; None reads none.
        on_status: gets each description.
        sleep: waits for so many seconds.
    Raises:
        RemoteRequestError: there is no such job, or it may not be looked at.
    """
    logs = RemoteLogs(client, name, kind) if sink is not None and kind.log_group else None
    seconds = _LEAST_SECONDS
    most = 1.0 if client.place.is_near else _MOST_SECONDS
    while True:
        news = 0
        try:
            description = client.describe(name, kind)
            on_status(description)
            ended = description[f"{kind.noun}Status"] in TERMINAL
            if logs is not None and sink is not None:
                if ended:
                    sleep(_NEAR_LATE_SECONDS if client.place.is_near else _LATE_SECONDS)
                news = logs.read(sink)
            if ended:
                return description
        except RemoteRequestError as error:
            if not _is_passing(error):
                raise
        seconds = _LEAST_SECONDS if news else min(seconds * _SLOWER, most)
        sleep(seconds)


def _is_passing(error: RemoteRequestError) -> bool:
    """Return whether the same request may succeed later."""
    throttled = "Throttl" in error.aws_code or error.aws_code in ("TooManyRequestsException", "RequestLimitExceeded")
    no_answer = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")
    return throttled or error.status >= 500 or error.aws_code in no_answer
