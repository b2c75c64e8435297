"""``mode="aws"``: the requests that AWS gets, by a local AWS in its role, and everything that comes back."""

import io
import json
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher.cli.main import main
from launcher.errors import BadInputError, ImageError, JobFailedError, RequestError, UnsupportedOptionError
from tests.launcher.remote.conftest import BUCKET, ROLE

RECORDED = json.loads((Path(__file__).parents[2] / "recorded" / "sdk-2.257.7.json").read_text())
# The SDK asks for AWS's debugger and profiler in every request.
ONLY_THE_SDKS = {"DebugHookConfig", "ProfilerConfig"}
SCRIPT = """
import json, os, pathlib, sys
paths = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir()
rows = [float(row) for path in paths for row in path.read_text().split()]
print(f"total={sum(rows)};")
pathlib.Path("/opt/ml/model/total").write_text(str(sum(rows)))
pathlib.Path("/opt/ml/output/data/rows.json").write_text(json.dumps(rows))
if "--fail" in sys.argv:
    raise ValueError("no transitions")
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    return str(folder)


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.csv").write_text("1\n2\n")
    return str(folder)


def estimator(source, bucket=BUCKET, **options):
    given = {
        "image_uri": "sdk-recorded:1",
        "role": ROLE,
        "instance_type": "ml.m5.large",
        "instance_count": 1,
        "entry_point": "train.py",
        "source_dir": source,
        "sagemaker_session": launcher.Session(mode="aws", default_bucket=bucket),
        **options,
    }
    return launcher.Estimator(**{name: value for name, value in given.items() if value is not None})


def test_the_document_is_the_one_that_version_2_of_the_sdk_sent(source, region):
    """The same estimator, input for input; nothing is asked at any address."""
    ours = estimator(
        source,
        bucket="sdk-bucket",
        hyperparameters={"epochs": 3, "rate": 0.5, "name": "two words"},
        metric_definitions=[{"Name": "total", "Regex": "total=(.*?);"}],
        tags=[{"Key": "team", "Value": "rl"}],
    ).request({"train": "s3://sdk-bucket/rows"}, job_name=RECORDED["TrainingJobName"])
    assert ours == {name: member for name, member in RECORDED.items() if name not in ONLY_THE_SDKS}


def test_any_estimator_says_what_would_go_to_aws(source, rows, region):
    """Without a session of that mode, and with a folder as its input; the bucket is that of the results."""
    here = launcher.Estimator(
        "my-image:1",
        ROLE,
        1,
        "ml.m5.large",
        entry_point="train.py",
        source_dir=source,
        output_path=f"s3://{BUCKET}/out",
    )
    document = here.request(rows, "any", mode="aws")
    uri = document["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri.startswith(f"s3://{BUCKET}/launcher/inputs/")
    assert "Launcher" not in document
    assert (
        json.loads(document["HyperParameters"]["sagemaker_submit_directory"])
        == f"s3://{BUCKET}/any/source/sourcedir.tar.gz"
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"image_uri": None}, ImageError, "launcher push REGISTRY_URI"),
        ({"instance_type": "local"}, BadInputError, "instance_type='local' is this machine"),
        ({"role": None}, BadInputError, "no role is given"),
        ({"role": "MyRole"}, BadInputError, "is no ARN"),
        ({"output_path": "/tmp/results"}, BadInputError, "which AWS cannot write to"),
        ({"checkpoint_s3_uri": "/tmp/checkpoints"}, BadInputError, "checkpoint_s3_uri is file:///tmp"),
        ({"faults": "kill"}, UnsupportedOptionError, "faults does not go to AWS"),
        ({"runtime": "process"}, BadInputError, "runtime='process' says how this machine"),
        ({"instance_type": "ml.m5.lrage"}, RequestError, "enum value set"),
        ({"sagemaker_session": launcher.Session(mode="aws")}, BadInputError, "Name a bucket of yours"),
    ],
)
def test_what_cannot_go_to_aws_is_said_before_anything_is_sent(options, error, words, source, region):
    with pytest.raises(error, match=words):
        estimator(source, **options).fit()


def test_a_job_goes_to_aws_and_its_results_come_back(client, source, rows, capsys, monkeypatch):
    """The same calls as for a job of this machine; every request is recorded."""
    monkeypatch.setattr("launcher.remote.following.time.sleep", lambda _: None)
    sent = []
    options = {"image_uri": "any-image:1", "metric_definitions": [{"Name": "total", "Regex": "total=(.*?);"}]}
    trained = estimator(source, **options)
    wire = trained.sagemaker_session.wire
    ask = wire.ask
    wire.ask = lambda service, operation, **request: (
        sent.append((operation, request)) or ask(service, operation, **request)
    )
    trained.fit({"train": rows}, job_name="aws-1")
    job = trained.latest_training_job
    assert isinstance(job, launcher.TrainingJob)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "total").read_text() == "3.0"
    assert json.loads((job.outputs.data_path / "rows.json").read_text()) == [1.0, 2.0]
    assert trained.model_data == f"s3://{BUCKET}/aws-1/output/model.tar.gz"
    printed = capsys.readouterr().out
    assert "Training job aws-1 on AWS at http://127.0.0.1" in printed
    assert "total=3.0;" in printed
    assert "Billable seconds" in printed
    created = [request for operation, request in sent if operation == "CreateTrainingJob"]
    assert created == [estimator(source, **options).request({"train": rows}, job_name="aws-1")]
    assert {operation for operation, _ in sent} == {
        *("CreateTrainingJob", "DescribeTrainingJob", "DescribeLogStreams", "GetLogEvents"),
    }
    assert trained.training_job_analytics.dataframe()["value"].tolist() == [3.0]
    assert launcher.Estimator.attach("aws-1", trained.sagemaker_session).model_data == trained.model_data
    # What it left is the input of the next job, as it is for jobs of this machine.
    following = estimator(source).request({"train": job}, "next")["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert following["S3Uri"].startswith(f"s3://{BUCKET}/launcher/inputs/")
    archive = client.storage.read_bytes(f"s3://{BUCKET}/aws-1/source/sourcedir.tar.gz")
    assert tarfile.open(fileobj=io.BytesIO(archive)).getnames() == ["train.py"]  # noqa: SIM115 - of memory


def test_a_failed_job_has_awss_reason(client, source, rows):
    failing = estimator(source, hyperparameters={"fail": ""})
    with pytest.raises(JobFailedError, match="ValueError: no transitions") as caught:
        failing.fit({"train": rows}, job_name="aws-failed", logs=False)
    assert caught.value.reason == failing.latest_training_job.failure_reason


def test_no_variable_sends_a_job_to_aws(monkeypatch):
    monkeypatch.setenv("LAUNCHER_MODE", "aws")
    with pytest.raises(BadInputError, match="a variable sends no job to AWS"):
        launcher.Session()


def test_a_session_of_another_mode_never_makes_a_client_of_aws(home):
    for mode in ("local", "s3"):
        with pytest.raises(UnsupportedOptionError, match="does not talk to AWS"):
            _ = launcher.Session(mode=mode).wire


@pytest.fixture
def launch(place, monkeypatch, capsys):
    """A function that runs a command line in this process, and returns its exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["launcher", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return run


def test_the_command_line_does_all_of_it_by_the_same_word(client, launch, source, rows, tmp_path):
    aws = ("--mode", "aws")
    begin = ("fit", "train.py", "--source-dir", source, "-i", f"train={rows}", *aws, "--image-uri", "any:1")
    begin += ("--instance-type", "ml.m5.large", "--job-name", "aws-cli")
    code, printed = launch(*begin, "--bucket", BUCKET)
    assert code == 2
    assert "no role is given" in printed.err
    code, printed = launch(*begin, "--bucket", BUCKET, "--role", ROLE, "--dry-run")
    assert (code, "Launcher" in json.loads(printed.out)) == (0, False)
    (tmp_path / "request.json").write_text(printed.out)
    code, printed = launch(*begin, "--bucket", BUCKET, "--role", ROLE)
    assert code == 0, printed.err
    assert "aws-cli: Completed. Results: s3://the-users-bucket/aws-cli/output" in printed.out
    assert "launcher outputs aws-cli --mode aws --to FOLDER" in printed.out
    assert "aws-cli" in launch("ls", *aws, "--name", "cli")[1].out
    assert "total=3.0;" in launch("logs", "aws-cli", *aws)[1].out
    assert json.loads(launch("describe", "aws-cli", *aws, "--json")[1].out)["TrainingJobStatus"] == "Completed"
    assert launch("stop", "aws-cli", *aws)[1].out == "aws-cli: Completed\n"
    copied = launch("outputs", "aws-cli", "model/total", *aws, "--to", str(tmp_path / "out"))[1].out.strip()
    assert Path(copied).read_text() == "3.0"
    code, printed = launch("run", str(tmp_path / "request.json"), *aws)
    assert code == 1
    assert "ResourceInUse" in printed.err
    code, printed = launch("describe", "nobody", *aws)
    assert code == 2
    assert "no training job 'nobody' at AWS at http" in printed.err


def test_a_job_waits_in_a_queue_of_aws_batch_by_the_same_document(client, source, rows):
    client.ask(
        "batch",
        "CreateServiceEnvironment",
        serviceEnvironmentName="machines",
        serviceEnvironmentType="SAGEMAKER_TRAINING",
        capacityLimits=[{"maxCapacity": 1, "capacityUnit": "NUM_INSTANCES"}],
    )
    client.ask(
        "batch",
        "CreateJobQueue",
        jobQueueName="the-queue",
        jobQueueType="SAGEMAKER_TRAINING",
        priority=1,
        serviceEnvironmentOrder=[{"order": 1, "serviceEnvironment": "machines"}],
    )
    waiting = estimator(source)
    job = waiting.enqueue("the-queue", {"train": rows}, "queued", priority=5)
    described = client.ask("batch", "DescribeServiceJob", jobId=job)
    assert json.loads(described["serviceRequestPayload"]) == waiting.request({"train": rows}, "queued")
    assert described["schedulingPriority"] == 5
    client.ask("batch", "TerminateServiceJob", jobId=job, reason="the test is over")
    here = launcher.Estimator(entry_point="train.py", source_dir=source)
    with pytest.raises(UnsupportedOptionError, match="does not talk to AWS"):
        here.enqueue("the-queue", rows)
