"""The same training on the same data, asked for in six ways, run by five engines: every metric file is the same."""

import json
import os
import shutil
from pathlib import Path

import pytest

import launcher
from launcher.remote.place import Place
from tests.another_aws import another_aws, client_variables
from tests.clients.story import METRICS, VALUES, metrics_of_an_estimator
from tests.compose import OWNER, compose_in

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("client", ["sdk_v2", "sdk_v3", "aws_cli"])
def test_a_clients_job_writes_the_numbers_that_our_own_estimators_job_writes(request, story, client):
    assert request.getfixturevalue(client)["story"]["metrics"] == story.expected


def test_s3_mode_writes_the_same_numbers(story, numbers_in_s3_mode):
    assert numbers_in_s3_mode == story.expected


@pytest.mark.docker
def test_six_ways_give_the_same_numbers(story, numbers_in_s3_mode, sdk_v2, sdk_v3, aws_cli, tmp_path):
    numbers = {
        "Estimator in local mode": story.expected,
        "Estimator in S3 mode": numbers_in_s3_mode,
        "version 2 of the SDK": sdk_v2["story"]["metrics"],
        "version 3 of the SDK": sdk_v3["story"]["metrics"],
        "AWS CLI": aws_cli["story"]["metrics"],
        "docker compose": numbers_by_compose(tmp_path, story),
    }
    rows = story.expected.splitlines()
    assert len(rows) == 3, "a header and two epochs"
    assert numbers == dict.fromkeys(numbers, story.expected)


@pytest.mark.whole
@pytest.mark.parametrize(
    "engine", [pytest.param("docker", marks=pytest.mark.docker), "slurm", "another_machine", "mode_aws"]
)
def test_each_engine_writes_the_numbers_of_a_process(request, story, engine):
    options = request.getfixturevalue(f"on_{engine}")
    assert metrics_of_an_estimator(story.source, story.data, **options) == story.expected


@pytest.fixture
def on_docker():
    return {"runtime": "docker"}


@pytest.fixture
def on_slurm(slurm):
    return {"runtime": "slurm", "max_run": 3600}


@pytest.fixture
def on_another_machine(box):
    """LAUNCHER_HOST names it."""
    return {"runtime": "process"}


@pytest.fixture
def on_mode_aws(tmp_path, monkeypatch):
    """A local AWS of another home, in another process, in the role of AWS."""
    with another_aws(tmp_path / "aws") as url:
        for name, text in client_variables(url).items():
            monkeypatch.setenv(name, text)
        Place("AWS", "us-east-1").storage().make_bucket("s3://of-the-user")
        yield {
            "sagemaker_session": launcher.Session(mode="aws", default_bucket="of-the-user"),
            "image_uri": "any-image:1",
            "role": "arn:aws:iam::111122223333:role/training",
            "instance_count": 1,
            "instance_type": "ml.m5.large",
        }


@pytest.fixture(scope="module")
def numbers_in_s3_mode(tmp_path_factory, story):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(tmp_path_factory.mktemp("s3-mode") / "home"))
        patch.setenv("LAUNCHER_RUNTIME", "process")
        return metrics_of_an_estimator(story.source, story.data, mode="s3")


def numbers_by_compose(folder, story):
    """Return the metric file that ``docker compose run train`` leaves."""
    values = dict(VALUES)
    preset = values.pop("preset")
    data = folder / "logged"
    shutil.copytree(story.data, data)
    with compose_in(folder / "checkout") as compose:
        shutil.copy(Path(story.source, "presets", f"{preset}.yaml"), compose.checkout / "presets")
        for path in (data, *data.iterdir()):
            os.chown(path, *OWNER)
        variables = {"PRESET": preset, "HYPERPARAMETERS": json.dumps(values)}
        result = compose.run("train", DATA=str(data), DATASET="data/episodes.csv", **variables)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        return (compose.jobs / "train" / "output" / "intermediate" / METRICS).read_text()
