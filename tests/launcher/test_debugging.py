"""A job waits for a debugger, which sees the user's own files: a real one, over its real protocol."""

import json
import os

import pytest
from typer.testing import CliRunner

import launcher
from launcher.cli.main import app
from launcher.errors import DebuggerError, JobFailedError
from launcher.jobs.store import JobStore
from tests.dap import Debugger

SCRIPT = """
import os, sys
from helper import six

def main():
    host = os.environ["SM_CURRENT_HOST"]
    answer = six() * 7
    print(host, answer, sys.argv[1:], __name__, __file__, flush=True)

main()
"""
ANSWER, SIX = 7, 2  # the lines that are stopped at


@pytest.fixture
def source(make_source, tmp_path):
    folder = make_source(SCRIPT)
    (tmp_path / "source" / "helper.py").write_text("def six():\n    return 6\n")
    return folder


def started(source, home, **options):
    """Start a job for a debugger; return it, and what ``launcher debug`` prints."""
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, hyperparameters={"depth": 3}, max_run=120, **options
    )
    estimator.fit(wait=False, debug=True)
    result = CliRunner().invoke(app, ["debug", estimator.latest_training_job.name])
    assert result.exit_code == 0, result.output
    return estimator.latest_training_job, json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "hosts"),
    [
        ("process", 2),
        pytest.param("docker", 1, marks=pytest.mark.docker),
        pytest.param("slurm", 2, marks=pytest.mark.whole),
    ],
)
def test_a_breakpoint_is_hit_by_the_users_own_path_on_any_host(runtime, hosts, source, home, request):
    if runtime == "slurm":
        request.getfixturevalue("slurm")
    job, configuration = started(source, home, runtime=runtime, instance_count=hosts)
    assert [entry["name"] for entry in configuration["configurations"]] == [
        f"{job.name} algo-{number}" for number in range(1, hosts + 1)
    ]
    assert len(configuration.get("compounds", [])) == (hosts > 1)
    train, helper = os.path.join(source, "train.py"), os.path.join(source, "helper.py")  # noqa: PTH118
    for number, entry in enumerate(configuration["configurations"], 1):
        assert entry["connect"]["host"] == "127.0.0.1"
        with Debugger(entry) as debugger:
            debugger.attach({train: [ANSWER], helper: [SIX]})
            for path, line in ((train, ANSWER), (helper, SIX)):
                thread = debugger.event("stopped")["threadId"]
                frame = debugger.ask("stackTrace", threadId=thread)["stackFrames"][0]
                assert (frame["source"]["path"], frame["line"]) == (path, line)
                if path == train:
                    value = debugger.ask("evaluate", expression="host", frameId=frame["id"], context="watch")
                    assert value["result"] == repr(f"algo-{number}")
                debugger.ask("continue", threadId=thread)
            debugger.event("terminated")
    job.wait(logs=False)
    assert job.status == "Completed"
    log = (job.path / "job.log").read_text()
    assert "algo-1 42 ['--depth', '3'] __main__" in log
    assert f"launcher debug {job.name}" in log
    result = CliRunner().invoke(app, ["debug", job.name])
    assert result.exit_code == 2
    assert "has ended (Completed)" in result.output


@pytest.mark.slow
def test_a_debugger_waits_for_a_program_that_is_not_there_yet_and_one_that_leaves_lets_it_go_on(source, home):
    """The port answers before the program does, which has no network; it fails as it would without a debugger."""
    with open(os.path.join(source, "train.py"), "a") as file:  # noqa: PTH118, PTH123
        file.write("raise ValueError('no transitions')\n")
    job, configuration = started(source, home, runtime="process", enable_network_isolation=True)
    with Debugger(configuration["configurations"][0]) as debugger:
        debugger.attach({})
        debugger.ask("disconnect", terminateDebuggee=False)
    with pytest.raises(JobFailedError, match="ValueError: no transitions"):
        job.wait(logs=False)
    log = (job.path / "job.log").read_text()
    assert log.count("ValueError: no transitions") == 1
    assert "runpy" not in log


def test_what_no_debugger_can_be_put_into_is_refused_before_anything_starts(source, home, monkeypatch, tmp_path):
    def refused(words, **options):
        with pytest.raises(DebuggerError, match=words):
            launcher.Estimator(**options).fit(debug=True)

    (tmp_path / "source" / "run.sh").write_text("true")
    refused("needs a Python program, and run.sh is none", entry_point="run.sh", source_dir=source, runtime="process")
    refused(
        "container_entry_point or container_arguments start something else",
        entry_point="train.py",
        source_dir=source,
        runtime="process",
        container_entry_point=["true"],
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("needs the package debugpy", entry_point="train.py", source_dir=source, runtime="process")
    assert JobStore(home).names() == []


def test_a_job_without_a_debugger_says_how_to_start_one(source, home):
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process")
    estimator.fit(logs=False)
    result = CliRunner().invoke(app, ["debug", "latest"])
    assert result.exit_code == 2
    assert "was not started for a debugger" in result.output
    assert "launcher fit --debug" in result.output
