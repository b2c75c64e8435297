"""What turns a program's values into the body of a request, with the names and the results of the SDK's classes."""

from __future__ import annotations

import abc
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, UnsupportedOptionError

if TYPE_CHECKING:
    import numpy as np


class BaseSerializer(abc.ABC):
    """What a serializer of your own derives from."""

    @property
    @abc.abstractmethod
    def CONTENT_TYPE(self) -> str:  # noqa: N802 - the SDK's name
        """The content type of the request."""

    @abc.abstractmethod
    def serialize(self, data: Any) -> Any:
        """Return the body of a request: bytes, text, or a file to be read."""


class SimpleBaseSerializer(BaseSerializer):
    """A serializer whose content type can be chosen.

    Args:
        content_type: of the request.
    """

    def __init__(self, content_type: str = "application/json") -> None:
        if not isinstance(content_type, str):
            raise BadInputError(
                f"{type(self).__name__}(content_type={content_type!r}) is no text.", 'For example: "text/csv".'
            )
        self.content_type = content_type

    @property
    def CONTENT_TYPE(self) -> str:  # noqa: N802 - the SDK's name
        """The content type of the request."""
        return self.content_type


class CSVSerializer(SimpleBaseSerializer):
    """Lists, arrays, frames, text and files to CSV: a row, or a row for each inner sequence; no header."""

    def __init__(self, content_type: str = "text/csv") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return the rows as text; a file's content as it is."""
        if hasattr(data, "read"):
            return data.read()
        if hasattr(data, "to_csv"):
            return data.to_csv(header=False, index=False)
        if hasattr(data, "__setitem__") and _is_sequence(data) and len(data) > 0 and _is_sequence(data[0]):
            return "\n".join(_csv_row(row) for row in data)
        return _csv_row(data)


class NumpySerializer(SimpleBaseSerializer):
    """Arrays, lists and files to the format NPY.

    Args:
        dtype: of the array that a list becomes.
    """

    def __init__(self, dtype: Any = None, content_type: str = "application/x-npy") -> None:
        super().__init__(content_type)
        self.dtype = dtype

    def serialize(self, data: Any) -> Any:
        """Return the array's bytes; a file's content as it is.

        Raises:
            BadInputError: there is nothing in it.
        """
        import numpy as np

        if hasattr(data, "read"):
            return data.read()
        array = data if isinstance(data, np.ndarray) else np.array(data, self.dtype if isinstance(data, list) else None)
        if array.size == 0:
            raise BadInputError("an empty array cannot be serialized.", "Send at least one value.")
        return _npy(array)


class JSONSerializer(SimpleBaseSerializer):
    """Values, arrays and mappings of arrays to JSON."""

    def serialize(self, data: Any) -> Any:
        """Return the text; a file's content as it is."""
        if hasattr(data, "read"):
            return data.read()
        if isinstance(data, dict):
            return json.dumps({key: _as_list(value) for key, value in data.items()})
        return json.dumps(_as_list(data))


class JSONLinesSerializer(SimpleBaseSerializer):
    """An iterable of values to JSON Lines, a line each."""

    def __init__(self, content_type: str = "application/jsonlines") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return the lines; text, and a file's content, as they are.

        Raises:
            BadInputError: the value has no items.
        """
        if isinstance(data, str):
            return data
        if hasattr(data, "read"):
            return data.read()
        if isinstance(data, Iterable):
            return "\n".join(json.dumps(item) for item in data)
        raise _unreadable(data, "JSON Lines")


class IdentitySerializer(SimpleBaseSerializer):
    """Sends what it is given."""

    def __init__(self, content_type: str = "application/octet-stream") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return the value itself."""
        return data


class DataSerializer(SimpleBaseSerializer):
    """A file by its path, or bytes."""

    def __init__(self, content_type: str = "file-path/raw-bytes") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return the bytes of a file, or those given; of a mapping, those of its value ``data``.

        Raises:
            BadInputError: the file cannot be read, or the value is neither.
        """
        if isinstance(data, str):
            try:
                return Path(data).read_bytes()
            except OSError as error:
                raise BadInputError(f"{data!r:.80} cannot be read: {error.strerror}.", "Give a file's path.") from error
        if isinstance(data, bytes):
            return data
        if isinstance(data, dict) and "data" in data:
            return self.serialize(data["data"])
        raise _unreadable(data, "bytes")


class StringSerializer(SimpleBaseSerializer):
    """Text as UTF-8."""

    def __init__(self, content_type: str = "text/plain") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return the encoded text.

        Raises:
            BadInputError: the value is no text.
        """
        if isinstance(data, str):
            return data.encode("utf-8")
        raise _unreadable(data, "text")


class LibSVMSerializer(SimpleBaseSerializer):
    """Text, or a file, that is in the format LibSVM already."""

    def __init__(self, content_type: str = "text/libsvm") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return the text; a file's content as it is.

        Raises:
            BadInputError: the value is neither.
        """
        if isinstance(data, str):
            return data
        if hasattr(data, "read"):
            return data.read()
        raise _unreadable(data, "LibSVM")


class SparseMatrixSerializer(SimpleBaseSerializer):
    """Not emulated: it needs SciPy, which the launcher does not bring.

    Raises:
        UnsupportedOptionError: always.
    """

    def __init__(self, content_type: str = "application/x-npz") -> None:
        super().__init__(content_type)
        raise UnsupportedOptionError(
            "SparseMatrixSerializer is not emulated.",
            'Save the matrix with scipy.sparse.save_npz and send the bytes: IdentitySerializer("application/x-npz").',
        )

    def serialize(self, data: Any) -> Any:
        """Never called."""
        return data


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__iter__") and hasattr(value, "__getitem__")


def _csv_row(row: Any) -> str:
    if isinstance(row, str):
        return row
    if hasattr(row, "flatten"):
        row = row.flatten().tolist()
    if not hasattr(row, "__len__"):
        raise _unreadable(row, "CSV")
    if len(row) == 0:
        raise BadInputError("an empty row cannot be serialized.", "Send at least one value.")
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().rstrip("\r\n")


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _as_list(value: Any) -> Any:
    return value.tolist() if type(value).__module__.partition(".")[0] == "numpy" else value


def _unreadable(value: Any, form: str) -> BadInputError:
    return BadInputError(
        f"a {type(value).__name__} cannot be serialized as {form}.",
        "Give another value, or the predictor another serializer.",
    )
