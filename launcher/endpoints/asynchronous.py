"""Requests that are answered in S3: kept as files until they are, so that none is lost with the process."""

from __future__ import annotations

import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.endpoints.files import write_whole
from launcher.endpoints.invocations import Invocations
from launcher.endpoints.replies import RefusedError, Reply, json_reply, new_id
from launcher.errors import LauncherError
from launcher.jobs.endpoint_spec import EndpointConfigSpec
from launcher.storage import Storage, recorded_storage

INPUT_LOCATION = "x-amzn-sagemaker-inputlocation"
DEFAULT_SECONDS = 900
MAX_INPUT_BYTES = 1 << 30
_PREFIX = "x-amzn-sagemaker-"
_DEFAULT_CONCURRENCY = 4
_RETRY_SECONDS = 5.0
_LOG = logging.getLogger("launcher.endpoint")


class AsyncQueue:
    """Answers requests one after the other, several at once.

    Args:
        folder: of the requests that are not answered yet.
        invocations: who answers.
    """

    def __init__(self, folder: Path, invocations: Invocations) -> None:
        self._folder = folder
        self._invocations = invocations
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._config: EndpointConfigSpec | None = None
        self._closing = threading.Event()

    def configure(self, config: EndpointConfigSpec) -> None:
        """Answer as a configuration says; the first call takes up what another process has left."""
        self._config = config
        self._invocations.is_asynchronous = bool(config.asynchronous)
        if not config.asynchronous or self._threads:
            return
        client = config.asynchronous.get("ClientConfig", {})
        instances = sum(variant.instance_count for variant in config.variants)
        count = client.get("MaxConcurrentInvocationsPerInstance", _DEFAULT_CONCURRENCY) * instances
        for path in sorted(self._folder.glob("*.json")):
            self._waiting.put(path)
        for _ in range(count):
            thread = threading.Thread(target=self._work, name="async", daemon=True)
            thread.start()
            self._threads.append(thread)

    def accept(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Take a request; it is answered even if this process is killed.

        Raises:
            RefusedError: the endpoint answers none such, or the request names no input.
        """
        config = self._config
        if config is None or not config.asynchronous:
            raise RefusedError(
                400,
                "ValidationError",
                f"Endpoint {self._invocations.endpoint_name} is not asynchronous; deploy it with AsyncInferenceConfig.",
            )
        location = headers.get(INPUT_LOCATION)
        if not location:
            raise RefusedError(400, "ValidationError", "InputLocation is missing.")
        output = config.asynchronous["OutputConfig"]
        identity = new_id()
        place = str(output["S3OutputPath"]).rstrip("/")
        failure_place = str(output.get("S3FailurePath") or place).rstrip("/")
        request = {
            "input": location,
            "output": f"{place}/{identity}.out",
            "failure": f"{failure_place}/{identity}-error.out",
            "headers": _container_headers(headers),
            "inference_id": headers.get(f"{_PREFIX}inference-id") or identity,
            "expires": time.time() + float(headers.get(f"{_PREFIX}requestttlseconds", 21600)),
            "seconds": float(headers.get(f"{_PREFIX}invocationtimeoutseconds", DEFAULT_SECONDS)),
        }
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{time.time_ns()}-{identity}.json"
        write_whole(path, request)
        self._waiting.put(path)
        return json_reply(
            {"InferenceId": request["inference_id"]},
            202,
            {
                "X-Amzn-SageMaker-OutputLocation": str(request["output"]),
                "X-Amzn-SageMaker-FailureLocation": str(request["failure"]),
            },
        )

    def close(self) -> None:
        """Begin no more requests; those that wait stay for the next process."""
        self._closing.set()
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        while (path := self._waiting.get()) is not None and not self._closing.is_set():
            try:
                self._answer(path)
            except (LauncherError, OSError) as error:
                # The answer has no place to go to now; the request stays, and is tried again.
                _LOG.warning("%s waits: %s", path.name, error)
                self._closing.wait(_RETRY_SECONDS)
                self._waiting.put(path)

    def _answer(self, path: Path) -> None:
        """Answer a request, and forget it.

        Raises:
            LauncherError, OSError: the answer could not be written to its place.
        """
        request: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        storage = self._storage(request["input"])
        with tempfile.TemporaryDirectory(prefix="launcher-async-") as folder:
            try:
                answer, place = self._asked(request, storage, Path(folder, "input")), request["output"]
            except RefusedError as error:
                answer, place = json.dumps(error.values).encode(), request["failure"]
            result = Path(folder, "result")
            result.write_bytes(answer)
            self._storage(place).put_file(result, place)
        path.unlink(missing_ok=True)

    def _asked(self, request: Mapping[str, Any], storage: Storage, scratch: Path) -> bytes:
        if time.time() > request["expires"]:
            raise RefusedError(400, "ValidationError", "The request waited for longer than RequestTTLSeconds.")
        try:
            storage.download_all({request["input"]: scratch})
        except LauncherError as error:
            raise RefusedError(400, "ValidationError", f"{request['input']} cannot be read: {error}") from error
        if scratch.stat().st_size > MAX_INPUT_BYTES:
            raise RefusedError(413, "", f"{request['input']} has more than {MAX_INPUT_BYTES} bytes.")
        reply = self._invocations.answer(request["headers"], scratch.read_bytes(), seconds=request["seconds"])
        return reply.body

    def _storage(self, uri: str) -> Storage:
        s3 = self._config.s3 if self._config else None
        return recorded_storage(uri, s3)


def _container_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an asynchronous request as an immediate one would have them."""
    passed = {name: value for name, value in headers.items() if name.startswith(_PREFIX)}
    for own, name in ((f"{_PREFIX}content-type", "content-type"), (f"{_PREFIX}accept", "accept")):
        if own in passed:
            passed[name] = passed.pop(own)
    return passed
