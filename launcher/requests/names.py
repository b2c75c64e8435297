"""The names of training jobs: those that CreateTrainingJob takes, and those that are made here."""

from __future__ import annotations

import re
import time

from launcher.errors import JobNameError, RequestError
from launcher.requests.shapes import member_shape, shape
from launcher.requests.validation import check

_MEMBER = "TrainingJobName"


def check_job_name(name: str) -> str:
    """Return ``name`` if SageMaker takes it.

    Raises:
        JobNameError: too long, or with a character that is not allowed.
    """
    try:
        check(name, member_shape("CreateTrainingJob", _MEMBER), member=_MEMBER)
    except RequestError as error:
        raise JobNameError(
            error.message, "Use up to 63 letters, digits and '-', beginning and ending with a letter or digit."
        ) from error
    return name


def make_job_name(base: str, now: float | None = None) -> str:
    """Return ``base`` and a time stamp to the millisecond, cut to SageMaker's length, as its SDK names jobs."""
    seconds = time.time() if now is None else now
    longest = shape(member_shape("CreateTrainingJob", _MEMBER))["max"]
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S-", time.gmtime(seconds)) + f"{int(seconds * 1000) % 1000:03d}"
    cleaned = re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", base)).strip("-") or "job"
    return f"{cleaned[: longest - len(stamp) - 1].strip('-')}-{stamp}"
