"""The CreateHyperParameterTuningJob document: what of it is taken, and in whose words it is refused."""

import copy

import pytest

from launcher.errors import BadInputError, RequestError, UnsupportedOptionError
from launcher.requests.shapes import OWN_MEMBER, operation_shape, shape
from launcher.requests.tuning import check_tuning_request, completed_tuning
from launcher.requests.tuning_members import TUNING_MEMBERS

OPERATION = "CreateHyperParameterTuningJob"


def number(name="rate", low="1", high="10", **members):
    return {"Name": name, "MinValue": low, "MaxValue": high, **members}


def continuous(*ranges):
    return {"ContinuousParameterRanges": list(ranges)}


def test_a_document_becomes_a_spec(tuning):
    spec = check_tuning_request(tuning.request(jobs=7, parallel=2, seed=11, Tags=[{"Key": "a", "Value": "b"}]))
    assert (spec.strategy, spec.max_jobs, spec.max_parallel_jobs, spec.seed) == ("Random", 7, 2, 11)
    assert spec.tags == (("a", "b"),)
    (definition,) = spec.definitions
    assert (definition.objective.metric, definition.objective.kind) == ("score", "Maximize")
    assert definition.request["Tags"] == [{"Key": "a", "Value": "b"}]
    assert type(spec).from_dict(spec.to_dict()) == spec


def test_without_a_seed_every_tuning_job_has_another(tuning):
    request = tuning.request()
    del request["HyperParameterTuningJobConfig"]["RandomSeed"]
    assert check_tuning_request(request).seed != check_tuning_request(request).seed


def test_every_member_of_the_service_model_is_taken_or_refused_by_a_row():
    def leaves(name, path, seen=()):
        definition = shape(name)
        if path in TUNING_MEMBERS or path == OWN_MEMBER:
            return
        if definition["type"] == "structure" and name not in seen:
            for member, inner in definition["members"].items():
                yield from leaves(inner, f"{path}.{member}" if path else member, (*seen, name))
        elif definition["type"] == "list":
            yield from leaves(definition["member"], f"{path}[]", seen)
        else:
            yield path

    assert list(leaves(operation_shape(OPERATION), "")) == []


def test_a_row_that_refuses_says_what_to_do_instead():
    assert [row.path for row in TUNING_MEMBERS.values() if row.accepted is not None and not row.instead] == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"Autotune": {"Mode": "Enabled"}}, "Autotune"),
        ({"ranges": {"AutoParameters": [{"Name": "rate", "ValueHint": "1"}]}}, "AutoParameters"),
        (
            {"definition": {"HyperParameterTuningResourceConfig": {"VolumeKmsKeyId": "key"}}},
            "TrainingJobDefinition.HyperParameterTuningResourceConfig.VolumeKmsKeyId",
        ),
        (
            {"config": {"TuningJobCompletionCriteria": {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}}},
            "CompleteOnConvergence",
        ),
        ({"WarmStartConfig": {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "a"}],
                              "WarmStartType": "TransferLearning"}}, "WarmStartConfig with Strategy=Random"),
    ],
)  # fmt: skip
def test_a_member_that_is_not_emulated_is_refused_by_name(tuning, options, named):
    with pytest.raises(UnsupportedOptionError, match=named):
        check_tuning_request(tuning.request(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranges": {}}, "no hyperparameter has a range"),
        ({"ranges": continuous(number(), number())}, "'rate' has two ranges"),
        ({"ranges": continuous(number(name="sagemaker_program"))}, "is static and has a range as well"),
        ({"ranges": continuous(number(low="10", high="1"))}, "MinValue=10 is not below MaxValue=1"),
        ({"ranges": continuous(number(low="nan"))}, "MinValue='nan' is no number"),
        ({"ranges": continuous(number(low="0", ScalingType="Logarithmic"))}, "needs a MinValue above 0"),
        ({"ranges": continuous(number(low="0", high="1", ScalingType="ReverseLogarithmic"))}, "from 0 to below 1"),
        ({"ranges": {"IntegerParameterRanges": [number(low="1.5")]}}, "no whole number"),
        ({"ranges": {"CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "a"]}]}}, "is listed twice"),
        ({"strategy": "Grid"}, "Grid takes categorical ranges alone"),
        (
            {"strategy": "Grid", "ranges": {"CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}]}},
            "MaxNumberOfTrainingJobs=3, and the grid has 2 combinations",
        ),
        ({"jobs": None}, "MaxNumberOfTrainingJobs is missing"),
        ({"strategy": "Hyperband"}, "Hyperband needs MaxResource"),
        (
            {"strategy": "Hyperband", "config": {"TrainingJobEarlyStoppingType": "Auto"}},
            "TrainingJobEarlyStoppingType must be Off",
        ),
        (
            {"config": {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 3}}}},
            "is for Hyperband, not for Random",
        ),
        (
            {"config": {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "loss"}}},
            "'loss' is not among its MetricDefinitions",
        ),
        (
            {"definition": {"OutputDataConfig": {"S3OutputPath": "file://a/b"}}},
            "TrainingJobDefinition: OutputDataConfig",
        ),
        ({"definition": {"TuningObjective": {"Type": "Maximize", "MetricName": "score"}}}, "TuningObjective is for"),
    ],
)
def test_other_bad_documents_are_refused_by_name(tuning, options, words):
    with pytest.raises(BadInputError, match=words):
        check_tuning_request(tuning.request(**options))


def test_a_broken_limit_is_told_in_awss_words(tuning):
    with pytest.raises(RequestError) as raised:
        check_tuning_request(tuning.request(name="a" * 33, limits={"MaxRuntimeInSeconds": 60}))
    assert raised.value.aws_message.startswith("3 validation errors detected: ")
    assert (
        f"Value '{'a' * 33}' at 'hyperParameterTuningJobName' failed to satisfy constraint: Member must have length "
        "less than or equal to 32" in raised.value.aws_message
    )
    assert (
        "Value '60' at 'hyperParameterTuningJobConfig.resourceLimits.maxRuntimeInSeconds' failed to satisfy "
        "constraint: Member must have value greater than or equal to 120" in raised.value.aws_message
    )


@pytest.mark.parametrize(("name", "text"), [("epochs", "30"), ("training.num_epochs", '"30"')])
def test_hyperband_reads_its_resource_from_the_epochs_of_the_script(tuning, name, text):
    request = tuning.request(strategy="Hyperband")
    request["TrainingJobDefinition"]["StaticHyperParameters"][name] = text
    spec = check_tuning_request(request)
    assert (spec.min_resource, spec.max_resource) == (1, 30)


@pytest.mark.parametrize(
    ("low", "high", "scaling"), [("0.001", "0.1", "Logarithmic"), ("0.001", "0.09", "Linear"), ("0", "1", "Linear")]
)
def test_auto_spreads_a_wide_range_over_its_logarithms(tuning, low, high, scaling):
    spec = check_tuning_request(tuning.request(ranges=continuous(number(low=low, high=high))))
    assert spec.definitions[0].ranges[0].scaling == scaling
    assert spec.definitions[0].ranges[0].asked_scaling == "Auto"


def test_either_a_definition_or_several(tuning):
    request = tuning.request()
    request["TrainingJobDefinitions"] = [copy.deepcopy(request["TrainingJobDefinition"])]
    with pytest.raises(BadInputError, match="exactly one of"):
        check_tuning_request(request)
    del request["TrainingJobDefinition"]
    with pytest.raises(BadInputError, match="is for a single TrainingJobDefinition"):
        check_tuning_request(request)


def test_the_resources_of_tuning_are_those_of_its_training_jobs(tuning):
    request = tuning.request()
    definition = request["TrainingJobDefinition"]
    definition["HyperParameterTuningResourceConfig"] = definition.pop("ResourceConfig")
    spec = check_tuning_request(request)
    assert spec.definitions[0].request["ResourceConfig"]["InstanceType"] == "ml.m5.large"


def test_defaults_are_filled_in_and_nothing_else_changes(tuning):
    request = tuning.request()
    full = completed_tuning(request)
    assert full["HyperParameterTuningJobConfig"]["TrainingJobEarlyStoppingType"] == "Off"
    assert full["TrainingJobDefinition"]["OutputDataConfig"]["KmsKeyId"] == ""
    assert full["TrainingJobDefinition"]["StaticHyperParameters"]["_tuning_objective_metric"] == "score"
    assert request == tuning.request()
