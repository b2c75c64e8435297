"""YAML that every reader takes for the same values: a text that one of them could read as something else is quoted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

# Readers of YAML 1.1 and 1.2 differ in the numbers and the words that they know.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class _Dumper(yaml.SafeDumper):
    """Writes texts plain only where no reader takes them for anything else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts in full: some readers know no anchors."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS
    style = None if plain else "|" if "\n" in value else '"'  # a script is read by people as well
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(document: Any, comments: Sequence[str] = ()) -> str:
    """Return JSON values as YAML, with a comment for each line of ``comments`` before them."""
    lines = "".join(f"# {' '.join(line.split())}\n" for line in comments)
    return lines + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
