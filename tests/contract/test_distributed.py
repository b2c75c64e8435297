"""The bundled training over several hosts: the numbers of one host, also when it is stopped and goes on."""

import time

import numpy as np
import pandas as pd
import pytest

import launcher

METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
LIGHT = {"agent.hidden_sizes": "[16]", "agent.members": 2, "agent.batch_size": 64, "training.epochs": 12}
LIGHT |= {"ope.estimators": "[]", "ope.reward_model_epochs": 1, "bcq.imitation_updates": 200}
TOGETHER = {"torch_distributed": {"enabled": True}}


def train(data, name, **options):
    options = {"hyperparameters": LIGHT, "logs": False, "job_name": name} | options
    return launcher.fit("preset-cartpole-ddqnbcq", {"train": data}, **options)


def metrics_of(job):
    return pd.read_csv(job.outputs.intermediate_path / METRICS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "hosts"),
    [
        ("process", 2),
        pytest.param("process", 4, marks=pytest.mark.whole),
        pytest.param("docker", 2, marks=[pytest.mark.docker, pytest.mark.whole]),
        pytest.param("slurm", 2, marks=pytest.mark.whole),
    ],
)
def test_hosts_that_were_stopped_and_go_on_leave_the_metrics_of_one_host(
    runtime, hosts, tmp_path, monkeypatch, request
):
    if runtime == "slurm":
        request.getfixturevalue("slurm")
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "60")
    few = {"num_envs": 20}
    options = {"runtime": "process", "logs": False, "job_name": "collect"}
    data = launcher.fit("preset-cartpole-random", entry_point="collect.py", hyperparameters=few, **options)
    alone = train(data.outputs.data_path, "alone", runtime=runtime)
    several = {
        "runtime": runtime,
        "instance_count": hosts,
        "distribution": TOGETHER,
        "checkpoint_s3_uri": str(tmp_path / "checkpoints"),
    }
    stopped = train(data.outputs.data_path, "stopped", wait=False, **several)
    while "Epoch=3," not in stopped.logs():
        assert stopped.status == "InProgress", stopped.logs()
        time.sleep(0.05)
    stopped.stop()
    stopped.wait(logs=False)
    assert stopped.status == "Stopped"
    again = train(data.outputs.data_path, "again", **several)
    assert again.status == "Completed"
    assert f"Hosts> {hosts} learn together" in again.logs()
    assert "Resumed>" in again.logs()
    assert list(again.outputs.model_path.iterdir())
    assert [line for line in again.warnings if "algo-2/" in line] == [], "the first host alone writes"
    ours, theirs = metrics_of(again), metrics_of(alone)
    assert len(ours) == len(theirs) == LIGHT["training.epochs"]
    numbers = theirs.select_dtypes("number").columns
    np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.whole
def test_hosts_that_each_get_a_part_of_the_dataset_learn_what_one_learns_from_all_of_it(tmp_path):
    """Two shards; the second host has the later episodes."""
    options = {"runtime": "process", "logs": False}
    few = {"num_envs": 20, "collection.file_name": "log.parquet"}
    collected = launcher.fit("preset-cartpole-random", entry_point="collect.py", hyperparameters=few, **options)
    table = pd.read_parquet(collected.outputs.data_path / "log.parquet")
    later = table["episode_id"] >= table["episode_id"].median()
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, rows in enumerate((~later, later)):
        table[rows].to_parquet(shards / f"{number}.parquet")
    light = LIGHT | {"training.epochs": 2}
    alone = train(shards, "alone", runtime="process", hyperparameters=light)
    split = launcher.TrainingInput(str(shards), distribution="ShardedByS3Key")
    together = train(
        split, "together", runtime="process", hyperparameters=light, instance_count=2, distribution=TOGETHER
    )
    assert "each host had a part of the dataset" in together.logs()
    ours, theirs = metrics_of(together), metrics_of(alone)
    numbers = theirs.select_dtypes("number").columns
    np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-3, atol=1e-5)
