"""What a program loads that only names a class, and a command that only prints its help: not what runs a job."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from launcher.cli import main as cli

RUNS_JOBS = {"jobs", "storage", "s3_server", "channels", "running", "runtimes", "serving", "transform", "tuning", "aws"}
RUNS_JOBS |= {"processing_jobs", "endpoints", "batch_queues", "console", "proxy"}
DEAR = {"http.client", "ssl", "asyncio", "multiprocessing"}
DEAR |= {"boto3", "docker", "isal", "moto", "numpy", "pandas", "requests", "torch", "yaml"}
NEEDLESS = {"dataclasses", "inspect", "socket", "subprocess", "tarfile", "hashlib", "tempfile", "typer"}


def loaded_by(program):
    """Return the modules that are there when a program ends, without those that every Python has."""
    shown = "\nimport sys; print(*sorted(sys.modules), file=sys.stderr)"
    modules = [
        subprocess.run([sys.executable, "-c", text + shown], capture_output=True, text=True, check=True).stderr.split()
        for text in (program, "")
    ]
    return set(modules[0]) - set(modules[1])


def of_the_launcher(modules):
    return {name for name in modules if name.startswith("launcher.")}


def test_naming_the_estimator_loads_nothing_of_what_runs_a_job():
    """What it loads comes to half of what 0.1.0 loaded, 123 modules; each costs every program that begins with it."""
    loaded = loaded_by("from launcher import Estimator")
    assert not {name for name in of_the_launcher(loaded) if name.split(".")[1] in RUNS_JOBS}
    assert not loaded & (DEAR | NEEDLESS)
    assert len(loaded) <= 60
    assert len(of_the_launcher(loaded)) <= 10


def test_the_list_of_commands_loads_the_commands_alone():
    loaded = loaded_by(
        """
import contextlib, sys
from launcher.cli.entry import main
sys.argv = ["launcher", "--help"]
with contextlib.suppress(SystemExit): main()
"""
    )
    own = of_the_launcher(loaded)
    outside = {name for name in own if name.split(".")[1] not in ("cli", "errors", "paths", "secrets", "terminal")}
    assert outside == set()
    assert not loaded & DEAR
    assert len(own) <= 30


BEFORE_A_SERVER_ANSWERS = """
import sys, threading
from pathlib import Path
import launcher.cli.entry, launcher.errors, launcher.settings
from launcher.s3_server import service, listening
from launcher.aws import server
"""
FIRST_OF_THE_CONSOLE = """
from unittest import mock
from launcher.console import ROOT, access, serving
from launcher.s3_server.wire import Head, Headers
home = Path(sys.argv[-1])
console = server.OnDemand(home)
head = Head("GET", access.address_of(home, ""), Headers({"host": "127.0.0.1:1"}), True, None, False, False)
with mock.patch.object(threading, "Timer") as behind:
    assert console.service_of(head) == "console"
    answer = console.answer("console", head, None, None, "127.0.0.1")
assert answer.status == 200 and "Set-Cookie" in answer.headers, answer.body
assert behind.return_value.start.called
"""


def test_the_local_aws_is_up_before_what_answers_s3_and_sagemaker_is_loaded():
    """``launcher up`` waits for it; the rest is loaded behind the first answer."""
    loaded = loaded_by(BEFORE_A_SERVER_ANSWERS)
    assert {name.split(".")[1] for name in of_the_launcher(loaded)} <= {
        *("aws", "aws_domains", "aws_names", "cli", "console", "errors", "paths", "s3_server", "settings"),
    }
    assert not loaded & {f"launcher.s3_server.{name}" for name in ("api", "listing", "multipart", "uploads")}
    assert not loaded & {"launcher.aws.front", "launcher.console.serving"}
    assert not loaded & (DEAR | {"dataclasses", "inspect", "uuid", "subprocess", "tempfile"})


def test_the_console_lets_a_browser_in_before_any_page_is_loaded(tmp_path):
    (tmp_path / "s3").mkdir()
    program = BEFORE_A_SERVER_ANSWERS + FIRST_OF_THE_CONSOLE.replace("sys.argv[-1]", repr(str(tmp_path)))
    loaded = loaded_by(program)
    own = {name for name in of_the_launcher(loaded) if name.split(".")[1] in ("console", "jobs")}
    names = ("access", "html", "serving")
    assert own == {"launcher.console", *(f"launcher.console.{name}" for name in names)}


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["storage", "--help"], ["storage", "ls", "--help"]])
def test_a_command_line_with_one_commands_options_says_what_the_whole_one_says(words):
    runner = CliRunner()
    assert runner.invoke(cli._only_named(cli.app, words), words).output == runner.invoke(cli.app, words).output
