"""The documents of models and transform jobs: what is taken, what raises by name, and that nothing of them is lost."""

import pytest

from launcher.errors import (
    ArtifactError,
    BadInputError,
    NotFoundError,
    RequestError,
    TakenError,
    UnsupportedOptionError,
)
from launcher.jobs.model_record import ModelRecord
from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.store import ModelStore
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.requests.models import check_model_request, describe_model, model_request
from launcher.requests.serving_members import MODEL_MEMBERS, TRANSFORM_MEMBERS
from launcher.requests.shapes import operation_shape
from launcher.requests.transform import check_transform_request, describe_transform, transform_request
from launcher.serving.models import create_model
from tests.documents import changed, member_paths

ROLE = "arn:aws:iam::111122223333:role/service-role/r"
MODEL = {
    "ModelName": "model-1",
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {
        "Image": "my-server:1",
        "ModelDataUrl": "s3://bucket/job/output/model.tar.gz",
        "Environment": {"WORKERS": "2"},
        "ContainerHostname": "primary",
        "Mode": "SingleModel",
    },
    "EnableNetworkIsolation": True,
    "Tags": [{"Key": "team", "Value": "a"}],
    "Launcher": {"S3": {"Kind": "embedded", "Region": "us-east-1"}},
}
TRANSFORM = {
    "TransformJobName": "job-1",
    "ModelName": "model-1",
    "MaxConcurrentTransforms": 4,
    "MaxPayloadInMB": 6,
    "BatchStrategy": "SingleRecord",
    "ModelClientConfig": {"InvocationsTimeoutInSeconds": 60, "InvocationsMaxRetries": 1},
    "Environment": {"A": "1"},
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in/"}},
        "ContentType": "text/csv",
        "CompressionType": "Gzip",
        "SplitType": "Line",
    },
    "TransformOutput": {
        "S3OutputPath": "s3://bucket/out",
        "Accept": "text/csv",
        "AssembleWith": "Line",
        "KmsKeyId": "",
    },
    "TransformResources": {"InstanceType": "ml.m4.xlarge", "InstanceCount": 2},
    "DataProcessing": {"InputFilter": "$[1:]", "OutputFilter": "$[0,-1]", "JoinSource": "Input"},
    "Tags": [{"Key": "team", "Value": "a"}],
    "Launcher": {"Runtime": "process", "S3": {"Kind": "embedded", "Region": "us-east-1"}, "Resume": True},
}


def test_a_models_document_comes_back_whole():
    spec = check_model_request(MODEL)
    assert model_request(spec) == MODEL
    assert ModelSpec.from_dict(spec.to_dict()) == spec


def test_a_model_whose_container_stands_in_a_list_comes_back_so():
    document = {**MODEL, "Containers": [MODEL["PrimaryContainer"]]}
    del document["PrimaryContainer"]
    assert model_request(check_model_request(document)) == document


def test_a_transform_jobs_document_comes_back_whole():
    spec = check_transform_request(TRANSFORM)
    assert transform_request(spec) == TRANSFORM
    assert TransformJobSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("operation", "table"), [("CreateModel", MODEL_MEMBERS), ("CreateTransformJob", TRANSFORM_MEMBERS)]
)
def test_every_member_of_the_service_model_is_taken_or_refused_by_a_row(operation, table):
    paths = list(member_paths(operation_shape(operation)))
    assert len(paths) > 30

    def has_row(path):
        while path and path not in table:
            path = path[:-2] if path.endswith("[]") else path.rpartition(".")[0]
        return path in table

    assert [path for path in paths if not has_row(path)] == []
    assert [row.path for row in table.values() if row.accepted is not None and not row.instead] == []


FORMS = {
    "an archive": ({"ModelDataUrl": "s3://bucket/m.tar.gz"}, "archive"),
    "a URL that is no archive is not downloaded": ({"ModelDataUrl": "s3://bucket/empty/"}, "nothing"),
    "nothing": ({}, "nothing"),
    "a prefix": (("S3Prefix", "None"), "folder"),
    "an object": (("S3Object", "None"), "file"),
    "a compressed object": (("S3Object", "Gzip"), "archive"),
}


@pytest.mark.parametrize(("container", "form"), FORMS.values(), ids=FORMS)
def test_what_lies_at_a_models_place_follows_from_how_it_is_named(container, form):
    if isinstance(container, tuple):
        source = {"S3Uri": "s3://bucket/m", "S3DataType": container[0], "CompressionType": container[1]}
        container = {"ModelDataSource": {"S3DataSource": source}}
    assert check_model_request({"ModelName": "m", "PrimaryContainer": container}).model_form == form


NOT_EMULATED = {
    "PrimaryContainer.Mode": "MultiModel",
    "PrimaryContainer.ModelPackageName": "package",
    "PrimaryContainer.ModelDataUrl": "https://bucket.s3.amazonaws.com/model.tar.gz",
    "PrimaryContainer.MultiModelConfig": {"ModelCacheSetting": "Enabled"},
    "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
}


@pytest.mark.parametrize(("path", "value"), NOT_EMULATED.items())
def test_what_a_model_cannot_be_here_raises_by_name(path, value):
    with pytest.raises(UnsupportedOptionError, match=path.rpartition(".")[2]) as caught:
        check_model_request(changed(MODEL, path, value))
    assert caught.value.hint


def test_an_inference_pipeline_raises_by_name():
    document = {"ModelName": "m", "Containers": [{"Image": "a"}, {"Image": "b"}]}
    with pytest.raises(UnsupportedOptionError, match="inference pipeline of 2 containers"):
        check_model_request(document)


def test_limits_are_told_in_the_words_of_aws():
    with pytest.raises(RequestError) as caught:
        check_model_request({"ModelName": "a_b", "PrimaryContainer": {}})
    assert caught.value.aws_message == (
        "1 validation error detected: Value 'a_b' at 'modelName' failed to satisfy constraint: Member must satisfy "
        r"regular expression pattern: [a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?"
    )


def test_what_joins_needs_types_that_can_be_read():
    with pytest.raises(BadInputError, match=r"SplitType=Line and AssembleWith=Line; they are Line and None"):
        check_transform_request(changed(TRANSFORM, "TransformOutput.AssembleWith", "None"))
    with pytest.raises(BadInputError, match="Accept is 'application/json' where ContentType is 'text/csv'"):
        check_transform_request(changed(TRANSFORM, "TransformOutput.Accept", "application/json"))
    assert check_transform_request(changed(TRANSFORM, "TransformInput.ContentType", "text/csv; charset=utf-8"))


def test_a_filter_that_is_none_is_refused():
    with pytest.raises(BadInputError, match="is not understood from character 2"):
        check_transform_request(changed(TRANSFORM, "DataProcessing.InputFilter", "$?"))


def test_descriptions_are_the_requests_without_what_only_this_machine_knows():
    model = describe_model(ModelRecord(spec=check_model_request(MODEL).to_dict(), created=1.0))
    assert model["ModelArn"].endswith(":model/model-1")
    assert not {"Tags", "Launcher"} & set(model)
    spec = check_transform_request(TRANSFORM)
    job = describe_transform(TransformRecord(spec=spec.to_dict(), created=1.0))
    assert job["TransformJobStatus"] == "InProgress"
    assert not {"Tags", "Launcher", "FailureReason"} & set(job)


def test_a_model_has_a_name_of_its_own_and_can_be_deleted(home):
    store = ModelStore(home)
    document = {"ModelName": "m", "PrimaryContainer": {"Image": "a"}}
    create_model(document, store)
    assert store.load("m").request == document
    with pytest.raises(TakenError, match='Cannot create already existing model "arn:aws:sagemaker:'):
        create_model(document, store)
    store.remove("m")
    with pytest.raises(NotFoundError, match='Could not find model "arn:aws:sagemaker:'):
        store.load("m")
    assert store.names() == []
    assert store.leftovers() == []
    assert (store.path.stat().st_mode & 0o777) == 0o700


def test_a_model_without_its_data_is_refused_in_the_words_of_aws(home, tmp_path):
    uri = f"file://{tmp_path}/output/model.tar.gz"
    with pytest.raises(ArtifactError, match=f"Could not find model data at {uri}"):
        create_model({"ModelName": "m", "PrimaryContainer": {"ModelDataUrl": uri}}, ModelStore(home))
    assert ModelStore(home).names() == []


def test_a_models_record_keeps_what_a_newer_version_wrote(home):
    store = ModelStore(home)
    create_model({"ModelName": "m", "PrimaryContainer": {"Image": "a"}}, store)
    record = store.load("m")
    record.extra["signed_by"] = "newer"
    record.spec["quantized"] = True
    store.save("m", record)
    assert store.load("m").to_dict()["signed_by"] == "newer"
    assert store.load("m").model_spec.image_uri == "a"
