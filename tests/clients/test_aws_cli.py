"""AWS's command line, version 1, unmodified, by ``launcher exec``; and our own two modes beside it."""

import json
import sys
import tarfile
from pathlib import Path

import pytest

from launcher.s3_server import service
from tests.clients.environments import FOLDER, run_program
from tests.clients.story import METRICS, VALUES, make_story, metrics_of_an_estimator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return make_story(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, story):
    """What the program is given: a document, a source archive, data."""
    folder = tmp_path_factory.mktemp("aws-cli")
    with tarfile.open(folder / "sourcedir.tar.gz", "w:gz") as archive:
        archive.add(story.source, ".")
    (folder / "logged").symlink_to(story.data)
    values = {
        **VALUES,
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://of-the-cli/sourcedir.tar.gz",
    }
    document = {
        "TrainingJobName": "of-the-cli",
        "RoleArn": "arn:aws:iam::000000000000:role/anybody",
        "AlgorithmSpecification": {
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.3-cpu-py311",
            "TrainingInputMode": "File",
        },
        "HyperParameters": {name: json.dumps(value) for name, value in values.items()},
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://of-the-cli/logged"}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://of-the-cli/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    (folder / "job.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def reports(folder):
    """One run of the program, with the command that stands beside this Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        yield run_program(["sh", str(FOLDER / "programs/aws_cli.sh"), str(folder), METRICS], folder / "home")
    service.stop(folder / "home")


def test_a_document_makes_a_job_that_is_described_and_listed(reports):
    assert reports["identity"]["value"] == "000000000000"
    assert reports["created"]["value"] == "arn:aws:sagemaker:us-east-1:000000000000:training-job/of-the-cli"
    assert reports["status"]["value"] == "Completed"
    assert reports["listed"]["value"] == ["of-the-cli"]


def test_what_cannot_be_done_is_said_in_awss_words(reports):
    assert reports["twice"]["value"] == "An error occurred (ResourceInUse)"
    assert reports["refused"]["value"].startswith("An error occurred (Not")


def test_another_region_is_served_as_well(reports):
    assert reports["region"]["value"] == "[]"


def test_the_story_writes_the_numbers_that_our_own_estimators_job_writes(reports, folder, story):
    assert reports["status"]["value"] == "Completed"
    assert (folder / "metrics.csv").read_text() == story.expected


def test_the_story_writes_the_same_numbers_in_s3_mode(story, home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    assert metrics_of_an_estimator(story.source, story.data, mode="s3") == story.expected
