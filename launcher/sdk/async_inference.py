"""Asynchronous endpoints, with the SDK's classes: requests and answers that lie in S3."""

from __future__ import annotations

import io
import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import AsyncInferenceError, BadInputError, UnsupportedOptionError
from launcher.sdk.predictor import Predictor
from launcher.sdk.runtime_client import body_of
from launcher.storage import to_uri

if TYPE_CHECKING:
    from launcher.sdk.session import Session

_SOON_SECONDS = 0.1


class AsyncInferenceConfig:
    """Where an asynchronous endpoint writes its answers.

    Args:
        output_path: ``s3://``; None takes ``async-endpoint-outputs`` in the session's bucket.
        max_concurrent_invocations_per_instance: how many requests a container gets at once; None: 4.
        failure_path: for errors; None takes ``output_path``.
    Raises:
        UnsupportedOptionError: ``kms_key_id`` or ``notification_config`` is given.
    """

    def __init__(
        self,
        output_path: str | None = None,
        max_concurrent_invocations_per_instance: int | None = None,
        kms_key_id: str | None = None,
        notification_config: Mapping[str, Any] | None = None,
        failure_path: str | None = None,
    ) -> None:
        for name, value, instead in (
            ("kms_key_id", kms_key_id, "Leave it out: answers stay on this machine's disk; encrypt that."),
            ("notification_config", notification_config, "Leave it out: there are no topics; call get_result()."),
        ):
            if value is not None:
                raise UnsupportedOptionError(f"AsyncInferenceConfig({name}={value!r}) is not emulated.", instead)
        self.output_path = output_path
        self.max_concurrent_invocations_per_instance = max_concurrent_invocations_per_instance
        self.kms_key_id = None
        self.notification_config = None
        self.failure_path = failure_path

    def to_request_dict(self, session: Session) -> dict[str, Any]:
        """Return the member AsyncInferenceConfig of a request."""
        output = {"S3OutputPath": self.output_path or f"{session.default_output_uri()}/async-endpoint-outputs"}
        if self.failure_path is not None:
            output["S3FailurePath"] = self.failure_path
        request: dict[str, Any] = {"OutputConfig": output}
        if self.max_concurrent_invocations_per_instance:
            request["ClientConfig"] = {
                "MaxConcurrentInvocationsPerInstance": self.max_concurrent_invocations_per_instance
            }
        return request


class WaiterConfig:
    """How long to wait for an answer: ``max_attempts`` times ``delay`` seconds; it is looked for more often."""

    def __init__(self, max_attempts: int = 60, delay: float = 15) -> None:
        self.max_attempts = max_attempts
        self.delay = delay


class AsyncInferenceResponse:
    """An answer that will lie in S3.

    Attributes:
        output_path: its URI.
        failure_path: of what is written in its place where the container answers with an error; empty for none.
    """

    def __init__(self, predictor_async: AsyncPredictor, output_path: str, failure_path: str) -> None:
        self.predictor_async = predictor_async
        self.output_path = output_path
        self.failure_path = failure_path
        self._result: Any = None

    def get_result(self, waiter_config: WaiterConfig | None = None) -> Any:
        """Return the answer.

        Args:
            waiter_config: how long to wait for it; None does not wait.
        Raises:
            AsyncInferenceError: there is none yet, or the container answered with an error.
        """
        if self._result is None:
            seconds = waiter_config.max_attempts * waiter_config.delay if waiter_config else 0.0
            self._result = self.predictor_async.result_at(self.output_path, self.failure_path, seconds)
        return self._result


class AsyncPredictor:
    """Asks an asynchronous endpoint.

    Args:
        predictor: of the endpoint.
        name: part of the keys that requests are uploaded to; None takes the endpoint's.
    """

    def __init__(self, predictor: Predictor, name: str | None = None) -> None:
        self.predictor = predictor
        self.endpoint_name = predictor.endpoint_name
        self.sagemaker_session = predictor.sagemaker_session
        self.name = name

    @property
    def serializer(self) -> Any:
        """The predictor's."""
        return self.predictor.serializer

    @serializer.setter
    def serializer(self, value: Any) -> None:
        self.predictor.serializer = value

    @property
    def deserializer(self) -> Any:
        """The predictor's."""
        return self.predictor.deserializer

    @deserializer.setter
    def deserializer(self, value: Any) -> None:
        self.predictor.deserializer = value

    def predict(
        self,
        data: Any = None,
        input_path: str | None = None,
        initial_args: Mapping[str, Any] | None = None,
        inference_id: str | None = None,
        waiter_config: WaiterConfig | None = None,
    ) -> Any:
        """Return the answer, when it is there; the arguments are those of ``predict_async``.

        Raises:
            AsyncInferenceError: the container answered with an error, or not in time.
        """
        response = self.predict_async(data, input_path, initial_args, inference_id)
        return response.get_result(waiter_config or WaiterConfig())

    def predict_async(
        self,
        data: Any = None,
        input_path: str | None = None,
        initial_args: Mapping[str, Any] | None = None,
        inference_id: str | None = None,
    ) -> AsyncInferenceResponse:
        """Send a request, and return where its answer will be.

        Args:
            data: what the serializer takes; it is uploaded.
            input_path: the ``s3://`` URI of a request, or where ``data`` is uploaded to.
        Raises:
            BadInputError: neither is given.
        """
        if data is None and input_path is None:
            raise BadInputError("there is nothing to predict from.", "Give data, or the input_path of an object.")
        arguments = dict(initial_args or {})
        arguments.setdefault("ContentType", self.predictor.content_type)
        accept = self.predictor.accept
        arguments.setdefault("Accept", accept if isinstance(accept, str) else ", ".join(accept))
        if inference_id:
            arguments["InferenceId"] = inference_id
        if data is not None:
            input_path = self._uploaded(data, input_path)
        answer = self.sagemaker_session.sagemaker_runtime_client.invoke_endpoint_async(
            **{"EndpointName": self.endpoint_name, "InputLocation": input_path, **arguments}
        )
        return AsyncInferenceResponse(self, answer["OutputLocation"], answer.get("FailureLocation", ""))

    def result_at(self, output_path: str, failure_path: str, seconds: float) -> Any:
        """Return what was answered, once it is there. The launcher's own.

        Raises:
            AsyncInferenceError: the container answered with an error, or not in so many seconds.
        """
        storage, deadline = self.sagemaker_session._storage_of(to_uri(output_path)), time.monotonic() + seconds
        while True:
            for path in filter(None, (output_path, failure_path)):
                if storage.exists(path):
                    data = _read(storage, path)
                    if path == failure_path:
                        raise AsyncInferenceError(_failure(data), f"See: {failure_path}")
                    accept = self.predictor.accept
                    kind = accept if isinstance(accept, str) else accept[0]
                    return self.predictor.deserializer.deserialize(io.BytesIO(data), kind)
            if time.monotonic() >= deadline:
                raise AsyncInferenceError(
                    f"there is no answer at {output_path} yet.", "Wait: get_result(WaiterConfig(max_attempts=...))"
                )
            time.sleep(_SOON_SECONDS)

    def update_endpoint(self, **options: Any) -> None:
        """Change the endpoint, as ``Predictor.update_endpoint`` does."""
        self.predictor.update_endpoint(**options)

    def delete_endpoint(self, delete_endpoint_config: bool = True) -> None:
        """End the endpoint, as ``Predictor.delete_endpoint`` does."""
        self.predictor.delete_endpoint(delete_endpoint_config)

    def delete_model(self) -> None:
        """Delete the models that the endpoint serves."""
        self.predictor.delete_model()

    def _uploaded(self, data: Any, input_path: str | None) -> str:
        session = self.sagemaker_session
        uri = input_path or (
            f"{session.default_output_uri()}/async-endpoint-inputs/{self.name or self.endpoint_name}/{uuid.uuid4()}"
        )
        with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
            path = Path(folder, "input")
            path.write_bytes(body_of(self.predictor.serializer.serialize(data)))
            session._storage_of(to_uri(uri)).put_file(path, uri)
        return uri


def _read(storage: Any, uri: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
        path = Path(folder, "object")
        storage.download_all({uri: path})
        return path.read_bytes()


def _failure(data: bytes) -> str:
    try:
        return str(json.loads(data)["Message"])
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace")[:500]
