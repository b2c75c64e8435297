"""The commands of docker-compose.yml, without Docker: the launcher runs the main job around small entry points."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher.cli.compose import read_request
from launcher.errors import BadInputError
from launcher.s3_server import service
from launcher.settings import DEFAULT_BUCKET
from tests.shell import launcher_environment, run_launcher

# Stand-ins for the entry points: they write what the real ones write, and show what they were given.
COLLECT = """
from job_toolkit import read_environment
environment = read_environment()
(environment.paths.output_data / "cartpole_dataset.csv").write_text("action\\n1\\n")
"""
TRAIN = """
from job_toolkit import read_environment
environment = read_environment()
paths = environment.paths
print("train read", *sorted(path.name for path in environment.channel("train").iterdir()))
print("hyperparameters", environment.hyperparameters, environment.job_name)
(paths.model / "model.pt").write_text("weights")
(paths.output_data / "checkpoint").mkdir()
(paths.output_data / "checkpoint" / "latest").write_text("7")
(paths.output_data / "plot.png").write_text("plot")
(paths.intermediate / "metrics.csv").write_text("epoch")
"""
EVALUATE = """
from job_toolkit import read_environment
print("evaluate read", *sorted(path.name for path in read_environment().channel("checkpoint").iterdir()))
"""


class Checkout:
    def __init__(self, root):
        self.home = root / "checkout"
        self.jobs = self.home / "jobs"
        self.jobs.mkdir(parents=True)
        for name, source in {"collect": COLLECT, "train": TRAIN, "evaluate": EVALUATE}.items():
            self.write(f"entrypoints/{name}.py", source)
        for name in ("random", "ddqnbcq", "ddqnbcq-env"):
            self.write(f"presets/preset-cartpole-{name}.yaml", "")

    def write(self, name, content):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def command(self, command):
        return [sys.executable, "-m", "launcher.cli.compose", command]

    def variables(self, *, stand_ins=True, **variables):
        folders = {
            "LAUNCHER_ENTRYPOINTS_DIR": str(self.home / "entrypoints"),
            "LAUNCHER_PRESETS_DIR": str(self.home / "presets"),
        }
        others = {"LAUNCHER_HOME": str(self.home), "LAUNCHER_NAMESPACES": "off", **(folders if stand_ins else {})}
        return launcher_environment(**others, **variables)

    def run(self, command, *, stand_ins=True, **variables):
        return subprocess.run(
            self.command(command),
            env=self.variables(stand_ins=stand_ins, **variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def job_folders(self, command):
        return sorted(path for path in self.jobs.glob(f"{command}-*") if not path.is_symlink())


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def names(archive):
    with tarfile.open(archive) as content:
        return content.getnames()


def test_a_train_job_leaves_what_any_job_of_the_launcher_leaves(checkout, tmp_path):
    assert checkout.run("collect").returncode == 0
    result = checkout.run("train")
    assert result.returncode == 0, result.stderr
    job = checkout.jobs / "train"
    assert sorted(path.name for path in (job / "output").iterdir()) == [
        *("intermediate", "model.tar.gz", "output.tar.gz"),
    ]
    assert names(job / "output" / "model.tar.gz") == ["model.pt"]
    assert names(job / "output" / "output.tar.gz") == ["checkpoint", "checkpoint/latest", "plot.png"]
    assert (job / "output" / "intermediate" / "metrics.csv").read_text() == "epoch"
    assert f"train: jobs/{job.readlink()}/output/model.tar.gz" in result.stdout
    said = run_launcher("ls", "--json", cwd=tmp_path, LAUNCHER_HOME=str(checkout.home))
    jobs = [
        (re.sub(r"-20.*", "", entry["TrainingJobName"]), entry["TrainingJobStatus"])
        for entry in json.loads(said.stdout)
    ]
    assert jobs == [("train", "Completed"), ("collect", "Completed")], "the links to the newest are no jobs"
    logs = run_launcher("logs", "latest", cwd=tmp_path, LAUNCHER_HOME=str(checkout.home)).stdout
    assert "train read cartpole_dataset.csv" in logs


def test_train_collects_a_dataset_first_if_there_is_none_and_says_so(checkout):
    result = checkout.run("train")
    assert result.returncode == 0, result.stderr
    assert "there is no dataset in jobs/ yet; collecting one first" in result.stdout
    assert "train read cartpole_dataset.csv" in result.stdout
    assert len(checkout.job_folders("collect")) == 1
    assert checkout.run("train").returncode == 0
    assert len(checkout.job_folders("collect")) == 1  # the second one found it


def test_no_training_follows_a_collection_that_failed(checkout):
    checkout.write("entrypoints/collect.py", "raise SystemExit(5)")
    result = checkout.run("train")
    assert result.returncode == 1
    assert "collect: failed: " in result.stderr
    assert not checkout.job_folders("train")


def test_evaluate_reads_the_checkpoints_of_the_newest_train_job_and_nothing_else(checkout):
    checkout.run("train")
    result = checkout.run("evaluate")
    assert result.returncode == 0, result.stderr
    assert "evaluate read latest\n" in result.stdout
    assert not (checkout.jobs / "evaluate" / "output" / "model.tar.gz").exists()  # it was empty


def test_evaluate_without_a_finished_train_job_names_the_command_to_run(checkout):
    result = checkout.run("evaluate")
    assert result.returncode == 2
    assert "Run: docker compose run --rm train" in result.stderr
    assert not list(checkout.jobs.iterdir())


def test_another_job_can_be_evaluated(checkout):
    checkout.run("train")
    first = checkout.job_folders("train")[0].name
    checkout.run("train")
    assert (checkout.jobs / "train").readlink() != Path(first)
    assert checkout.run("evaluate", CHECKPOINT=f"jobs/{first}").returncode == 0
    archive = f"jobs/{first}/output/output.tar.gz"
    assert "evaluate read latest\n" in checkout.run("evaluate", CHECKPOINT=archive).stdout


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("jobs/none", "jobs/none does not exist"),
        ("/etc", "neither below jobs/ nor below data/"),
        ("../other", "neither below jobs/ nor below data/"),
        (".env", "neither below jobs/ nor below data/"),
        ("jobs/collect", "does not hold a folder checkpoint"),
        ("data/damaged.tar.gz", "cannot be unpacked"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_before_a_job_is_made(checkpoint, message, checkout):
    checkout.write("data/damaged.tar.gz", "no archive")
    checkout.run("collect")
    result = checkout.run("evaluate", CHECKPOINT=checkpoint)
    assert result.returncode == 2
    assert message in result.stderr
    assert not checkout.job_folders("evaluate")


@pytest.mark.parametrize("dataset", ["data", "data/log.csv"])
def test_a_dataset_may_be_a_folder_or_a_file_of_the_users(dataset, checkout):
    checkout.write("data/log.csv", "action\n")
    result = checkout.run("train", DATASET=dataset)
    assert result.returncode == 0, result.stderr
    assert "train read log.csv" in result.stdout
    assert not checkout.job_folders("collect")


def test_hyperparameters_arrive_with_their_types_and_the_default_preset(checkout):
    checkout.write("data/log.csv", "")
    result = checkout.run(
        "train", DATASET="data", HYPERPARAMETERS='{"agent.learning_rate": 0.001, "note": "007", "on": true}'
    )
    shown = {"preset": "preset-cartpole-ddqnbcq", "agent.learning_rate": 0.001, "note": "007", "on": True}
    assert f"hyperparameters {shown} train-20" in result.stdout


@pytest.mark.parametrize("text", ["{bad", "[1]", '{"a": 1, "a": 2}', "{'a': 1}"])
def test_bad_hyperparameters_are_refused_with_an_example(text, checkout):
    result = checkout.run("train", HYPERPARAMETERS=text)
    assert result.returncode == 2
    assert """HYPERPARAMETERS='{"agent.learning_rate": 0.001}'""" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(checkout.jobs.iterdir())


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PRESET": "preset-cartpole-ddqnbqc"}, "did you mean 'preset-cartpole-ddqnbcq'"),
        ({"HYPERPARAMETERS": '{"agent.learning_rte": 0.1}'}, "agent.learning_rate"),
        ({"HYPERPARAMETERS": '{"training.epochs": "many"}'}, "training.epochs"),
    ],
)
def test_what_a_preset_does_not_take_is_refused_before_a_job_is_made(variables, words, checkout):
    """Also where the data would be collected first; by the bundled entry points' own check."""
    result = checkout.run("train", stand_ins=False, **variables)
    assert result.returncode == 2
    assert words in result.stderr
    assert not list(checkout.jobs.iterdir())


def test_a_preset_can_be_named_once_only():
    with pytest.raises(BadInputError, match="Name one preset"):
        read_request(["train"], {"PRESET": "a", "HYPERPARAMETERS": '{"preset": "b"}'})
    assert read_request(["train"], {"HYPERPARAMETERS": '{"RLCOACH_PRESET": "b"}'}).preset == "b"
    assert read_request(["train"], {"PRESET": "a.yaml"}).preset == "a"
    assert read_request(["train"], {"PRESET": ""}).preset == "preset-cartpole-ddqnbcq"


def test_a_failed_job_keeps_its_results_and_the_link_stays_where_it_was(checkout):
    checkout.run("train")
    before = (checkout.jobs / "train").readlink()
    checkout.write("entrypoints/train.py", TRAIN + "\nraise ValueError('diverged')")
    result = checkout.run("train")
    assert result.returncode == 1
    assert "train: failed: " in result.stderr
    assert "ValueError: diverged" in result.stderr
    assert (checkout.jobs / "train").readlink() == before
    assert (checkout.job_folders("train")[-1] / "output" / "output.tar.gz").exists()


def test_a_stopped_job_keeps_its_results(checkout):
    """By SIGINT, which compose sends; Ctrl-C sends it as well."""
    checkout.write("data/log.csv", "")
    checkout.write("entrypoints/train.py", TRAIN + "\nimport time; print('ready'); time.sleep(60)")
    command = checkout.command("train")
    variables = checkout.variables(DATASET="data")
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as job:
        while job.stdout.readline() not in ("ready\n", ""):
            pass
        job.send_signal(signal.SIGINT)
        output, _ = job.communicate(timeout=60)
    assert job.returncode == 143
    assert "train: stopped." in output
    assert names(checkout.job_folders("train")[0] / "output" / "model.tar.gz") == ["model.pt"]
    assert not (checkout.jobs / "train").exists()


def test_without_the_folder_of_jobs_it_says_how_to_start(checkout):
    checkout.jobs.rmdir()
    result = checkout.run("train")
    assert result.returncode == 2
    assert "docker compose" in result.stderr


def test_it_needs_no_more_than_the_image_has(checkout, tmp_path):
    """None of the launcher's other packages; the entry points' own are in the image."""
    blocker = "import sys\nfor name in ('docker', 'typer', 'rich', 'moto', 'requests'): sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(blocker)
    variables = checkout.variables()
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), variables["PYTHONPATH"]])
    command = checkout.command("train")
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def bucket_mode(home):
    """The variables of S3 mode, with the S3 that compose would start; and what is in its bucket."""
    session = launcher.Session(mode="s3")
    session.default_bucket()

    def content():
        return {re.sub(r"-\d{4}(-\d\d){5}-\d{3}/", "/", key): key for key in session.list_s3_files(DEFAULT_BUCKET, "")}

    keys = {"AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "launcher"}
    return {"AWS_ENDPOINT_URL": service.ensure(home), **keys}, content, session


def test_a_bucket_takes_the_place_of_the_folder_of_jobs(checkout, bucket_mode, tmp_path):
    variables, content, session = bucket_mode
    result = checkout.run("train", **variables)
    assert result.returncode == 0, result.stderr
    assert "collecting one first" in result.stdout
    keys = content()
    assert set(keys) == {
        "collect/output/output.tar.gz",
        "collect/source/sourcedir.tar.gz",
        "latest/collect",
        "latest/train",
        "train/output/intermediate/metrics.csv",
        "train/output/model.tar.gz",
        "train/output/output.tar.gz",
        "train/source/sourcedir.tar.gz",
    }
    archive = session.download_data(tmp_path, DEFAULT_BUCKET, keys["train/output/output.tar.gz"])[0]
    assert names(archive) == ["checkpoint", "checkpoint/latest", "plot.png"]
    assert f"stored s3://{DEFAULT_BUCKET}/{keys['train/output/output.tar.gz']}" in result.stdout
    assert not list(checkout.jobs.iterdir())
    evaluated = checkout.run("evaluate", **variables)
    assert "evaluate read latest\n" in evaluated.stdout, evaluated.stderr
    assert checkout.run("train", **variables).returncode == 0
    assert len([key for key in session.list_s3_files(DEFAULT_BUCKET, "collect-") if "/output/" in key]) == 1


def test_a_prefix_of_the_bucket_can_be_the_dataset(checkout, bucket_mode, tmp_path):
    variables, _, session = bucket_mode
    (tmp_path / "mine.csv").write_text("action\n1\n")
    uri = session.upload_data(tmp_path / "mine.csv", key_prefix="logs/deep")
    for dataset in (uri, f"s3://{DEFAULT_BUCKET}/logs/deep/"):
        result = checkout.run("train", DATASET=dataset, **variables)
        assert "train read mine.csv" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DATASET": "jobs/none"}, "none/output/output.tar.gz does not exist"),
        ({"DATASET": "data"}, "data is not a place of S3 mode"),
        ({"DATASET": f"s3://{DEFAULT_BUCKET}/none"}, "No S3 objects found"),
        ({"DATASET": "s3://other-bucket/none"}, "other-bucket"),
        ({"BUCKET": "No_Bucket"}, "bucket is not valid"),
    ],
)
def test_what_the_bucket_does_not_hold_is_refused_before_a_job_is_made(checkout, bucket_mode, variables, words):
    result = checkout.run("train", **bucket_mode[0], **variables)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert bucket_mode[1]() == {}


def test_results_that_cannot_be_stored_are_an_error(checkout, bucket_mode):
    drop = f"""
import boto3
client = boto3.client("s3")
for one in client.list_objects_v2(Bucket="{DEFAULT_BUCKET}")["Contents"]:
    client.delete_object(Bucket="{DEFAULT_BUCKET}", Key=one["Key"])
client.delete_bucket(Bucket="{DEFAULT_BUCKET}")
"""
    checkout.write("entrypoints/collect.py", COLLECT + drop)
    result = checkout.run("collect", **bucket_mode[0])
    assert result.returncode == 1
    assert "NoSuchBucket" in result.stderr
