"""The notebooks of the examples run to their end, by version 2 of the SDK and by our own names."""

import json
import re

import nbformat
import pytest

from launcher.s3_server import service
from tests.clients.notebooks import EXAMPLES, python_with_sdk, run_notebook

SHORT = 'EPOCHS = 2\nTRAINING_OPTIONS = {"bcq.imitation_updates": 50, "ope.reward_model_epochs": 1, "seed": 3}'
SDK, OWN = "batch_rl_cartpole", "batch_rl_cartpole_launcher"


def read(name):
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module", params=[SDK, OWN])
def story(request, tmp_path_factory):
    """A short run of a notebook: its cells, and all that they show."""
    folder = tmp_path_factory.mktemp(request.param)
    options = {"python": python_with_sdk(folder / "environment")} if request.param == SDK else {}
    notebook = read(request.param)
    next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])).source = SHORT
    shown = run_notebook(notebook, folder, **options)
    yield notebook, "\n".join(shown)
    service.stop(folder / "home")


@pytest.mark.slow
def test_a_notebook_tells_the_whole_story(story):
    notebook, shown = story
    assert re.search(r"^\d+ steps of 500 episodes; mean reward 2\d\.\d$", shown, re.MULTILINE)
    assert re.search(r"^model: s3://sagemaker-us-east-1-000000000000/JOB/output/model.tar.gz$", shown, re.MULTILINE)
    reward = re.search(r"^mean reward of 100 episodes: ([\d.]+); of the random policy", shown, re.MULTILINE)
    assert 8 <= float(reward[1]) <= 200
    assert re.search(r"timestamp +metric_name +value", shown), "the rewards are metrics of the job"
    assert "reward-testing" in shown
    assert re.search(r"^100 answers; the first: \{'predictions': \[\[0\.\d", shown, re.MULTILINE)
    assert "100 rows of the next log" in shown
    assert re.search(r"^probabilities: \[[01]\.\d+, [01]\.\d+\] action: [01]$", shown, re.MULTILINE)
    images = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in str(output)]
    assert len(images) == 1


@pytest.mark.parametrize("name", [SDK, OWN])
def test_what_a_notebook_shows_in_the_repository_is_small_and_from_a_good_policy(name):
    outputs = [output for cell in read(name).cells for output in cell.get("outputs", [])]
    assert len(json.dumps(outputs)) < 20_000
    assert float(re.search(r"mean reward of 100 episodes: ([\d.]+)", json.dumps(outputs))[1]) > 195


def test_both_notebooks_tell_the_same_story():
    def headings(name):
        return [line for cell in read(name).cells for line in cell.source.splitlines() if line.startswith("## ")]

    assert headings(SDK) == headings(OWN)
    assert len(headings(SDK)) == 6


@pytest.mark.slow
def test_ipython_loads_and_unloads_the_extension(tmp_path):
    """The magics themselves, in a real kernel."""
    lines = [
        "import os, json; before = dict(os.environ)",
        "%load_ext launcher",
        "import boto3; print(boto3.client('sts').get_caller_identity()['Account'], 'HTTPS_PROXY' in os.environ)",
        "!echo $HTTPS_PROXY",
        "%unload_ext launcher",
        "print({name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)})",
        "%load_ext launcher",
        "print(boto3.client('sts').get_caller_identity()['Account'])",
    ]
    cells = [nbformat.v4.new_code_cell(line) for line in lines]
    try:
        shown = run_notebook(nbformat.v4.new_notebook(cells=cells), tmp_path, working=tmp_path)
    finally:
        service.stop(tmp_path / "home")
    assert shown[2].split() == ["000000000000", "True"]
    assert shown[3].startswith("http://127.0.0.1:")
    assert shown[5].strip() == "set()"
    assert shown[7].strip().endswith("000000000000")
