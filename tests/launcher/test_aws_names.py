"""AWS's names inside a job: they lead to the local AWS where the job was made by AWS's names, or a setting says so."""

import json
from pathlib import Path

import boto3
import pytest
import requests
from botocore.config import Config

from launcher import Estimator, errors
from launcher.aws_names.variables import certificates_for_jobs, url_with_key
from launcher.jobs.spec import ContainerSpec
from launcher.jobs.store import ModelStore
from launcher.proxy.running import local_aws
from launcher.requests.training import s3_member, s3_of
from launcher.running.plan import EMBEDDED_S3, UNREACHABLE_S3
from launcher.running.reach import Reach
from launcher.settings import s3_settings
from launcher.storage.own_s3 import ensure_server, server_credentials
from tests.fakes import FakeRuntime

SCRIPT = """
import json, os, urllib.error, urllib.request

def ask(url, **headers):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
        return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

print("object", *ask(os.environ["OBJECT"]))
print("plain", *ask(os.environ["OBJECT"].replace("https://", "http://")))
print("refused", *ask("https://dynamodb.eu-west-1.amazonaws.com/", **{"X-Amz-Target": "DynamoDB_20120810.ListTables"}))
print("endpoint", "amazonaws" not in os.environ["AWS_ENDPOINT_URL"])
"""


def _proxied(home, url, **options):
    bundle = str(certificates_for_jobs(home, {}))
    return requests.request("GET", url, verify=bundle, timeout=30, **options)


def test_the_local_aws_is_a_proxy_for_awss_names_at_its_own_port(home):
    url = ensure_server(home)
    proxies = {"http": url, "https": url}
    answer = _proxied(home, "https://sts.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15", proxies=proxies)
    assert "000000000000" in answer.text
    refused = _proxied(home, "https://sqs.eu-west-1.amazonaws.com/", proxies=proxies)
    assert (refused.status_code, "nothing was sent to AWS" in refused.text) == (400, True)
    assert _proxied(home, "http://169.254.169.254/latest/", proxies=proxies).status_code == 403
    assert _proxied(home, f"{url}/no-such-bucket", proxies=proxies).status_code == 404


def test_the_proxy_asks_for_the_key_where_the_server_does(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_ACCESS", "key")
    url = ensure_server(home)
    with pytest.raises(requests.exceptions.ProxyError, match="407"):
        _proxied(home, "https://s3.amazonaws.com/", proxies={"https": url})
    assert _proxied(home, "http://s3.amazonaws.com/", proxies={"http": url}).status_code == 407
    with_key = url_with_key(url, *server_credentials(home).values())
    assert (
        _proxied(home, "https://s3.amazonaws.com/", proxies={"https": with_key}).status_code == 403
    )  # it is not signed


@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_full_addresses_of_aws_in_a_job_lead_to_the_local_aws(runtime, home, make_source, monkeypatch):
    monkeypatch.setenv("LAUNCHER_AWS_NAMES", "local")
    monkeypatch.setenv("LAUNCHER_ACCESS", "key")
    ensure_server(home)
    keys = {name.lower(): value for name, value in server_credentials(home).items()}
    own = boto3.client("s3", endpoint_url=ensure_server(home), region_name="us-east-1", **keys)
    own.create_bucket(Bucket="logs")
    own.put_object(Bucket="logs", Key="a b.txt", Body=b"what was logged")
    there = boto3.client("s3", region_name="eu-west-1", config=Config(signature_version="s3v4"), **keys)
    address = there.generate_presigned_url("get_object", {"Bucket": "logs", "Key": "a b.txt"})
    assert ".amazonaws.com/" in address
    estimator = Estimator(
        entry_point="train.py",
        source_dir=make_source(SCRIPT),
        runtime=runtime,
        environment={"OBJECT": address},
        output_path=str(home / "results"),
    )
    estimator.fit(logs=False)
    log = Path(estimator.latest_training_job.path, "job.log").read_text()
    for line in (
        "object 200 what was logged",
        "plain 200 what was logged",
        'refused 400 {"__type":"NotEmulated"',
        "endpoint True",
    ):
        assert line in log
    record = json.loads(Path(estimator.latest_training_job.path, "job.json").read_text())
    assert record["spec"]["s3"]["aws_names"] == "local"
    assert server_credentials(home)["AWS_SECRET_ACCESS_KEY"] not in json.dumps(record)


def test_who_asks_by_awss_names_finds_them_inside(home):
    """The same request to the endpoint's own address says nothing of names."""
    with local_aws(home, {}) as variables:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        by_name = boto3.client(
            "sagemaker",
            verify=variables["AWS_CA_BUNDLE"],
            config=Config(proxies={"https": variables["HTTPS_PROXY"]}),
            **keys,
        )
        by_address = boto3.client("sagemaker", endpoint_url=ensure_server(home), **keys)
        for name, client in (("by-name", by_name), ("by-address", by_address)):
            role = "arn:aws:iam::000000000000:role/any-role"
            client.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": "my-image:1"})
    models = ModelStore(home)
    assert models.load("by-name").request["Launcher"]["S3"] == {"Kind": "embedded", "AwsNames": "local"}
    assert models.load("by-address").request["Launcher"]["S3"] == {"Kind": "embedded"}


def _container(**environment):
    return ContainerSpec(
        **{"job_name": "job-1", "host": "algo-1", "image": "", "entry_point": (), "arguments": ("serve",)},
        **{"environment": environment, "mounts": (), "state_path": "", "log_path": ""},
        inherited=("SSL_CERT_FILE", "PIP_INDEX_URL"),
    )


def test_a_container_gets_certificates_and_proxy_and_what_its_request_sets_wins(home, tmp_path):
    certificates = tmp_path / "all.pem"
    variables = {"HTTPS_PROXY": "http://a:b@172.17.0.1:1", "NO_PROXY": "172.17.0.1"}
    reach = Reach(EMBEDDED_S3, "http://172.17.0.1:1", variables, certificates)
    images = FakeRuntime()
    images.needs_local_libraries = False
    given = reach.given_to(_container(NO_PROXY="mine"), images, {"NO_PROXY": "mine"})
    assert [(mount.source, mount.read_only) for mount in given.mounts] == [(str(certificates), True)]
    assert given.environment["SSL_CERT_FILE"] == given.mounts[0].target
    assert (given.environment["HTTPS_PROXY"], given.environment["NO_PROXY"]) == ("http://a:b@172.17.0.1:1", "mine")
    assert given.inherited == ("PIP_INDEX_URL",)
    images.needs_local_libraries = True
    given = reach.given_to(_container(), images, {})
    assert (given.mounts, given.environment["AWS_CA_BUNDLE"]) == ((), str(certificates))


def test_without_a_way_to_the_local_aws_nothing_is_reached(home):
    planned = dict.fromkeys(("HTTPS_PROXY", "http_proxy", "AWS_ENDPOINT_URL"), EMBEDDED_S3)
    given = Reach(EMBEDDED_S3, problem="no way").given_to(_container(**planned), FakeRuntime(), {})
    assert set(given.environment.values()) == {UNREACHABLE_S3}


def test_the_setting_is_kept_with_the_job_and_checked(monkeypatch):
    assert "aws_names" not in s3_settings().to_dict()
    monkeypatch.setenv("LAUNCHER_AWS_NAMES", "local")
    settings = s3_settings().to_dict()
    assert s3_of(s3_member(settings)) == settings
    monkeypatch.setenv("LAUNCHER_AWS_NAMES", "here")
    with pytest.raises(errors.SettingsError, match="LAUNCHER_AWS_NAMES"):
        s3_settings()
