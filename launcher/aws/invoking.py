"""Requests to endpoints: handed to the endpoint's own process as they are, and its answers handed back."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path

from launcher.aws.errors import AwsError
from launcher.endpoints.client import EndpointClient
from launcher.errors import EndpointFailedError, InvocationError
from launcher.s3_server.messages import Response
from launcher.settings import ACCOUNT_ID

# Of the connection between client and this server, or a secret between the two.
_NOT_FORWARDED = frozenset({
    "authorization", "connection", "content-encoding", "content-length", "date", "expect", "host", "keep-alive",
    "server", "te", "trailer", "transfer-encoding", "upgrade", "x-amz-content-sha256", "x-amz-date",
    "x-amz-security-token",
})  # fmt: skip
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_clients: dict[Path, EndpointClient] = {}
_lock = threading.Lock()


def forward(home: Path, name: str, operation: str, headers: Mapping[str, str], body: bytes) -> Response:
    """Return an endpoint's answer to a request.

    Args:
        operation: the last part of the path, such as ``invocations``.
        headers: of the request, their names in lower case.
    Raises:
        AwsError: there is no such endpoint, it has failed, or it does not answer.
    """
    if not _NAME.fullmatch(name):
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{name[:100]}' at 'endpointName' failed to "
            f"satisfy constraint: Member must satisfy regular expression pattern: {_NAME.pattern}",
        )
    with _lock:
        client = _clients.setdefault(home, EndpointClient(home))
    sent = {header: value for header, value in headers.items() if header not in _NOT_FORWARDED}
    try:
        status, answered, parts = client.forward(name, operation, sent, body)
    except InvocationError as error:
        details = error.response["ResponseMetadata"]
        status = int(details["HTTPStatusCode"]) if isinstance(details, dict) else 400
        raise AwsError(error.aws_code, error.message, status) from error
    except EndpointFailedError as error:
        raise AwsError("ValidationError", f"Endpoint {name} of account {ACCOUNT_ID} not found. {error}") from error
    passed = {header: value for header, value in answered.items() if header not in _NOT_FORWARDED}
    if operation != "invocations-response-stream" or status >= 300:
        return Response(status, passed, b"".join(parts))
    return Response(status, passed, parts=parts)
