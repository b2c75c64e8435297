"""Training jobs: created, described, listed, stopped, updated, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.listing import list_page
from launcher.aws.sagemaker.records import Jobs, load, start_driver, with_s3
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.record import JobRecord
from launcher.jobs.states import SecondaryStatus
from launcher.jobs.store import JobStore, Store
from launcher.jobs.summaries import summaries
from launcher.requests.describe import describe_record, summarize_record
from launcher.requests.members import UPDATE_MEMBERS, refuse_unsupported
from launcher.running.accepting import submit
from launcher.running.warm_pools import keep_for, warm_pool_status

_Store = Store[JobRecord]


def _description(store: _Store, record: JobRecord) -> dict[str, Any]:
    return {**describe_record(record), **warm_pool_status(store, record)}


def _summary(store: _Store, record: JobRecord) -> dict[str, Any]:
    return {**summarize_record(record), **warm_pool_status(store, record)}


_JOBS = Jobs(
    kind=TRAINING_JOBS,
    noun="training job",
    name_member="TrainingJobName",
    status_member="TrainingJobStatus",
    describe_record=_description,
    summarize=_summary,
    stopping={"SecondaryStatus": str(SecondaryStatus.STOPPING)},
)
describe, stop, delete = _JOBS.describe, _JOBS.stop, _JOBS.delete


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
    if "WarmPoolStatusEquals" in document:
        return _list_by_warm_pool(document, JobStore(home))
    return _JOBS.page(document, home, at_once=False).answer("TrainingJobSummaries")


def _list_by_warm_pool(document: Mapping[str, Any], store: JobStore) -> dict[str, Any]:
    """Return a page of the jobs whose warm pools have the wanted status, which changes without their records."""
    chosen = []
    for job in summaries(store, _name_of_pool):
        if job.values["pool"]:
            values = _summary(store, load(store, job.name))
            if values["WarmPoolStatus"]["Status"] == document["WarmPoolStatusEquals"]:
                chosen.append(job._replace(values=values))
    cut = list_page(document, chosen, status=lambda job: str(job.values["TrainingJobStatus"]))
    return cut._replace(entries=[dict(job.values) for job in cut.entries]).answer("TrainingJobSummaries")


def _name_of_pool(record: JobRecord) -> dict[str, str]:
    return {"pool": record.warm_pool}


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
