import json
from pathlib import Path

import pytest

from job_toolkit import JobInputError, job_paths, read_environment
from job_toolkit.environment import decode_hyperparameter, script_arguments, script_variables

ALGO_2_OF_2 = {
    "current_host": "algo-2",
    "current_instance_type": "ml.m5.large",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-2", "algo-1"],
    "instance_groups": [
        {
            "instance_group_name": "homogeneousCluster",
            "instance_type": "ml.m5.large",
            "hosts": ["algo-1", "algo-2"],
        }
    ],
    "network_interface_name": "eth0",
}


@pytest.mark.parametrize("base", [None, ""])
def test_paths_lie_below_opt_ml_unless_a_base_folder_is_set(base, monkeypatch):
    if base is None:
        monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    else:
        monkeypatch.setenv("SAGEMAKER_BASE_DIR", base)
    paths = job_paths()
    assert paths.output_data == Path("/opt/ml/output/data")
    assert paths.intermediate == Path("/opt/ml/output/intermediate")
    assert paths.failure == Path("/opt/ml/output/failure")
    assert paths.input_config == Path("/opt/ml/input/config")


def test_every_path_follows_the_base_folder(tree):
    paths = job_paths()
    everything = [getattr(paths, name) for name in paths.__slots__]
    assert all(path.is_relative_to(tree.base) for path in everything)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ('"adam"', "adam"),
        ("[64, 32]", [64, 32]),
        ("007", "007"),
        ("adam", "adam"),
        ("True", "True"),
        ("", ""),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ("3 apples", "3 apples"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_hyperparameter_is_its_json_value_and_otherwise_its_text(text, value):
    decoded = decode_hyperparameter(text)
    assert decoded == value
    assert type(decoded) is type(value)


def test_platform_hyperparameters_do_not_reach_the_script(tree):
    tree.write_hyperparameters({"lr": "0.1", "sagemaker_program": '"train.py"', "_tuning_objective_metric": "x"})
    environment = read_environment()
    assert environment.hyperparameters == {"lr": 0.1}
    assert environment.platform_hyperparameters["sagemaker_program"] == "train.py"


def test_missing_configuration_files_mean_one_host_without_channels(tree):
    environment = read_environment()
    assert environment.hosts == ("algo-1",)
    assert environment.current_host == "algo-1"
    assert environment.channels == {}
    assert environment.job_name == ""


@pytest.mark.parametrize("content", ["{", "[]", b"\xff", "7"])
def test_a_damaged_configuration_file_is_named(content, tree):
    path = tree.write("input/config/hyperparameters.json", content)
    with pytest.raises(JobInputError, match=str(path)):
        read_environment()


def test_hosts_are_sorted_and_the_own_one_is_known(tree):
    tree.write("input/config/resourceconfig.json", json.dumps(ALGO_2_OF_2))
    environment = read_environment()
    assert environment.hosts == ("algo-1", "algo-2")
    assert environment.current_host == "algo-2"


def test_a_channel_is_its_folder(tree):
    tree.write_channels("train")
    assert read_environment().channel("train") == tree.base / "input" / "data" / "train"


def test_an_unknown_channel_is_named_with_those_that_exist(tree):
    tree.write_channels("train", "validation")
    with pytest.raises(JobInputError, match=r"no channel 'checkpoint'; its channels are: train, validation"):
        read_environment().channel("checkpoint")


def test_a_channel_whose_folder_is_missing_is_an_error(tree):
    tree.write_channels("train")
    (tree.base / "input" / "data" / "train").rmdir()
    with pytest.raises(JobInputError, match=r"channel 'train'.*is not there"):
        read_environment().channel("train")


def test_arguments_are_sorted_and_dictionaries_become_lists_of_pairs():
    hyperparameters = {"rate": 0.001, "b": True, "layers": [64, 64], "table": {"y": 2, "x": 1}, "none": None}
    assert script_arguments(hyperparameters) == [
        *("-b", "True"),
        *("--layers", "[64, 64]"),
        *("--none", ""),
        *("--rate", "0.001"),
        *("--table", "x=1,y=2"),
    ]


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_value_that_no_program_can_receive_is_refused_by_name(value):
    with pytest.raises(JobInputError, match="'note'"):
        script_arguments({"note": value})


def test_every_variable_of_the_official_toolkit_is_set(tree, monkeypatch):
    """The names are those that version 5.1.4 of the official training toolkit sets."""
    monkeypatch.setenv("TRAINING_JOB_NAME", "cartpole-07")
    tree.write_hyperparameters({"lr": "0.1", "name": '"x y"', "sagemaker_program": '"rl/train.py"'})
    tree.write_channels("train")
    tree.write("input/config/resourceconfig.json", json.dumps(ALGO_2_OF_2))
    variables = script_variables(read_environment(), "rl/train.py")
    expected = {
        "SM_CHANNELS": '["train"]',
        "SM_CHANNEL_TRAIN": f"{tree.base}/input/data/train",
        "SM_CURRENT_HOST": "algo-2",
        "SM_CURRENT_INSTANCE_GROUP": "homogeneousCluster",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": '["algo-1","algo-2"]',
        "SM_CURRENT_INSTANCE_TYPE": "ml.m5.large",
        "SM_DISTRIBUTION_INSTANCE_GROUPS": "[]",
        "SM_FRAMEWORK_MODULE": "",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_HOSTS": '["algo-1","algo-2"]',
        "SM_HPS": '{"lr":0.1,"name":"x y"}',
        "SM_HP_LR": "0.1",
        "SM_HP_NAME": "x y",
        "SM_INPUT_CONFIG_DIR": f"{tree.base}/input/config",
        "SM_INPUT_DATA_CONFIG": '{"train":{"TrainingInputMode":"File"}}',
        "SM_INPUT_DIR": f"{tree.base}/input",
        "SM_INSTANCE_GROUPS": '["homogeneousCluster"]',
        "SM_IS_HETERO": "false",
        "SM_LOG_LEVEL": "20",
        "SM_MODEL_DIR": f"{tree.base}/model",
        "SM_MODULE_DIR": f"{tree.base}/code",
        "SM_MODULE_NAME": "rl/train",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_OUTPUT_DATA_DIR": f"{tree.base}/output/data",
        "SM_OUTPUT_DIR": f"{tree.base}/output",
        "SM_OUTPUT_INTERMEDIATE_DIR": f"{tree.base}/output/intermediate",
        "SM_USER_ARGS": '["--lr","0.1","--name","x y"]',
        "SM_USER_ENTRY_POINT": "rl/train.py",
        "CURRENT_HOST": "algo-2",
        "SAGEMAKER_JOB_NAME": "cartpole-07",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert int(variables["SM_NUM_CPUS"]) >= 1
    assert int(variables["SM_NUM_GPUS"]) >= 0
    assert json.loads(variables["SM_RESOURCE_CONFIG"]) == ALGO_2_OF_2
    assert "homogeneousCluster" in json.loads(variables["SM_INSTANCE_GROUPS_DICT"])
    training_env = json.loads(variables["SM_TRAINING_ENV"])
    assert training_env["hyperparameters"] == {"lr": 0.1, "name": "x y"}
    assert training_env["job_name"] == "cartpole-07"
    assert training_env["is_master"] is False
