"""What can go wrong around a job, and that nothing is lost or left behind by it."""

import json
import shutil
import time

import pytest

import launcher
from launcher import errors
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import ContainerSpec, TrainingJobSpec
from launcher.jobs.store import JobStore
from launcher.running import runner
from launcher.running.plan import with_s3_address
from launcher.running.stages import hosts
from launcher.runtimes import get_runtime
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
    first._stop_if_due(hosts.Hosts(runtime, (), {}))  # nobody of whom it knows gets the signal
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


def losing(execution, runtime, silent_looks):
    """Have an execution's engine go away, and be silent to so many looks for the job."""
    looks = iter(range(silent_looks))

    def wait(seconds):
        raise errors.RuntimeUnavailableError("the engine went away", "Look.")

    def find(container):
        if next(looks, None) is not None:
            raise errors.RuntimeUnavailableError("no engine answers", "Start it.")
        vars(execution).pop("wait", None)
        return execution

    execution.wait, runtime.find = wait, find
    return execution


def test_an_engine_that_goes_away_for_a_while_costs_a_job_nothing(submitted, monkeypatch, store):
    """Unknown is a state: it can be seen, and the job is taken up where it is when the engine answers again."""
    monkeypatch.setattr(hosts, "LOOKING_SECONDS", 0.05)
    job, runtime = submitted("import time; time.sleep(1); " + WRITES_MODEL)
    start, find = runtime.start, runtime.find
    runtime.start = lambda container: losing(start(container), runtime, silent_looks=3)
    seen = []
    save = JobStore.save

    def note(self, name, record):
        seen.append(record.unknown_since)
        save(self, name, record)

    monkeypatch.setattr(JobStore, "save", note)
    job.wait(logs=False)
    runtime.find = find
    assert job.status == "Completed"
    assert any(since is not None for since in seen), "whoever asks meanwhile is told since when"
    assert seen[-1] is None
    assert any("the job's state is unknown: the engine went away" in line for line in job.warnings)
    assert any("answered again" in line for line in job.warnings)
    assert (job.outputs.model_path / "m").exists()


def test_a_stop_reaches_a_job_whose_engine_was_away_when_it_was_asked_for(submitted, monkeypatch, store):
    monkeypatch.setattr(hosts, "LOOKING_SECONDS", 0.05)
    job, runtime = submitted("import time; time.sleep(60)")
    start = runtime.start
    runtime.start = lambda container: losing(start(container), runtime, silent_looks=5)
    silence = runner.Driver._tell_of_silence

    def stop_while_silent(self, hosts):
        if hosts.silence:
            store.folder("job-1").request_stop()
        silence(self, hosts)

    monkeypatch.setattr(runner.Driver, "_tell_of_silence", stop_while_silent)
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert runtime.executions["job-1", "algo-1"].removed


def test_a_job_that_its_engine_knows_nothing_of_when_it_is_back_was_killed(submitted, monkeypatch):
    monkeypatch.setattr(hosts, "LOOKING_SECONDS", 0.05)
    job, runtime = submitted("import time; time.sleep(60)")
    start = runtime.start

    def start_then_lose(container):
        execution = losing(start(container), runtime, silent_looks=1)
        runtime.find = lambda container: None
        execution.kill()
        return execution

    runtime.start = start_then_lose
    with pytest.raises(errors.JobFailedError):
        job.wait(logs=False)
    assert job.describe()["TrainingJobStatus"] == "Failed"
    assert "algo-1 was gone when it was looked for" in job.warnings


def test_a_disk_that_fills_up_while_packing_loses_no_result(submitted, store):
    """The archive's other name leads to a device that takes no byte."""
    job, runtime = submitted()
    work = store.folder("job-1").work_path
    work.mkdir(exist_ok=True)
    (work / "model.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(errors.ArtifactError, match="No space left"):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert (work / "algo-1" / "opt_ml" / "model" / "m").read_text() == "m"
    assert not (job.path / "output" / "model.tar.gz").exists()
    assert runtime.executions["job-1", "algo-1"].removed


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
    assert list(steps) == STEPS


def test_code_inside_never_gets_real_aws_in_place_of_an_s3_out_of_reach(make_source):
    """Without any endpoint boto3 asks AWS: a job whose S3 cannot be reached gets an address that refuses."""

    class Remote(FakeRuntime):
        @property
        def host_address(self):
            raise errors.RuntimeUnavailableError("the engine is on another machine")

    script = """
import os, boto3, botocore.exceptions, botocore.config
print("endpoint", os.environ["AWS_ENDPOINT_URL"] == os.environ["AWS_ENDPOINT_URL_S3"])
client = boto3.client("s3", config=botocore.config.Config(retries={"total_max_attempts": 1}))
try:
    client.list_buckets()
except botocore.exceptions.EndpointConnectionError as error:
    print("refused", error)
"""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime=Remote(), mode="s3")
    estimator.fit(logs=False, job_name="job-1")
    lines = estimator.latest_training_job.logs().splitlines()
    assert "endpoint True" in lines
    assert any("refused" in line and "out-of-its-reach" in line for line in lines), lines
    warnings = json.loads((estimator.latest_training_job.path / "job.json").read_text())["warnings"]
    assert any("cannot reach its S3" in warning for warning in warnings)


def test_only_the_planned_endpoint_is_replaced():
    """A variable of the user's own that happens to hold the same text is the user's."""
    planned, reached = "http://127.0.0.1:9000", "http://172.17.0.1:9000"
    container = ContainerSpec(
        job_name="job-1",
        host="algo-1",
        image="",
        entry_point=(),
        arguments=("train",),
        environment={"MIRROR": planned, "AWS_ENDPOINT_URL": "http://mine:1", "AWS_ENDPOINT_URL_S3": planned},
        mounts=(),
        state_path="",
        log_path="",
    )
    assert with_s3_address(container, planned, reached).environment == {
        "MIRROR": planned,
        "AWS_ENDPOINT_URL": "http://mine:1",
        "AWS_ENDPOINT_URL_S3": reached,
    }
    assert with_s3_address(container, "", "").environment == container.environment


def test_time_in_a_queue_is_no_training_time(make_source):
    """Four seconds of waiting do not count for a limit of three."""
    runtime = FakeRuntime(queue_seconds=4)
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source("import time; time.sleep(4)"), runtime=runtime, max_run=3
    )
    estimator.fit(logs=False, job_name="job-1")
    description = estimator.latest_training_job.describe()
    assert description["TrainingJobStatus"] == "Completed", description
    states = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Pending", "Training", "Uploading", "Completed"]


def test_a_job_that_waits_in_a_queue_can_be_stopped(make_source, store):
    runtime = FakeRuntime(queue_seconds=60)
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source("import time; time.sleep(60)"), runtime=runtime
    )
    job = estimator.submit(job_name="job-1")
    store.folder("job-1").request_stop()
    job.wait(logs=False)
    assert job.status == "Stopped"


def test_a_runtime_of_another_package_is_found_by_its_entry_point(make_source, tmp_path, monkeypatch):
    """As its installed package announces it; the record keeps the name for whoever takes the job up."""
    package = tmp_path / "site"
    info = package / "other_runtime-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-runtime\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[launcher.runtimes]\nother = other_runtime:Other\nbroken = other_runtime:Missing\nint = builtins:int\n"
    )
    (package / "other_runtime.py").write_text(
        "from tests.fakes import FakeRuntime\nclass Other(FakeRuntime):\n    name = 'other'\n"
    )
    monkeypatch.syspath_prepend(str(package))
    assert isinstance(get_runtime("other"), FakeRuntime)
    monkeypatch.setenv("LAUNCHER_RUNTIME", "other")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source("print('hello')"))
    estimator.fit(logs=False, job_name="job-1")
    assert estimator.latest_training_job.status == "Completed"
    assert json.loads((estimator.latest_training_job.path / "job.json").read_text())["spec"]["runtime"] == "other"
    with pytest.raises(errors.SettingsError, match="cannot be loaded"):
        get_runtime("broken")
    with pytest.raises(errors.SettingsError, match="no subclass"):
        get_runtime("int")
    with pytest.raises(errors.SettingsError, match="auto, broken, docker, int, other, process"):
        get_runtime("unknown")
