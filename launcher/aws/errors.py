"""What a client of the local AWS endpoint is told when its request is refused."""

from __future__ import annotations

from launcher.errors import LauncherError, RequestError


class AwsError(Exception):
    """An error in AWS's shape.

    Attributes:
        code: ``ValidationException``, ``ResourceInUse`` and so on.
        message: AWS's words where they are known; a hint follows on a line of its own.
        status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def not_emulated(words: str) -> AwsError:
    """Return the error for a service or an operation that nobody here answers.

    A code of our own, and status 400: a client raises it at once, where many try again after a 5xx.
    """
    return AwsError("NotEmulated", words)


def aws_error(error: LauncherError) -> AwsError:
    """Return the error that an AWS client is told for one of the launcher's own."""
    text = error.aws_message if isinstance(error, RequestError) and error.aws_message else str(error)
    return AwsError(error.aws_code, text)
