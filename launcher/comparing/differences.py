"""The result of a comparison as data: sections, each with the things that two jobs do not share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.secrets import MASK, is_secret, masked_text

CAME_OUT = ("outcome", "metrics", "results")
"""The sections on what came out of a job; the others are about what went in."""

_KEYS = ("ChannelName", "Name", "Key", "InstanceGroupName")  # members that name the entry of a list
_OWN_NAME = "<its name>"


@dataclass(frozen=True)
class Difference:
    """One thing that two jobs do not share.

    Attributes:
        subject: the member of the request by its dotted path, the file, the package, the metric.
        first, second: what each job has, as JSON values; None where it has nothing. Secrets are ``***``.
        lines: of a text file, what differs, as a unified diff without its head; cut after some lines.
    """

    subject: str
    first: Any
    second: Any
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One side of two jobs.

    Attributes:
        name: ``outcome``, ``request``, ``source``, ``data``, ``environment``, ``metrics`` or ``results``.
        compared: how many things were compared.
        differences: those that are not the same.
        notes: sentences on what could not be compared, or is left out on purpose.
    """

    name: str
    compared: int
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobComparison:
    """Two training jobs side by side.

    Attributes:
        first, second: their names.
        sections: in the order in which people read them.
    """

    first: str
    second: str
    sections: tuple[Section, ...]

    @property
    def same(self) -> bool:
        """Whether no section has a difference."""
        return not any(section.differences for section in self.sections)

    @property
    def same_results(self) -> bool:
        """Whether the same came out of both: their end, their metrics, each file that they left."""
        return not any(section.differences for section in self.sections if section.name in CAME_OUT)

    def section(self, name: str) -> Section:
        """Return a section by its name.

        Raises:
            KeyError: it was not compared.
        """
        return {section.name: section for section in self.sections}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "same": self.same, "same_results": self.same_results}


def compare_values(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str] = ("", "")
) -> list[Difference]:
    """Return the differences of two flat mappings, in the order of their keys; None is a value that is not there.

    Args:
        names: of the two jobs; texts that differ in nothing but the job's own name are the same.
    """
    return [
        Difference(key, *(_shown(key, values.get(key)) for values in (first, second)))
        for key in sorted({*first, *second})
        if first.get(key) != second.get(key)
        and without_name(json.dumps(first.get(key), default=str), names[0])
        != without_name(json.dumps(second.get(key), default=str), names[1])
    ]


def flattened(document: Any, path: str = "") -> dict[str, Any]:
    """Return the members of a JSON document that hold no others, by dotted path; entries of lists by their names."""
    if isinstance(document, Mapping) and document:
        return _merged(flattened(value, f"{path}.{name}" if path else name) for name, value in document.items())
    if isinstance(document, Sequence) and document and all(isinstance(entry, Mapping) for entry in document):
        return _merged(
            flattened(
                {name: value for name, value in entry.items() if name != key}, f"{path}[{entry.get(key, position)}]"
            )
            for position, entry in enumerate(document)
            for key in [next((name for name in _KEYS if name in entry), "")]
        )
    return {path: document} if document not in ({}, [], "", None) else {}


def _merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def without_name(text: str, name: str) -> str:
    """Return a text with the name of its job replaced, so that two jobs can be compared by it."""
    return re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", _OWN_NAME, text) if name else text


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, str) and value:
        return MASK if is_secret(key.rpartition(".")[2]) else masked_text(value)
    return value
