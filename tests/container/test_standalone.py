import io
import json
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import launcher
from job_toolkit.standalone import StandaloneError, pack, read_request, unpack
from launcher.s3_server import service
from launcher.settings import DEFAULT_BUCKET

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
    def __init__(self, tree, root):
        self.tree = tree
        self.project = root / "project"
        self.jobs = root / "jobs"
        self.jobs.mkdir()
        for name, source in {"collect": COLLECT, "train": TRAIN, "evaluate": EVALUATE}.items():
            self.write(f"entrypoints/{name}.py", source)
        for name in ("random", "ddqnbcq", "ddqnbcq-env"):
            self.write(f"presets/preset-cartpole-{name}.yaml", "")

    def write(self, name, content):
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def command(self, command):
        return [sys.executable, "-m", "job_toolkit.standalone", command]

    def variables(self, **more):
        folders = {"STANDALONE_PROJECT_DIR": str(self.project), "STANDALONE_JOBS_DIR": str(self.jobs)}
        return self.tree.variables(**folders, **more)

    def run(self, command, **variables):
        return subprocess.run(
            self.command(command),
            env=self.variables(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def job_folders(self, command):
        return sorted(path for path in self.jobs.glob(f"{command}-*") if not path.is_symlink())


@pytest.fixture
def checkout(tree, tmp_path):
    return Checkout(tree, tmp_path)


def names(archive):
    with tarfile.open(archive) as content:
        return content.getnames()


def test_a_train_job_leaves_what_a_managed_job_leaves(checkout):
    assert checkout.run("collect").returncode == 0
    result = checkout.run("train")
    assert result.returncode == 0, result.stderr
    output = checkout.jobs / "train" / "output"
    assert sorted(path.name for path in output.iterdir()) == ["intermediate", "model.tar.gz", "output.tar.gz"]
    assert names(output / "model.tar.gz") == ["model.pt"]
    assert names(output / "output.tar.gz") == ["checkpoint", "checkpoint/latest", "plot.png"]
    assert (output / "intermediate" / "metrics.csv").read_text() == "epoch"


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
    assert checkout.run("train").returncode == 5
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
    assert "Run: docker compose run train" in result.stderr
    assert not list(checkout.jobs.iterdir())


def test_another_job_can_be_evaluated(checkout):
    checkout.run("train")
    first = checkout.job_folders("train")[0].name
    checkout.run("train")
    assert (checkout.jobs / "train").readlink() != Path(first)
    assert checkout.run("evaluate", CHECKPOINT=f"jobs/{first}").returncode == 0


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("jobs/none", "jobs/none does not exist"),
        ("/etc", "not a path inside the checkout"),
        ("../other", "not a path inside the checkout"),
        ("jobs/collect", "does not hold a folder checkpoint"),
        ("damaged.tar.gz", "cannot be unpacked"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_before_a_job_is_made(checkpoint, message, checkout):
    checkout.write("damaged.tar.gz", "no archive")
    checkout.run("collect")
    result = checkout.run("evaluate", CHECKPOINT=checkpoint)
    assert result.returncode == 2
    assert message in result.stderr
    assert not checkout.job_folders("evaluate")


@pytest.mark.parametrize("dataset", ["data", "data/log.csv"])
def test_a_dataset_may_be_a_folder_or_a_file_of_the_checkout(dataset, checkout):
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
    shown = {"agent.learning_rate": 0.001, "note": "007", "on": True, "preset": "preset-cartpole-ddqnbcq"}
    assert f"hyperparameters {shown} train-20" in result.stdout


@pytest.mark.parametrize("text", ["{bad", "[1]", '{"a": 1, "a": 2}', "{'a': 1}"])
def test_bad_hyperparameters_are_refused_with_an_example(text, checkout):
    result = checkout.run("train", HYPERPARAMETERS=text)
    assert result.returncode == 2
    assert """HYPERPARAMETERS='{"agent.learning_rate": 0.001}'""" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(checkout.jobs.iterdir())


def test_a_preset_that_is_not_there_is_refused_with_the_nearest(checkout):
    result = checkout.run("train", PRESET="preset-cartpole-ddqnbqc")
    assert result.returncode == 2
    assert "did you mean 'preset-cartpole-ddqnbcq'" in result.stderr
    assert not list(checkout.jobs.iterdir())


def test_a_preset_can_be_named_once_only():
    with pytest.raises(StandaloneError, match="name one"):
        read_request(["train"], {"PRESET": "a", "HYPERPARAMETERS": '{"preset": "b"}'})
    old_name = read_request(["train"], {"HYPERPARAMETERS": '{"RLCOACH_PRESET": "b"}'})
    assert old_name.hyperparameters == {"RLCOACH_PRESET": "b"}


def test_a_failed_job_keeps_its_results_and_the_link_stays_where_it_was(checkout):
    checkout.run("train")
    before = (checkout.jobs / "train").readlink()
    checkout.write("entrypoints/train.py", TRAIN + "\nraise ValueError('diverged')")
    result = checkout.run("train")
    assert result.returncode == 1
    assert "failed with exit code 1" in result.stderr
    assert (checkout.jobs / "train").readlink() == before
    assert (checkout.job_folders("train")[-1] / "output" / "output.tar.gz").exists()


def test_a_stopped_job_keeps_its_results(checkout):
    checkout.write("data/log.csv", "")
    checkout.write("entrypoints/train.py", TRAIN + "\nimport time; print('ready'); time.sleep(60)")
    command = checkout.command("train")
    variables = checkout.variables(DATASET="data")
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as job:
        while job.stdout.readline() not in ("ready\n", ""):
            pass
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=30)
    assert job.returncode == 143
    assert "stopped" in output
    assert names(checkout.job_folders("train")[0] / "output" / "model.tar.gz") == ["model.pt"]
    assert not (checkout.jobs / "train").exists()


def test_results_that_cannot_be_kept_fail_the_job_and_are_named(checkout):
    checkout.write("data/log.csv", "")
    in_the_way = "\n(paths.intermediate.resolve().parent / 'model.tar.gz').mkdir()"
    checkout.write("entrypoints/train.py", TRAIN + in_the_way)
    result = checkout.run("train", DATASET="data")
    assert result.returncode == 1
    assert "model.tar.gz cannot be written" in result.stderr
    output = checkout.job_folders("train")[0] / "output"
    assert sorted(path.name for path in output.iterdir()) == ["intermediate", "model.tar.gz", "output.tar.gz"]


def test_without_the_checkout_it_says_how_to_start(tree, tmp_path):
    variables = tree.variables(STANDALONE_PROJECT_DIR=str(tmp_path / "none"))
    command = [sys.executable, "-m", "job_toolkit.standalone", "train"]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "docker compose" in result.stderr


def test_packing_the_same_files_gives_the_same_bytes_owned_by_nobody(tmp_path):
    folder = tmp_path / "folder"
    (folder / "b" / "empty").mkdir(parents=True)
    (folder / "b" / "x").write_text("x")
    (folder / "a").write_text("a")
    (folder / "link").symlink_to("/etc/passwd")
    assert pack(folder, tmp_path / "1.tar.gz")
    assert pack(folder, tmp_path / "2.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "1.tar.gz") as content:
        assert content.getnames() == ["a", "b", "b/empty", "b/x"]
        assert {(member.uid, member.uname) for member in content} == {(0, "")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.tar.gz", "2.tar.gz", "folder"]


def test_an_empty_folder_makes_no_archive(tmp_path):
    (tmp_path / "folder").mkdir()
    assert not pack(tmp_path / "folder", tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


@pytest.mark.parametrize("name", ["../out", "/out", "checkpoint/../../out"])
def test_no_name_in_an_archive_leaves_the_folder(name, tmp_path):
    archive = archive_of(tmp_path, (tarfile.TarInfo(name), b"x"))
    with pytest.raises(StandaloneError, match="leave its folder"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "out").exists()


def test_links_in_an_archive_are_never_made(tmp_path):
    link = tarfile.TarInfo("checkpoint/link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    archive = archive_of(tmp_path, (link, b""), (tarfile.TarInfo("checkpoint/link/file"), b"x"))
    assert unpack(archive, tmp_path / "folder", "checkpoint/") == 1
    assert (tmp_path / "folder" / "link" / "file").read_text() == "x"
    assert not (tmp_path / "file").exists()


def archive_of(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    archive = folder / "made.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for member, data in members:
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    return archive


def test_the_configuration_is_that_of_a_managed_job(checkout, tree):
    checkout.run("train")
    resources = json.loads((tree.base / "input/config/resourceconfig.json").read_text())
    assert sorted(resources) == [
        *("current_group_name", "current_host", "current_instance_type"),
        *("hosts", "instance_groups", "network_interface_name"),
    ]
    channels = json.loads((tree.base / "input/config/inputdataconfig.json").read_text())
    assert channels["train"]["TrainingInputMode"] == "File"
    hyperparameters = json.loads((tree.base / "input/config/hyperparameters.json").read_text())
    assert all(isinstance(value, str) for value in hyperparameters.values())


@pytest.fixture
def bucket_mode(home):
    """The variables of S3 mode, with the S3 that compose would start; and what is in its bucket."""
    session = launcher.Session(mode="s3")
    session.default_bucket()

    def content():
        return {re.sub(r"-\d{4}(-\d\d){5}-\d{3}/", "/", one): one for one in session.list_s3_files(DEFAULT_BUCKET, "")}

    return {"AWS_ENDPOINT_URL": service.ensure(home)}, content, session


def test_a_bucket_takes_the_place_of_the_folder_of_jobs(checkout, bucket_mode, tmp_path):
    variables, content, session = bucket_mode
    result = checkout.run("train", **variables)
    assert result.returncode == 0, result.stderr
    assert "collecting one first" in result.stdout
    keys = content()
    assert set(keys) == {
        "collect/output/output.tar.gz",
        "latest/collect",
        "latest/train",
        "train/output/intermediate/metrics.csv",
        "train/output/model.tar.gz",
        "train/output/output.tar.gz",
    }
    archive = session.download_data(tmp_path, DEFAULT_BUCKET, keys["train/output/output.tar.gz"])[0]
    assert names(archive) == ["checkpoint", "checkpoint/latest", "plot.png"]
    assert f"stored s3://{DEFAULT_BUCKET}/{keys['train/output/output.tar.gz']}" in result.stdout
    assert not list(checkout.jobs.iterdir())
    evaluated = checkout.run("evaluate", **variables)
    assert "evaluate read latest\n" in evaluated.stdout, evaluated.stderr
    assert checkout.run("train", **variables).returncode == 0
    assert len(session.list_s3_files(DEFAULT_BUCKET, "collect-")) == 1, "the second one found it"


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
        ({"DATASET": f"s3://{DEFAULT_BUCKET}/none"}, "no object has a key that begins so"),
        ({"DATASET": "s3://other-bucket/none"}, "404"),
        ({"BUCKET": "No_Bucket"}, "400"),
    ],
)
def test_what_the_bucket_does_not_hold_is_refused_before_a_job_is_made(checkout, bucket_mode, variables, words):
    result = checkout.run("train", **bucket_mode[0], **variables)
    assert result.returncode == 2
    assert words in result.stderr
    assert bucket_mode[1]() == {}


def test_results_that_cannot_be_stored_are_an_error(checkout, bucket_mode):
    drop = f"""
import os, urllib.request
bucket = os.environ["AWS_ENDPOINT_URL"] + "/{DEFAULT_BUCKET}"
urllib.request.urlopen(urllib.request.Request(bucket, method="DELETE"))
"""
    checkout.write("entrypoints/collect.py", COLLECT + drop)
    result = checkout.run("collect", **bucket_mode[0])
    assert result.returncode == 1
    assert "collect: results are lost: PUT of s3://" in result.stderr
