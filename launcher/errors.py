"""Every error that the host's side raises, as one tree.

Each class carries the exit code that the command line returns and the error code that an AWS client is told.
A message says what happened and where; ``hint`` says what to do and stands on a line of its own.
"""

from __future__ import annotations


class LauncherError(Exception):
    """The root: something went wrong that the launcher can name.

    Args:
        message: what happened, and where.
        hint: what to do about it; may be empty.
    """

    exit_code = 1
    aws_code = "InternalFailure"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class BadInputError(LauncherError, ValueError):
    """What was asked for cannot be done as it was written; nothing has been started."""

    exit_code = 2
    aws_code = "ValidationException"


class RequestError(BadInputError):
    """A request has a member that the service model, or a rule beside it, refuses.

    Attributes:
        aws_message: AWS's words for it, whole; the message for people cuts long values and lists of choices.
        members: the members that are wrong, as boto3 names them: ``ResourceConfig.InstanceType``.
    """

    def __init__(self, message: str, hint: str = "", *, aws_message: str = "", members: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.aws_message = aws_message or message
        self.members = members


class SettingsError(BadInputError):
    """An environment variable or a folder that the launcher needs is missing or wrong."""


class SourceError(BadInputError):
    """The entry point, the source folder or a dependency cannot be packed."""


class PresetError(BadInputError):
    """A preset is missing or does not say what a preset must say."""


class HyperparameterError(BadInputError):
    """A hyperparameter has a name or a value that a job cannot receive."""


class ChannelError(BadInputError):
    """An input channel has a bad name or nothing to read."""


class OutputPathError(BadInputError):
    """Results cannot be written to the output path."""


class JobNameError(BadInputError):
    """A job name is not one that SageMaker accepts."""


class JobExistsError(JobNameError):
    """The job name is used already."""

    aws_code = "ResourceInUse"


class JobNotFoundError(BadInputError):
    """No job of that name was started from this home."""


class TakenError(BadInputError):
    """A model, an endpoint or its configuration has this name already."""


class NotFoundError(BadInputError):
    """No model, endpoint or configuration has this name."""


class TuningJobNotFoundError(JobNotFoundError):
    """No tuning job has this name."""

    aws_code = "ResourceNotFound"


class RecordError(LauncherError):
    """A job's record is damaged, or of a form that this version cannot read; other jobs are not affected."""


class JobFolderError(LauncherError):
    """A job's own files could not be written or read while it ran: a full disk, a folder that was removed."""


class UnsupportedOptionError(BadInputError):
    """An option of the SageMaker SDK that is not emulated; it is never silently ignored."""


class DebuggerError(BadInputError):
    """A job cannot be debugged as it was asked: no debugger is installed, or its program takes none."""


class UnsupportedNameError(UnsupportedOptionError, AttributeError):
    """A member of a class of the SageMaker SDK that is not emulated."""


class UnsupportedImportError(UnsupportedOptionError, ImportError):
    """A name or a module of the SageMaker SDK that is not emulated."""


class FrameworkError(BadInputError, AttributeError):
    """Arguments of a framework's estimator or model that the SDK refuses with an AttributeError."""


class ImageError(BadInputError):
    """A container image is unknown, cannot be built, or does not follow the contract."""


class RuntimeUnavailableError(BadInputError):
    """The runtime that was asked for cannot run a job on this machine now."""


class StorageError(BadInputError):
    """A bucket, a key or a request that S3 would refuse as well, or a store that cannot do what it is asked.

    Args:
        aws_code: S3's own name for it, such as ``NoSuchBucket``.
        words: S3's own words for it.
        place: the bucket or object as a URI, or the file; may be empty.
        hint: what to do about it; may be empty.
    """

    def __init__(self, aws_code: str, words: str, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {words} ({aws_code})" if place else f"{words} ({aws_code})", hint)
        self.aws_code = aws_code
        self.words = words
        self.place = place


class S3RequestError(StorageError):
    """Another S3 refused a request, or did not answer it; the message names operation, key and number of tries.

    Args:
        code: of the answer, such as ``AccessDenied``; for no answer the name of boto3's error.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, code: str = "ServiceUnavailable") -> None:
        super().__init__(code, message, hint=hint)
        self.message = message
        self.args = (message, hint)


class RemoteRequestError(LauncherError):
    """AWS, or a server in its place, refused a request or did not answer it; the message names operation and place.

    Attributes:
        aws_code: of the answer, such as ``ResourceLimitExceeded``; for no answer the name of boto3's error.
        status: of the answer in HTTP; 0 for no answer.
    """

    def __init__(self, message: str, hint: str = "", *, code: str = "ServiceUnavailable", status: int = 0) -> None:
        super().__init__(message, hint)
        self.aws_code = code
        self.status = status


class MissingObjectError(LauncherError, FileNotFoundError):
    """An object that was waited for did not appear."""

    aws_code = "NoSuchKey"


class ArtifactError(LauncherError):
    """An archive cannot be packed, or must not be unpacked."""


class CaptureError(LauncherError):
    """What an endpoint captured is no log of decisions."""


class ModelHostError(LauncherError):
    """A model's container ended, or never answered its health check.

    Attributes:
        log_lines: the last lines that it printed.
    """

    aws_code = "ModelError"

    def __init__(self, message: str, hint: str = "", *, log_lines: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.log_lines = log_lines


class EndpointFailedError(LauncherError):
    """An endpoint does not answer as it was asked to; the message holds its FailureReason."""


class InvocationError(LauncherError):
    """An endpoint answered a request with an error, or did not answer.

    Attributes:
        response: the error as boto3's ``ClientError`` holds it.
    """

    def __init__(self, code: str, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.aws_code = code
        self.response: dict[str, object] = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


class ModelError(InvocationError):
    """A model's container answered a request with an error.

    Attributes:
        original_status_code: the container's own; 0 where it gave no answer.
        original_message: what it said.
    """

    def __init__(self, code: str, status: int, message: str, *, status_of_model: int, message_of_model: str) -> None:
        super().__init__(code, status, message)
        self.original_status_code = status_of_model
        self.original_message = message_of_model
        self.response |= {"OriginalStatusCode": status_of_model, "OriginalMessage": message_of_model}


class AsyncInferenceError(LauncherError):
    """An asynchronous request has no answer: not yet, or because the model's container answered with an error."""


class JobFailedError(LauncherError):
    """The job ended with the status ``Failed``.

    Attributes:
        job_name: the job.
        reason: its FailureReason.
        exit_code_of_job: what the container or process returned; None when it never ran.
    """

    def __init__(self, message: str, hint: str = "", *, job_name: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.job_name = job_name
        self.reason = reason
        self.exit_code_of_job: int | None = None
