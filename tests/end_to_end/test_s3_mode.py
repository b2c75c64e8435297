"""The same script, the same job, the same numbers, in either mode, and S3 within reach of code inside a job."""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import boto3
import pandas as pd
import pytest

import launcher
from launcher.s3_server import service
from launcher.s3_server.access import home_key
from launcher.settings import DEFAULT_BUCKET
from tests.shell import launcher_environment, run_launcher

CHECKOUT = Path(__file__).parents[2]
METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
STORIES = [
    ("local", "process"),
    ("s3", "process"),
    pytest.param("local", "docker", marks=[pytest.mark.docker, pytest.mark.whole]),
]
RUNTIMES = ["process", pytest.param("docker", marks=pytest.mark.docker)]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def scratch_home(tmp_path_factory):
    """A function that makes a home that several tests share; its servers end with the module."""
    homes = []

    def make(name):
        homes.append(tmp_path_factory.mktemp(name))
        return homes[-1]

    yield make
    for home in homes:
        service.stop(home)


def client_of(home):
    """A client as anybody's, of the embedded S3 of a home."""
    return boto3.client(
        "s3",
        endpoint_url=service.ensure(home),
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@pytest.fixture(scope="module")
def story(scratch_home):
    """Run the example once for each mode and runtime; return what its jobs left, by key without the job's time."""
    contents = {}

    def run(mode, runtime):
        if (mode, runtime) not in contents:
            home = scratch_home(f"story-{mode}-{runtime}")
            variables = {"LAUNCHER_MODE": mode, "LAUNCHER_RUNTIME": runtime, "LAUNCHER_HOME": str(home)}
            answer = subprocess.run(
                [sys.executable, str(CHECKOUT / "examples" / "notebook_story.py")],
                capture_output=True,
                text=True,
                env=launcher_environment(**variables, **ONE_THREAD),
                check=False,
            )
            assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
            contents[mode, runtime] = (answer.stdout, left_in(home, mode))
        return contents[mode, runtime]

    return run


def left_in(home, mode):
    """What is in the bucket: archives as listings, the source by digest, all else as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(home))
        session = launcher.Session(mode=mode)
        keys = session.list_s3_files(DEFAULT_BUCKET, "")
        content = {}
        for key in keys:
            path = Path(session.download_data(home / "copy", DEFAULT_BUCKET, key)[0])
            data = path.read_bytes()
            if key.endswith("/output.tar.gz") or key.endswith("/model.tar.gz"):
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    part = archive.getnames()
            elif key.endswith(".json.out"):  # the actions are drawn anew in every run
                part = [json.loads(line)["SageMakerOutput"]["predictions"] for line in data.splitlines()]
            elif key.endswith((".tar.gz", ".pt", ".png", "latest")) or "/checkpoint/" in key:
                part = hashlib.sha256(data).hexdigest() if key.endswith("sourcedir.tar.gz") else None
            elif key.endswith("/run.json"):  # names the job and the day
                part = [json.loads(data)[name] for name in ("preset", "dataset", "action_names")]
            else:
                part = data
            content[re.sub(r"-\d{4}(-\d\d){5}-\d{3}/", "/", key)] = part
        return content


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "runtime"), STORIES)
def test_the_example_runs_in_both_modes_and_on_both_runtimes(story, mode, runtime):
    said, left = story(mode, runtime)
    assert "mean reward over 100 episodes: 200.0" in said
    assert re.search(r"epoch \d+: WIS", said), "the metrics can be read while the job runs"
    assert re.search(rf"^model: s3://{DEFAULT_BUCKET}/.*/output/model.tar.gz$", said, re.MULTILINE)
    assert f"train/output/intermediate/{METRICS}" in left
    assert {"checkpoint", "checkpoint/latest"} <= set(left["train/output/output.tar.gz"])


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "runtime"), STORIES)
def test_the_examples_policy_acts_by_batch_transform_and_by_endpoint_and_is_trained_again(story, mode, runtime):
    said, left = story(mode, runtime)
    answers, states = (
        left[f"train/batch_test/{key}"] for key in ("output/env_states.json.out", "input/env_states.json")
    )
    assert len(answers) == len(states.splitlines()) == 100
    rows = pd.read_csv(io.BytesIO(left["train/next-dataset/next_dataset.csv"]))
    acted = rows[rows["episode_id"] >= 500]
    probabilities = [json.loads(text) for text in acted.groupby("episode_id")["all_action_probabilities"].first()]
    assert probabilities == [answer[0] for answer in answers], "each environment acts by the answer to its state"
    assert set(left["train-again/output/model.tar.gz"]) == set(left["train/output/model.tar.gz"])
    assert re.search(r"^endpoint: probabilities \[0\.\d+, 0\.\d+\], action [01]$", said, re.MULTILINE)


@pytest.mark.slow
def test_both_modes_leave_the_same_keys_listings_and_metrics(story):
    assert story("local", "process")[1] == story("s3", "process")[1]


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.docker
def test_docker_leaves_the_same_as_a_process(story):
    assert story("local", "docker")[1] == story("local", "process")[1]


@pytest.fixture(scope="module")
def demo(scratch_home):
    """Run ``launcher demo`` once for each mode; return its home and what was printed."""
    results = {}

    def run(mode):
        if mode not in results:
            home = scratch_home(f"demo-{mode}")
            variables = {"LAUNCHER_MODE": mode, "LAUNCHER_RUNTIME": "process", "LAUNCHER_HOME": str(home)}
            answer = run_launcher("demo", "--json", cwd=home, **variables, **ONE_THREAD)
            assert answer.returncode == 0, answer.stderr + answer.stdout
            results[mode] = (home, json.loads(answer.stdout))
        return results[mode]

    return run


@pytest.mark.whole
@pytest.mark.slow
def test_the_demo_gives_the_same_numbers_and_metrics_in_both_modes(demo):
    """As the example does, which is compared on every run."""
    (local_home, local), (home, result) = demo("local"), demo("s3")
    for name in ("random_reward", "learned_reward", "episodes", "truth"):
        assert local[name] == result[name]
    key = f"output/intermediate/{METRICS}"
    rows = client_of(home).get_object(Bucket=DEFAULT_BUCKET, Key=f"{result['jobs'][1]}/{key}")["Body"].read()
    assert rows == (local_home / "jobs" / local["jobs"][1] / key).read_bytes()


@pytest.mark.slow
def test_the_demo_leaves_everything_in_s3(demo):
    home, result = demo("s3")
    for job in result["jobs"]:
        assert sorted(path.name for path in (home / "jobs" / job).iterdir() if path.name in ("output", "source")) == []
    training = result["jobs"][1]
    assert result["model_data"] == f"s3://{DEFAULT_BUCKET}/{training}/output/model.tar.gz"


@pytest.mark.slow
def test_another_process_finds_the_demos_artifacts_after_it_has_ended(demo, tmp_path):
    """By boto3 at the embedded S3, and by the command line."""
    home, result = demo("s3")
    collecting, training, *_ = result["jobs"]
    service.stop(home)  # whatever the demo left running, the objects are in no process
    client = client_of(home)
    listed = client.list_objects_v2(Bucket=DEFAULT_BUCKET, Prefix=f"{training}/output/")
    keys = [entry["Key"].removeprefix(f"{training}/output/") for entry in listed["Contents"]]
    assert {"model.tar.gz", "output.tar.gz", f"intermediate/{METRICS}"} <= set(keys)
    client.download_file(DEFAULT_BUCKET, f"{training}/output/model.tar.gz", str(tmp_path / "model.tar.gz"))
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.getnames()
    rows = client.get_object(Bucket=DEFAULT_BUCKET, Key=f"{training}/output/intermediate/{METRICS}")["Body"]
    assert pd.read_csv(rows)["WIS (trajectory)"].notna().any()
    inputs = {"LAUNCHER_HOME": str(home)}
    described = json.loads(run_launcher("describe", training, "--json", cwd=tmp_path, **inputs).stdout)
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == result["model_data"]
    source = described["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert source.startswith(f"s3://{DEFAULT_BUCKET}/{collecting}/")
    jobs = json.loads(run_launcher("ls", "--json", cwd=tmp_path, **inputs).stdout)
    assert [entry["TrainingJobName"] for entry in jobs] == result["jobs"][::-1]
    plot = run_launcher("plot", training, "-o", str(tmp_path / "plot.png"), cwd=tmp_path, **inputs)
    assert (tmp_path / "plot.png").exists(), plot.stderr


USES_S3 = """
import json, os, sys
import boto3
client = boto3.client("s3")
bucket, prefix = sys.argv[sys.argv.index("--bucket") + 1], sys.argv[sys.argv.index("--prefix") + 1]
keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
text = client.get_object(Bucket=bucket, Key=keys[0])["Body"].read().decode()
client.put_object(Bucket=bucket, Key=f"{os.environ['TRAINING_JOB_NAME']}/from-inside", Body=text.upper())
print("region", client.meta.region_name)
"""


@pytest.fixture
def run_in_s3(make_source, tmp_path):
    """A function that uploads an object and runs a script in S3 mode; it returns the job and its session."""

    def run(script, runtime, **options):
        session = launcher.Session(mode="s3")
        (tmp_path / "text.txt").write_text("hello")
        uri = session.upload_data(tmp_path / "text.txt", key_prefix="input")
        estimator = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(script),
            runtime=runtime,
            sagemaker_session=session,
            hyperparameters={"bucket": DEFAULT_BUCKET, "prefix": "input/"},
            **options,
        )
        estimator.fit({"train": uri}, logs=False)
        return estimator.latest_training_job, session

    return run


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_code_inside_a_job_reaches_the_same_s3_under_the_same_uris(run_in_s3, runtime):
    job, session = run_in_s3(USES_S3, runtime)
    assert session.read_s3_file(DEFAULT_BUCKET, f"{job.name}/from-inside") == "HELLO"
    assert "region us-east-1" in job.logs()
    assert job.warnings == []


SHOWS_VARIABLES = "import os; print({name: value for name, value in os.environ.items() if name.startswith('AWS')})"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_job_without_network_gets_its_inputs_and_no_address(run_in_s3, runtime, home):
    job, _ = run_in_s3(SHOWS_VARIABLES, runtime, enable_network_isolation=True)
    assert "AWS_ENDPOINT_URL" not in job.logs()
    assert service.status(home) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_the_user_sets_wins(run_in_s3, runtime):
    environment = {"AWS_ENDPOINT_URL_S3": "http://mine:1", "AWS_ACCESS_KEY_ID": "mine"}
    said = run_in_s3(SHOWS_VARIABLES, runtime, environment=environment)[0].logs()
    assert "'AWS_ENDPOINT_URL_S3': 'http://mine:1'" in said
    assert "'AWS_ACCESS_KEY_ID': 'mine'" in said


@pytest.fixture
def another_s3(tmp_path, monkeypatch):
    """Another S3 that has an address: a second embedded one, of a home of its own; and credentials for it."""
    other = tmp_path / "other"

    def listen_on(address):
        monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", service.ensure(other, address))
        key = home_key(other / "s3")
        for name, value in key.variables.items():
            monkeypatch.setenv(name, value)
        return key.secret_key

    yield listen_on
    service.stop(other)


def below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_s3_is_reached_with_the_callers_credentials_which_are_written_nowhere(
    run_in_s3, runtime, another_s3, home
):
    from launcher.runtimes import get_runtime

    secret = another_s3(get_runtime(runtime).host_address)
    job, session = run_in_s3(USES_S3 + SHOWS_VARIABLES, runtime)
    assert session.read_s3_file(DEFAULT_BUCKET, f"{job.name}/from-inside") == "HELLO"
    assert f"'AWS_SECRET_ACCESS_KEY': '{secret}'" in job.logs()
    assert not [path for path in below(home) if path.name != "job.log" and secret.encode() in path.read_bytes()]
    assert not (home / "s3").exists()
    assert job.model_data.startswith(f"s3://{DEFAULT_BUCKET}/")


TRIES_STRANGERS = """
import boto3, botocore
stranger = boto3.client("s3", aws_access_key_id="any", aws_secret_access_key="any")
try:
    stranger.list_buckets()
    print("let in")
except botocore.exceptions.ClientError as error:
    print("refused:", error.response["Error"]["Code"])
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_job_gets_the_key_where_the_s3_asks_for_it_and_nobody_else_does(run_in_s3, runtime, home, monkeypatch):
    """On an engine's gateway it always asks; on the loopback address because ``LAUNCHER_ACCESS`` says so."""
    if runtime == "process":
        monkeypatch.setenv("LAUNCHER_ACCESS", "key")
    job, session = run_in_s3(USES_S3 + TRIES_STRANGERS, runtime)
    assert session.read_s3_file(DEFAULT_BUCKET, f"{job.name}/from-inside") == "HELLO"
    assert "refused: InvalidAccessKeyId" in job.logs()
    record = home / "jobs" / job.name / "job.json"
    assert home_key(home / "s3").secret_key not in record.read_text()


@pytest.mark.docker
def test_a_container_is_warned_of_an_address_that_only_this_machine_knows(run_in_s3, another_s3):
    another_s3("127.0.0.1")
    job, _ = run_in_s3(SHOWS_VARIABLES, "docker")
    assert "out-of-its-reach" in job.logs(), "without an endpoint boto3 asks AWS itself"
    assert "code inside the job cannot reach its S3" in job.warnings[0]
    assert "nothing answers there on port" in job.warnings[0]


def test_a_job_that_a_killed_driver_left_finds_its_s3_again(make_source, store, home):
    """The server may be gone meanwhile: who takes the job up starts it again."""
    session = launcher.Session(mode="s3")
    script = """
import os, time, pathlib
import boto3
pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "started").write_text("")
while not pathlib.Path(os.environ["SM_MODEL_DIR"], "go").exists():
    time.sleep(0.05)
boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key="from-inside", Body=b"1")
"""
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(script),
        runtime="process",
        sagemaker_session=session,
        environment={"BUCKET": session.default_bucket()},
    )
    job = estimator.submit(job_name="job-1")
    first = subprocess.Popen(
        [sys.executable, "-m", "launcher", "drive", "job-1"], env=launcher_environment(), cwd=home.parent
    )
    launcher.wait_for_s3_object(
        DEFAULT_BUCKET, "job-1/output/intermediate/started", home.parent, sagemaker_session=session, timeout=60
    )
    first.kill()
    first.wait()
    service.stop(home)
    (store.folder("job-1").tree_path("algo-1") / "model" / "go").touch()
    job.wait(logs=False)
    assert job.status == "Completed"
    assert session.list_s3_files(DEFAULT_BUCKET, "from-inside") == ["from-inside"]


@pytest.mark.slow
def test_metrics_of_a_running_job_can_be_read_from_the_bucket(make_source):
    """What ``metrics()`` returns grows with the job."""
    script = """
import os, pathlib, time
path = pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "worker_0.csv")
path.write_text("Epoch\\n1\\n")
while not pathlib.Path(os.environ["SM_MODEL_DIR"], "go").exists():
    time.sleep(0.05)
path.write_text("Epoch\\n1\\n2\\n")
"""
    session = launcher.Session(mode="s3")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(script), runtime="process", sagemaker_session=session
    )
    estimator.fit(wait=False, logs=False, job_name="job-1")
    job = estimator.latest_training_job
    key = "job-1/output/intermediate/worker_0.csv"
    launcher.wait_for_s3_object(DEFAULT_BUCKET, key, job.path.parent, sagemaker_session=session, timeout=60)
    assert job.metrics()["Epoch"].tolist() == [1]
    (job.path / "work" / "algo-1" / "opt_ml" / "model" / "go").touch()
    job.wait(logs=False)
    assert job.metrics()["Epoch"].tolist() == [1, 2]
    assert pd.read_csv(io.StringIO(session.read_s3_file(DEFAULT_BUCKET, key)))["Epoch"].tolist() == [1, 2]
