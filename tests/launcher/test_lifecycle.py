"""A job outlives whoever looks at it, whoever called it, a full disk and its own folder; nobody drives it twice."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.jobs import clock
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import SecondaryStatus, Status, StopReason
from launcher.running import driving, runner
from launcher.running.accepting import submit
from launcher.running.leftovers import find_leftovers
from launcher.running.stages import following, job_state, starting
from launcher.runtimes import Execution, HostState
from tests.fakes import FakeRuntime
from tests.shell import launcher_environment, run_launcher

TWO_WORDS = """
import time
print("first \\u00fc", flush=True)
while not __import__("os").path.exists({go!r}): time.sleep(0.02)
for number in range(2000): print("later", number, flush=True)
open("/opt/ml/model/m", "w").write("m")
"""


@pytest.fixture
def script(tmp_path):
    """Write a script that prints, waits until the file ``go`` is there, prints much, and leaves a model."""
    path = tmp_path / "train.py"
    path.write_text(TWO_WORDS.format(go=str(tmp_path / "go")))
    return path


@pytest.fixture
def fit(tmp_path, script):
    """Start ``launcher fit`` as a process of its own."""
    processes = []

    def fit(*arguments, command=("fit", "train.py", "-r", "process", "--job-name", "job-1"), **options):
        environment = launcher_environment(**options.pop("variables", {}))
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", *command, *arguments],
            cwd=tmp_path,
            env=environment,
            # A test run that nohup began ignores it, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            **streams,
        )
        processes.append(process)
        return process

    yield fit
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def until_it_prints(home, text="first", name="job-1"):
    log = home / "jobs" / name / "job.log"
    wait_until(lambda: log.exists() and text in log.read_text(errors="replace"))


def until_it_ended(store, name="job-1"):
    wait_until(lambda: store.load(name).terminal)
    return launcher.TrainingJob(name, store)


def supervisors(home):
    """Return the command lines of the processes that see to process jobs of a home."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if "supervisor.py" in line and str(home) in line]


def record(name="job-1", runtime="process"):
    spec = TrainingJobSpec(job_name=name, runtime=runtime)
    return JobRecord(spec=spec.to_dict(), created=1.0)


def ended_record(name):
    ended = record(name)
    ended.move(Status.COMPLETED, SecondaryStatus.COMPLETED, "", 2.0)
    return ended


def settled(store, name="job-1"):
    """Make a record older than the time in which a job changes hands."""
    record = store.load(name)
    path = store.folder(name).record_path
    values = json.loads(path.read_text()) | {"modified": record.modified - 60}
    path.write_text(json.dumps(values))


# The viewer


def test_a_pipe_that_nobody_reads_on_does_not_end_the_job(fit, tmp_path, store):
    process = fit()
    while b"first" not in process.stdout.readline():
        pass
    process.stdout.close()
    (tmp_path / "go").touch()
    assert process.wait(timeout=60) == 0
    assert b"Traceback" not in process.stderr.read()
    job = launcher.TrainingJob("job-1", store)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").exists()
    assert job.warnings == ["the log is no longer printed: BrokenPipeError: [Errno 32] Broken pipe"]


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_an_output_that_lacks_a_character_gets_another_one(fit, tmp_path, store, variables):
    (tmp_path / "go").touch()
    output, said = fit(variables=variables).communicate(timeout=60)
    assert b"first ?" in output or "first ü".encode() in output
    assert b"later 1999" in output
    assert launcher.TrainingJob("job-1", store).warnings == [], said


@pytest.mark.parametrize("closing", [">&-", "1>&- 2>&-", "> /dev/full", "2> /dev/full"])
def test_an_output_that_takes_nothing_does_not_end_the_job(tmp_path, script, store, closing):
    (tmp_path / "go").touch()
    line = f"{sys.executable} -m launcher fit train.py -r process --job-name job-1 {closing}"
    answer = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=launcher_environment(), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    job = launcher.TrainingJob("job-1", store)
    assert job.status == "Completed"
    assert "later 1999" in job.logs()
    assert sorted(json.loads(job.path.joinpath("job.json").read_text())["steps"]) == sorted(
        ["fetch_channels", "write_config", "prepare", "start", "follow", "reclaim", "collect"]
    )


def test_a_sink_of_ones_own_that_raises_is_dropped_with_a_warning(make_source):
    lines = []

    def sink(_host, line):
        lines.append(line)
        raise ValueError("no room")

    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source("print(1)\nprint(2)"), runtime=FakeRuntime()
    )
    job = estimator.submit(job_name="job-1")
    job.wait(on_line=sink)
    assert job.status == "Completed"
    assert lines == ["1"]
    assert job.warnings == ["the log is no longer printed: ValueError: no room"]


def test_looking_at_the_log_of_a_job_without_driver_does_not_harm_it(fit, tmp_path, store, home):
    """`launcher logs -f JOB | head -1`: the command ends, the job has a driver of its own."""
    first = fit()
    until_it_prints(home)
    first.kill()
    first.wait()
    viewer = fit(command=("logs", "-f", "job-1"))
    assert b"first" in viewer.stdout.readline()
    viewer.stdout.close()
    (tmp_path / "go").touch()
    assert viewer.wait(timeout=60) == 0
    said = viewer.stderr.read()
    assert b"Traceback" not in said
    job = until_it_ended(store)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").exists()


def test_a_listing_that_nobody_reads_on_ends_quietly(store, tmp_path):
    for number in range(3):
        store.create(f"job-{number}", ended_record(f"job-{number}"))
    line = f"{sys.executable} -m launcher ls | true"
    answer = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=launcher_environment(), capture_output=True, text=True, check=False
    )
    assert "BrokenPipe" not in answer.stderr
    assert "Traceback" not in answer.stderr


# The caller


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_caller_that_has_to_go_hands_its_job_over_and_says_so(fit, tmp_path, store, home, number):
    process = fit()
    until_it_prints(home)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"job 'job-1' goes on without this process: launcher logs -f job-1" in said
    assert b"Traceback" not in said
    wait_until(store.folder("job-1").driven)
    (tmp_path / "go").touch()
    job = until_it_ended(store)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").exists()
    assert job.logs().count("first") == 1, "it ran once"


def test_a_closed_terminal_takes_no_message_and_the_job_goes_on(fit, tmp_path, store, home):
    """After SIGHUP standard error leads nowhere."""
    process = fit()
    until_it_prints(home)
    process.stderr.close()
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    wait_until(store.folder("job-1").driven)
    (tmp_path / "go").touch()
    assert until_it_ended(store).status == "Completed"


def test_nohup_stays_nohup(tmp_path, script, store, home):
    line = f"exec nohup {sys.executable} -m launcher fit train.py -r process --job-name job-1"
    process = subprocess.Popen(
        ["sh", "-c", line], cwd=tmp_path, env=launcher_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until_it_prints(home)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_program_with_a_handler_of_its_own_keeps_it(tmp_path, make_source, home):
    source = make_source("import time\nprint('first', flush=True)\ntime.sleep(1)")
    program = textwrap.dedent(f"""
        import signal, launcher
        signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
        launcher.Estimator(entry_point="train.py", source_dir={source!r}, runtime="process").fit(job_name="job-1")
        print("the next statement ran")
        """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=launcher_environment(), stdout=subprocess.PIPE, text=True
    )
    until_it_prints(home)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "mine" in output
    assert "the next statement ran" in output


def test_a_stop_that_was_asked_for_is_seen_through_by_the_next_driver(fit, tmp_path, store, home):
    (tmp_path / "train.py").write_text(
        "import signal, time\n"
        "def stop(*_):\n"
        "    time.sleep(1)\n"
        "    open('/opt/ml/model/saved', 'w').close()\n"
        "    raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('first', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = fit()
    until_it_prints(home)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: store.load("job-1").status == Status.STOPPING)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"job 'job-1' is being stopped without this process" in said
    job = until_it_ended(store)
    assert job.status == "Stopped"
    assert (job.outputs.model_path / "saved").exists()


@pytest.mark.parametrize("command", [("ls",), ("describe", "job-1"), ("logs", "job-1")])
def test_a_job_that_nobody_drives_is_taken_up_by_whoever_looks_at_it(fit, tmp_path, store, home, command):
    process = fit()
    until_it_prints(home)
    process.kill()
    process.wait()
    settled(store)
    answer = run_launcher(*command, cwd=tmp_path)
    assert answer.returncode == 0
    assert "job 'job-1' had no driver; a new one was started" in answer.stderr
    wait_until(store.folder("job-1").driven)
    assert run_launcher(*command, cwd=tmp_path).stderr == "", "it has one now"
    (tmp_path / "go").touch()
    job = until_it_ended(store)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").exists()


@pytest.mark.parametrize(
    "ask",
    [
        lambda name: launcher.TrainingJob(name).status,
        lambda name: launcher.Session().describe_training_job(name)["TrainingJobStatus"],
    ],
)
def test_a_loop_in_python_that_waits_for_the_status_of_a_job_without_a_driver_ends(fit, tmp_path, store, capfd, ask):
    process = fit()
    until_it_prints(store.home)
    process.kill()
    process.wait()
    settled(store)
    assert "launcher drive" not in repr(launcher.TrainingJob("job-1"))
    assert not store.folder("job-1").driven(), "a look at it in a debugger starts nothing"
    (tmp_path / "go").touch()
    wait_until(lambda: ask("job-1") == "Completed")
    said = capfd.readouterr().err
    assert said.count("job 'job-1' had no driver; a new one was started") == 1, "the first is on its way"


def test_max_run_holds_after_the_caller_was_killed_and_somebody_looked(fit, tmp_path, store, home):
    process = fit("--max-run", "2")
    until_it_prints(home)
    process.kill()
    process.wait()
    settled(store)
    run_launcher("ls", cwd=tmp_path)
    job = until_it_ended(store)
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_a_job_that_ended_while_nobody_drove_it_is_collected(fit, tmp_path, store, home):
    process = fit()
    until_it_prints(home)
    process.kill()
    process.wait()
    (tmp_path / "go").touch()
    until_it_prints(home, "later 1999")
    settled(store)
    run_launcher("ls", cwd=tmp_path)
    job = until_it_ended(store)
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").exists()


def test_a_job_that_has_just_changed_hands_is_left_alone(store, monkeypatch):
    monkeypatch.setattr(driving, "_SETTLING_SECONDS", 600.0)
    store.create("job-1", record())
    assert driving.take_up(store, "job-1", store.load("job-1")) == ""


def test_a_second_driver_of_its_own_goes_away(store, monkeypatch):
    monkeypatch.setattr(driving, "_SETTLING_SECONDS", 0.2)
    folder = store.create("job-1", record())
    with folder.driving():
        driving.drive_alone(store, "job-1")
    assert not store.load("job-1").terminal


def test_a_job_that_cannot_be_taken_up_is_said_to_have_no_driver(store):
    store.create("job-1", record())
    settled(store)
    (store.folder("job-1").path / "driver.log").mkdir()
    assert "has no driver, and none could be started" in driving.take_up(store, "job-1", store.load("job-1"))


def test_ctrl_c_says_what_it_does_and_where_what_was_kept_is(fit, tmp_path, store, home):
    (tmp_path / "train.py").write_text("import time; print('first', flush=True); time.sleep(60)")
    process = fit()
    until_it_prints(home)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopping job-1; press Ctrl-C again to kill it\n" in said
    assert f"job-1 is Stopped; what it had written is in {home}/jobs/job-1/output".encode() in said


# Steps and hand-overs


STEPS = ["fetch_channels", "write_config", "prepare", "start", "follow", "reclaim", "collect"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*STEPS, "finish"])
def test_a_job_may_be_handed_over_around_any_step(make_source, store, monkeypatch, step, when):
    """SIGTERM comes while the step is done: before its effect, or when it is over and not yet recorded."""
    runtime = FakeRuntime()
    source = make_source("import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m')")
    job = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime).submit(job_name="job-1")
    monkeypatch.setattr(driving, "drive_detached", lambda store, name: handed.append(name))
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    handed = []
    effect_name = {"finish": "_finish", "prepare": "_prepare"}.get(step, f"_{step}")
    effect = getattr(runner.Driver, effect_name)

    def interrupted(self):
        if when == "before" and not handed:
            os.kill(os.getpid(), signal.SIGTERM)
        effect(self)
        if when == "after" and not handed:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(runner.Driver, effect_name, interrupted)
    before = signal.getsignal(signal.SIGTERM)
    if step == "finish":  # so near the end it comes to the end
        job.wait(logs=False)
    else:
        with pytest.raises(SystemExit) as leaving:
            job.wait(logs=False)
        assert leaving.value.code == 143
        assert handed == ["job-1"]
        assert job.status == "InProgress"
        job.wait(logs=False)
    assert signal.getsignal(signal.SIGTERM) == before
    assert job.status == "Completed"
    assert (job.outputs.model_path / "m").read_text() == "m"
    assert len(runtime.started) == 1, "the job ran once"
    assert not (job.path / "work").exists()


# A full disk


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A home on a disk of 8 MB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    monkeypatch.setenv("LAUNCHER_HOME", str(path / "home"))
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


FILLS_THE_DISK = """
import os, sys
{prints}
try:
    with open("/opt/ml/output/data/fill", "wb", buffering=0) as file:
        while True:
            file.write(os.urandom(4096))
except OSError:
    pass
{ending}
"""


@pytest.mark.parametrize(
    ("runtime", "ending", "code"),
    [
        ("process", "", None),
        ("process", "sys.exit(7)", 7),
        pytest.param("docker", "", None, marks=pytest.mark.docker),
    ],
)
def test_a_job_that_fills_the_disk_fails_by_name_with_its_true_exit_code(tmp_path, small_disk, runtime, ending, code):
    """Its results have no room to be packed; its end is recorded, its files stay, nothing runs on."""
    (tmp_path / "fill.py").write_text(FILLS_THE_DISK.format(prints="", ending=ending))
    answer = run_launcher("fit", "fill.py", "-r", runtime, "--job-name", "job-1", cwd=tmp_path)
    assert answer.returncode == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert "No space left on device" in answer.stderr
    folder = small_disk / "home" / "jobs" / "job-1"
    record = json.loads((folder / "job.json").read_text())
    assert record["status"] == "Failed"
    assert record["exit_codes"] == {"algo-1": code or 0}
    assert sorted(path.name for path in folder.glob("job.json*")) == ["job.json"]
    assert (folder / "work" / "algo-1" / "opt_ml" / "output" / "data" / "fill").stat().st_size > 1 << 20
    (folder / "work" / "algo-1" / "opt_ml" / "output" / "data" / "fill").write_bytes(b"less")
    again = run_launcher("collect", "job-1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (folder / "output" / "output.tar.gz").exists()
    assert not (folder / "work").exists()


def test_a_job_whose_log_fills_the_disk_ends_as_itself(tmp_path, small_disk):
    """The rest of the log is dropped; the script goes on, and its true exit code is recorded."""
    (tmp_path / "fill.py").write_text("for _ in range(400): print('x' * 65536)\nraise SystemExit(7)")
    answer = run_launcher("fit", "fill.py", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    assert answer.returncode == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    record = json.loads((small_disk / "home" / "jobs" / "job-1" / "job.json").read_text())
    assert record["status"] == "Failed"
    assert record["exit_codes"] == {"algo-1": 7}


@pytest.mark.docker
def test_a_container_whose_log_fills_the_disk_is_not_a_lost_engine(tmp_path, small_disk):
    """The rest of the log is dropped; the container is read on, and ends as it ends."""
    (tmp_path / "fill.py").write_text(
        "for _ in range(400): print('x' * 65536)\nprint('end', flush=True)\nraise SystemExit(7)"
    )
    answer = run_launcher("fit", "fill.py", "-r", "docker", "--job-name", "job-1", cwd=tmp_path)
    assert answer.returncode == 1, answer.stderr
    record = json.loads((small_disk / "home" / "jobs" / "job-1" / "job.json").read_text())
    assert record["status"] == "Failed"
    assert record["exit_codes"] == {"algo-1": 7}
    assert any("the rest of the log was dropped" in line for line in record["warnings"])
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=launcher.home={small_disk / 'home'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.stdout == ""


def test_a_disk_without_room_takes_no_new_job(tmp_path, small_disk):
    (tmp_path / "train.py").write_text("print(1)")
    os.posix_fallocate(os.open(small_disk / "fill", os.O_WRONLY | os.O_CREAT), 0, 8 << 20)
    answer = run_launcher("fit", "train.py", "-r", "process", "--job-name", "job-1", cwd=tmp_path)
    assert answer.returncode == 2
    assert "OutputPathError" in answer.stderr
    assert "No space left on device" in answer.stderr
    assert not (small_disk / "home" / "jobs" / "job-1").exists()


# Folders that go away


def test_a_folder_that_is_removed_under_its_job_is_named(fit, store, home):
    process = fit()
    until_it_prints(home)
    folder = home / "jobs" / "job-1"
    while folder.exists():  # its driver may write while files go
        shutil.rmtree(folder, ignore_errors=True)
    _, said = process.communicate(timeout=60)
    assert not supervisors(home), "nothing of it runs on"
    assert process.returncode == 1
    assert b"its folder" in said
    assert b"is gone" in said
    assert b"Traceback" not in said


def test_a_home_that_is_moved_under_a_job_ends_it_by_name(fit, store, home):
    process = fit()
    until_it_prints(home)
    home.rename(home.with_name("elsewhere"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (1, 130)
    assert not supervisors(home), "nothing of it runs on"
    assert b"Traceback" not in said


def test_a_place_for_results_that_fails_after_the_job_has_run_is_exit_code_1(tmp_path, store):
    """Exit code 2 says that nothing has run."""
    output = tmp_path / "results"
    (tmp_path / "train.py").write_text(
        f"import shutil; shutil.rmtree({str(output)!r}, ignore_errors=True); open({str(output)!r}, 'w').close()\n"
        "open('/opt/ml/model/m', 'w').close()"
    )
    answer = run_launcher(
        "fit", "train.py", "-r", "process", "--job-name", "job-1", "--output-path", str(output), cwd=tmp_path
    )
    assert answer.returncode == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert store.load("job-1").status is Status.FAILED


# Clearing away


def test_results_that_were_given_up_are_packed_again(make_source, store, tmp_path):
    """The first time a folder stood where the archive belongs."""
    source = make_source("import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m')")
    job = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime()).submit(job_name="job-1")
    store.folder("job-1").make_work_path()
    blocked = store.folder("job-1").work_path / "model.tar.gz.part"
    blocked.symlink_to("/dev/full")
    with pytest.raises(errors.ArtifactError):
        job.wait(logs=False)
    assert job.status == "Failed"
    assert any("launcher collect job-1" in line for line in job.warnings)
    reason = job.failure_reason
    blocked.unlink(missing_ok=True)
    answer = run_launcher("collect", "job-1", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert f"job-1: Failed. Results: {job.path}/output" in answer.stdout
    assert (job.outputs.model_path / "m").read_text() == "m"
    assert job.failure_reason == reason
    assert not (job.path / "work").exists()
    assert job.warnings == ["its results were packed again after it had ended"]
    again = run_launcher("collect", "job-1", cwd=tmp_path)
    assert again.returncode == 1
    assert "has nothing left to pack" in again.stderr


@pytest.mark.parametrize("effect", ["_reclaim", "_collect", "_save"])
def test_packing_again_may_be_killed_and_done_again(make_source, store, monkeypatch, effect):
    """The kill comes when the effect is over."""

    class Dead(BaseException):
        pass

    source = make_source("import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m')")
    job = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime()).submit(job_name="job-1")
    with monkeypatch.context() as patch:
        patch.setattr(runner.Driver, "_collect", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job.wait(logs=False)
    with monkeypatch.context() as patch:
        real = getattr(runner.Driver, effect)

        def die(self):
            real(self)
            raise Dead

        patch.setattr(runner.Driver, effect, die)
        with pytest.raises(Dead):
            driving.collect_again(store, "job-1")
    driving.collect_again(store, "job-1")
    assert (job.outputs.model_path / "m").read_text() == "m"
    assert job.status == "Failed"
    assert not (job.path / "work").exists()


def test_a_running_job_is_not_packed_again(store):
    folder = store.create("job-1", record())
    with folder.driving(), pytest.raises(errors.JobFolderError, match="is being driven by another process"):
        driving.collect_again(store, "job-1")


@pytest.fixture
def leftovers(store):
    """A live job, a job that has ended with its work left, and what killed writers have left."""
    store.create("alive", record("alive"))
    folder = store.create("ended", ended_record("ended"))
    (folder.tree_path("algo-1") / "model").mkdir(parents=True)
    (folder.path / "output" / "intermediate").mkdir(parents=True)
    stale = [
        store.jobs_path / ".new-999999999-1",
        folder.path / "job.json.999999999.part",
        folder.path / "output" / "intermediate" / "a.csv.launcher-part",
    ]
    stale[0].mkdir()
    for path in stale[1:]:
        path.write_text("x")
    mine = store.jobs_path / f".new-{os.getpid()}-1"
    mine.mkdir()
    keep = [folder.path / "output" / "intermediate" / "my.part", folder.record_path, folder.work_path, mine]
    keep[0].write_text("x")
    return stale, [*keep, store.folder("alive").spare_path, store.folder("alive").record_path]


def test_gc_removes_what_nobody_needs_and_says_each(leftovers, tmp_path, store):
    stale, keep = leftovers
    shown = run_launcher("gc", "--dry-run", cwd=tmp_path).stdout.splitlines()
    assert all(any(line.startswith(f"would remove {path} (") for line in shown) for path in stale)
    assert all(path.exists() for path in stale)
    said = run_launcher("gc", cwd=tmp_path).stdout.splitlines()
    assert [line.replace("removed", "would remove") for line in said] == shown
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in keep)
    assert run_launcher("gc", cwd=tmp_path).stdout == "nothing to remove\n"
    assert "wrote and was not packed" in run_launcher("gc", "--all", cwd=tmp_path).stdout
    assert not store.folder("ended").work_path.exists()


def test_gc_removes_saved_images_when_no_job_on_slurm_may_need_them(store, home):
    archive = home / "images" / "abc.tar"
    archive.parent.mkdir(parents=True)
    archive.write_text("x")
    store.create("waits", record("waits", "slurm"))
    assert find_leftovers(store, with_work=False)[0] == []
    waiting = store.load("waits")
    waiting.move(Status.COMPLETED, SecondaryStatus.COMPLETED, "", 2.0)
    store.save("waits", waiting)
    image = next(leftover for leftover in find_leftovers(store, with_work=False)[0] if str(archive) in leftover.text)
    image.remove()
    assert not archive.exists()


def test_gc_ends_a_process_job_whose_folder_is_gone_and_no_other(fit, store, home):
    """A new job of the same name does not protect it."""
    callers = [fit(command=("fit", "train.py", "-r", "process", "--job-name", name)) for name in ("job-1", "job-2")]
    for name, caller in zip(("job-1", "job-2"), callers, strict=True):
        until_it_prints(home, name=name)
        caller.kill()
    shutil.rmtree(store.folder("job-1").path)
    store.create("job-1", record())
    (leftover,) = find_leftovers(store, with_work=False)[0]
    assert re.fullmatch(r"process \d+, whose folder is gone, of job 'job-1'", leftover.text)
    leftover.remove()
    assert {Path(line.split()[-2]).parts[-3] for line in supervisors(home)} == {"job-2"}
    leftover.remove()
    assert find_leftovers(store, with_work=False)[0] == []


@pytest.mark.docker
def test_gc_removes_the_containers_of_dead_jobs_of_its_own_home(leftovers, tmp_path, store):
    import docker

    from launcher.settings import build_settings

    engine = docker.from_env()
    home = str(store.home)
    containers = {
        (label_home, job): engine.containers.create(
            build_settings().base_image, labels={"launcher.home": label_home, "launcher.job": job, "launcher.host": "x"}
        )
        for label_home, job in ((home, "ended"), (home, "removed"), (home, "alive"), (f"{home}-2", "ended"))
    }
    try:
        said = run_launcher("gc", cwd=tmp_path).stdout
        left = {key for key, dead in containers.items() if engine.containers.list(all=True, filters={"id": dead.id})}
        assert left == {(home, "alive"), (f"{home}-2", "ended")}
        assert "of job 'removed'" in said
    finally:
        for container in containers.values():
            try:
                container.remove(force=True)
            except docker.errors.NotFound:
                continue


# The log


def test_a_log_is_printed_in_the_lines_that_following_it_prints(tmp_path, store):
    folder = store.create("job-1", ended_record("job-1"))
    odd = b"a\x0bb\x85c\xe2\x80\xa8d\nbar 1\rbar 2\rbar 3\n\x1b]0;title\x07\xff\xfe\nend"
    folder.log_path("algo-1").write_bytes(odd)
    plain = run_launcher("logs", "job-1", cwd=tmp_path).stdout
    assert plain == run_launcher("logs", "-f", "job-1", cwd=tmp_path).stdout
    assert len(plain.split("\n")) == 5
    assert "\x1b" not in plain


def test_a_large_log_is_printed_in_little_memory(tmp_path, store):
    """As a whole text, 40 MB of binary took 300 MB and more."""
    folder = store.create("job-1", ended_record("job-1"))
    with folder.log_path("algo-1").open("wb") as log:
        for _ in range(40):
            log.write(os.urandom(1 << 10) * 1024)
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'launcher', 'logs', 'job-1'], stdout=subprocess.DEVNULL, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], env=launcher_environment(), capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) < 150_000, "kilobytes"


def test_control_characters_of_a_job_do_not_reach_the_terminal_by_its_error(tmp_path, make_source):
    source = make_source("raise SystemExit('\\x1b]0;title\\x07 \\x1b[2J')")
    answer = run_launcher("fit", "train.py", "--source-dir", source, "-r", "process", cwd=tmp_path)
    assert answer.returncode == 1
    assert "title" in answer.stderr
    assert "\x1b" not in answer.stderr
    assert "\x07" not in answer.stderr


# Clocks and hosts


class Scripted(Execution):
    """A host that ends after so many waits with a code; SIGTERM ends it at once."""

    def __init__(self, waits, code, runtime):
        self.waits, self.code, self.runtime = waits, code, runtime
        self.removed = self.terminated = False

    reference = {"runtime": "scripted"}  # noqa: RUF012

    def state(self):
        return HostState.RUNNING

    def wait(self, timeout_seconds):
        self.runtime.asked += 1
        self.waits -= 1
        if self.terminated:
            return 143
        return self.code if self.waits < 0 else None

    def terminate(self):
        self.terminated = True

    def kill(self):
        self.terminated = True

    def remove(self):
        self.removed = True


class ScriptedRuntime(FakeRuntime):
    """Hosts that run no program; by host how many waits it takes, its exit code and its log."""

    def __init__(self, hosts):
        super().__init__()
        self.hosts, self.asked = hosts, 0

    def start(self, container):
        waits, code, log = self.hosts[container.host]
        with open(container.log_path, "w") as file:  # noqa: PTH123
            file.write(log)
        execution = Scripted(waits, code, self)
        self.executions[container.job_name, container.host] = execution
        return execution


def scripted_request(store, hosts=1, max_run_seconds=86400):
    return {
        "TrainingJobName": "job-1",
        "RoleArn": "arn:aws:iam::000000000000:role/r",
        "AlgorithmSpecification": {"TrainingInputMode": "File", "ContainerEntrypoint": ["scripted"]},
        "OutputDataConfig": {"S3OutputPath": f"file://{store.home}/jobs"},
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": hosts, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_run_seconds},
    }


def scripted_job(store, hosts, **options):
    runtime = ScriptedRuntime(hosts)
    submit(scripted_request(store, hosts=len(hosts), **options), store, runtime)
    return runtime, driving.drive(store, "job-1", runtime=runtime)


def test_the_end_of_any_host_is_seen_at_once_and_its_log_is_in_the_error(store):
    """The second host fails while the first would have gone on for 1,000 waits."""
    runtime, record = scripted_job(store, {"algo-1": (1000, 0, "fine\n"), "algo-2": (1, 3, "KeyError: 'x'\n")})
    assert runtime.asked < 20
    assert record.status is Status.FAILED
    assert record.stop_reason is StopReason.HOST_FAILED
    assert list(record.exit_codes.items()) == [("algo-2", 3), ("algo-1", 143)]
    with pytest.raises(errors.JobFailedError) as failure:
        driving.raise_unless_completed(store, record)
    assert "exited with 3 on algo-2" in str(failure.value)
    assert "KeyError: 'x'" in str(failure.value)
    assert "fine" not in str(failure.value)
    assert all(execution.removed for execution in runtime.executions.values())


def test_hosts_that_all_end_well_complete_the_job(store):
    _, record = scripted_job(store, {"algo-1": (1, 0, ""), "algo-2": (5, 0, "")})
    assert record.status is Status.COMPLETED
    assert record.exit_codes == {"algo-1": 0, "algo-2": 0}


def test_a_wall_clock_that_jumps_by_a_day_stops_no_job_and_is_not_billed(store, monkeypatch):
    """25 hours pass on the wall between the start and the end of a job of an instant."""
    real = time.time
    jumped = []

    class Jumping:
        def __getattr__(self, name):
            return getattr(time, name)

        def time(self):
            return real() + (90_000 if jumped else 0)

    start = ScriptedRuntime.start

    def start_and_jump(self, container):
        jumped.append(True)
        return start(self, container)

    monkeypatch.setattr(ScriptedRuntime, "start", start_and_jump)
    for module in (runner, job_state, starting, following, clock):
        monkeypatch.setattr(module, "time", Jumping())
    _, record = scripted_job(store, {"algo-1": (5, 0, "")}, max_run_seconds=3600)
    assert record.status is Status.COMPLETED
    assert record.billable_seconds < 60
    assert launcher.TrainingJob("job-1", store).describe()["BillableTimeInSeconds"] < 60


def test_max_run_is_measured_from_the_first_driver_on(store, monkeypatch):
    """The second driver takes the job up when its time is over: it does not get that time anew."""
    runtime = ScriptedRuntime({"algo-1": (10_000, 0, "")})
    submit(scripted_request(store, max_run_seconds=3600), store, runtime)
    first = runner.Driver(store, "job-1", runtime)
    for step in ("fetch_channels", "write_config", "prepare", "start"):
        first.step(step, getattr(first, f"_{step}"))
    record = store.load("job-1")
    record.marks["training"]["monotonic"] -= 3601
    store.save("job-1", record)
    record = driving.drive(store, "job-1", runtime=runtime)
    assert record.stop_reason is StopReason.MAX_RUNTIME_EXCEEDED
    assert record.secondary_status == "MaxRuntimeExceeded"
