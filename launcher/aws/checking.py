"""Checks a request to another service than SageMaker against its model, in AWS's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.aws.errors import AwsError
from launcher.errors import RequestError
from launcher.requests.shapes import operation_shape
from launcher.requests.validation import check


def check_document(document: Mapping[str, Any], operation: str, code: str) -> None:
    """Refuse a request that the service model refuses.

    Args:
        operation: with its service, ``logs:GetLogEvents``.
        code: of the error.
    Raises:
        AwsError: it does.
    """
    try:
        check(document, operation_shape(operation))
    except RequestError as error:
        raise AwsError(code, error.aws_message) from error
