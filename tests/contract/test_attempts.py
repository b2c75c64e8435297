"""Spot jobs that are interrupted, and jobs that begin again after a failure of the platform: alike on every runtime."""

import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

import launcher
from launcher.jobs.clock import clock_mark
from launcher.jobs.interruptions import interruption_of
from launcher.jobs.metrics import read_points
from launcher.running import runner
from tests.fakes import FakeRuntime

COUNTS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "checkpoints"
file, model = folder / "step", pathlib.Path(os.environ["SM_MODEL_DIR"])
step = int(file.read_text()) if file.exists() else 0
print("begins at", step, "with", sorted(os.listdir(model)), flush=True)
(model / f"of-{step}").touch()
interrupted = []
signal.signal(signal.SIGTERM, lambda *_: interrupted.append(True))
while step < 6:
    step += 1
    print("step", step, flush=True)
    deadline = time.monotonic() + (60 if step in WAITS else 0)
    while not interrupted and time.monotonic() < deadline:
        time.sleep(0.02)
    file.write_text(str(step))
    if interrupted:
        print("saved", step, end="", flush=True)  # a line without an end
        sys.exit(0)
(model / "step").write_text(str(step))
"""


@pytest.fixture(params=["fake", "process", pytest.param("docker", marks=pytest.mark.docker)])
def runtime(request):
    return FakeRuntime() if request.param == "fake" else request.param


@pytest.fixture
def run(make_source, tmp_path):
    """Run a script as a spot job; return the job, whatever became of it."""

    def run(script, runtime, *, submit_only=False, job_name="job-1", **options):
        options = {"use_spot_instances": True, "max_run": 600, "max_wait": 600, **options}
        estimator = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(script),
            runtime=runtime,
            checkpoint_s3_uri=str(tmp_path / "checkpoints"),
            **options,
        )
        job = estimator.submit(job_name=job_name)
        if not submit_only:
            try:
                job.wait(logs=False)
            except launcher.JobFailedError as error:
                job.error = error
        return job

    return run


def counts(*waits):
    return COUNTS.replace("WAITS", repr(waits))


def states(job):
    return [transition["Status"] for transition in job.describe()["SecondaryStatusTransitions"]]


def test_an_interrupted_job_goes_on_from_its_checkpoint(runtime, run):
    """Two interruptions. Everything but the checkpoint is gone each time."""
    plan = ["at-line:^step 2$", "at-line:^step 4$"]
    definitions = [{"Name": "step", "Regex": "step ([0-9]+)"}]
    job = run(counts(2, 4), runtime, spot_interruptions=plan, metric_definitions=definitions)
    assert job.status == "Completed", job.logs()
    assert job.logs().splitlines() == [
        *("begins at 0 with []", "step 1", "step 2", "saved 2"),
        *("begins at 2 with []", "step 3", "step 4", "saved 4"),
        *("begins at 4 with []", "step 5", "step 6"),
    ]
    assert sorted(path.name for path in job.outputs.model_path.iterdir()) == ["of-4", "step"]
    run_once = ["Starting", "Downloading", "Training"]
    assert states(job) == [*run_once, "Interrupted", *run_once, "Interrupted", *run_once, "Uploading", "Completed"]
    description = job.describe()
    assert description["EnableManagedSpotTraining"] is True
    assert description["StoppingCondition"]["MaxWaitTimeInSeconds"] == 600
    assert description["FinalMetricDataList"][0]["Value"] == 6
    points = [point.value for point in read_points(job.path / "metrics.jsonl")]
    assert points == [1, 2, 3, 4, 5, 6], "a value each, although the log was read in three attempts"
    assert not (job.path / "work").exists()


def test_the_usage_of_a_job_is_that_of_all_its_attempts(run, store):
    """Each attempt computes for 0.4 s; only the first one has 64 MiB."""
    script = """
import os, pathlib, time
file = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "checkpoints" / "begun"
block = bytearray(1 if file.exists() else 64 << 20)
block[::4096] = b"1" * len(block[::4096])
while time.process_time() < 0.4:
    pass
first = not file.exists()
file.touch()
if first:
    print("ready", flush=True)
    time.sleep(60)
"""
    job = run(script, "process", spot_interruptions=["at-line:ready"])
    assert job.status == "Completed"
    record = store.load("job-1")
    usage, earlier = record.usage["algo-1"], record.attempts[0]["usage"]["algo-1"]
    assert earlier["cpu_seconds"] >= 0.4
    assert usage["cpu_seconds"] >= earlier["cpu_seconds"] + 0.4
    assert usage["memory_peak_bytes"] == earlier["memory_peak_bytes"] >= 64 << 20


def test_an_interruption_comes_after_its_time(run):
    """The first attempt would have taken two seconds, and gets a fifth of one."""
    job = run("import time; time.sleep(2)", FakeRuntime(), spot_interruptions=["after:0.2s"])
    assert job.status == "Completed"
    assert states(job).count("Interrupted") == 1


def test_a_job_that_does_not_heed_sigterm_is_killed_after_the_grace(runtime, run, monkeypatch):
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "0.5")
    script = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
file = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "checkpoints" / "begun"
if not file.exists():
    file.touch()
    print("ready", flush=True)
    time.sleep(60)
print("through", flush=True)
"""
    job = run(script, runtime, spot_interruptions=["at-line:ready"])
    assert job.status == "Completed"
    assert job.logs().splitlines() == ["ready", "through"]


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_job_that_takes_longer_than_it_may_is_stopped(run, store, attempt):
    """In the middle of an attempt, and between two."""
    runtime = FakeRuntime()
    script = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    job = run(script, runtime, submit_only=True, spot_interruptions=["at-line:ready"])
    driver = runner.Driver(store, "job-1", runtime)

    def too_late(method):
        original = getattr(driver, method)

        def late(*arguments):
            original(*arguments)
            driver._record.marks["submitted"]["monotonic"] -= 601

        setattr(driver, method, late)

    too_late("_start" if attempt == 1 else "_begin_again")
    driver.run()
    assert job.status == "Stopped"
    assert job.describe()["SecondaryStatus"] == "MaxWaitTimeExceeded"
    assert states(job).count("Interrupted") == attempt - 1
    assert states(job)[-3:] == ["Stopping", "Uploading", "MaxWaitTimeExceeded"]
    assert len(runtime.started) == 1


def test_without_a_plan_a_spot_job_just_runs(runtime, run):
    job = run(counts(), runtime)
    assert job.status == "Completed"
    assert states(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


class Dead(BaseException):
    """A launcher that was killed."""


@pytest.mark.parametrize("save", range(4, 10))
def test_a_driver_may_die_at_any_record_of_an_interrupted_job(run, store, save):
    """Whichever record is the first that is not written, the next driver goes on, and the result is the same."""
    runtime = FakeRuntime()
    job = run(counts(2), runtime, submit_only=True, spot_interruptions=["at-line:^step 2$"])
    driver = runner.Driver(store, "job-1", runtime)
    original, calls = driver._save, []

    def die_instead_of_recording():
        calls.append(None)
        if len(calls) == save + 1:
            raise Dead
        original()

    driver._save = die_instead_of_recording
    driver.give_up = lambda error: None
    with pytest.raises(Dead):
        driver.run()
    job.wait(logs=False)
    assert job.status == "Completed"
    assert job.logs().splitlines()[-1] == "step 6"
    assert len(runtime.started) == 2, "each attempt ran once"
    assert states(job).count("Interrupted") == 1
    assert sorted(path.name for path in job.outputs.model_path.iterdir()) == ["of-2", "step"]


def test_a_driver_killed_in_the_grace_leaves_the_interruption_to_the_next(run, store):
    """It was recorded that the hosts are to go, and nobody told them."""
    runtime = FakeRuntime()
    job = run(counts(2), runtime, submit_only=True, spot_interruptions=["at-line:^step 2$"])
    driver = runner.Driver(store, "job-1", runtime)
    driver._stop = lambda hosts, reason: _record_only(driver, reason)
    driver.give_up = lambda error: None
    with pytest.raises(Dead):
        driver.run()
    job.wait(logs=False)
    assert job.status == "Completed"
    assert "saved 2" in job.logs().splitlines()


def _record_only(driver, reason):
    driver._record.stop_reason = reason
    driver._record.marks["stopping"] = clock_mark()
    driver._save()
    raise Dead


def test_a_stop_during_an_interruption_ends_the_job(run, monkeypatch):
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "1.5")
    script = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
    job = run(script, "process", submit_only=True, spot_interruptions=["at-line:ready"])
    job.detach()
    deadline = time.monotonic() + 30
    while "told" not in job.logs():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.stop()
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert "Interrupted" not in states(job)
    assert job.logs().count("told") == 1, "it is told once that it has to go"


def test_the_times_of_a_spot_job_count_its_attempts_and_not_what_lies_between(run, store, monkeypatch, capsys):
    """By hand: 100 s and 50 s at work, at 0.4 of the price: 150 s of training, 60 s billed, 60 % saved."""
    monkeypatch.setenv("LAUNCHER_SPOT_PRICE", "0.4")
    runtime = FakeRuntime()
    job = run(counts(), runtime)
    record = store.load("job-1")
    record.marks.pop("started")
    record.attempts = [
        {"reason": "Interrupted", "ended": 1.0, "seconds": 100.0, "training_seconds": 90.0, "exit_codes": {}},
        {"reason": "Interrupted", "ended": 1.0, "seconds": 50.0, "training_seconds": 40.0, "exit_codes": {}},
    ]
    record.billable_seconds = record.run_seconds
    record.marks.pop("training")
    assert record.training_seconds == 130
    store.save("job-1", record)
    description = job.describe()
    assert (description["TrainingTimeInSeconds"], description["BillableTimeInSeconds"]) == (150, 60)
    capsys.readouterr()
    job.wait()
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Training seconds: 150",
        "Billable seconds: 60",
        "Managed Spot Training savings: 60.0%",
    ]


def test_max_run_counts_all_attempts(run, store):
    """The first attempt took all but a second of it: the second is stopped, and its host would have ended itself."""
    runtime = FakeRuntime()
    script = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    job = run(script, runtime, submit_only=True, spot_interruptions=["at-line:ready"], max_run=100)
    driver = runner.Driver(store, "job-1", runtime)
    begin_again = driver._begin_again

    def with_99_seconds(reason):
        begin_again(reason)
        driver._record.attempts[0]["training_seconds"] = 99.5

    driver._begin_again = with_99_seconds
    driver.run()
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert [container.max_run_seconds for container in runtime.started] == [100, 1]


def lose(record, runtime):
    """Take a job's host away, as a platform does that loses a machine."""
    reference = record.executions["algo-1"]
    if isinstance(runtime, FakeRuntime):
        runtime.executions["job-1", "algo-1"].lose()
    elif runtime == "process":
        os.kill(reference["pid"], signal.SIGKILL)
    else:
        subprocess.run(["docker", "rm", "-f", reference["container"]], check=True, capture_output=True)


@pytest.mark.parametrize("retries", [None, 1])
def test_a_job_whose_host_was_lost_begins_again_if_it_may(runtime, run, store, retries):
    job = run(counts(2), runtime, submit_only=True, max_retry_attempts=retries)
    driver = _driving_in_a_thread(job)
    deadline = time.monotonic() + 60
    while "step 2" not in job.logs():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while not store.load("job-1").executions:  # a log may be there before its host is recorded
        time.sleep(0.02)
    lose(store.load("job-1"), runtime)
    if retries:
        while job.logs().count("begins at") < 2:
            assert time.monotonic() < deadline, job.logs()
            time.sleep(0.02)
        job.stop()
    driver.join(60)
    if retries is None:
        assert job.status == "Failed"
        assert job.failure_reason.startswith("InternalServerError: ")
        assert job.failure_reason.endswith(", exit code: 137")
    else:
        assert job.status == "Stopped"
        run_once = ["Starting", "Downloading", "Training"]
        assert states(job)[:6] == [*run_once, *run_once]
        assert any("attempt 1 is repeated: InternalServerError: " in warning for warning in job.warnings)


def test_a_host_that_was_lost_while_nobody_drove_the_job_is_replaced_by_the_next_driver(run, store):
    runtime = FakeRuntime()
    job = run(counts(), runtime, submit_only=True, max_retry_attempts=1)
    first = runner.Driver(store, "job-1", runtime)
    for step in ("fetch_channels", "write_config"):
        first.step(step, getattr(first, f"_{step}"))
    first._prepare_folders()
    for step in ("prepare", "start"):
        first.step(step, getattr(first, f"_{step}"))
    lose(store.load("job-1"), runtime)
    job.wait(logs=False)
    assert job.status == "Completed"
    assert [attempt["reason"] for attempt in store.load("job-1").attempts] == [
        "InternalServerError: the fake was removed, not by the launcher"
    ]


def _driving_in_a_thread(job):
    def wait():
        with contextlib.suppress(launcher.JobFailedError):
            job.wait(logs=False)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_script_that_fails_is_not_tried_again(run):
    """AWS retries an InternalServerError alone."""
    runtime = FakeRuntime()
    job = run("raise SystemExit(3)", runtime, max_retry_attempts=5)
    assert job.status == "Failed"
    assert len(runtime.started) == 1


def test_random_interruptions_are_a_function_of_seed_and_attempt():
    first = [interruption_of(["random:0.1:7"], attempt).after_seconds for attempt in (1, 2, 3)]
    assert first == [interruption_of(["random:0.1:7"], attempt).after_seconds for attempt in (1, 2, 3)]
    assert len(set(first)) == 3
    many = [interruption_of([f"random:0.1:{seed}"], 1).after_seconds for seed in range(1000)]
    assert 9 < sum(many) / len(many) < 10, "the mean of a wait with 0.1 a second: -1 / ln 0.9, 9.5 s"
    assert interruption_of(["after:2m", "at-line:x"], 1).after_seconds == 120
    assert interruption_of(["after:2m", "at-line:x"], 2).pattern == "x"
    assert interruption_of(["after:2m", "at-line:x"], 3) is None
