"""Training jobs: created, described, listed, stopped, updated, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.records import Jobs, load, start_driver, with_s3
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.states import SecondaryStatus
from launcher.jobs.store import JobStore
from launcher.requests.describe import describe_record, summarize_record
from launcher.requests.members import UPDATE_MEMBERS, refuse_unsupported
from launcher.running.runner import submit

_JOBS = Jobs(
    kind=TRAINING_JOBS,
    noun="training job",
    name_member="TrainingJobName",
    status_member="TrainingJobStatus",
    describe_record=lambda _, record: describe_record(record),
    summarize=summarize_record,
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
    """Return a page of the jobs. No job has a warm pool or a training plan, so these filters leave none."""
    if {"WarmPoolStatusEquals", "TrainingPlanArnEquals"} & set(document):
        return {"TrainingJobSummaries": []}
    return _JOBS.page(document, home, at_once=False).answer("TrainingJobSummaries")


def update(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Accept what changes nothing here: there is no profiler, no remote debugger, and no instance is kept."""
    name = document["TrainingJobName"]
    load(JobStore(home), name)
    refuse_unsupported(document, UPDATE_MEMBERS)
    return {"TrainingJobArn": TRAINING_JOBS.arn(name)}
