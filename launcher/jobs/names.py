"""Job names, by SageMaker's rules."""

from __future__ import annotations

import re
import time

from launcher.errors import JobNameError

MAX_NAME_LENGTH = 63
_NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def check_job_name(name: str) -> str:
    """Return ``name`` if SageMaker would take it.

    Raises:
        JobNameError: too long, or with a character that is not allowed.
    """
    if not isinstance(name, str) or not name:
        raise JobNameError(f"the job name {name!r} is empty or not text.", "Use letters, digits and single '-' signs.")
    if len(name) > MAX_NAME_LENGTH:
        raise JobNameError(
            f"the job name '{name}' has {len(name)} characters; SageMaker takes {MAX_NAME_LENGTH}.", "Shorten it."
        )
    if not _NAME_PATTERN.fullmatch(name):
        raise JobNameError(
            f"the job name '{name}' is not one that SageMaker takes.",
            "Use letters, digits and '-', beginning and ending with a letter or digit.",
        )
    return name


def make_job_name(base: str, now: float | None = None) -> str:
    """Return ``base`` and a time stamp to the millisecond, cut to SageMaker's length, as its SDK names jobs."""
    seconds = time.time() if now is None else now
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S-", time.gmtime(seconds)) + f"{int(seconds * 1000) % 1000:03d}"
    cleaned = re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", base)).strip("-") or "job"
    return f"{cleaned[: MAX_NAME_LENGTH - len(stamp) - 1].strip('-')}-{stamp}"
