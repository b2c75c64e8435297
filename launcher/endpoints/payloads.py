"""What a captured request and its answer say: observations, probabilities, and the actions that were drawn."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from launcher.errors import CaptureError

# Under these keys a document holds its records, and a record its numbers; the first that is there counts.
_RECORDS_KEYS = ("instances", "inputs", "observations")
_RECORD_KEYS = ("features", "observation", "inputs", "observations")
_JSON, _JSON_LINES, _CSV, _NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
_ALIASES = {"application/x-jsonlines": _JSON_LINES, "application/x-ndjson": _JSON_LINES, "text/json": _JSON}


class Decision(NamedTuple):
    """What a policy answered to one observation.

    Attributes:
        probabilities: of every action.
        action: what was drawn by them; None where the answer leaves the draw to the application.
    """

    probabilities: list[float]
    action: int | None


def observations_of(payload: Mapping[str, Any]) -> list[list[float]]:
    """Return the observations of a captured request, a list of numbers each.

    Raises:
        CaptureError: it has another form.
    """
    kind, data = _content(payload)
    if kind == _NPY:
        values = _array(data)
    elif kind == _CSV:
        values = [[_number(field) for field in row] for row in csv.reader(io.StringIO(data.decode())) if row]
    elif kind == _JSON_LINES:
        values = [_inner(value) for value in _lines(data)]
    else:
        values = _document(data)
    if values and not isinstance(values[0], list):
        values = [values]
    if not values or not all(isinstance(row, list) and all(_is_number(item) for item in row) for row in values):
        raise CaptureError("the request holds no lists of numbers.")
    return [[float("nan") if item is None else float(item) for item in row] for row in values]


def decisions_of(payload: Mapping[str, Any]) -> list[Decision]:
    """Return what a captured answer says of each observation.

    Raises:
        CaptureError: it holds no probabilities.
    """
    kind, data = _content(payload)
    if kind == _CSV:
        return [_row_decision(row) for row in csv.reader(io.StringIO(data.decode())) if row]
    if kind == _NPY:
        return _decisions(_array(data), None)
    documents = _lines(data) if kind == _JSON_LINES else [_parsed(data.decode())]
    return [decision for document in documents for decision in _document_decisions(document)]


def _content(payload: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the media type and the bytes of a captured request or answer."""
    try:
        text, encoding = payload["data"], payload["encoding"]
        data = base64.b64decode(text) if encoding == "BASE64" else text.encode()
        name = str(payload.get("observedContentType", "")).partition(";")[0].strip().lower()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CaptureError("the line has no captured data.") from error
    return _ALIASES.get(name, name), data


def _document(data: bytes) -> list[Any]:
    document = _parsed(data.decode())
    if isinstance(document, dict):
        document = next((document[key] for key in _RECORDS_KEYS if key in document), _inner(document))
    if not isinstance(document, list):
        raise CaptureError("the request holds no list of records.")
    return [_inner(value) for value in document]


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return next((value[key] for key in _RECORD_KEYS if key in value), value)
    return value


def _document_decisions(document: Any) -> list[Decision]:
    if isinstance(document, dict):
        return _decisions(document.get("predictions"), document.get("actions"))
    return _decisions(document, None)


def _decisions(rows: Any, actions: Any) -> list[Decision]:
    if isinstance(rows, list) and rows and not isinstance(rows[0], list):
        rows = [rows]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise CaptureError("the answer holds no probabilities: no list of numbers under 'predictions'.")
    if not all(_is_number(item) and item is not None for row in rows for item in row):
        raise CaptureError("a probability of the answer is no number.")
    if actions is None:
        return [Decision([float(item) for item in row], None) for row in rows]
    if not isinstance(actions, list) or len(actions) != len(rows) or not all(_is_action(item) for item in actions):
        raise CaptureError("the answer's 'actions' are not one number for each of its predictions.")
    return [Decision([float(item) for item in row], action) for row, action in zip(rows, actions, strict=True)]


def _row_decision(row: list[str]) -> Decision:
    """Return the decision of a row of CSV: probabilities, and the action behind them, which alone is a whole number."""
    *rest, last = row
    # Where all fields are whole numbers, "1,0,0" may be three probabilities: then nothing says which action was drawn.
    has_action = last.strip().isdecimal() and any(not field.strip().isdecimal() for field in rest)
    probabilities = [_number(field) for field in (rest if has_action else row)]
    if any(not _is_number(item) or item is None for item in probabilities):
        raise CaptureError("a probability of the answer is no number.")
    return Decision([float(item) for item in probabilities], int(last) if has_action else None)


def _array(data: bytes) -> list[Any]:
    import numpy as np

    try:
        return list(np.load(io.BytesIO(data), allow_pickle=False).tolist())
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise CaptureError(f"it is no array: {error}.") from error


def _lines(data: bytes) -> list[Any]:
    return [_parsed(line) for line in data.decode().split("\n") if line.strip()]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CaptureError(f"it is not JSON: {error}.") from error


def _number(field: str) -> Any:
    try:
        return float(field) if field.strip() else None
    except ValueError:
        return field


def _is_number(item: Any) -> bool:
    return item is None or (isinstance(item, int | float) and not isinstance(item, bool))


def _is_action(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0
