"""Faults on purpose on real runtimes: hosts that are late, slow, cut off from the others; a job that goes on."""

import re

import pytest

import launcher
from launcher.runtimes.process import networks_missing

# The second host answers, and measures how much of a CPU it gets; the first one asks until it got what it waits for.
TALKING = """
import os, socket, sys, threading, time
print("began", time.time(), flush=True)
if os.environ["SM_CURRENT_HOST"] == "algo-2":
    told = threading.Event()
    server = socket.create_server(("algo-2", 8080))

    def answer():
        while not told.is_set():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"here")
                if connection.recv(3) == b"bye":
                    told.set()

    threading.Thread(target=answer, daemon=True).start()
    while not told.is_set():
        begun, used = time.monotonic(), time.process_time()
        while time.monotonic() < begun + 0.5:
            pass
        print("share", (time.process_time() - used) / (time.monotonic() - begun), flush=True)
else:
    def ask(last):
        try:
            with socket.create_connection(("algo-2", 8080), 0.5) as connection:
                connection.settimeout(2)
                heard = connection.recv(4) == b"here"
                connection.sendall(last)
                return heard
        except OSError:
            return False

    states, begun = [], time.monotonic()
    while time.monotonic() < begun + 100:
        state = ask(b"")
        if not states or states[-1] != state:
            states.append(state)
        if states[-int(os.environ["CHANGES"]):] == [True, False, True][-int(os.environ["CHANGES"]):]:
            if time.monotonic() > begun + 8:
                break
        time.sleep(0.2)
    print("states", states, flush=True)
    while not ask(b"bye"):
        time.sleep(0.2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "faults", "changes"),
    [
        ("process", "delay:algo-2+3s slow:algo-2@4s+3s*10 cut:algo-2@8s+5s", 3),
        pytest.param("docker", "delay:algo-2+3s slow:algo-2@4s+3s*10 cut:algo-2@8s+5s", 3, marks=pytest.mark.docker),
        pytest.param("slurm", "delay:algo-2+3s slow:algo-2@4s+3s*10", 1, marks=pytest.mark.whole),
    ],
)
def test_a_host_is_late_then_slow_then_cut_off_and_back(runtime, faults, changes, make_source, request):
    if runtime == "slurm":
        request.getfixturevalue("slurm")
    if runtime == "process" and (reason := networks_missing(2)):
        pytest.skip(f"no network of processes here: {reason}")
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(TALKING),
        instance_count=2,
        runtime=runtime,
        faults=faults,
        environment={"CHANGES": str(changes)},
        max_run=600,
    )
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    logs = [(job.path / name).read_text() for name in ("job.log", "job.algo-2.log")]
    begun = [float(re.search(r"began (\S+)", log)[1]) for log in logs]
    assert begun[1] - begun[0] > 1
    shares = [float(share) for share in re.findall(r"share (\S+)", logs[1])]
    assert min(shares) < 0.4, shares
    states = re.search(r"states (.*)", logs[0])[1]
    assert states.endswith({1: "True]", 3: "True, False, True]"}[changes])
    assert [line for line in job.warnings if "could not" in line] == []
    assert len([line for line in job.warnings if line.startswith("a fault on purpose: algo-2")]) == len(faults.split())


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_job_whose_host_is_killed_names_it_and_begins_again(runtime, make_source):
    script = "import time; print('here', flush=True); time.sleep(3)"
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(script),
        instance_count=2,
        runtime=runtime,
        faults=["kill:algo-2@0.5s"],
        max_retry_attempts=1,
    )
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert job.status == "Completed"
    assert any("InternalServerError: algo-2 was killed on purpose" in line for line in job.warnings), job.warnings


def test_a_lone_process_cannot_be_cut_off_and_it_is_said(make_source, home):
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(""), runtime="process", faults="cut:algo-1"
    )
    with pytest.raises(launcher.errors.RuntimeUnavailableError, match="a lone host has no others"):
        estimator.fit(job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()
