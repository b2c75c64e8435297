"""The SDK's names for batch transform: what each argument becomes, and what a caller gets back."""

import inspect
import json
import tarfile
import time
from pathlib import Path

import pytest

import launcher
from launcher.errors import BadInputError, JobFailedError, NotFoundError, RequestError, UnsupportedOptionError
from launcher.jobs.store import ModelStore, TransformStore
from launcher.settings import home_path
from tests.fakes import FakeRuntime, FakeServing
from tests.shell import run_launcher

NAMES = {
    launcher.Transformer: (
        "model_name instance_count instance_type strategy assemble_with output_path output_kms_key accept "
        "max_concurrent_transforms max_payload tags env base_transform_job_name sagemaker_session volume_kms_key"
    ),
    launcher.Transformer.transform: (
        "self data data_type content_type compression_type split_type job_name input_filter output_filter join_source "
        "experiment_config model_client_config batch_data_capture_config wait logs"
    ),
    launcher.Model: (
        "image_uri model_data role predictor_cls env name vpc_config sagemaker_session enable_network_isolation "
        "model_kms_key image_config source_dir code_location entry_point container_log_level dependencies git_config "
        "resources"
    ),
    launcher.Estimator.transformer: (
        "self instance_count instance_type strategy assemble_with output_path output_kms_key accept env "
        "max_concurrent_transforms max_payload tags role volume_kms_key vpc_config_override enable_network_isolation "
        "model_name"
    ),
}


@pytest.mark.parametrize(("function", "names"), NAMES.items(), ids=lambda value: getattr(value, "__qualname__", ""))
def test_arguments_are_those_of_the_sdk_in_its_order(function, names):
    parameters = inspect.signature(function).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY] == names.split()


@pytest.fixture
def serving():
    runtime = FakeServing(lambda _container, _headers, body: (200, body.upper()))
    yield runtime
    assert runtime.running == []


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a\nb\n")
    return tmp_path / "data"


def test_a_model_that_is_there_already_is_used_as_it_is_and_said_so(serving, home, capsys):
    model = launcher.Model(env={"COLOUR": "red"}, runtime=serving)
    first = model.transformer(1, "local")
    made = ModelStore(home_path()).load(first.model_name)
    assert capsys.readouterr().err == ""
    again = launcher.Model(name=first.model_name, env={"COLOUR": "blue"}, runtime=serving).transformer(1, "local")
    assert model.transformer(1, "local").model_name == again.model_name == first.model_name
    assert ModelStore(home_path()).load(first.model_name) == made
    assert capsys.readouterr().err.count(f"Using already existing model: {first.model_name}.") == 2


def test_a_model_transforms_a_folder_and_says_where_the_outputs_are(serving, data, home):
    transformer = launcher.Model(env={"COLOUR": "red"}, runtime=serving).transformer(1, "local", assemble_with="Line")
    job = transformer.transform(data, split_type="Line", job_name="job-1", logs=False)
    assert transformer.latest_transform_job.job_name == transformer._current_job_name == "job-1"
    assert job.status == "Completed"
    assert transformer.output_path == f"file://{home}/transform-jobs/job-1/output"
    assert job.fetch_outputs() == home / "transform-jobs" / "job-1" / "output"
    assert (job.fetch_outputs() / "a.txt.out").read_text() == "A\nB\n"
    assert serving.started[0].environment["COLOUR"] == "red"


def test_a_job_that_another_process_began_is_attached_to(serving, data):
    transformer = launcher.Model(runtime=serving).transformer(
        1, "ml.m4.xlarge", strategy="SingleRecord", accept="text/csv", max_payload=2, env={"A": "1"}
    )
    transformer.transform(data, split_type="Line", job_name="job-1", logs=False)
    again = launcher.Transformer.attach("job-1")
    for name in ("model_name", "instance_type", "strategy", "accept", "max_payload", "env", "output_path"):
        assert getattr(again, name) == getattr(transformer, name), name
    assert again.latest_transform_job.status == "Completed"


def test_a_failed_job_raises_with_its_reason(serving, data):
    serving.answer = lambda *_: (400, b"no")
    with pytest.raises(JobFailedError, match=r"a\.txt: records 1 to 2: the container answered 400: no"):
        launcher.Model(runtime=serving).transformer(1, "local").transform(data, split_type="Line", logs=False)


def test_without_waiting_a_process_of_its_own_would_drive_and_wait_takes_it_up(serving, data, monkeypatch):
    transformer = launcher.Model(runtime=serving).transformer(1, "local")
    monkeypatch.setattr(launcher.TransformJob, "detach", lambda self: None)
    job = transformer.transform(data, split_type="Line", wait=False)
    assert job.status == "InProgress"
    transformer.wait(logs=False)
    assert job.status == "Completed"


def test_stopping_what_has_not_begun_leaves_it_stopped(serving, data, monkeypatch):
    transformer = launcher.Model(runtime=serving).transformer(1, "local")
    monkeypatch.setattr(launcher.TransformJob, "detach", lambda self: None)
    transformer.transform(data, split_type="Line", wait=False)
    transformer.stop_transform_job()
    assert transformer.latest_transform_job.status == "Stopped"
    transformer.stop_transform_job()


def test_the_latest_jobs_model_is_what_transforms(tmp_path, data, make_source, serving):
    source = make_source("import os, pathlib; pathlib.Path(os.environ['SM_MODEL_DIR'], 'weights').write_text('7')")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
    with pytest.raises(BadInputError, match="no training job yet"):
        estimator.transformer(1, "local")
    estimator.fit(logs=False, job_name="trained")
    estimator._runtime = serving
    seen = {}

    def look(container, _headers, body):
        seen["weights"] = Path(container.tree_path, "model", "weights").read_text()
        return 200, body

    serving.answer = look
    transformer = estimator.transformer(1, "local")
    transformer.transform(data, logs=False)
    assert seen == {"weights": "7"}
    transformer.delete_model()
    with pytest.raises(NotFoundError):
        transformer.transform(data, logs=False)


def test_code_for_serving_is_packed_into_the_model(tmp_path, home, serving):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("7")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("pass")
    model = launcher.Model(
        model_data=tmp_path / "model", entry_point="inference.py", source_dir=tmp_path / "code", runtime=serving
    )
    spec = ModelStore(home).load(model.create()).model_spec
    with tarfile.open(spec.model_uri.removeprefix("file://")) as archive:
        assert sorted(name for name in archive.getnames() if not archive.getmember(name).isdir()) == [
            "code/inference.py",
            "weights",
        ]
    assert spec.environment["SAGEMAKER_PROGRAM"] == "inference.py"
    assert spec.environment["SAGEMAKER_SUBMIT_DIRECTORY"] == "/opt/ml/model/code"
    assert (home / "model-archives").stat().st_mode & 0o77 == 0


REFUSED = {
    "vpc_config": lambda: launcher.Model(vpc_config={"Subnets": []}),
    "model_kms_key": lambda: launcher.Model(model_kms_key="k"),
    "output_kms_key": lambda: launcher.Transformer("m", output_kms_key="k"),
    "batch_data_capture_config": lambda: launcher.Transformer("m").transform("d", batch_data_capture_config=object()),
    "experiment_config": lambda: launcher.Transformer("m").transform("d", experiment_config={"TrialName": "t"}),
}


@pytest.mark.parametrize(("option", "call"), REFUSED.items())
def test_what_is_not_emulated_raises_by_the_name_of_the_option(option, call):
    with pytest.raises(UnsupportedOptionError, match=option) as caught:
        call()
    assert caught.value.hint


def test_a_limit_of_aws_names_the_option_that_breaks_it(serving, data):
    transformer = launcher.Model(runtime=serving).transformer(1, "local", strategy="Both")
    with pytest.raises(RequestError, match=r"'Both' at 'batchStrategy'.*enum value set") as caught:
        transformer.transform(data)
    assert "BatchStrategy is the option strategy" in caught.value.hint


def test_a_dry_run_says_what_would_be_read_and_written_and_writes_nothing(serving, data, home):
    transformer = launcher.Model(runtime=serving).transformer(1, "local", output_path="out")
    text = str(transformer.plan(data, job_name="job-1"))
    assert f"reads      file://{data}/a.txt" in text
    assert "a.txt.out" in text
    assert not (home / "transform-jobs").exists()


def test_jobs_of_both_kinds_are_listed_together_by_their_age(serving, data, make_source, tmp_path):
    transformer = launcher.Model(runtime=serving).transformer(1, "local")
    transformer.transform(data, split_type="Line", job_name="first", logs=False)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime=FakeRuntime())
    estimator.fit(job_name="second", logs=False)
    transformer.transform(data, split_type="Line", job_name="third", logs=False)
    lines = run_launcher("ls", cwd=tmp_path).stdout.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("JOB", "KIND"), ("third", "transform"), ("second", "training"), ("first", "transform")
    ]  # fmt: skip
    listed = json.loads(run_launcher("ls", "--json", cwd=tmp_path).stdout)
    assert [next(iter(entry.items())) for entry in listed] == [
        ("TransformJobName", "third"), ("TrainingJobName", "second"), ("TransformJobName", "first")
    ]  # fmt: skip


ECHO = "def transform_fn(model, body, content_type, accept): return body\ndef model_fn(folder): return None\n"


def test_a_loop_in_python_that_waits_for_the_status_of_a_job_without_a_driver_ends(data, tmp_path, capfd):
    """As with a training job: whoever asks gives it a driver."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "inference.py").write_text(ECHO)
    model = launcher.Model(entry_point="inference.py", source_dir=tmp_path / "source", runtime="process")
    job = model.transformer(1, "local").submit(data, content_type="text/csv", job_name="job-1")
    store = TransformStore(home_path())
    path = store.folder("job-1").record_path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modified": store.load("job-1").modified - 60}))
    assert not store.folder("job-1").driven()
    deadline = time.monotonic() + 60
    while job.status == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job.describe()["TransformJobStatus"] == "Completed"
    assert capfd.readouterr().err.count("transform job 'job-1' had no driver; a new one was started") == 1
