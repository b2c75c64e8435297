"""Models, transform jobs and endpoints by SageMaker's operations, as boto3 sends and reads them."""

import io
import json
import tarfile

import pytest

from launcher.sdk.runtime_client import RuntimeClient
from launcher.storage import bucket_storage, which_s3
from tests.launcher.aws.clients import refused, sagemaker_client

WAITS = {"Delay": 0.2, "MaxAttempts": 300}
MODEL = "arn:aws:sagemaker:us-east-1:000000000000:model/model-1"
HANDLERS = """
def model_fn(folder):
    return None
def predict_fn(data, model):
    return {"predictions": [[0.25, 0.75] for _ in data]}
"""


@pytest.fixture
def client(home, tmp_path, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    storage = bucket_storage(which_s3())
    storage.make_bucket("s3://models")
    storage.make_bucket("s3://data")
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(HANDLERS)
        tar.addfile(member, io.BytesIO(HANDLERS.encode()))
    storage.put_file(archive, "s3://models/model.tar.gz")
    records = tmp_path / "records.json"
    records.write_text(json.dumps({"instances": [[1.0, 2.0]]}))
    storage.put_file(records, "s3://data/in/records.json")
    client = sagemaker_client(home)
    client.create_model(
        ModelName="model-1",
        PrimaryContainer={"ModelDataUrl": "s3://models/model.tar.gz"},
        ExecutionRoleArn="arn:aws:iam::000000000000:role/any",
    )
    yield client
    for endpoint in client.list_endpoints()["Endpoints"]:
        if endpoint["EndpointStatus"] != "Deleting":
            client.delete_endpoint(EndpointName=endpoint["EndpointName"])
        client.get_waiter("endpoint_deleted").wait(EndpointName=endpoint["EndpointName"], WaiterConfig=WAITS)


def config(name="config-1", **members):
    variant = {"VariantName": "only", "ModelName": "model-1", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {"EndpointConfigName": name, "ProductionVariants": [{**variant, **members}]}


def transform(name="job-1", **members):
    return {
        "TransformJobName": name,
        "ModelName": "model-1",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
            "ContentType": "application/json",
        },
        "TransformOutput": {"S3OutputPath": "s3://data/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **members,
    }


def test_a_model_is_described_listed_and_deleted(client):
    described = client.describe_model(ModelName="model-1")
    assert described["ModelArn"] == MODEL
    assert described["PrimaryContainer"]["ModelDataUrl"] == "s3://models/model.tar.gz"
    assert [model["ModelArn"] for model in client.list_models(NameContains="model")["Models"]] == [MODEL]
    code, message = refused(
        client.create_model, ModelName="model-1", PrimaryContainer={"ModelDataUrl": "s3://models/model.tar.gz"}
    )
    assert code == "ValidationException"
    assert message.startswith(f'Cannot create already existing model "{MODEL}".')
    client.delete_model(ModelName="model-1")
    assert client.list_models()["Models"] == []
    for call in (client.describe_model, client.delete_model):
        assert refused(call, ModelName="model-1") == ("ValidationException", f'Could not find model "{MODEL}".')


def test_a_transform_job_that_boto3_creates_really_answers(client, tmp_path):
    answer = client.create_transform_job(**transform())
    assert answer["TransformJobArn"].endswith(":transform-job/job-1")
    client.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="job-1", WaiterConfig=WAITS)
    described = client.describe_transform_job(TransformJobName="job-1")
    assert described["TransformJobStatus"] == "Completed"
    written = bucket_storage(which_s3()).fetch("s3://data/out/records.json.out", tmp_path / "out")
    assert json.loads(written.read_text()) == {"predictions": [[0.25, 0.75]]}
    listed = client.list_transform_jobs(StatusEquals="Completed")["TransformJobSummaries"]
    assert [job["TransformJobName"] for job in listed] == ["job-1"]
    assert refused(client.stop_transform_job, TransformJobName="job-1") == (
        "ValidationException",
        "The request was rejected because the transform job is in status Completed.",
    )
    code, message = refused(client.create_transform_job, **transform())
    assert code == "ResourceInUse"
    assert message.startswith("Transform job names must be unique within an AWS account and region")


def test_a_transform_job_is_stopped(client):
    client.create_transform_job(**transform())
    client.stop_transform_job(TransformJobName="job-1")
    client.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="job-1", WaiterConfig=WAITS)
    assert client.describe_transform_job(TransformJobName="job-1")["TransformJobStatus"] == "Stopped"


def test_a_transform_job_without_a_model_or_input_is_refused(client):
    code, message = refused(client.create_transform_job, **transform(ModelName="nobody"))
    assert code == "ValidationException"
    assert message.startswith('Could not find model "arn:aws:sagemaker:us-east-1:000000000000:model/nobody".')
    assert refused(client.describe_transform_job, TransformJobName="job-1") == (
        "ValidationException",
        "Requested resource not found.",
    )
    assert client.list_transform_jobs()["TransformJobSummaries"] == []


@pytest.mark.slow
def test_an_endpoint_from_its_creation_to_its_end(client, home):
    assert client.create_endpoint_config(**config())["EndpointConfigArn"].endswith(":endpoint-config/config-1")
    client.create_endpoint_config(**config("config-2", InitialVariantWeight=2.0))
    arn = client.create_endpoint(EndpointName="end-1", EndpointConfigName="config-1")["EndpointArn"]
    client.get_waiter("endpoint_in_service").wait(EndpointName="end-1", WaiterConfig=WAITS)
    answer = RuntimeClient(home).invoke_endpoint(
        EndpointName="end-1", Body=json.dumps({"instances": [[1.0]]}), ContentType="application/json"
    )
    assert json.loads(answer["Body"].read()) == {"predictions": [[0.25, 0.75]]}
    assert client.list_endpoints(StatusEquals="InService")["Endpoints"][0]["EndpointArn"] == arn
    assert client.list_endpoints(StatusEquals="Failed")["Endpoints"] == []

    assert client.update_endpoint(EndpointName="end-1", EndpointConfigName="config-2")["EndpointArn"] == arn
    assert client.describe_endpoint(EndpointName="end-1")["EndpointStatus"] == "Updating"
    client.get_waiter("endpoint_in_service").wait(EndpointName="end-1", WaiterConfig=WAITS)
    described = client.describe_endpoint(EndpointName="end-1")
    assert described["EndpointConfigName"] == "config-2"
    assert described["ProductionVariants"][0]["CurrentWeight"] == 2.0

    changes = [{"VariantName": "only", "DesiredWeight": 5.0, "DesiredInstanceCount": 2}]
    client.update_endpoint_weights_and_capacities(EndpointName="end-1", DesiredWeightsAndCapacities=changes)
    assert refused(
        client.update_endpoint_weights_and_capacities, EndpointName="end-1", DesiredWeightsAndCapacities=changes
    )[1].startswith(f'Cannot update in-progress endpoint "{arn}"')
    client.get_waiter("endpoint_in_service").wait(EndpointName="end-1", WaiterConfig=WAITS)
    variant = client.describe_endpoint(EndpointName="end-1")["ProductionVariants"][0]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (5.0, 2)
    for change, words in [
        ({"VariantName": "other", "DesiredWeight": 1.0}, 'The variant name(s) "other" is/are not present'),
        ({"VariantName": "only", "DesiredWeight": 0.0}, "no variant would have a weight above 0"),
        ({"VariantName": "only", "DesiredInstanceCount": 0}, "variant 'only' would have no container"),
    ]:
        code, message = refused(
            client.update_endpoint_weights_and_capacities, EndpointName="end-1", DesiredWeightsAndCapacities=[change]
        )
        assert code == "ValidationException"
        assert message.startswith(words)

    client.delete_endpoint(EndpointName="end-1")
    client.get_waiter("endpoint_deleted").wait(EndpointName="end-1", WaiterConfig=WAITS)
    assert client.list_endpoints()["Endpoints"] == []
    missing = ("ValidationException", f'Could not find endpoint "{arn}".')
    assert refused(client.describe_endpoint, EndpointName="end-1") == missing
    assert refused(client.delete_endpoint, EndpointName="end-1") == missing
    assert refused(client.update_endpoint, EndpointName="end-1", EndpointConfigName="config-1") == missing


def test_a_configuration_is_described_listed_and_deleted(client):
    client.create_endpoint_config(**config())
    assert (
        client.describe_endpoint_config(EndpointConfigName="config-1")["ProductionVariants"][0]["ModelName"]
        == "model-1"
    )
    listed = client.list_endpoint_configs()["EndpointConfigs"]
    assert [entry["EndpointConfigName"] for entry in listed] == ["config-1"]
    _, message = refused(client.create_endpoint_config, **config())
    arn = "arn:aws:sagemaker:us-east-1:000000000000:endpoint-config/config-1"
    assert message.startswith(f'Cannot create already existing endpoint configuration "{arn}".')
    client.delete_endpoint_config(EndpointConfigName="config-1")
    missing = ("ValidationException", f'Could not find endpoint configuration "{arn}".')
    assert refused(client.describe_endpoint_config, EndpointConfigName="config-1") == missing
    assert refused(client.create_endpoint, EndpointName="e", EndpointConfigName="config-1")[1].startswith(missing[1])
