"""Logs and metrics as boto3 reads them from the local AWS, also after its server was killed, and beside moto's."""

import json
import os
import signal
import urllib.request
from datetime import UTC, datetime, timedelta

import boto3
import botocore.exceptions
import pytest

from launcher.jobs.log_times import LogTimes
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.store import JobStore
from launcher.s3_server import service
from launcher.storage.own_s3 import ensure_server, stop_servers

GROUP = "/aws/sagemaker/TrainingJobs"
CREATED = 1_700_000_000
STREAM = f"job-1/algo-1-{CREATED}"


@pytest.fixture
def clients(home):
    """Return a function that makes a client of a service, with a job in the home that has a log and a metric."""
    record = JobRecord(spec=TrainingJobSpec(job_name="job-1", runtime="process").to_dict(), created=CREATED)
    folder = JobStore(home).create("job-1", record)
    log = folder.log_path("algo-1")
    log.write_text("reward=1\nreward=3\n")
    os.utime(log, (CREATED + 1, CREATED + 1))
    LogTimes(log).note()
    folder.metrics_path.write_text("".join(json.dumps([CREATED + at, "reward", at]) + "\n" for at in (1, 3)))

    def client(service):
        return boto3.client(
            service,
            endpoint_url=ensure_server(home),
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    yield client
    stop_servers(home)


def test_boto3_reads_logs_and_a_killed_server_loses_none(clients, home):
    logs = clients("logs")
    before = logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)
    assert [event["message"] for event in before["events"]] == ["reward=1", "reward=3"]
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, logStreamNamePrefix="job-1/", filterPattern="reward", PaginationConfig={"PageSize": 1}
    )
    assert [event["message"] for page in pages for event in page["events"]] == ["reward=1", "reward=3"]
    (server,) = service.status(home)
    os.kill(server.pid, signal.SIGKILL)
    after = clients("logs").get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)
    assert after["events"] == before["events"]
    assert after["nextForwardToken"] == before["nextForwardToken"]
    with pytest.raises(botocore.exceptions.ClientError, match=r"ResourceNotFoundException.*log stream does not exist"):
        clients("logs").get_log_events(logGroupName=GROUP, logStreamName="job-2/algo-1-1")
    with pytest.raises(botocore.exceptions.ClientError, match="ResourceNotFoundException"):
        clients("logs").describe_log_streams(logGroupName="/aws/sagemaker/ProcessingJobs")


def test_groups_and_metrics_of_others_stand_behind_ours(clients):
    logs, cloudwatch = clients("logs"), clients("cloudwatch")
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == [GROUP]
    logs.create_log_group(logGroupName="mine")
    logs.create_log_stream(logGroupName="mine", logStreamName="s")
    logs.put_log_events(
        logGroupName="mine",
        logStreamName="s",
        logEvents=[{"timestamp": int(datetime.now(UTC).timestamp() * 1000), "message": "own"}],
    )
    assert logs.get_log_events(logGroupName="mine", logStreamName="s")["events"][0]["message"] == "own"
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == [GROUP, "mine"]
    cloudwatch.put_metric_data(Namespace="mine", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert [entry["Namespace"] for entry in cloudwatch.list_metrics()["Metrics"]] == [GROUP, "mine"]


def test_boto3_reads_metrics_as_version_2_of_the_sdk_asks_for_them(clients):
    cloudwatch = clients("cloudwatch")
    began = datetime.fromtimestamp(CREATED, UTC)
    answer = cloudwatch.get_metric_statistics(
        Namespace=GROUP,
        MetricName="reward",
        Dimensions=[{"Name": "TrainingJobName", "Value": "job-1"}],
        StartTime=began,
        EndTime=began + timedelta(minutes=1),
        Period=60,
        Statistics=["Average"],
    )
    (point,) = answer["Datapoints"]
    assert point["Average"] == 2.0
    assert point["Timestamp"] == began.replace(second=0)
    stat = {"Metric": {"Namespace": GROUP, "MetricName": "reward"}, "Period": 60, "Stat": "Maximum"}
    stat["Metric"]["Dimensions"] = [{"Name": "TrainingJobName", "Value": "job-1"}]
    data = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "r", "MetricStat": stat}], StartTime=began, EndTime=began + timedelta(minutes=1)
    )
    assert data["MetricDataResults"][0]["Values"] == [3.0]
    with pytest.raises(botocore.exceptions.ClientError, match=r"(?s)InvalidParameterCombination.*1,440"):
        cloudwatch.get_metric_statistics(
            Namespace=GROUP, MetricName="r", StartTime=0, EndTime=began, Period=60, Statistics=["Sum"]
        )


def test_a_client_of_the_query_protocol_reads_metrics_as_well(clients):
    url = clients("cloudwatch").meta.endpoint_url
    form = (
        "Action=GetMetricStatistics&Version=2010-08-01&Namespace=%2Faws%2Fsagemaker%2FTrainingJobs&MetricName=reward"
        "&Dimensions.member.1.Name=TrainingJobName&Dimensions.member.1.Value=job-1&Period=60&Statistics.member.1=Sum"
        "&StartTime=2023-11-14T22:13:00Z&EndTime=2023-11-14T22:15:00Z"
    )
    scope = (
        "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/monitoring/aws4_request, SignedHeaders=host, Signature=0"
    )
    request = urllib.request.Request(url, form.encode(), {"Authorization": scope})
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    assert "<Sum>4.0</Sum>" in text
