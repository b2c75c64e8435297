"""What can go wrong around a job, and that nothing is lost or left behind by it."""

import json
import shutil
import time

import pytest

import launcher
from launcher import errors
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.store import JobRecord
from launcher.running import runner
from tests.fakes import FakeRuntime

WRITES_MODEL = "import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m'); print('done')"


class Dead(BaseException):
    """A launcher that was killed: nothing of it may run on, so nothing may catch it."""


@pytest.fixture
def submitted(make_source):
    """Submit a job on a fake; return it with its runtime."""

    def submit(script=WRITES_MODEL, mode=None, **options):
        runtime = FakeRuntime(**options)
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(script), runtime=runtime, mode=mode
        )
        return estimator.submit(job_name="job-1"), runtime

    return submit


def driver(store, runtime):
    return runner.Driver(store, "job-1", runtime)


STEPS = ["fetch_channels", "write_config", "prepare", "start", "follow", "reclaim", "collect"]


@pytest.mark.parametrize("mode", ["local", "s3"])
@pytest.mark.parametrize("killed_before_recording", STEPS)
def test_a_launcher_may_die_after_any_step_and_the_next_one_finishes(submitted, store, killed_before_recording, mode):
    """The step's effect has happened, its record has not: it happens again, and the result is the same."""
    job, runtime = submitted(mode=mode)
    first = driver(store, runtime)
    save = first._save

    def die_instead_of_recording():
        if killed_before_recording in first._record.steps:
            raise Dead
        save()

    first._save = die_instead_of_recording
    first.give_up = lambda error: None  # a killed process gives nothing up
    with pytest.raises(Dead):
        first.run()
    assert job.status == "InProgress"
    job.wait(logs=False)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").read_text() == "m"
    assert len(runtime.started) == 1, "the job ran once"
    assert not (job.path / "work").exists()


def test_a_launcher_may_die_just_before_the_last_record(submitted, store):
    """Everything is packed and cleared away; only the status is missing."""
    job, runtime = submitted()
    first = driver(store, runtime)

    def die(*_arguments):
        raise Dead

    first._end = die
    first.give_up = lambda error: None
    with pytest.raises(Dead):
        first.run()
    assert not (job.path / "work").exists()
    job.wait(logs=False)
    assert job.status == "Completed"
    assert len(runtime.started) == 1


def test_a_stop_that_died_with_its_launcher_is_asked_for_again(submitted, store):
    """It was recorded that SIGTERM is due, and nobody sent it."""
    script = """
import os, signal, sys, time
def stop(*_):
    open(os.environ["SM_MODEL_DIR"] + "/saved", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    job, runtime = submitted(script)
    first = driver(store, runtime)
    for step, effect in (
        ("fetch_channels", first._fetch_channels),
        ("write_config", first._write_config),
        ("prepare", first._prepare),
        ("start", first._start),
    ):
        first.step(step, effect)
    while "ready" not in job.logs():
        time.sleep(0.05)
    store.folder("job-1").request_stop()
    first._stop_if_due({})
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert (job.outputs.model_path / "saved").exists(), "SIGTERM came, and not just SIGKILL after the grace"


def test_a_finished_step_is_not_done_again(submitted, store):
    job, runtime = submitted()
    job.wait(logs=False)
    before = store.folder("job-1").record_path.read_bytes()
    job.wait(logs=False)
    assert store.folder("job-1").record_path.read_bytes() == before
    assert len(runtime.started) == 1


def test_the_source_is_kept_as_it_was_when_the_job_was_submitted(submitted, tmp_path):
    job, _ = submitted("print('old')")
    (tmp_path / "source" / "train.py").write_text("print('new')")
    job.wait(logs=False)
    assert job.logs() == "old\n"


def test_a_container_that_cannot_start_fails_the_job_and_leaves_nothing(submitted):
    job, _ = submitted(start_error=errors.ImageError("image 'x' cannot run 'train'", "Mend it."))
    with pytest.raises(errors.ImageError):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert job.failure_reason == "ClientError: image 'x' cannot run 'train'"
    assert not (job.path / "work").exists()


def test_an_image_that_cannot_be_built_fails_the_job(submitted):
    job, _ = submitted(prepare_error=errors.ImageError("no space", "Make some."))
    with pytest.raises(errors.ImageError):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert not (job.path / "work").exists()


def test_ctrl_c_before_the_job_runs_stops_it(submitted):
    job, _ = submitted(prepare_error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        job.wait(logs=False)
    assert job.status == "Stopped"
    assert not (job.path / "work").exists()


def test_a_job_stopped_before_it_ran_never_starts(submitted, store):
    job, runtime = submitted()
    store.folder("job-1").request_stop()
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert runtime.started == []


def test_an_engine_that_goes_away_fails_the_job_and_keeps_what_there_is(submitted, monkeypatch, store):
    job, runtime = submitted("import os, time; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m'); time.sleep(60)")
    start = runtime.start

    def start_then_lose(container):
        execution = start(container)
        waits = iter(range(10))

        def wait(seconds):
            if next(waits) < 5:
                return type(execution).wait(execution, seconds)
            execution.wait = lambda s: type(execution).wait(execution, s)
            raise errors.RuntimeUnavailableError("the engine went away", "Look.")

        execution.wait = wait
        return execution

    runtime.start = start_then_lose
    with pytest.raises(errors.RuntimeUnavailableError):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert "the engine went away" in job.failure_reason
    assert runtime.executions["job-1"].removed
    assert (job.path / "work" / "opt_ml" / "model" / "m").read_text() == "m"
    assert any("work/opt_ml" in line for line in job.warnings)


def test_a_disk_that_fills_up_while_packing_loses_no_result(submitted, store):
    """The archive's other name leads to a device that takes no byte."""
    job, runtime = submitted()
    work = store.folder("job-1").work_path
    work.mkdir(exist_ok=True)
    (work / "model.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(errors.ArtifactError, match="No space left"):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert (work / "opt_ml" / "model" / "m").read_text() == "m"
    assert not (job.path / "output" / "model.tar.gz").exists()
    assert runtime.executions["job-1"].removed


def test_what_could_not_be_packed_is_said(submitted):
    job, _ = submitted("import os; os.mkfifo(os.environ['SM_MODEL_DIR'] + '/pipe'); " + WRITES_MODEL)
    job.wait(logs=False)
    assert job.warnings == ["not packed: pipe: a socket, pipe or device"]


def test_folders_that_the_job_sealed_do_not_stay(submitted):
    job, _ = submitted("import os; os.makedirs('d/e'); os.chmod('d', 0); " + WRITES_MODEL)
    job.wait(logs=False)
    assert not (job.path / "work").exists()


def test_an_error_of_our_own_is_no_client_error(submitted, monkeypatch):
    job, runtime = submitted()
    runtime.prepare = lambda container: 1 / 0
    with pytest.raises(ZeroDivisionError):
        job.wait(logs=False)
    assert job.failure_reason == "InternalServerError: ZeroDivisionError: division by zero"


def test_a_failure_file_that_is_a_link_is_not_followed(submitted, tmp_path):
    (tmp_path / "secret").write_text("secret")
    target = str(tmp_path / "secret")
    script = f"import os, sys; os.symlink({target!r}, os.environ['SM_OUTPUT_DIR'] + '/failure'); sys.exit(1)"
    job, _ = submitted(script)
    with pytest.raises(errors.JobFailedError):
        job.wait(logs=False)
    assert "secret" not in job.failure_reason


def test_a_record_without_its_folder_is_an_unknown_job(store):
    store.create("job-1", JobRecord(spec=TrainingJobSpec(job_name="job-1", runtime="process").to_dict(), created=1.0))
    job = launcher.TrainingJob("job-1")
    shutil.rmtree(job.path)
    with pytest.raises(errors.JobNotFoundError):
        _ = job.status


def test_the_record_says_which_steps_are_done(submitted, store):
    job, _ = submitted()
    job.wait(logs=False)
    steps = json.loads(store.folder("job-1").record_path.read_text())["steps"]
    assert list(steps) == ["pack_source", *STEPS]
