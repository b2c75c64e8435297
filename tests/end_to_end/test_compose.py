"""``docker compose run`` in a copy of the checkout that belongs to an ordinary user."""

import json
import re
import tarfile
import time
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import boto3
import pytest
from botocore.exceptions import ClientError

from launcher.settings import DEFAULT_BUCKET
from tests.compose import OWNER, compose_in
from tests.launcher.aws.clients import training_job
from tests.launcher.aws.test_commands import unused_port
from tests.shell import run_launcher

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def compose(tmp_path_factory):
    with compose_in(tmp_path_factory.mktemp("compose") / "checkout") as compose:
        yield compose


@pytest.fixture(scope="module")
def trained(compose):
    """The result of the first command that a newcomer types."""
    assert not compose.jobs.exists()
    return compose.run("train")


def names(archive):
    with tarfile.open(archive) as content:
        return content.getnames()


def test_train_works_as_the_first_command_and_collects_what_it_needs(compose, trained):
    assert trained.returncode == 0, trained.stdout[-2000:] + trained.stderr[-2000:]
    assert "collecting one first" in trained.stdout
    output = compose.jobs / "train" / "output"
    assert (compose.jobs / "train").is_symlink()
    assert "checkpoint/latest" in names(output / "output.tar.gz")
    assert names(output / "model.tar.gz")
    assert list((output / "intermediate").glob("worker_0.*.csv"))
    assert names(compose.jobs / "collect" / "output" / "output.tar.gz") == ["cartpole_dataset.csv"]


def test_evaluate_plays_what_train_learned(compose, trained):
    result = compose.run("evaluate", HYPERPARAMETERS='{"evaluate_episodes": 100}')
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    reward = float(re.search(r"Avg Total Reward = ([0-9.]+)", result.stdout).group(1))
    assert reward > 195


def test_every_file_belongs_to_the_owner_of_the_checkout(compose, trained):
    status = {path: path.lstat() for path in (compose.jobs, *compose.jobs.rglob("*"))}
    assert len(status) > 10
    assert not [path for path, state in status.items() if (state.st_uid, state.st_gid) != OWNER]


def test_a_launcher_of_this_machine_knows_the_jobs(compose, trained, tmp_path):
    """Their records, logs and results, by the paths that the records name."""
    home = {"LAUNCHER_HOME": str(compose.checkout)}
    jobs = json.loads(run_launcher("ls", "--json", cwd=tmp_path, **home).stdout)
    ours = {re.sub(r"-\d{4}(-\d\d){5}-\d{3}$", "", entry["TrainingJobName"]): entry for entry in reversed(jobs)}
    assert {entry["TrainingJobStatus"] for entry in jobs} <= {"Completed", "Stopped"}
    assert {"collect", "train"} <= set(ours)
    name = (compose.jobs / "train").readlink().name
    described = json.loads(run_launcher("describe", name, "--json", cwd=tmp_path, **home).stdout)
    artifacts = described["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"file://{compose.jobs}/{name}/output/model.tar.gz"
    assert [metric["MetricName"] for metric in described["FinalMetricDataList"]], "metrics are found in its log"
    assert "Off-Policy Evaluation>" in run_launcher("logs", name, cwd=tmp_path, **home).stdout


def test_a_container_sees_the_code_the_jobs_and_the_data_that_are_named(compose, trained, tmp_path):
    """No .env, no .git, nothing else of this machine."""
    (tmp_path / "mine.csv").write_text("1")
    tmp_path.chmod(0o755)
    look = "ls -A /project /project/data $LAUNCHER_HOME; echo; touch /project/presets/x 2>&1"
    arguments = ["compose", "run", "--rm", "-T", "--entrypoint", f"sh -c '{look}'", "train"]
    said = compose.docker(*arguments, DATA=str(tmp_path))
    *listed, refused = said.stdout[said.stdout.index("/project:\n") :].replace(":\n", ":").split("\n\n")
    assert [block.splitlines() for block in listed] == [
        ["/project:container", "data", "entrypoints", "launcher", "presets"],
        ["/project/data:mine.csv"],
        [f"{compose.checkout}:jobs"],
    ], said.stdout + said.stderr
    assert "Read-only file system" in refused


def test_bad_input_is_refused_with_exit_code_2_before_a_job_is_made(compose, trained):
    before = sorted(compose.jobs.iterdir())
    result = compose.run("train", HYPERPARAMETERS="{bad")
    assert result.returncode == 2
    assert "HYPERPARAMETERS is not JSON" in result.stderr
    assert compose.run("evaluate", CHECKPOINT="jobs/none").returncode == 2
    typo = compose.run("train", HYPERPARAMETERS='{"agent.learning_rte": 0.1}')
    assert typo.returncode == 2
    assert "did you mean 'agent.learning_rate'" in typo.stderr
    assert sorted(compose.jobs.iterdir()) == before


def test_a_stopped_job_keeps_what_it_had(compose, trained):
    before = set(compose.jobs.iterdir())
    name = f"{compose.project}-stopped"
    variables = {"HYPERPARAMETERS": '{"training.epochs": 100000}'}
    started = compose.docker("compose", "run", "--detach", "--name", name, "train", **variables)
    assert started.returncode == 0, started.stderr
    try:
        deadline = time.monotonic() + 60
        while not (
            metrics := [
                file for job in set(compose.jobs.iterdir()) - before for file in job.glob("output/intermediate/*.csv")
            ]
        ):
            assert time.monotonic() < deadline, compose.docker("logs", name).stdout[-2000:]
            time.sleep(0.2)
        assert compose.docker("stop", "--time", "60", name).returncode == 0
        log = compose.docker("logs", name)
    finally:
        compose.docker("rm", "--force", name)
    assert "train: stopped." in log.stdout
    assert (metrics[0].parents[1] / "output.tar.gz").exists()


@pytest.fixture(scope="module")
def s3_mode(compose, trained):
    """One variable more than before: where the first two commands left things."""
    before = set(compose.jobs.iterdir())
    results = [compose.run(command, COMPOSE_PROFILES="s3") for command in ("train", "evaluate")]
    listing = compose.docker("compose", "port", "s3", "9000", COMPOSE_PROFILES="s3")
    yield results, listing.stdout.strip(), set(compose.jobs.iterdir()) - before
    compose.docker("compose", "down", COMPOSE_PROFILES="s3")


def test_one_variable_has_train_and_evaluate_read_and_write_a_bucket(compose, s3_mode, tmp_path):
    (trained_in_s3, evaluated), address, new = s3_mode
    assert trained_in_s3.returncode == 0, trained_in_s3.stdout[-2000:] + trained_in_s3.stderr[-2000:]
    assert evaluated.returncode == 0, evaluated.stdout[-2000:] + evaluated.stderr[-2000:]
    assert "collecting one first" in trained_in_s3.stdout, "the datasets of jobs/ are none of the bucket's"
    assert float(re.search(r"Avg Total Reward = ([0-9.]+)", evaluated.stdout).group(1)) > 195
    assert {path.name for path in new} == {"s3"}
    key = dict(line.split("=", 1) for line in (compose.jobs / "s3" / "key.env").read_text().splitlines())

    def client_with(access_key, secret_key):
        return boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )

    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client_with("any", "any").list_buckets()
    client = client_with(*key.values())
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=DEFAULT_BUCKET)["Contents"]]
    plain = [re.sub(r"-\d{4}(-\d\d){5}-\d{3}/", "/", key) for key in keys]
    assert {"collect/output/output.tar.gz", "train/output/model.tar.gz", "train/output/output.tar.gz"} <= set(plain)
    metrics = next(key for key in keys if re.search(r"^train-.*/output/intermediate/worker_0\..*\.csv$", key))
    ours = next((compose.jobs / "train" / "output" / "intermediate").glob("worker_0.*.csv"))
    assert client.get_object(Bucket=DEFAULT_BUCKET, Key=metrics)["Body"].read() == ours.read_bytes()
    archive = next(key for key in keys if re.search(r"^train-.*/output/output.tar.gz$", key))
    client.download_file(DEFAULT_BUCKET, archive, str(tmp_path / "output.tar.gz"))
    assert names(tmp_path / "output.tar.gz") == names(compose.jobs / "train" / "output" / "output.tar.gz")
    assert f"stored s3://{DEFAULT_BUCKET}/{archive}" in trained_in_s3.stdout


def test_a_job_of_the_bucket_or_a_prefix_can_be_named(compose, s3_mode):
    job = re.search(r"train: job (\S+)", s3_mode[0][0].stdout).group(1)
    dataset = re.search(r"collect: job (\S+)", s3_mode[0][0].stdout).group(1)
    short = {"COMPOSE_PROFILES": "s3", "HYPERPARAMETERS": '{"training.epochs": 1}'}
    uri = f"s3://{DEFAULT_BUCKET}/{dataset}/output/output.tar.gz"
    assert compose.run("train", DATASET=uri, **short).returncode == 0
    two = {"COMPOSE_PROFILES": "s3", "HYPERPARAMETERS": '{"evaluate_episodes": 2}'}
    assert compose.run("evaluate", CHECKPOINT=f"jobs/{job}", **two).returncode == 0
    refused = compose.run("evaluate", CHECKPOINT="jobs/none", **two)
    assert refused.returncode == 2
    assert "none/output/output.tar.gz does not exist" in refused.stderr


def test_the_objects_stay_when_the_s3_ends(compose, s3_mode):
    compose.docker("compose", "down", COMPOSE_PROFILES="s3")
    evaluation = compose.run("evaluate", COMPOSE_PROFILES="s3", HYPERPARAMETERS='{"evaluate_episodes": 2}')
    assert evaluation.returncode == 0, evaluation.stderr
    compose.docker("compose", "down", COMPOSE_PROFILES="s3")


def test_the_local_aws_runs_a_job_that_boto3_creates(compose, trained):
    """In the container: the job is a process of it, and asks the same port."""
    variables = {"COMPOSE_PROFILES": "aws", "AWS_PORT": "0"}
    begun = compose.docker("compose", "up", "--wait", "aws", **variables)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    try:
        address = compose.docker("compose", "port", "aws", "9000", **variables).stdout.strip()
        key_path = compose.jobs / "s3" / "key.env"
        key = dict(line.split("=", 1) for line in key_path.read_text().splitlines())
        options = {name.lower(): value for name, value in key.items()}
        session = boto3.Session(region_name="us-east-1", **options)
        session.client("s3", endpoint_url=f"http://{address}").create_bucket(Bucket="results")
        sagemaker = session.client("sagemaker", endpoint_url=f"http://{address}")
        script = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'])"
        sagemaker.create_training_job(**training_job("by-boto3", script))
        waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
        waiter.wait(TrainingJobName="by-boto3", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        described = sagemaker.describe_training_job(TrainingJobName="by-boto3")
        assert described["TrainingJobStatus"] == "Completed", described
        record = compose.jobs / "jobs" / "by-boto3" / "job.json"
        assert (record.stat().st_uid, record.stat().st_gid) == OWNER
    finally:
        compose.docker("compose", "down", **variables)


def test_the_console_shows_the_jobs_to_a_browser_of_this_machine(compose, trained):
    variables = {"UI_PORT": str(unused_port())}
    begun = compose.docker("compose", "up", "--wait", "ui", **variables)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    try:
        printed = compose.docker("compose", "logs", "ui", **variables).stdout
        address = re.search(rf"http://127\.0\.0\.1:{variables['UI_PORT']}/_console/\?token=\S+", printed)
        assert address, printed
        home = address.group().partition("?")[0]
        browser = build_opener(HTTPCookieProcessor())
        browser.open(address.group()).close()  # leaves a cookie
        page = browser.open(home).read().decode()
        name = (compose.jobs / "train").readlink().name
        assert name in page
        assert "Off-Policy Evaluation" in browser.open(f"{home}jobs/{name}").read().decode()
        with pytest.raises(HTTPError, match="403"):
            urlopen(home)
    finally:
        compose.docker("compose", "--profile", "ui", "down", **variables)


def test_nothing_but_images_and_jobs_is_left(compose, trained):
    label = f"label=com.docker.compose.project={compose.project}"
    for kind in ("container", "network", "volume"):
        everything = ["--all"] if kind == "container" else []
        assert compose.docker(kind, "ls", "--quiet", *everything, "--filter", label).stdout == ""
