"""The SDK's API: names, order and defaults of arguments, the attributes people use, and the answers' shapes."""

import inspect
import json
import re
import tarfile
import threading
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

import launcher
from launcher import errors
from launcher.sdk.bundled import BUNDLED_METRIC_DEFINITIONS, bundled_estimator
from launcher.sdk.options import ESTIMATOR_OPTIONS, FIT_OPTIONS
from launcher.terminal import neutralised, print_line
from tests.fakes import FakeRuntime

# SDK 2.257.7, read off its signature.
ESTIMATOR_ARGUMENTS = """image_uri role=None instance_count=None instance_type=None keep_alive_period_in_seconds=None
volume_size=30 volume_kms_key=None max_run=86400 input_mode='File' output_path=None output_kms_key=None
base_job_name=None sagemaker_session=None hyperparameters=None tags=None subnets=None security_group_ids=None
model_uri=None model_channel_name='model' metric_definitions=None encrypt_inter_container_traffic=None
use_spot_instances=False max_wait=None checkpoint_s3_uri=None checkpoint_local_path=None
enable_network_isolation=None rules=None debugger_hook_config=None tensorboard_output_config=None
enable_sagemaker_metrics=None profiler_config=None disable_profiler=False environment=None max_retry_attempts=None
source_dir=None git_config=None container_log_level=20 code_location=None entry_point=None dependencies=None
instance_groups=None training_repository_access_mode=None training_repository_credentials_provider_arn=None
container_entry_point=None container_arguments=None disable_output_compression=False enable_infra_check=None
enable_remote_debug=None enable_session_tag_chaining=None training_plan=None instance_placement_config=None"""
RL_ESTIMATOR_ARGUMENTS = """entry_point toolkit=None toolkit_version=None framework=None source_dir=None
hyperparameters=None image_uri=None metric_definitions=None"""
FIT_ARGUMENTS = "inputs=None wait=True logs='All' job_name=None experiment_config=None"
TRAINING_INPUT_ARGUMENTS = """s3_data distribution=None compression=None content_type=None record_wrapping=None
s3_data_type='S3Prefix' instance_groups=None input_mode=None attribute_names=None target_attribute_name=None
shuffle_config=None hub_access_config=None model_access_config=None"""


@pytest.fixture
def estimator(make_source):
    source = make_source(
        "import os\nfor i in range(3): print(f'loss={i};')\n"
        "open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('m')\n"
        "open(os.environ['SM_OUTPUT_DATA_DIR'] + '/o', 'w').write('o')\n"
    )
    return launcher.Estimator(
        entry_point="train.py",
        source_dir=source,
        runtime=FakeRuntime(),
        metric_definitions=[{"Name": "loss", "Regex": "loss=(.*?);"}],
    )


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (launcher.Estimator.__init__, ESTIMATOR_ARGUMENTS),
        (launcher.RLEstimator.__init__, RL_ESTIMATOR_ARGUMENTS),
        (launcher.Estimator.fit, FIT_ARGUMENTS),
        (launcher.TrainingInput.__init__, TRAINING_INPUT_ARGUMENTS),
    ],
)
def test_arguments_have_the_sdks_names_order_and_defaults(function, expected):
    """One is more lenient: an estimator without an image takes the bundled one."""
    parameters = [
        parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "self"
    ]
    ours = [
        parameter.name
        if parameter.default is parameter.empty or (parameter.name == "image_uri" and "image_uri=" not in expected)
        else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert ours == expected.split()


@pytest.mark.parametrize("option", [option.name for option in ESTIMATOR_OPTIONS if option.accepted is not None])
def test_no_option_is_ignored(option, make_source):
    """Each one that is not emulated raises for a value that asks for something, and not for its default."""
    options = {"entry_point": "train.py", "source_dir": make_source(""), "runtime": FakeRuntime()}
    default = inspect.signature(launcher.Estimator.__init__).parameters[option].default
    launcher.Estimator(**options, **{option: default})
    asked = {"volume_size": 50}.get(option, True if isinstance(default, bool) or option.startswith("enable") else "x")
    with pytest.raises(errors.UnsupportedOptionError, match=option) as caught:
        launcher.Estimator(**options, **{option: asked})
    assert caught.value.hint


def test_options_that_mean_nothing_here_are_kept_and_named(estimator):
    """By the names that the caller used; attach() has them again."""
    asked = {
        "volume_size": 50,
        "volume_kms_key": "key-1",
        "output_kms_key": "key-2",
        "subnets": ["subnet-1"],
        "security_group_ids": ["sg-1"],
        "encrypt_inter_container_traffic": True,
        "enable_infra_check": True,
        "enable_remote_debug": True,
        "enable_session_tag_chaining": True,
        "training_repository_access_mode": "Vpc",
    }
    for name, value in asked.items():
        setattr(estimator, name, value)
    estimator.fit(logs=False, job_name="job-1", experiment_config={"ExperimentName": "x"})
    job = estimator.latest_training_job
    for name, word in {
        **dict.fromkeys(asked, ""),
        "subnets": "Subnets",
        "security_group_ids": "SecurityGroupIds",
        "experiment_config": "",
        "training_repository_access_mode": "training_repository_access_mode",
    }.items():
        assert [text for text in job.warnings if (word or name) in text], (name, job.warnings)
    description = job.describe()
    assert description["ResourceConfig"]["VolumeSizeInGB"] == 50
    assert description["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert description["ExperimentConfig"] == {"ExperimentName": "x"}
    attached = type(estimator).attach("job-1")
    assert {name: getattr(attached, name) for name in asked} == asked


# A value of each option that the page says to have no effect, and of each that it says to raise.
NOTED = {
    "keep_alive_period_in_seconds": 600,
    "volume_size": 50,
    "volume_kms_key": "key-1",
    "output_kms_key": "key-2",
    "subnets": ["subnet-1"],
    "security_group_ids": ["sg-1"],
    "encrypt_inter_container_traffic": True,
    "training_repository_access_mode": "Vpc",
    "training_repository_credentials_provider_arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
    "enable_infra_check": True,
    "enable_remote_debug": True,
    "enable_session_tag_chaining": True,
    "training_plan": "arn:aws:sagemaker:us-east-1:000000000000:training-plan/plan-1",
    "instance_placement_config": {"EnableMultipleJobs": True},
    "experiment_config": {"ExperimentName": "x"},
}
TOGETHER = {
    "subnets": {"security_group_ids": ["sg-1"]},
    "security_group_ids": {"subnets": ["subnet-1"]},
    "training_repository_credentials_provider_arn": {"training_repository_access_mode": "Vpc"},
}


def _page_tables():
    """Return the names of the options in each table of the page, by the table's name."""
    page = (Path(__file__).parents[2] / "docs/options.md").read_text(encoding="utf-8")
    tables = re.findall(r"<!-- table ([\w-]+) -->\n(.*?)<!-- end -->", page, re.DOTALL)
    return {name: re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for name, table in tables}


def test_every_option_is_in_the_one_table_of_the_page_that_says_what_happens_to_it(estimator):
    """It works, is accepted with a warning that names it, or raises naming itself; the tests below do all of them."""
    tables = _page_tables()
    own = {*inspect.signature(launcher.Estimator).parameters, *inspect.signature(estimator.fit).parameters} - {"kwargs"}
    listed = [*tables["estimator"], *tables["noted"], *tables["raise"]]
    assert sorted(listed) == sorted(set(listed)), "each is in one table"
    assert set(listed) | {"inputs", "wait", "logs", "job_name", "debug"} == own
    assert set(tables["noted"]) <= set(NOTED)
    given = [*tables["training-input"], *tables["training-input-raise"]]
    assert sorted(given) == sorted(set(given))
    assert set(given) == set(inspect.signature(launcher.TrainingInput).parameters)


@pytest.mark.parametrize("option", [option for option in [*ESTIMATOR_OPTIONS, *FIT_OPTIONS] if option.noted])
def test_an_option_without_effect_is_kept_and_named_in_the_warnings(estimator, option):
    for name, value in {option.name: NOTED[option.name], **TOGETHER.get(option.name, {})}.items():
        if name != "experiment_config":
            setattr(estimator, name, value)
    experiment = {"experiment_config": NOTED["experiment_config"]} if option in FIT_OPTIONS else {}
    job = estimator.submit(job_name="job-1", **experiment)
    member = option.member.rpartition(".")[2]
    assert [
        text
        for text in job.warnings
        if " has no effect here: " in text and re.match(rf"({option.name}|.*\b{member})\b", text)
    ], job.warnings
    described = json.dumps(job.describe(), default=str)
    assert json.dumps(NOTED[option.name]) in described, "the request is kept as it was given"


def test_options_of_spot_jobs_and_retries_are_in_the_request_and_attached_again(estimator):
    asked = {"use_spot_instances": True, "max_wait": 90000, "max_retry_attempts": 3, "spot_interruptions": ["after:9h"]}
    for name, value in asked.items():
        setattr(estimator, name, value)
    estimator.fit(logs=False, job_name="job-1")
    description = estimator.latest_training_job.describe()
    assert description["EnableManagedSpotTraining"] is True
    assert description["StoppingCondition"]["MaxWaitTimeInSeconds"] == 90000
    assert description["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    assert description["BillableTimeInSeconds"] == description["TrainingTimeInSeconds"]
    warnings = estimator.latest_training_job.warnings
    assert "each interruption begins the job anew: it has no checkpoint_s3_uri" in warnings
    attached = type(estimator).attach("job-1")
    assert {name: getattr(attached, name) for name in asked} == asked


def test_attributes_after_fit_are_those_of_the_sdk(estimator, home):
    estimator.fit(logs=False, job_name="job-1")
    assert estimator._current_job_name == "job-1"
    assert estimator.latest_training_job.name == estimator.latest_training_job.job_name == "job-1"
    assert [job.name for job in estimator.jobs] == ["job-1"]
    assert estimator.output_path == f"file://{home}/jobs"
    assert estimator.model_data == f"file://{home}/jobs/job-1/output/model.tar.gz"
    assert (estimator.latest_training_job.outputs.model_path / "m").read_text() == "m"
    assert (estimator.latest_training_job.outputs.data_path / "o").read_text() == "o"


def test_before_fit_there_is_no_model(estimator):
    with pytest.raises(errors.BadInputError, match="no training job yet"):
        _ = estimator.model_data


def test_describe_has_the_shape_of_the_service_model(estimator, tmp_path):
    """Every member is known to the API's own model, and of its type."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    estimator.fit({"train": str(tmp_path / "data")}, logs=False)
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("DescribeTrainingJob").output_shape
    description = estimator.latest_training_job.describe()
    assert set(description) <= set(shape.members)
    report = ParamValidator().validate(description, shape)
    assert not report.has_errors(), report.generate_report()


def test_analytics_have_every_value_of_the_log(estimator):
    estimator.fit(logs=False)
    table = estimator.training_job_analytics.dataframe()
    assert list(table.columns) == ["timestamp", "metric_name", "value"]
    assert table["value"].tolist() == [0.0, 1.0, 2.0]
    assert table["timestamp"].iloc[0] == 0.0


def test_logs_are_printed_only_when_wanted(estimator, capsys):
    estimator.fit(logs="None")
    assert "loss" not in capsys.readouterr().out
    estimator.fit(logs="All", job_name="job-2")
    assert "loss=0;\nloss=1;\nloss=2;\n" in capsys.readouterr().out


def test_attach_finds_a_job_of_this_home_and_its_hyperparameters(make_source):
    source = make_source("pass")
    first = launcher.Estimator(
        entry_point="train.py", source_dir=source, hyperparameters={"a": 1, "b": "007"}, runtime=FakeRuntime()
    )
    first.fit(job_name="job-1", logs=False)
    attached = launcher.Estimator.attach("job-1")
    assert attached.hyperparameters() == {"a": 1, "b": "007"}
    assert attached.latest_training_job.status == "Completed"


def test_a_plan_changes_nothing_and_can_be_compared(estimator, home):
    plan = estimator.plan(job_name="job-1")
    assert plan == estimator.plan(job_name="job-1")
    assert not home.exists()
    assert json.loads(plan.config_files["input/config/hyperparameters.json"])["sagemaker_program"] == '"train.py"'
    text = str(plan)
    assert "host       algo-1: train" in text
    assert "source     train.py" in text
    assert f"writes     file://{home}/jobs/job-1/output/model.tar.gz" in text


def test_a_model_uri_is_a_channel(estimator, tmp_path):
    (tmp_path / "model.tar.gz").write_bytes(b"x")
    estimator.model_uri = str(tmp_path / "model.tar.gz")
    plan = estimator.plan(job_name="job-1")
    assert plan.mount_points == {"input/data/model/model.tar.gz": True}


def test_paths_are_taken_as_well_as_text(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.py").write_text("pass")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=data, output_path=tmp_path / "results", runtime=FakeRuntime()
    )
    plans = [estimator.plan(inputs, job_name="j") for inputs in ({"training": data}, data, str(data))]
    assert plans[0] == plans[1] == plans[2]


def test_jobs_that_are_named_at_the_same_moment_all_get_a_name_of_their_own(make_source, store):
    source = make_source("pass")
    barrier = threading.Barrier(12)

    def submit():
        estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
        barrier.wait()
        estimator.fit(logs=False)

    threads = [threading.Thread(target=submit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.load(name).status for name in store.names()] == ["Completed"] * 12


def test_a_lone_script_is_packed_without_its_neighbours(tmp_path):
    (tmp_path / "train.py").write_text("pass")
    (tmp_path / "secret.txt").write_text("s")
    estimator = launcher.Estimator(entry_point=str(tmp_path / "train.py"), runtime=FakeRuntime())
    estimator.fit(job_name="job-1", logs=False)
    with tarfile.open(estimator.latest_training_job.keys.source.removeprefix("file://")) as archive:
        assert archive.getnames() == ["train.py"]


def test_dependencies_stand_beside_the_entry_point(estimator, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("")
    estimator.dependencies = [str(tmp_path / "lib")]
    assert estimator.plan(job_name="job-1").source_members == ("lib", "lib/__init__.py", "train.py")


def test_the_source_archive_depends_on_content_alone(make_source):
    archives = []
    for number in range(2):
        source = make_source("pass", name=f"source{number}")
        estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=FakeRuntime())
        estimator.fit(job_name=f"job-{number}", logs=False)
        path = estimator.latest_training_job.keys.source.removeprefix("file://")
        archives.append(open(path, "rb").read())  # noqa: SIM115, PTH123
    assert archives[0] == archives[1]


def test_rl_estimator_wants_toolkit_or_image():
    with pytest.raises(AttributeError, match="toolkit"):
        launcher.RLEstimator("train.py")


def test_rl_estimator_brings_coachs_metrics_and_hyperparameters(make_source):
    estimator = launcher.RLEstimator(
        entry_point="train.py",
        source_dir=make_source("print('Testing> Name=x, Total reward=200.0, Steps=1')"),
        toolkit=launcher.RLToolkit.COACH,
        toolkit_version="1.0.0",
        framework=launcher.RLFramework.TENSORFLOW,
        role="arn:aws:iam::111122223333:role/r",
        instance_type="local",
        instance_count=1,
        runtime=FakeRuntime(),
    )
    estimator.fit(logs=False)
    description = estimator.latest_training_job.describe()
    assert description["RoleArn"] == "arn:aws:iam::111122223333:role/r"
    assert description["HyperParameters"]["sagemaker_estimator"] == '"RLEstimator"'
    assert [(m["MetricName"], m["Value"]) for m in description["FinalMetricDataList"]] == [("reward-testing", 200.0)]


def test_the_sdks_other_rl_option_values_are_checked(make_source):
    with pytest.raises(errors.BadInputError, match=r"toolkit='coach'\) is no RLToolkit"):
        launcher.RLEstimator("train.py", toolkit="coach", toolkit_version="1", framework=launcher.RLFramework.MXNET)


def test_fit_packs_entry_points_and_presets():
    plan = bundled_estimator("preset-cartpole-ddqnbcq", runtime=FakeRuntime()).plan(job_name="j")
    assert {"train.py", "batch_rl/presets/__main__.py", "preset-cartpole-ddqnbcq.yaml"} <= set(plan.source_members)
    code = next(mount.source for mount in plan.containers[0].mounts if mount.target == "/opt/ml/code")
    assert Path(code).is_relative_to(plan.containers[0].tree_path), "a changed script needs no new image"
    assert [definition["Name"] for definition in BUNDLED_METRIC_DEFINITIONS] == [
        "reward-training",
        "reward-testing",
        "weighted-importance-sampling",
        "sequential-doubly-robust",
    ]


def test_lines_of_several_hosts_are_told_apart(capsys):
    print_line("algo-1", "alone")
    print_line("algo-2", "one of two", hosts=2)
    assert capsys.readouterr().out == "alone\nalgo-2 | one of two\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07x", "^[]0;title\N{REPLACEMENT CHARACTER}x"),
        ("\x1b[2Jgone", "^[[2Jgone"),
        ("10%\r50%\r100%", "100%"),
        ("tab\there", "tab\there"),
    ],
)
def test_a_log_cannot_play_with_the_terminal(line, shown):
    assert neutralised(line) == shown
