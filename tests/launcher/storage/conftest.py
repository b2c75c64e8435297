"""A plain S3 to test against: moto, behind a server that lets faults happen; credentials that nobody owns."""

import hashlib
from dataclasses import replace

import boto3
import pytest

from launcher.settings import S3Settings
from launcher.storage.s3 import S3Limits, S3Storage
from tests.fault_server import FaultServer, moto_server

MIB = 1 << 20
PATIENT = S3Limits(connect_seconds=5, read_seconds=20, range_bytes=MIB // 2, part_bytes=5 * MIB)
QUICK = replace(PATIENT, read_seconds=1.0, deadline_seconds=8)


def limits_for(request):
    """Return limits for a test: a hang has to be noticed soon, whatever else is slow has time."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return QUICK if "hang" in parameters.get("fault", "") else PATIENT


@pytest.fixture(scope="session")
def moto_url():
    with moto_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "LAUNCHER_S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))


@pytest.fixture(scope="session")
def fault_server(moto_url):
    with FaultServer(moto_url) as server:
        yield server


@pytest.fixture
def server(fault_server):
    """The S3 that everything below talks to; nothing goes wrong until a test says so."""
    fault_server.mend()
    yield fault_server
    fault_server.mend()


@pytest.fixture(scope="session")
def s3(moto_url):
    """boto3's client, to see what is really there; it goes past the faults."""
    session = boto3.Session("tests", "tests", region_name="us-east-1")
    return session.client("s3", endpoint_url=moto_url)


@pytest.fixture
def bucket(s3, request):
    """An empty bucket of this test's own."""
    name = f"tests-{hashlib.sha1(request.node.nodeid.encode()).hexdigest()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def storages():
    """By limits: boto3 takes long to make a client."""
    return {}


@pytest.fixture
def storage(server, storages, request):
    limits = limits_for(request)
    if limits not in storages:
        storages[limits] = S3Storage(S3Settings("endpoint", server.url), limits=limits)
    return storages[limits]


@pytest.fixture
def patient_storage(server, storages):
    return storages.setdefault(PATIENT, S3Storage(S3Settings("endpoint", server.url), limits=PATIENT))
