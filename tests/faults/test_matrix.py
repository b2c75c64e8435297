"""Faults injected for real: whatever happens, a job ends with its true status and reason, and leaves its results alone.

The table in docs/fault-matrix.md says which test holds which fault; those that other tests hold are not repeated here.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time

import boto3
import pytest

from launcher.jobs.store import JobStore
from launcher.settings import data_path
from tests.fault_server import moto_server
from tests.faults.conftest import (
    WRITES_A_MODEL,
    kill_host,
    log_has,
    needs_dockerd,
    nothing_left,
    record_of,
    unsettle,
    wait_until,
)
from tests.own_engine import Engine
from tests.shell import run_launcher

COUNTS = "import time\nfor i in range(15):\n    print('line', i, flush=True)\n    time.sleep(0.1)\n" + WRITES_A_MODEL


def members(home, name="job-1"):
    with tarfile.open(home / "jobs" / name / "output" / "model.tar.gz") as archive:
        return {member.name: member.size for member in archive if member.isfile()}


def lines_of(home, name="job-1"):
    return re.findall(r"^line (\d+)$", (home / "jobs" / name / "job.log").read_text(), re.MULTILINE)


# The caller is killed


def kill_the_caller(fit, home, tmp_path, runtime, seed, kills):
    """Kill whoever drives the job, again and again at random moments; then look at it, until it has ended."""
    chance = random.Random(seed)
    callers = [fit(COUNTS, runtime)]
    for _ in range(kills):
        time.sleep(chance.uniform(0.1, 2.5))
        callers[-1].kill()
        callers[-1].wait()
        if not record_of(home):
            callers.append(fit(COUNTS, runtime))  # it was killed before there was a job
            continue
        unsettle(home)
        callers.append(
            subprocess.Popen([sys.executable, "-m", "launcher", "logs", "-f", "job-1"], stdout=-3, stderr=-3)
        )
    callers[-1].wait()
    for caller in callers[1:]:
        caller.wait()
    record = record_of(home)
    assert record["status"] == "Completed", (seed, record["failure_reason"])
    assert lines_of(home) == [str(number) for number in range(15)], seed
    assert members(home) == {"m": 100}, seed
    run_launcher("gc", cwd=tmp_path)  # what a writer that was killed had half written
    assert nothing_left(home) is True, seed


def test_a_caller_that_is_killed_at_random_moments_costs_its_job_nothing(fit, home, tmp_path):
    kill_the_caller(fit, home, tmp_path, "process", seed=1, kills=2)


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_caller_that_is_killed_at_many_moments(fit, home, tmp_path, runtime, seed):
    kill_the_caller(fit, home, tmp_path, runtime, seed, kills=4)


# A host is killed


def test_a_host_that_is_killed_fails_the_job_by_name_and_ends_the_others(fit, home, runtime):
    """The second of two hosts is killed from outside; the first would run for ten minutes."""
    script = "import os, time\nprint('ready', flush=True)\ntime.sleep(600)\n"
    caller = fit(script, runtime, "--instance-count", "2")
    log = home / "jobs" / "job-1" / "job.algo-2.log"
    wait_until(lambda: log_has(home, "ready") and log.exists() and "ready" in log.read_text())
    kill_host(home, runtime, "algo-2")
    said, _ = caller.communicate(timeout=120)
    record = record_of(home)
    assert (caller.returncode, record["status"]) == (1, "Failed"), said
    assert "algo-2" in record["failure_reason"]
    assert "not by the launcher" in record["failure_reason"]
    assert nothing_left(home) is True


# A full disk


def test_a_disk_that_is_full_while_inputs_are_fetched_fails_the_job_and_keeps_no_part(fit, small_home, runtime):
    """The channel has 16 MB in another S3; the disk of the home has 8."""
    home = small_home(8) / "home"
    with moto_server() as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )
        client.create_bucket(Bucket="inputs")
        for number in range(4):
            client.put_object(Bucket="inputs", Key=f"data/{number}", Body=os.urandom(4 << 20))
        keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "LAUNCHER_S3_ENDPOINT": url}
        caller = fit("print('it ran')", runtime, "-i", "train=s3://inputs/data/", **keys)
        said, _ = caller.communicate(timeout=120)
    record = record_of(home)
    assert (caller.returncode, record["status"]) == (1, "Failed"), said
    assert "No space left on device" in record["failure_reason"]
    assert "Traceback" not in said, said
    assert not log_has(home, "it ran")
    assert nothing_left(home) is True
    disk = os.statvfs(home)
    assert disk.f_bavail > disk.f_blocks * 0.3, "what was fetched is not left on the full disk"


# A home that turns read-only


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.whole])])
def test_a_home_that_turns_read_only_under_a_job_delays_it_and_no_more(fit, small_home, runtime, tmp_path):
    """As a file system does on an I/O error, or by an administrator's hand."""
    disk = small_home(64)
    home = disk / "home"
    script = "import time\nprint('ready', flush=True)\ntime.sleep(2)\n" + WRITES_A_MODEL
    caller = fit(script, runtime)
    wait_until(lambda: log_has(home, "ready"))
    # A mount with open files takes no "ro"; a read-only one on top of it does the same to whoever opens another.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    time.sleep(3)
    refused = run_launcher("fit", "train.py", "-r", runtime, "--job-name", "job-2", cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert "Read-only file system" in refused.stderr or "not a folder that can be written" in refused.stderr
    listed = run_launcher("ls", cwd=tmp_path)
    assert (listed.returncode, "job-1" in listed.stdout) == (0, True), listed.stderr
    subprocess.run(["umount", "-l", str(disk)], check=True)
    said, _ = caller.communicate(timeout=120)
    assert "Traceback" not in said, said
    if record_of(home)["status"] != "Completed":
        unsettle(home)
        run_launcher("logs", "-f", "job-1", cwd=tmp_path)
    assert record_of(home)["status"] == "Completed", (record_of(home)["failure_reason"], said)
    assert members(home) == {"m": 100}
    assert not (home / "jobs" / "job-2").exists()
    assert nothing_left(home) is True


# A clock that jumps

JUMPING = """
import os, time
real = time.time
time.time = lambda: real() + (90_000 if os.path.exists(os.environ["JUMP"]) else 0)
"""


def test_a_clock_that_jumps_while_a_job_runs_neither_ends_nor_bills_it(fit, home, tmp_path):
    """The driver's wall clock is 25 hours ahead from the middle of the job on; its limit is an hour."""
    jump = tmp_path / "jump"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPING)
    path = f"{tmp_path / 'clock'}:{data_path('container').parent}"
    caller = fit(COUNTS, "process", "--max-run", "3600", JUMP=str(jump), PYTHONPATH=path)
    wait_until(lambda: log_has(home, "line 3"))
    jump.touch()
    said, _ = caller.communicate(timeout=120)
    record = record_of(home)
    assert record["status"] == "Completed", said
    assert record["ended"] - record["started"] > 90_000, "the clock did jump"
    assert record["billable_seconds"] < 60
    assert nothing_left(home) is True


# Many at once


def many_at_once(home, make_source, runtime, count):
    """Three processes submit and drive jobs of one base name at the same moment, several threads each."""
    source = make_source("import os\nopen('/opt/ml/model/' + os.environ['NUMBER'], 'w').close()\n")
    program = f"""
import sys, threading, launcher
def fit(number):
    estimator = launcher.Estimator(entry_point="train.py", source_dir={source!r}, runtime={runtime!r},
                                   environment={{"NUMBER": number}}, base_job_name="same")
    estimator.fit(logs=False)
threads = [threading.Thread(target=fit, args=(number,)) for number in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    numbers = [str(number) for number in range(count)]
    environment = {**os.environ, "PYTHONPATH": str(data_path("container").parent)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, *numbers[first::3]], env=environment, stderr=subprocess.PIPE)
        for first in range(3)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    jobs = JobStore(home).records()[0]
    assert {record.status for _, record in jobs} == {"Completed"}, errors
    assert sorted(name for job, _ in jobs for name in members(home, job)) == sorted(numbers)
    assert nothing_left(home) is True


def test_jobs_that_begin_at_once_do_not_meet(home, make_source):
    many_at_once(home, make_source, "process", 6)


@pytest.mark.whole
@pytest.mark.slow
def test_thirty_jobs_at_once(home, make_source, runtime):
    many_at_once(home, make_source, runtime, 30)


# An engine that goes away

IMAGE = "launcher-test-counts:1"
COUNTING = """#!/bin/bash
trap 'echo stopped; exit 9' TERM
for number in $(/bin/bash -c 'echo {0..23}'); do echo "line $number"; read -t 0.25 <> <(:); done
echo m > /opt/ml/model/m
"""
DRIVES = f"""
import launcher
launcher.Estimator({IMAGE!r}, runtime="docker").fit(logs=False, job_name="job-1")
"""


@pytest.mark.docker
@pytest.mark.slow
@needs_dockerd
@pytest.mark.parametrize("ending", ["killed", pytest.param("stopped", marks=pytest.mark.whole)])
def test_an_engine_of_its_own_that_goes_away_and_returns(home, tmp_path_factory, ending, monkeypatch):
    """Killed, with live-restore: the job goes on and loses no line. Stopped as Docker stops: the job fails by name."""
    engine = Engine(tmp_path_factory.mktemp("engine"), ("--live-restore",) if ending == "killed" else ())
    engine.start()
    try:
        engine.import_image(IMAGE, COUNTING)
        driving = threading.Thread(target=lambda: engine.run(DRIVES, home))
        driving.start()
        wait_until(lambda: log_has(home, "line 3"))
        getattr(engine, {"killed": "die", "stopped": "end"}[ending])()
        wait_until(lambda: record_of(home).get("unknown_since") is not None)
        engine.start()
        driving.join(120)
        record = record_of(home)
        if ending == "killed":
            assert record["status"] == "Completed", record["failure_reason"]
            assert lines_of(home) == [str(number) for number in range(24)]
        else:
            assert record["status"] == "Failed"
            assert record["failure_reason"]
        assert record["unknown_since"] is None
        assert nothing_left(home, engine.address) is True
    finally:
        if not engine.answers():
            engine.start()
        engine.remove_containers()
        engine.end()
        if not record_of(home).get("ended"):
            shutil.rmtree(home)  # nobody else can see to a job of this engine
