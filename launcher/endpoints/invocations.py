"""SageMaker Runtime's operations on one endpoint: what goes to the container, what comes back, and what is captured."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping

from launcher.endpoints.capture import Capture, Event
from launcher.endpoints.event_stream import CONTENT_TYPE as EVENT_STREAM
from launcher.endpoints.event_stream import payload_part, stream_error
from launcher.endpoints.forwarding import Answer, AnswerTimeoutError, AnswerTooLongError, NoAnswerError
from launcher.endpoints.replies import RefusedError, Reply, new_id
from launcher.endpoints.routing import Instance, NoInstanceError, OpenAnswer, Routes, UnknownVariantError
from launcher.settings import ACCOUNT_ID, REGION

MAX_PAYLOAD_BYTES = 6_291_456
INVOCATION_SECONDS = 60.0
# Headers, in lower case as they are looked up.
INFERENCE_ID = "x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
_TO_CONTAINER = {
    "content-type": "Content-Type",
    "accept": "Accept",
    CUSTOM_ATTRIBUTES: "X-Amzn-SageMaker-Custom-Attributes",
    "x-amzn-sagemaker-target-container-hostname": "X-Amzn-SageMaker-Target-Container-Hostname",
    TARGET_VARIANT: "X-Amzn-SageMaker-Target-Variant",
    INFERENCE_ID: "X-Amzn-SageMaker-Inference-Id",
    "x-amzn-sagemaker-session-id": "X-Amzn-SageMaker-Session-Id",
}
_BACK = {
    CUSTOM_ATTRIBUTES: "X-Amzn-SageMaker-Custom-Attributes",
    "x-amzn-sagemaker-new-session-id": "X-Amzn-SageMaker-New-Session-Id",
    "x-amzn-sagemaker-closed-session-id": "X-Amzn-SageMaker-Closed-Session-Id",
}
_REFUSED = {
    "x-amzn-sagemaker-target-model": "multi-model endpoints are not emulated; deploy an endpoint for each model",
    "x-amzn-sagemaker-inference-component": "inference components are not emulated; use production variants",
    "x-amzn-sagemaker-enable-explanations": "explanations are not emulated; leave EnableExplanations out",
}


class Invocations:
    """Answers invocations of an endpoint.

    Attributes:
        capture: where requests and answers are written; None where they are not. May be exchanged.
        serving: whether the endpoint answers at all.
        is_asynchronous: whether it answers in S3 alone.
    """

    def __init__(self, endpoint_name: str, routes: Routes, capture: Capture | None = None) -> None:
        self.endpoint_name = endpoint_name
        self.routes = routes
        self.capture = capture
        self.serving = True
        self.is_asynchronous = False

    def check_serving(self) -> None:
        """Refuse a request of an endpoint that is being made or deleted.

        Raises:
            RefusedError: it is; the words are AWS's.
        """
        if not self.serving:
            raise RefusedError(
                400, "ValidationError", f"Endpoint {self.endpoint_name} of account {ACCOUNT_ID} not found."
            )

    def invoke(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer InvokeEndpoint, as ``answer`` does.

        Raises:
            RefusedError: as ``answer``, or the endpoint answers in S3 alone.
        """
        self.check_serving()
        if self.is_asynchronous:
            raise RefusedError(
                400,
                "ValidationError",
                f"Endpoint {self.endpoint_name} is asynchronous; call InvokeEndpointAsync, or AsyncPredictor.predict.",
            )
        return self.answer(headers, body)

    def answer(self, headers: Mapping[str, str], body: bytes, *, seconds: float = INVOCATION_SECONDS) -> Reply:
        """Answer a request, and capture it.

        Args:
            headers: of the request, their names in lower case.
            seconds: for the answer.
        Raises:
            RefusedError: what SageMaker Runtime answers with an error.
        """
        instance, answer = self._asked(headers, body, seconds)
        event_id = new_id()
        self._captured(event_id, headers, body, instance.variant, answer.body, answer.headers.get("content-type", ""))
        back = _returned(answer.headers, instance.variant, headers.get(INFERENCE_ID) or event_id)
        if "content-type" in answer.headers:
            back["Content-Type"] = answer.headers["content-type"]
        return Reply(200, back, answer.body)

    def _asked(self, headers: Mapping[str, str], body: bytes, seconds: float) -> tuple[Instance, Answer]:
        request = container_request(headers, body)
        try:
            instance, answer = self.routes.ask(request, headers.get(TARGET_VARIANT), seconds, MAX_PAYLOAD_BYTES)
        except (UnknownVariantError, NoInstanceError, NoAnswerError) as error:
            raise self._refusal(error) from error
        if answer.status >= 300:
            raise self._model_error(answer.status, answer.body.decode("utf-8", "replace"))
        return instance, answer

    def stream(self, headers: Mapping[str, str], body: bytes, *, seconds: float = INVOCATION_SECONDS) -> Reply:
        """Answer InvokeEndpointWithResponseStream: the parts of the answer as messages, as the container sends them.

        Raises:
            RefusedError: what SageMaker Runtime answers with an error before the stream begins.
        """
        self.check_serving()
        deadline = time.monotonic() + seconds
        asked = dict(headers)
        if "x-amzn-sagemaker-accept" in asked:
            asked["accept"] = asked.pop("x-amzn-sagemaker-accept")
        target = headers.get(TARGET_VARIANT)
        try:
            instance, answer = self.routes.open(container_request(asked, body), target, deadline)
        except (UnknownVariantError, NoInstanceError, NoAnswerError) as error:
            raise self._refusal(error) from error
        if answer.status >= 300:
            text = b"".join(self._raw(instance, answer, deadline)).decode("utf-8", "replace")
            raise self._model_error(answer.status, text)
        event_id = new_id()
        parts = self._messages(event_id, headers, body, instance, answer, deadline)
        back = _returned(answer.headers, instance.variant, headers.get(INFERENCE_ID) or event_id)
        back["Content-Type"] = EVENT_STREAM
        if "content-type" in answer.headers:
            back["X-Amzn-SageMaker-Content-Type"] = answer.headers["content-type"]
        return Reply(200, back, parts=parts)

    def _raw(self, instance: Instance, answer: OpenAnswer, deadline: float) -> Generator[bytes, None, None]:
        """Yield what the container sends; the request is over for it when that ends."""
        try:
            yield from answer.connection.parts(answer.status, answer.headers, deadline)
        finally:
            answer.connection.close()
            self.routes.release(instance)

    def _messages(
        self,
        event_id: str,
        headers: Mapping[str, str],
        body: bytes,
        instance: Instance,
        answer: OpenAnswer,
        deadline: float,
    ) -> Generator[bytes, None, None]:
        whole: list[bytes] = []
        try:
            for part in self._raw(instance, answer, deadline):
                whole.append(part)
                yield payload_part(part)
        except AnswerTimeoutError as error:
            yield stream_error("ModelStreamError", {"Message": str(error), "ErrorCode": "ModelInvocationTimeExceeded"})
            return
        except NoAnswerError as error:
            yield stream_error("ModelStreamError", {"Message": str(error), "ErrorCode": "StreamBroken"})
            return
        try:
            content_type = answer.headers.get("content-type", "")
            self._captured(event_id, headers, body, instance.variant, b"".join(whole), content_type)
        except RefusedError as error:
            yield stream_error("InternalStreamFailure", {"Message": str(error)})

    def _captured(
        self, event_id: str, headers: Mapping[str, str], body: bytes, variant: str, output: bytes, output_type: str
    ) -> None:
        """Write a request with its answer, where the endpoint captures.

        Raises:
            RefusedError: it cannot be written, so nobody is to see the answer.
        """
        capture = self.capture
        if capture is None:
            return
        event = Event(
            event_id=event_id,
            inference_id=headers.get(INFERENCE_ID),
            custom_attributes=headers.get(CUSTOM_ATTRIBUTES),
            variant=variant,
            input=body,
            input_type=headers.get("content-type", ""),
            output=output,
            output_type=output_type,
        )
        try:
            capture.write(event)
        except OSError as error:
            raise RefusedError(
                500, "InternalFailure", f"the answer is not given, because it could not be captured: {error}"
            ) from error

    def _refusal(self, error: Exception) -> RefusedError:
        if isinstance(error, UnknownVariantError):
            return RefusedError(
                400, "ValidationError", f"Variant {error} not found for endpoint {self.endpoint_name} of account "
                f"{ACCOUNT_ID}."
            )  # fmt: skip
        if isinstance(error, NoInstanceError):
            return RefusedError(
                503, "ServiceUnavailable", f"no container of endpoint {self.endpoint_name} answers; {self._log}"
            )
        if isinstance(error, AnswerTimeoutError):
            return self._model_error(
                0, "Your invocation timed out while waiting for a response from container primary."
            )
        if isinstance(error, AnswerTooLongError):
            return self._model_error(0, f"The response is larger than {MAX_PAYLOAD_BYTES} bytes.")
        return self._model_error(0, str(error))

    def _model_error(self, status: int, text: str) -> RefusedError:
        whose = "client" if 400 <= status < 500 else "server"
        message = text[:1500]
        return RefusedError(
            424,
            "ModelError",
            f'Received {whose} error ({status}) from primary with message "{message}". {self._log} in account '
            f"{ACCOUNT_ID} for more information.",
            OriginalStatusCode=status,
            OriginalMessage=text[:2048],
            LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/sagemaker/Endpoints/{self.endpoint_name}",
        )

    @property
    def _log(self) -> str:
        return f"See: launcher endpoints logs {self.endpoint_name}"


def container_request(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the request that a container gets: the headers that SageMaker passes on, and the body as it came.

    Raises:
        RefusedError: a header asks for something that is not emulated.
    """
    if not _REFUSED.keys().isdisjoint(headers):
        name = next(name for name in _REFUSED if name in headers)
        raise RefusedError(400, "ValidationError", f"The header {name}: {_REFUSED[name]}.")
    lines = "".join([f"{_TO_CONTAINER[name]}: {headers[name]}\r\n" for name in headers if name in _TO_CONTAINER])
    head = f"POST /invocations HTTP/1.1\r\nHost: localhost:8080\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def _returned(answered: Mapping[str, str], variant: str, inference_id: str) -> dict[str, str]:
    back = {INVOKED_VARIANT: variant, "X-Amzn-SageMaker-Inference-Id": inference_id}
    for name, own in _BACK.items():
        if name in answered:
            back[own] = answered[name]
    return back
