"""Faults on purpose: what a plan means, which are refused, and what happens to the hosts of a job."""

import math
import time

import pytest

import launcher
from launcher import errors
from launcher.jobs.faults import Fault, faults_of
from tests.fakes import FakeRuntime

HOSTS = ["algo-1", "algo-2"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kill:algo-2@30s", Fault("kill", "algo-2", 30)),
        ("delay:algo-1+2m", Fault("delay", "algo-1", 0, 120)),
        ("cut:algo-2@1.5+20", Fault("cut", "algo-2", 1.5, 20)),
        ("slow:algo-1@1m*8", Fault("slow", "algo-1", 60, math.inf, 8)),
    ],
)
def test_a_fault_is_a_word(text, fault):
    assert faults_of([text], HOSTS) == [fault]


def test_what_is_left_out_is_drawn_by_the_seed():
    plans = [["kill"], ["kill", "seed=1"], ["kill:random", "seed=2"], ["kill:algo-1@10s-20s", "seed=3"]]
    drawn = [faults_of(plan, HOSTS)[0] for plan in plans]
    assert drawn == [faults_of(plan, HOSTS)[0] for plan in plans]
    assert len({fault.at_seconds for fault in drawn}) == 4
    assert {fault.host for fault in drawn} == set(HOSTS)
    assert 10 <= drawn[3].at_seconds < 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crash", "'crash' is no fault"),
        ("kill:algo-3", "names a host that the job has not"),
        ("kill+10s", "a duration"),
        ("delay@10s", "a moment"),
        ("kill*2", "a factor"),
        ("slow*0.5", "below 1"),
        ("kill@30s-10s", "ends before it begins"),
        ("kill@soon", "is no fault"),
    ],
)
def test_what_cannot_be_read_is_refused(text, words):
    with pytest.raises(errors.BadInputError, match=words.replace("+", r"\+")):
        faults_of([text], HOSTS)


@pytest.fixture
def estimate(make_source):
    def make(script="print('here')", **options):
        own = {"entry_point": "train.py", "source_dir": make_source(script), "instance_count": 2}
        return launcher.Estimator(**{"runtime": FakeRuntime(), **own, **options})

    return make


def test_the_variable_counts_where_no_argument_is_given(estimate, monkeypatch):
    monkeypatch.setenv("LAUNCHER_FAULTS", "kill:algo-2@30s, delay:algo-1+1s")
    plan = str(estimate().plan(job_name="job-1"))
    assert "fault      algo-2 is killed 30 s after the start" in plan
    assert "fault      algo-1 begins 1 s late" in plan
    assert "fault  " not in str(estimate(faults=[]).plan(job_name="job-1"))
    with pytest.raises(errors.BadInputError, match="LAUNCHER_FAULTS: 'kill:algo-2@30s' names a host"):
        estimate(instance_count=1).plan(job_name="job-1")


def test_what_a_runtime_cannot_do_is_refused_before_the_start(estimate, home):
    with pytest.raises(errors.RuntimeUnavailableError, match="'slow' cannot be caused"):
        estimate(faults="slow:algo-1").fit(job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


def test_a_host_that_is_killed_fails_the_job_as_a_failure_of_the_platform(estimate, store):
    estimator = estimate("import time; print('here', flush=True); time.sleep(60)", faults="kill:algo-2@0.2s")
    started = time.monotonic()
    with pytest.raises(launcher.JobFailedError, match="algo-2"):
        estimator.fit(logs=False, job_name="job-1")
    assert time.monotonic() - started < 30
    job = estimator.latest_training_job
    assert job.describe()["FailureReason"].startswith("InternalServerError: algo-2 was killed on purpose")
    assert "a fault on purpose: algo-2 is killed 0.2 s after the start" in job.warnings
    assert [event["failed"] for event in store.load("job-1").faults] == [""]


def test_with_a_retry_the_job_recovers_and_the_fault_does_not_come_again(estimate):
    script = "import os, time; print('here', flush=True); time.sleep(1)"
    estimator = estimate(script, faults="kill:algo-1@0.2s", max_retry_attempts=1)
    estimator.fit(logs=False, job_name="job-1")
    assert estimator.latest_training_job.status == "Completed"


def test_a_host_that_begins_late_is_waited_for(estimate):
    script = "import os, time; print(os.environ['SM_CURRENT_HOST'], time.time(), flush=True)"
    estimator = estimate(script, faults="delay:algo-2+2s")
    estimator.fit(logs=False, job_name="job-1")
    path = estimator.latest_training_job.path
    moments = [float((path / log).read_text().split()[1]) for log in ("job.log", "job.algo-2.log")]
    assert moments[1] - moments[0] > 0.5
    assert "a fault on purpose: algo-2 begins 2 s late" in estimator.latest_training_job.warnings
