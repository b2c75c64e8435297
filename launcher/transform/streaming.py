"""Sends one object as a stream in chunks, and writes the answer as it comes: MaxPayloadInMB=0."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO

from launcher.serving.http_client import Answer, checked_header

_BLOCK_BYTES = 1 << 18
_EXCERPT_BYTES = 1 << 12
_SERVER_ERROR = 500


def stream_object(
    address: tuple[str, int],
    opened: Callable[[], AbstractContextManager[IO[bytes]]],
    target: IO[bytes],
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    retries: int,
    on_block: Callable[[], None],
) -> Answer:
    """Send an object, and write the container's answer to ``target``.

    Args:
        address: of the container.
        opened: opens the object anew for each attempt.
        target: gets the answer, if it is good.
        headers: of the request.
        timeout_seconds: for each block of the answer.
        retries: of a request that was answered by a 5xx, too late, or not at all.
        on_block: is called for each block; it may raise to give up.
    Returns:
        The status; the body is the end of a good answer, or the beginning of another.
    """
    attempts = 0
    while True:
        target.seek(0)
        target.truncate()
        attempts += 1
        connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
        try:
            with opened() as file:
                answer = _asked(connection, file, target, headers, on_block)
        except (OSError, http.client.HTTPException) as error:
            answer = Answer(0, b"", f"the container gave no answer: {error or type(error).__name__}")
        finally:
            connection.close()
        if attempts > retries or not (answer.error or answer.status >= _SERVER_ERROR):
            return answer._replace(attempts=attempts)
        time.sleep(0.1 * 2 ** (attempts - 1))


def _asked(
    connection: http.client.HTTPConnection,
    file: IO[bytes],
    target: IO[bytes],
    headers: Mapping[str, str],
    on_block: Callable[[], None],
) -> Answer:
    fields = {name: checked_header(name, value) for name, value in headers.items()}
    connection.request(
        "POST",
        "/invocations",
        body=_blocks(file, on_block),
        headers={**fields, "Transfer-Encoding": "chunked"},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    if answer.status // 100 != 2:
        return Answer(answer.status, answer.read(_EXCERPT_BYTES))
    last = b""
    while block := answer.read(_BLOCK_BYTES):
        on_block()
        target.write(block)
        last = block[-1:]
    return Answer(answer.status, last)


def _blocks(file: IO[bytes], on_block: Callable[[], None]) -> Iterator[bytes]:
    while block := file.read(_BLOCK_BYTES):
        on_block()
        yield block
