"""The story and the programs of the clients: made once in a run of the tests, by whichever process comes first."""

import fcntl
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from launcher.s3_server import service
from tests.clients.environments import FOLDER, Reports, client_python, run_program
from tests.clients.story import METRICS, VALUES, Story, make_story


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that returns what ``make`` returns for a new folder; another process gets the same."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def made_once(name: str, make: Callable[[Path], dict]) -> dict:
        report = shared / f"{name}.json"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not report.exists():
                report.write_text(json.dumps(make(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared)))))
        return json.loads(report.read_text())

    return made_once


@pytest.fixture(scope="session")
def story(made_once):
    return Story(**made_once("story", lambda folder: asdict(make_story(folder))))


@pytest.fixture(scope="session")
def sdk_v2(made_once, story):
    """What the program for version 2 of the SDK reports."""
    return Reports(**made_once("sdk-2", lambda folder: _reports_of_an_sdk("2", folder, story)))


@pytest.fixture(scope="session")
def sdk_v3(made_once, story):
    """What the program for version 3 of the SDK reports."""
    return Reports(**made_once("sdk-3", lambda folder: _reports_of_an_sdk("3", folder, story)))


@pytest.fixture(scope="session")
def aws_cli(made_once, story):
    """What the program for AWS's command line reports."""
    return Reports(**made_once("aws-cli", lambda folder: _reports_of_the_cli(folder, story)))


def _reports_of_an_sdk(version: str, folder: Path, story: Story) -> dict:
    (folder / "work").mkdir()
    program = [client_python(f"sagemaker-{version}"), str(FOLDER / f"programs/sdk_v{version}.py"), str(folder / "work")]
    return _run([*program, str(FOLDER / "source"), story.arguments], folder / "home")


def _reports_of_the_cli(folder: Path, story: Story) -> dict:
    """Give the program a document, a source archive, data, and the command that stands beside this Python."""
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        report = _run(["sh", str(FOLDER / "programs/aws_cli.sh"), str(folder), METRICS], folder / "home")
    if (folder / "metrics.csv").exists():
        report["sections"]["story"] = {"metrics": (folder / "metrics.csv").read_text()}
    return report


def _run(command: list[str], home: Path) -> dict:
    try:
        return asdict(run_program(command, home))
    finally:
        service.stop(home)
