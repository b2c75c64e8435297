"""Hyperparameter tuning jobs: created, described, listed, stopped, deleted; and the training jobs of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.listing import page
from launcher.aws.sagemaker.records import Jobs, load, start_driver, with_s3
from launcher.jobs.kinds import TUNING_JOBS
from launcher.jobs.store import TuningStore
from launcher.requests.tuning import summarize_tuning
from launcher.tuning import service
from launcher.tuning.submission import submit_tuning

_STATUS = "HyperParameterTuningJobStatus"
_DEFAULT_ORDER = {"SortBy": "Name", "SortOrder": "Ascending"}
_JOBS = Jobs(
    kind=TUNING_JOBS,
    noun="hyperparameter tuning job",
    name_member="HyperParameterTuningJobName",
    status_member=_STATUS,
    describe_record=service.describe_loaded,
    summarize=lambda _, record: summarize_tuning(record),
    stopping={},
)
stop, delete = _JOBS.stop, _JOBS.delete


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a tuning job and start its driver."""
    name = submit_tuning(with_s3(document), home, warnings=document.warnings).name
    start_driver(TuningStore(home), name)
    return {"HyperParameterTuningJobArn": TUNING_JOBS.arn(name)}


def describe(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return what is known of a tuning job, its best training job among it, and have a driver see it through."""
    return _JOBS.describe(document, home)


def list_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the tuning jobs."""
    return _JOBS.page({**_DEFAULT_ORDER, **document}, home).answer("HyperParameterTuningJobSummaries")


def list_training_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the training jobs of a tuning job; by their objective, only those that have one."""
    store, name = TuningStore(home), document["HyperParameterTuningJobName"]
    load(store, name)
    summaries = service.list_training_jobs(store, name)
    wanted = document.get("StatusEquals")
    if wanted is not None:
        summaries = [summary for summary in summaries if summary["TrainingJobStatus"] == wanted]
    order = document.get("SortBy", _DEFAULT_ORDER["SortBy"])
    if order == "FinalObjectiveMetricValue":
        summaries = [summary for summary in summaries if "FinalHyperParameterTuningJobObjectiveMetric" in summary]
    keys = {
        "Name": lambda summary: summary["TrainingJobName"],
        "CreationTime": lambda summary: summary["CreationTime"].timestamp(),
        "Status": lambda summary: summary["TrainingJobStatus"],
        "FinalObjectiveMetricValue": lambda summary: summary["FinalHyperParameterTuningJobObjectiveMetric"]["Value"],
    }
    cut = page(
        document, summaries, keys[order], lambda summary: str(summary["TrainingJobName"]), default_order="Ascending"
    )
    return cut.answer("TrainingJobSummaries")
