"""Records in and predictions out: JSON, JSON Lines, CSV and NPY.

A record is a list of numbers. What is wrong with one is said with its number, which begins at 1.
"""

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.errors import RequestError

JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
CONTENT_TYPES = (JSON, JSON_LINES, CSV, NPY)
_ALIASES = {"application/x-jsonlines": JSON_LINES, "application/x-ndjson": JSON_LINES, "text/json": JSON}
# What may hold the records of a document, or the numbers of a record; the first that is there counts.
RECORDS_KEYS = ("instances", "inputs", "observations")
RECORD_KEYS = ("features", "observation", "inputs", "observations")
SHOWN_CHARACTERS = 60

_PLAIN_BYTES = b"0123456789+-.eE,[] \t\r\n"

_decode_first = json.JSONDecoder().raw_decode


class PolicyPrediction(NamedTuple):
    """What a policy answers.

    Attributes:
        predictions: (records, n_actions), the probabilities that the actions were drawn with; rows sum to 1.
        actions: (records,).
    """

    predictions: NDArray[np.float64]
    actions: NDArray[np.int64]


def media_type(header: str) -> str:
    """Return what a Content-Type names, without parameters and by one spelling."""
    name = header.partition(";")[0].strip().lower()
    return _ALIASES.get(name, name)


def chosen_content_type(content_type: str) -> str:
    """Return the format of a request's body; without a Content-Type it is JSON.

    Raises:
        RequestError: 415, no format of ours.
    """
    name = media_type(content_type) or JSON
    if name not in CONTENT_TYPES:
        raise RequestError(f"Content-Type {content_type!r} is not read here; use one of: {_shown_types()}.", 415)
    return name


def chosen_accept(accept: str, default: str) -> str:
    """Return the format of an answer: the one of highest ``q`` in an Accept header, the default where any will do.

    Raises:
        RequestError: 406, no format of ours is acceptable.
    """
    if not accept or accept == "*/*":
        accept = default
    offers = [_accept_offer(part) for part in accept.split(",") if part.strip()]
    for quality, name in sorted(offers, key=lambda offer: -offer[0]):
        if quality <= 0:
            continue
        if name in CONTENT_TYPES:
            return name
        kind, _, rest = name.partition("/")
        if rest == "*":
            fitting = [
                candidate
                for candidate in (media_type(default), *CONTENT_TYPES)
                if kind in ("*", candidate.partition("/")[0])
            ]
            if fitting and fitting[0] in CONTENT_TYPES:
                return fitting[0]
    raise RequestError(f"Accept {accept!r} is not written here; use one of: {_shown_types()}.", 406)


def _accept_offer(part: str) -> tuple[float, str]:
    name, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.strip().partition("=")
        if key == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return quality, media_type(name)


def _shown_types() -> str:
    return ", ".join(CONTENT_TYPES)


def decode_observations(body: bytes, content_type: str, size: int) -> NDArray[np.float64]:
    """Read records of ``size`` numbers each, (records, size); a missing value is NaN.

    Raises:
        RequestError: there is none, or one is of another form; the text says which and why.
    """
    if content_type == NPY:
        return _npy_observations(body, size)
    if content_type in (CSV, JSON_LINES):
        plain = _plain_lines(body, size, in_brackets=content_type == JSON_LINES)
        if plain is not None:
            return plain
    if content_type == CSV:
        values: Any = _csv_rows(body)
    elif content_type == JSON_LINES:
        values = [_numbers_of(value) for value in _json_lines(body)]
    else:
        values = _document_records(_json_document(body))
    if not values:
        raise RequestError("the body holds no record.")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "iuf" and array.shape == (len(values), size):
            return array.astype(np.float64, copy=False)
    except (ValueError, OverflowError):
        pass  # of different lengths, or a number that no array holds: looked at one by one
    return np.array([_checked_record(value, number, size) for number, value in enumerate(values, start=1)])


def _plain_lines(body: bytes, size: int, *, in_brackets: bool) -> NDArray[np.float64] | None:
    """Read lines of nothing but ``size`` numbers each, in a quarter of the time; None where a line is otherwise."""
    if body.translate(None, _PLAIN_BYTES):
        return None
    lines = [line for raw in body.split(b"\n") if (line := raw.strip())]
    commas, brackets = size - 1, len(lines) if in_brackets else 0
    if body.count(b"[") != brackets or body.count(b"]") != brackets:
        return None
    if not all(line.count(b",") == commas for line in lines):
        return None
    if in_brackets:
        if not all(line[:1] == b"[" and line[-1:] == b"]" for line in lines):
            return None
        lines = [line[1:-1] for line in lines]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # numpy's word for text that is no number
        try:
            numbers = np.fromstring(b",".join(lines), dtype=np.float64, sep=",")
        except (ValueError, DeprecationWarning):
            return None
    return numbers.reshape(-1, size) if lines and len(numbers) == len(lines) * size else None


def decode_any(body: bytes, content_type: str) -> Any:
    """Read what a user's model takes: an array where all is numbers of one shape, else the JSON values.

    Raises:
        RequestError: the body is not of its Content-Type.
    """
    if content_type == NPY:
        return _npy_array(body)
    if content_type == CSV:
        return _as_array([_checked_record(row, number, None) for number, row in enumerate(_csv_rows(body), start=1)])
    if content_type == JSON_LINES:
        return _as_array([_numbers_of(value) for value in _json_lines(body)])
    document = _json_document(body)
    if isinstance(document, dict):
        document = next((document[key] for key in RECORDS_KEYS if key in document), document)
    return _as_array(document)


def _as_array(values: Any) -> Any:
    if not isinstance(values, list):
        return values
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return values
    return array if array.dtype.kind in "iuf" else values


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"byte {error.start + 1} of the body is not UTF-8.") from error


def _load_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise RequestError(f"{place} is nested too deeply.") from error
    except ValueError as error:
        raise RequestError(f"{place} is not JSON: {error}.") from error


def _json_document(body: bytes) -> Any:
    return _load_json(_text(body), "the body")


def _json_lines(body: bytes) -> list[Any]:
    lines = [stripped for line in _text(body).split("\n") if (stripped := line.strip())]
    return [_json_line(line, number) for number, line in enumerate(lines, start=1)]


def _json_line(line: str, number: int) -> Any:
    try:
        value, end = _decode_first(line)  # json.loads does the same, and more that takes its time
        if end == len(line):
            return value
    except (ValueError, RecursionError):
        pass  # said below with the number of the record
    return _load_json(line, f"record {number}")


def _document_records(document: Any) -> list[Any]:
    """Return the records of a JSON document: several, or one list of numbers."""
    if isinstance(document, dict):
        key = next((key for key in RECORDS_KEYS if key in document), None)
        if key is None:
            numbers = _numbers_of(document)
            if numbers is document:
                raise RequestError(
                    f"the JSON object has none of the keys {', '.join(dict.fromkeys((*RECORDS_KEYS, *RECORD_KEYS)))}."
                )
            document = numbers
        else:
            document = document[key]
    if not isinstance(document, list):
        raise RequestError(f"the body is {_shown(document)}, not a list of records.")
    if document and not isinstance(document[0], list | dict):
        return [document]
    return [_numbers_of(value) for value in document]


def _numbers_of(value: Any) -> Any:
    """Return the list that a record is, also from an object around it."""
    if isinstance(value, dict):
        return next((value[key] for key in RECORD_KEYS if key in value), value)
    return value


def _checked_record(value: Any, number: int, size: int | None) -> list[float]:
    if not isinstance(value, list):
        raise RequestError(f"record {number} is {_shown(value)}, not a list of numbers.")
    numbers = [_checked_number(item, number, place) for place, item in enumerate(value, start=1)]
    if size is not None and len(numbers) != size:
        raise RequestError(f"record {number} has {len(numbers)} values; the model takes {size}.")
    return numbers


def _checked_number(item: Any, number: int, place: int) -> float:
    if item is None or item == "":
        return float("nan")
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise RequestError(f"record {number}, value {place} is {_shown(item)}, which is no number.")
    try:
        return float(item)
    except OverflowError as error:
        raise RequestError(f"record {number}, value {place} is larger than any float.") from error


def _csv_rows(body: bytes) -> list[list[Any]]:
    """Return the fields of each line that is not blank: numbers, or the text where a field is none."""
    lines = [line for line in _text(body).replace("\r\n", "\n").split("\n") if line.strip()]
    rows: list[list[Any]] = []
    for line in lines:
        fields = line.split(",")
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            rows.append([_csv_number(field) for field in fields])
    return rows


def _csv_number(field: str) -> float | str:
    text = field.strip().removeprefix('"').removesuffix('"').strip()
    try:
        return float(text)
    except ValueError:
        return text


def _npy_array(body: bytes) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError, OverflowError) as error:
        raise RequestError(f"the body is no array of the NPY format: {error}") from error
    if not isinstance(array, np.ndarray):
        raise RequestError("the body is an NPZ archive; send one array in the NPY format.")
    return array


def _npy_observations(body: bytes, size: int) -> NDArray[np.float64]:
    array = _npy_array(body)
    if array.dtype.kind not in "iuf":
        raise RequestError(f"the array's type is {array.dtype}, which is no number.")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != size:
        raise RequestError(f"the array's shape is {array.shape}; the model takes (records, {size}).")
    if not len(array):
        raise RequestError("the body holds no record.")
    return array.astype(np.float64, copy=False)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def encode(prediction: Any, accept: str) -> bytes:
    """Write a prediction; JSON Lines and CSV have a line for each record.

    Args:
        prediction: of a policy, or anything that JSON, or an array, can hold; also with ``tolist`` (numpy, torch).
        accept: one of ``CONTENT_TYPES``.
    Raises:
        TypeError, ValueError: the format cannot hold it.
    """
    if isinstance(prediction, PolicyPrediction):
        return _encode_policy(prediction, accept)
    if accept == JSON:
        return json.dumps(prediction, default=_plain).encode()
    if accept == NPY:
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(_plain(prediction)), allow_pickle=False)
        return buffer.getvalue()
    rows = _plain(prediction)
    if not isinstance(rows, list):
        rows = [rows]
    if accept == JSON_LINES:
        return _lines(json.dumps(row, default=_plain) for row in rows)
    return _lines(",".join(_csv_field(item) for item in (row if isinstance(row, list) else [row])) for row in rows)


def _encode_policy(prediction: PolicyPrediction, accept: str) -> bytes:
    if accept == NPY:
        buffer = io.BytesIO()
        np.save(buffer, prediction.predictions, allow_pickle=False)
        return buffer.getvalue()
    # Lists of numbers that are finite print as JSON does, in two thirds of the time that json.dumps takes.
    rows, actions = prediction.predictions.tolist(), prediction.actions.tolist()
    if accept == JSON:
        return f'{{"predictions": {rows}, "actions": {actions}}}'.encode()
    if accept == CSV:
        return _lines(f"{str(row)[1:-1]},{action}" for row, action in zip(rows, actions, strict=True)).replace(
            b" ", b""
        )
    return _lines(
        f'{{"predictions": [{row}], "actions": [{action}]}}' for row, action in zip(rows, actions, strict=True)
    )


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _csv_field(item: Any) -> str:
    text = str(_plain(item))
    if any(character in text for character in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _plain(value: Any) -> Any:
    """Return what JSON can hold for an array, a tensor or a number of theirs; a sequence as a list."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, dict | str | int | float | bool) or value is None:
        return value
    raise TypeError(f"{type(value).__name__} is nothing that JSON, CSV or NPY can hold; write an output_fn")
