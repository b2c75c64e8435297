"""How requests and answers of AWS's services are written: JSON, forms with XML, and CBOR; read strictly."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from launcher.aws import cbor
from launcher.aws.errors import AwsError
from launcher.s3_server.documents import escaped

_MAX_FIELDS = 10_000
_NAMESPACES = {
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "cloudwatch": "http://monitoring.amazonaws.com/doc/2010-08-01/",
}
_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body out of its ``Content-Encoding``.

    Raises:
        AwsError: SerializationException, RequestEntityTooLargeException.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise AwsError("SerializationException", f"Content-Encoding {encoding[:40]} is not read here.")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            text = file.read(limit + 1)
    except (OSError, EOFError) as error:
        raise AwsError("SerializationException", "The body is not gzip.") from error
    if len(text) > limit:
        raise too_large(limit)
    return text


def too_large(limit: int) -> AwsError:
    """Return the error for a body with more than ``limit`` bytes."""
    return AwsError("RequestEntityTooLargeException", f"The request body is larger than {limit} bytes.", 413)


def read_json(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty body is an empty one.

    Raises:
        AwsError: SerializationException.
    """
    if not body:
        return {}
    try:
        document = json.loads(body.decode(), parse_constant=_no_constant)
        if b"\\ud" in body.lower():
            json.dumps(document, ensure_ascii=False).encode()  # half a character, which no file could keep
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The body is not valid JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise AwsError("SerializationException", "Start of structure or map found where not expected.")
    return document


def read_cbor(body: bytes) -> dict[str, Any]:
    """Return a map of CBOR; an empty body is an empty one.

    Raises:
        AwsError: SerializationException.
    """
    if not body:
        return {}
    try:
        document = cbor.decoded(body)
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The body is not valid CBOR.") from None
    if not isinstance(document, dict):
        raise AwsError("SerializationException", "The body is no map.")
    return document


def read_form(*texts: str) -> dict[str, str]:
    """Return the fields of a query and of a form.

    Raises:
        AwsError: MalformedQueryString.
    """
    try:
        pairs = [
            pair
            for text in texts
            for pair in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        ]
    except ValueError:
        raise AwsError("MalformedQueryString", "The form is not valid, or has too many fields.", 404) from None
    return dict(pairs)


def form_document(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the document that a form is: ``A.member.1.B=x`` is ``{"A": [{"B": "x"}]}``; values are texts.

    Raises:
        AwsError: MalformedQueryString.
    """
    tree: dict[str, Any] = {}
    for name, value in form.items():
        parts = name.split(".")
        if len(parts) > 24:
            raise AwsError("MalformedQueryString", f"The field {name[:60]} is nested too deeply.", 404)
        node = tree
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                raise AwsError("MalformedQueryString", f"The field {name[:60]} has a value and members.", 404)
            node = below
        node[parts[-1]] = value
    tree.pop("Action", None)
    tree.pop("Version", None)
    document: dict[str, Any] = _with_lists(tree)
    return document


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"member"} and isinstance(value["member"], dict):
        value = value["member"]
        numbered = all(name.isascii() and name.isdecimal() and len(name) < 7 for name in value)
        if numbered:
            return [_with_lists(value[name]) for name in sorted(value, key=int)]
    return {name: _with_lists(member) for name, member in value.items()}


def json_text(document: Any) -> bytes:
    """Return a document as AWS writes JSON: times are seconds since 1970, and what is no number stays away."""
    try:
        return json.dumps(document, default=_seconds, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(document), default=_seconds, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    """Return a value with the words in place of what JSON has no numbers for, as AWS writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [_finite(member) for member in value] if isinstance(value, list | tuple) else value


def _seconds(value: object) -> float:
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def xml_answer(service: str, operation: str, document: Mapping[str, Any], request_id: str) -> bytes:
    """Return the answer to a form."""
    namespace = _NAMESPACES.get(service, "")
    return (
        f'<{operation}Response xmlns="{namespace}"><{operation}Result>{_elements(document)}</{operation}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def xml_error(service: str, code: str, message: str, status: int, request_id: str) -> bytes:
    """Return the error that a form is answered with."""
    fault = "Sender" if status < 500 else "Receiver"
    if service == "ec2":
        return (
            f"<Response><Errors><Error><Code>{escaped(code)}</Code><Message>{escaped(message)}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        ).encode()
    namespace = f' xmlns="{_NAMESPACES[service]}"' if service in _NAMESPACES else ""
    return (
        f"<ErrorResponse{namespace}><Error><Type>{fault}</Type><Code>{escaped(code)}</Code>"
        f"<Message>{escaped(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _elements(value: Any) -> str:
    match value:
        case dict():
            return "".join(
                f"<{name}>{_elements(member)}</{name}>"
                for name, member in value.items()
                if member is not None and _XML_NAME.fullmatch(name)
            )
        case list() | tuple():
            return "".join(f"<member>{_elements(member)}</member>" for member in value)
        case bool():
            return str(value).lower()
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return escaped(str(value))


def _no_constant(name: str) -> float:
    raise ValueError(name)
