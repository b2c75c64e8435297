"""Tuning jobs from the command line."""

import json
import re

import pytest

from launcher.cli.arguments import metrics_of
from launcher.cli.tuning import _ranges
from launcher.errors import BadInputError
from launcher.running import artifacts
from tests.shell import run_launcher

SCRIPT = "import os\nprint(f\"score={os.environ['SM_HP_RATE']} of {os.environ['SM_HP_KIND']}\")\n"
TUNE = (
    *("tune", "train.py", "--range", "rate=1:4", "--range", "kind=a,b", "--objective", "score"),
    *("--metric", "score=score=([0-9.]+)", "--strategy", "random", "--max-jobs", "3", "--seed", "1", "-r", "process"),
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


@pytest.mark.slow
def test_the_story_of_launcher_tune(folder):
    made = run_launcher(*TUNE, "--job-name", "tune-1", "--parallel", "2", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "002 Completed score=" in made.stdout
    assert "tune-1: Completed" in made.stdout
    listed = json.loads(run_launcher("ls", "--kind", "tuning", "--json", cwd=folder).stdout)
    assert [(job["HyperParameterTuningJobName"], job["HyperParameterTuningJobStatus"]) for job in listed] == [
        ("tune-1", "Completed")
    ]
    described = json.loads(run_launcher("describe", "tune-1", "--json", cwd=folder).stdout)
    assert described["TrainingJobStatusCounters"]["Completed"] == 3
    assert described["BestTrainingJob"]["TrainingJobName"] in made.stdout
    assert "Random: up to 3 training jobs" in run_launcher("logs", "tune-1", cwd=folder).stdout
    assert run_launcher("stop", "tune-1", cwd=folder).stdout == "tune-1: Completed\n"


@pytest.mark.slow
def test_a_document_runs_as_boto3_would_send_it(folder):
    printed = run_launcher(*TUNE, "--job-name", "tune-1", "--dry-run", "--json", cwd=folder)
    document = json.loads(printed.stdout)
    assert document["HyperParameterTuningJobConfig"]["ParameterRanges"]["IntegerParameterRanges"] == [
        {"Name": "rate", "MinValue": "1", "MaxValue": "4", "ScalingType": "Auto"}
    ]
    assert "range      rate: 1 to 4, Linear" in run_launcher(*TUNE, "--dry-run", cwd=folder).stdout
    static = document["TrainingJobDefinition"]["StaticHyperParameters"]
    (folder / "request.json").write_text(json.dumps(document))
    refused = run_launcher("run", "request.json", cwd=folder)
    assert refused.returncode == 2
    assert "the source of job 'tune-1-000-0'" in refused.stderr
    # What makes such a document uploads the source.
    archive = folder / "sourcedir.tar.gz"
    artifacts.write_archive([("train.py", folder / "train.py")], archive, mtime=0, durable=False)
    static["sagemaker_submit_directory"] = json.dumps(f"file://{archive}")
    (folder / "request.json").write_text(json.dumps(document))
    run = run_launcher("run", "request.json", "--json", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["HyperParameterTuningJobStatus"] == "Completed"


@pytest.mark.parametrize(
    ("read", "texts", "words"),
    [
        (_ranges, ["rate"], "--range 'rate' is not NAME=LOW:HIGH"),
        (_ranges, ["rate=1:4", "rate=1:4"], "'rate' is given twice"),
        (_ranges, ["lr=a:b"], "'a' and 'b' are no numbers"),
        (_ranges, ["lr=1:2:cubic"], "the scale is one of: auto, linear, log, reverse-log"),
        (metrics_of, ["score"], "--metric 'score' is not NAME=REGEX"),
    ],
)
def test_what_cannot_be_understood_is_named(read, texts, words):
    with pytest.raises(BadInputError, match=re.escape(words)):
        read(texts)


def test_ranges_are_whole_numbers_numbers_or_lists():
    ranges = _ranges(["layers=1:4", "lr=1e-5:1e-1:log", "kind=a, b"])
    assert ranges["layers"].as_tuning_range("layers")["MaxValue"] == "4"
    assert ranges["lr"].as_tuning_range("lr")["ScalingType"] == "Logarithmic"
    assert ranges["kind"].values == ["a", "b"]
