"""Values that are not shown: those of variables and hyperparameters whose name says that they are secret.

Plans, descriptions at the command line and messages are masked. What a job receives, ``job.json`` and what Python gets
from ``describe()`` are not: the job needs the real values, and the home that keeps them is the caller's alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_WORDS = frozenset({"apikey", "auth", "authorization", "cookie", "dsn", "key", "pat", "pin", "pwd", "token"})
# Anywhere in a name: no other word has these in it.
_PARTS = ("credential", "passphrase", "passwd", "password", "secret")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ARGUMENT = re.compile(r"(--([\w.-]+)[= ])('[^']*'|[^\s\"']+)")
_LOGIN_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


def is_secret(name: str) -> bool:
    """Return whether a name of a variable or a hyperparameter says that its value is secret."""
    lowered = name.lower()
    return any(part in lowered for part in _PARTS) or any(word.lower() in _WORDS for word in _WORD.findall(name))


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values with ``***`` for those of secret names, and for passwords in URLs."""
    return {name: MASK if is_secret(name) and value else masked_text(value) for name, value in values.items()}


def masked_text(text: str) -> str:
    """Return a text without the passwords of URLs and the values of secret arguments, ``--name value``, in it."""
    text = _ARGUMENT.sub(lambda match: f"{match[1]}{MASK}" if is_secret(match[2]) else match[0], text)
    return _LOGIN_IN_URL.sub(rf"\g<1>{MASK}", text)


def masked_json(text: str) -> str:
    """Return an object of texts, as JSON, with its secrets masked; anything else as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        return masked_text(text)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        return masked_text(text)
    return json.dumps(masked(values), separators=(",", ":"), ensure_ascii=False)


def masked_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of a job, in the shape of DescribeTrainingJob, with its secrets masked."""
    maps = {name: masked(description[name]) for name in ("HyperParameters", "Environment") if name in description}
    reason = {name: masked_text(description[name]) for name in ("FailureReason",) if name in description}
    return {**description, **maps, **reason}
