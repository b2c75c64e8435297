"""The SDK's names for batch transform: what each argument becomes, and what a caller gets back."""

import inspect
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher.errors import BadInputError, JobFailedError, NotFoundError, RequestError, UnsupportedOptionError
from launcher.jobs.store import ModelStore
from tests.fakes import FakeRuntime, FakeServing

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


def test_a_model_transforms_a_folder_and_says_where_the_outputs_are(serving, data, home):
    transformer = launcher.Model(env={"COLOUR": "red"}, runtime=serving).transformer(1, "local", assemble_with="Line")
    job = transformer.transform(data, split_type="Line", job_name="job-1", logs=False)
    assert transformer.latest_transform_job.job_name == transformer._current_job_name == "job-1"
    assert job.status == "Completed"
    assert transformer.output_path == f"file://{home}/transform-jobs/job-1/output"
    assert (home / "transform-jobs" / "job-1" / "output" / "a.txt.out").read_text() == "A\nB\n"
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
