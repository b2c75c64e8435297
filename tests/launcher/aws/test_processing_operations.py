"""Processing jobs by SageMaker's operations, as boto3 sends and reads them."""

import json

import pytest
from botocore.exceptions import WaiterError

from launcher.jobs.store import ProcessingStore
from launcher.sdk.processing_job import ProcessingJob
from launcher.storage import bucket_storage, which_s3
from tests.launcher.aws.clients import refused, sagemaker_client

WAITS = {"Delay": 0.1, "MaxAttempts": 300}
COPIES = """
import pathlib, sys
for path in pathlib.Path("/opt/ml/processing/input").glob("*.csv"):
    pathlib.Path("/opt/ml/processing/output", path.name).write_text(path.read_text().upper())
pathlib.Path("/opt/ml/output/message").write_text("copied " + sys.argv[1])
"""


@pytest.fixture
def client(home, monkeypatch, tmp_path):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    storage = bucket_storage(which_s3())
    storage.make_bucket("s3://logs")
    for name, text in (("raw/a.csv", "a"), ("raw/b.csv", "b"), ("code/clean.py", COPIES)):
        (tmp_path / "object").write_text(text)
        storage.upload_all({tmp_path / "object": f"s3://logs/{name}"})
    return sagemaker_client(home)


def processing_job(name, command=("python3", "/opt/ml/processing/input/code/clean.py"), **members):
    """Return the document that SDK v2's ScriptProcessor sends: the script is an input of its own."""

    def given(name, key, path):
        source = {"S3Uri": f"s3://logs/{key}", "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
        return {"InputName": name, "AppManaged": False, "S3Input": source}

    return {
        "ProcessingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/any",
        "AppSpecification": {
            "ImageUri": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
            "ContainerEntrypoint": list(command),
            "ContainerArguments": ["all"],
        },
        "ProcessingInputs": [
            given("raw", "raw", "/opt/ml/processing/input"),
            given("code", "code/clean.py", "/opt/ml/processing/input/code"),
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "clean",
                    "AppManaged": False,
                    "S3Output": {
                        "S3Uri": "s3://logs/clean",
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **members,
    }


def wait(client, name):
    client.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name, WaiterConfig=WAITS)
    return client.describe_processing_job(ProcessingJobName=name)


def test_a_job_that_boto3_creates_really_runs(client):
    request = processing_job("job-1")
    answer = client.create_processing_job(**request)
    assert answer["ProcessingJobArn"] == "arn:aws:sagemaker:us-east-1:000000000000:processing-job/job-1"
    described = wait(client, "job-1")
    assert described["ProcessingJobStatus"] == "Completed"
    assert described["ExitMessage"] == "copied all"
    for member in ("AppSpecification", "ProcessingOutputConfig", "ProcessingResources", "StoppingCondition"):
        assert described[member] == request[member]
    assert list(bucket_storage(which_s3()).keys("s3://logs", "clean")) == ["clean/a.csv", "clean/b.csv"]
    assert any("is not used" in text for text in ProcessingJob("job-1").warnings)


def test_a_job_that_fails_says_why(client):
    client.create_processing_job(**processing_job("job-1", ("python3", "-c", "raise SystemExit(3)")))
    with pytest.raises(WaiterError):
        wait(client, "job-1")
    described = client.describe_processing_job(ProcessingJobName="job-1")
    assert described["FailureReason"] == "AlgorithmError: , exit code: 3"


def test_jobs_are_listed_by_every_filter_and_by_page(client):
    for number, command in enumerate((("true",), ("false",), ("true",)), 1):
        application = {"ImageUri": "launcher-job", "ContainerEntrypoint": list(command)}
        request = processing_job(f"job-{number}", ProcessingInputs=[], AppSpecification=application)
        client.create_processing_job(**request)
    for name in ("job-1", "job-3"):
        wait(client, name)
    with pytest.raises(WaiterError):
        wait(client, "job-2")

    def names(**filters):
        return [
            entry["ProcessingJobName"] for entry in client.list_processing_jobs(**filters)["ProcessingJobSummaries"]
        ]

    assert names() == ["job-3", "job-2", "job-1"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["job-1", "job-2", "job-3"]
    assert names(StatusEquals="Failed") == names(NameContains="2") == ["job-2"]
    created = client.describe_processing_job(ProcessingJobName="job-2")["CreationTime"]
    assert names(CreationTimeAfter=created) == ["job-3", "job-2"]
    assert names(LastModifiedTimeBefore=created) == []
    pages = client.get_paginator("list_processing_jobs").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["ProcessingJobSummaries"]) for page in pages] == [2, 1]
    failed = client.list_processing_jobs(StatusEquals="Failed")["ProcessingJobSummaries"][0]
    assert failed["FailureReason"] == "AlgorithmError: , exit code: 1"


def test_a_job_is_stopped_and_deleted(client, home):
    client.create_processing_job(**processing_job("job-1", ("sleep", "60")))
    code, message = refused(client.delete_processing_job, ProcessingJobName="job-1")
    assert (code, "it is in status InProgress" in message) == ("ResourceInUse", True)
    client.stop_processing_job(ProcessingJobName="job-1")
    assert wait(client, "job-1")["ProcessingJobStatus"] == "Stopped"
    assert refused(client.stop_processing_job, ProcessingJobName="job-1") == (
        "ValidationException",
        "The request was rejected because the processing job is in status Stopped.",
    )
    client.delete_processing_job(ProcessingJobName="job-1")
    assert ProcessingStore(home).names() == []


def test_errors_are_in_the_words_of_aws(client, home):
    missing = ("ValidationException", "Could not find requested job with name: nobody")
    for call in (client.describe_processing_job, client.stop_processing_job, client.delete_processing_job):
        assert refused(call, ProcessingJobName="nobody") == missing
    code, message = refused(client.create_processing_job, **processing_job("a_b"))
    assert (code, message.partition(" failed")[0]) == (
        "ValidationException",
        "1 validation error detected: Value 'a_b' at 'processingJobName'",
    )
    nowhere = json.loads(json.dumps(processing_job("job-1")).replace("logs/raw", "logs/none"))
    code, message = refused(client.create_processing_job, **nowhere)
    assert (code, 'No S3 objects found under S3 URL "s3://logs/none"' in message) == ("ValidationException", True)
    assert ProcessingStore(home).names() == []
    client.create_processing_job(**processing_job("job-1"))
    code, message = refused(client.create_processing_job, **processing_job("job-1"))
    assert (code, message.partition(",")[0]) == (
        "ResourceInUse",
        "Processing job names must be unique within an AWS account and region",
    )
    wait(client, "job-1")
