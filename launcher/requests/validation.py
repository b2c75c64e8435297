"""Checks a value against a shape of the service model, and says what is wrong in AWS's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from launcher.errors import RequestError
from launcher.requests.shapes import Shape, compiled, shape

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (float, int),
    "double": (float, int),
    "map": (dict, Mapping),
    "list": (list, tuple),
    "structure": (dict, Mapping),
    "timestamp": (datetime, int, float, str),
}
_LONGEST_SHOWN = 60
_MOST_SHOWN = 12
_LONGEST_MATCHED = 100_000
_LONGEST_ECHOED = 100_000

Exceptions = Mapping[str, Callable[[Any], bool]]
"""By the name of a shape: which values are accepted here though the model's enum or pattern refuses them."""


class Violation(NamedTuple):
    """One thing that is wrong with a request.

    Attributes:
        member: dotted, as boto3 takes the request: ``InputDataConfig[0].ChannelName``.
        aws_text: AWS's words for it, whole.
        text: the same for people: long values and long lists of choices are cut.
        choices: the values that an enum would take; empty for other violations.
        value: what was given.
        malformed: boto3 itself would refuse it: a type, a member that does not exist.
    """

    member: str
    aws_text: str
    text: str
    choices: tuple[str, ...] = ()
    value: Any = None
    malformed: bool = False


class _Place(NamedTuple):
    """Where a value stands: as boto3 writes it, and as AWS's messages do."""

    member: str = ""
    aws: str = ""

    def of_member(self, name: str) -> _Place:
        lowered = name[:1].lower() + name[1:]
        return _Place(
            f"{self.member}.{name}" if self.member else name, f"{self.aws}.{lowered}" if self.aws else lowered
        )

    def of_item(self, index: int) -> _Place:
        return _Place(f"{self.member}[{index}]", f"{self.aws}.{index + 1}.member")


def check(
    value: Any, shape_name: str, *, member: str = "", exceptions: Exceptions | None = None, refused: str = ""
) -> None:
    """Check ``value`` against a shape.

    Args:
        value: a request as boto3 takes it, or the value of one member.
        shape_name: of the service model.
        member: where the value stands in the request; empty for the whole.
        exceptions: what is accepted besides.
        refused: what was refused, for the message, such as ``Estimator(max_run=0)``; empty for a request.
    Raises:
        RequestError: it has violations; all of them are named.
    """
    place = _Place(member, ".".join(step[:1].lower() + step[1:] for step in member.split(".")) if member else "")
    violations = list(find_violations(value, shape_name, place, exceptions or {}))
    if violations:
        raise request_error(violations, refused)


def request_error(violations: list[Violation], refused: str = "", hint: str = "") -> RequestError:
    """Return the error for what is wrong with a request; of malformed members alone, where there are such."""
    shown = [violation for violation in violations if violation.malformed] or violations
    prefix = f"{refused}: " if refused else ""
    if shown[0].malformed:
        count = "Parameter validation failed: "
    else:
        count = f"{len(shown)} validation error{'s' if len(shown) > 1 else ''} detected: "
    return RequestError(
        prefix + count + "; ".join(violation.text for violation in shown),
        hint or next(filter(None, map(_hint, shown)), "The members and their limits are those of AWS's own request."),
        aws_message=count + "; ".join(violation.aws_text for violation in shown),
        members=tuple(violation.member for violation in shown),
    )


def find_violations(
    value: Any, shape_name: str, place: _Place | None = None, exceptions: Exceptions | None = None
) -> Iterator[Violation]:
    """Yield everything that a shape of the model refuses about ``value``."""
    place, exceptions = place or _Place(), exceptions or {}
    definition = shape(shape_name)
    kind = definition["type"]
    fits = isinstance(value, _PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        yield _wrong_type(value, definition, place)
    elif kind == "structure":
        yield from _structure_violations(value, definition, place, exceptions)
    elif kind == "list":
        yield from _length_violations(value, definition, place)
        yield from _item_violations(value, definition["member"], place, exceptions)
    elif kind == "map":
        yield from _length_violations(value, definition, place)
        yield from _entry_violations(value, definition, place)
    elif kind in ("integer", "long", "float", "double"):
        for words in _range_constraints(definition, value, "value"):
            yield _violation(value, place, f"Member must have {words}")
    elif kind == "string" and not (shape_name in exceptions and exceptions[shape_name](value)):
        if "enum" in definition and value not in definition["enum"]:
            yield _enum_violation(value, definition, place)
        yield from (_violation(value, place, words) for words in _text_constraints(definition, value))


def _structure_violations(
    value: Mapping[str, Any], definition: Shape, place: _Place, exceptions: Exceptions
) -> Iterator[Violation]:
    members = definition["members"]
    for name in definition.get("required", ()):
        if value.get(name) is None:
            inner = place.of_member(name)
            text = f"Value null at '{inner.aws}' failed to satisfy constraint: Member must not be null"
            yield Violation(inner.member, text, text)
    for name, inner_value in value.items():
        inner = place.of_member(str(name))
        if name not in members:
            text = f'Unknown parameter in {place.member or "input"}: "{name}"'
            near = get_close_matches(str(name), members, n=1)
            yield Violation(inner.member, text, text, tuple(near), name, malformed=True)
        elif inner_value is None:
            if name not in definition.get("required", ()):
                yield _wrong_type(None, shape(members[name]), inner)
        else:
            yield from find_violations(inner_value, members[name], inner, exceptions)


def _item_violations(value: Any, item: str, place: _Place, exceptions: Exceptions) -> Iterator[Violation]:
    definition = shape(item)
    if definition["type"] in ("structure", "list", "map"):
        for index, inner in enumerate(value):
            yield from find_violations(inner, item, place.of_item(index), exceptions)
        return
    for index, inner in enumerate(value):
        if violations := list(find_violations(inner, item, place.of_item(index), exceptions)):
            if violations[0].malformed:
                yield from violations
            else:
                words = f"Member must satisfy constraint: [{', '.join(_constraints(definition))}]"
                yield _violation(value, place, words)
            return


def _entry_violations(value: Mapping[str, Any], definition: Shape, place: _Place) -> Iterator[Violation]:
    for side, label in (("key", "Map keys"), ("value", "Map value")):
        inner_shape = shape(definition[side])
        for key, inner in value.items():
            part = key if side == "key" else inner
            at = _Place(f"{place.member}[{key!r}]" if side == "value" else place.member, place.aws)
            if not isinstance(part, _PYTHON_TYPES[inner_shape["type"]]):
                yield _wrong_type(part, inner_shape, at)
                return
            if any(find_violations(part, definition[side])):
                words = f"{label} must satisfy constraint: [{', '.join(_constraints(inner_shape))}]"
                whole = "{" + ", ".join(f"{name}={text}" for name, text in value.items()) + "}"
                # A value may be a password: people are shown the key.
                shown = _shortened(key) if side == "key" else f"{{{_shortened(key)}=...}}"
                yield Violation(at.member, _words(whole, place, words), _words(shown, place, words), value=part)
                return


def _length_violations(value: Any, definition: Shape, place: _Place) -> Iterator[Violation]:
    for words in _range_constraints(definition, len(value), "length"):
        yield _violation(value, place, f"Member must have {words}")


def _text_constraints(definition: Shape, value: str) -> Iterator[str]:
    for words in _range_constraints(definition, len(value), "length"):
        yield f"Member must have {words}"
    pattern = definition.get("pattern")
    if len(value) > max(_LONGEST_MATCHED, definition.get("max", len(value))):
        return  # it is refused already, and some patterns take their time
    if pattern and not compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"


def _range_constraints(definition: Shape, number: float, noun: str) -> Iterator[str]:
    if "max" in definition and number > definition["max"]:
        yield f"{noun} less than or equal to {definition['max']}"
    if "min" in definition and number < definition["min"]:
        yield f"{noun} greater than or equal to {definition['min']}"


def _constraints(definition: Shape) -> Iterator[str]:
    if "max" in definition:
        yield f"Member must have length less than or equal to {definition['max']}"
    if "min" in definition:
        yield f"Member must have length greater than or equal to {definition['min']}"
    if "pattern" in definition:
        yield f"Member must satisfy regular expression pattern: {definition['pattern']}"
    if "enum" in definition:
        yield f"Member must satisfy enum value set: [{', '.join(definition['enum'])}]"


def _violation(value: Any, place: _Place, words: str) -> Violation:
    if isinstance(value, Mapping):
        whole = "{" + ", ".join(f"{name}={text}" for name, text in value.items()) + "}"
        shown = f"{{{len(value)} entries}}"
    elif isinstance(value, list | tuple):
        whole = "[" + ", ".join(map(str, value)) + "]"
        shown = _shortened(whole)
    else:
        whole, shown = _rendered(value), _shortened(_rendered(value))
    return Violation(place.member, _words(whole, place, words), _words(shown, place, words), value=value)


def _words(value: str, place: _Place, constraint: str) -> str:
    if len(value) > _LONGEST_ECHOED:
        value = value[:_LONGEST_ECHOED] + "..."
    return f"Value '{value}' at '{place.aws}' failed to satisfy constraint: {constraint}"


def _enum_violation(value: str, definition: Shape, place: _Place) -> Violation:
    choices = definition["enum"]
    some = choices if len(choices) <= _MOST_SHOWN else [*choices[:3], f"... {len(choices)} in all"]
    constraint = "Member must satisfy enum value set: "
    return Violation(
        place.member,
        _words(value, place, f"{constraint}[{', '.join(choices)}]"),
        _words(_shortened(value), place, f"{constraint}[{', '.join(some)}]"),
        tuple(choices),
        value,
    )


def _wrong_type(value: Any, definition: Shape, place: _Place) -> Violation:
    kinds = ", ".join(str(kind) for kind in _PYTHON_TYPES[definition["type"]] if kind is not Mapping)

    def text(shown: str) -> str:
        return f"Invalid type for parameter {place.member}, value: {shown}, type: {type(value)}, valid types: {kinds}"

    return Violation(
        place.member, text(_rendered(value)), text(_shortened(_rendered(value, repr))), value=value, malformed=True
    )


def _hint(violation: Violation) -> str:
    near = get_close_matches(str(violation.value), violation.choices, n=3, cutoff=0.5)
    return f"Did you mean {', '.join(near)}?" if near else ""


def _rendered(value: Any, render: Callable[[Any], str] = str) -> str:
    try:
        return render(value)
    except ValueError:  # an int of more digits than Python writes
        return f"({type(value).__name__})"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
