"""Version 2 of the SageMaker SDK, unmodified, by ``launcher exec``."""

import pytest

pytestmark = pytest.mark.slow


def test_an_rl_estimator_trains_with_metrics_logs_and_tags(sdk_v2):
    success = sdk_v2["success"]
    assert success["status"] == "Completed"
    assert success["image"].endswith("/sagemaker-rl-coach-container:coach-1.0.0-tf-cpu-py3")
    assert success["metrics"] == {"loss": 1.0}
    assert success["transitions"] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert success["members"] == ["code", "code/inference.py", "weights-algo-1.json"]
    assert success["lines"] == {"algo-1": ["algo-1 of 1 reads 3 rows", "loss=3.000;", "loss=1.500;", "loss=1.000;"]}
    assert success["attached"]
    assert success["tags"] == [{"Key": "team", "Value": "rl"}]


def test_analytics_read_the_metrics(sdk_v2):
    assert sdk_v2["analytics"]["names"] == ["loss"]
    assert sdk_v2["analytics"]["rows"] >= 1


def test_a_failure_has_its_reason(sdk_v2):
    assert sdk_v2["failure"]["status"] == "Failed"
    assert sdk_v2["failure"]["reason"].startswith("AlgorithmError: ExecuteUserScriptError:")
    assert "ValueError: no transitions" in sdk_v2["failure"]["reason"]


def test_a_job_is_stopped(sdk_v2):
    assert sdk_v2["stop"] == {"status": "Stopped", "secondary": "Stopped"}


def test_a_job_of_two_hosts_has_a_log_of_each(sdk_v2):
    assert sdk_v2["hosts"]["status"] == "Completed"
    assert {host: lines[0] for host, lines in sdk_v2["hosts"]["lines"].items()} == {
        "algo-1": "algo-1 of 2 reads 3 rows",
        "algo-2": "algo-2 of 2 reads 3 rows",
    }


def test_jobs_are_listed_and_searched(sdk_v2):
    assert sdk_v2["listing"] == {"failed": True, "stopped": True}


def test_local_mode_runs_our_jobs_on_folders_of_this_machine(sdk_v2):
    assert sdk_v2["local mode"]["status"] == "Completed"
    assert sdk_v2["local mode"]["output"].startswith("file:///out/pytorch-training-")


def test_an_endpoint_is_deployed_asked_updated_and_deleted(sdk_v2):
    endpoint = sdk_v2["endpoint"]
    assert (endpoint["status"], endpoint["first"], endpoint["second"]) == ("InService", [3.0, 7.5], [6.0])
    assert endpoint["gone"].startswith("Could not find endpoint")


def test_a_transform_job_writes_its_output(sdk_v2):
    assert sdk_v2["transform"] == {"status": "Completed", "output": "3.0\n6.0\n9.0\n"}


def test_a_processor_runs_a_script(sdk_v2):
    assert sdk_v2["processing"] == {"status": "Completed", "listed": True, "output": "2.0\n4.0\n6.0\n"}


def test_a_tuner_finds_the_better_of_two_trials(sdk_v2):
    tuning = sdk_v2["tuning"]
    factors = tuning.pop("factors")
    assert tuning == {"status": "Completed", "trials": ["Completed"] * 2, "best": True, "lowest": True}
    assert len(set(factors)) == 2
    assert all(1 <= factor <= 4 for factor in factors)
