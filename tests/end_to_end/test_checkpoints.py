"""A training job that is killed in its middle and started again elsewhere: the same numbers as if nothing had been."""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

import launcher
from launcher.jobs.store import JobStore
from launcher.running.runner import Driver
from launcher.runtimes import get_runtime
from launcher.settings import home_path

METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
PRESET = "preset-cartpole-ddqnbcq"
SMALL = {"agent.hidden_sizes": "[16]", "agent.members": 2, "agent.batch_size": 16, "improve_steps": 30}
SMALL |= {"bcq.imitation_updates": 50, "ope.reward_model_epochs": 1}


@pytest.fixture
def dataset():
    """Episodes of a random policy, as a folder."""
    options = {"runtime": "process", "logs": False, "job_name": "collect"}
    few = {"num_envs": 20}
    return launcher.fit(
        "preset-cartpole-random", entry_point="collect.py", hyperparameters=few, **options
    ).outputs.data_path


@pytest.fixture
def place(request, tmp_path):
    """Where checkpoints are kept: a folder, or a prefix of the embedded S3."""
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    return f"s3://{launcher.Session(mode='s3').default_bucket()}/checkpoints"


def train(dataset, name, **options):
    return launcher.fit(PRESET, {"train": dataset}, hyperparameters=SMALL, job_name=name, logs=False, **options)


def kill(job, runtime):
    """Kill everything of a job that runs, as a lack of memory would."""
    for execution in Driver(JobStore(home_path()), job.name, get_runtime(runtime))._found_executions():
        execution.kill()


def metrics_of(job):
    return (job.outputs.intermediate_path / METRICS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "epochs", [(3,), *(pytest.param(many, marks=pytest.mark.whole) for many in ((3, 9, 20), (1, 2)))]
)
def test_a_spot_job_ends_as_one_that_ran_through_byte_by_byte(dataset, tmp_path, monkeypatch, epochs):
    """Interrupted after some epochs, and its driver killed in between; benchmarks/spot_proof.py has many such runs."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    options = {"runtime": "process", "environment": {"OMP_NUM_THREADS": "1"}}
    through = train(dataset, "through", **options)
    spot = train(
        dataset,
        "spot",
        wait=False,
        checkpoint_s3_uri=str(tmp_path / "checkpoints"),
        use_spot_instances=True,
        max_wait=86400,
        spot_interruptions=[f"at-line:Epoch={epoch}," for epoch in epochs],
        **options,
    )
    while f"Epoch={epochs[0]}," not in spot.logs():
        assert spot.status == "InProgress", spot.logs()
        time.sleep(0.02)
    driver = next(iter(_drivers(spot)))
    os.kill(driver, signal.SIGKILL)
    spot.wait(logs=False)
    assert [attempt["reason"] for attempt in JobStore(home_path()).load("spot").attempts] == ["Interrupted"] * len(
        epochs
    )
    assert metrics_of(spot) == metrics_of(through)
    archives = [Path(job.model_data.removeprefix("file://")).read_bytes() for job in (through, spot)]
    assert archives[0] == archives[1]


def _drivers(job):
    """Yield the processes that drive a job."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().split(b"\0")[1:5] == [b"-m", b"launcher", b"drive", job.name.encode()]:
                yield int(folder.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "place", "mode"),
    [
        ("process", "folder", "local"),
        pytest.param("process", "s3", "s3", marks=pytest.mark.whole),
        pytest.param("docker", "folder", "local", marks=[pytest.mark.docker, pytest.mark.whole]),
        pytest.param("docker", "s3", "s3", marks=pytest.mark.docker),
    ],
    indirect=["place"],
)
def test_a_killed_job_goes_on_under_another_name_to_the_same_metrics(dataset, runtime, place, mode, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {"runtime": runtime, "mode": mode}
    through = train(dataset, "through", **options)
    killed = train(dataset, "killed", checkpoint_s3_uri=place, wait=False, **options)
    while "Epoch=3," not in killed.logs():
        assert killed.status == "InProgress", killed.logs()
        time.sleep(0.02)
    kill(killed, runtime)
    with pytest.raises(launcher.JobFailedError):
        killed.wait(logs=False)
    assert metrics_of(killed) != metrics_of(through), "it was killed in its middle"
    again = train(dataset, "again", checkpoint_s3_uri=place, **options)
    assert 3 <= int(re.search(r"^Resumed> .*, Epoch=(\d+),", again.logs(), re.MULTILINE)[1]) < SMALL["improve_steps"]
    assert metrics_of(again) == metrics_of(through)
    assert again.describe()["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
