"""CreateProcessingJob: documents come back whole, what is wrong is refused by name, nothing is ignored."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import BadInputError, RequestError, SourceError, UnsupportedOptionError
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.processing_spec import ProcessingJobSpec
from launcher.requests.processing import check_processing_request, describe_processing, processing_request
from launcher.requests.processing_members import PROCESSING_MEMBERS
from launcher.requests.shapes import operation_shape, shape
from tests.documents import changed, member_paths

WHOLE = {
    "ProcessingJobName": "clean-1",
    "RoleArn": "arn:aws:iam::000000000000:role/any",
    "AppSpecification": {
        "ImageUri": "my-image:1",
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/clean.py"],
        "ContainerArguments": ["--limit", "10"],
    },
    "ProcessingInputs": [
        {
            "InputName": "raw",
            "AppManaged": False,
            "S3Input": {
                "S3Uri": "s3://logs/raw",
                "LocalPath": "/opt/ml/processing/input",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3DataDistributionType": "ShardedByS3Key",
                "S3CompressionType": "None",
            },
        }
    ],
    "ProcessingOutputConfig": {
        "Outputs": [
            {
                "OutputName": "clean",
                "AppManaged": False,
                "S3Output": {
                    "S3Uri": "s3://logs/clean",
                    "LocalPath": "/opt/ml/processing/output",
                    "S3UploadMode": "Continuous",
                },
            }
        ],
        "KmsKeyId": "",
    },
    "ProcessingResources": {
        "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 20, "VolumeKmsKeyId": ""}
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    "Environment": {"COLOUR": "red"},
    "NetworkConfig": {"EnableNetworkIsolation": True, "EnableInterContainerTrafficEncryption": False},
    "ExperimentConfig": {"ExperimentName": "cartpole"},
    "Tags": [{"Key": "team", "Value": "a"}],
    "Launcher": {"Runtime": "docker", "S3": {"Kind": "embedded", "Region": "us-east-1"}},
}
SMALL = {
    "ProcessingJobName": "clean-1",
    "RoleArn": "arn:aws:iam::000000000000:role/any",
    "AppSpecification": {"ImageUri": "my-image:1"},
    "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}},
}


def test_a_document_comes_back_whole():
    spec = check_processing_request(WHOLE)
    assert processing_request(spec) == WHOLE
    assert ProcessingJobSpec.from_dict(spec.to_dict()) == spec


def test_a_small_document_gets_awss_defaults():
    spec = check_processing_request(SMALL)
    assert (spec.max_run_seconds, spec.container_entry_point, spec.container_arguments) == (86400, (), ())
    assert processing_request(check_processing_request(processing_request(spec))) == processing_request(spec)


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
PATHS = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True)
INPUTS = st.dictionaries(
    st.from_regex(r"[a-zA-Z0-9-]{1,10}", fullmatch=True),
    st.tuples(PATHS, PATHS, st.sampled_from(["FullyReplicated", "ShardedByS3Key"])),
    max_size=4,
)
OUTPUTS = st.dictionaries(
    st.from_regex(r"[a-zA-Z0-9-]{1,10}", fullmatch=True),
    st.tuples(PATHS, PATHS, st.sampled_from(["EndOfJob", "Continuous"]), st.booleans()),
    max_size=4,
)
OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "Environment": st.dictionaries(st.from_regex(r"[A-Z_]{1,10}", fullmatch=True), WORDS, max_size=3),
        "StoppingCondition": st.builds(lambda n: {"MaxRuntimeInSeconds": n}, st.integers(1, 777600)),
        "NetworkConfig": st.builds(lambda flag: {"EnableNetworkIsolation": flag}, st.booleans()),
        "Tags": st.lists(st.fixed_dictionaries({"Key": st.just("k"), "Value": st.just("v")}), max_size=1),
        "ExperimentConfig": st.just({"ExperimentName": "e"}),
    },
)


@settings(max_examples=60, deadline=None)
@given(INPUTS, OUTPUTS, OPTIONAL, st.lists(WORDS, min_size=1, max_size=4))
def test_any_document_comes_back_from_the_job_that_was_made_of_it(inputs, outputs, optional, arguments):
    """What it said is said again, and a document that was made of a job makes the same job."""
    document = copy.deepcopy({**SMALL, **optional})
    document["AppSpecification"]["ContainerArguments"] = arguments
    if inputs:
        document["ProcessingInputs"] = [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": f"s3://bucket/{key}",
                    "LocalPath": f"/opt/ml/processing/in-{name}/{path}",
                    "S3DataType": "S3Prefix",
                    "S3DataDistributionType": distribution,
                },
            }
            for name, (key, path, distribution) in inputs.items()
        ]
    if outputs:
        document["ProcessingOutputConfig"] = {
            "Outputs": [
                {
                    "OutputName": name,
                    "AppManaged": managed,
                    "S3Output": {
                        "S3Uri": f"s3://bucket/{key}",
                        "LocalPath": f"/opt/ml/processing/out-{name}/{path}",
                        "S3UploadMode": mode,
                    },
                }
                for name, (key, path, mode, managed) in outputs.items()
            ]
        }
    spec = check_processing_request(document)
    again = processing_request(spec)
    assert _contains(again, document)
    assert check_processing_request(again) == spec


def _contains(whole, part):
    if isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return whole == part


def test_every_member_of_the_service_model_is_taken_or_refused_by_a_row():
    paths = list(member_paths(operation_shape("CreateProcessingJob")))
    assert len(paths) > 50

    def has_row(path):
        while path and path not in PROCESSING_MEMBERS:
            path = path[:-2] if path.endswith("[]") else path.rpartition(".")[0]
        return path in PROCESSING_MEMBERS

    assert [path for path in paths if not has_row(path)] == []
    rows = PROCESSING_MEMBERS.values()
    assert [row.path for row in rows if row.accepted is not None and not row.instead] == []


NOT_EMULATED = {
    "ProcessingInputs.0.DatasetDefinition": {
        "AthenaDatasetDefinition": {
            **{"Catalog": "c", "Database": "d", "QueryString": "select 1"},
            **{"OutputS3Uri": "s3://logs/out", "OutputFormat": "PARQUET"},
        }
    },
    "ProcessingOutputConfig.Outputs.0.FeatureStoreOutput": {"FeatureGroupName": "g"},
}


@pytest.mark.parametrize(("path", "value"), NOT_EMULATED.items())
def test_a_member_that_is_not_emulated_is_refused_by_name(path, value):
    with pytest.raises(UnsupportedOptionError) as caught:
        check_processing_request(changed(WHOLE, path, value))
    assert path.rpartition(".")[2] in caught.value.message
    assert caught.value.hint


IN, OUT = "ProcessingInputs.0", "ProcessingOutputConfig.Outputs.0"
BAD = [
    ("AppSpecification", {"ImageUri": "launcher-job"}, SourceError, "no program of its own"),
    ("AppSpecification", {"ImageUri": " "}, BadInputError, "names no image"),
    (f"{IN}.S3Input.LocalPath", "/data", BadInputError, "does not begin with /opt/ml/processing/"),
    (f"{IN}.S3Input.LocalPath", None, BadInputError, "does not begin with /opt/ml/processing/"),
    (f"{IN}.S3Input.LocalPath", "/opt/ml/processing/../x", BadInputError, "leaves it"),
    (f"{IN}.S3Input.LocalPath", "/opt/ml/processing/output", BadInputError, "have the same LocalPath"),
    (f"{IN}.S3Input", None, BadInputError, "names no data"),
    (f"{IN}.S3Input.S3CompressionType", "Gzip", BadInputError, "Gzip can only be used when Pipe mode is specified"),
    (f"{IN}.InputName", "a/b", BadInputError, "cannot name an input"),
    (f"{IN}.S3Input.S3Uri", "s3://B/x", BadInputError, "S3Uri"),
    (f"{OUT}.S3Output", None, BadInputError, "names no place"),
    (f"{OUT}.S3Output.LocalPath", "", BadInputError, "does not begin with"),
    ("Environment", {"A": "x\0"}, BadInputError, "NUL"),
    ("ProcessingResources.ClusterConfig.InstanceCount", 0, RequestError, "instanceCount"),
    ("ProcessingJobName", "a_b", RequestError, "processingJobName"),
]


@pytest.mark.parametrize(("path", "value", "error", "words"), BAD)
def test_other_bad_documents_are_refused_by_name(path, value, error, words):
    with pytest.raises(error, match=words):
        check_processing_request(changed(WHOLE, path, value))


@pytest.mark.parametrize(
    ("path", "output", "words"),
    [
        ("/opt/ml/processing/input/code", "/opt/ml/processing/output", "the place of a program"),
        ("/opt/ml/processing/input/code/raw", "/opt/ml/processing/output", "the place of a program"),
        ("/opt/ml/processing/raw", "/opt/ml/processing/raw/output", "is a stream and no folder"),
        ("/opt/ml/processing/raw", "/opt/ml/processing/raw_1", "has the place of a pipe of the input 'raw'"),
    ],
)
def test_the_place_of_a_stream_is_no_folder_and_nobody_elses(path, output, words):
    document = changed(WHOLE, f"{IN}.S3Input.S3InputMode", "Pipe")
    assert check_processing_request(document).stream_places == {"raw": "processing/input"}
    document = changed(document, f"{IN}.S3Input.LocalPath", path)
    with pytest.raises(BadInputError, match=words):
        check_processing_request(changed(document, f"{OUT}.S3Output.LocalPath", output))


def test_an_output_inside_the_programs_folder_is_refused():
    document = changed(WHOLE, f"{IN}.S3Input.LocalPath", "/opt/ml/processing/input/code")
    with pytest.raises(BadInputError, match="inside the program's own folder"):
        check_processing_request(changed(document, f"{OUT}.S3Output.LocalPath", "/opt/ml/processing/input/code/out"))


def test_two_inputs_of_one_name_are_refused():
    with pytest.raises(BadInputError, match="two inputs 'raw'"):
        check_processing_request({**WHOLE, "ProcessingInputs": WHOLE["ProcessingInputs"] * 2})


@pytest.mark.parametrize(
    ("keys", "words"), [("aa", "Duplicate tag keys found: 'a'"), (["aws:owner"], "begin with 'aws:' are reserved")]
)
def test_tags_are_refused_as_those_of_other_jobs_are(keys, words):
    tags = [{"Key": key, "Value": "1"} for key in keys]
    with pytest.raises(RequestError, match=words):
        check_processing_request({**SMALL, "Tags": tags})


def test_a_description_has_the_request_and_the_state():
    spec = check_processing_request(WHOLE)
    record = ProcessingRecord(spec=spec.to_dict(), created=1.0, exit_message="two files", failure_reason="no")
    answer = describe_processing(ProcessingRecord.from_dict(record.to_dict()))
    assert set(shape(operation_shape("DescribeProcessingJob", "output"))["required"]) <= set(answer)
    assert (answer["ExitMessage"], answer["FailureReason"]) == ("two files", "no")
    for member in ("ProcessingInputs", "ProcessingOutputConfig", "Environment", "ExperimentConfig", "RoleArn"):
        assert answer[member] == WHOLE[member]
    assert "Tags" not in answer
    assert "Launcher" not in answer
