"""Engines of their own, each in an empty network: one that was started a moment ago, and one without any bridge."""

import os
import re
import shutil

import pytest

from tests.own_engine import Engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may start an engine"),
    pytest.mark.skipif(not shutil.which("dockerd"), reason="no dockerd here to start another engine with"),
]
IMAGE = "launcher-test-asks-s3:1"
# The image's only program asks its S3, and prints what it was told.
TRAIN = """#!/bin/bash
echo "endpoint <$AWS_ENDPOINT_URL>"
place=${AWS_ENDPOINT_URL#http://}
exec 3<>"/dev/tcp/${place%:*}/${place##*:}" || exit 0
printf 'GET / HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' "$place" >&3
read -r answer <&3
echo "answer <${answer%$'\\r'}>"
"""
JOB = f"""
import launcher
session = launcher.Session(mode="s3")
estimator = launcher.Estimator({IMAGE!r}, runtime="docker", sagemaker_session=session)
estimator.fit(logs="All", job_name="job-1")
print(estimator.latest_training_job.warnings)
"""


@pytest.fixture
def start_engine(tmp_path_factory):
    """A function that starts an engine with options of its own, and gives it the image."""
    engines = []

    def start(*options):
        engine = Engine(tmp_path_factory.mktemp("engine"), options)
        engines.append(engine)
        engine.start()
        engine.import_image(IMAGE, TRAIN)
        return engine

    yield start
    for engine in engines:
        engine.end()


def test_a_job_on_an_engine_that_was_just_started_reaches_its_s3(start_engine, home):
    """Engine 20.10 names no gateway of its bridge before it is restarted; the S3 asks whoever comes for the key."""
    ran = start_engine().run(JOB, home)
    assert "answer <HTTP/1.1 403 Forbidden>" in ran.stdout, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_job_on_an_engine_without_a_bridge_has_an_address_that_fails(start_engine, home):
    """No address at all would let boto3 ask AWS itself. The job runs, its results are stored, and it is warned."""
    ran = start_engine("--bridge=none").run(JOB, home)
    assert re.search(r"endpoint <http://\S+>", ran.stdout), ran.stdout + ran.stderr
    assert "amazonaws" not in ran.stdout
    assert "answer <" not in ran.stdout
    assert "code inside the job cannot reach its S3" in ran.stdout.splitlines()[-1]
    assert ran.returncode == 0
