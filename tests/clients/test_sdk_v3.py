"""Version 3 of the SageMaker SDK, unmodified, by ``launcher exec``."""

import pytest

from launcher.s3_server import service
from tests.clients.environments import FOLDER, client_python, run_program
from tests.clients.story import make_story

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return make_story(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def reports(tmp_path_factory, story):
    """One run of the program: what it imports takes longest."""
    folder = tmp_path_factory.mktemp("sdk-3")
    (folder / "work").mkdir()
    program = [client_python("sagemaker-3"), str(FOLDER / "programs/sdk_v3.py"), str(folder / "work")]
    yield run_program([*program, str(FOLDER / "source"), story.arguments], folder / "home")
    service.stop(folder / "home")


def test_a_model_trainer_trains(reports):
    success = reports["success"]
    assert (success["status"], success["metrics"]) == ("Completed", {"loss": 1.0})
    assert success["model"].startswith("s3://sagemaker-us-east-1-000000000000/success/success-")


def test_a_failure_has_the_reason_that_the_sdks_driver_gives(reports):
    assert reports["failure"]["status"] == "Failed"
    assert "returned non-zero exit status 1" in reports["failure"]["reason"]


def test_a_job_is_stopped(reports):
    assert reports["stop"] == {"status": "Stopped"}


def test_a_job_runs_on_two_hosts(reports):
    assert reports["hosts"] == {"status": "Completed"}


def test_resources_list_and_get_jobs(reports):
    assert reports["resources"] == {"listed": True, "same": True}


def test_resources_make_ask_and_delete_an_endpoint(reports):
    assert reports["endpoint"] == {"status": "InService", "answer": [3.0, 7.5]}


def test_resources_run_a_transform_job(reports):
    assert reports["transform"] == {"status": "Completed"}


def test_the_story_writes_the_numbers_that_our_own_estimators_job_writes(reports, story):
    assert reports["story"]["status"] == "Completed"
    assert reports["story"]["metrics"] == story.expected
