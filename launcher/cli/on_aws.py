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
    typer.Option("--mode", help="aws: a training job on Amazon SageMaker itself; by default of this machine."),
]
LATEST = "latest"


def job_on_aws(name: str, mode: str | None) -> RemoteTrainingJob | None:
    """Return a training job on AWS, where the mode says so; None for a job of this machine.

    Raises:
        BadInputError: there is no such mode.
        JobNotFoundError: there is no such job.
    """
    if not is_aws(mode):
        return None
    session = aws_session()
    if name == LATEST:
        newest = next(session.wire.summaries(MaxResults=1), None)
        if newest is None:
            raise JobNotFoundError(
                f"no training job at {session.wire.place.title}.", "Begin one: launcher fit --mode aws"
            )
        name = str(newest["TrainingJobName"])
    return session.job_on_aws(name)


def jobs_on_aws(*, status: str | None, name: str, limit: int | None) -> list[dict[str, Any]]:
    """Return summaries of training jobs on AWS, the newest first."""
    filters: dict[str, Any] = {key: text for key, text in (("StatusEquals", status), ("NameContains", name)) if text}
    summaries = aws_session().wire.summaries(**filters)
    return [entry for entry, _ in zip(summaries, range(limit or 100), strict=False)]


def rows_of(summaries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a table of them, with its headings."""
    rows: list[tuple[str, ...]] = [("JOB", "STATUS", "CREATED", "SECONDS")]
    for summary in summaries:
        created = summary["CreationTime"]
        last = summary["TrainingEndTime"].timestamp() if "TrainingEndTime" in summary else time.time()
        seconds = f"{last - created.timestamp():.0f}"
        moment = created.astimezone().strftime("%m-%d %H:%M")
        rows.append((summary["TrainingJobName"], summary["TrainingJobStatus"], moment, seconds))
    return rows


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
