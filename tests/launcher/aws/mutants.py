"""Requests that break a single constraint of SageMaker's model each, and what AWS says of them; and valid neighbours.

Everything is worked out from botocore's model alone: the launcher's own shapes and checks are what is tested.
"""

import itertools
import re
import string
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from re import _constants as sre
from re import _parser as sre_parse
from typing import Any, NamedTuple

import botocore.session

WRONG_TYPES = {
    "string": (5, 1.5, True, {}, []),
    "boolean": ("true", 1, {}, []),
    "integer": ("1", 1.5, True, {}, [], 1 << 31, -(1 << 31) - 1),
    "long": ("1", 1.5, False, {}, [], 1 << 63),
    "float": ("1.0", True, {}, []),
    "double": ("1.0", True, {}, [], 10**400),
    "timestamp": ("2026-01-01T00:00:00Z", True, {}, []),
    "structure": ("{}", 1, True, []),
    "map": ("{}", 1, True, []),
    "list": ("[]", 1, True, {}),
}
BAD_TEXTS = (
    "",
    " ",
    "a b",
    "é",
    "²",
    "Ⅷ",
    "ﬁ",
    "\u2003",
    "\u0301",
    "!",
    "-",
    "a\nb",
    "..",
    "$(x)",
    "\U0001f600",
    "a" * 300,
    "_" * 70,
)


class Mutant(NamedTuple):
    """A request, and what becomes of it.

    Attributes:
        name: what was changed, for people.
        code: of the error; empty where the model accepts it.
        texts: what the message says, a constraint each; empty for a type, of which only the code counts.
    """

    operation: str
    name: str
    document: Any
    code: str = ""
    texts: tuple[str, ...] = ()


@cache
def model():
    """Return SageMaker's model."""
    return botocore.session.get_session().get_service_model("sagemaker")


def mutants(operation: str) -> Iterator[Mutant]:
    """Yield every mutant of an operation's request."""
    shape = model().operation_model(operation).input_shape
    yield Mutant(operation, "full", valid(shape))
    yield Mutant(operation, "an unknown member", {**valid(shape), "NoSuchMember": {"a": 1}})
    for name, value, code, texts in _changes(shape, valid(shape), "", ()):
        yield Mutant(operation, name, value, code, texts)


def valid(shape, above: tuple[str, ...] = (), *, required_only: bool = False) -> Any:
    """Return a value that breaks no constraint, with all members of its shape, or those alone that it must have."""
    kind = shape.type_name
    if kind == "structure":
        inner = (*above, shape.name)
        return {
            name: valid(member, inner, required_only=required_only)
            for name, member in shape.members.items()
            if (name in shape.required_members or not required_only) and not _is_within(member, inner)
        }
    if kind == "list":
        return [valid(shape.member, above, required_only=required_only)] * max(1, shape.metadata.get("min", 0))
    if kind == "map":
        return {valid(shape.key): valid(shape.value, above)}
    if kind == "string":
        return _text(shape)
    low = shape.metadata.get("min", 1)
    return {"boolean": True, "timestamp": 1.5e9, "float": float(low), "double": float(low)}.get(kind, max(1, low))


def _is_within(shape, above) -> bool:
    """Return whether a shape is one of those above it, or a list of such: it would have no end."""
    return shape.name in above or (shape.type_name == "list" and shape.member.name in above)


def _text(shape) -> str:
    limits = shape.metadata
    if shape.enum:
        return shape.enum[0]
    if "pattern" not in limits:
        return "a" * max(1, limits.get("min", 1))
    tree = sre_parse.parse(_compiled(limits["pattern"]).pattern)
    for grow in range(64):
        text = _made(tree, grow)
        if text and _broken(shape, text) == []:
            return text
    raise AssertionError(f"no text was made for {shape.name}: {limits['pattern']}")


def _changes(shape, value, place: str, above) -> Iterator[tuple[str, Any, str, tuple[str, ...]]]:
    """Yield name, changed value, code and texts of each change to a value at or below a place."""
    for wrong in WRONG_TYPES[shape.type_name]:
        if place:
            yield f"{place} = {wrong!r:.30}", wrong, "SerializationException", ()
    yield from _own_changes(shape, value, place)
    kind = shape.type_name
    if kind == "structure":
        yield from _member_changes(shape, value, place, (*above, shape.name))
    elif kind == "list" and value:
        yield from _item_changes(shape, value, place, above)
    elif kind == "map":
        yield from _entry_changes(shape, value, place)


def _member_changes(shape, full, place, above):
    """Yield changes of each member; of the others only those are there that must be."""
    value = valid(shape, above[:-1], required_only=True)
    for name, member in shape.members.items():
        inner = _below(place, name)
        if name in shape.required_members:
            text = f"Value null at '{inner}' failed to satisfy constraint: Member must not be null"
            without = {other: held for other, held in value.items() if other != name}
            yield f"without {inner}", without, "ValidationException", (text,)
            yield f"{inner} = null", {**value, name: None}, "ValidationException", (text,)
        elif name in full:
            yield f"{inner} = null", {**value, name: None}, "", ()
        if name in full:
            for change, changed, code, texts in _changes(member, full[name], inner, above):
                yield change, {**value, name: changed}, code, texts
    if place:
        yield f"an unknown member of {place}", {**value, "NoSuchMember": [1]}, "", ()


def _item_changes(shape, value, place, above):
    """Items that are scalars are named by their list, others by their own place."""
    for change, changed, code, texts in _changes(shape.member, value[0], f"{place}.1.member", above):
        items = [changed, *value[1:]]
        if texts and shape.member.type_name not in ("structure", "list", "map"):
            shown = "[" + ", ".join(map(str, items)) + "]"
            words = f"Member must satisfy constraint: [{', '.join(_constraints(shape.member))}]"
            texts = (f"Value '{shown}' at '{place}' failed to satisfy constraint: {words}",)
        yield change, items, code, texts
    yield f"{place} = [null]", [None], "SerializationException", ()


def _entry_changes(shape, value, place):
    ((key, held),) = value.items()
    for side, part, label in ((shape.key, key, "Map keys"), (shape.value, held, "Map value")):
        for change, changed, code, texts in _changes(side, part, place, ()):
            if side is shape.key and not isinstance(changed, str):
                continue  # no JSON has such a key
            entries = {changed: held} if side is shape.key else {key: changed}
            if texts:
                shown = "{" + ", ".join(f"{name}={text}" for name, text in entries.items()) + "}"
                words = f"{label} must satisfy constraint: [{', '.join(_constraints(side))}]"
                texts = (f"Value '{shown}' at '{place}' failed to satisfy constraint: {words}",)
            yield f"{label} of {change}", entries, code, texts


def _own_changes(shape, value, place):
    """Yield the changes to a value itself that its limits decide about."""
    limits, kind = shape.metadata, shape.type_name
    if kind in ("integer", "long", "float", "double"):
        for number in {limits.get("min"), limits.get("max")} - {None}:
            for near in (number - 1, number, number + 1):
                if kind != "integer" or abs(near) < 1 << 31:
                    yield _judged(shape, float(near) if kind in ("float", "double") else near, place)
    elif kind == "string":
        for text in _texts(shape):
            yield _judged(shape, text, place)
    elif kind == "list" and value:
        for count in {limits.get("min", 0) - 1, limits.get("min", 0), limits.get("max"), (limits.get("max") or 0) + 1}:
            if count is not None and 0 <= count <= 200 and (count or not limits.get("min", 0) < 0):
                yield _judged(shape, [value[0]] * count, place)
    elif kind == "map":
        yield _judged(shape, {}, place)
        ((key, held),) = value.items()
        most = limits.get("max")
        if most is not None and most <= 200 and not _broken(shape.key, f"{key}{most}"):
            for count in (most, most + 1):
                yield _judged(shape, {f"{key}{number}": held for number in range(count)}, place)


def _texts(shape) -> Iterator[str]:
    limits = shape.metadata
    yield from shape.enum
    yield from BAD_TEXTS
    pattern = limits.get("pattern", ".*")
    for length in {limits.get("min", 0), limits.get("min", 0) - 1, limits.get("max"), (limits.get("max") or 0) + 1}:
        if length is not None and 0 <= length <= 5000:
            yield "a" * length
            text = matching(pattern, length)
            if text is not None:
                yield text
                yield text + "\n"
                yield f"{text}\U0001f600"


def _judged(shape, value, place):
    """Return a change with what the model says of it."""
    texts = tuple(
        f"Value '{_shown(value)}' at '{place}' failed to satisfy constraint: {words}" for words in _broken(shape, value)
    )
    return f"{place} = {value!r:.40}", value, "ValidationException" if texts else "", texts


def _shown(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={held}" for key, held in value.items()) + "}"
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _broken(shape, value) -> list[str]:
    """Return the constraints of a shape itself that a value breaks, in AWS's words."""
    limits, words = shape.metadata, []
    is_number = shape.type_name in ("integer", "long", "float", "double")
    size, noun = (value, "value") if is_number else (len(value), "length")
    if "max" in limits and size > limits["max"]:
        words.append(f"Member must have {noun} less than or equal to {limits['max']}")
    if "min" in limits and size < limits["min"]:
        words.append(f"Member must have {noun} greater than or equal to {limits['min']}")
    if shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            words.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        if "pattern" in limits and not _compiled(limits["pattern"]).fullmatch(value):
            words.append(f"Member must satisfy regular expression pattern: {limits['pattern']}")
    return words


def _constraints(shape) -> list[str]:
    limits, words = shape.metadata, []
    if "max" in limits:
        words.append(f"Member must have length less than or equal to {limits['max']}")
    if "min" in limits:
        words.append(f"Member must have length greater than or equal to {limits['min']}")
    if "pattern" in limits:
        words.append(f"Member must satisfy regular expression pattern: {limits['pattern']}")
    if getattr(shape, "enum", ()):
        words.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    return words


def _below(place: str, name: str) -> str:
    lowered = name[0].lower() + name[1:]
    return f"{place}.{lowered}" if place else lowered


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for letter in "LNZ":
        pattern = pattern.replace(f"\\p{{{letter}}}", _of_category(letter))
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010ffff")
    return re.compile(pattern.replace(r"\p{Alnum}", "A-Za-z0-9"))


@cache
def _of_category(letter: str) -> str:
    """Return the characters of a category of Unicode, for a class of a pattern."""
    members = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == letter]
    ranges, first = [], members[0]
    for code, following in itertools.pairwise([*members, -1]):
        if following != code + 1:
            ranges.append(re.escape(chr(first)) + "-" + re.escape(chr(code)))
            first = following
    return "".join(ranges)


@cache
def matching(pattern: str, length: int) -> str | None:
    """Return a text of that length that a pattern matches; None where none was made."""
    tree = sre_parse.parse(_compiled(pattern).pattern)
    low = _made(tree, 0)
    if len(low) < length:
        for grow in range(1, length + 1):
            low = _made(tree, grow)
            if len(low) >= length:
                break
    for text in (low, low[:length]):
        if len(text) == length and _compiled(pattern).fullmatch(text):
            return text
    return None


def _made(tree, grow: int) -> str:
    """Return a match in which repeats that can are ``grow`` longer than they must be."""
    parts = []
    for kind, argument in tree:
        if kind is sre.LITERAL:
            parts.append(chr(argument))
        elif kind is sre.NOT_LITERAL:
            parts.append("a" if argument != ord("a") else "b")
        elif kind is sre.ANY:
            parts.append("a")
        elif kind is sre.IN:
            parts.append(_of_class(argument))
        elif kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, inner = argument
            parts.append(_made(inner, 0) * min(high, low + grow))
        elif kind is sre.SUBPATTERN:
            parts.append(_made(argument[3], grow))
        elif kind is sre.BRANCH:
            parts.append(_made(argument[1][0], grow))
        elif kind not in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
            raise AssertionError(f"a pattern has {kind}")
    return "".join(parts)


def _of_class(members) -> str:
    negated = members[0][0] is sre.NEGATE
    for character in "a1A" + string.ascii_letters + string.digits + string.punctuation + " ":
        if any(_is_in(character, member) for member in members) != negated:
            return character
    raise AssertionError(f"no character is of {members}")


def _is_in(character: str, member) -> bool:
    kind, argument = member
    if kind is sre.LITERAL:
        return ord(character) == argument
    if kind is sre.RANGE:
        return argument[0] <= ord(character) <= argument[1]
    if kind is sre.CATEGORY:
        tests = {
            sre.CATEGORY_DIGIT: str.isdigit,
            sre.CATEGORY_WORD: lambda text: text.isalnum() or text == "_",
            sre.CATEGORY_SPACE: str.isspace,
            sre.CATEGORY_NOT_SPACE: lambda text: not text.isspace(),
            sre.CATEGORY_NOT_DIGIT: lambda text: not text.isdigit(),
        }
        return tests[argument](character)
    return False
