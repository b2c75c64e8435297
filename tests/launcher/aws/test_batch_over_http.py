"""AWS Batch's service jobs by boto3 over the local AWS's own server, as processes."""

import json
import os
import signal
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.jobs.batch import BatchHome
from launcher.storage.own_s3 import ensure_server, server_credentials, stop_servers
from tests.launcher.aws.clients import training_job


@pytest.fixture
def client(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    variables = {"AWS_ENDPOINT_URL": ensure_server(home), **server_credentials(home), "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session()
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
    yield lambda name: session.client(name, config=config)
    stop_servers(home)


@pytest.fixture
def batch(client):
    batch = client("batch")
    batch.create_service_environment(
        serviceEnvironmentName="env",
        serviceEnvironmentType="SAGEMAKER_TRAINING",
        capacityLimits=[{"maxCapacity": 1, "capacityUnit": "NUM_INSTANCES"}],
        tags={"team": "rl"},
    )
    batch.create_job_queue(
        jobQueueName="queue",
        jobQueueType="SAGEMAKER_TRAINING",
        priority=1,
        serviceEnvironmentOrder=[{"order": 1, "serviceEnvironment": "env"}],
    )
    return batch


def submit(batch, name, script="print('done')", environment=None, **members):
    return batch.submit_service_job(
        jobName=name,
        jobQueue="queue",
        serviceJobType="SAGEMAKER_TRAINING",
        serviceRequestPayload=json.dumps(training_job(name, script, Environment=environment or {})),
        **members,
    )["jobId"]


def schedulers(home):
    """The processes that see this home's service jobs through."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"launcher.batch_queues" in command and str(home).encode() in command:
            pids.append(int(path.name))
    return pids


def await_status(batch, job, *statuses):
    deadline = time.monotonic() + 60
    while (described := batch.describe_service_job(jobId=job))["status"] not in statuses:
        assert time.monotonic() < deadline, described
        time.sleep(0.1)
    return described


@pytest.mark.slow
def test_service_jobs_run_though_the_scheduler_is_killed(home, client, batch, tmp_path):
    """The second waits for the first; the scheduler and the server die meanwhile."""
    client("s3").create_bucket(Bucket="results")
    ran, go = tmp_path / "ran", tmp_path / "go"
    script = (
        "import os, time; open(os.environ['RAN'], 'a').write(os.environ['TRAINING_JOB_NAME'] + chr(10));"
        "[time.sleep(0.05) for _ in iter(lambda: os.path.exists(os.environ['GO']), True)]"
    )
    environment = {"RAN": str(ran), "GO": str(go)}
    jobs = [submit(batch, f"job-{number}", script, environment) for number in range(2)]
    await_status(batch, jobs[0], "RUNNING")
    assert batch.describe_service_job(jobId=jobs[1])["status"] == "RUNNABLE"
    [scheduler] = schedulers(home)
    os.kill(scheduler, signal.SIGKILL)
    while schedulers(home):
        time.sleep(0.02)
    go.touch()
    [shown] = batch.list_service_jobs(jobQueue="queue")["jobSummaryList"]  # which starts another one
    assert shown["jobId"] == jobs[0]
    ends = [await_status(batch, job, "SUCCEEDED", "FAILED") for job in jobs]
    assert [end["status"] for end in ends] == ["SUCCEEDED", "SUCCEEDED"], ends
    names = [end["latestAttempt"]["serviceResourceId"]["value"].rpartition("/")[2] for end in ends]
    assert ran.read_text().split() == names
    listed = client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert {job["TrainingJobName"]: job["TrainingJobStatus"] for job in listed} == dict.fromkeys(names, "Completed")
    deadline = time.monotonic() + 10
    while schedulers(home):
        assert time.monotonic() < deadline, "with nothing to do it ends"
        time.sleep(0.05)


def test_environments_queues_and_policies_are_kept_changed_and_deleted(batch):
    [environment] = batch.describe_service_environments(serviceEnvironments=["env"])["serviceEnvironments"]
    assert (environment["state"], environment["status"]) == ("ENABLED", "VALID")
    [queue] = batch.describe_job_queues()["jobQueues"]
    assert queue["jobQueueArn"] == "arn:aws:batch:us-east-1:000000000000:job-queue/queue"
    assert queue["priority"] == 1
    with pytest.raises(ClientError, match=r"ClientException.*Object already exists"):
        batch.create_job_queue(
            jobQueueName="queue", jobQueueType="SAGEMAKER_TRAINING", priority=1,
            serviceEnvironmentOrder=[{"order": 1, "serviceEnvironment": "env"}],
        )  # fmt: skip
    policy = batch.create_scheduling_policy(
        name="fair", fairsharePolicy={"shareDistribution": [{"shareIdentifier": "a", "weightFactor": 0.5}]}
    )
    assert batch.list_scheduling_policies()["schedulingPolicies"] == [{"arn": policy["arn"]}]
    batch.update_scheduling_policy(arn=policy["arn"], fairsharePolicy={"shareDistribution": []})
    [shown] = batch.describe_scheduling_policies(arns=[policy["arn"]])["schedulingPolicies"]
    assert shown["fairsharePolicy"] == {"shareDistribution": []}
    batch.delete_scheduling_policy(arn=policy["arn"])
    with pytest.raises(ClientError, match="found existing job queue relationship: queue"):
        batch.delete_service_environment(serviceEnvironment="env")
    with pytest.raises(ClientError, match="not disabled"):
        batch.delete_job_queue(jobQueue="queue")
    batch.update_job_queue(jobQueue="queue", state="DISABLED", priority=7)
    assert batch.describe_job_queues(jobQueues=["queue"])["jobQueues"][0]["priority"] == 7
    with pytest.raises(ClientError, match="is disabled"):
        submit(batch, "late")
    batch.delete_job_queue(jobQueue=queue["jobQueueArn"])
    assert batch.describe_job_queues()["jobQueues"] == []
    batch.update_service_environment(serviceEnvironment="env", state="DISABLED")
    batch.delete_service_environment(serviceEnvironment="env")
    assert batch.describe_service_environments()["serviceEnvironments"] == []


def test_service_jobs_are_listed_by_page_status_and_name_and_tagged(home, batch):
    batch.update_service_environment(serviceEnvironment="env", state="DISABLED")  # so that nothing starts
    jobs = [submit(batch, name, tags={"n": name}) for name in ("alpha", "beta", "alpine")]
    pages = batch.get_paginator("list_service_jobs").paginate
    named = [{"name": "JOB_NAME", "values": ["ALP*"]}]
    listed = pages(jobQueue="queue", filters=named, PaginationConfig={"PageSize": 1}).build_full_result()
    assert [job["jobName"] for job in listed["jobSummaryList"]] == ["alpine", "alpha"]
    assert batch.list_service_jobs(jobQueue="queue")["jobSummaryList"] == []  # those that run
    await_status(batch, jobs[0], "RUNNABLE")
    batch.update_service_job(jobId=jobs[1], schedulingPriority=3)
    described = batch.describe_service_job(jobId=f"arn:aws:batch:us-east-1:000000000000:service-job/{jobs[1]}")
    assert (described["schedulingPriority"], described["tags"]) == (3, {"n": "beta"})
    arn = described["jobArn"]
    batch.tag_resource(resourceArn=arn, tags={"more": "yes"})
    batch.untag_resource(resourceArn=arn, tagKeys=["n"])
    assert batch.list_tags_for_resource(resourceArn=arn)["tags"] == {"more": "yes"}
    for job in jobs[1:]:
        batch.terminate_service_job(jobId=job, reason="not wanted")
    batch.update_job_queue(jobQueue="queue", state="DISABLED")
    batch.delete_job_queue(jobQueue="queue")  # ends what is left in it
    assert all(record.terminal for _, record in BatchHome(home).jobs.records()[0])
    assert batch.describe_service_job(jobId=jobs[0])["statusReason"] == "Its job queue was deleted"
