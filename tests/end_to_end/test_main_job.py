"""The main job as a user meets it: collect, train offline, evaluate; on both runtimes with the same numbers."""

import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.sdk.bundled import bundled_estimator
from tests.shell import run_launcher

METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
RUNTIMES = ["process", pytest.param("docker", marks=pytest.mark.docker)]


def _names(path):
    with tarfile.open(path) as archive:
        return archive.getnames()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run ``launcher demo`` once for each runtime; return its home and what it printed."""
    results = {}

    def run(runtime):
        if runtime not in results:
            home = tmp_path_factory.mktemp(f"demo-{runtime}")
            answer = run_launcher("demo", cwd=home, LAUNCHER_HOME=str(home), LAUNCHER_RUNTIME=runtime)
            assert answer.returncode == 0, answer.stderr + answer.stdout
            results[runtime] = (home, answer.stdout)
        return results[runtime]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_demo_learns_to_balance_from_random_data_alone(demo, runtime):
    home, said = demo(runtime)
    random_reward = float(re.search(r"mean reward ([\d.]+)\n", said)[1])
    learned_reward = float(re.search(r"mean reward ([\d.]+) over 100 episodes", said)[1])
    assert 15 < random_reward < 30
    assert learned_reward > 195
    first, coachs = said.split("Every epoch, in Coach's columns", 1)
    value, lower, upper = map(float, re.search(r"learned . FQE +. +([\d.]+) . +([\d.]+) to ([\d.]+)", first).groups())
    to_beat = float(re.search(r"random +. mean of the log . +([\d.]+)", first)[1])
    assert to_beat < lower < value < upper <= 100
    assert first.index("│ FQE") < first.index("│ WDR")
    for estimate in re.findall(r"\d+\.\d+\*?", coachs[: coachs.index("Random policy")]):
        assert estimate.endswith("*") == (float(estimate.rstrip("*")) > 100)
    truth = re.search(r"The truth: softmax\([^)]*\), played without a limit,\s+earns\s+([\d.]+)", said)
    assert to_beat < float(truth[1]) <= 100
    for title in ("dataset", "model", "checkpoint", "estimates", "plot", "evaluation", "log"):
        path = re.search(rf"^  {title}\s+(/\S+)$", said, re.MULTILINE)[1]
        assert Path(path).exists(), path
    assert sorted(path.name for path in (home / "jobs").glob("*/work")) == []


@pytest.mark.slow
@pytest.mark.docker
def test_both_runtimes_give_the_same_keys_listings_and_numbers(demo):
    contents = {}
    for runtime in ("process", "docker"):
        home, _ = demo(runtime)
        jobs = sorted(
            (home / "jobs").iterdir(), key=lambda path: json.loads((path / "job.json").read_text())["created"]
        )
        contents[runtime] = [
            {
                "keys": sorted(
                    str(path.relative_to(job))
                    for part in ("output", "source")
                    for path in (job / part).rglob("*")
                    if path.is_file()
                ),
                "output": _names(job / "output" / "output.tar.gz"),
                "model": _names(job / "output" / "model.tar.gz")
                if (job / "output" / "model.tar.gz").exists()
                else None,
                "source": hashlib.sha256((job / "source" / "sourcedir.tar.gz").read_bytes()).hexdigest(),
                "metrics": [path.read_bytes() for path in sorted((job / "output" / "intermediate").glob("*.csv"))],
            }
            for job in jobs
        ]
    assert contents["process"] == contents["docker"]
    training = contents["process"][1]
    assert f"output/intermediate/{METRICS}" in training["keys"]
    assert {"checkpoint", "checkpoint/latest"} <= set(training["output"])


def test_an_evaluation_refuses_a_checkpoint_that_is_none(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "notes.txt").write_text("not one")
    with pytest.raises(errors.JobFailedError, match="CheckpointError") as caught:
        launcher.fit(
            "preset-cartpole-ddqnbcq-env",
            entry_point="evaluate.py",
            inputs=str(tmp_path / "checkpoint"),
            runtime="process",
            logs=False,
        )
    assert "Traceback" not in str(caught.value)


def test_a_stopped_training_leaves_a_checkpoint_that_can_be_evaluated(tmp_path):
    """What a managed stop promises: SIGTERM, then whole artifacts."""
    import threading
    import time

    data = launcher.fit("preset-cartpole-random", entry_point="collect.py", runtime="process", logs=False)
    estimator = bundled_estimator(
        "preset-cartpole-ddqnbcq", hyperparameters={"training.epochs": 100_000}, runtime="process"
    )
    job = estimator.submit({"train": str(data.outputs.data_path)})
    thread = threading.Thread(target=lambda: job.wait(logs=False))
    thread.start()
    deadline = time.monotonic() + 60
    while "Epoch=2," not in job.logs():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    csv = job.path / "output" / "intermediate" / METRICS
    while not csv.exists() or job.metrics().empty:
        assert time.monotonic() < deadline, "metrics can be read while the job runs"
        time.sleep(0.05)
    assert job.status == "InProgress"
    job.stop()
    thread.join(60)
    assert job.status == "Stopped"
    evaluation = launcher.fit(
        "preset-cartpole-ddqnbcq-env",
        entry_point="evaluate.py",
        inputs=str(job.outputs.data_path / "checkpoint"),
        hyperparameters={"evaluate_episodes": 2},
        runtime="process",
        logs=False,
    )
    assert json.loads((evaluation.outputs.data_path / "evaluation.json").read_text())["episodes"] == 2


def test_plot_draws_a_finished_jobs_estimates(tmp_path):
    data = launcher.fit("preset-cartpole-random", entry_point="collect.py", runtime="process", logs=False)
    job = launcher.fit(
        "preset-cartpole-ddqnbcq",
        inputs=str(data.outputs.data_path),
        hyperparameters={"training.epochs": 2, "bcq.imitation_updates": 50, "ope.reward_model_epochs": 1},
        runtime="process",
        logs=False,
    )
    said = run_launcher("plot", job.name, "-o", str(tmp_path / "p.png"), cwd=tmp_path).stdout
    assert said.strip() == str(tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    run_launcher("plot", job.name, "-o", str(tmp_path / "p.html"), cwd=tmp_path)
    assert "<svg" in (tmp_path / "p.html").read_text()
    refused = run_launcher("plot", job.name, "-o", "p.pdf", cwd=tmp_path)
    assert (refused.returncode, "PNG or HTML" in refused.stderr) == (2, True)
    judged = run_launcher(
        "ope", "-d", str(data.outputs.data_path), "-c", job.name, "-e", "WIS", "-f", "json", cwd=tmp_path
    )
    judgement = json.loads(judged.stdout)
    assert judgement["episodes"] == 75
    last = job.metrics().iloc[-1]
    assert judgement["policies"][0]["estimates"][0]["value"] == pytest.approx(last["WIS (trajectory)"], rel=1e-6)
    names = job.describe()["FinalMetricDataList"]
    assert {entry["MetricName"] for entry in names} == {"weighted-importance-sampling", "sequential-doubly-robust"}
