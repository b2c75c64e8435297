"""SageMaker Runtime's three calls, as boto3's client has them, to the endpoints of this machine or of AWS."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.endpoints.client import EndpointClient
from launcher.endpoints.event_stream import read_messages
from launcher.endpoints.forwarding import Answer
from launcher.endpoints.replies import new_id
from launcher.errors import (
    BadInputError,
    InvocationError,
    ModelError,
    RemoteRequestError,
    UnsupportedNameError,
    UnsupportedOptionError,
)

if TYPE_CHECKING:
    from launcher.remote.client import WireClient

_PREFIX = "X-Amzn-SageMaker-"
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    **{
        name: f"{_PREFIX}{header}"
        for name, header in (
            ("CustomAttributes", "Custom-Attributes"),
            ("TargetModel", "Target-Model"),
            ("TargetVariant", "Target-Variant"),
            ("TargetContainerHostname", "Target-Container-Hostname"),
            ("InferenceId", "Inference-Id"),
            ("EnableExplanations", "Enable-Explanations"),
            ("InferenceComponentName", "Inference-Component"),
            ("SessionId", "Session-Id"),
        )
    },
}
_STREAM_HEADERS = _HEADERS | {"Accept": f"{_PREFIX}Accept"}
_ASYNC_HEADERS = {
    name: f"{_PREFIX}{header}"
    for name, header in (
        ("ContentType", "Content-Type"),
        ("Accept", "Accept"),
        ("CustomAttributes", "Custom-Attributes"),
        ("InferenceId", "Inference-Id"),
        ("InputLocation", "InputLocation"),
        ("RequestTTLSeconds", "RequestTTLSeconds"),
        ("InvocationTimeoutSeconds", "InvocationTimeoutSeconds"),
    )
}


class RuntimeClient:
    """What ``session.sagemaker_runtime_client`` is: the calls of boto3's client, with their arguments and answers.

    Args:
        home: where the endpoints live.
    """

    def __init__(self, home: Path) -> None:
        self._client = EndpointClient(home)

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there.
        if name.startswith("_"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")
        raise UnsupportedNameError(
            f"sagemaker_runtime_client.{name} is not emulated.",
            "It has: invoke_endpoint, invoke_endpoint_async, invoke_endpoint_with_response_stream.",
        )

    def invoke_endpoint(self, *, EndpointName: str, Body: Any, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Ask an endpoint; ``Body`` of the answer is a file to be read.

        Raises:
            InvocationError: the endpoint answers with an error, or not at all.
        """
        # Of a request that is sent twice, because its answer was lost, the last counts in the log.
        options.setdefault("InferenceId", new_id())
        answer = self._client.post(EndpointName, "invocations", _headers(options, _HEADERS), body_of(Body))
        return {**_answered(answer.headers), "Body": io.BytesIO(answer.body)}

    def invoke_endpoint_async(
        self, *, EndpointName: str, InputLocation: str, **options: Any  # noqa: N803
    ) -> dict[str, Any]:  # fmt: skip
        """Have an endpoint answer in S3; the answer says where.

        Raises:
            InvocationError: the endpoint answers with an error, or not at all.
        """
        headers = _headers({**options, "InputLocation": InputLocation}, _ASYNC_HEADERS)
        answer = self._client.post(EndpointName, "async-invocations", headers, b"")
        places = {
            "OutputLocation": answer.headers["x-amzn-sagemaker-outputlocation"],
            "FailureLocation": answer.headers["x-amzn-sagemaker-failurelocation"],
        }
        return {**json.loads(answer.body), **places, "ResponseMetadata": _metadata(answer)}

    def invoke_endpoint_with_response_stream(
        self, *, EndpointName: str, Body: Any, **options: Any  # noqa: N803
    ) -> dict[str, Any]:  # fmt: skip
        """Ask an endpoint; ``Body`` of the answer yields its parts as they come.

        Raises:
            InvocationError: the endpoint answers with an error, or not at all.
        """
        headers, parts = self._client.stream(EndpointName, _headers(options, _STREAM_HEADERS), body_of(Body))
        return {
            "ContentType": headers.get("x-amzn-sagemaker-content-type", ""),
            "InvokedProductionVariant": headers.get("x-amzn-invoked-production-variant", ""),
            "Body": _events(parts),
        }

    def report_reward(self, endpoint_name: str, values: Mapping[str, Any]) -> None:
        """Tell an endpoint what became of a request: the launcher's own call.

        Raises:
            InvocationError: the endpoint captures nothing, or refuses the values.
        """
        headers = {"Content-Type": "application/json"}
        self._client.post(endpoint_name, "rewards", headers, json.dumps(dict(values)).encode())


class RemoteRuntimeClient(RuntimeClient):
    """The same calls to the endpoints of AWS, by boto3's own client; its answers, and the errors of this project.

    Args:
        wire: to the place of the endpoints.
    """

    def __init__(self, wire: WireClient) -> None:
        self._wire = wire

    def invoke_endpoint(self, *, EndpointName: str, Body: Any, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Ask an endpoint; ``Body`` of the answer is a file to be read."""
        return self._ask("InvokeEndpoint", EndpointName=EndpointName, Body=body_of(Body), **options)

    def invoke_endpoint_async(
        self, *, EndpointName: str, InputLocation: str, **options: Any  # noqa: N803
    ) -> dict[str, Any]:  # fmt: skip
        """Have an endpoint answer in S3; the answer says where."""
        return self._ask("InvokeEndpointAsync", EndpointName=EndpointName, InputLocation=InputLocation, **options)

    def invoke_endpoint_with_response_stream(
        self, *, EndpointName: str, Body: Any, **options: Any  # noqa: N803
    ) -> dict[str, Any]:  # fmt: skip
        """Ask an endpoint; ``Body`` of the answer yields its parts as they come."""
        answer = self._ask("InvokeEndpointWithResponseStream", EndpointName=EndpointName, Body=body_of(Body), **options)
        return {**answer, "Body": _remote_events(answer["Body"])}

    def report_reward(self, endpoint_name: str, values: Mapping[str, Any]) -> None:
        """Refuse to report a reward.

        Raises:
            UnsupportedOptionError: always: AWS keeps none.
        """
        raise UnsupportedOptionError(
            "report_reward is not there in the mode 'aws': an endpoint of AWS keeps no rewards.",
            "Keep them by inference id, and join them with what the endpoint captured.",
        )

    def _ask(self, operation: str, **request: Any) -> dict[str, Any]:
        try:
            return self._wire.ask("sagemaker-runtime", operation, **request)
        except RemoteRequestError as error:
            answer = getattr(error.__cause__, "response", {})
            if error.aws_code == "ModelError":
                raise ModelError(
                    error.aws_code,
                    error.status,
                    error.message,
                    status_of_model=int(answer.get("OriginalStatusCode", 0)),
                    message_of_model=str(answer.get("OriginalMessage", "")),
                ) from error
            raise InvocationError(error.aws_code, error.status, error.message, error.hint) from error


def body_of(data: Any) -> bytes:
    """Return the bytes of a request's body.

    Raises:
        BadInputError: it is none.
    """
    if hasattr(data, "read"):
        data = data.read()
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise BadInputError(
        f"a {type(data).__name__} cannot be the body of a request.",
        "Give bytes, text or a file, or the predictor a serializer, such as JSONSerializer().",
    )


def _headers(options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for name, value in options.items():
        if name not in names:
            raise BadInputError(f"Parameter validation failed: Unknown parameter in input: \"{name}\".",
                                f"Use one of: {', '.join(names)}.")  # fmt: skip
        text = str(value)
        if not text.isascii() or not text.isprintable():
            raise BadInputError(f"{name}={text!r:.80} is no ASCII text.", "Headers of requests take nothing else.")
        headers[names[name]] = text
    return headers


def _answered(headers: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {"ContentType": headers.get("content-type", "application/octet-stream")}
    for name, header in (
        ("InvokedProductionVariant", "x-amzn-invoked-production-variant"),
        ("CustomAttributes", "x-amzn-sagemaker-custom-attributes"),
        ("NewSessionId", "x-amzn-sagemaker-new-session-id"),
        ("ClosedSessionId", "x-amzn-sagemaker-closed-session-id"),
    ):
        if header in headers:
            values[name] = headers[header]
    values["ResponseMetadata"] = {"HTTPStatusCode": 200, "HTTPHeaders": dict(headers)}
    return values


def _metadata(answer: Answer) -> dict[str, Any]:
    return {"HTTPStatusCode": answer.status, "HTTPHeaders": dict(answer.headers)}


def _events(parts: Iterator[bytes]) -> Iterator[dict[str, dict[str, bytes]]]:
    for headers, payload in read_messages(parts):
        if headers.get(":message-type") == "exception":
            kind = headers.get(":exception-type", "InternalStreamFailure")
            raise InvocationError(kind, 200, payload.decode("utf-8", "replace"))
        yield {"PayloadPart": {"Bytes": payload}}


def _remote_events(events: Any) -> Iterator[dict[str, Any]]:
    from launcher.storage.boto_session import CLIENT_ERRORS

    try:
        yield from events
    except CLIENT_ERRORS as error:
        raise InvocationError(type(error).__name__, 200, str(error)) from error
