"""``torch.distributed`` over hosts: the variables that torchrun sets, from the files that the platform writes."""

import json
import sys

import pytest

from job_toolkit import read_environment
from job_toolkit.distribution import launched, meeting_variables, torch_place
from tests.container.test_environment import ALGO_2_OF_2

ENABLED = {"sagemaker_torch_distributed_enabled": "true", "sagemaker_instance_type": '"ml.m5.large"'}
TWO_GROUPS = {
    "current_host": "algo-3",
    "current_group_name": "learners",
    "hosts": ["algo-1", "algo-2", "algo-3"],
    "instance_groups": [
        {"instance_group_name": "readers", "instance_type": "ml.c5.large", "hosts": ["algo-1"]},
        {"instance_group_name": "learners", "instance_type": "ml.g5.large", "hosts": ["algo-3", "algo-2"]},
    ],
    "network_interface_name": "eth0",
}
PYTHON = [sys.executable, "-u", "train.py"]


@pytest.fixture
def told(tree, monkeypatch):
    """A function that lays out a job and returns its environment."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def write(config, **hyperparameters):
        tree.write_hyperparameters(hyperparameters)
        tree.write("input/config/resourceconfig.json", json.dumps(config))
        return read_environment()

    return write


def test_the_only_process_of_a_host_finds_what_torchrun_sets(told):
    environment = told(ALGO_2_OF_2, **ENABLED)
    place = torch_place(environment)
    variables = meeting_variables(environment, place)
    expected = {
        **{"MASTER_ADDR": "algo-1", "MASTER_PORT": "7777", "RANK": "1", "WORLD_SIZE": "2"},
        **{"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "1", "NODE_RANK": "1", "GROUP_WORLD_SIZE": "2"},
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert launched(PYTHON, environment, place) == PYTHON


def test_a_host_with_several_gpus_runs_torchrun_with_a_process_for_each(told):
    environment = told(ALGO_2_OF_2, **ENABLED)
    place = torch_place(environment)._replace(processes=4)
    command = launched(PYTHON, environment, place)
    assert command[:4] == [sys.executable, "-u", "-m", "torch.distributed.run"]
    options = dict(zip(command[4:-1:2], command[5:-1:2], strict=True))
    assert options == {
        **{"--nnodes": "2", "--nproc_per_node": "4", "--node_rank": "1"},
        **{"--master_addr": "algo-1", "--master_port": "7777"},
    }
    assert command[-1] == "train.py"
    assert "RANK" not in meeting_variables(environment, place)  # torchrun's business


def test_without_the_hyperparameter_hosts_are_told_only_where_they_meet(told):
    environment = told(ALGO_2_OF_2)
    assert torch_place(environment) is None
    variables = meeting_variables(environment, None)
    assert (variables["MASTER_ADDR"], variables["MASTER_PORT"]) == ("algo-1", "7777")
    assert "RANK" not in variables


def test_a_lone_host_without_it_is_told_nothing(told):
    assert meeting_variables(told({}), None) == {}


def test_a_variable_that_the_job_was_given_wins(told, monkeypatch):
    environment = told(ALGO_2_OF_2, **ENABLED)
    monkeypatch.setenv("MASTER_PORT", "4242")
    assert "MASTER_PORT" not in meeting_variables(environment, torch_place(environment))


@pytest.mark.parametrize(
    ("groups", "rank"),
    [({}, "1"), ({"sagemaker_distribution_instance_groups": '["learners"]'}, "1")],
    ids=["the own group", "a named group"],
)
def test_only_the_hosts_of_a_group_train_together(groups, rank, told):
    environment = told(TWO_GROUPS, **ENABLED, **groups)
    place = torch_place(environment)
    assert place.hosts == ("algo-2", "algo-3")
    assert meeting_variables(environment, place)["RANK"] == rank


def test_a_host_outside_the_named_groups_runs_the_script_alone(told):
    others = {"sagemaker_distribution_instance_groups": '["readers"]'}
    assert torch_place(told(TWO_GROUPS, **ENABLED, **others)) is None


def test_a_shell_script_is_refused(tree):
    tree.write_hyperparameters({**ENABLED, "sagemaker_program": '"go.sh"'})
    tree.write("code/go.sh", "echo ran")
    assert tree.run().returncode == 1
    assert "torch.distributed starts Python programs (.py) alone" in tree.failure


def test_on_a_shared_loopback_two_jobs_do_not_meet_at_one_port(told, monkeypatch):
    ports = set()
    for name in ("job-1", "job-2"):
        monkeypatch.setenv("TRAINING_JOB_NAME", name)
        environment = told({**ALGO_2_OF_2, "network_interface_name": "lo"}, **ENABLED)
        variables = meeting_variables(environment, torch_place(environment))
        ports.add(variables["MASTER_PORT"])
        assert variables["MASTER_ADDR"] == "127.0.0.1"  # these names resolve nowhere
    assert len(ports) == 2
