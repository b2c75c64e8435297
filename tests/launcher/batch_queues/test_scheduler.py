"""The scheduler in this process, over training jobs of the fake runtime."""

import json
import sys
import threading
import time

import pytest

from launcher.aws import batch
from launcher.aws.errors import AwsError
from launcher.batch_queues import scheduler as scheduling
from launcher.batch_queues.scheduler import Scheduler
from launcher.jobs.batch import BatchHome
from launcher.jobs.store import JobStore
from launcher.running.driving import drive
from tests.fakes import FakeRuntime


class Queues:
    """Service jobs of small scripts, whose scheduler is run by the test."""

    def __init__(self, tmp_path, home):
        self.home, self.jobs, self.runtime = home, JobStore(home), FakeRuntime()
        self.outputs = tmp_path / "outputs"
        self.outputs.mkdir()
        self.started, self.threads = [], []
        self.scheduler = self.new_scheduler()

    def new_scheduler(self, start=None):
        return Scheduler(self.home, self.runtime, start or self.start)

    def start(self, store, name):
        self.started.append(name)
        thread = threading.Thread(target=drive, args=(store, name), kwargs={"runtime": self.runtime})
        thread.start()
        self.threads.append(thread)

    def make(self, capacity=1, shares=None):
        limit = {"maxCapacity": capacity, "capacityUnit": "NUM_INSTANCES"}
        environment = {"serviceEnvironmentName": "env", "serviceEnvironmentType": "SAGEMAKER_TRAINING"}
        batch.create_service_environment({**environment, "capacityLimits": [limit]}, self.home)
        queue = {"jobQueueName": "queue", "jobQueueType": "SAGEMAKER_TRAINING", "priority": 1}
        if shares is not None:
            policy = {"name": "policy", "fairsharePolicy": {"shareDistribution": shares}}
            queue["schedulingPolicyArn"] = batch.create_scheduling_policy(policy, self.home)["arn"]
        order = [{"order": 1, "serviceEnvironment": "env"}]
        batch.create_job_queue({**queue, "serviceEnvironmentOrder": order}, self.home)

    def submit(self, name, script="print('done')", *, instances=1, **members):
        payload = {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/any",
            "AlgorithmSpecification": {
                "TrainingInputMode": "File",
                "ContainerEntrypoint": [sys.executable, "-c", script],
            },
            "OutputDataConfig": {"S3OutputPath": f"file://{self.outputs}"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        }
        document = {
            "jobName": name,
            "jobQueue": "queue",
            "serviceJobType": "SAGEMAKER_TRAINING",
            "serviceRequestPayload": json.dumps(payload),
            **members,
        }
        return batch.submit_service_job(document, self.home)["jobId"]

    def describe(self, job):
        return batch.describe_service_job({"jobId": job}, self.home)

    def tick_until(self, test):
        deadline = time.monotonic() + 30
        while not test():
            assert time.monotonic() < deadline, [record for _, record in BatchHome(self.home).jobs.records()[0]]
            self.scheduler.tick()
            time.sleep(0.02)

    def run(self):
        self.tick_until(self.scheduler.is_idle)

    def order(self):
        """The names in the order in which their training jobs were started."""
        return [name.removeprefix("AWSBatch").rpartition("-")[0].rpartition("-")[0] for name in self.started]


@pytest.fixture
def queues(tmp_path, home, monkeypatch):
    monkeypatch.setattr(batch, "ensure_scheduler", lambda home: None)  # the test is the scheduler
    queues = Queues(tmp_path, home)
    yield queues
    for name in queues.jobs.names():
        queues.jobs.folder(name).request_stop()
    for thread in queues.threads:
        thread.join(30)


def test_jobs_run_as_training_jobs_in_the_order_of_their_priority(queues):
    queues.make()
    first, second, third = queues.submit("a"), queues.submit("b"), queues.submit("c", schedulingPriority=5)
    assert queues.describe(first)["status"] == "SUBMITTED"
    queues.run()
    assert queues.order() == ["c", "a", "b"]
    for job in (first, second, third):
        described = queues.describe(job)
        assert described["status"] == "SUCCEEDED"
        [attempt] = described["attempts"]
        assert described["latestAttempt"]["serviceResourceId"] == attempt["serviceResourceId"]
        name = attempt["serviceResourceId"]["value"].rpartition("/")[2]
        assert str(queues.jobs.load(name).status) == "Completed"
        assert described["createdAt"] <= described["startedAt"] <= described["stoppedAt"]


def test_no_more_instances_run_at_once_than_the_environment_has(queues):
    queues.make(capacity=2)
    wait = "import time; time.sleep(0.5)"
    jobs = [queues.submit(f"j{number}", wait) for number in range(3)]
    huge = queues.submit("huge", instances=3)
    for _ in range(3):
        queues.scheduler.tick()
    assert [queues.describe(job)["status"] for job in jobs[2:]] == ["RUNNABLE"]
    assert "3 instances" in queues.describe(huge)["statusReason"]
    assert len(queues.started) == 2
    batch.terminate_service_job({"jobId": huge, "reason": "too large"}, queues.home)
    queues.run()
    assert queues.order() == ["j0", "j1", "j2"]


def test_shares_take_turns_by_their_weights(queues):
    """The attempts are shorter than the second that each counts as."""
    queues.make(shares=[{"shareIdentifier": "x", "weightFactor": 0.25}, {"shareIdentifier": "y"}])
    for name in ("x0", "x1", "x2", "y0", "y1"):
        queues.submit(name, shareIdentifier=name[0])
    with pytest.raises(AwsError, match="shareIdentifier must be given"):
        queues.submit("none")
    queues.run()
    assert queues.order()[:4] == ["x0", "y0", "x1", "x2"]


def test_a_failed_attempt_is_repeated_and_its_reason_stays(queues):
    queues.make()
    rules = [{"action": "EXIT", "onStatusReason": "*"}]
    again = queues.submit("again", "raise SystemExit(3)", retryStrategy={"attempts": 2})
    never = queues.submit("never", "raise SystemExit(3)", retryStrategy={"attempts": 2, "evaluateOnExit": rules})
    queues.run()
    assert queues.order() == ["again", "again", "never"]
    described = queues.describe(again)
    assert described["status"] == "FAILED"
    assert len({attempt["serviceResourceId"]["value"] for attempt in described["attempts"]}) == 2
    assert described["statusReason"].startswith("Received status from SageMaker:AlgorithmError")
    assert len(queues.describe(never)["attempts"]) == 1


def test_a_job_is_terminated_before_and_while_it_runs(queues):
    queues.make()
    running, waiting = queues.submit("running", "import time; time.sleep(60)"), queues.submit("waiting")
    queues.tick_until(lambda: queues.describe(running)["status"] == "RUNNING")
    batch.terminate_service_job({"jobId": waiting, "reason": "not wanted"}, queues.home)
    assert queues.describe(waiting)["statusReason"] == "not wanted"
    assert "attempts" in queues.describe(waiting)
    batch.terminate_service_job({"jobId": running, "reason": "enough"}, queues.home)
    queues.run()
    described = queues.describe(running)
    assert (described["status"], described["statusReason"]) == ("FAILED", "enough")
    assert described["isTerminated"]
    assert queues.order() == ["running"]


def test_an_attempt_that_takes_too_long_is_stopped_and_not_repeated(queues, monkeypatch):
    monkeypatch.setattr(batch, "_MIN_TIMEOUT_SECONDS", 0)
    queues.make()
    timeout = {"attemptDurationSeconds": 0}
    job = queues.submit("slow", "import time; time.sleep(60)", timeoutConfig=timeout, retryStrategy={"attempts": 3})
    queues.run()
    assert queues.describe(job)["statusReason"] == scheduling.TIMED_OUT
    assert len(queues.started) == 1


def test_a_scheduler_that_died_at_any_step_leaves_nothing_that_runs_twice(queues, monkeypatch, tmp_path):
    """It dies before the training job is made, and before it is driven; the next one goes on."""
    queues.make()
    ran = tmp_path / "ran"
    job = queues.submit("once", f"open({str(ran)!r}, 'a').write('x')")

    def die(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scheduling, "submit", die)
        with pytest.raises(KeyboardInterrupt):
            queues.scheduler.tick()
    assert queues.describe(job)["status"] == "SCHEDULED"
    assert queues.jobs.names() == []
    with pytest.raises(KeyboardInterrupt):
        queues.new_scheduler(start=die).tick()
    [name] = queues.jobs.names()
    queues.start(queues.jobs, name)  # as the next look does some seconds later, by a driver of its own
    queues.scheduler = queues.new_scheduler()
    queues.run()
    assert queues.describe(job)["status"] == "SUCCEEDED"
    assert (ran.read_text(), queues.jobs.names()) == ("x", [name])


def test_a_disabled_environment_starts_nothing_and_an_enabled_one_goes_on(queues):
    queues.make()
    change = {"serviceEnvironment": "env"}
    batch.update_service_environment({**change, "state": "DISABLED"}, queues.home)
    job = queues.submit("later")
    for _ in range(3):
        queues.scheduler.tick()
    assert queues.describe(job)["status"] == "RUNNABLE"
    batch.update_service_environment({**change, "state": "ENABLED"}, queues.home)
    queues.run()
    assert queues.describe(job)["status"] == "SUCCEEDED"


def test_the_same_client_token_gives_the_same_service_job(queues):
    queues.make()
    first = queues.submit("one-job", clientToken="token")
    assert queues.submit("one-job", clientToken="token") == first
    with pytest.raises(AwsError, match="clientToken"):
        queues.submit("another", clientToken="token")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"serviceRequestPayload": "{"}, "not a JSON object"),
        ({"serviceRequestPayload": '{"TrainingJobName": "n"}'}, "serviceRequestPayload.*roleArn"),
        ({"jobQueue": "none"}, "job-queue/none does not exist"),
        ({"jobName": "no name"}, "jobName should match"),
        ({"retryStrategy": {"attempts": 11}}, "retryStrategy.attempts must be between 1 and 10"),
        ({"timeoutConfig": {"attemptDurationSeconds": 59}}, "attemptDurationSeconds must be at least 60"),
        ({"schedulingPriority": 10000}, "schedulingPriority"),
        ({"shareIdentifier": "s"}, "no scheduling policy"),
        ({"quotaShareName": "s"}, "quotaShareName is not emulated"),
        ({"unheard": 1}, "unheard is not emulated"),
    ],
)
def test_what_cannot_run_is_refused_at_once(queues, members, words):
    queues.make()
    with pytest.raises(AwsError, match=f"(?s)ClientException: .*{words}"):
        queues.submit("refused", **members)
    assert BatchHome(queues.home).jobs.names() == []
