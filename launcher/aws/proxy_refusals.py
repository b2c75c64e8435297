"""How a request for an AWS service that is not served is refused: as the local AWS itself says it."""

from __future__ import annotations

from http import HTTPStatus

from launcher.aws import refusals
from launcher.aws.errors import not_emulated
from launcher.aws.proxy_hosts import SERVED
from launcher.s3_server.wire import Head


def refusal(head: Head, service: str, host: str) -> bytes:
    """Return the whole answer to a request, after which the connection ends."""
    error = not_emulated(
        f"{service} ({host}) is not one of the AWS services that the launcher serves on this machine, and nothing was "
        f"sent to AWS. Served here: {', '.join(sorted(SERVED.values()))}."
    )
    response = refusals.refusal(service, refusals.protocol_of(service, head), error)
    body = b"" if head.method == "HEAD" else response.body
    return answer(HTTPStatus(response.status), body, Connection="close", **response.headers)


def answer(status: HTTPStatus, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer of HTTP/1.1; keywords are headers."""
    lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1", "replace") + body
