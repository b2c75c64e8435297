"""A tuning job whose driver is killed: no training job is lost, none runs twice, and the same values are chosen."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from launcher.jobs.store import JobStore
from launcher.running.driving import drive
from launcher.tuning.submission import submit_tuning

# Each run of a training job adds a line to a file of the test.
SCRIPT = """
import os, time
with open({ran!r}, "a") as file:
    file.write(os.environ["TRAINING_JOB_NAME"] + "\\n")
time.sleep(0.05)
print(f"score={{-(float(os.environ['SM_HP_RATE']) - 3) ** 2}}", flush=True)
"""
JOBS = 6


@pytest.fixture
def as_processes(tuning, tmp_path):
    """A tuning job whose training jobs are processes that outlive whoever drives them."""
    tuning.ran = tmp_path / "ran"
    tuning.set_script(SCRIPT.format(ran=str(tuning.ran)))

    def submit(name, **options):
        own = {"Launcher": {"Runtime": "process"}}
        return submit_tuning(tuning.request(name, jobs=JOBS, seed=5, **own, **options), tuning.home).name

    tuning.submit = submit
    return tuning


def drive_and_kill(tuning, name, seconds):
    """Drive a tuning job in a process of its own, which is killed so many seconds after it has begun.

    Returns whether there was something left to do.
    """
    command = [sys.executable, "-m", "launcher", "drive", name, "--kind", "tuning-jobs"]
    driver = subprocess.Popen(command, env={**os.environ, "LAUNCHER_HOME": str(tuning.home)})
    while driver.poll() is None and not tuning.store.folder(name).driven():
        time.sleep(0.01)
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    return not tuning.store.load(name).terminal


@pytest.mark.slow
def test_ten_kills_of_the_driver_lose_nothing_and_run_nothing_twice(as_processes):
    tuning = as_processes
    names = [tuning.submit("straight"), tuning.submit("killed")]
    straight = drive(tuning.store, "straight")
    hits = [drive_and_kill(tuning, "killed", random.Random(kill).uniform(0, 0.4)) for kill in range(10)]
    assert sum(hits) >= 5
    killed = drive(tuning.store, "killed")
    assert (straight.status, killed.status) == ("Completed", "Completed")
    assert [trial.values for trial in killed.trials] == [trial.values for trial in straight.trials]
    assert [trial.objective for trial in killed.trials] == [trial.objective for trial in straight.trials]
    jobs = sorted(trial.job for record in (straight, killed) for trial in record.trials)
    assert sorted(JobStore(tuning.home).names()) == jobs
    assert sorted(tuning.ran.read_text().split()) == jobs
    assert names == ["straight", "killed"]


@pytest.mark.slow
def test_training_jobs_in_parallel_survive_kills_as_well(as_processes):
    tuning = as_processes
    tuning.submit("killed", parallel=3)
    for kill in range(4):
        drive_and_kill(tuning, "killed", random.Random(kill).uniform(0, 0.4))
    record = drive(tuning.store, "killed")
    assert [trial.status for trial in record.trials] == ["Completed"] * JOBS
    assert sorted(tuning.ran.read_text().split()) == sorted(trial.job for trial in record.trials)


def test_a_kill_between_any_two_writes_repeats_no_choice(tuning, monkeypatch):
    """The driver dies before and after each write of its record, in turn."""
    expected = None
    for writes in range(10):
        name = f"tune-{writes:02d}"
        tuning.submit(name, jobs=2, seed=9)
        count, save = [0], tuning.store.save

        def dying(job, record, count=count, save=save, writes=writes):
            count[0] += 1
            if count[0] == writes // 2 + 1 and writes % 2 == 0:
                raise KeyboardInterrupt
            save(job, record)
            if count[0] == writes // 2 + 1 and writes % 2 == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(tuning.store, "save", dying)
        try:
            drive(tuning.store, name, runtime=tuning.runtime)
        except KeyboardInterrupt:
            monkeypatch.setattr(tuning.store, "save", save)
            drive(tuning.store, name, runtime=tuning.runtime)
        monkeypatch.setattr(tuning.store, "save", save)
        record = tuning.store.load(name)
        assert record.status == "Completed"
        expected = expected or tuning.values(name)
        assert tuning.values(name) == expected
    assert len(tuning.runtime.started) == 2 * 10


@pytest.mark.slow
def test_sigterm_leaves_the_tuning_job_to_a_driver_of_its_own(as_processes):
    tuning = as_processes
    tuning.submit("left", parallel=2)
    script = (
        "from pathlib import Path\n"
        "from launcher.jobs.store import TuningStore\n"
        "from launcher.running.driving import drive\n"
        f"drive(TuningStore(Path({str(tuning.home)!r})), 'left')"
    )
    front = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not tuning.store.load("left").trials:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    front.terminate()
    assert "goes on without this process" in front.communicate(timeout=20)[1]
    assert front.returncode == 128 + signal.SIGTERM
    record = drive(tuning.store, "left")
    assert record.status == "Completed"
    assert sorted(tuning.ran.read_text().split()) == sorted(trial.job for trial in record.trials)
