"""The main job on another machine, with the numbers of this one."""

import pytest

import launcher


def metric_files():
    """Collect and train, a little; return the metric files, by name."""
    few, one_thread = {"num_envs": 20}, {"OMP_NUM_THREADS": "1"}
    data = launcher.fit(
        "preset-cartpole-random", entry_point="collect.py", hyperparameters=few, environment=one_thread, logs=False
    )
    job = launcher.fit(
        "preset-cartpole-ddqnbcq", {"train": data}, hyperparameters={"training.epochs": 2}, environment=one_thread,
        logs=False,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in job.outputs.intermediate_path.glob("*.csv")}


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_training_on_another_machine_writes_the_metrics_of_this_one(runtime, box, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", runtime)
    if runtime == "docker":
        box.may_use_the_engine()
    there = metric_files()
    assert len(there) == 1
    monkeypatch.delenv("LAUNCHER_HOST")
    assert metric_files() == there
