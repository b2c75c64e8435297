"""How a request is refused: in the shape in which the service that was asked says so."""

from __future__ import annotations

import uuid

from launcher.aws import cbor, wire_formats
from launcher.aws.errors import AwsError
from launcher.aws.services import SERVICES, rpc_operation
from launcher.s3_server.messages import Response
from launcher.s3_server.wire import Head

_XML_SERVICES = ("route53", "cloudfront", "s3-control")  # not served, and in a form that their clients read


def protocol_of(service: str, head: Head) -> str:
    """Return the protocol of a request: ``json``, ``query``, ``cbor`` or ``rest-json``."""
    headers = head.headers.as_dict()
    if "x-amz-target" in headers:
        return "json"
    if rpc_operation(head) or headers.get("smithy-protocol") == "rpc-v2-cbor":
        return "cbor"
    if service in SERVICES:
        return SERVICES[service].protocol
    is_xml = service.rpartition(".")[2] in _XML_SERVICES or "form-urlencoded" in headers.get("content-type", "")
    return "query" if is_xml else "rest-json"


def refusal(service: str, protocol: str, error: AwsError) -> Response:
    """Return the answer that says an error."""
    request_id = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": request_id}
    if protocol == "query":
        code = error.code.removesuffix("Exception") if error.code.startswith("AccessDenied") else error.code
        text = wire_formats.xml_error(service, code, error.message, error.status, request_id)
        return Response(error.status, headers | {"Content-Type": "text/xml"}, text)
    members = {"__type": error.code, "message": error.message, "Message": error.message}
    if protocol == "cbor":
        headers |= {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        headers["x-amzn-query-error"] = f"{error.code};{'Sender' if error.status < 500 else 'Receiver'}"
        return Response(error.status, headers, cbor.encoded(members))
    headers |= {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": error.code}
    return Response(error.status, headers, wire_formats.json_text(members))
