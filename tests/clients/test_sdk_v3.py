"""Version 3 of the SageMaker SDK, unmodified, by ``launcher exec``."""

import pytest

pytestmark = pytest.mark.slow


def test_a_model_trainer_trains(sdk_v3):
    success = sdk_v3["success"]
    assert (success["status"], success["metrics"]) == ("Completed", {"loss": 1.0})
    assert success["model"].startswith("s3://sagemaker-us-east-1-000000000000/success/success-")


def test_a_failure_has_the_reason_that_the_sdks_driver_gives(sdk_v3):
    assert sdk_v3["failure"]["status"] == "Failed"
    assert "returned non-zero exit status 1" in sdk_v3["failure"]["reason"]


def test_a_job_is_stopped(sdk_v3):
    assert sdk_v3["stop"] == {"status": "Stopped"}


def test_a_job_runs_on_two_hosts(sdk_v3):
    assert sdk_v3["hosts"] == {"status": "Completed"}


def test_resources_list_and_get_jobs(sdk_v3):
    assert sdk_v3["resources"] == {"listed": True, "same": True}


def test_resources_make_ask_and_delete_an_endpoint(sdk_v3):
    assert sdk_v3["endpoint"] == {"status": "InService", "answer": [3.0, 7.5]}


def test_resources_run_a_transform_job(sdk_v3):
    assert sdk_v3["transform"] == {"status": "Completed"}


def test_a_processor_runs_a_script(sdk_v3):
    assert sdk_v3["processing"] == {"status": "Completed", "output": "2.0\n4.0\n6.0\n"}


def test_a_tuner_runs_two_trials(sdk_v3):
    assert sdk_v3["tuning"] == {"status": "Completed", "completed": 2, "best": "Completed"}
