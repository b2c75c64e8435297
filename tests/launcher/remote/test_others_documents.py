"""Models, endpoints, transform, processing and tuning jobs with ``mode="aws"``: the documents, and what is refused.

Nothing is asked at any address; ``test_others_on_aws.py`` sends such documents.
"""

import copy
import json
from pathlib import Path

import pytest
from launcher.processing import ProcessingInput, ProcessingOutput, ScriptProcessor
from launcher.pytorch import PyTorchModel, PyTorchProcessor
from launcher.tuner import CategoricalParameter, ContinuousParameter, HyperparameterTuner, IntegerParameter

import launcher
from launcher.errors import BadInputError, ChannelError, ImageError, RequestError, UnsupportedOptionError
from tests.launcher.remote.conftest import BUCKET, ROLE

RECORDED = json.loads((Path(__file__).parents[2] / "recorded" / "sdk-2.257.7-others.json").read_text())
TAGS = [{"Key": "team", "Value": "rl"}]
METRICS = [{"Name": "total", "Regex": "total=(.*?);"}]

pytestmark = pytest.mark.usefixtures("region")


def recorded(operation, position=0):
    """What version 2.257.7 of SageMaker's own SDK sent; its bucket is the user's here."""
    documents = [entry["request"] for entry in RECORDED if entry["operation"] == operation]
    return json.loads(json.dumps(documents[position]).replace("sdk-bucket", BUCKET))


def session():
    return launcher.Session(mode="aws", default_bucket=BUCKET)


def model(**options):
    given = {"image_uri": "sdk-recorded:1", "model_data": f"s3://{BUCKET}/job/output/model.tar.gz", "role": ROLE}
    given |= {"name": "sdk-model", "sagemaker_session": session(), **options}
    return launcher.Model(**given)


def transformer(**options):
    return launcher.Transformer("sdk-model", 1, "ml.m5.large", sagemaker_session=session(), **options)


def estimator(source, **options):
    given = {"image_uri": "sdk-recorded:1", "role": ROLE, "instance_count": 1, "instance_type": "ml.m5.large"}
    given |= {"entry_point": "train.py", "source_dir": source, "sagemaker_session": session(), **options}
    return launcher.Estimator(**given)


def tuner(trained, ranges=None, **options):
    ranges = ranges or {"rate": ContinuousParameter(0.1, 0.9)}
    return HyperparameterTuner(trained, "total", ranges, METRICS, strategy="Random", **options)


def processor(**options):
    given = {"role": ROLE, "image_uri": "sdk-recorded:1", "instance_count": 1, "instance_type": "ml.m5.large"}
    return ScriptProcessor(**given | {"sagemaker_session": session(), **options})


def test_a_model_is_the_document_of_version_2_of_the_sdk():
    assert model(env={"COLOUR": "red"}).request(tags=TAGS) == recorded("CreateModel")


def test_transform_jobs_are_the_documents_of_version_2_of_the_sdk():
    options = {"strategy": "MultiRecord", "assemble_with": "Line", "accept": "text/csv", "max_concurrent_transforms": 2}
    full = transformer(**options, max_payload=1, tags=TAGS, env={"A": "1"}).request(
        f"s3://{BUCKET}/rows",
        content_type="text/csv",
        split_type="Line",
        job_name="sdk-transform",
        output_filter="$.x",
        join_source="Input",
    )
    assert full == recorded("CreateTransformJob")
    plain = transformer().request(f"s3://{BUCKET}/rows", job_name="sdk-transform-2")
    assert plain == recorded("CreateTransformJob", 1)


def test_a_processing_job_is_the_document_of_version_2_of_the_sdk(tmp_path):
    (tmp_path / "prep.py").write_text("print()\n")
    made = processor(env={"A": "1"}, tags=TAGS, max_runtime_in_seconds=600)
    document = made.request(
        made.program(tmp_path / "prep.py"),
        inputs=[ProcessingInput(f"s3://{BUCKET}/rows", "/opt/ml/processing/rows", input_name="rows")],
        outputs=[ProcessingOutput("/opt/ml/processing/out", output_name="out")],
        arguments=["--n", "1"],
        job_name="sdk-processing",
    )
    assert document == recorded("CreateProcessingJob")


def test_a_tuning_job_is_the_document_of_version_2_of_the_sdk(make_source):
    """But for an older name of the hosts, JSON in the categories of a script, and a name that each job has."""
    ranges = {"rate": ContinuousParameter(0.1, 0.9), "layers": IntegerParameter(1, 3)}
    ranges["kind"] = CategoricalParameter(["a", "b"])
    trained = estimator(make_source("print()"), hyperparameters={"epochs": 3, "rate": 0.5})
    limits = {"max_jobs": 4, "max_parallel_jobs": 2, "random_seed": 7}
    document = tuner(trained, ranges, objective_type="Minimize", tags=TAGS, **limits).request(
        {"train": f"s3://{BUCKET}/rows"}, "sdk-tuning"
    )
    theirs = recorded("CreateHyperParameterTuningJob")
    definition, config = theirs["TrainingJobDefinition"], theirs["HyperParameterTuningJobConfig"]
    definition["ResourceConfig"] = definition.pop("HyperParameterTuningResourceConfig")
    del definition["StaticHyperParameters"]["sagemaker_job_name"]
    config["ParameterRanges"]["CategoricalParameterRanges"][0]["Values"] = ['"a"', '"b"']
    assert document == theirs


def test_estimators_of_one_tuner_run_in_one_place(make_source):
    source = make_source("print()")
    estimators = {"there": estimator(source), "here": estimator(source, sagemaker_session=launcher.Session())}
    ranges = {name: {"rate": ContinuousParameter(0.1, 0.9)} for name in estimators}
    objectives, metrics = dict.fromkeys(estimators, "total"), dict.fromkeys(estimators, METRICS)
    mixed = HyperparameterTuner.create(estimators, objectives, ranges, metrics, strategy="Random")
    with pytest.raises(UnsupportedOptionError, match="some of the estimators run on AWS, and some here"):
        mixed.request()
    mixed.estimator_dict["here"] = estimator(source)
    definitions = mixed.request(job_name="both")["TrainingJobDefinitions"]
    archives = [entry["StaticHyperParameters"]["sagemaker_submit_directory"] for entry in definitions]
    assert archives == [f'"s3://{BUCKET}/both-{number}/source/sourcedir.tar.gz"' for number in (1, 2)]


def test_folders_of_this_machine_become_objects_of_the_bucket_by_their_content(tmp_path, make_source):
    (tmp_path / "rows.csv").write_text("1\n")
    (tmp_path / "model.tar.gz").write_bytes(b"any")
    rows, prefix = str(tmp_path / "rows.csv"), f"s3://{BUCKET}/launcher/inputs/"
    data = transformer().request(rows)["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert data.startswith(prefix)
    assert data.endswith("/rows.csv")
    # Where results go elsewhere, inputs go there as well.
    away = transformer(output_path="s3://other-bucket/out").request(rows)["TransformInput"]
    assert away["DataSource"]["S3DataSource"]["S3Uri"].startswith("s3://other-bucket/launcher/inputs/")
    container = model(model_data=str(tmp_path / "model.tar.gz")).request()["PrimaryContainer"]
    assert container["ModelDataUrl"].startswith(prefix)
    folder = model(model_data=str(tmp_path)).request()["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert folder["S3Uri"].startswith(prefix)
    assert folder["S3Uri"].endswith("/")
    given = processor().request(inputs=[ProcessingInput(rows, "/opt/ml/processing/rows")])["ProcessingInputs"][0]
    assert given["S3Input"]["S3Uri"] == data
    definition = tuner(estimator(make_source("print()"))).request(rows)["TrainingJobDefinition"]
    assert definition["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == data


def test_a_framework_names_awss_image_in_the_region_of_the_session(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    versions = {"framework_version": "2.3", "py_version": "py311", "sagemaker_session": session()}
    made = PyTorchModel(f"s3://{BUCKET}/model.tar.gz", ROLE, "inference.py", **versions)
    place = "763104351884.dkr.ecr.eu-west-1.amazonaws.com"
    assert made.request()["PrimaryContainer"]["Image"].startswith(f"{place}/pytorch-inference:2.3")
    runs = PyTorchProcessor(role=ROLE, instance_type="ml.m5.large", **versions)
    assert runs.image_uri.startswith(f"{place}/pytorch-training:2.3")


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda: model(image_uri=None).request(), ImageError, "launcher push REGISTRY_URI"),
        (lambda: model(role=None).request(), BadInputError, "no role is given"),
        (lambda: model(role="MyRole").request(), BadInputError, "is no ARN"),
        (lambda: model(runtime="process"), BadInputError, "runtime='process' says how this machine"),
        (lambda: transformer(output_path="/tmp/out").request("s3://b-b/rows"), BadInputError, "output_path is file:"),
        (lambda: transformer().request("s3://b-b/rows", resume=True), UnsupportedOptionError, "resume does not go"),
        (lambda: transformer(max_payload=101).request("s3://b-b/rows"), RequestError, "max_payload"),
        (lambda: transformer().request(__file__, data_type="ManifestFile"), ChannelError, "a ManifestFile of this"),
        (lambda: transformer().plan("s3://b-b/rows"), UnsupportedOptionError, "not there in the mode 'aws'"),
        (lambda: processor(image_uri=None).request(), ImageError, "launcher push REGISTRY_URI"),
        (lambda: processor(instance_type=None).request(), BadInputError, "instance_type='local' is this machine"),
        (
            lambda: processor().request(outputs=[ProcessingOutput("/opt/ml/processing/out", "/tmp/out")]),
            BadInputError,
            "which AWS cannot write to",
        ),
    ],
)
def test_what_cannot_go_to_aws_is_said_before_anything_is_sent(ask, error, words):
    with pytest.raises(error, match=words):
        ask()


def test_a_document_that_is_described_is_the_document_that_was_sent():
    from launcher.requests.for_aws import as_request

    sent = recorded("CreateTransformJob")
    described = {**copy.deepcopy(sent), "TransformJobStatus": "Completed", "TransformJobArn": "arn:any"}
    assert as_request("CreateTransformJob", described) == sent
