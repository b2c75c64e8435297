"""What options of several commands hold: inputs and hyperparameters."""

from __future__ import annotations

import json
from typing import Any

from launcher.errors import BadInputError
from launcher.paths import exists
from launcher.terminal import say_error


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


def located(channels: str | dict[str, str] | None, default: str) -> str | dict[str, str] | None:
    """Return channels with the path of what a job left for each word that names a job.

    Args:
        channels: as ``channels_of`` returns them.
        default: the channel that a lone word is for.
    Raises:
        ChannelError: that job has left nothing of the kind, or neither a path nor a job has this name.
    """
    from launcher.sdk.job_results import referred_location

    if channels is None:
        return None
    if isinstance(channels, str):
        return referred_location(channels, default, tell=say_error)
    return {name: referred_location(text, name, tell=say_error) for name, text in channels.items()}


def metrics_of(texts: list[str]) -> list[dict[str, str]]:
    """Return the metric definitions of ``--metric``.

    Raises:
        BadInputError: a text is not NAME=REGEX.
    """
    definitions = []
    for text in texts:
        name, _, regex = text.partition("=")
        if not name or not regex:
            raise BadInputError(
                f"--metric {text!r} is not NAME=REGEX.", "For example: --metric 'score=score: ([0-9.]+)'"
            )
        definitions.append({"Name": name, "Regex": regex})
    return definitions


def variables_of(texts: list[str], example: str = "WORKERS=2") -> dict[str, str] | None:
    """Return the variables of ``--env``; None for none.

    Raises:
        BadInputError: a text is not NAME=VALUE.
    """
    variables = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise BadInputError(f"--env {text!r} is not NAME=VALUE.", f"For example: --env {example}")
        variables[name] = value
    return variables or None
