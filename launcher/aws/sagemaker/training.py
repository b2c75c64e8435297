"""Training jobs: created, described, listed, stopped, updated, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.records import Jobs, load, start_driver, with_s3
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.states import SecondaryStatus
from launcher.jobs.store import JobStore
from launcher.jobs.summaries import Summary
from launcher.requests.describe import describe_record, summarize_record
from launcher.requests.members import UPDATE_MEMBERS, refuse_unsupported
from launcher.running.runner import submit
from launcher.running.warm_pools import keep_for, warm_pool_status

_JOBS = Jobs(
    kind=TRAINING_JOBS,
    noun="training job",
    name_member="TrainingJobName",
    status_member="TrainingJobStatus",
    describe_record=describe_record,
    summarize=summarize_record,
    stopping={"SecondaryStatus": str(SecondaryStatus.STOPPING)},
    now=lambda home, job: _now(home, job),
)
stop, delete = _JOBS.stop, _JOBS.delete


def describe(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return what is known of a job, and have a driver see it through.

    Raises:
        AwsError: there is none.
    """
    answer, store = _JOBS.describe(document, home), JobStore(home)
    return {**answer, **warm_pool_status(store, load(store, document["TrainingJobName"]))}


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a job and start its driver; nothing is downloaded before the answer."""
    store = JobStore(home)
    name = submit(with_s3(document), store, warnings=document.warnings).name
    start_driver(store, name)
    return {"TrainingJobArn": TRAINING_JOBS.arn(name)}


def list_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the jobs. No job has a training plan, so that this filter leaves none."""
    if "TrainingPlanArnEquals" in document:
        return {"TrainingJobSummaries": []}
    wanted = document.get("WarmPoolStatusEquals")

    def passes(job: Summary) -> bool:
        return wanted is None or job.values.get("WarmPoolStatus", {}).get("Status") == wanted

    return _JOBS.page(document, home, at_once=False, passes=passes).answer("TrainingJobSummaries")


def update(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Change how long the warm pool of a job stays, and accept what changes nothing here: there is no profiler.

    Raises:
        AwsError: there is no such job, or it has no warm pool that is available.
    """
    name, store = document["TrainingJobName"], JobStore(home)
    record = load(store, name)
    refuse_unsupported(document, UPDATE_MEMBERS)
    seconds = document.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds")
    if seconds is not None and not keep_for(store, record, seconds) and seconds:
        raise AwsError(
            "ValidationException",
            f"KeepAlivePeriodInSeconds cannot be updated: the training job {TRAINING_JOBS.arn(name)} has no warm pool "
            "that is available.",
        )
    return {"TrainingJobArn": TRAINING_JOBS.arn(name)}


def _now(home: Path, job: Summary) -> Summary:
    """Return a line of the list with what became of the job's warm pool, which changes without its record."""
    if "WarmPoolStatus" not in job.values:
        return job
    store = JobStore(home)
    return job._replace(values={**job.values, **warm_pool_status(store, load(store, job.name))})
