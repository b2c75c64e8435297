"""What happens here to each member of CreateHyperParameterTuningJob; ``members.py`` says how the table is read.

The members of a definition are those of CreateTrainingJob, whose table counts for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.requests.members import MEMBERS, Member
from launcher.requests.shapes import OWN_MEMBER, operation_shape, shape

_ONE_MACHINE = "Give InstanceType and InstanceCount: there is one machine to choose from."
_NO_AUTOTUNE = (
    "Leave it out, and give the ranges and the strategy yourself: AWS chooses them by what it knows of its own "
    "algorithms, and says nowhere how."
)


def _of_ranges(path: str) -> Iterator[Member]:
    for name in ("IntegerParameterRanges", "ContinuousParameterRanges", "CategoricalParameterRanges"):
        yield Member(f"{path}.{name}")
    yield Member(
        f"{path}.AutoParameters", ([],), "Give the parameter a range: AWS does not say which one a hint leads to."
    )


def _of_definition(path: str) -> Iterator[Member]:
    structure = shape(operation_shape("CreateHyperParameterTuningJob"))
    definition = shape(structure["members"]["TrainingJobDefinition"])["members"]
    algorithm = shape(definition["AlgorithmSpecification"])["members"]
    for row in MEMBERS.values():
        top, _, below = row.path.replace("[]", "").partition(".")
        if top in definition and (top != "AlgorithmSpecification" or below.split(".")[0] in algorithm):
            yield row._replace(path=f"{path}.{row.path}")
    yield Member(f"{path}.DefinitionName")
    yield Member(f"{path}.TuningObjective")
    yield Member(f"{path}.StaticHyperParameters")
    yield from _of_ranges(f"{path}.HyperParameterRanges")
    for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
        yield Member(f"{path}.HyperParameterTuningResourceConfig.{name}")
    for name in ("VolumeKmsKeyId", "AllocationStrategy", "InstanceConfigs"):
        yield Member(f"{path}.HyperParameterTuningResourceConfig.{name}", (), _ONE_MACHINE)


TUNING_MEMBERS: Mapping[str, Member] = {
    row.path: row
    for row in (
        Member("HyperParameterTuningJobName"),
        Member("HyperParameterTuningJobConfig.Strategy"),
        Member("HyperParameterTuningJobConfig.StrategyConfig"),
        Member("HyperParameterTuningJobConfig.HyperParameterTuningJobObjective"),
        Member("HyperParameterTuningJobConfig.ResourceLimits"),
        *_of_ranges("HyperParameterTuningJobConfig.ParameterRanges"),
        Member("HyperParameterTuningJobConfig.TrainingJobEarlyStoppingType"),
        Member("HyperParameterTuningJobConfig.TuningJobCompletionCriteria.TargetObjectiveMetricValue"),
        Member("HyperParameterTuningJobConfig.TuningJobCompletionCriteria.BestObjectiveNotImproving"),
        Member(
            "HyperParameterTuningJobConfig.TuningJobCompletionCriteria.ConvergenceDetected.CompleteOnConvergence",
            ("Disabled",),
            "Use BestObjectiveNotImproving, which says after how many training jobs to give up.",
        ),
        Member("HyperParameterTuningJobConfig.RandomSeed"),
        *_of_definition("TrainingJobDefinition"),
        *_of_definition("TrainingJobDefinitions[]"),
        Member("WarmStartConfig"),
        Member("Tags"),
        Member("Autotune", (), _NO_AUTOTUNE),
        Member(OWN_MEMBER),
    )
}
