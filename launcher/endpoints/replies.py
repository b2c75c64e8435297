"""What an endpoint sends its clients: answers, whole or in parts, and errors in the shape of SageMaker Runtime's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from launcher.s3_server.connections import Connection

_MESSAGE_CHARACTERS = 2048
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class RefusedError(Exception):
    """A request that is answered with an error, as SageMaker Runtime does.

    Args:
        status: of the answer.
        kind: the error's name; empty where AWS gives none.
        values: members of the error besides its message.
    """

    def __init__(self, status: int, kind: str, message: str, **values: Any) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.values = {"Message": message[:_MESSAGE_CHARACTERS], "message": message[:_MESSAGE_CHARACTERS], **values}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client is sent.

    Attributes:
        parts: of an answer that is sent as it comes; None where ``body`` is all. It is closed in any case.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts: Iterator[bytes] | None = None


def json_reply(values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return an answer in JSON."""
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(values).encode())


def error_reply(error: RefusedError) -> Reply:
    """Return an error as boto3 reads it."""
    return json_reply(error.values, error.status, {"x-amzn-ErrorType": error.kind} if error.kind else {})


def send(connection: Connection, reply: Reply, *, keep_alive: bool) -> bool:
    """Send an answer; return whether all of it could be sent."""
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Error')}", _constant_lines(int(time.time()))]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if "\r" in (text := "".join(lines[2:])) or "\n" in text:
        lines[2:] = [line.replace("\r", " ").replace("\n", " ") for line in lines[2:]]
    if not keep_alive:
        lines.append("Connection: close")
    lines.append("Transfer-Encoding: chunked" if reply.parts is not None else f"Content-Length: {len(reply.body)}")
    lines.append(f"x-amzn-RequestId: {new_id()}\r\n\r\n")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    if reply.parts is None:
        connection.send(head + reply.body)
        return True
    with closing(reply.parts):  # type: ignore[type-var]
        connection.send(head)
        for part in reply.parts:
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        connection.send(b"0\r\n\r\n")
    return True


def new_id() -> str:
    """Return a random UUID."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


@lru_cache(2)
def _constant_lines(second: int) -> str:
    return "\r\n".join(
        (
            f"Date: {formatdate(second, usegmt=True)}",
            # An answer may be anything: no browser is to take it for a page of this address.
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: sandbox",
        )
    )
