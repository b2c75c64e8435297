"""SageMaker's operations: a document in, a document out, whatever carries them.

An operation is a function ``(document, home) -> document``. It raises ``AwsError``, or a ``LauncherError`` that
``answer`` turns into one. Its module is loaded when the operation is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError, aws_error
from launcher.errors import LauncherError

OPERATIONS: Mapping[str, str] = {}
"""Operation -> ``module:function``; the modules are of this package."""


def answer(operation: str, document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the answer to a request; values are those of JSON, and ``datetime`` for a time.

    Raises:
        AwsError: the request is refused.
    """
    place = OPERATIONS.get(operation)
    if place is None:
        raise AwsError("UnknownOperationException", f"{operation} is not an operation that is served here.")
    module, _, function = place.partition(":")
    try:
        result: dict[str, Any] = getattr(import_module(f"{__name__}.{module}"), function)(document, home)
    except LauncherError as error:
        raise aws_error(error) from error
    return result
