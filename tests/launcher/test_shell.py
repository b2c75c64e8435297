"""A command, or a shell on a terminal, inside a job that runs."""

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import launcher
from launcher.jobs.store import JobStore
from tests.shell import launcher_environment

WAITS = """
import os, pathlib, time
pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "here").touch()
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    time.sleep(0.1)
"""
RUNTIMES = [
    "process",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("slurm", marks=pytest.mark.whole),  # test_slurm_runtime.py has the sample
]


class Shell:
    """The command ``launcher shell`` for one job."""

    def __init__(self, name, home):
        self.name = name
        self.arguments = [sys.executable, "-m", "launcher", "shell", name]
        self.environment = launcher_environment(LAUNCHER_HOME=str(home))

    def run(self, *words, text=""):
        return subprocess.run(
            [*self.arguments, *words], env=self.environment, input=text, capture_output=True, text=True, timeout=60
        )

    def on_terminal(self, *steps):
        """Type into a shell on a pseudo-terminal: of each step, wait for its first text, then type its second.

        Returns:
            The exit code, and what was on the screen.
        """
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, self.arguments, {**self.environment, "TERM": "dumb"})
        screen, waiting = b"", list(steps)
        try:
            while True:
                while waiting and waiting[0][0] in screen:
                    os.write(terminal, waiting.pop(0)[1])
                if not (chunk := os.read(terminal, 1 << 16)):
                    break
                screen += chunk
        except OSError:  # the other side has ended
            pass
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


@pytest.fixture(params=RUNTIMES)
def shell(request, home, make_source):
    """A shell in a job of two hosts that run until the test is over."""
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source(WAITS),
        runtime=request.param,
        max_run=600,
        instance_count=2,
        environment={"COLOUR": "blue", "SECRET_TOKEN": "hush"},
        hyperparameters={"depth": 3},
    )
    estimator.fit(wait=False)
    job = estimator.latest_training_job
    trees = [JobStore(home).folder(job.name).tree_path(f"algo-{number}") for number in (1, 2)]
    deadline = time.monotonic() + 60
    while not all((tree / "output/intermediate/here").exists() for tree in trees):
        assert time.monotonic() < deadline, job.status
        time.sleep(0.1)
    yield Shell(job.name, home)
    job.stop()


@pytest.mark.slow
def test_a_shell_has_the_jobs_place_environment_user_and_rights(shell):
    ran = shell.run(
        "--host",
        "algo-2",
        "--",
        "sh",
        "-c",
        "hostname; pwd; id -u; echo $COLOUR $SM_HP_DEPTH $SM_CURRENT_HOST; ls /opt/ml/code; echo no >&2; exit 7",
    )
    assert ran.stdout.splitlines() == ["algo-2", "/opt/ml/code", str(os.getuid()), "blue 3 algo-2", "train.py"]
    assert (ran.stderr, ran.returncode) == ("no\n", 7)
    script = "cat > /opt/ml/model/note; umount /opt/ml/code; cat /opt/ml/code/train.py"
    written = shell.run("--", "sh", "-c", script, text="by hand")
    assert "deadline" in written.stdout  # nobody could unmount it
    tree = JobStore(Path(shell.environment["LAUNCHER_HOME"])).folder(shell.name).tree_path("algo-1")
    assert (tree / "model" / "note").read_text() == "by hand"

    # Ctrl-C ends what runs in the shell, and neither the shell nor the job, which ends before the sleep would.
    # It runs as one process: between two, the shell itself takes Ctrl-C.
    typed = b"tty; sh -c \"echo beg''un; exec sleep 600\"\n"
    code, screen = shell.on_terminal((b"", typed), (b"begun", b"\x03"), (b"^C", b"exit 6\n"))
    assert code == 6, screen
    assert re.search(r"/dev/(pts/\d+|console)", screen)

    wrong = shell.run("--host", "algo-3")
    assert "has no host 'algo-3'" in wrong.stderr
    assert "algo-1, algo-2" in wrong.stderr
    assert wrong.returncode == 2


def test_a_job_that_has_ended_has_no_shell(home, make_source):
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source("pass"), runtime="process")
    estimator.fit(logs=False)
    ran = Shell(estimator.latest_training_job.name, home).run()
    assert "has ended (Completed); nothing of it runs any more." in ran.stderr
    assert ran.returncode == 2


def test_without_namespaces_a_shell_has_the_jobs_folders_by_its_variables(home, make_source, monkeypatch):
    monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    source = make_source(WAITS)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process")
    estimator.fit(wait=False)
    job = estimator.latest_training_job
    tree = JobStore(home).folder(job.name).tree_path("algo-1")
    deadline = time.monotonic() + 60
    while not (tree / "output/intermediate/here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ran = Shell(job.name, home).run("--", "sh", "-c", "pwd; echo $SM_MODEL_DIR")
    assert ran.stdout.splitlines() == [str(tree / "code"), str(tree / "model")]
    job.stop()
