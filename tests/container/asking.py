"""The application of a model server inside a test, without a socket or a process."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from model_server.app import Application
from model_server.handlers import Handlers
from model_server.policy import ServedPolicy
from model_server.settings import read_settings


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def tilted_policy() -> ServedPolicy:
    """Two values in, two actions; the first one's probability is 0.25 where the first value is negative, else 0.75."""

    def program(observations):
        first = np.where(observations[:, 0] < 0, 0.25, 0.75)
        first = np.where(np.isfinite(observations).all(axis=1), first, np.nan)
        return np.stack([first, 1 - first], axis=1).astype(np.float32)

    return ServedPolicy(program, 2, 2)


def policy_application(**variables: str) -> Application:
    """An application that serves ``tilted_policy``."""
    settings = read_settings(variables)
    handlers = Handlers(settings, None)
    handlers.model = tilted_policy()
    return Application(handlers, settings)


def code_application(tree: Any, code: str, **variables: str) -> Application:
    """An application with the functions of ``code/inference.py`` in the model folder, loaded."""
    program = tree.write("model/code/inference.py", code)
    settings = read_settings(variables)
    handlers = Handlers(settings, program)
    handlers.load()
    return Application(handlers, settings)


async def exchange(
    application: Application,
    body: bytes | Sequence[bytes] = b"",
    *,
    method: str = "POST",
    path: str = "/invocations",
    **headers: str,
) -> Reply:
    """Send one request; a body of several parts arrives part by part."""
    parts = [body] if isinstance(body, bytes) else list(body)
    incoming = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await application({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
    start, *rest = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], answered, b"".join(part["body"] for part in rest))


def ask(application: Application, body: bytes | Sequence[bytes] | str = b"", **headers: str) -> Reply:
    """Send one request and wait for its answer; ``content_type="text/csv"`` is a header."""
    data = body.encode() if isinstance(body, str) else body
    return asyncio.run(exchange(application, data, **headers))
