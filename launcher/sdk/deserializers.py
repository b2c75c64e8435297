"""What turns the body of an answer into a program's values, with the names and the results of the SDK's classes."""

from __future__ import annotations

import abc
import codecs
import csv
import io
import json
from typing import Any, BinaryIO

from launcher.errors import BadInputError


class BaseDeserializer(abc.ABC):
    """What a deserializer of your own derives from."""

    @property
    @abc.abstractmethod
    def ACCEPT(self) -> tuple[str, ...]:  # noqa: N802 - the SDK's name
        """The content types that are asked for."""

    @abc.abstractmethod
    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return what the answer says."""


class SimpleBaseDeserializer(BaseDeserializer):
    """A deserializer whose content types can be chosen.

    Args:
        accept: the content type that is asked for, or several.
    """

    def __init__(self, accept: str | tuple[str, ...] = "*/*") -> None:
        self.accept = accept

    @property
    def ACCEPT(self) -> tuple[str, ...]:  # noqa: N802 - the SDK's name
        """The content types that are asked for."""
        return (self.accept,) if isinstance(self.accept, str) else self.accept


class StringDeserializer(SimpleBaseDeserializer):
    """The answer as text."""

    def __init__(self, encoding: str = "UTF-8", accept: str | tuple[str, ...] = "application/json") -> None:
        super().__init__(accept)
        self.encoding = encoding

    def deserialize(self, stream: Any, content_type: str) -> str:
        """Return the text."""
        return _whole(stream).decode(self.encoding)


class BytesDeserializer(SimpleBaseDeserializer):
    """The answer as it came."""

    def deserialize(self, stream: Any, content_type: str) -> bytes:
        """Return the bytes."""
        return _whole(stream)


class CSVDeserializer(SimpleBaseDeserializer):
    """Rows of text."""

    def __init__(self, encoding: str = "utf-8", accept: str | tuple[str, ...] = "text/csv") -> None:
        super().__init__(accept)
        self.encoding = encoding

    def deserialize(self, stream: Any, content_type: str) -> list[list[str]]:
        """Return a list a row."""
        return list(csv.reader(_whole(stream).decode(self.encoding).splitlines()))


class StreamDeserializer(SimpleBaseDeserializer):
    """The answer to be read, and closed, by the caller."""

    def deserialize(self, stream: Any, content_type: str) -> tuple[Any, str]:
        """Return the stream and its content type."""
        return stream, content_type


class NumpyDeserializer(SimpleBaseDeserializer):
    """An array, from NPY, NPZ, CSV or JSON.

    Args:
        dtype: of the array, for CSV and JSON.
        allow_pickle: whether objects are unpickled, which runs code of whoever wrote the answer.
    """

    def __init__(
        self, dtype: Any = None, accept: str | tuple[str, ...] = "application/x-npy", allow_pickle: bool = False
    ) -> None:
        super().__init__(accept)
        self.dtype = dtype
        self.allow_pickle = allow_pickle

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return the array; of NPZ, what ``numpy.load`` returns.

        Raises:
            BadInputError: another content type, or objects without ``allow_pickle``.
        """
        import numpy as np

        data, kind = _whole(stream), _media_type(content_type)
        if kind == "text/csv":
            return np.genfromtxt(io.StringIO(data.decode()), delimiter=",", dtype=self.dtype)
        if kind == "application/json":
            return np.array(json.loads(data), dtype=self.dtype)
        if kind in ("application/x-npy", "application/x-npz"):
            try:
                return np.load(io.BytesIO(data), allow_pickle=self.allow_pickle)
            except ValueError as error:
                raise BadInputError(
                    f"the answer is no array that can be read: {error}.",
                    "An array of objects needs NumpyDeserializer(allow_pickle=True), if you trust the endpoint.",
                ) from error
        raise _unreadable(self, content_type)


class JSONDeserializer(SimpleBaseDeserializer):
    """What JSON says."""

    def __init__(self, accept: str | tuple[str, ...] = "application/json") -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return the value."""
        return json.loads(_whole(stream).decode("utf-8"))


class JSONLinesDeserializer(SimpleBaseDeserializer):
    """A value a line."""

    def __init__(self, accept: str | tuple[str, ...] = "application/jsonlines") -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str) -> list[Any]:
        """Return the values."""
        return [json.loads(line) for line in _whole(stream).decode("utf-8").rstrip().split("\n")]


class PandasDeserializer(SimpleBaseDeserializer):
    """A frame, from CSV with a header, or JSON by columns."""

    def __init__(self, accept: str | tuple[str, ...] = ("text/csv", "application/json")) -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return the frame.

        Raises:
            BadInputError: another content type.
        """
        import pandas as pd

        data, kind = _whole(stream), _media_type(content_type)
        if kind == "text/csv":
            return pd.read_csv(io.BytesIO(data))
        if kind == "application/json":
            return pd.read_json(io.StringIO(codecs.decode(data, "utf-8")))
        raise _unreadable(self, content_type)


def _whole(stream: BinaryIO) -> bytes:
    try:
        return stream.read()
    finally:
        stream.close()


def _media_type(content_type: str) -> str:
    """Return a content type without its parameters: servers write ``application/json; charset=utf-8``."""
    return content_type.partition(";")[0].strip().lower()


def _unreadable(deserializer: BaseDeserializer, content_type: str) -> BadInputError:
    return BadInputError(
        f"{type(deserializer).__name__} cannot read an answer of the type {content_type!r:.80}.",
        "Ask for another by accept, or use another deserializer.",
    )
