"""A server of our own in the role of AWS, reached by boto3's own variables."""

import pytest

from launcher.remote.client import WireClient
from launcher.remote.place import Place
from tests.another_aws import another_aws, client_variables

BUCKET = "the-users-bucket"
ROLE = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """The address of a local AWS whose home is not the caller's; its jobs run as processes."""
    with another_aws(tmp_path_factory.mktemp("other") / "home") as url:
        yield url


@pytest.fixture
def place(aws, monkeypatch):
    """AWS, which boto3's own variables say is that server."""
    for name, text in client_variables(aws).items():
        monkeypatch.setenv(name, text)
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
