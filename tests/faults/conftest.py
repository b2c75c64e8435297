"""What every fault needs: a job on a real runtime, and a look at all that a job could leave behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.jobs.store import JobStore
from launcher.runtimes.probe import engine_answers
from tests.shell import launcher_environment

WRITES_A_MODEL = "open('/opt/ml/model/m', 'w').write('m' * 100)\n"


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def runtime(request):
    return request.param


@pytest.fixture
def fit(tmp_path):
    """Start ``launcher fit`` of a script as a process of its own."""
    processes = []

    def fit(script, runtime, *arguments, name="job-1", **variables):
        (tmp_path / "train.py").write_text(script)
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "fit", "train.py", "-r", runtime, "--job-name", name, *arguments],
            cwd=tmp_path,
            env=launcher_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield fit
    for process in processes:
        with process:
            process.kill()


@pytest.fixture
def small_home(tmp_path, monkeypatch):
    """A function that puts the home on a disk of its own, of some MB; returns the disk."""
    disks = []

    def mount(megabytes):
        if os.getuid() != 0:
            pytest.skip("mounting a disk needs root")
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
        disks.append(disk)
        monkeypatch.setenv("LAUNCHER_HOME", str(disk / "home"))
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def record_of(home, name="job-1"):
    """Return a job's record; empty where there is none, or none that can be read at this moment."""
    try:
        return json.loads((Path(home) / "jobs" / name / "job.json").read_text())
    except (OSError, ValueError):
        return {}


def log_has(home, text, name="job-1"):
    log = Path(home) / "jobs" / name / "job.log"
    return log.exists() and text in log.read_text(errors="replace")


def unsettle(home, name="job-1"):
    """Make a record older than the time in which a job changes hands, so that the next look takes the job up."""
    path = Path(home) / "jobs" / name / "job.json"
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"modified": values["modified"] - 60}))


def remains(home, engine=None):
    """Return what jobs of a home that have ended should not leave: processes, containers, networks, mounts, files.

    Args:
        engine: the address of an engine; default: the machine's.
    """
    home = Path(home)
    left = [f"process {line}" for line in _command_lines() if str(home) in line and _is_of_a_job(line)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mount {line}" for line in mounts if f"{home}/jobs" in line]
    if engine or engine_answers():
        docker = ["docker", *(["-H", engine] if engine else [])]
        for words in (["ps", "-aq"], ["network", "ls", "-q"]):
            command = [*docker, *words, "--filter", f"label=launcher.home={home}"]
            left += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    store = JobStore(home)
    left += [str(path) for path in store.leftovers()]
    for name, record in store.records()[0]:
        folder = store.folder(name)
        if record.terminal:
            left += [str(path) for path in (folder.spare_path, folder.work_path) if path.exists()]
    return left


def nothing_left(home, engine=None):
    """Wait until nothing is left: a driver of its own ends a moment after the last record."""
    deadline = time.monotonic() + 30
    while (left := remains(home, engine)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left == [] or left


def _is_of_a_job(line):
    return any(word in line for word in ("supervisor.py", "job_toolkit", "launcher drive", "feeder.py"))


def _command_lines():
    """Yield the command line of every other process, and the home in its environment."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if int(path.parent.name) != os.getpid() and (line := _text(path)):
            variables = _text(path.with_name("environ")).split()
            yield " ".join([line, *(word for word in variables if word.startswith("LAUNCHER_HOME="))])


def _text(path):
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has ended, or is another's


def kill_host(home, runtime, host="algo-1", name="job-1"):
    """End a host from outside, without a chance to say anything."""
    if runtime == "docker":
        labels = [f"label=launcher.job={name}", f"label=launcher.home={home}", f"label=launcher.host={host}"]
        listed = ["docker", "ps", "-q", *(word for label in labels for word in ("--filter", label))]
        [container] = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        subprocess.run(["docker", "kill", container], capture_output=True, check=True)
        return
    pids = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if "supervisor.py" in (line := _text(path)) and f"{home}/jobs/{name}/" in line and f"/work/{host}" in line
    ]
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


needs_dockerd = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("dockerd"), reason="only root with a dockerd may start another engine"
)
