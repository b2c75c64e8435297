"""A trained policy at work by batch transform: both runtimes, folders and S3, the command line, and killed drivers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import launcher
from batch_rl.acting.environments import VectoredGymEnvironment, read_predictions
from launcher.jobs.store import TransformStore
from launcher.running.driving import drive
from launcher.runtimes import get_runtime
from launcher.sdk.transform_job import TransformJob
from tests import foreign_images
from tests.shell import launcher_environment, run_launcher

RUNTIMES = ["process", pytest.param("docker", marks=pytest.mark.docker)]
pytestmark = pytest.mark.slow

SLOW_ECHO = """
import time
def model_fn(folder): return None
def transform_fn(model, body, content_type, accept):
    time.sleep(0.02)
    return body
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Collect a log and train a policy on it for two epochs; return their home and the job's name."""
    folder = tmp_path_factory.mktemp("trained")
    environments = VectoredGymEnvironment("CartPole-v1", 30)
    environments.initialize_envs()
    rows = environments.collect_rollouts_with_given_action_probs(num_episodes=1, action_probs=[[0.5, 0.5]] * 30)
    rows.to_csv(folder / "log.csv", index=False)
    answer = run_launcher(
        *("fit", "--preset", "preset-cartpole-ddqnbcq", "-i", f"train={folder}/log.csv", "--job-name", "cartpole"),
        *("-p", "training.epochs=2", "--runtime", "process"),
        cwd=folder,
        LAUNCHER_HOME=str(folder / "home"),
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    return folder / "home"


@pytest.fixture
def states(tmp_path):
    environments = VectoredGymEnvironment("CartPole-v1", 20)
    environments.initialize_envs()
    environments.dump_environment_states(tmp_path, "env_states.json")
    return tmp_path / "env_states.json", environments


@pytest.mark.parametrize("mode", ["local", "s3"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_trained_policy_gives_the_probabilities_that_collecting_reads(
    trained, states, runtime, mode, monkeypatch, tmp_path
):
    """As the notebook does: states of environments -> batch transform -> one step in each by these probabilities."""
    monkeypatch.setenv("LAUNCHER_HOME", str(trained))
    states_path, environments = states
    archive = launcher.TrainingJob("cartpole").model_data
    session, data = launcher.Session(mode=mode), str(states_path)
    if mode == "s3":
        data = session.upload_data(data, key_prefix=f"states-{runtime}")
        archive = session.upload_data(archive.removeprefix("file://"), key_prefix=f"model-{runtime}")
    model = launcher.Model(model_data=archive, runtime=runtime, mode=mode)
    transformer = model.transformer(
        1, "ml.m4.xlarge", strategy="MultiRecord", assemble_with="Line", accept="application/jsonlines"
    )
    transformer.transform(
        data, content_type="application/jsonlines", split_type="Line", join_source="Input", logs=False
    )
    job = transformer.latest_transform_job
    assert job.status == "Completed"
    if mode == "s3":
        bucket, _, prefix = job.output_path.removeprefix("s3://").partition("/")
        (path,) = session.download_data(str(tmp_path / "answers"), bucket, prefix)
    else:
        path = f"{job.output_path.removeprefix('file://')}/env_states.json.out"
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [line["SageMakerInput"] for line in lines] == [json.loads(line) for line in states_path.open()]
    assert all(sum(row) == pytest.approx(1, abs=1e-6) for row in read_predictions(Path(path)))
    collected = environments.collect_rollouts_with_given_action_probs(num_steps=1, file_name=path)
    assert len(collected) == 20
    if runtime == "docker":
        assert get_runtime("docker").leftovers(str(trained)) == []


@pytest.mark.docker
def test_a_foreign_image_transforms_from_the_command_line(tmp_path, home):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor").write_text("3")
    (tmp_path / "data").mkdir()
    for name, values in (("a", "[1, [2]]\n[3]\n"), ("b", "[4]\n")):
        (tmp_path / "data" / f"{name}.jsonl").write_text(values)
    answer = run_launcher(
        *("transform", "data", "--image-uri", foreign_images.plain_app(), "--model-data", "model"),
        *("-c", "application/json", "--split", "Line", "--strategy", "SingleRecord", "--assemble-with", "Line"),
        *("--output", "answers", "--job-name", "job-1", "--max-concurrent", "2"),
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    assert "job-1: Completed. 2 files, 3 records." in answer.stderr + answer.stdout
    outputs = {path.name: path.read_text() for path in (tmp_path / "answers").iterdir()}
    assert {name: [json.loads(line) for line in text.splitlines()] for name, text in outputs.items()} == {
        "a.jsonl.out": [[3.0, [6.0]], [9.0]],
        "b.jsonl.out": [[12.0]],
    }
    listed = run_launcher("ls", "--kind", "transform", cwd=tmp_path)
    assert "job-1" in listed.stdout
    assert "Completed" in listed.stdout
    described = json.loads(run_launcher("describe", "job-1", "--json", cwd=tmp_path).stdout)
    assert described["TransformJobStatus"] == "Completed"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_driver_that_is_killed_leaves_no_half_output_and_the_next_one_finishes(runtime, tmp_path, home):
    """SIGKILL while the second of two files is under way: its output is not there, and its container is used again."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "inference.py").write_text(SLOW_ECHO)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a\n")
    (tmp_path / "data" / "b.txt").write_text("".join(f"{number}\n" for number in range(150)))
    outputs = tmp_path / "answers"
    model = launcher.Model(entry_point="inference.py", source_dir=tmp_path / "source", runtime=runtime)
    transformer = model.transformer(
        1, "local", strategy="SingleRecord", assemble_with="Line", output_path=outputs, max_concurrent_transforms=1
    )
    request = transformer.request(tmp_path / "data", content_type="text/csv", split_type="Line", job_name="job-1")
    (tmp_path / "request.json").write_text(json.dumps(request))
    script = (
        "import json, pathlib, sys; from launcher.jobs.store import *; from launcher.settings import home_path\n"
        "from launcher.transform.submission import submit_transform; from launcher.running.driving import drive\n"
        "store = TransformStore(home_path()); request = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
        "submit_transform(request, store, ModelStore(home_path())); drive(store, 'job-1')\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "request.json")], env=launcher_environment(), cwd=tmp_path
    )
    deadline = time.monotonic() + 200
    while not (outputs / "a.txt.out").exists():
        assert time.monotonic() < deadline, "the first file was never done"
        assert driver.poll() is None
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert [path.name for path in outputs.iterdir()] == ["a.txt.out"]
    store = TransformStore(home)
    executions = store.load("job-1").executions
    record = drive(store, "job-1")
    assert str(record.status) == "Completed", record.failure_reason
    assert record.executions == executions, "another container was started"
    assert (outputs / "b.txt.out").read_text() == (tmp_path / "data" / "b.txt").read_text()
    assert TransformJob("job-1").counts["requests"] == 150, "the first file was done again"
    assert not store.folder("job-1").work_path.exists()
    if runtime == "docker":
        assert get_runtime("docker").leftovers(str(home)) == []
