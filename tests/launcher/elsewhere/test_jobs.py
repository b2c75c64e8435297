"""A training job of another machine, through a real sshd, as another user."""

import textwrap
from pathlib import Path

import launcher

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
