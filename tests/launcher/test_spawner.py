"""Drivers as copies of a process that has loaded what they need."""

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
from launcher import Estimator
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.store import JobStore
from launcher.running import driving, spawner
from launcher.runtimes import fork_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")


def wait_until(condition, complaint, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
    return result


@pytest.fixture
def keeper(home):
    """Keeps a spawner of the home, which is up."""
    keeper = spawner.Spawner(home)
    keeper.keep()
    wait_until(spawner.socket_path(home).exists, "the spawner did not start")
    yield keeper
    keeper._process.stdin.close()
    keeper._process.wait(30)


@pytest.fixture
def submitted(store, make_source):
    """A function that records a job of a script, which nobody drives, and returns its name."""

    def submit(script="print('ran')", name="job-1"):
        estimator = Estimator(entry_point="train.py", source_dir=make_source(script, name), runtime="process")
        estimator.fit(wait=False, logs=False, job_name=name)
        return name

    return submit


def process_of(record_path):
    """Return the process that holds a file's lock, as /proc/locks has it."""
    status = record_path.stat()
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{status.st_ino}"):
            return int(fields[4])
    return 0


def test_a_driver_is_a_copy_in_a_session_of_its_own_with_its_own_descriptors(keeper, home, submitted, monkeypatch):
    monkeypatch.setattr(driving.subprocess, "Popen", None)  # no other interpreter can be started for it
    name = submitted("import time; time.sleep(60)")
    folder = JobStore(home).folder(name)
    wait_until(lambda: folder.log_path("algo-1").exists(), "no copy drives the job")
    driver = process_of(folder.lock_path)
    assert Path(f"/proc/{driver}/cmdline").read_bytes().split(b"\0")[2] == b"launcher.running.spawner"
    assert os.getsid(driver) == driver != keeper._process.pid
    ends = {number: str(Path(f"/proc/{driver}/fd/{number}").readlink()) for number in (0, 1, 2)}
    assert ends == {0: os.devnull, 1: str(folder.driver_log_path), 2: str(folder.driver_log_path)}
    open_files = {str(entry.readlink()) for entry in Path(f"/proc/{driver}/fd").iterdir()}
    assert not {path for path in open_files if str(spawner.socket_path(home).parent) in path}
    folder.request_stop()
    wait_until(lambda: JobStore(home).load(name).status == "Stopped", "the driver did not stop its job")


def test_a_driver_has_the_environment_of_who_asked(keeper, home, submitted, monkeypatch):
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "nonsense")  # read by the driver
    submitted()
    log = JobStore(home).folder("job-1").driver_log_path
    wait_until(lambda: "LAUNCHER_STOP_GRACE_SECONDS is 'nonsense'" in log.read_text(), "another environment")
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "5")


def test_what_a_copy_could_not_be_is_started_by_itself(keeper, home, submitted, monkeypatch, tmp_path):
    """An interpreter reads TZ and its like once, when it begins."""
    with (tmp_path / "log").open("wb") as log:
        for environment in ({"TZ": "Asia/Tokyo"}, {"OMP_NUM_THREADS": "1"}, {"PYTHONHASHSEED": "7"}):
            variables = {**spawner.driver_environment(home), **environment}
            assert not spawner.spawned(home, ["job-1", "jobs"], variables, log)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    name = submitted()
    wait_until(lambda: JobStore(home).load(name).status == "Completed", "the job has no driver")


def test_it_ends_with_the_process_that_keeps_it_and_its_drivers_go_on(home, make_source):
    source = make_source("import time; time.sleep(2); print('ran')")
    script = (
        "import os, signal, sys, time; from pathlib import Path; from launcher import Estimator\n"
        "from launcher.running import spawner\n"
        "home = Path(os.environ['LAUNCHER_HOME']); keeper = spawner.Spawner(home); keeper.keep()\n"
        "while not spawner.socket_path(home).exists(): time.sleep(0.02)\n"
        f"estimator = Estimator(entry_point='train.py', source_dir={source!r}, runtime='process')\n"
        "estimator.fit(wait=False, logs=False, job_name='job-1')\n"
        "print(keeper._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stderr
    wait_until(lambda: not Path("/proc", result.stdout.strip()).exists(), "the spawner outlived its keeper")
    assert not spawner.socket_path(home).exists()
    wait_until(lambda: JobStore(home).load("job-1").status == "Completed", "the driver went with the spawner")


def test_another_is_started_for_one_that_was_killed(keeper, home, submitted, monkeypatch):
    keeper._process.kill()
    keeper._process.wait(30)
    name = submitted()  # its socket is still there, and nobody answers
    wait_until(lambda: JobStore(home).load(name).status == "Completed", "the job has no driver")
    keeper._next_start = 0.0
    keeper.keep()
    with (home / "log").open("wb") as log:
        environment = spawner.driver_environment(home)
        wait_until(lambda: spawner.spawned(home, ["none", "jobs"], environment, log), "no other was started")


def test_one_whose_code_has_changed_starts_no_driver_and_ends(home, tmp_path):
    package = tmp_path / "changed" / "launcher"
    shutil.copytree(Path(launcher.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    path = spawner.socket_path(home)
    path.parent.mkdir(parents=True)
    environment = {**spawner.driver_environment(home), "PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-m", "launcher.running.spawner", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, cwd="/") as process:
        wait_until(path.exists, "it did not start")
        os.utime(package / "running" / "runner.py", (1, 1))
        request = {
            "arguments": ["none", "jobs"],
            "environment": environment,
            "surroundings": fork_server.surroundings(environment),
            "package": str(package / "running" / "spawner.py"),
        }
        assert "refused" in fork_server.ask(path, request, [2])
        assert process.wait(30) == 0
    assert not path.exists()


def test_a_job_gets_no_driver_of_it(keeper, home, submitted):
    """A process of the same user, in namespaces of its own, could have it run anything outside them."""
    request = json.dumps({"arguments": ["none", TRAINING_JOBS.folder], "environment": {}})
    name = submitted(
        f"import sys; sys.path.insert(0, {str(Path(fork_server.__file__).parent)!r}); import fork_server, pathlib\n"
        f"print(fork_server.ask(pathlib.Path({str(spawner.socket_path(home))!r}), {request}, [1]))"
    )
    wait_until(lambda: JobStore(home).load(name).status == "Completed", "the job did not end")
    text = JobStore(home).folder(name).log_path("algo-1").read_text()
    assert "namespaces of its own" in text or "no private /opt/ml" in text
