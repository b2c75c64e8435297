"""The wire client against a local AWS in another process: requests, logs, results, uploads by content."""

import re

import pytest
from typer.testing import CliRunner

from launcher.cli.main import app
from launcher.errors import ArtifactError, BadInputError, ChannelError, RemoteRequestError
from launcher.remote.client import WireClient
from launcher.remote.following import RemoteLogs, follow
from launcher.remote.place import Place
from launcher.remote.results import fetch_part
from launcher.remote.shipping import ship_inputs
from launcher.requests.for_aws import check_for_aws
from tests.launcher.remote.conftest import BUCKET, ROLE

SCRIPT = (
    "from pathlib import Path; rows = Path('/opt/ml/input/data/train/rows.csv').read_text().split(); "
    "print('rows', len(rows)); Path('/opt/ml/model/count').write_text(str(len(rows)))"
)


def document(name, script=SCRIPT, **members):
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingInputMode": "File", "ContainerEntrypoint": ["python3", "-c", script]},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/results"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **members,
    }


def channel(uri):
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]


@pytest.mark.parametrize("member", ["InstanceType", "InstanceCount"])
def test_hosts_that_are_not_named_are_refused_before_anything_is_sent(member):
    request = document("wire-1")
    request["AlgorithmSpecification"]["TrainingImage"] = "any-image:1"
    check_for_aws(request)
    del request["ResourceConfig"][member]
    with pytest.raises(BadInputError, match=f"ResourceConfig.{member} is missing"):
        check_for_aws(request)


def test_a_job_is_submitted_followed_and_its_results_come_back(client, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("1\n2\n3\n")
    shipment = ship_inputs(document("wire-1", InputDataConfig=channel(f"file://{rows}")), f"s3://{BUCKET}")
    assert shipment.send(client) == 6
    assert client.submit(shipment.request).endswith(":training-job/wire-1")
    lines, statuses = [], []
    ended = follow(
        client,
        "wire-1",
        sink=lambda host, line: lines.append((host, line)),
        on_status=lambda description: statuses.append(description["TrainingJobStatus"]),
    )
    assert ended["TrainingJobStatus"] == statuses[-1] == "Completed"
    assert lines == [("algo-1", "rows 3")]
    assert (fetch_part(client, ended, "model", tmp_path / "back") / "count").read_text() == "3"
    with pytest.raises(ArtifactError, match=r"left no output\.tar\.gz"):
        fetch_part(client, ended, "output", tmp_path / "back")
    assert next(iter(client.summaries(NameContains="wire")))["TrainingJobName"] == "wire-1"


def test_what_is_there_by_content_is_not_sent_again(client, tmp_path):
    folder = tmp_path / "rows"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.csv").write_text("1\n")
    (folder / "deep" / "b.csv").write_text("22\n")

    def ship():
        shipment = ship_inputs(document("any", InputDataConfig=channel(f"file://{folder}")), f"s3://{BUCKET}/mine")
        return shipment.request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"], shipment.send(client)

    first, sent = ship()
    assert re.fullmatch(rf"s3://{BUCKET}/mine/launcher/inputs/[0-9a-f]{{32}}/", first)
    assert sent == 5
    assert ship() == (first, 0)
    (folder / "a.csv").write_text("3\n")
    second, sent = ship()
    assert second != first
    assert sent == 5


def test_a_manifest_of_this_machine_is_refused(tmp_path):
    (tmp_path / "manifest").write_text("[]")
    request = document("any", InputDataConfig=channel(f"file://{tmp_path}/manifest"))
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataType"] = "ManifestFile"
    with pytest.raises(ChannelError, match="a ManifestFile of this machine"):
        ship_inputs(request, f"s3://{BUCKET}")


def test_a_refusal_has_awss_code_and_names_the_place(client):
    with pytest.raises(RemoteRequestError, match=r"DescribeTrainingJob at AWS at http://.* was refused") as caught:
        client.describe("nobody")
    assert caught.value.aws_code == "ValidationException"
    with pytest.raises(RemoteRequestError, match="Missing required parameter"):
        client.submit({"TrainingJobName": "half"})


def test_a_job_is_stopped_and_stopping_it_again_is_no_error(client):
    client.submit(document("wire-stop", "import time; print('begun', flush=True); time.sleep(600)"))
    logs, lines = RemoteLogs(client, "wire-stop"), []

    def stop_when_begun(_description):
        logs.read(lambda _host, line: lines.append(line))
        if lines == ["begun"]:
            client.stop("wire-stop")

    ended = follow(client, "wire-stop", on_status=stop_when_begun)
    assert ended["TrainingJobStatus"] == "Stopped"
    client.stop("wire-stop")
    said = CliRunner().invoke(app, ["outputs", "wire-stop", "--mode", "aws"]).stdout
    assert "has left no file. Its log: launcher logs wire-stop --mode aws" in said


def test_nothing_answers(monkeypatch):
    client = WireClient(Place("the box", "us-east-1", "http://127.0.0.1:1", access_key="any", secret_key="any"))
    with pytest.raises(RemoteRequestError, match=r"the box at http://127\.0\.0\.1:1 failed: Could not connect"):
        client.describe("any")
