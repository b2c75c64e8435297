"""The HTTP application: three paths, and an answer with a reason to everything that goes wrong."""

import asyncio
import contextlib
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_server.errors import HandlerError, RequestError
from model_server.handlers import Answer, Handlers, RequestContext
from model_server.settings import MIB, REAL_TIME_PAYLOAD_BYTES, ServerSettings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Our own functions answer a body of this size in well under a millisecond: less than a thread costs.
INLINE_BODY_BYTES = 16 * 1024
REQUESTS_PER_WORKER = 4  # one is worked on while others are on their way
CLIENT_CLOSED, TIMED_OUT = 499, 504


class Application:
    """ASGI application of one worker, whose model is loaded.

    Attributes:
        handlers: what answers.
        is_closing: whether each answer shall be the last one of its connection.
        is_stuck: whether a request ran into the timeout; its thread may never end, so the process should be replaced.
    """

    def __init__(self, handlers: Handlers, settings: ServerSettings) -> None:
        self.handlers, self._settings = handlers, settings
        self._runs_inline = handlers.are_ours and settings.batch_size == 1
        self._turn = asyncio.Lock()  # the functions see one request at a time, as with SageMaker's toolkits
        self._executor = ThreadPoolExecutor(1, "handlers")
        self._batches = _Batches(self._predict_batch, settings)
        self.is_closing = False
        self.is_stuck = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        method, path = scope["method"], scope["path"]
        try:
            if path == "/invocations":
                if method != "POST":
                    raise RequestError(f"{method} /invocations: use POST.", 405)
                await self._invoke(scope, receive, send)
            elif path in ("/ping", "/execution-parameters"):
                if method not in ("GET", "HEAD"):
                    raise RequestError(f"{method} {path}: use GET.", 405)
                body = b"" if path == "/ping" else execution_parameters(self._settings)
                await self._send(send, 200, body, "application/json")
            else:
                raise RequestError(f"{path} is not served; there are /ping, /invocations, /execution-parameters.", 404)
        except RequestError as error:
            log(f"{error.status} {method} {path}: {error}")
            await self._send_error(send, error.status, str(error))
        except HandlerError as error:
            # Some toolkits' exceptions say which status they mean.
            status = getattr(error.__cause__, "status_code", None)
            status = status if isinstance(status, int) and 400 <= status <= 599 else 500
            log(f"{status} {method} {path}: {error}", error.__cause__)
            await self._send_error(send, status, str(error))

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = await self._read_body(headers, receive)
        if body is None:
            return
        content_type, accept = self.handlers.check(headers.get("content-type", ""), headers.get("accept", ""))
        context = RequestContext(headers, self._settings.model)
        if self._runs_inline and len(body) <= INLINE_BODY_BYTES:
            answer = self._answer(body, content_type, accept, context)
        elif self._settings.batch_size > 1:
            inputs = await self._run(self.handlers.read_input, body, content_type, context)
            outputs = await self._batches.predict(inputs, context)
            prediction = self.handlers.finish(outputs, context)
            answer = await self._run(self.handlers.write_output, prediction, accept, context)
        else:
            answer = await self._run(self._answer, body, content_type, accept, context)
        extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in context.answer_headers.items()]
        if isinstance(answer.body, bytes):
            await self._send(send, 200, answer.body, answer.content_type, extra)
        else:
            await self._stream(send, answer.body, answer.content_type, extra)

    def _answer(self, body: bytes, content_type: str, accept: str, context: RequestContext) -> Answer:
        handlers = self.handlers
        if handlers.transforms_whole:
            return handlers.transform(body, content_type, accept, context)
        outputs = handlers.predict(handlers.read_input(body, content_type, context), context)
        return handlers.write_output(handlers.finish(outputs, context), accept, context)

    async def _read_body(self, headers: dict[str, str], receive: Receive) -> bytes | None:
        """Return the request's body; None where the client went away first.

        Raises:
            RequestError: it is larger than allowed, or encoded.
        """
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise RequestError(f"Content-Encoding {encoding!r} is not read here; send the body as it is.", 415)
        limit = self._settings.max_body_bytes
        if limit and int(headers.get("content-length", "0")) > limit:
            raise RequestError(_too_large(limit), 413)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message["body"]
            if limit and len(body) > limit:
                raise RequestError(_too_large(limit), 413)
            return body
        parts, size = [], 0
        while message["type"] == "http.request":
            parts.append(message["body"])
            size += len(message["body"])
            if limit and size > limit:
                raise RequestError(_too_large(limit), 413)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()
        return None

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function that may take long in the thread for that, when it is this request's turn.

        Raises:
            RequestError: 504, it took longer than the timeout. Its thread goes on, and others get a new one.
        """
        seconds = self._settings.timeout_seconds
        async with self._turn:
            work = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
            try:
                return await asyncio.wait_for(work, seconds)
            except TimeoutError as error:
                if not work.cancelled():
                    raise  # the function's own
                self._executor.shutdown(wait=False)
                self._executor = ThreadPoolExecutor(1, "handlers")
                self.is_stuck = True
                raise RequestError(
                    f"the model took longer than {seconds:g} s (SAGEMAKER_MODEL_SERVER_TIMEOUT).", TIMED_OUT
                ) from error

    async def _predict_batch(self, inputs: Any, context: RequestContext) -> Any:
        return await self._run(self.handlers.predict, inputs, context)

    async def _stream(
        self, send: Send, parts: Iterator[Any], content_type: str, extra: list[tuple[bytes, bytes]]
    ) -> None:
        """Send an answer part by part; what fails after the first is cut off, as its status has been sent."""
        first = await self._run(_next_part, parts)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers(content_type, None, extra)})
        part = first
        while part is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = await self._run(_next_part, parts)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers(
        self, content_type: str, length: int | None, extra: list[tuple[bytes, bytes]] | None = None
    ) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", content_type.encode("latin-1"))]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if self.is_closing:
            headers.append((b"connection", b"close"))
        return headers + extra if extra else headers

    async def _send(
        self, send: Send, status: int, body: bytes, content_type: str, extra: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        headers = self._headers(content_type, len(body), extra)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_error(self, send: Send, status: int, message: str) -> None:
        with contextlib.suppress(RuntimeError):  # a part of the answer has been sent already: the connection is cut
            await self._send(send, status, json.dumps({"error": message}).encode(), "application/json")


def execution_parameters(settings: ServerSettings) -> bytes:
    """Return what batch transform asks for before it begins."""
    payload = (settings.max_body_bytes or REAL_TIME_PAYLOAD_BYTES) // MIB
    parameters = {
        "MaxConcurrentTransforms": settings.workers * REQUESTS_PER_WORKER,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": max(1, min(payload, REAL_TIME_PAYLOAD_BYTES // MIB)),
    }
    return json.dumps(parameters).encode()


def log(line: str, cause: BaseException | None = None) -> None:
    """Write one line on stderr, below the traceback of ``cause``; in one piece, as several workers write there."""
    text = "".join(traceback.format_exception(cause)) if cause is not None else ""
    sys.stderr.write(f"{text}serve: {line}\n")
    sys.stderr.flush()


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes."


def _next_part(parts: Iterator[Any]) -> bytes | None:
    try:
        part = next(parts, None)
    except Exception as error:
        raise HandlerError(
            f"the answer's next part could not be made: {traceback.format_exception_only(error)[-1].strip()}"
        ) from error
    if part is None:
        return None
    return part.encode() if isinstance(part, str) else bytes(part)


class _Batches:
    """Gathers the inputs of several requests for one prediction.

    Those that are arrays of records of one shape and type are put together until there are enough records or the first
    has waited long enough; anything else is predicted by itself.
    """

    def __init__(self, predict: Callable[[Any, RequestContext], Awaitable[Any]], settings: ServerSettings) -> None:
        self._predict, self._settings = predict, settings
        self._waiting: dict[Any, list[tuple[NDArray[Any], RequestContext, asyncio.Future[Any]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def predict(self, inputs: Any, context: RequestContext) -> Any:
        """Return the outputs for the inputs of one request."""
        if not isinstance(inputs, np.ndarray) or inputs.ndim < 1:
            return await self._predict(inputs, context)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        key = (inputs.shape[1:], inputs.dtype.str)
        waiting = self._waiting.setdefault(key, [])
        waiting.append((inputs, context, future))
        if sum(len(array) for array, _, _ in waiting) >= self._settings.batch_size:
            self._begin(key, waiting)
        elif len(waiting) == 1:
            loop.call_later(self._settings.batch_milliseconds / 1000, self._begin, key, waiting)
        return await future

    def _begin(self, key: Any, waiting: list[tuple[NDArray[Any], RequestContext, "asyncio.Future[Any]"]]) -> None:
        if self._waiting.get(key) is not waiting:
            return  # began when it was full
        del self._waiting[key]
        task = asyncio.ensure_future(self._predict_together(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _predict_together(
        self, waiting: list[tuple[NDArray[Any], RequestContext, "asyncio.Future[Any]"]]
    ) -> None:
        arrays = [array for array, _, _ in waiting]
        total = sum(map(len, arrays))
        try:
            outputs = await self._predict(np.concatenate(arrays), waiting[0][1])
            if len(outputs) != total:
                raise HandlerError(f"predict_fn returned {len(outputs)} outputs for {total} records")
        except Exception as error:  # noqa: BLE001 - handed to the requests
            if len(waiting) == 1 or isinstance(error, RequestError):
                for _, _, future in waiting:
                    if not future.done():
                        future.set_exception(error)
                return
            for request in waiting:  # one request's records may have spoilt it for the others
                await self._predict_together([request])
            return
        start = 0
        for array, _, future in waiting:
            if not future.done():
                future.set_result(outputs[start : start + len(array)])
            start += len(array)
