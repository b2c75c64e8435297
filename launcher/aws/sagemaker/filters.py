"""Expressions of Search: properties by dotted names, their types by the service model, operators by type."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from launcher.errors import RequestError
from launcher.requests.shapes import shape

MOST_ELEMENTS = 50
"""How many filters, nested filters and expressions an expression has at most, all levels together."""

Entity = Mapping[str, Any]
Test = Callable[[Entity], bool]

_TYPES = {
    "string": "text",
    "integer": "number",
    "long": "number",
    "float": "number",
    "double": "number",
    "boolean": "boolean",
    "timestamp": "time",
}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


class Property:
    """A property of what is searched for, such as ``ResourceConfig.InstanceType`` or ``Metrics.loss``.

    Args:
        name: dotted; the keys of maps, of tags and of metrics may have dots as well.
        shape_name: of the service model, which has it.
    Attributes:
        type: ``text``, ``number``, ``boolean``, ``time``; ``either`` for a text that may be a number, as that of a
            hyperparameter; ``group`` for what has no value of its own.
    Raises:
        RequestError: the shape has no such property.
    """

    def __init__(self, name: str, shape_name: str) -> None:
        self.name = name
        first, _, rest = name.partition(".")
        if first == "Metrics" and rest:
            self._read: Callable[[Entity], Iterator[Any]] = lambda entity: _entries(
                entity, "FinalMetricDataList", "MetricName", rest, "Value"
            )
            self.type = "number"
        elif first == "Tags" and rest:
            self._read = lambda entity: _entries(entity, "Tags", "Key", rest, "Value")
            self.type = "text"
        else:
            steps, self.type = _resolved(name, shape_name)
            self._read = lambda entity: _walk(entity, steps)

    def values(self, entity: Entity) -> list[Any]:
        """Return its values: none, one, or one of each entry of a list."""
        return list(self._read(entity))

    def sort_key(self, entity: Entity) -> list[Any]:
        """Return what orders by it, those without it first."""
        values = self.values(entity)
        if not values or self.type == "group":
            return [0, 0]
        return [1, values[0].timestamp() if isinstance(values[0], datetime) else values[0]]


def expression(document: Mapping[str, Any], shape_name: str) -> Test:
    """Return the test that a SearchExpression stands for.

    Args:
        document: checked.
        shape_name: of what is searched for.
    Raises:
        RequestError: it names no property, or compares one with what it cannot be.
    """
    elements = list(_elements(document))
    if len(elements) > MOST_ELEMENTS:
        raise _refused(
            f"SearchExpression has {len(elements)} elements, more than {MOST_ELEMENTS}.", "Write it shorter."
        )
    contained = Counter(element["Name"] for element in elements if element.get("Operator") == "Contains")
    if contained and max(contained.values()) > 1:
        raise _refused("'CONTAINS' operator usage limit of 1 exceeded.", "Look for one text in each property.")
    return _expression(document, shape_name)


def _expression(document: Mapping[str, Any], shape_name: str) -> Test:
    tests = [_filter(member, shape_name) for member in document.get("Filters", ())]
    tests += [_nested(member, shape_name) for member in document.get("NestedFilters", ())]
    tests += [_expression(member, shape_name) for member in document.get("SubExpressions", ())]
    if not tests:
        raise _refused("SearchExpression is empty.", "Give at least one of Filters, NestedFilters and SubExpressions.")
    combine = any if document.get("Operator", "And") == "Or" else all
    return lambda entity: combine(test(entity) for test in tests)


def _filter(member: Mapping[str, str], shape_name: str) -> Test:
    looked_at = Property(member["Name"], shape_name)
    holds = _comparison(member, looked_at)
    return lambda entity: holds(looked_at.values(entity))


def _nested(member: Mapping[str, Any], shape_name: str) -> Test:
    """Return the test for a list with one entry that all filters are true of."""
    place = member["NestedPropertyName"]
    _, kind = _resolved(place, shape_name)
    if kind != "group" or "." in place:
        raise _refused(f"NestedPropertyName '{place:.60}' is no list of structures.", "For example: InputDataConfig")
    strangers = [entry["Name"] for entry in member["Filters"] if not entry["Name"].startswith(f"{place}.")]
    if strangers:
        raise _refused(f"the filter of '{strangers[0]:.60}' is not below {place}.", f"Begin the name with '{place}.'.")
    tests = [_filter(entry, shape_name) for entry in member["Filters"]]

    def holds(entity: Entity) -> bool:
        return any(all(test({place: [entry]}) for test in tests) for entry in entity.get(place, ()))

    return holds


def _comparison(member: Mapping[str, str], looked_at: Property) -> Callable[[list[Any]], bool]:
    """Return what a filter says of the values of a property."""
    word, kind = member.get("Operator", "Equals"), looked_at.type
    if word in ("Exists", "NotExists"):
        return lambda values: bool(values) == (word == "Exists")
    if "Value" not in member:
        raise _refused(f"the filter of '{looked_at.name:.60}' has no Value, which {word} needs.", "Give one.")
    text = member["Value"]
    if kind == "group":
        raise _refused(f"'{looked_at.name:.60}' is no property with a value.", "Name one below it, or use Exists.")
    if word in ("Contains", "In"):
        if kind not in ("text", "either"):
            raise _refused(f"{word} is only supported for text, and '{looked_at.name:.60}' is none.", "Use Equals.")
        choices = [choice.strip() for choice in text.split(",")]
        return lambda values: any(text in value if word == "Contains" else value in choices for value in values)
    if word in _ORDERS:
        if kind in ("text", "boolean"):
            raise _refused(f"{word} is not supported for text, and '{looked_at.name:.60}' is one.", "Use Equals.")
        wanted = _parsed(text, "number" if kind == "either" else kind, looked_at.name)
        return lambda values: any(
            value is not None and _ORDERS[word](value, wanted)
            for value in (_comparable(value, wanted) for value in values)
        )
    wanted = text if kind == "either" else _parsed(text, kind, looked_at.name)
    return lambda values: any(_plain(value) == wanted for value in values) == (word == "Equals")


def _parsed(text: str, kind: str, name: str) -> Any:
    """Return the value of a filter as one of the property's type; a time in seconds since 1970."""
    try:
        match kind:
            case "number":
                return int(text) if text.strip().lstrip("+-").isdigit() else float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "time":
                moment = datetime.fromisoformat(text)
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, OverflowError) as error:
        raise _refused(
            f"'{name:.60}' is compared with {text!r:.60}, which is no {kind}.",
            "Write a time as 2026-01-31T12:00:00." if kind == "time" else "",
        ) from error
    return text


def _comparable(value: Any, wanted: float) -> Any:
    """Return a value as a number or a time in seconds; None where it is neither.

    A decimal hyperparameter counts as an integer where it is compared with one, as AWS says.
    """
    if not isinstance(value, str):
        return _plain(value)
    try:
        number = float(value.strip('"'))
        return int(number) if isinstance(wanted, int) else number
    except (ValueError, OverflowError):
        return None


def _plain(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else value


def _elements(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every filter; a nested filter and an expression count as an element, too, and have no operator."""
    yield from document.get("Filters", ())
    for nested in document.get("NestedFilters", ()):
        yield {"Name": nested["NestedPropertyName"]}
        yield from nested["Filters"]
    for inner in document.get("SubExpressions", ()):
        yield {"Name": ""}
        yield from _elements(inner)


def _resolved(name: str, shape_name: str) -> tuple[list[str], str]:
    """Return the steps to a property, and its type.

    Raises:
        RequestError: there is no such property.
    """
    steps: list[str] = []
    rest, definition = name, shape(shape_name)
    while rest:
        if definition["type"] == "map":
            return [*steps, rest], "either" if steps == ["HyperParameters"] else _TYPES[
                shape(definition["value"])["type"]
            ]
        step, _, rest = rest.partition(".")
        if definition["type"] != "structure" or step not in definition["members"]:
            raise _refused(f"Unknown property name: {name:.120}.", f"Properties are those of {shape_name}.")
        steps.append(step)
        definition = shape(definition["members"][step])
        while definition["type"] == "list":
            definition = shape(definition["member"])
    return steps, _TYPES.get(definition["type"], "group")


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, steps)
    elif not steps:
        yield value
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _walk(value[steps[0]], steps[1:])


def _entries(entity: Entity, place: str, key: str, name: str, value: str) -> Iterator[Any]:
    return (entry[value] for entry in entity.get(place, ()) if entry[key] == name)


def _refused(message: str, hint: str) -> RequestError:
    return RequestError(message, hint, members=("SearchExpression",))
