"""The part of JSONPath that SageMaker's InputFilter and OutputFilter take, and how a record is filtered by it.

``$``, ``.name``, ``.*``, ``['a','b']``, ``[1]``, ``[-1]``, ``[1,3]``, ``[2:5]``, ``[:5]``, ``[2:]`` and mixtures such
as ``[0,5:]``. A CSV record is an array, so only indexes make sense there. There are no nested names in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import BadInputError

MAX_LENGTH = 63
_NAME = re.compile(r"\.([A-Za-z0-9_\-]+)")
_QUOTED = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*""")
_INDEX = re.compile(r"\s*(-?\d+)\s*")
_SLICE = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*")


class FilterError(ValueError):
    """A record has nothing at the place that a filter names."""


@dataclass(frozen=True)
class _Name:
    """Members of an object; one in a ``.name``, or several in brackets."""

    names: tuple[str, ...]
    in_brackets: bool


@dataclass(frozen=True)
class _Indexes:
    """Items of an array: positions and slices, in their order."""

    parts: tuple[int | slice, ...]


@dataclass(frozen=True)
class _All:
    """Every item of an array, or every value of an object."""


@dataclass(frozen=True)
class JsonPath:
    """A filter, ready to be used.

    Attributes:
        text: as it was given.
        steps: what it does, in order.
    """

    text: str
    steps: tuple[_Name | _Indexes | _All, ...]

    @property
    def takes_all(self) -> bool:
        """Whether it is ``$``, which leaves every record as it is."""
        return not self.steps

    def select(self, value: Any) -> Any:
        """Return the part of a record that the filter names.

        A filter of several names or indexes returns an array or, for names, an object with these members.

        Raises:
            FilterError: the record has no such part.
        """
        values = [value]
        spread = False
        for step in self.steps:
            values, spread = (
                [result for inner in values for result in _step(step, inner, self.text)],
                _spreads(step, spread),
            )
        return values if spread else values[0]


def parse(text: str) -> JsonPath:
    """Return a filter.

    Raises:
        BadInputError: it is longer than 63 characters, or not of the subset.
    """
    if len(text) > MAX_LENGTH:
        raise BadInputError(
            f"the filter {text!r:.80} has {len(text)} characters.", f"A filter has at most {MAX_LENGTH}."
        )
    if not text.startswith("$"):
        raise _refused(text, 0)
    steps: list[_Name | _Indexes | _All] = []
    position = 1
    while position < len(text):
        if text.startswith(".*", position):
            steps.append(_All())
            position += 2
        elif match := _NAME.match(text, position):
            steps.append(_Name((match[1],), in_brackets=False))
            position = match.end()
        elif text[position] == "[":
            step, position = _bracket(text, position)
            steps.append(step)
        else:
            raise _refused(text, position)
    return JsonPath(text, tuple(steps))


def _bracket(text: str, start: int) -> tuple[_Name | _Indexes | _All, int]:
    if match := re.compile(r"\[\s*\*\s*\]").match(text, start):
        return _All(), match.end()
    position, names, parts = start + 1, list[str](), list[int | slice]()
    while True:
        if match := _QUOTED.match(text, position):
            names.append(re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2]))
        elif match := _SLICE.match(text, position):
            if not (match[1] or match[2]) or "-" in (match[1], match[2]):
                raise _refused(text, position)
            parts.append(slice(int(match[1]) if match[1] else None, int(match[2]) if match[2] else None))
        elif match := _INDEX.match(text, position):
            parts.append(int(match[1]))
        else:
            raise _refused(text, position)
        position = match.end()
        end = text[position : position + 1]
        if end not in (",", "]") or (names and parts):
            raise _refused(text, position)
        position += 1
        if end == "]":
            return (_Name(tuple(names), in_brackets=True) if names else _Indexes(tuple(parts))), position


def _refused(text: str, position: int) -> BadInputError:
    return BadInputError(
        f"the filter {text!r} is not understood from character {position + 1} on.",
        "SageMaker takes $, .name, *, ['a','b'], [1], [-1], [1,3], [2:5], [:5], [2:] and [0,5:].",
    )


def _spreads(step: _Name | _Indexes | _All, spread: bool) -> bool:
    if isinstance(step, _All):
        return True
    if isinstance(step, _Indexes) and (len(step.parts) > 1 or isinstance(step.parts[0], slice)):
        return True
    return spread


def _step(step: _Name | _Indexes | _All, value: Any, text: str) -> Sequence[Any]:
    if isinstance(step, _All):
        if isinstance(value, dict):
            return list(value.values())
        if isinstance(value, list):
            return value
        raise FilterError(f"the filter {text} wants an array or an object where there is {_kind(value)}")
    if isinstance(step, _Name):
        if not isinstance(value, dict):
            raise FilterError(f"the filter {text} wants an object where there is {_kind(value)}")
        for name in step.names:
            if name not in value:
                raise FilterError(f"the filter {text} wants '{name}', which the record has not")
        if len(step.names) == 1:
            return [value[step.names[0]]]
        return [{name: value[name] for name in step.names}]
    if not isinstance(value, list):
        raise FilterError(f"the filter {text} wants an array where there is {_kind(value)}")
    chosen: list[Any] = []
    for part in step.parts:
        if isinstance(part, slice):
            chosen += value[part]
        elif -len(value) <= part < len(value):
            chosen.append(value[part])
        else:
            raise FilterError(f"the filter {text} wants index {part} of {len(value)} items")
    return chosen


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
