"""What options of several commands hold: inputs and hyperparameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.errors import BadInputError


def exists(text: str) -> bool:
    """Return whether a text is the path of something."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path: it is something else
        return False


def channels_of(texts: list[str]) -> str | dict[str, str] | None:
    """Return the inputs of ``--input`` as ``fit`` takes them.

    Raises:
        BadInputError: several without names, or a name twice.
    """
    if not texts:
        return None
    if len(texts) == 1 and ("=" not in texts[0] or "://" in texts[0].split("=")[0] or exists(texts[0])):
        return texts[0]
    channels: dict[str, str] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator:
            raise BadInputError(f"--input {text}: several inputs need names.", "Write --input CHANNEL=PATH.")
        if name in channels:
            raise BadInputError(f"--input {text}: channel '{name}' is given twice.", "Give each channel once.")
        channels[name] = path
    return channels


def hyperparameters_of(texts: list[str]) -> dict[str, Any]:
    """Return the hyperparameters of ``--hyperparameter``.

    Raises:
        BadInputError: a text is not NAME=VALUE, or a name is given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, value = _hyperparameter(text)
        if name in values:
            raise BadInputError(
                f"--hyperparameter {text!r}: '{name}' is given twice.", "Give each hyperparameter once."
            )
        values[name] = value
    return values


def _hyperparameter(text: str) -> tuple[str, Any]:
    """Return name and value: a number or boolean where the text is one, else the text as it is."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise BadInputError(
            f"--hyperparameter {text!r} is not NAME=VALUE.", "For example: -p agent.learning_rate=0.001"
        )
    try:
        decoded = json.loads(value)
    except ValueError:
        return name, value
    return name, decoded if isinstance(decoded, int | float | bool) else value
