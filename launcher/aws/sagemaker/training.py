"""Training jobs: created, described, listed, stopped, updated, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.listing import list_page
from launcher.aws.sagemaker.records import load, looked_after, remove_ended, shown_status, start_driver, with_s3
from launcher.aws.sagemaker.records import stop as stop_job
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from launcher.jobs.summaries import Summary, summaries
from launcher.requests.describe import describe_record, summarize_record
from launcher.requests.members import UPDATE_MEMBERS, refuse_unsupported
from launcher.running.runner import submit
from launcher.settings import training_job_arn

_NOUN = "training job"


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a job and start its driver; nothing is downloaded before the answer."""
    store = JobStore(home)
    name = submit(with_s3(document), store, warnings=document.warnings).name
    start_driver(store, name)
    return {"TrainingJobArn": training_job_arn(name)}


def describe(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return what is known of a job, and have a driver see it through."""
    store, name = JobStore(home), document["TrainingJobName"]
    record = looked_after(store, name)
    status = shown_status(store, name, record)
    answer = describe_record(record)
    return answer if status == record.status else {**answer, **_stopping()}


def list_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the jobs; those that were not driven any more are driven again."""
    store = JobStore(home)
    jobs = (
        [] if {"WarmPoolStatusEquals", "TrainingPlanArnEquals"} & set(document) else summaries(store, summarize_record)
    )
    jobs = [job if job.terminal else _as_shown(store, job) for job in jobs]
    cut = list_page(document, jobs, status=_status, at_once=False)
    return cut.answer("TrainingJobSummaries", [dict(job.values) for job in cut.entries])


def stop(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Ask for a job's stop: SIGTERM, two minutes, SIGKILL."""
    stop_job(JobStore(home), document["TrainingJobName"], _NOUN)
    return {}


def update(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Accept what changes nothing here: there is no profiler, no remote debugger, and no instance is kept."""
    name = document["TrainingJobName"]
    load(JobStore(home), name)
    refuse_unsupported(document, UPDATE_MEMBERS)
    return {"TrainingJobArn": training_job_arn(name)}


def delete(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove the record and the folder of a job that has ended; what it put to S3 stays."""
    remove_ended(JobStore(home), document["TrainingJobName"], _NOUN)
    return {}


def _as_shown(store: JobStore, job: Summary) -> Summary:
    try:
        record = looked_after(store, job.name)
    except AwsError:  # deleted at this moment
        return job
    stopping = shown_status(store, job.name, record) != record.status
    return job._replace(values={**job.values, **_stopping()}) if stopping else job


def _stopping() -> dict[str, str]:
    return {"TrainingJobStatus": str(Status.STOPPING), "SecondaryStatus": str(SecondaryStatus.STOPPING)}


def _status(job: Summary) -> str:
    return str(job.values["TrainingJobStatus"])
