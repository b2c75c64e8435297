"""docs/ci.md: the YAML of both pipelines and of the action, step by step, as a runner would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pages import ROOT, blocks

PAGE = ROOT / "docs/ci.md"
ACTION = ROOT / ".github/actions/launcher/action.yml"
FAILING = 'raise SystemExit("no rows")\n'


@pytest.fixture
def pipeline(tmp_path, home):
    """A function that runs a step's text in a folder with the page's files."""
    for block in blocks(PAGE):
        if block.rule == "save":
            (tmp_path / block.value).parent.mkdir(exist_ok=True)
            (tmp_path / block.value).write_text(block.text)
    programs = tmp_path / ".programs"
    programs.mkdir()
    (programs / "launcher").write_text(f'#!/bin/sh\nexec {sys.executable} -m launcher "$@"\n')
    (programs / "launcher").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(text, **variables):
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", text],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LAUNCHER_RUNTIME": "process", **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def documents():
    return [yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml"]


def texts_of(document):
    """Return the scripts of a pipeline, without what installs packages."""
    if "jobs" in document:
        (job,) = document["jobs"].values()
        return [step["run"] for step in job["steps"] if "run" in step and step["name"] != "Install"]
    job = document["train"]
    return [*job["script"], *job["after_script"]]


@pytest.mark.slow
def test_the_pipelines_commands_run_and_leave_what_they_upload(pipeline, tmp_path):
    pipelines = [document for document in documents() if isinstance(document, dict)]
    assert len(pipelines) == 2
    for document in pipelines:
        for text in texts_of(document):
            ended = pipeline(text)
            assert ended.returncode == 0, text + ended.stdout + ended.stderr
        assert (tmp_path / "results/model/mean.json").read_text() == "3.0"
        assert "epoch=2" in (tmp_path / "results/job.log").read_text()
        (tmp_path / "results").rename(tmp_path / f"results-{len(document)}")


def test_the_step_of_the_page_names_inputs_that_the_action_has():
    (steps,) = [document for document in documents() if isinstance(document, list)]
    action = yaml.safe_load(ACTION.read_text())
    (step,) = [step for step in steps if ACTION.parent.name in step["uses"]]
    assert set(step["with"]) <= set(action["inputs"])
    assert {name for name, value in action["inputs"].items() if value.get("required")} <= set(step["with"])


@pytest.mark.slow
def test_the_action_keeps_the_exit_code_and_what_the_job_left(pipeline, tmp_path):
    action = yaml.safe_load(ACTION.read_text())
    (step,) = [step for step in action["runs"]["steps"] if step["name"] == "Run"]
    output = tmp_path / "github-output"
    variables = {"RESULTS": "kept", "GITHUB_OUTPUT": str(output), "LAUNCHER_HOME": str(tmp_path / ".launcher")}
    ended = pipeline(step["run"], COMMAND="launcher fit train.py -i train=no-such-folder", **variables)
    assert ended.returncode == 2
    assert output.read_text() == "exit-code=2\n"
    assert not (tmp_path / "kept").exists()
    ended = pipeline(step["run"], COMMAND="launcher fit train.py -i train=data --job-name a", **variables)
    assert ended.returncode == 0, ended.stderr
    assert output.read_text().endswith("exit-code=0\njob=a\n")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["description.json", "job.log", "model"]
    (tmp_path / "train.py").write_text(FAILING)
    ended = pipeline(step["run"], COMMAND="launcher fit train.py --job-name b", **{**variables, "RESULTS": "failed"})
    assert ended.returncode == 1
    assert "no rows" in (tmp_path / "failed/job.log").read_text()


@pytest.mark.slow
def test_the_action_installs_the_repository_that_it_is_in(pipeline):
    """pip asks no index here and only says what it would install."""
    action = yaml.safe_load(ACTION.read_text())
    (step,) = [step for step in action["runs"]["steps"] if step["name"] == "Install"]
    only_look = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    only_look["PIP_NO_BUILD_ISOLATION"] = "0"  # means no isolation: pip takes the variable for what it negates
    place = {"GITHUB_ACTION_PATH": str(ACTION.parent), "PACKAGE": "", "INDEX": "https://example.invalid"}
    ended = pipeline(step["run"], EXTRAS="rl", **place, **only_look)
    assert f"Processing {ROOT}" in ended.stdout, ended.stderr
    assert "Would install sagemaker-launcher-" in ended.stdout
