"""``HyperparameterTuner`` with the names and arguments of the SDK's version 2."""

import json

import botocore.session
import pytest
from botocore.validate import ParamValidator
from launcher.tuner import (
    CategoricalParameter,
    ContinuousParameter,
    HyperbandStrategyConfig,
    HyperparameterTuner,
    HyperparameterTuningJobAnalytics,
    IntegerParameter,
    StrategyConfig,
    TuningJobCompletionCriteriaConfig,
    WarmStartConfig,
    WarmStartTypes,
)

import launcher
from launcher.errors import BadInputError, JobFailedError, UnsupportedNameError, UnsupportedOptionError
from launcher.requests.shapes import OWN_MEMBER
from tests.fakes import FakeRuntime

SCRIPT = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--layers", type=int)
parser.add_argument("--kind")
parser.add_argument("--fixed", type=int)
options = parser.parse_args()
assert options.kind in ("a", "b") and options.fixed == 7, options
print(f"score={options.rate * options.layers}")
open(os.environ["SM_MODEL_DIR"] + "/rate.txt", "w").write(str(options.rate))
"""
METRICS = [{"Name": "score", "Regex": "score=([-0-9.e]+)"}]
RANGES = {
    "rate": ContinuousParameter(0.001, 1, scaling_type="Logarithmic"),
    "layers": IntegerParameter(1, 4),
    "kind": CategoricalParameter(["a", "b"]),
}


@pytest.fixture
def make_tuner(make_source):
    def make(script=SCRIPT, runtime=None, ranges=RANGES, estimator=None, **options):
        estimator = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(script),
            hyperparameters={"fixed": 7, "rate": 0.5},
            metric_definitions=METRICS,
            runtime=runtime or FakeRuntime(),
            **(estimator or {}),
        )
        options = {"strategy": "Random", "max_jobs": 3, "max_parallel_jobs": 2, "random_seed": 1, **options}
        return HyperparameterTuner(estimator, "score", ranges, **options)

    return make


def test_the_story_of_a_tuner(make_tuner, home):
    tuner = make_tuner()
    tuner.fit(wait=True)
    best = tuner.best_training_job()
    table = tuner.analytics().dataframe()
    assert set(table.columns) == {
        *("rate", "layers", "kind", "TrainingJobName", "TrainingJobStatus", "FinalObjectiveValue"),
        *("TrainingStartTime", "TrainingEndTime", "TrainingElapsedTimeSeconds"),
    }
    assert table.sort_values("FinalObjectiveValue").iloc[-1]["TrainingJobName"] == best
    assert (table["FinalObjectiveValue"] - table["rate"] * table["layers"]).abs().max() < 1e-9
    estimator = tuner.best_estimator()
    outputs = estimator.latest_training_job.outputs
    rate = float((outputs.model_path / "rate.txt").read_text())
    assert rate == pytest.approx(table.set_index("TrainingJobName").loc[best, "rate"])
    assert estimator.hyperparameters()["fixed"] == 7
    assert tuner.describe()["BestTrainingJob"]["TrainingJobName"] == best
    # Nothing but the training jobs themselves is among the training jobs.
    assert sorted(path.name for path in home.joinpath("jobs").iterdir()) == sorted(table["TrainingJobName"])


def test_boto3_takes_the_request_of_a_tuner(make_tuner, home):
    request = make_tuner(
        warm_start_config=None,
        completion_criteria_config=TuningJobCompletionCriteriaConfig(
            max_number_of_training_jobs_not_improving=3, target_objective_metric_value=0.9
        ),
        tags=[{"Key": "a", "Value": "b"}],
        estimator={"tags": [{"Key": "c", "Value": "d"}]},
        early_stopping_type="Auto",
        max_runtime_in_seconds=600,
    ).request(job_name="tune-1")
    own = request.pop(OWN_MEMBER)
    assert own["Runtime"] == "process"
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateHyperParameterTuningJob").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    assert config["ParameterRanges"]["CategoricalParameterRanges"] == [{"Name": "kind", "Values": ['"a"', '"b"']}]
    assert config["ParameterRanges"]["ContinuousParameterRanges"] == [
        {"Name": "rate", "MinValue": "0.001", "MaxValue": "1", "ScalingType": "Logarithmic"}
    ]
    static = definition["StaticHyperParameters"]
    assert static["fixed"] == "7"
    assert not {"rate", "layers", "kind"} & set(static)
    assert json.loads(static["sagemaker_program"]) == "train.py"
    assert request["Tags"] == [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}]
    assert not home.exists()


def test_attach_finds_what_another_process_began(make_tuner):
    tuner = make_tuner(runtime="process", max_jobs=2)
    tuner.fit(wait=False, job_name="tune-1")
    again = HyperparameterTuner.attach("tune-1")
    again.wait()
    assert again.describe()["HyperParameterTuningJobStatus"] == "Completed"
    assert again.best_training_job().startswith("tune-1-00")
    assert again.hyperparameter_ranges() == tuner.hyperparameter_ranges()
    assert again.estimator.hyperparameters() == {"fixed": 7}
    assert (again.strategy, again.max_jobs, again.max_parallel_jobs) == ("Random", 2, 2)
    ranges = HyperparameterTuningJobAnalytics("tune-1").tuning_ranges
    assert ranges["layers"] == {"Name": "layers", "MinValue": "1", "MaxValue": "4", "ScalingType": "Auto"}


def test_a_stop_does_not_wait_and_the_training_jobs_end(make_tuner):
    tuner = make_tuner("import time\nprint('score=1', flush=True)\ntime.sleep(60)", runtime="process", max_jobs=4)
    tuner.fit(wait=False)
    tuner.stop_tuning_job()
    tuner.wait()
    assert tuner.describe()["HyperParameterTuningJobStatus"] == "Stopped"


def test_a_failed_tuning_job_raises_with_the_failure_of_a_training_job(make_tuner):
    tuner = make_tuner("raise ValueError('no transitions')", max_jobs=1)
    with pytest.raises(JobFailedError, match=r"All training jobs failed(.|\n)*no transitions"):
        tuner.fit()
    with pytest.raises(BadInputError, match="Best training job not available"):
        tuner.best_training_job()


def test_a_warm_start_goes_on_from_a_tuning_job(make_tuner):
    tuner = make_tuner(strategy="Bayesian", max_jobs=1, max_parallel_jobs=1)
    tuner.fit(job_name="parent-1")
    warm = tuner.identical_dataset_and_algorithm_tuner()
    request = warm.request()
    assert request["WarmStartConfig"] == {
        "WarmStartType": "IdenticalDataAndAlgorithm",
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent-1"}],
    }
    warm.fit()
    assert "OverallBestTrainingJob" in warm.describe()
    config = WarmStartConfig.from_job_desc(request["WarmStartConfig"])
    assert (config.type, config.parents) == (WarmStartTypes.IDENTICAL_DATA_AND_ALGORITHM, {"parent-1"})
    with pytest.raises(ValueError, match="no parents"):
        WarmStartConfig(WarmStartTypes.TRANSFER_LEARNING, [])


def test_hyperband_gets_its_limits(make_tuner):
    tuner = make_tuner(strategy="Hyperband", strategy_config=StrategyConfig(HyperbandStrategyConfig(27, 1)))
    config = tuner.request()["HyperParameterTuningJobConfig"]["StrategyConfig"]
    assert config == {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 27}}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"autotune": True}, "autotune"),
        ({"ranges": {}}, "Need to specify hyperparameter ranges"),
        ({"ranges": {"rate": (1, 2)}}, "the range of 'rate' is a tuple"),
    ],
)
def test_what_is_not_emulated_is_refused_by_name(make_tuner, options, named):
    with pytest.raises(BadInputError, match=named):
        make_tuner(**options)


def test_arguments_of_other_calls_are_refused_as_well(make_tuner):
    tuner = make_tuner(estimator={"container_arguments": ["train"]})
    with pytest.raises(UnsupportedOptionError, match="container_entry_point and container_arguments"):
        tuner.request()
    with pytest.raises(UnsupportedOptionError, match="estimator_kwargs"):
        tuner.fit(estimator_kwargs={"a": {}})
    with pytest.raises(UnsupportedNameError, match="override_resource_config"):
        tuner.override_resource_config([])
    with pytest.raises(BadInputError, match="No tuning job available"):
        tuner.describe()


OTHER = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int)
print(f"value={100 * parser.parse_known_args()[0].depth}")
"""


@pytest.fixture
def make_both(make_tuner, make_source):
    """A function that makes a tuner of two estimators, each with a script of its own."""

    def make(other=None, **options):
        first = make_tuner().estimator
        second = launcher.Estimator(
            entry_point="train.py",
            source_dir=make_source(OTHER, "other"),
            runtime=first._runtime,
            **(other or {}),
        )
        return HyperparameterTuner.create(
            {"rates": first, "depths": second},
            {"rates": "score", "depths": "value"},
            {"rates": RANGES, "depths": {"depth": IntegerParameter(2, 3)}},
            {"depths": [{"Name": "value", "Regex": "value=([0-9]+)"}]},
            **{"strategy": "Random", "max_jobs": 4, "max_parallel_jobs": 2, "random_seed": 1, **options},
        )

    return make


def test_several_estimators_are_tuned_in_turn_and_compared(make_both):
    """A depth is worth 200 at least, and a rate 4 at most."""
    tuner = make_both()
    tuner.fit(job_name="both-1")
    job = tuner.latest_tuning_job
    definitions = [summary["TrainingJobDefinitionName"] for summary in job.training_jobs()]
    assert sorted(definitions) == ["depths", "depths", "rates", "rates"]
    assert tuner.describe()["BestTrainingJob"]["TrainingJobDefinitionName"] == "depths"
    assert tuner.best_estimator().latest_training_job.name == tuner.best_training_job()
    assert {path.name for path in (job.path / "both-1-1").iterdir()} == {"source"}
    again = HyperparameterTuner.attach("both-1")
    assert again.hyperparameter_ranges_dict() == tuner.hyperparameter_ranges_dict()
    assert again.objective_metric_name_dict == {"depths": "value", "rates": "score"}
    assert (again.hyperparameter_ranges(), again.estimator, tuner.estimator) == (None, None, None)
    with pytest.raises(UnsupportedOptionError, match="multiple estimators"):
        again.transfer_learning_tuner()


def test_the_request_of_several_estimators_is_the_sdks(make_both, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1")
    request = make_both(tags=[{"Key": "a", "Value": "b"}]).request({"rates": {"train": str(tmp_path / "data")}}, "b-1")
    ParamValidator().validate(
        {name: value for name, value in request.items() if name != OWN_MEMBER},
        botocore.session.get_session()
        .get_service_model("sagemaker")
        .operation_model("CreateHyperParameterTuningJob")
        .input_shape,
    )
    depths, rates = request["TrainingJobDefinitions"]
    assert (depths["DefinitionName"], rates["DefinitionName"]) == ("depths", "rates")
    assert depths["TuningObjective"] == {"Type": "Maximize", "MetricName": "value"}
    assert [channel["ChannelName"] for channel in rates["InputDataConfig"]] == ["train"]
    assert "InputDataConfig" not in depths
    assert "ParameterRanges" not in request["HyperParameterTuningJobConfig"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda make: HyperparameterTuner.create({}, {}, {}), "At least one estimator"),
        (lambda make: make(autotune=True), "autotune"),
        (lambda make: make(hyperparameters_to_keep_static_dict={}), "hyperparameters_to_keep_static_dict"),
        (lambda make: make().request(inputs={"others": {}}), r"'inputs' must be a subset of \['depths', 'rates'\]"),
        (lambda make: make(other={"max_run": 5, "spot_interruptions": "after:1s"}).request(), "spot_interruptions"),
        (
            lambda make: HyperparameterTuner.create(make().estimator_dict, {"rates": "score"}, {}),
            r"'objective_metric_name_dict' must be the same as \['depths', 'rates'\]",
        ),
    ],
)
def test_what_several_estimators_cannot_be_is_refused_by_name(make_both, call, named):
    with pytest.raises(BadInputError, match=named):
        call(make_both)


def test_generated_names_fit(make_tuner):
    tuner = make_tuner(base_tuning_job_name="a_very_long_name_for_a_tuning_job_indeed")
    names = [tuner._new_name() for _ in range(3)]
    assert all(len(name) <= 32 and name.startswith("a-very-long-na") for name in names)


def test_the_source_of_all_training_jobs_is_uploaded_once(make_tuner):
    tuner = make_tuner(max_jobs=2)
    job = tuner.submit(job_name="tune-1")
    assert (job.path / "source" / "sourcedir.tar.gz").exists()
    job.wait(logs=False)
    sources = {launcher.TrainingJob(summary["TrainingJobName"]).keys.source for summary in job.training_jobs()}
    assert len(sources) == 1
