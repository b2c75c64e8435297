"""How a request for an AWS service that is not served is refused: in the shape in which that service says so."""

from __future__ import annotations

import json
from http import HTTPStatus
from xml.sax.saxutils import escape

from launcher.proxy.hosts import SERVED
from launcher.s3_server.wire import Head

CODE = "NotEmulated"


def refusal(head: Head, service: str, host: str) -> bytes:
    """Return the whole answer to a request, after which the connection ends.

    Status 400 and a code of our own: a client of AWS raises it at once, where it would try again after a 5xx.
    """
    message = (
        f"{service} ({host}) is not one of the AWS services that the launcher serves on this machine, and nothing was "
        f"sent to AWS. Served here: {', '.join(sorted(SERVED.values()))}."
    )
    headers = {"Connection": "close", "x-amzn-RequestId": "0", "x-amzn-ErrorType": CODE}
    content_type = head.headers.get("Content-Type", "")
    if head.headers.get("smithy-protocol") == "rpc-v2-cbor":
        headers |= {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        body = b"\xa2" + b"".join(map(_cbor_text, ("__type", CODE, "message", message)))
    elif "X-Amz-Target" in head.headers or "json" in content_type:
        headers |= {"Content-Type": content_type or "application/x-amz-json-1.1"}
        body = json.dumps({"__type": CODE, "code": CODE, "message": message}).encode()
    else:
        headers |= {"Content-Type": "text/xml"}
        error = f"<Code>{CODE}</Code><Message>{escape(message)}</Message>"
        if service == "ec2":
            text = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>0</RequestID></Response>"
        elif content_type.startswith("application/x-www-form-urlencoded"):
            text = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>0</RequestId></ErrorResponse>"
        else:
            text = f"<Error>{error}<RequestId>0</RequestId></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return answer(HTTPStatus.BAD_REQUEST, b"" if head.method == "HEAD" else body, **headers)


def answer(status: HTTPStatus, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer of HTTP/1.1; keywords are headers."""
    lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1", "replace") + body


def _cbor_text(text: str) -> bytes:
    """Return a text in CBOR. Source: RFC 8949, section 3.1, major type 3."""
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 + len(data)]) + data
    return b"\x79" + len(data).to_bytes(2, "big") + data
