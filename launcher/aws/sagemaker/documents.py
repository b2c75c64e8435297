"""A document as it came over the wire, made into the one that the launcher's own checks take.

AWS reads a document twice: first its JSON types, which end in a SerializationException, then the limits of the model.
A member that the model does not have is ignored, so that a newer client still gets its answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from launcher.aws.errors import AwsError
from launcher.requests.shapes import operation_shape, shape
from launcher.requests.validation import check

_ARTICLES = {
    "string": "a String",
    "boolean": "a Boolean",
    "integer": "an Integer",
    "long": "a Long",
    "float": "a Float",
    "double": "a Double",
    "timestamp": "milliseconds since epoch",
}
_BITS = {"integer": 31, "long": 63}


class Document(dict[str, Any]):
    """A request whose members have the types of the model; times are seconds since 1970.

    Attributes:
        ignored: the members that the model does not have, as boto3 would name them.
    """

    ignored: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the members that were ignored."""
        return tuple(
            f"{member} is no member that this version knows; it is ignored, as AWS does" for member in self.ignored
        )


def read_document(operation: str, values: Mapping[str, Any]) -> Document:
    """Return a request in the model's types, without null members and those that the model does not have.

    Raises:
        AwsError: a SerializationException; a member has another type.
    """
    ignored: list[str] = []
    document = Document(_converted(values, operation_shape(operation), "", ignored))
    document.ignored = tuple(ignored)
    return document


def check_document(operation: str, document: Mapping[str, Any]) -> None:
    """Check a request against the limits of the model.

    Raises:
        RequestError: one is broken; the message is AWS's.
    """
    check(document, operation_shape(operation))


def _converted(value: Any, shape_name: str, place: str, ignored: list[str]) -> Any:
    definition = shape(shape_name)
    kind = definition["type"]
    if kind in ("structure", "map"):
        if not isinstance(value, Mapping):
            raise _unreadable("Unexpected value type in payload", place)
        if kind == "structure":
            return _converted_members(value, definition["members"], place, ignored)
        items = {key: item for key, item in value.items() if item is not None}
        return {
            key: _converted(item, definition["value"], f"{place}[{key!r:.60}]", ignored) for key, item in items.items()
        }
    if kind == "list":
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise _unreadable("Unexpected value type in payload", place)
        return [
            _converted(item, definition["member"], f"{place}[{index}]", ignored) for index, item in enumerate(value)
        ]
    return _converted_scalar(value, kind, place)


def _converted_members(
    value: Mapping[str, Any], members: Mapping[str, str], place: str, ignored: list[str]
) -> dict[str, Any]:
    converted = {}
    for name, inner in value.items():
        inner_place = f"{place}.{name}" if place else name
        if name not in members:
            ignored.append(f"{inner_place:.200}")
        elif inner is not None:
            converted[name] = _converted(inner, members[name], inner_place, ignored)
    return converted


def _converted_scalar(value: Any, kind: str, place: str) -> Any:
    if isinstance(value, str):
        if kind == "string":
            return value
    elif isinstance(value, bool):
        if kind == "boolean":
            return value
    elif isinstance(value, int | float):
        if kind in _BITS and isinstance(value, int):
            if -(1 << _BITS[kind]) <= value < 1 << _BITS[kind]:
                return value
            raise _unreadable(f"Numeric value out of range of {_ARTICLES[kind].partition(' ')[2]}", place)
        if kind in ("float", "double", "timestamp"):
            if abs(value) < 1 << 1023 and math.isfinite(value):
                return float(value)
            raise _unreadable(f"Numeric value out of range of {kind}", place)
    elif isinstance(value, datetime) and kind == "timestamp":
        return value.timestamp()
    elif isinstance(value, Mapping):
        raise _unreadable("Start of structure or map found where not expected.", place)
    elif isinstance(value, Sequence):
        raise _unreadable("Start of list found where not expected.", place)
    raise _unreadable(f"{_token(value)} can not be converted to {_ARTICLES[kind]}", place)


def _token(value: Any) -> str:
    match value:
        case None:
            return "NULL_VALUE"
        case bool():
            return f"{str(value).upper()}_VALUE"
        case str():
            return "STRING_VALUE"
        case float():
            return "DECIMAL_VALUE"
    return "NUMBER_VALUE"


def _unreadable(words: str, place: str) -> AwsError:
    return AwsError("SerializationException", f"{words}\n  At {place}." if place else words)
