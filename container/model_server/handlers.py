"""The functions that answer a request: the user's own, in the style of SageMaker's toolkits, or the defaults.

``model_fn``, ``input_fn``, ``predict_fn`` and ``output_fn`` may be overridden one by one, or the last three together by
``transform_fn``.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from model_server.errors import HandlerError, RequestError, ServingError
from model_server.formats import (
    CONTENT_TYPES,
    chosen_accept,
    chosen_content_type,
    decode_any,
    decode_observations,
    encode,
)
from model_server.policy import ServedPolicy, choose_actions, has_exported_policy, load_policy, read_attributes
from model_server.programs import DEFAULT_PROGRAM
from model_server.settings import ServerSettings

HANDLER_ARGUMENTS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_TEXT_TYPES = ("application/json", "application/jsonlines", "text/csv", "text/plain")


class Answer(NamedTuple):
    """The body of an answer, or the parts of one that is streamed."""

    body: bytes | Iterator[Any]
    content_type: str


class RequestContext:
    """What a function of the user's may ask about a request, when it takes one argument more.

    Attributes:
        headers: of the request, names in lower case.
        system_properties: ``model_dir``.
        answer_headers: of the answer, besides those that the server sets.
    """

    def __init__(self, headers: Mapping[str, str], model_dir: Path) -> None:
        self.headers = headers
        self.system_properties = {"model_dir": str(model_dir)}
        self.answer_headers: dict[str, str] = {}

    def get_request_header(self, index: int, name: str) -> str | None:
        """Return a header of the request; ``index`` is always 0, as one request is answered at a time."""
        return self.headers.get(name.lower())

    def set_response_header(self, index: int, name: str, value: str) -> None:
        """Add a header to the answer, such as ``X-Amzn-SageMaker-Custom-Attributes``."""
        self.answer_headers[name.lower()] = str(value)


class Handlers:
    """The user's functions and the defaults for the others.

    Args:
        settings: of the server.
        program: file with the user's functions; None: the defaults alone.
    Raises:
        HandlerError: the file cannot be imported.
        ServingError: its functions do not fit together.
    """

    def __init__(self, settings: ServerSettings, program: Path | None) -> None:
        self._settings = settings
        self._own: dict[str, Callable[..., Any]] = {}
        self._takes_context: dict[str, bool] = {}
        self.model: Any = None
        if program is not None:
            module = _import_program(program)
            for name, count in HANDLER_ARGUMENTS.items():
                function = getattr(module, name, None)
                if function is not None:
                    self._own[name] = function
                    self._takes_context[name] = _takes_context(function, name, count, program)
            if "transform_fn" in self._own and {"input_fn", "predict_fn", "output_fn"} & set(self._own):
                raise ServingError(f"{program}: it has transform_fn, and functions that it stands for. Keep either.")
        if "transform_fn" in self._own and settings.batch_size > 1:
            raise ServingError("LAUNCHER_SERVE_BATCH_SIZE needs a predict_fn for several requests, not a transform_fn.")
        self._generator = np.random.default_rng()

    @property
    def are_ours(self) -> bool:
        """Whether no function is the user's: then each takes well under a millisecond for a few records."""
        return not self._own

    @property
    def transforms_whole(self) -> bool:
        """Whether the user's ``transform_fn`` does everything."""
        return "transform_fn" in self._own

    @property
    def names(self) -> list[str]:
        """The user's functions."""
        return list(self._own)

    def load(self) -> None:
        """Load the model.

        Raises:
            ServingError: there is none that can be loaded without a ``model_fn``.
            HandlerError: ``model_fn`` raised.
        """
        folder = self._settings.model
        if "model_fn" in self._own:
            self.model = self._call("model_fn", RequestContext({}, folder), str(folder))
        elif has_exported_policy(folder):
            self.model = load_policy(folder)
        elif not self.transforms_whole:
            present = sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else []
            raise ServingError(
                f"{folder} holds {', '.join(present) or 'nothing'}: neither model.json, which train.py writes, nor "
                f"code/{DEFAULT_PROGRAM} with a model_fn."
            )

    def check(self, content_type: str, accept: str) -> tuple[str, str]:
        """Return the formats of a request and its answer; those of the user's own functions as they were sent.

        Raises:
            RequestError: 415 or 406, our functions do not know them.
        """
        default = self._settings.default_accept
        if "output_fn" not in self._own and not self.transforms_whole:
            accept = chosen_accept(accept, default)
        elif not accept or accept == "*/*":
            accept = default
        if "input_fn" not in self._own and not self.transforms_whole:
            content_type = chosen_content_type(content_type)
        return content_type or "application/json", accept

    def transform(self, body: bytes, content_type: str, accept: str, context: RequestContext) -> Answer:
        """Answer by the user's ``transform_fn``."""
        result = self._call("transform_fn", context, self.model, _as_sent(body, content_type), content_type, accept)
        return _answer(result, accept)

    def read_input(self, body: bytes, content_type: str, context: RequestContext) -> Any:
        """Return what ``predict`` takes."""
        if "input_fn" in self._own:
            return self._call("input_fn", context, _as_sent(body, content_type), content_type)
        if not body:
            raise RequestError("the body is empty.")
        if isinstance(self.model, ServedPolicy):
            return decode_observations(body, content_type, self.model.observation_size)
        return decode_any(body, content_type)

    def predict(self, inputs: Any, context: RequestContext) -> Any:
        """Return the model's outputs; ``finish`` makes the prediction of them."""
        if "predict_fn" in self._own:
            return self._call("predict_fn", context, inputs, self.model)
        if not callable(self.model):
            raise HandlerError(f"the model, a {type(self.model).__name__}, cannot be called; write a predict_fn")
        try:
            return self.model(inputs)
        except Exception as error:
            raise HandlerError(f"the model raised {_last_line(error)}") from error

    def finish(self, outputs: Any, context: RequestContext) -> Any:
        """Return the prediction of one request."""
        if "predict_fn" in self._own or not isinstance(self.model, ServedPolicy):
            return outputs
        choice, seed = read_attributes(context.headers.get(CUSTOM_ATTRIBUTES, ""), self._settings.policy)
        generator = self._generator if seed is None else np.random.default_rng(seed)
        return choose_actions(outputs, choice, generator)

    def write_output(self, prediction: Any, accept: str, context: RequestContext) -> Answer:
        """Return the answer's body."""
        if "output_fn" in self._own:
            return _answer(self._call("output_fn", context, prediction, accept), accept)
        if isinstance(prediction, Iterator):
            return Answer(prediction, accept)
        try:
            return Answer(encode(prediction, accept), accept)
        except (TypeError, ValueError) as error:
            raise HandlerError(f"the prediction cannot be written as {accept}: {error}") from error

    def _call(self, name: str, context: RequestContext, *arguments: Any) -> Any:
        if self._takes_context[name]:
            arguments = (*arguments, context)
        try:
            return self._own[name](*arguments)
        except Exception as error:
            raise HandlerError(f"{name} raised {_last_line(error)}") from error


def _import_program(program: Path) -> ModuleType:
    sys.path.insert(0, str(program.parent))
    specification = importlib.util.spec_from_file_location(program.stem, program)
    if specification is None or specification.loader is None:
        raise ServingError(f"{program} is no Python file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[program.stem] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise HandlerError(f"{program.name} cannot be imported: {_last_line(error)}") from error
    return module


def _takes_context(function: Any, name: str, count: int, program: Path) -> bool:
    """Return whether a function takes one argument more than it must."""
    if not callable(function):
        raise ServingError(f"{program}: {name} is no function.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # a builtin that does not tell
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in places if p.default is p.empty]
    if len(needed) > count + 1 or len(places) < count:
        raise ServingError(f"{program}: {name} must take {count} arguments, or {count + 1} with the request's context.")
    return len(needed) == count + 1 or (len(places) > count and places[count].name == "context")


def _as_sent(body: bytes, content_type: str) -> bytes | str:
    """Return the body as SageMaker's toolkits hand it over: text of the types that are text."""
    if content_type.partition(";")[0].strip().lower() in _TEXT_TYPES:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(f"byte {error.start + 1} of the body is not UTF-8.") from error
    return body


def _answer(result: Any, accept: str) -> Answer:
    """Return the answer for what a function of the user's returned: a body, or a body and its Content-Type."""
    content_type = accept
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], str):
        result, content_type = result
    if isinstance(result, str):
        result = result.encode()
    if isinstance(result, bytes | bytearray | memoryview):
        return Answer(bytes(result), content_type)
    if isinstance(result, Iterator):
        return Answer(result, content_type)
    try:
        return Answer(encode(result, content_type if content_type in CONTENT_TYPES else CONTENT_TYPES[0]), content_type)
    except (TypeError, ValueError) as error:
        raise HandlerError(f"what output_fn returned cannot be sent as {content_type}: {error}") from error


def _last_line(error: Exception) -> str:
    return traceback.format_exception_only(error)[-1].strip()
