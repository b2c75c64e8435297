"""A training job of another machine, through a real sshd, as another user."""

import json
import textwrap
from pathlib import Path

import pytest
from launcher.s3 import S3Uploader
from typer.testing import CliRunner

import launcher
from launcher import errors
from launcher.cli.main import app
from tests.shell import run_launcher
from tests.waiting import wait_until

REPORTS = """
import os, pathlib, sys
print("user", os.getuid(), "epochs", os.environ["SM_HP_EPOCHS"])
for path in sorted(pathlib.Path(os.environ["SM_CHANNEL_TRAINING"]).rglob("*")):
    print(path.relative_to(os.environ["SM_CHANNEL_TRAINING"]), path.read_text() if path.is_file() else "")
pathlib.Path(os.environ["SM_MODEL_DIR"], "weights").write_text("12345")
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.txt").write_text("seen")
pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "worker_0.csv").write_text("Epoch,Loss\\n1,0.5\\n")
print("loss=0.25;")
"""


def said(*arguments):
    """Return what a command prints."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_fit_runs_on_the_other_machine_and_brings_everything_back(box, make_source, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.txt").write_text("first")
    (data / "deep" / "b.txt").write_text("second")
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(textwrap.dedent(REPORTS)),
        hyperparameters={"epochs": 3},
        metric_definitions=[{"Name": "loss", "Regex": "loss=(.*?);"}],
    )
    estimator.fit(str(data))
    job = estimator.latest_training_job
    assert job.status == "Completed"
    uid = box.run("id -u").strip()
    assert f"user {uid} epochs 3\na.txt first\ndeep \ndeep/b.txt second\n" in job.logs()
    assert "deep/b.txt second" in capsys.readouterr().out
    assert (job.outputs.model_path / "weights").read_text() == "12345"
    assert (job.outputs.data_path / "seen.txt").read_text() == "seen"
    assert job.outputs.files("intermediate") == [("worker_0.csv", 17)]
    description = job.describe()
    assert description["FinalMetricDataList"][0]["Value"] == 0.25
    assert description["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == f"file://{data}"
    assert description["ModelArtifacts"]["S3ModelArtifacts"] == job.model_data
    assert Path(job.model_data.removeprefix("file://")).is_file()
    states = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert job.name in box.launcher("ls")


WAITS = """
import os, pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(os.environ["SM_MODEL_DIR"], "half").write_text("half")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("it waits", flush=True)
time.sleep(300)
"""


@pytest.mark.slow
def test_the_commands_look_into_a_job_there_and_stop_it(box, make_source, tmp_path, monkeypatch):
    """shell, top, ls, describe, logs and stop are those of this machine."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("1")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(WAITS))
    estimator.fit(str(tmp_path / "data"), wait=False, job_name="job-1")
    wait_until(lambda: "it waits" in launcher.TrainingJob("job-1").logs())
    monkeypatch.delenv("LAUNCHER_HOST")  # the job itself says where it runs
    command = "id -u; cat /opt/ml/input/data/training/a.txt; exit 7"
    inside = run_launcher("shell", "job-1", "--", "sh", "-c", command, cwd=tmp_path)
    assert (inside.returncode, inside.stdout) == (7, f"{box.run('id -u')}1")
    (usage,) = json.loads(said("top", "job-1", "--json"))["hosts"]
    assert usage["memory_bytes"] > 1_000_000
    assert f"process+{box.bare_address}" in said("ls")
    assert said("stop", "job-1") == "job-1: Stopped\n"
    assert "model/half" in said("outputs", "job-1")
    states = [move["Status"] for move in launcher.TrainingJob("job-1").describe()["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert box.launcher("describe job-1").count("SecondaryStatus: Stopped") == 1


def test_a_job_that_fails_there_says_why_here(box, make_source, tmp_path):
    (tmp_path / "train.py").write_text("raise KeyError('propensity')")
    result = run_launcher("fit", "train.py", "--job-name", "job-1", cwd=tmp_path)
    assert result.returncode == 1
    assert "train.py exited with 1" in result.stderr
    assert "KeyError: 'propensity'" in launcher.TrainingJob("job-1").failure_reason


@pytest.mark.slow
def test_buckets_of_this_machine_are_read_and_written_here(box, make_source, tmp_path):
    """Channel, source, checkpoints and results are objects of the S3 that is built in here."""
    session = launcher.Session(default_bucket="mine")
    session.default_bucket()
    S3Uploader.upload_string_as_file_body("first", "s3://mine/rows/a.txt", sagemaker_session=session)
    S3Uploader.upload_string_as_file_body("7", "s3://mine/steps/count", sagemaker_session=session)
    script = """
import pathlib
print("rows", pathlib.Path("/opt/ml/input/data/training/a.txt").read_text())
count = pathlib.Path("/opt/ml/checkpoints/count")
count.write_text(str(int(count.read_text()) + 1))
pathlib.Path("/opt/ml/model/weights").write_text("w")
"""
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(script), sagemaker_session=session,
        checkpoint_s3_uri="s3://mine/steps",
    )  # fmt: skip
    estimator.fit("s3://mine/rows/", logs=False)
    assert "rows first" in estimator.latest_training_job.logs()
    assert session.read_s3_file("mine", "steps/count") == "8"
    assert estimator.model_data.startswith("s3://mine/")
    assert (estimator.latest_training_job.outputs.model_path / "weights").read_text() == "w"
    assert any("reach the S3 that is built in on" in line for line in estimator.latest_training_job.warnings)


def test_what_has_a_meaning_here_alone_is_refused_before_anything_is_sent(box, make_source, tmp_path, monkeypatch):
    (tmp_path / "rows.json").write_text("[]")
    (tmp_path / "model.tar.gz").write_bytes(b"")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""))
    with pytest.raises(errors.UnsupportedOptionError, match="a debugger cannot reach") as refused:
        estimator.fit(debug=True)
    assert f"ssh -p {box.port} {box.user}@127.0.0.1;" in refused.value.hint
    manifest = launcher.TrainingInput(str(tmp_path / "rows.json"), s3_data_type="ManifestFile")
    with pytest.raises(errors.UnsupportedOptionError, match="S3DataType=ManifestFile"):
        estimator.fit({"training": manifest})
    with pytest.raises(errors.UnsupportedOptionError, match="a processing job cannot run on another machine"):
        launcher.ScriptProcessor(command=["python3"]).run(code=f"{estimator.source_dir}/train.py")
    model = launcher.Model(model_data=str(tmp_path / "model.tar.gz"))
    with pytest.raises(errors.UnsupportedOptionError, match="an endpoint cannot run on another machine"):
        model.deploy(1, "local")
    monkeypatch.setenv("LAUNCHER_MOUNTS", f"{tmp_path}:/mnt")
    with pytest.raises(errors.UnsupportedOptionError, match="LAUNCHER_MOUNTS lends folders of this machine"):
        estimator.fit()
    assert box.run("ls -A ~/.launcher 2>/dev/null || true") == ""


def test_a_job_without_a_network_runs_there(box, make_source):
    """Whether namespaces are there is tried in the home of that machine, not where this machine's is."""
    script = "import os; print(os.listdir('/sys/class/net'), open('/proc/net/dev').read().count(':'))"
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(script), enable_network_isolation=True
    )
    estimator.fit(logs=False)
    assert estimator.latest_training_job.logs().split()[-1] == "1", "the loopback device alone"


def test_an_image_that_the_runtime_there_cannot_run_is_refused_at_once(box, store):
    with pytest.raises(errors.RuntimeUnavailableError, match=r"ssh://.*: the process runtime has no containers"):
        launcher.Estimator("busybox:1", runtime="process").fit()
    assert store.names() == []
