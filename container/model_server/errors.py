"""What ends a request or the server with a reason."""


class RequestError(Exception):
    """A request that cannot be answered, and the HTTP status that says so; the text is the answer's ``error``."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ServingError(Exception):
    """The server cannot start: a variable, the model folder or the user's code is wrong."""


class HandlerError(Exception):
    """A function of the user's code raised; the cause is the exception. The text is the last line of its traceback."""
