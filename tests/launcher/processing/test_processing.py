"""What a processing job sees, leaves and suffers: nothing is lost, and nothing is said to be there that is not."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.errors import BadInputError, JobExistsError, OutputPathError, RuntimeUnavailableError
from launcher.processing_jobs.driver import ProcessingDriver
from launcher.running import runner
from launcher.sdk.processing import Processor
from launcher.sdk.processing_inputs import NetworkConfig, ProcessingInput, ProcessingOutput
from launcher.storage import bucket_storage, which_s3
from tests.fakes import FakeRuntime
from tests.shell import launcher_environment, run_launcher

COPIES = """
    out = base / "processing/output"
    data = base / "processing/input/data"
    for path in sorted(data.rglob("*.csv")):
        target = out / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().upper())
    (base / "output/message").write_text("three files")
"""
WAITS = """
    import signal, sys, time
    def stop(*_):
        (base / "processing/output/saved").write_text("saved")
        sys.exit(3)
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep(60)
"""
RUNTIMES = ["fake", "process", "process-without-namespaces", pytest.param("docker", marks=pytest.mark.docker)]
TWO_HOSTS = ["fake", "process", pytest.param("docker", marks=pytest.mark.docker)]


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def runtime(request, monkeypatch):
    if request.param == "process-without-namespaces":
        monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
        return "process"
    return FakeRuntime() if request.param == "fake" else request.param


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_a_job_reads_its_inputs_writes_its_outputs_and_leaves_a_message(runtime, bench):
    job = bench.run(COPIES, runtime, inputs=[bench.input()])
    assert job.status == "Completed"
    assert bench.written() == {"a.csv": "A", "b.csv": "B", "deep/c.csv": "C"}
    assert bench.written(bench.data) == {"a.csv": "a", "b.csv": "b", "deep/c.csv": "c"}
    assert (job.exit_message, job.failure_reason, job.warnings) == ("three files", "", [])
    assert not (job.path / "work").exists()
    description = job.describe()
    assert description["ProcessingJobStatus"] == "Completed"
    assert description["ExitMessage"] == "three files"
    assert description["CreationTime"] <= description["ProcessingStartTime"] <= description["ProcessingEndTime"]


STREAMS = """
    import json
    host = json.loads((base / "config/resourceconfig.json").read_text())["current_host"]
    out = base / "processing/output"
    for name in ("plain_0", "plain_1", "deep/packed_0"):
        (out / f"{host}-{name[-8:]}").write_text((base / "processing" / name).read_text())
"""


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)], indirect=True)
def test_pipe_inputs_are_streams_at_their_local_path_epoch_after_epoch(runtime, bench):
    packed = bench.path / "packed"
    packed.mkdir()
    for name, text in (("1.gz", "one"), ("2.gz", "two")):
        (packed / name).write_bytes(gzip.compress(text.encode()))
    pipe = {"s3_input_mode": "Pipe", "s3_data_distribution_type": "ShardedByS3Key"}
    inputs = [
        ProcessingInput(str(bench.data), "/opt/ml/processing/plain", s3_input_mode="Pipe"),
        bench.input(packed, "deep/packed", s3_compression_type="Gzip", **pipe),
    ]
    job = bench.run(STREAMS, runtime, inputs=inputs, instance_count=2)
    assert (job.status, job.failure_reason) == ("Completed", "")
    whole = {"plain_0": "abc", "plain_1": "abc"}
    parts = ({**whole, "packed_0": "one"}, {**whole, "packed_0": "two"})
    assert bench.written() == {
        f"algo-{number}-{name}": text for number, part in enumerate(parts, 1) for name, text in part.items()
    }


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_a_script_that_fails_fails_the_job_and_its_outputs_stay_here(runtime, bench):
    """As on AWS, what is uploaded at the end is uploaded when the job has completed; here it is not thrown away."""
    job = bench.run(COPIES + "    raise SystemExit(3)\n", runtime, inputs=[bench.input()])
    assert job.status == "Failed"
    assert job.failure_reason == "AlgorithmError: , exit code: 3"
    assert job.exit_message == "three files"
    assert "exited with 3" in str(job.error)
    assert not bench.output.exists()
    assert bench.written(job.path / "incomplete" / "result")["a.csv"] == "A"
    assert job.warnings == [
        f"the output 'result' was not uploaded, since the job did not complete: {job.path}/incomplete/result"
    ]


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)], indirect=True)
def test_what_is_uploaded_continuously_is_there_before_the_end_and_after_a_stop(runtime, bench):
    script = "import time; (base / 'processing/output/first').write_text('1'); time.sleep(60)"
    job = bench.submit(script, runtime, outputs=bench.outputs("Continuous"))
    job.detach()
    wait_until(lambda: (bench.output / "first").exists())
    assert job.status == "InProgress"
    job.stop()
    assert job.status == "Stopped"
    assert bench.written() == {"first": "1"}


@pytest.mark.parametrize("runtime", TWO_HOSTS, indirect=True)
@pytest.mark.parametrize("distribution", ["ShardedByS3Key", "FullyReplicated"])
def test_two_hosts_share_out_the_files_or_have_all_of_them(runtime, distribution, bench):
    job = bench.run(
        """
        import json
        config = json.loads((base / "config/resourceconfig.json").read_text())
        paths = sorted((base / "processing/input/data").rglob("*.csv"))
        host = config["current_host"]
        (base / f"processing/output/{host}").write_text(" ".join(path.read_text() for path in paths))
        (base / "output/message").write_text(f"{host} of {config['hosts']};")
        """,
        runtime,
        inputs=[bench.input(s3_data_distribution_type=distribution)],
        instance_count=2,
    )
    assert job.status == "Completed"
    is_sharded = distribution == "ShardedByS3Key"
    assert bench.written() == {"algo-1": "a c" if is_sharded else "a b c", "algo-2": "b" if is_sharded else "a b c"}
    hosts = "['algo-1', 'algo-2']"
    assert job.exit_message == f"algo-1 of {hosts};algo-2 of {hosts};"


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_inputs_may_lie_inside_one_another(runtime, bench, tmp_path):
    """The script lies in ``input/code``; nothing is copied but that, and no folder of the user's gets a new one."""
    other = tmp_path / "other.txt"
    other.write_text("o")
    job = bench.run(
        """
        root = base / "processing/input"
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        print(*names)
        print((root / "a.csv").read_text(), (root / "deep/more/other.txt").read_text())
        """,
        runtime,
        inputs=[bench.input(path="input"), bench.input(other, "input/deep/more", input_name="other")],
    )
    assert job.status == "Completed"
    assert job.logs().splitlines()[-2:] == [
        "a.csv b.csv code/clean.py deep/c.csv deep/more/other.txt",
        "a o",
    ]
    assert sorted(path.name for path in bench.data.iterdir()) == ["a.csv", "b.csv", "deep"]


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)], indirect=True)
def test_an_input_cannot_be_changed_and_the_programs_folder_can(runtime, bench):
    """The SDK's own programs unpack their source beside themselves; data are the user's."""
    job = bench.run(
        """
        (base / "processing/input/code/made").write_text("x")
        try:
            (base / "processing/input/data/a.csv").write_text("spoiled")
        except OSError as error:
            print(error.strerror)
        """,
        runtime,
        inputs=[bench.input()],
    )
    assert job.status == "Completed"
    assert "Read-only file system" in job.logs()
    assert (bench.data / "a.csv").read_text() == "a"


def test_the_program_and_its_arguments_are_those_of_the_request(bench):
    runtime = FakeRuntime()
    script = "import sys; print(sys.argv[1:], os.environ['COLOUR'])"
    job = bench.run(script, runtime, arguments=["--a", "b c"], env={"COLOUR": "red"})
    assert job.logs() == "['--a', 'b c'] red\n"
    container = runtime.started[0]
    assert container.entry_point == ("python3", "/opt/ml/processing/input/code/clean.py")
    assert container.arguments == ("--a", "b c"), "no 'train' is added"
    assert container.labels["launcher.job"] == "processing-jobs/job-1"
    assert "TRAINING_JOB_NAME" not in container.environment


def test_an_image_without_a_command_runs_as_it_is(bench):
    plan = Processor(image_uri="mine:1", runtime=FakeRuntime()).plan(job_name="job-1")
    assert (plan.containers[0].image, plan.containers[0].entry_point, plan.containers[0].arguments) == (
        "mine:1",
        (),
        (),
    )


def test_the_job_is_told_what_it_is(bench):
    job = bench.run("print((base / 'config/processingjobconfig.json').read_text())", inputs=[bench.input()])
    config = json.loads(job.logs())
    description = job.describe()
    assert config["ProcessingJobArn"] == description["ProcessingJobArn"]
    for member in ("ProcessingJobName", "AppSpecification", "ProcessingInputs", "ProcessingOutputConfig"):
        assert config[member] == description[member]
    assert "Launcher" not in config


def test_a_message_that_is_no_utf_8_fails_the_job_as_on_aws(bench):
    job = bench.run("(base / 'output/message').write_bytes(b'caf\\xe9 and more')")
    assert (job.status, job.exit_message) == ("Failed", "")
    assert job.failure_reason == "ClientError: /opt/ml/output/message of algo-1 is not UTF-8."


def test_a_message_is_cut_at_a_kilobyte_and_at_a_whole_character(bench):
    """By hand: 1023 bytes of 'x', and the first byte of two of 'é', which is left out."""
    job = bench.run("(base / 'output/message').write_text('x' * 1023 + 'é' * 100, encoding='utf-8')")
    assert job.status == "Completed"
    assert job.exit_message == "x" * 1023


def test_outputs_without_files_and_app_managed_ones_leave_nothing(bench):
    managed = ProcessingOutput("/opt/ml/processing/own", str(bench.path / "own"), "own", app_managed=True)
    job = bench.run("(base / 'processing/own/x').write_text('x')", outputs=[*bench.outputs(), managed])
    assert job.status == "Completed"
    assert not bench.output.exists()
    assert not (bench.path / "own").exists()


def test_an_app_managed_input_is_not_looked_for(bench):
    given = ProcessingInput("s3://nowhere/at/all", None, "own", app_managed=True)
    assert bench.run("print('ok')", inputs=[given], outputs=[]).status == "Completed"


def test_objects_come_from_and_go_to_the_s3_that_is_built_in(bench, monkeypatch):
    storage = bucket_storage(which_s3())
    storage.make_bucket("s3://logs")
    storage.upload_all({bench.data / "a.csv": "s3://logs/raw/a.csv", bench.data / "b.csv": "s3://logs/raw/deep/b.csv"})
    outputs = [ProcessingOutput("/opt/ml/processing/output", "s3://logs/clean", "result")]
    job = bench.run(COPIES, "process", inputs=[bench.input("s3://logs/raw")], outputs=outputs)
    assert job.status == "Completed"
    assert list(storage.keys("s3://logs", "clean")) == ["clean/a.csv", "clean/deep/b.csv"]


# --- stopped -------------------------------------------------------------------------------------------------------


def test_a_job_that_is_stopped_before_it_starts_never_starts(bench):
    runtime = FakeRuntime()
    job = bench.submit(COPIES, runtime, inputs=[bench.input()])
    bench.store.folder("job-1").request_stop()
    job.wait(logs=False)
    assert (job.status, runtime.started) == ("Stopped", [])


def test_a_job_that_is_stopped_gets_sigterm_and_its_outputs_stay_here(bench):
    job = bench.submit(WAITS, "process")
    job.detach()
    wait_until(lambda: "ready" in job.logs())
    job.stop()
    assert (job.status, job.failure_reason) == ("Stopped", "")
    assert not bench.output.exists()
    assert bench.written(job.path / "incomplete" / "result") == {"saved": "saved"}


@pytest.mark.parametrize("step", ["_fetch_channels", "_write_config", "_prepare", "_start", "_reclaim", "_collect"])
def test_a_stop_in_every_phase_ends_the_job(bench, step):
    """Asked for while a step is under way; a job whose hosts had ended by then completes."""
    runtime = FakeRuntime()
    job = bench.submit(COPIES if step in ("_reclaim", "_collect") else WAITS, runtime, inputs=[bench.input()])
    driver = ProcessingDriver(bench.store, "job-1", runtime)
    effect = getattr(driver, step)

    def stopped_meanwhile():
        bench.store.folder("job-1").request_stop()
        effect()

    setattr(driver, step, stopped_meanwhile)
    driver.run()
    assert job.status == ("Completed" if step in ("_reclaim", "_collect") else "Stopped")
    assert not (job.path / "work").exists()


def test_a_job_that_runs_too_long_is_stopped(bench):
    job = bench.run(WAITS, max_runtime_in_seconds=1)
    assert (job.status, job.failure_reason) == ("Stopped", "")


# --- killed --------------------------------------------------------------------------------------------------------


class Dead(BaseException):
    """A launcher that was killed: nothing of it may run on, so nothing may catch it."""


@pytest.mark.parametrize(
    "killed_before_recording", ["fetch_channels", "write_config", "prepare", "start", "follow", "reclaim", "collect"]
)
def test_a_launcher_may_die_after_any_step_and_the_next_one_finishes(bench, killed_before_recording):
    runtime = FakeRuntime()
    job = bench.submit(COPIES, runtime, inputs=[bench.input(path="input"), bench.input()])
    first = ProcessingDriver(bench.store, "job-1", runtime)
    save = first._save

    def die_instead_of_recording():
        if killed_before_recording in first._record.steps:
            raise Dead
        save()

    first._save = die_instead_of_recording
    first.give_up = lambda error: None  # a killed process gives nothing up
    with pytest.raises(Dead):
        first.run()
    assert str(bench.store.load("job-1").status) == "InProgress"
    job.wait(logs=False)
    assert job.status == "Completed"
    assert bench.written() == {"a.csv": "A", "b.csv": "B", "deep/c.csv": "C"}
    assert job.exit_message == "three files"
    assert len(runtime.started) == 1, "the job ran once"
    assert not (job.path / "work").exists()


@pytest.mark.slow
def test_a_job_whose_driver_was_killed_is_taken_up_by_whoever_looks_at_it(bench, tmp_path):
    job = bench.submit(
        """
        import time
        print("ready", flush=True)
        time.sleep(4)
        (base / "processing/output/late").write_text("late")
        """,
        "process",
    )
    driver = subprocess.Popen(
        [sys.executable, "-m", "launcher", "drive", "job-1", "--kind", "processing-jobs"],
        env=launcher_environment(),
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: "ready" in job.logs())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until(lambda: "had no driver" in run_launcher("ls", "--kind", "processing", cwd=tmp_path).stderr)
    wait_until(lambda: job.status == "Completed")
    assert bench.written() == {"late": "late"}


def test_a_place_that_takes_no_results_at_the_end_loses_none(bench):
    """What could not be uploaded is left where it is, and uploaded when somebody asks again."""
    job = bench.submit(f"{COPIES}    open({str(bench.output)!r}, 'w').close()", inputs=[bench.input()])
    with pytest.raises(OutputPathError, match="cannot be written"):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert any("launcher collect job-1" in text for text in job.warnings)
    bench.output.unlink()
    answer = run_launcher("collect", "job-1", "--kind", "processing", cwd=bench.path)
    assert answer.returncode == 0, answer.stderr
    assert bench.written() == {"a.csv": "A", "b.csv": "B", "deep/c.csv": "C"}


# --- refused before anything is recorded ---------------------------------------------------------------------------


def refused(bench, error, match, **options):
    with pytest.raises(error, match=match):
        bench.submit("print('no')", **options)
    assert not bench.store.folder("job-1").path.exists()


def test_what_cannot_run_is_refused_and_leaves_nothing(bench):
    refused(bench, BadInputError, "does not exist", inputs=[bench.input(bench.path / "none")])
    inside = [ProcessingOutput("/opt/ml/processing/output", str(bench.data / "out"))]
    refused(bench, OutputPathError, "lies inside the input", inputs=[bench.input()], outputs=inside)
    with pytest.raises(RuntimeUnavailableError, match="cannot run the image mine:1"):
        Processor(image_uri="mine:1", runtime="process").submit(job_name="job-1")
    assert not bench.store.folder("job-1").path.exists()
    bench.submit("print('yes')")
    with pytest.raises(JobExistsError, match="Processing job names must be unique within an AWS account and region"):
        bench.submit("print('no')")


def test_without_a_network_the_job_has_none(bench):
    job = bench.run(
        "import socket; print([name for _, name in socket.if_nameindex()])",
        "process",
        network_config=NetworkConfig(enable_network_isolation=True),
    )
    assert job.logs() == "['lo']\n"


def test_what_is_kept_and_changes_nothing_is_named_in_the_warnings(bench):
    network = NetworkConfig(subnets=["s"], security_group_ids=["sg"])
    job = bench.submit("print('yes')", volume_size_in_gb=100, output_kms_key="key", network_config=network)
    assert [text.partition(" has no effect here")[0] for text in job.warnings] == [
        "ProcessingResources.ClusterConfig.VolumeSizeInGB=100",
        "ProcessingOutputConfig.KmsKeyId='key'",
        "NetworkConfig.VpcConfig={'SecurityGroupIds': ['sg'], 'Subnets': ['s']}",
    ]
    assert job.describe()["NetworkConfig"]["VpcConfig"]["Subnets"] == ["s"]


def test_a_manifest_names_the_files_of_an_input(bench):
    manifest = bench.path / "files.manifest"
    manifest.write_text(json.dumps([{"prefix": f"file://{bench.data}/"}, "a.csv", "deep/c.csv"]))
    job = bench.run(COPIES, "process", inputs=[bench.input(manifest, s3_data_type="ManifestFile")])
    assert job.status == "Completed"
    assert bench.written() == {"a.csv": "A", "deep/c.csv": "C"}


def test_leftovers_of_a_job_are_found(bench, tmp_path):
    """The work folder of a job whose results could not be collected is named, and removed when that is asked for."""
    job = bench.run(COPIES)
    (job.path / "work" / "algo-1").mkdir(parents=True)
    answer = run_launcher("gc", "--all", "--dry-run", cwd=tmp_path)
    assert f"{job.path}/work" in answer.stdout
    assert "processing job 'job-1'" in answer.stdout


def test_no_driver_shares_the_runners_words(bench):
    """Transitions speak of processing, not of training."""
    job = bench.run(COPIES)
    messages = [move.message for move in bench.store.load(job.name).transitions]
    assert messages[0] == "Starting the processing job"
    assert messages[-1] == "Processing job completed"
    assert runner.Driver.activity == "training"


def test_the_launchers_python_runs_scripts(bench):
    assert bench.run("import sys; print(sys.prefix)", "process").logs().strip() == sys.prefix
    assert os.environ["LAUNCHER_HOME"] == str(Path(bench.store.home))
