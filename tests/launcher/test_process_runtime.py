"""What only local processes can get wrong: pids that are used again, an environment that leaks, leftovers."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import EndCause, Ending, HostState
from launcher.runtimes.process import ProcessExecution, ProcessRuntime
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
    monkeypatch.setattr("launcher.sdk.preflight._LIBRARIES", ("torch", "no_such_library"))
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
    assert execution.ending() == Ending(EndCause.MAX_RUNTIME)
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
