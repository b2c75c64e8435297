"""The CreateTrainingJob document: what of it is taken, in whose words it is refused, and that nothing of it is lost."""

import copy
import importlib.util
import json
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings

import launcher
from launcher.errors import BadInputError, JobExistsError, LauncherError, RequestError, UnsupportedOptionError
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.store import JobStore
from launcher.requests.describe import describe_record
from launcher.requests.members import MEMBERS
from launcher.requests.shapes import OWN_MEMBER, compiled, operation_shape
from launcher.requests.training import OPERATION, check_training_request, completed, training_request
from launcher.running.accepting import submit
from tests.documents import member_paths
from tests.fakes import FakeRuntime
from tests.random_requests import ROLE, differences, documents, row_of

ROOT = Path(__file__).parents[2]
SMALL = {
    "TrainingJobName": "job-1",
    "RoleArn": ROLE,
    "AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": "my-algorithm"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
}


def tool(name):
    """Load a script of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(path, value, document=SMALL):
    """Return a document with another value at a dotted path; a number is a position in a list."""
    document = copy.deepcopy(document)
    inner = document
    *steps, last = path.split(".")
    for step in steps:
        inner = inner.setdefault(step, {})
    inner[last] = value
    return document


def channel(**members):
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/rows"}
    return {"ChannelName": "train", "DataSource": {"S3DataSource": source}, **members}


def test_the_shapes_are_those_of_the_installed_botocore():
    """After an update of botocore: python .ci/make_shapes.py"""
    make_shapes = tool("make_shapes")
    for path, text in make_shapes.files().items():
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(text)


def test_every_pattern_of_a_served_operation_becomes_one_of_python():
    make_shapes = tool("make_shapes")
    shapes = make_shapes.reduced(make_shapes.service_model())["shapes"].values()
    patterns = {shape["pattern"] for shape in shapes if "pattern" in shape}
    assert len(patterns) > 40
    for pattern in patterns:
        compiled(pattern)
    pairs = compiled(r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*")
    assert pairs.fullmatch("a\U0001f600")
    assert not pairs.fullmatch("\n")


MESSAGES = {
    "pattern": (
        "TrainingJobName",
        "a_b",
        "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy constraint: Member "
        "must satisfy "
        "regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    ),
    "longest text": (
        "OutputDataConfig.S3OutputPath",
        "s3://b/" + "x" * 1018,
        "1 validation error detected: Value 's3://b/" + "x" * 1018 + "' at 'outputDataConfig.s3OutputPath' failed to "
        "satisfy constraint: Member must have length less than or equal to 1024",
    ),
    "shortest text": (
        "RoleArn",
        "arn:aws:iam::1:role",
        "2 validation errors detected: Value 'arn:aws:iam::1:role' at 'roleArn' failed to satisfy "
        "constraint: Member must "
        "have length greater than or equal to 20; Value 'arn:aws:iam::1:role' at 'roleArn' failed to satisfy "
        "constraint: "
        r"Member must satisfy regular expression pattern: arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    ),
    "smallest number": (
        "StoppingCondition.MaxRuntimeInSeconds",
        0,
        "1 validation error detected: Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy "
        "constraint: "
        "Member must have value greater than or equal to 1",
    ),
    "largest number": (
        "ResourceConfig.KeepAlivePeriodInSeconds",
        21601,
        "1 validation error detected: Value '21601' at 'resourceConfig.keepAlivePeriodInSeconds' failed to satisfy "
        "constraint: Member must have value less than or equal to 21600",
    ),
    "required": (
        "OutputDataConfig",
        {},
        "1 validation error detected: Value null at 'outputDataConfig.s3OutputPath' failed to satisfy "
        "constraint: Member "
        "must not be null",
    ),
    "enum": (
        "AlgorithmSpecification.TrainingInputMode",
        "Fast",
        "1 validation error detected: Value 'Fast' at 'algorithmSpecification.trainingInputMode' failed to satisfy "
        "constraint: Member must satisfy enum value set: [Pipe, File, FastFile]",
    ),
    "item of a list": (
        "InputDataConfig",
        [channel(), channel(ChannelName="a b")],
        "1 validation error detected: Value 'a b' at 'inputDataConfig.2.member.channelName' failed to "
        "satisfy constraint: "
        r"Member must satisfy regular expression pattern: [A-Za-z0-9\.\-_]+",
    ),
    "text of a list": (
        "AlgorithmSpecification.ContainerArguments",
        ["x" * 257],
        "1 validation error detected: Value '["
        + "x" * 257
        + "]' at 'algorithmSpecification.containerArguments' failed to "
        "satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to "
        "256, Member "
        "must have length greater than or equal to 0, Member must satisfy regular expression pattern: .*]",
    ),
    "empty list": (
        "AlgorithmSpecification.ContainerArguments",
        [],
        "1 validation error detected: Value '[]' at 'algorithmSpecification.containerArguments' failed to satisfy "
        "constraint: Member must have length greater than or equal to 1",
    ),
    "value of a map": (
        "HyperParameters",
        {"a": "1", "b": "x" * 2501},
        "1 validation error detected: Value '{a=1, b=" + "x" * 2501 + "}' at 'hyperParameters' failed to satisfy "
        "constraint: Map value must satisfy constraint: [Member must have length less than or equal to 2500, "
        "Member must "
        "have length greater than or equal to 0, Member must satisfy regular expression pattern: .*]",
    ),
    "key of a map": (
        "Environment",
        {"1A": "x"},
        "1 validation error detected: Value '{1A=x}' at 'environment' failed to satisfy constraint: Map keys "
        "must satisfy "
        "constraint: [Member must have length less than or equal to 512, Member must have length greater "
        "than or equal to "
        "0, Member must satisfy regular expression pattern: [a-zA-Z_][a-zA-Z0-9_]*]",
    ),
    "letters of any language": (
        "Tags",
        [{"Key": "größe", "Value": "a;b"}],
        r"1 validation error detected: Value 'a;b' at 'tags.1.member.value' failed to satisfy constraint: Member must "
        r"satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
    ),
}


@pytest.mark.parametrize(("path", "value", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_broken_limit_is_told_in_awss_words(path, value, message):
    with pytest.raises(RequestError) as caught:
        check_training_request(changed(path, value))
    assert caught.value.aws_message == message
    assert caught.value.aws_code == "ValidationException"


def test_all_that_is_wrong_is_said_at_once():
    document = changed("TrainingJobName", "a_b", changed("RoleArn", None))
    with pytest.raises(RequestError, match=r"^2 validation errors detected: .*; ") as caught:
        check_training_request(document)
    assert caught.value.members == ("RoleArn", "TrainingJobName")


def test_people_are_not_shown_the_values_of_variables_nor_225_instance_types():
    with pytest.raises(RequestError) as caught:
        check_training_request(changed("Environment", {"PASSWORD": "hunter2" * 100}))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(RequestError, match=r"ml.m4.4xlarge, ... \d+ in all") as caught:
        check_training_request(changed("ResourceConfig.InstanceType", "ml.m5.xlrage"))
    assert "Did you mean ml.m5.xlarge" in caught.value.hint
    assert len(caught.value.aws_message) > 3000


@pytest.mark.parametrize(
    ("path", "value", "pattern"),
    [
        ("HyperParameters", 5, r"Invalid type for parameter HyperParameters, value: 5, type: <class 'int'>"),
        ("HyperParameters", {"a": 1}, r"parameter HyperParameters\['a'\], value: 1"),
        ("StoppingCondition.MaxRuntimeInSeconds", True, r"value: True"),
        pytest.param("StoppingCondition.MaxRuntimeInSeconds", 10**5000, r"more than 28 days", id="endless"),
        ("Tags", [{"Key": 1, "Value": "v"}], r"Tags\[0\].Key"),
        ("VpcConfig", None, r"VpcConfig, value: None"),
        ("Tagz", [], r'Unknown parameter in input: "Tagz".*\n.*Did you mean'),
        ("ResourceConfig.InstanceTyp", "x", r'Unknown parameter in ResourceConfig: "InstanceTyp"'),
        ("Launcher.Runtimes", "x", r'Unknown parameter in Launcher: "Runtimes"'),
        ("Environment", {"A": "\ud800"}, r"is not JSON"),
        ("Environment", {"A": "a\0"}, r"a NUL"),
        ("HyperParameters", {"": "1"}, r"has no name"),
        ("ResourceConfig.InstanceCount", 0, r"InstanceCount=0 is no count"),
        ("OutputDataConfig.S3OutputPath", "https://bucket/x", r"OutputDataConfig.S3OutputPath: .*unknown scheme"),
        ("OutputDataConfig.S3OutputPath", "file://out", r"no absolute path"),
        ("OutputDataConfig.S3OutputPath", "s3://B/x", r"bucket is not valid"),
        ("InputDataConfig", [channel(), channel()], r"two channels 'train'"),
        ("InputDataConfig", [channel(ChannelName="..")], r"leaves /opt/ml/input/data"),
        ("InputDataConfig", [{"ChannelName": "a", "DataSource": {}}], r"'a' names no data"),
        ("CheckpointConfig", {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/model"}, r"in the way of"),
        ("CheckpointConfig", {"S3Uri": "file:///"}, r"root of the disk"),
        ("AlgorithmSpecification.TrainingImage", " ", r"names no image"),
        ("AlgorithmSpecification", {"TrainingInputMode": "File"}, r"nothing to run"),
        ("HyperParameters", {"sagemaker_submit_directory": "s3://bucket/s.tar.gz"}, r"none names its entry point"),
        (
            "AlgorithmSpecification.MetricDefinitions",
            [{"Name": "a", "Regex": "("}],
            r"is not a regular expression",
        ),
        ("AlgorithmSpecification.MetricDefinitions", [{"Name": "a", "Regex": "a"}], r"has no group"),
    ],
)
def test_other_bad_documents_are_refused_by_name(path, value, pattern):
    with pytest.raises(BadInputError, match=pattern) as caught:
        check_training_request(changed(path, value))
    assert caught.value.hint


def test_every_member_of_the_service_model_is_taken_or_refused_by_a_row():
    """A new botocore may bring members: the table has to say what becomes of them."""
    paths = list(member_paths(operation_shape(OPERATION)))
    assert len(paths) > 100
    assert [path for path in paths if row_of(path) is None] == []
    tops = {path.replace("[]", "") for path in MEMBERS}
    assert {
        top for top in tops if not any(f"{path}.".replace("[]", "").startswith(f"{top}.") for path in paths)
    } == set()


def test_a_row_that_refuses_says_what_to_do_instead():
    assert [row.path for row in MEMBERS.values() if row.accepted is not None and not row.instead] == []


REFUSED = {
    "AlgorithmSpecification.AlgorithmName": "mine",
    "InputDataConfig": [
        channel(
            DataSource={
                "FileSystemDataSource": {
                    "FileSystemId": "fs-12345678901",
                    "FileSystemAccessMode": "ro",
                    "FileSystemType": "EFS",
                    "DirectoryPath": "/d",
                }
            }
        )
    ],
    "OutputDataConfig.CompressionType": "NONE",
    "DebugHookConfig": {"S3OutputPath": "s3://b/o", "CollectionConfigurations": [{"CollectionName": "losses"}]},
}
WITHOUT_EFFECT = {
    "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    "EnableInterContainerTrafficEncryption": True,
    "ResourceConfig.VolumeSizeInGB": 50,
    "OutputDataConfig.KmsKeyId": "key",
    "ExperimentConfig": {"ExperimentName": "x"},
}


@pytest.mark.parametrize(("path", "value"), WITHOUT_EFFECT.items(), ids=WITHOUT_EFFECT)
def test_a_member_that_means_nothing_on_one_machine_is_kept_and_named(path, value, store, home):
    """A script that works on AWS is not stopped by it; Describe shows it, and the job's warnings say so."""
    document = changed(path, value, local_document(home))
    folder = submit(document, store, FakeRuntime())
    record = store.load(folder.name)
    assert [text for text in record.warnings if text.startswith(f"{path}=") and " has no effect here: " in text]
    description = describe_record(record)
    for step in path.split("."):
        description = description[step]
    assert description == value


def test_every_row_without_effect_says_why():
    assert [row.path for row in MEMBERS.values() if row.noted and (not row.instead or row.accepted is None)] == []


@pytest.mark.parametrize(("path", "value"), REFUSED.items(), ids=REFUSED)
def test_a_member_that_is_not_emulated_is_refused_by_name(path, value):
    with pytest.raises(UnsupportedOptionError, match=path.split(".")[0]) as caught:
        check_training_request(changed(path, value))
    assert caught.value.hint


# --- nothing is lost: documents made at random of the model's shapes ------------------------------------------------


def contains(whole, part):
    """Whether everything of ``part`` stands in ``whole``, with the same values."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_a_document_comes_back_whole_from_the_job_that_was_made_of_it(document):
    """Request -> spec -> JSON -> spec -> request is the identity for every member that is taken; so is Describe."""
    before = copy.deepcopy(document)
    spec = check_training_request(document)
    assert document == before, "the caller's document is left alone"
    stored = TrainingJobSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert stored == spec
    back = training_request(stored)
    assert contains(back, document), "nothing is lost or changed"
    assert back == completed(document), "only defaults are added"
    assert check_training_request(back) == check_training_request(completed(document))
    assert json.loads(json.dumps(back)) == back
    description = describe_record(JobRecord(spec=spec.to_dict(), created=1.0, request=document))
    assert differences(document, description) == []


# --- the one way in -----------------------------------------------------------------------------------------------


def test_submit_refuses_what_the_estimator_refuses(store, home):
    """A document has no estimator before it."""
    for path, value in (
        ("ResourceConfig.InstanceType", "nonsense"),
        ("Environment", {"bad name": "x"}),
        ("StoppingCondition.MaxRuntimeInSeconds", 0),
        ("TrainingJobName", "a_b"),
    ):
        with pytest.raises(BadInputError):
            submit(changed(path, value, local_document(home)), store, FakeRuntime())
    assert not home.exists()


def local_document(home, **members):
    return {
        **changed("OutputDataConfig.S3OutputPath", f"file://{home}/out"),
        **members,
    }


def test_an_accepted_document_is_stored_whole(store, home):
    document = local_document(home, Tags=[{"Key": "a", "Value": "b"}])
    submit(document, store, FakeRuntime())
    assert store.load("job-1").request == document
    description = launcher.TrainingJob("job-1").describe()
    assert description["AlgorithmSpecification"]["TrainingImage"] == "my-algorithm"
    assert description["OutputDataConfig"]["S3OutputPath"] == f"file://{home}/out"


def test_a_record_of_0_1_0_is_described_by_its_spec(store):
    """It kept no request, and the folder that was packed beside the hyperparameters."""
    old = {
        "job_name": "job-1",
        "runtime": "process",
        "hyperparameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": '"file:///out/job-1/source/sourcedir.tar.gz"',
        },
        "channels": [{"name": "train", "uri": "file:///data"}],
        "output_uri": "file:///out",
        "code_uri": "file:///out",
        "entry_point": "train.py",
        "source_path": "/src",
        "source_members": [],
        "dependencies": ["/lib"],
        "invented_later": 1,
    }
    store.create("job-1", JobRecord(spec=old, created=1.0))
    record = store.load("job-1")
    assert record.training_spec.entry_point == "train.py"
    assert record.training_spec.estimator == {"SourceDir": "/src", "EntryPoint": "train.py", "Dependencies": ["/lib"]}
    assert describe_record(record)["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == "file:///data"


def test_a_name_is_held_while_the_source_is_uploaded(store):
    """Nobody else writes to the same place meanwhile; without a record in the end nothing is left."""
    with store.claim("job-1") as claim:
        (claim.folder.path / "source").mkdir()
        with pytest.raises(JobExistsError), store.claim("job-1"):
            pass
        assert store.names() == []
    assert not claim.folder.path.exists()


def test_what_a_killed_submission_left_is_no_job_and_in_nobodys_way(make_source, store, monkeypatch):
    """It died between the upload and the record: its lock is free, and the same name can be had."""
    source = make_source("print('done')")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
    (store.folder("job-1").path / "source").mkdir(parents=True)
    (store.folder("job-1").path / "source" / "sourcedir.tar.gz").write_bytes(b"half")
    store.folder("job-1").lock_path.touch()
    assert store.names() == []
    estimator.fit(job_name="job-1", logs=False)
    assert launcher.TrainingJob("job-1").status == "Completed"


def test_an_upload_that_fails_leaves_no_job(make_source, home, monkeypatch):
    source = make_source("pass")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
    monkeypatch.setattr("launcher.sdk.training_submission.upload_source", lambda *_arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        estimator.fit(job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


@pytest.mark.parametrize("mode", ["local", "s3"])
def test_a_source_that_is_there_already_is_used_as_it_is(make_source, mode, tmp_path):
    """The source of an earlier job, by its URI; nothing is packed, and the place is not 'used'."""
    session = launcher.Session(mode=mode)
    options = {"entry_point": "train.py", "runtime": FakeRuntime(), "sagemaker_session": session}
    first = launcher.Estimator(source_dir=make_source("print('packed once')"), **options)
    first.fit(job_name="job-1", logs=False)
    uri = first.latest_training_job.keys.source
    assert uri.endswith("job-1/source/sourcedir.tar.gz")
    second = launcher.Estimator(source_dir=uri, **options)
    second.fit(job_name="job-2", logs=False)
    assert "packed once" in second.latest_training_job.logs()
    assert second.latest_training_job.keys.source == uri
    with pytest.raises(BadInputError, match="dependencies cannot be packed"):
        launcher.Estimator(source_dir=uri, dependencies=[str(tmp_path)], **options).plan()


def test_a_source_that_is_no_archive_is_refused(make_source, tmp_path, home):
    document = local_document(
        home,
        HyperParameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"file://{tmp_path}/nowhere.tar.gz",
        },
    )
    with pytest.raises(BadInputError, match=r"the source of job 'job-1': .*nowhere.tar.gz does not exist"):
        submit(document, JobStore(home), FakeRuntime())


# --- what an estimator asks for -------------------------------------------------------------------------------------


@pytest.fixture
def estimator(make_source, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("")
    return launcher.RLEstimator(
        "train.py",
        toolkit=launcher.RLToolkit.COACH,
        toolkit_version="1.0.0",
        framework=launcher.RLFramework.TENSORFLOW,
        source_dir=make_source("print('done')"),
        dependencies=[str(tmp_path / "lib")],
        hyperparameters={"a": 1, "b": "007", "c": [1, None, {"d": 0.5}], "e": None, "f": True},
        role="my-role",
        instance_type="ml.m5.large",
        instance_count=1,
        max_run=60,
        tags=[{"Key": "team", "Value": "rl"}],
        base_job_name="mine",
        container_log_level=10,
        code_location=str(tmp_path / "code"),
        output_path=str(tmp_path / "out"),
        environment={"A": "", "B": "b"},
        checkpoint_s3_uri=str(tmp_path / "ck"),
        checkpoint_local_path="/opt/ml/ck",
        runtime=FakeRuntime(),
    )


def test_boto3_takes_the_request_of_an_estimator(estimator, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    request = estimator.request({"train": tmp_path / "data"}, job_name="job-1")
    assert json.loads(json.dumps(request)) == request
    shape_of_input = (
        botocore.session.get_session().get_service_model("sagemaker").operation_model(OPERATION).input_shape
    )
    theirs = {name: value for name, value in request.items() if name != OWN_MEMBER}
    report = ParamValidator().validate(theirs, shape_of_input)
    assert not report.has_errors(), report.generate_report()
    assert request["HyperParameters"]["c"] == '[1, null, {"d": 0.5}]'
    assert request["HyperParameters"]["e"] == "null"
    assert request["RoleArn"] == "arn:aws:iam::000000000000:role/my-role"
    assert check_training_request(request).max_run_seconds == 60


def test_asking_for_the_request_does_nothing(estimator, home, tmp_path):
    estimator.request(job_name="job-1")
    assert not home.exists()
    assert not (tmp_path / "code").exists()


def test_numpys_scalars_are_sent_as_numbers(make_source):
    numpy = pytest.importorskip("numpy")
    values = {"rate": numpy.float32(0.5), "count": numpy.int64(3), "deep": [numpy.bool_(True)]}
    source = make_source("pass")
    for options, expected in (
        ({"entry_point": "train.py", "source_dir": source}, {"rate": "0.5", "count": "3", "deep": "[true]"}),
        ({"image_uri": "mine"}, {"rate": "0.5", "count": "3", "deep": "[True]"}),
    ):
        request = launcher.Estimator(hyperparameters=values, runtime=FakeRuntime(), **options).request()
        assert {name: request["HyperParameters"][name] for name in values} == expected


def test_structures_reach_the_job(make_source):
    source = make_source("import os; print('layers=' + os.environ['SM_HP_LAYERS'])")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, hyperparameters={"layers": [1, 2]}, runtime=FakeRuntime()
    )
    estimator.fit(logs=False)
    assert "layers=[1" in estimator.latest_training_job.logs()


def test_attach_loses_nothing(estimator):
    estimator.fit(job_name="job-1", logs=False)
    attached = launcher.RLEstimator.attach("job-1")
    assert type(attached) is launcher.RLEstimator
    for name in (
        *("toolkit", "toolkit_version", "framework", "container_log_level", "code_location", "base_job_name"),
        *("source_dir", "entry_point", "dependencies", "instance_type", "max_run", "tags", "environment"),
        *("checkpoint_local_path", "metric_definitions", "output_path"),
    ):
        theirs = getattr(estimator, name)
        if name in ("code_location", "source_dir"):
            theirs = str(theirs)
        assert str(getattr(attached, name)).removeprefix("file://") == str(theirs).removeprefix("file://"), name
    assert attached.hyperparameters() == estimator.hyperparameters()
    assert attached.latest_training_job.status == "Completed"
    again = attached.request(job_name="job-2")
    first = estimator.request(job_name="job-2")
    assert again == first


def test_a_plain_job_is_attached_by_the_plain_class(make_source):
    first = launcher.Estimator(entry_point="train.py", source_dir=make_source("pass"), runtime=FakeRuntime())
    first.fit(job_name="job-1", logs=False)
    assert type(launcher.Estimator.attach("job-1")) is launcher.Estimator
    with pytest.raises(BadInputError, match="was not begun by an RLEstimator"):
        launcher.RLEstimator.attach("job-1")


def test_the_other_attributes_of_the_sdk_exist(make_source):
    """Those of options that are not emulated as well: scripts read them."""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime=FakeRuntime())
    for name in ("subnets", "use_spot_instances", "max_wait", "output_kms_key", "debugger_hook_config"):
        assert getattr(estimator, name) in (None, False)
    estimator.output_path = "/tmp/elsewhere"
    assert estimator.request()["OutputDataConfig"]["S3OutputPath"] == "file:///tmp/elsewhere"


def test_no_error_of_a_document_is_bare(tmp_path):
    """Whatever JSON is given instead of a document, the answer is a named error."""
    for document in ({}, {"TrainingJobName": None}, {1: 2}, {"OutputDataConfig": []}, {**SMALL, OWN_MEMBER: 5}):
        with pytest.raises(LauncherError):
            check_training_request(document)
