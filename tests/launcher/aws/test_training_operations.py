"""Training jobs by SageMaker's operations, as boto3 sends and reads them."""

import os
import signal
import time
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError

import launcher
from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import answer
from launcher.settings import home_path
from launcher.storage import bucket_storage, which_s3
from tests.launcher.aws.clients import refused, sagemaker_client, training_job

WAITS = {"Delay": 0.1, "MaxAttempts": 300}


@pytest.fixture
def client(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    bucket_storage(which_s3()).make_bucket("s3://results")
    return sagemaker_client(home)


def wait(client, name):
    client.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=WAITS)
    return client.describe_training_job(TrainingJobName=name)


def test_a_job_that_boto3_creates_really_runs(client):
    script = "import os; open('/opt/ml/model/weights', 'w').write(os.environ['GREETING']); print('loss=0.5;')"
    request = training_job("job-1", script, Environment={"GREETING": "hello"})
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=(.*?);"}]
    began = time.time()
    answer = client.create_training_job(**request)
    assert answer["TrainingJobArn"] == "arn:aws:sagemaker:us-east-1:000000000000:training-job/job-1"
    described = wait(client, "job-1")
    assert described["TrainingJobStatus"] == "Completed"
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == "s3://results/jobs/job-1/output/model.tar.gz"
    assert [metric["Value"] for metric in described["FinalMetricDataList"]] == [0.5]
    assert described["OutputDataConfig"]["KmsKeyId"] == ""
    assert described["CreationTime"].timestamp() == pytest.approx(began, abs=5)
    statuses = [entry["Status"] for entry in described["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    job = launcher.TrainingJob("job-1")
    assert (job.outputs.model_path / "weights").read_text() == "hello"


def test_an_answer_has_the_members_and_types_that_the_model_of_botocore_says(client):
    """botocore drops what its model does not have, so an unknown member would show as a missing one."""
    client.create_training_job(**training_job("job-1"))
    wait(client, "job-1")
    raw = answer("DescribeTrainingJob", {"TrainingJobName": "job-1"}, home_path())
    parsed = client.describe_training_job(TrainingJobName="job-1")
    assert set(raw) == set(parsed) - {"ResponseMetadata"}


def test_a_name_in_use_is_refused_in_the_words_of_aws(client):
    client.create_training_job(**training_job("job-1"))
    code, message = refused(client.create_training_job, **training_job("job-1"))
    assert code == "ResourceInUse"
    assert message.startswith(
        "Training job names must be unique within an AWS account and region, and a training job with this name already "
        "exists (arn:aws:sagemaker:us-east-1:000000000000:training-job/job-1)"
    )
    wait(client, "job-1")


def test_what_is_refused_leaves_nothing_behind(client, store):
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://results/nothing"}},
    }
    code, message = refused(client.create_training_job, **training_job("job-1", InputDataConfig=[channel]))
    assert code == "ValidationException"
    assert 'No S3 objects found under S3 URL "s3://results/nothing"' in message
    code, message = refused(client.create_training_job, **training_job("job_1"))
    assert (code, message) == (
        "ValidationException",
        "1 validation error detected: Value 'job_1' at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    )
    code, message = refused(client.create_training_job, **training_job("job-1", EnableManagedSpotTraining=True))
    assert code == "ValidationException"
    assert message == (
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
    )
    assert store.names() == []
    assert not store.path.exists()


@pytest.mark.parametrize("operation", ["describe", "stop", "update", "delete"])
def test_a_job_that_is_not_there_is_a_validation_exception_as_with_aws(client, operation):
    call = getattr(client, f"{operation}_training_job")
    assert refused(call, TrainingJobName="nobody") == ("ValidationException", "Requested resource not found.")


def test_a_job_is_stopped_and_its_stop_may_be_asked_for_again(client):
    client.create_training_job(**training_job("job-1", "import time; time.sleep(60)"))
    client.stop_training_job(TrainingJobName="job-1")
    assert client.describe_training_job(TrainingJobName="job-1")["TrainingJobStatus"] in ("Stopping", "Stopped")
    described = wait(client, "job-1")
    assert described["TrainingJobStatus"] == "Stopped"
    assert "FailureReason" not in described
    assert refused(client.stop_training_job, TrainingJobName="job-1") == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def test_the_waiter_sees_a_failure_and_the_reason_is_there(client):
    client.create_training_job(**training_job("job-1", "raise SystemExit(3)"))
    with pytest.raises(WaiterError):
        wait(client, "job-1")
    assert "exit code: 3" in client.describe_training_job(TrainingJobName="job-1")["FailureReason"]


def test_a_job_is_deleted_only_when_it_has_ended_and_its_results_stay(client, store):
    client.create_training_job(**training_job("job-1", "open('/opt/ml/model/m', 'w').write('m')"))
    code, message = refused(client.delete_training_job, TrainingJobName="job-1")
    assert code == "ResourceInUse"
    assert "it is in status InProgress" in message
    model = wait(client, "job-1")["ModelArtifacts"]["S3ModelArtifacts"]
    client.delete_training_job(TrainingJobName="job-1")
    assert store.names() == []
    assert list(store.path.iterdir()) == []
    assert bucket_storage(which_s3()).exists(model)


def test_an_update_that_changes_nothing_here_is_accepted_and_others_are_named(client):
    client.create_training_job(**training_job("job-1"))
    client.update_training_job(TrainingJobName="job-1", ResourceConfig={"KeepAlivePeriodInSeconds": 0})
    code, message = refused(
        client.update_training_job, TrainingJobName="job-1", RemoteDebugConfig={"EnableRemoteDebug": True}
    )
    assert code == "ValidationException"
    assert message.startswith("RemoteDebugConfig.EnableRemoteDebug=True is not emulated.")
    wait(client, "job-1")


def test_a_member_that_no_model_has_is_ignored_and_the_record_says_so(client, home, store):
    document = training_job("job-1", NewMember=1)
    document["ResourceConfig"]["NewerMember"] = {"a": 1}
    answer("CreateTrainingJob", document, home)
    assert wait(client, "job-1")["TrainingJobStatus"] == "Completed"
    assert sorted(store.load("job-1").warnings) == [
        "NewMember is no member that this version knows; it is ignored, as AWS does",
        "ResourceConfig.NewerMember is no member that this version knows; it is ignored, as AWS does",
    ]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"TrainingJobName": 5}, "NUMBER_VALUE can not be converted to a String\n  At TrainingJobName."),
        ({"EnableNetworkIsolation": "yes"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"ResourceConfig": {"InstanceCount": "1"}}, "STRING_VALUE can not be converted to an Integer"),
        ({"ResourceConfig": {"InstanceCount": 1 << 31}}, "Numeric value out of range of Integer"),
        ({"ResourceConfig": {"InstanceCount": 1.5}}, "DECIMAL_VALUE can not be converted to an Integer"),
        ({"RoleArn": {}}, "Start of structure or map found where not expected."),
        ({"RoleArn": []}, "Start of list found where not expected."),
        ({"InputDataConfig": {}}, "Unexpected value type in payload"),
        ({"HyperParameters": []}, "Unexpected value type in payload"),
        ({"HyperParameters": {"a": True}}, "TRUE_VALUE can not be converted to a String"),
    ],
)
def test_a_wrong_json_type_is_a_serialization_exception(home, members, words):
    with pytest.raises(AwsError) as caught:
        answer("CreateTrainingJob", {**training_job("job-1"), **members}, home)
    assert caught.value.code == "SerializationException"
    assert caught.value.message.startswith(words)


def test_an_operation_that_is_not_served_says_which_are(home):
    with pytest.raises(AwsError, match="CreateDomain is not emulated") as caught:
        answer("CreateDomain", {}, home)
    assert caught.value.code == "ValidationException"
    assert "CreateTrainingJob" in caught.value.message
    with pytest.raises(AwsError) as caught:
        answer("CreateTraningJob", {}, home)
    assert caught.value.code == "UnknownOperationException"


@pytest.mark.slow
def test_a_job_whose_driver_was_killed_is_taken_up_by_whoever_describes_it(client, store):
    """Nothing is lost by SIGKILL: the state is the record."""
    client.create_training_job(**training_job("job-1", "import time; time.sleep(4); print('done')"))
    driver = driver_of(store, "job-1")
    os.kill(driver, signal.SIGKILL)
    assert wait(client, "job-1")["TrainingJobStatus"] == "Completed"


def driver_of(store, name):
    """Return the process that holds the lock of a job that has begun to train."""
    deadline = time.monotonic() + 30
    while not store.load(name).executions or not store.folder(name).driven():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    inode = store.folder(name).lock_path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        if line.split()[5].endswith(f":{inode}"):
            return int(line.split()[4])
    raise AssertionError("nobody holds the lock")
