"""A record in the shape of DescribeTrainingJob's answer."""

from __future__ import annotations

from typing import Any

from launcher.jobs.record import JobRecord, utc
from launcher.jobs.spec import job_keys
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import completed, training_request
from launcher.settings import LOCAL_ROLE_ARN, training_job_arn


def summarize_record(record: JobRecord) -> dict[str, Any]:
    """Return a record in the shape of an entry of ListTrainingJobs."""
    name = str(record.spec["job_name"])
    return {
        "TrainingJobName": name,
        "TrainingJobArn": training_job_arn(name),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "TrainingJobStatus": str(record.status),
        "SecondaryStatus": str(record.secondary_status),
        **({"TrainingEndTime": utc(record.ended)} if record.ended is not None else {}),
    }


def describe_record(record: JobRecord) -> dict[str, Any]:
    """Return a record in the shape of DescribeTrainingJob's answer: the request as it was accepted, and the state.

    A record of a version that did not keep the request is described by its spec.
    """
    spec = record.training_spec
    asked = completed(record.request) if record.request else training_request(spec)
    for member in ("Tags", OWN_MEMBER):
        asked.pop(member)
    answer: dict[str, Any] = {
        "TrainingJobName": spec.job_name,
        "InputDataConfig": [],
        **asked,
        "RoleArn": asked["RoleArn"] or LOCAL_ROLE_ARN,
        "TrainingJobArn": training_job_arn(spec.job_name),
        "ModelArtifacts": {"S3ModelArtifacts": job_keys(spec).model},
        "TrainingJobStatus": str(record.status),
        "SecondaryStatus": str(record.secondary_status),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        "SecondaryStatusTransitions": [
            {
                "Status": transition.status,
                "StartTime": utc(transition.start),
                **({"EndTime": utc(transition.end)} if transition.end is not None else {}),
                "StatusMessage": transition.message,
            }
            for transition in record.transitions
        ],
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": utc(seconds)}
            for name, value, seconds in record.final_metrics
        ],
        "ProfilingStatus": "Disabled",
    }
    if spec.tuning_job_arn:
        answer["TuningJobArn"] = spec.tuning_job_arn
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    if record.started is not None:
        answer["TrainingStartTime"] = utc(record.started)
    if record.ended is not None:
        answer["TrainingEndTime"] = utc(record.ended)
        if record.started is not None:
            measured = record.billable_seconds
            seconds = max(1, round(record.ended - record.started if measured is None else measured))
            billed = max(1, round(seconds * spec.spot.price)) if spec.spot else seconds
            answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": billed}
    return answer
