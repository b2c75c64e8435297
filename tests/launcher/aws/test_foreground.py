"""The local AWS as docker compose runs it: in the foreground, with no more than the image of the jobs has."""

import os
import subprocess
import sys
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.launcher.aws.clients import training_job
from tests.launcher.aws.test_commands import unused_port
from tests.shell import launcher_environment

BLOCKER = "import sys\nfor name in ('docker', 'typer', 'rich', 'moto', 'requests'): sys.modules[name] = None\n"


@pytest.fixture
def clients(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    variables = launcher_environment(LAUNCHER_HOME=str(tmp_path / "elsewhere"), AWS_ENDPOINT_URL="http://elsewhere:1")
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), variables["PYTHONPATH"]])
    variables["LAUNCHER_NAMESPACES"] = "off"
    port = unused_port()
    command = [sys.executable, "-m", "launcher.aws.foreground", str(tmp_path / "jobs" / "s3"), "127.0.0.1", str(port)]
    with subprocess.Popen(command, env=variables) as server:
        options = {
            "endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1", "aws_access_key_id": "any",
            "aws_secret_access_key": "any", "config": Config(retries={"total_max_attempts": 8}),
        }  # fmt: skip
        yield lambda name: boto3.client(name, **options)
        server.terminate()
        assert server.wait(20) == 0


@pytest.mark.slow
def test_jobs_run_in_the_folder_beside_the_store_and_what_moto_answers_for_is_refused(clients, tmp_path):
    sagemaker = clients("sagemaker")
    clients("s3").create_bucket(Bucket="results")
    assert clients("sts").get_caller_identity()["Account"] == "000000000000"
    script = (
        "import boto3, os; boto3.client('s3').put_object(Bucket='results', Key='seen', Body=b'x');"
        " open(os.environ['SAGEMAKER_BASE_DIR'] + '/model/weights', 'w').write('w')"
    )
    sagemaker.create_training_job(**training_job("in-the-foreground", script))
    deadline = time.monotonic() + 60
    while (described := sagemaker.describe_training_job(TrainingJobName="in-the-foreground"))[
        "TrainingJobStatus"
    ] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert described["TrainingJobStatus"] == "Completed", described
    keys = {entry["Key"] for entry in clients("s3").list_objects_v2(Bucket="results")["Contents"]}
    assert keys == {"seen", "jobs/in-the-foreground/output/model.tar.gz"}
    assert (tmp_path / "jobs" / "jobs" / "in-the-foreground" / "job.json").is_file()
    with pytest.raises(ClientError, match="runs without moto"):
        clients("iam").list_roles()
    group = "/aws/sagemaker/TrainingJobs"
    assert [entry["logGroupName"] for entry in clients("logs").describe_log_groups()["logGroups"]] == [group]
    with pytest.raises(ClientError, match="runs without moto"):
        clients("cloudwatch").put_metric_data(Namespace="own", MetricData=[{"MetricName": "m", "Value": 1.0}])
    listed = clients("cloudwatch").list_metrics(Namespace="/aws/sagemaker/TrainingJobs")["Metrics"]
    assert {metric["MetricName"] for metric in listed} <= {"CPUUtilization", "MemoryUtilization", "DiskUtilization"}
