"""How two launchers talk over one connection: a line of JSON, and as many bytes after it as that says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import IO, Any

from launcher import errors
from launcher.errors import LauncherError
from launcher.jobs.spec import ContainerSpec, Limits, Mount, dataclass_of

GREETING = "launcher-agent ready"
"""The first line of the other side; what a login shell prints before it is left out."""

_MAX_LINE = 1 << 28


def send(stream: IO[bytes], message: Mapping[str, Any], payload: Iterable[bytes] = (), size: int = 0) -> None:
    """Write a message, and ``size`` bytes after it."""
    stream.write(json.dumps({**message, "size": size}).encode() + b"\n")
    for chunk in payload:
        stream.write(chunk)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any]:
    """Read a message; ``size`` bytes of the stream belong to it besides.

    Raises:
        EOFError: the other side has gone.
    """
    line = stream.readline(_MAX_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    message: dict[str, Any] = json.loads(line)
    return message


class Payload:
    """The bytes that follow a message; nobody reads more of the stream than these.

    Args:
        stream: what they come from.
        size: how many they are.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int) -> bytes:
        """Return up to ``size`` of the bytes; empty at their end.

        Raises:
            EOFError: the other side has gone before their end.
        """
        data = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise EOFError
        self._left -= len(data)
        return data

    def drop(self) -> None:
        """Read the rest, which nobody wants, so that the next message can be read.

        Raises:
            EOFError: the other side has gone.
        """
        while self.read(1 << 20):
            pass


def error_message(error: LauncherError) -> dict[str, Any]:
    """Return an error as a message."""
    return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}


def error_of(values: Mapping[str, str], place: str) -> LauncherError:
    """Return the error that the other side had, with the name of that machine."""
    kind = getattr(errors, values["kind"], LauncherError)
    message = f"{place}: {values['message']}"
    try:
        error = kind(message, values["hint"])
    except TypeError:  # one with other arguments
        error = LauncherError(message, values["hint"])
    return error if isinstance(error, LauncherError) else LauncherError(message, values["hint"])


def container_values(container: ContainerSpec) -> dict[str, Any]:
    """Return a host as JSON values, without the values of its variables, which nothing has to know yet."""
    return {**asdict(container), "environment": {}, "inherited": ()}


def container_of(values: Mapping[str, Any]) -> ContainerSpec:
    """Return the host that ``container_values`` wrote."""
    given = dict(values)
    given["mounts"] = tuple(dataclass_of(Mount, mount) for mount in given["mounts"])
    given["limits"] = Limits.from_dict(given["limits"])
    for name in ("entry_point", "arguments", "inherited", "hosts", "warm_match"):
        given[name] = tuple(given[name])
    return dataclass_of(ContainerSpec, given)
