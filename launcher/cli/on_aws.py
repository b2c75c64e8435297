"""Jobs on Amazon SageMaker itself, for the commands that take ``--mode aws``; nothing else reaches AWS."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.errors import BadInputError, JobNotFoundError

if TYPE_CHECKING:
    from launcher.sdk.aws_training import AwsSubmission
    from launcher.sdk.remote_training_job import RemoteTrainingJob
    from launcher.sdk.session import Session

OnAws = Annotated[
    str | None,
    typer.Option("--mode", help="aws: a job on Amazon SageMaker itself; by default of this machine."),
]
BucketName = Annotated[
    str | None, typer.Option("--bucket", help="The bucket for source, inputs and results; on AWS one of yours.")
]
RoleArn = Annotated[str | None, typer.Option("--role", help="The role of the job, an ARN; on AWS it needs one.")]
LATEST = "latest"


def job_on_aws(name: str, mode: str | None) -> RemoteTrainingJob | None:
    """Return a training job on AWS, where the mode says so; None for a job of this machine.

    Raises:
        BadInputError: there is no such mode.
        JobNotFoundError: there is no such job.
    """
    job: RemoteTrainingJob | None = job_of_kind_on_aws(name, mode, None)
    return job


def job_of_kind_on_aws(name: str, mode: str | None, kind: str | None) -> Any:
    """Do the same for a job of any kind.

    Args:
        kind: a word of ``--kind``; None for training jobs.
    Raises:
        BadInputError: as ``job_on_aws``, or AWS has no jobs of the kind.
    """
    if not is_aws(mode):
        return None
    handle, wire = _handle_of(kind), aws_session().wire
    if name == LATEST:
        newest = next(wire.summaries(handle.remote_kind, MaxResults=1), None)
        if newest is None:
            raise JobNotFoundError(f"no {handle.noun} at {wire.place.title}.", "Begin one with --mode aws.")
        name = str(newest[f"{handle.remote_kind.noun}Name"])
    return handle(name, wire)


def jobs_on_aws(kind: str | None, *, status: str | None, name: str, limit: int | None) -> list[dict[str, Any]]:
    """Return summaries of jobs of a kind on AWS, the newest first; of training jobs where none is named."""
    filters: dict[str, Any] = {key: text for key, text in (("StatusEquals", status), ("NameContains", name)) if text}
    summaries = aws_session().wire.summaries(_handle_of(kind).remote_kind, **filters)
    return [entry for entry, _ in zip(summaries, range(limit or 100), strict=False)]


def rows_of(summaries: list[dict[str, Any]], kind: str | None) -> list[tuple[str, ...]]:
    """Return the rows of a table of them, with its headings."""
    noun = _handle_of(kind).remote_kind.noun
    ended = f"{noun.removesuffix('Job')}EndTime"
    rows: list[tuple[str, ...]] = [("JOB", "STATUS", "CREATED", "SECONDS")]
    for summary in summaries:
        created = summary["CreationTime"]
        last = summary[ended].timestamp() if ended in summary else time.time()
        seconds = f"{last - created.timestamp():.0f}"
        moment = created.astimezone().strftime("%m-%d %H:%M")
        rows.append((summary[f"{noun}Name"], summary[f"{noun}Status"], moment, seconds))
    return rows


def _handle_of(kind: str | None) -> Any:
    """Return the class of the handle on a job of a kind.

    Raises:
        BadInputError: AWS has no jobs of the kind.
    """
    from launcher.sdk.processing_job import RemoteProcessingJob
    from launcher.sdk.remote_training_job import RemoteTrainingJob
    from launcher.sdk.transform_job import RemoteTransformJob
    from launcher.sdk.tuning_job import RemoteTuningJob

    handles = {
        "training": RemoteTrainingJob,
        "processing": RemoteProcessingJob,
        "transform": RemoteTransformJob,
        "tuning": RemoteTuningJob,
    }
    word = kind or "training"
    if word not in handles:
        raise BadInputError(f"--kind {kind!r} is not there with --mode aws.", f"Use one of: {', '.join(handles)}.")
    return handles[word]


def submission_of(document: Mapping[str, Any]) -> AwsSubmission:
    """Return what a CreateTrainingJob document that somebody wrote sends to AWS.

    Raises:
        BadInputError: it is of another kind, or AWS would refuse it.
    """
    from launcher.requests.shapes import OWN_MEMBER
    from launcher.sdk.aws_training import submission_for_aws

    if "TrainingJobName" not in document:
        raise BadInputError("--mode aws runs CreateTrainingJob documents alone.", "Send others with boto3.")
    return submission_for_aws({name: member for name, member in document.items() if name != OWN_MEMBER})


def is_aws(mode: str | None) -> bool:
    """Return whether a mode means AWS itself.

    Raises:
        BadInputError: there is no such mode.
    """
    if mode is None:
        return False
    from launcher.settings import AWS_MODE, MODE_NAMES

    if mode not in (AWS_MODE, *MODE_NAMES):
        raise BadInputError(f"--mode {mode!r} is no mode.", f"Use one of: {', '.join((*MODE_NAMES, AWS_MODE))}.")
    return mode == AWS_MODE


def aws_session() -> Session:
    """Return a session that talks to AWS."""
    from launcher.sdk.session import Session
    from launcher.settings import AWS_MODE

    return Session(mode=AWS_MODE)


def session_of(mode: str | None, bucket: str | None) -> Session | None:
    """Return the session that a command's options ask for; None where they name no bucket."""
    if bucket is None:
        return None
    from launcher.sdk.session import Session

    return Session(mode=mode, default_bucket=bucket)
