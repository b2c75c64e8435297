"""A server of our own in the role of AWS: another process, with a home of its own, reached by boto3's own variables."""

import json
import os
import subprocess
import sys

import pytest

from launcher.remote.client import WireClient
from launcher.remote.place import Place

BUCKET = "the-users-bucket"
ROLE = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """The address of a local AWS whose home is not the caller's; its jobs run as processes."""
    home = tmp_path_factory.mktemp("other") / "home"
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "LAUNCHER_"))},
        "LAUNCHER_HOME": str(home),
        "LAUNCHER_RUNTIME": "process",
        "LAUNCHER_STOP_GRACE_SECONDS": "5",
    }

    def run(*arguments):
        command = [sys.executable, "-m", "launcher", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    url = json.loads(run("up", "--json"))["url"]
    yield url
    run("down")


@pytest.fixture
def place(aws, monkeypatch):
    """AWS, which boto3's own variables say is that server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    for name, text in (("ACCESS_KEY_ID", "any"), ("SECRET_ACCESS_KEY", "any"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", text)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    return Place("AWS", "us-east-1")


@pytest.fixture
def client(place):
    """The wire to it, with the bucket that the user names."""
    wire = WireClient(place)
    wire.storage.make_bucket(f"s3://{BUCKET}")
    return wire


@pytest.fixture
def region(monkeypatch):
    """A region, and addresses at which nothing answers: what reaches for the network fails."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
