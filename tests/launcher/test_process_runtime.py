"""What only local processes can get wrong: pids that are used again, an environment that leaks, leftovers."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import launcher
from launcher import errors
from launcher.runtimes.process import ProcessExecution
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
