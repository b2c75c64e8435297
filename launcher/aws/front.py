"""The front of the local AWS: finds out what a request asks, has it answered, and writes the answer.

SageMaker's operations are the launcher's own, and loaded when the first of them is asked; requests to endpoints go to
the endpoint's own process; other services have a few operations of their own and moto behind them. What nobody here
answers is refused by its name.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from launcher.aws import cbor, wire_formats
from launcher.aws.errors import AwsError, aws_error, not_emulated
from launcher.aws.hosts import ASKED_BY_NAME
from launcher.aws.refusals import protocol_of, refusal
from launcher.aws.services import (
    BY_VERSION,
    JOINED_LISTS,
    OWN_OPERATIONS,
    RUNTIME,
    SERVICES,
    rpc_operation,
    runtime_call,
    served_services,
    service_of,
    signed_service,
)
from launcher.aws_domains import is_aws_host
from launcher.errors import LauncherError
from launcher.running.spawner import Spawner
from launcher.s3_server.access import Key, SignedRequest, check_signature
from launcher.s3_server.body import Body
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Response
from launcher.s3_server.wire import Head

if TYPE_CHECKING:
    from launcher.aws.moto_services import MotoServices

MAX_BODY_BYTES = 8 << 20
_TAG_OPERATIONS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
# What the server says of a request, in the words of services that are not S3.
_CODES: Mapping[str, str] = {
    "AccessDenied": "AccessDeniedException",
    "AuthorizationHeaderMalformed": "IncompleteSignatureException",
    "IncompleteBody": "SerializationException",
    "InternalError": "InternalFailure",
    "InvalidAccessKeyId": "UnrecognizedClientException",
    "InvalidRequest": "ValidationException",
    "MaxMessageLengthExceeded": "RequestEntityTooLargeException",
    "RequestTimeTooSkewed": "InvalidSignatureException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "SlowDown": "ThrottlingException",
}
_STATUS = {"MaxMessageLengthExceeded": 413}


@dataclass(frozen=True)
class _Call:
    """A request of one of the services, read.

    Attributes:
        protocol: ``json``, ``query``, ``cbor`` or ``rest-json``.
        form: the fields of a request by ``query``.
    """

    service: str
    operation: str
    protocol: str
    head: Head
    body: bytes
    form: Mapping[str, str]


class LocalAws:
    """What the server of the embedded S3 serves besides S3.

    Args:
        home: where jobs and all other things live.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._moto: MotoServices | None = None
        self._lock = threading.Lock()
        self._spawner = Spawner(home)
        self._spawner.keep()

    def service_of(self, head: Head) -> str:
        """Return the service that a request is for; empty where it is S3's."""
        return service_of(head)

    def answer(self, service: str, head: Head, body: Body, key: Key | None) -> Response:
        """Answer a request, and refuse it in the service's own words.

        Raises:
            S3Error: it is not well-formed, or not signed.
        """
        protocol = protocol_of(service, head)
        try:
            text = body.text(limit=_limit(service))
            if key is not None:
                digest = hashlib.sha256(text).hexdigest()
                signed = SignedRequest(
                    head.method, head.target, head.headers, service=signed_service(service), digest=digest
                )
                check_signature(signed, key)
            if service == RUNTIME:
                return self._invoke(head, text)
            call = _read(service, protocol, head, text)
            ASKED_BY_NAME.set(is_aws_host(head.headers.get("host", "").partition(":")[0]))
            return self._respond(call)
        except AwsError as error:
            return refusal(service, protocol, error)
        except LauncherError as error:
            return refusal(service, protocol, aws_error(error))

    def refusal(self, service: str, head: Head, error: S3Error, status: int) -> Response:
        """Return the answer to a request that was refused, in the shape in which this service says so."""
        words = error.words.replace("The embedded S3", "The local AWS").replace("the embedded S3", "the local AWS")
        known_status = _STATUS.get(error.code, status)
        answered = AwsError(_CODES.get(error.code, error.code), words, known_status)
        return refusal(service, protocol_of(service, head), answered)

    def _respond(self, call: _Call) -> Response:
        if call.service not in SERVICES:
            served = ", ".join(("s3", *served_services()))
            raise not_emulated(f"The local AWS does not serve {call.service}. It serves: {served}.")
        if call.service == "sagemaker":
            if call.protocol != "json" or call.head.method != "POST":
                path = call.head.target.partition("?")[0][:200]
                raise AwsError("UnknownOperationException", f"There is no {call.head.method} {path} here.", 404)
            from launcher.aws import sagemaker

            with self._lock:
                self._spawner.keep()
            return _success(call, sagemaker.answer(call.operation, wire_formats.read_json(call.body), self._home))
        place = OWN_OPERATIONS.get((call.service, call.operation))
        if place is not None:
            module, _, function = place.partition(":")
            answer = getattr(import_module(module), function)(_document(call), self._home)
            if answer is not None:
                return _success(call, self._joined(call, answer))
        if not SERVICES[call.service].host:
            operation = call.operation or call.head.target.partition("?")[0][:100]
            raise not_emulated(f"{operation} of {call.service} is not served by the local AWS.")
        return self._by_moto(call)

    def _joined(self, call: _Call, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer with what moto keeps behind what is the launcher's own, where it is a list of both."""
        member, token = JOINED_LISTS.get((call.service, call.operation), ("", ""))
        if not member or answer.get(token) or call.protocol == "query" or not self._moto_services().holds_anything:
            return answer
        document = {name: value for name, value in _document(call).items() if name != token}
        entries, values = list(answer[member]), {token: ""}
        while token in values and values[token] is not None:
            page = {token: values[token]} if values[token] else {}
            values = self._moto_values(call, {**document, **page})
            entries += values.get(member, ())
        return {**answer, member: entries}

    def _by_moto(self, call: _Call) -> Response:
        if call.protocol == "cbor":  # moto does not read it, and CloudWatch speaks JSON as well
            return _success(call, self._moto_values(call, wire_formats.read_cbor(call.body)))
        if call.protocol == "json":
            wire_formats.read_json(call.body)
        headers = call.head.headers.as_dict()
        status, answered, text = self._ask_moto(call, call.head.target, headers, call.body)
        answered.setdefault("content-type", _content_type(call.protocol, call.head))
        passed = {name: value for name, value in answered.items() if name.startswith(("x-amz", "content-type"))}
        return Response(status, passed, text)

    def _moto_values(self, call: _Call, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return moto's answer to a request in JSON, with ``datetime`` for a time.

        Raises:
            AwsError: it refuses.
        """
        from launcher.aws.moto_services import with_times

        target = f"{SERVICES[call.service].target}.{call.operation}"
        headers = call.head.headers.as_dict() | {"content-type": "application/x-amz-json-1.0", "x-amz-target": target}
        status, answered, text = self._ask_moto(call, "/", headers, wire_formats.json_text(document))
        values = json.loads(text or b"{}")
        if status < 300:
            return with_times(call.service, call.operation, values)
        code = values.get("__type") or answered.get("x-amzn-errortype") or "InternalFailure"
        raise AwsError(code.rpartition("#")[2], values.get("message") or values.get("Message") or "", status)

    def _ask_moto(
        self, call: _Call, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        return self._moto_services().ask(call.service, call.operation, call.head.method, target, headers, body)

    def _moto_services(self) -> MotoServices:
        with self._lock:
            if self._moto is None:
                from launcher.aws.moto_services import MotoServices

                self._moto = MotoServices(self._home)
            return self._moto

    def _invoke(self, head: Head, body: bytes) -> Response:
        from launcher.aws.invoking import forward

        name, last_part = runtime_call(head)
        return forward(self._home, unquote(name), last_part, head.headers.as_dict(), body)


def _limit(service: str) -> int:
    """Return how many bytes a request may have."""
    if service != RUNTIME:
        return MAX_BODY_BYTES
    from launcher.endpoints.invocations import MAX_PAYLOAD_BYTES

    return MAX_PAYLOAD_BYTES


def _read(service: str, protocol: str, head: Head, body: bytes) -> _Call:
    """Return what a request asks.

    Raises:
        AwsError: it does not say so, or in no way that is read here.
    """
    body = wire_formats.unpacked(body, head.headers.get("content-encoding", "").strip().lower(), MAX_BODY_BYTES)
    form: Mapping[str, str] = {}
    if protocol == "json":
        operation = head.headers.get("x-amz-target", "").partition(".")[2]
    elif protocol == "cbor":
        operation = rpc_operation(head)
    elif protocol == "query":
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise AwsError("MalformedQueryString", "The form is not valid.", 404) from None
        if service not in SERVICES:
            return _Call(service, "", protocol, head, body, form)
        form = wire_formats.read_form(head.target.partition("?")[2], text)
        operation = form.get("Action", "")
        service = BY_VERSION.get(form.get("Version", ""), service)
        if not operation:
            raise AwsError("MissingAction", "The request names no Action.", 400)
    else:
        operation = _rest_operation(service, head)
    return _Call(service, operation, protocol, head, body, form)


def _rest_operation(service: str, head: Head) -> str:
    """Return the operation that a path names; empty where no operation of ours has such a path."""
    path = head.target.partition("?")[0]
    if path.startswith("/v1/tags/"):
        return _TAG_OPERATIONS.get(head.method, "")
    names = {f"/v1/{name.lower()}": name for owner, name in OWN_OPERATIONS if owner == service}
    return names.get(path, "") if head.method == "POST" else ""


def _document(call: _Call) -> dict[str, Any]:
    """Return what a request says, as JSON would.

    Raises:
        AwsError: it cannot be read.
    """
    if call.protocol == "cbor":
        return wire_formats.read_cbor(call.body)
    if call.protocol != "query":
        document = wire_formats.read_json(call.body)
        path, _, query = call.head.target.partition("?")
        if call.protocol == "rest-json" and path.startswith("/v1/tags/"):
            document["resourceArn"] = unquote(path.removeprefix("/v1/tags/"))
            document |= {name: values for name, values in parse_qs(query).items() if name == "tagKeys"}
        return document
    document = wire_formats.form_document(call.form)
    if call.service != "cloudwatch":
        return document
    from launcher.aws.moto_services import typed_input

    return typed_input(call.service, call.operation, document)


def _content_type(protocol: str, head: Head) -> str:
    if protocol == "json":
        is_older = "json-1.0" in head.headers.get("content-type", "")
        return "application/x-amz-json-1.0" if is_older else "application/x-amz-json-1.1"
    return {"cbor": "application/cbor", "query": "text/xml"}.get(protocol, "application/json")


def _success(call: _Call, document: Mapping[str, Any]) -> Response:
    request_id = str(uuid.uuid4())
    headers = {"Content-Type": _content_type(call.protocol, call.head), "x-amzn-RequestId": request_id}
    if call.protocol == "cbor":
        return Response(200, headers | {"smithy-protocol": "rpc-v2-cbor"}, cbor.encoded(dict(document)))
    if call.protocol == "query":
        return Response(200, headers, wire_formats.xml_answer(call.service, call.operation, document, request_id))
    return Response(200, headers, wire_formats.json_text(document))
