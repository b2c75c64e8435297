"""Operations in any order, drawn by hypothesis; in bulk: python -m tests.launcher.aws.lifecycles."""

import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from launcher.aws.errors import AwsError
from launcher.jobs.states import Status
from tests.launcher.aws.clients import training_job
from tests.launcher.aws.lifecycles import Jobs, answer_or_error, wander

NAMES = st.sampled_from([f"job-{number}" for number in range(4)])


class Operations(RuleBasedStateMachine):
    """A client of four names."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = Path(tempfile.mkdtemp())
        self.jobs = Jobs(self.folder / "home", self.patch)

    @rule(name=NAMES, seconds=st.sampled_from([0, 0.05, 0.3]), code=st.sampled_from([0, 1]))
    def create(self, name, seconds, code):
        self.jobs.create(name, seconds, code)

    @rule(name=NAMES)
    def describe(self, name):
        self.jobs.describe(name)

    @rule(name=NAMES)
    def stop(self, name):
        self.jobs.stop(name)

    @rule(name=NAMES)
    def delete(self, name):
        self.jobs.delete(name)

    @rule(seconds=st.sampled_from([0.01, 0.1]))
    def let_time_pass(self, seconds):
        time.sleep(seconds)

    @invariant()
    def no_job_is_lost(self):
        self.jobs.check_list()

    def teardown(self):
        self.jobs.finish()
        self.patch.undo()
        shutil.rmtree(self.folder)


@pytest.mark.slow
def test_no_order_of_operations_makes_an_illegal_move_or_loses_a_job():
    run_state_machine_as_test(
        Operations,
        settings=settings(
            max_examples=4,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_clients_at_the_same_time_lose_no_job(home, monkeypatch):
    jobs = Jobs(home, monkeypatch)
    wander(jobs, "job-", 15, random.Random(1))
    jobs.finish()


def test_of_clients_that_create_the_same_job_at_once_exactly_one_gets_it(home, monkeypatch):
    jobs = Jobs(home, monkeypatch)
    document = training_job(
        "job-1",
        Environment={"SECONDS": "0", "CODE": "0"},
        OutputDataConfig={"S3OutputPath": f"file://{home}/results"},
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: answer_or_error(document, home), range(8)))
    refusals = [answered for answered in answers if isinstance(answered, AwsError)]
    assert [refusal.code for refusal in refusals] == ["ResourceInUse"] * 7
    jobs.seen["job-1"] = Status.IN_PROGRESS
    jobs.finish()
