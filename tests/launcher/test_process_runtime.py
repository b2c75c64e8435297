"""What only local processes can get wrong: pids that are used again, an environment that leaks, leftovers."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import EndCause, Ending, HostState
from launcher.runtimes.process import ProcessExecution, ProcessRuntime, namespaces_missing
from tests.shell import launcher_environment
from tests.users import as_ordinary_user, folder_of_ordinary_user


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(tmp_path):
    """The supervisor has ended, its lock is free, and a stranger has its number."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        for number in range(20):
            state = tmp_path / str(number)
            state.mkdir()
            (state / "lock").touch()
            (state / "supervisor.json").write_text(json.dumps({"pid": stranger.pid}))
            (state / "exit.json").write_text(json.dumps({"exit_code": 0}))
            execution = ProcessExecution(state)
            execution.terminate()
            execution.kill()
            execution.remove()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_supervisor_that_vanished_means_a_killed_job(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / "supervisor.json").write_text(json.dumps({"pid": 1}))
    assert ProcessExecution(tmp_path).wait(5) == 137


def test_waiting_ends_when_the_lock_is_let_go(tmp_path):
    with (tmp_path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        execution = ProcessExecution(tmp_path)
        assert execution.wait(0.1) is None
        (tmp_path / "exit.json").write_text(json.dumps({"exit_code": 3}))
    assert execution.wait(5) == 3


@pytest.mark.parametrize("namespaces", ["", "off"])
def test_killing_the_supervisor_fails_the_job(make_source, monkeypatch, home, namespaces):
    """With namespaces no process of the job survives it either."""
    monkeypatch.setenv("LAUNCHER_NAMESPACES", namespaces)
    source = make_source("import os, time; print('pid', os.getpid(), flush=True); time.sleep(60)")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process")
    estimator.fit(wait=False, job_name="job-1")
    job = estimator.latest_training_job
    deadline = time.monotonic() + 30
    while "pid" not in job.logs():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    record = json.loads((home / "jobs" / "job-1" / "job.json").read_text())
    os.killpg(record["executions"]["algo-1"]["pid"], signal.SIGKILL)
    with pytest.raises(errors.JobFailedError, match="exited with 137"):
        job.wait(logs=False)


def test_a_job_does_not_see_the_callers_environment(make_source, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    source = make_source("import os; print(sorted(os.environ))")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, runtime="process", environment={"MINE": "yes"}
    )
    estimator.fit(logs=False)
    seen = estimator.latest_training_job.logs()
    assert "'MINE'" in seen
    assert "AWS_SECRET" not in seen
    assert "PYTEST" not in seen


@pytest.mark.parametrize("namespaces", ["", "off"])
def test_no_process_that_a_job_stems_from_shows_the_callers_environment(make_source, monkeypatch, namespaces, s3_key):
    """Root may read /proc/PID/environ of every process; without namespaces so may everybody of his own ones."""
    monkeypatch.setenv("LAUNCHER_NAMESPACES", namespaces)
    monkeypatch.setenv("CALLERS_PASSWORD", "secret-of-the-caller")
    source = make_source("""
import os, pathlib
pid, seen = os.getpid(), []
while pid > 0:
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    if pid != os.getpid() and b"supervisor.py" not in command and b"job_toolkit" not in command:
        break
    seen.append(command)
    try:
        assert b"secret-of-the-caller" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes(), command
    except PermissionError:
        pass
    pid = int(status["PPid"])
assert any(b"supervisor.py" in command for command in seen), seen
assert os.environ["AWS_SECRET_ACCESS_KEY"] == "handed over", "the job itself gets what it is meant to get"
""")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process", **s3_key)
    estimator.fit(logs=False)
    assert estimator.latest_training_job.status == "Completed"


@pytest.fixture
def s3_key(monkeypatch):
    """What makes the launcher hand the caller's credentials to a job, by name and not in its record."""
    plan = launcher.runtimes.process.ProcessRuntime.start

    def start(runtime, container):
        return plan(runtime, replace(container, inherited=("AWS_SECRET_ACCESS_KEY",)))

    monkeypatch.setattr(launcher.runtimes.process.ProcessRuntime, "start", start)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "handed over")
    return {}


def test_a_job_cannot_make_its_input_writable(make_source, tmp_path):
    """Root could, by mounting it once more, with the rights that root has outside."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1")
    source = make_source("""
import ctypes, os, pathlib, subprocess
libc = ctypes.CDLL(None, use_errno=True)
point = b"/opt/ml/input/data/training"
for flags in (4096 | 32, 32):
    assert libc.mount(None, point, None, flags, None) == -1
assert libc.umount2(point, 2) == -1
try:
    open(point + b"/a.csv", "w").write("overwritten")
except OSError:
    pass
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
assert int(status["CapBnd"], 16) & (1 << 21) == 0 or os.getuid() != 0, status
assert status["NoNewPrivs"].strip() == "1"
if os.getuid() == 0:  # what root's programs need still works
    pathlib.Path("/opt/ml/model/m").write_text("m")
    os.chown("/opt/ml/model/m", 1234, 1234)
    os.chmod("/opt/ml/model/m", 0)
    assert open("/opt/ml/model/m").read() == "m"
    subprocess.run(["sh", "-c", "id -u"], check=True, user=1234)
    os.chown("/opt/ml/model/m", 0, 0)
""")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process")
    estimator.fit(str(tmp_path / "rows"), logs=False)
    assert (tmp_path / "rows" / "a.csv").read_text() == "1"


@pytest.mark.parametrize("whole_prefix", [True, False])
def test_without_namespaces_a_job_cannot_change_a_stored_object(make_source, monkeypatch, tmp_path, whole_prefix):
    """Its channel is a folder of links to the only copy there is."""
    monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    session = launcher.Session(mode="s3")
    (tmp_path / "a.csv").write_text("original")
    uri = session.upload_data(str(tmp_path / "a.csv"), key_prefix="logs")
    source = make_source("""
import os, pathlib
path = pathlib.Path(os.environ["SM_CHANNEL_TRAINING"]) / "a.csv"
assert path.read_text() == "original"
path.chmod(0o644)
path.write_text("HACKED")
""")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, runtime="process", sagemaker_session=session
    )
    estimator.fit({"training": uri.rsplit("/", 1)[0] + "/" if whole_prefix else uri}, logs=False)
    assert estimator.latest_training_job.status == "Completed"
    assert session.read_s3_file(session.default_bucket(), "logs/a.csv") == "original"


def test_temporary_files_of_a_job_go_with_it(make_source):
    source = make_source("import tempfile, pathlib; p = tempfile.mkdtemp(); print('made', p)")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process")
    estimator.fit(logs=False)
    path = estimator.latest_training_job.logs().split()[-1]
    assert not os.path.exists(path)  # noqa: PTH110


def test_an_ordinary_user_gets_a_private_opt_ml_too(tmp_path):
    """By a user namespace; what the job writes is the user's."""
    folder = folder_of_ordinary_user()
    script = (
        "import launcher\nlauncher.Estimator(container_entry_point=['/bin/sh', '-c'],"
        " container_arguments=['id -u > /opt/ml/model/uid'], runtime='process').fit(job_name='job-1')"
    )
    answer = subprocess.run(
        as_ordinary_user([sys.executable, "-c", script]),
        env={
            **os.environ,
            "HOME": str(folder),
            "LAUNCHER_HOME": str(folder / "home"),
            "PYTHONPATH": str(launcher.settings.data_path("container").parent),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if "no private /opt/ml" in answer.stdout:
        pytest.skip(f"this machine allows no user namespaces: {answer.stdout.splitlines()[0]}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (folder / "home" / "jobs" / "job-1" / "output" / "model.tar.gz").exists()
    assert {path.stat().st_uid for path in (folder / "home").rglob("*")} == {folder.stat().st_uid}
    subprocess.run(["rm", "-r", str(folder)], check=True)


def test_an_interpreter_without_the_libraries_is_refused_before_anything_happens(home, monkeypatch):
    monkeypatch.setattr("launcher.sdk.preflight.LIBRARIES", ("torch", "no_such_library"))
    with pytest.raises(errors.RuntimeUnavailableError, match="lacks no_such_library"):
        launcher.fit("preset-cartpole-random", entry_point="collect.py", runtime="process")
    assert not home.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may put something into /opt/ml")
def test_what_the_machine_has_in_opt_ml_stays_visible(make_source):
    """All but the job's own folders; and what a job writes beside those goes with it."""
    own = Path("/opt/ml")
    had = own.exists()
    own.mkdir(exist_ok=True)
    marker = own / f"launcher-test-{os.getpid()}"
    marker.mkdir()
    (marker / "weights").write_text("pretrained")
    (own / marker.name / "link").symlink_to("weights")
    script = f"""
import pathlib
print(pathlib.Path("{marker}/link").read_text())
pathlib.Path("/opt/ml/scratch-of-the-job").write_text("x")
"""
    try:
        estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="process")
        estimator.fit(logs=False)
        assert "pretrained" in estimator.latest_training_job.logs()
        assert not (own / "scratch-of-the-job").exists()
        assert (marker / "weights").read_text() == "pretrained"
    finally:
        shutil.rmtree(marker)
        if not had:
            own.rmdir()


def test_the_supervisor_ends_a_job_in_time_though_nobody_drives_it(make_source, store):
    """The driver is killed at once; the next one finds the reason in what the supervisor recorded."""
    script = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saving", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="process", max_run=2)
    job = estimator.submit(job_name="job-1")
    driver = subprocess.Popen(
        [sys.executable, "-m", "launcher", "drive", "job-1"], env=launcher_environment(), cwd=job.path
    )
    state = store.folder("job-1").work_path / "algo-1"
    _wait_until(lambda: "ready" in job.logs())
    driver.kill()
    driver.wait()
    _wait_until((state / "exit.json").exists)
    assert json.loads((state / "exit.json").read_text())["cause"] == "MaxRuntimeExceeded"
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert job.logs().count("saving") == 1


@pytest.mark.parametrize("namespaces", ["", "off"])
def test_a_job_that_ignores_the_deadline_is_killed_after_the_grace(tmp_path, monkeypatch, namespaces):
    monkeypatch.setenv("LAUNCHER_NAMESPACES", namespaces)
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "0.3")
    (tmp_path / "tree").mkdir()
    container = ContainerSpec(
        job_name="job-1",
        host="algo-1",
        image="",
        entry_point=("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"),
        arguments=(),
        environment={"PATH": os.environ["PATH"]},
        mounts=(),
        state_path=str(tmp_path / "state"),
        log_path=str(tmp_path / "log"),
        tree_path=str(tmp_path / "tree"),
        max_run_seconds=1,
    )
    execution = ProcessRuntime().start(container)
    assert execution.wait(30) == 137
    ending = execution.ending()
    assert ending == Ending(EndCause.MAX_RUNTIME, time=ending.time)
    assert ending.time > 0
    assert execution.state() is HostState.ENDED


def test_the_toolkit_runs_in_the_supervisors_interpreter(make_source):
    """One interpreter less to start: the script's parent is a fork of the supervisor, with the job's environment."""
    script = """
import os, pathlib
parent = pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
print("supervisor.py" in parent.decode(), os.environ["PYTHONUNBUFFERED"], "SM_MODEL_DIR" in os.environ)
"""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="process")
    estimator.fit(logs=False)
    assert "True 1 True" in estimator.latest_training_job.logs()


def _wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_threads_may_ask_for_namespaces_at_the_same_time(tmp_path):
    """As those of a server do, each for a job without a network; nothing is left of the tries."""
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(namespaces_missing(tmp_path / "home" / "jobs")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert not (tmp_path / "home").exists()
