"""Transform, endpoints, processing and tuning with ``mode="aws"``, by a local AWS in its role."""

import json
import time

import pytest
from launcher.async_inference import AsyncInferenceConfig
from launcher.deserializers import JSONDeserializer
from launcher.processing import ProcessingInput, ProcessingJob, ProcessingOutput, ScriptProcessor
from launcher.serializers import JSONSerializer
from launcher.tuner import ContinuousParameter, HyperparameterTuner

import launcher
from launcher.cli.main import main
from launcher.errors import (
    EndpointFailedError,
    JobFailedError,
    JobNotFoundError,
    ModelError,
    NotFoundError,
    TakenError,
    UnsupportedOptionError,
)
from tests.launcher.remote.conftest import BUCKET, ROLE
from tests.launcher.remote.test_others_documents import recorded

TRAIN = """
import pathlib, sys
rate = float(sys.argv[sys.argv.index("--rate") + 1])
print(f"total={(rate - 0.5) ** 2};")
pathlib.Path("/opt/ml/model/rate").write_text(str(rate))
"""
INFERENCE = """
import json, pathlib
def model_fn(folder):
    return float(pathlib.Path(folder, "rate").read_text())
def input_fn(body, content_type):
    text = body if isinstance(body, str) else body.decode()
    return json.loads(text if text[0] == "[" else f"[{text}]")
def predict_fn(rows, rate):
    if rows and rows[0] < 0:
        raise ValueError("negative")
    return [row * rate for row in rows]
def output_fn(rows, accept):
    return json.dumps(rows)
"""
# What stands for it needs no container.
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3-cpu-py311"
METRICS = [{"Name": "total", "Regex": "total=(.*?);"}]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "inference.py").write_text(INFERENCE)
    return str(folder)


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n2\n")
    return str(tmp_path / "rows.csv")


@pytest.fixture
def session(client):
    """A session, and what it sent as ``session.sent``: operation and document."""
    session = launcher.Session(mode="aws", default_bucket=BUCKET)
    session.sent, ask = [], session.wire.ask

    def noted(service, operation, **request):
        session.sent.append((operation, request))
        return ask(service, operation, **request)

    session.wire.ask = noted
    return session


def sent(session, operation):
    return [request for name, request in session.sent if name == operation]


def waited_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def estimator(source, session, **options):
    return launcher.Estimator(
        IMAGE,
        ROLE,
        1,
        "ml.m5.large",
        entry_point="train.py",
        source_dir=source,
        hyperparameters={"rate": 0.5},
        sagemaker_session=session,
        **options,
    )


@pytest.mark.slow
def test_a_trained_model_transforms_there_and_the_outputs_come_here(session, source, rows, capsys):
    """Train, attach from nowhere, transform with code of one's own, bring the outputs here, attach the job."""
    estimator(source, session).fit(job_name="far-train", logs=False)
    attached = launcher.Estimator.attach("far-train", session)
    model = attached.create_model(entry_point="inference.py", source_dir=source, name="far-model")
    transformer = model.transformer(1, "ml.m5.large", strategy="SingleRecord", assemble_with="Line", accept="text/csv")
    job = transformer.transform(rows, content_type="text/csv", split_type="Line", job_name="far-transform")
    assert isinstance(job, launcher.sdk.transform_job.TransformJob)
    assert (job.status, job.failure_reason) == ("Completed", "")
    assert job.output_path == f"s3://{BUCKET}/far-transform"
    assert (job.fetch_outputs() / "rows.csv.out").read_text() == "[0.5]\n[1.0]\n"
    (created,) = sent(session, "CreateTransformJob")
    again = transformer.request(rows, content_type="text/csv", split_type="Line", job_name="far-transform")
    assert created == again
    model_data = sent(session, "CreateModel")[0]["PrimaryContainer"]["ModelDataUrl"]
    assert model_data == f"s3://{BUCKET}/far-model/model.tar.gz"
    assert "Launcher" not in json.dumps(session.sent)
    with pytest.raises(UnsupportedOptionError, match="progress is not there"):
        _ = job.progress
    other = launcher.Transformer.attach("far-transform", session)
    assert (other.model_name, other.strategy, other.latest_transform_job.status) == (
        *("far-model", "SingleRecord"),
        "Completed",
    )
    job.stop()  # of a job that has ended is no error
    model.create()
    assert "Using already existing model: far-model" in capsys.readouterr().err
    transformer.delete_model()
    with pytest.raises(NotFoundError, match="Could not find model"):
        transformer.delete_model()
    with pytest.raises(JobNotFoundError, match="no transform job 'nobody' at AWS at http"):
        launcher.Transformer.attach("nobody", session)
    with pytest.raises(NotFoundError, match="Could not find model"):
        transformer.transform(rows)


@pytest.mark.slow
def test_the_command_line_transforms_and_processes_there(client, source, rows, tmp_path, monkeypatch, capsys):
    """``--kind`` says which jobs of AWS are meant."""

    def run(*words, code=0):
        monkeypatch.setattr("sys.argv", ["launcher", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return printed.out + printed.err

    aws = ("--mode", "aws")
    model = tmp_path / "model"
    model.mkdir()
    (model / "rate").write_text("2")
    begin = ("transform", rows, "--model-data", str(model), "--image-uri", IMAGE, "--source-dir", source)
    begin += ("--entry-point", "inference.py", "-c", "text/csv", "--split", "Line", "--instance-type", "ml.m5.large")
    begin += ("--strategy", "SingleRecord", "--job-name", "far-command", "--bucket", BUCKET, *aws)
    assert "no role is given" in run(*begin, code=2)
    shown = json.loads(run(*begin, "--role", ROLE, "--dry-run"))
    assert shown["CreateTransformJob"]["ModelName"] == shown["CreateModel"]["ModelName"]
    assert f"far-command: Completed. Outputs: s3://{BUCKET}/far-command" in run(*begin, "--role", ROLE)
    assert client.storage.read_bytes(f"s3://{BUCKET}/far-command/rows.csv.out") == b"[2.0][4.0]"
    kind = ("--kind", "transform", *aws)
    assert "far-command" in run("ls", *kind)
    described = json.loads(run("describe", "latest", *kind, "--json"))
    assert (described["TransformJobName"], described["TransformJobStatus"]) == ("far-command", "Completed")
    assert "serve: ready" in run("logs", "far-command", *kind)
    assert run("stop", "far-command", *kind) == "far-command: Completed\n"
    assert "--kind 'model' is not there" in run("ls", "--kind", "model", *aws, code=2)
    (tmp_path / "hello.py").write_text("print('hello')")
    processing = ("process", str(tmp_path / "hello.py"), "--image-uri", IMAGE, "--instance-type", "ml.m5.large")
    assert "hello" in run(*processing, "--bucket", BUCKET, "--role", ROLE, "--job-name", "far-hello", *aws)


def test_a_model_is_deployed_there_asked_updated_and_deleted(session, source, tmp_path):
    """The documents are those of version 2 of the SDK; errors of the model are this project's own."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "rate").write_text("2")
    model = launcher.Model(
        IMAGE, str(folder), ROLE, name="far-served", sagemaker_session=session, source_dir=source,
        entry_point="inference.py",
    )  # fmt: skip
    with pytest.raises(NotFoundError):
        session.describe_endpoint("from-v2")
    predictor = model.deploy(
        1,
        "ml.m5.large",
        JSONSerializer(),
        JSONDeserializer(),
        endpoint_name="from-v2",
        tags=[{"Key": "team", "Value": "rl"}],
        data_capture_config=launcher.DataCaptureConfig(
            True, 50, f"s3://{BUCKET}/captured", json_content_types=["application/json"]
        ),
    )
    assert predictor.predict([1, 2.5], target_variant="AllTraffic", inference_id="one") == [2.0, 5.0]
    assert list(predictor.predict_stream([1])) == [b"[2.0]"]
    with pytest.raises(ModelError, match="InvokeEndpoint at AWS at http") as caught:
        predictor.predict([-1])
    assert caught.value.original_status_code == 500
    with pytest.raises(UnsupportedOptionError, match="keeps no rewards"):
        predictor.report_reward("one", 1.0)
    with pytest.raises(UnsupportedOptionError, match=r"write_dataset is not there in the mode 'aws'"):
        predictor.write_dataset(tmp_path / "log.csv")
    with pytest.raises(TakenError, match="already existing endpoint"):
        model.deploy(1, "ml.m5.large", endpoint_name="from-v2")
    predictor.update_endpoint(initial_instance_count=2, instance_type="ml.c5.large")
    described = session.describe_endpoint("from-v2")
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    configs = sent(session, "CreateEndpointConfig")
    second = configs[1].pop("EndpointConfigName")
    assert sent(session, "UpdateEndpoint") == [{"EndpointName": "from-v2", "EndpointConfigName": second}]
    theirs = [recorded("CreateEndpointConfig"), recorded("CreateEndpointConfig", 1)]
    del theirs[1]["EndpointConfigName"]
    assert configs == json.loads(json.dumps(theirs).replace("sdk-model", "far-served"))
    assert sent(session, "CreateEndpoint") == [recorded("CreateEndpoint")]
    assert sent(session, "InvokeEndpoint")[0] == {**recorded("InvokeEndpoint"), "Body": b"[1, 2.5]"}
    predictor.delete_model()
    predictor.delete_endpoint()
    waited_for(lambda: not session._serving.has("Endpoint", "from-v2"))
    with pytest.raises(NotFoundError, match="Could not find endpoint configuration"):
        session.delete_endpoint_config(second)


@pytest.mark.slow
def test_an_update_that_fails_there_is_said_and_the_endpoint_answers_as_before(session, source, tmp_path):
    """An asynchronous endpoint, whose request and answer lie in the bucket."""

    def model(name, program):
        folder = tmp_path / name
        (folder / "code").mkdir(parents=True)
        (folder / "rate").write_text("2")
        (folder / "code" / "inference.py").write_text(program)
        environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
        return launcher.Model(IMAGE, str(folder), ROLE, name=name, env=environment, sagemaker_session=session)

    answers = AsyncInferenceConfig()
    options = {"endpoint_name": "far-async", "async_inference_config": answers}
    predictor = model("far-good", INFERENCE).deploy(1, "ml.m5.large", JSONSerializer(), JSONDeserializer(), **options)
    assert predictor.predict([3]) == [6.0]
    bad = model("far-bad", "raise ValueError('no weights')").create()
    with pytest.raises(EndpointFailedError, match=r"endpoint 'far-async' at AWS at http.* could not be updated"):
        predictor.update_endpoint(model_name=bad)
    assert predictor.predict([4]) == [8.0]
    predictor.delete_endpoint()


def test_a_tuner_finds_the_better_of_two_trials_there(session, source, capsys):
    tuner = HyperparameterTuner(
        estimator(source, session, metric_definitions=METRICS),
        "total",
        {"rate": ContinuousParameter(0.1, 0.9)},
        strategy="Random",
        objective_type="Minimize",
        max_jobs=2,
        max_parallel_jobs=2,
        random_seed=7,
    )
    tuner.fit(job_name="far-tuning")
    printed = capsys.readouterr().out
    assert "Tuning job far-tuning on AWS at http://127.0.0.1" in printed
    assert "Training jobs: 2 completed" in printed
    assert sent(session, "CreateHyperParameterTuningJob") == [tuner.request(job_name="far-tuning")]
    table = tuner.analytics().dataframe()
    assert table["TrainingJobStatus"].tolist() == ["Completed"] * 2
    best = table.sort_values("FinalObjectiveValue").iloc[0]
    assert tuner.best_training_job() == best["TrainingJobName"]
    trained = tuner.best_estimator()
    rate = (trained.latest_training_job.outputs.model_path / "rate").read_text()
    assert float(rate) == pytest.approx(best["rate"])
    attached = HyperparameterTuner.attach("far-tuning", session)
    assert (attached.strategy, attached.max_jobs, attached.objective_metric_name) == ("Random", 2, "total")
    assert attached.best_training_job() == best["TrainingJobName"]
    attached.stop_tuning_job()  # of one that has ended is no error
    with pytest.raises(JobNotFoundError, match="no tuning job 'nobody' at AWS at http"):
        HyperparameterTuner.attach("nobody", session)


def test_a_processor_runs_a_script_there_and_its_output_comes_here(session, rows, tmp_path, capsys):
    (tmp_path / "double.py").write_text(
        "import pathlib, sys\n"
        "rows = pathlib.Path('/opt/ml/processing/rows/rows.csv').read_text().split()\n"
        "print('rows', len(rows))\n"
        "pathlib.Path('/opt/ml/processing/out/rows.csv').write_text(''.join(f'{2 * float(row)}\\n' for row in rows))\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    processor = ScriptProcessor(
        ROLE, IMAGE, ["python3"], 1, "ml.m5.large", max_runtime_in_seconds=600, sagemaker_session=session
    )
    run = {
        "inputs": [ProcessingInput(rows, "/opt/ml/processing/rows")],
        "outputs": [ProcessingOutput("/opt/ml/processing/out", output_name="out")],
    }
    script = tmp_path / "double.py"
    job = processor.run(script, **run, arguments=["0"], job_name="far-processing")
    assert "rows 2" in capsys.readouterr().out
    assert (job.fetch_output("out") / "rows.csv").read_text() == "2.0\n4.0\n"
    assert sent(session, "CreateProcessingJob") == [
        processor.request(processor.program(script), **run, arguments=["0"], job_name="far-processing")
    ]
    attached = ProcessingJob.from_processing_name(session, "far-processing")
    assert [given.input_name for given in attached.inputs] == ["input-1", "code"]
    assert attached.logs() == "rows 2\n"
    with pytest.raises(JobFailedError, match="processing job 'far-failed'"):
        processor.run(script, **run, arguments=["3"], job_name="far-failed", logs=False)
    script.write_text("import time\ntime.sleep(600)\n")
    going = processor.run(script, inputs=run["inputs"], job_name="far-stopped", wait=False, logs=False)
    assert going.status == "InProgress"
    going.stop()
    assert going.status == "Stopped"
