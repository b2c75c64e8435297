"""Version 2 of the SageMaker SDK, unmodified, by ``launcher exec``."""

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
    folder = tmp_path_factory.mktemp("sdk-2")
    (folder / "work").mkdir()
    program = [client_python("sagemaker-2"), str(FOLDER / "programs/sdk_v2.py"), str(folder / "work")]
    yield run_program([*program, str(FOLDER / "source"), story.arguments], folder / "home")
    service.stop(folder / "home")


def test_an_rl_estimator_trains_with_metrics_logs_and_tags(reports):
    success = reports["success"]
    assert success["status"] == "Completed"
    assert success["image"].endswith("/sagemaker-rl-coach-container:coach-1.0.0-tf-cpu-py3")
    assert success["metrics"] == {"loss": 1.0}
    assert success["transitions"] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert success["members"] == ["code", "code/inference.py", "weights-algo-1.json"]
    assert success["lines"] == {"algo-1": ["algo-1 of 1 reads 3 rows", "loss=3.000;", "loss=1.500;", "loss=1.000;"]}
    assert success["attached"]
    assert success["tags"] == [{"Key": "team", "Value": "rl"}]


def test_analytics_read_the_metrics(reports):
    assert reports["analytics"]["names"] == ["loss"]
    assert reports["analytics"]["rows"] >= 1


def test_a_failure_has_its_reason(reports):
    assert reports["failure"]["status"] == "Failed"
    assert reports["failure"]["reason"].startswith("AlgorithmError: ExecuteUserScriptError:")
    assert "ValueError: no transitions" in reports["failure"]["reason"]


def test_a_job_is_stopped(reports):
    assert reports["stop"] == {"status": "Stopped", "secondary": "Stopped"}


def test_a_job_of_two_hosts_has_a_log_of_each(reports):
    assert reports["hosts"]["status"] == "Completed"
    assert {host: lines[0] for host, lines in reports["hosts"]["lines"].items()} == {
        "algo-1": "algo-1 of 2 reads 3 rows",
        "algo-2": "algo-2 of 2 reads 3 rows",
    }


def test_jobs_are_listed_and_searched(reports):
    assert reports["listing"] == {"failed": True, "stopped": True}


def test_local_mode_runs_our_jobs_on_folders_of_this_machine(reports):
    assert reports["local mode"]["status"] == "Completed"
    assert reports["local mode"]["output"].startswith("file:///out/pytorch-training-")


def test_an_endpoint_is_deployed_asked_updated_and_deleted(reports):
    endpoint = reports["endpoint"]
    assert (endpoint["status"], endpoint["first"], endpoint["second"]) == ("InService", [3.0, 7.5], [6.0])
    assert endpoint["gone"].startswith("Could not find endpoint")


def test_a_transform_job_writes_its_output(reports):
    assert reports["transform"] == {"status": "Completed", "output": "3.0\n6.0\n9.0\n"}


def test_the_story_writes_the_numbers_that_our_own_estimators_job_writes(reports, story):
    assert reports["story"]["status"] == "Completed"
    assert reports["story"]["metrics"] == story.expected
