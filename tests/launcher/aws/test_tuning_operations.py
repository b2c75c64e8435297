"""Tuning jobs by boto3's own client."""

import time

import pytest

from tests.launcher.aws.clients import refused, sagemaker_client

ROLE = "arn:aws:iam::000000000000:role/any"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/tune-1"
SCRIPT = "import os\nprint(f\"score={-(float(os.environ['SM_HP_RATE']) - 3) ** 2}\")"
SLOW = "import time\nprint('score=1', flush=True)\ntime.sleep(60)"


@pytest.fixture
def client(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    return sagemaker_client(home)


@pytest.fixture
def document(tmp_path, home):
    """A function that returns a document; its script lies in the embedded S3."""
    import launcher
    from launcher.running import artifacts

    def make(name="tune-1", script=SCRIPT, values=("1", "2.5", "9"), **members):
        (tmp_path / "train.py").write_text(script)
        archive = tmp_path / "sourcedir.tar.gz"
        artifacts.write_archive([("train.py", tmp_path / "train.py")], archive, mtime=0, durable=False)
        session = launcher.Session()
        uri = session.upload_data(str(archive), bucket=session.default_bucket(), key_prefix=name)
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Grid",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
                "ResourceLimits": {"MaxParallelTrainingJobs": 2},
                "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "rate", "Values": list(values)}]},
            },
            "TrainingJobDefinition": {
                "AlgorithmSpecification": {
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "score", "Regex": "score=([-0-9.]+)"}],
                },
                "StaticHyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": uri},
                "RoleArn": ROLE,
                "OutputDataConfig": {"S3OutputPath": f"s3://{session.default_bucket()}/out"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
                "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            },
            **members,
        }

    return make


def await_status(client, *statuses, name="tune-1"):
    deadline = time.monotonic() + 60
    while True:
        answer = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if answer["HyperParameterTuningJobStatus"] in statuses:
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)


@pytest.mark.slow
def test_the_story_of_a_tuning_job(client, document):
    tags = [{"Key": "team", "Value": "rl"}]
    created = client.create_hyper_parameter_tuning_job(**document(Tags=tags))
    assert created["HyperParameterTuningJobArn"] == ARN
    answer = await_status(client, "Completed", "Failed", "Stopped")
    assert answer["HyperParameterTuningJobStatus"] == "Completed"
    best = answer["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"rate": "2.5"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == -0.25

    def listed(**options):
        answer = client.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName="tune-1", **options
        )
        return [job["TunedHyperParameters"]["rate"] for job in answer["TrainingJobSummaries"]], answer.get("NextToken")

    assert listed() == (["1", "2.5", "9"], None)
    assert listed(SortBy="FinalObjectiveMetricValue", SortOrder="Descending")[0] == ["2.5", "1", "9"]
    assert listed(StatusEquals="Failed")[0] == []
    first, token = listed(MaxResults=2)
    assert (first, listed(MaxResults=2, NextToken=token)) == (["1", "2.5"], (["9"], None))
    job = client.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert job["TuningJobArn"] == ARN
    assert client.list_tags(ResourceArn=ARN)["Tags"] == tags
    assert client.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] == tags
    (summary,) = client.list_hyper_parameter_tuning_jobs(NameContains="tune", StatusEquals="Completed")[
        "HyperParameterTuningJobSummaries"
    ]
    assert (summary["Strategy"], summary["TrainingJobStatusCounters"]["Completed"]) == ("Grid", 3)
    filters = [{"Name": "HyperParameterTuningJobStatus", "Operator": "Equals", "Value": "Completed"}]
    hits = client.search(Resource="HyperParameterTuningJob", SearchExpression={"Filters": filters})["Results"]
    assert [hit["HyperParameterTuningJob"]["HyperParameterTuningJobName"] for hit in hits] == ["tune-1"]
    assert refused(client.create_hyper_parameter_tuning_job, **document())[0] == "ResourceInUse"
    code, message = refused(client.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName="tune-1")
    assert (code, message) == (
        "ValidationException",
        "The request was rejected because the hyperparameter tuning job is in status Completed.",
    )
    client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-1")
    assert refused(client.describe_hyper_parameter_tuning_job, HyperParameterTuningJobName="tune-1")[0] == (
        "ResourceNotFound"
    )
    assert client.describe_training_job(TrainingJobName=best["TrainingJobName"])["TrainingJobStatus"] == "Completed"


@pytest.mark.slow
def test_a_stop_ends_the_training_jobs(client, document):
    client.create_hyper_parameter_tuning_job(**document(script=SLOW))
    deadline = time.monotonic() + 30
    while not client.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    code, _ = refused(client.delete_hyper_parameter_tuning_job, HyperParameterTuningJobName="tune-1")
    assert code == "ResourceInUse"
    client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-1")
    assert await_status(client, "Stopped", "Completed")["HyperParameterTuningJobStatus"] == "Stopped"
    statuses = {job["TrainingJobStatus"] for job in client.list_training_jobs()["TrainingJobSummaries"]}
    assert statuses == {"Stopped"}


def test_a_tuning_job_that_is_not_there_is_told_in_awss_words(client):
    for call in (
        client.describe_hyper_parameter_tuning_job,
        client.stop_hyper_parameter_tuning_job,
        client.list_training_jobs_for_hyper_parameter_tuning_job,
    ):
        assert refused(call, HyperParameterTuningJobName="nobody") == (
            "ResourceNotFound",
            "Amazon SageMaker can't find a tuning job with the name nobody. Check the name and try again.",
        )


def test_a_refused_document_leaves_nothing(client, document, home):
    request = document(Autotune={"Mode": "Enabled"})
    code, message = refused(client.create_hyper_parameter_tuning_job, **request)
    assert code == "ValidationException"
    assert "Autotune" in message
    assert not (home / "tuning-jobs").exists()
