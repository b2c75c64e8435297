"""CreateHyperParameterTuningJob: the document as boto3 takes it, checked, and turned into a spec and back."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.errors import BadInputError, HyperparameterError, UnsupportedOptionError
from launcher.jobs.record import JobRecord, utc
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.states import Status
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import (
    CATEGORICAL,
    CONTINUOUS,
    INTEGER,
    Objective,
    ParameterRange,
    Trial,
    TuningDefinition,
    TuningJobSpec,
)
from launcher.requests.members import refuse_unsupported
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.training import EXCEPTIONS, check_encodable, check_training_request
from launcher.requests.tuning_members import TUNING_MEMBERS
from launcher.requests.validation import check
from launcher.settings import local_arn, training_job_arn

OPERATION = "CreateHyperParameterTuningJob"
OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
EPOCH_NAMES = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""The static hyperparameters that Hyperband's MaxResource is read from; a name may be dotted, as in a preset."""
MAX_RESOURCE = 20_000
MAX_TRIALS = 10_000
_AUTO_LOG_RATIO = 100.0
_SEEDS = 2**31
_RANGE_LISTS = {
    INTEGER: "IntegerParameterRanges",
    CONTINUOUS: "ContinuousParameterRanges",
    CATEGORICAL: "CategoricalParameterRanges",
}
_COUNTERS = {"Completed": "Completed", "InProgress": "InProgress", "Stopping": "InProgress", "Stopped": "Stopped"}


def check_tuning_request(request: Mapping[str, Any]) -> TuningJobSpec:
    """Check a CreateHyperParameterTuningJob document, and return the tuning job that it asks for.

    Args:
        request: as boto3's ``create_hyper_parameter_tuning_job(**request)`` takes it, with our own member ``Launcher``
            or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape(OPERATION), exceptions=EXCEPTIONS)
    check_encodable(request)
    refuse_unsupported(request, TUNING_MEMBERS)
    config, own = request["HyperParameterTuningJobConfig"], request.get(OWN_MEMBER, {})
    strategy, limits = config["Strategy"], config["ResourceLimits"]
    definitions = tuple(_definitions(request, config))
    criteria = config.get("TuningJobCompletionCriteria", {})
    warm_start = request.get("WarmStartConfig", {})
    parents = [
        parent.get("HyperParameterTuningJobName") for parent in warm_start.get("ParentHyperParameterTuningJobs", ())
    ]
    _check_parents(request["HyperParameterTuningJobName"], strategy, parents)
    stops_early = config.get("TrainingJobEarlyStoppingType", "Off") == "Auto"
    low, high = _resources(config, definitions, stops_early)
    seed = config.get("RandomSeed")
    return TuningJobSpec(
        job_name=request["HyperParameterTuningJobName"],
        strategy=strategy,
        definitions=definitions,
        max_jobs=_max_jobs(strategy, definitions, limits.get("MaxNumberOfTrainingJobs")),
        max_parallel_jobs=limits["MaxParallelTrainingJobs"],
        runtime=own.get("Runtime", "auto"),
        seed=random.SystemRandom().randrange(_SEEDS) if seed is None else seed,
        max_runtime_seconds=limits.get("MaxRuntimeInSeconds", 0),
        early_stopping=stops_early,
        min_resource=low,
        max_resource=high,
        target=criteria.get("TargetObjectiveMetricValue"),
        max_not_improving=criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving", 0),
        warm_start=warm_start.get("WarmStartType", ""),
        parents=tuple(parents),
        tags=tag_pairs(request.get("Tags", ())),
    )


def trial_request(spec: TuningJobSpec, trial: Trial) -> dict[str, Any]:
    """Return the CreateTrainingJob document of a training job: its definition, with the values that were chosen."""
    definition = spec.definitions[trial.definition]
    request = copy.deepcopy(dict(definition.request))
    texts = {entry.name: entry.text(trial.values[entry.name]) for entry in definition.ranges}
    request["TrainingJobName"] = trial.job
    request["HyperParameters"] = {**request["HyperParameters"], **texts}
    request[OWN_MEMBER]["TuningJobArn"] = tuning_job_arn(spec.job_name)
    return request


def tuning_job_arn(name: str) -> str:
    """Return the ARN of a tuning job."""
    return local_arn("hyper-parameter-tuning-job", name)


def describe_tuning(
    record: TuningRecord, children: Mapping[str, JobRecord], parents: Sequence[tuple[str, TuningRecord]] = ()
) -> dict[str, Any]:
    """Return a record in the shape of DescribeHyperParameterTuningJob's answer.

    Args:
        record: the tuning job's.
        children: the records of its training jobs, by name; one may be missing.
        parents: the tuning jobs that it was warm-started from, with their names.
    """
    spec = record.tuning_spec
    answer = completed_tuning(record.request)
    for member in ("Tags", OWN_MEMBER):
        answer.pop(member, None)
    answer |= {
        "HyperParameterTuningJobArn": tuning_job_arn(spec.job_name),
        "HyperParameterTuningJobStatus": str(Status(record.status)),
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        **status_counters(record, children),
        "ConsumedResources": {"RuntimeInSeconds": round(consumed_seconds(record))},
    }
    if record.ended is not None:
        answer["HyperParameterTuningEndTime"] = utc(record.ended)
    if record.failure_reason:
        answer["FailureReason"] = record.failure_reason
    best = best_trial(spec, record.trials)
    if best is not None:
        answer["BestTrainingJob"] = trial_summary(spec, best, children.get(best.job), record.created)
    if spec.warm_start == "IdenticalDataAndAlgorithm":
        overall = [(spec, trial) for trial in ([best] if best else [])]
        for _, parent in parents:
            trial = best_trial(parent.tuning_spec, parent.trials)
            overall += [(parent.tuning_spec, trial)] if trial else []
        if overall:
            sign = spec.definitions[0].objective.sign
            owner, trial = max(overall, key=lambda entry: sign * (entry[1].objective or 0.0))
            summary = trial_summary(owner, trial, children.get(trial.job), record.created)
            answer["OverallBestTrainingJob"] = {**summary, "TuningJobName": owner.job_name}
    if spec.max_not_improving:
        answer["TuningJobCompletionDetails"] = {
            "NumberOfTrainingJobsObjectiveNotImproving": not_improving(spec, record.trials)
        }
    return answer


def summarize_tuning(record: TuningRecord) -> dict[str, Any]:
    """Return a record in the shape of HyperParameterTuningJobSummary; a training job that runs is InProgress."""
    spec = record.tuning_spec
    summary: dict[str, Any] = {
        "HyperParameterTuningJobName": spec.job_name,
        "HyperParameterTuningJobArn": tuning_job_arn(spec.job_name),
        "HyperParameterTuningJobStatus": str(Status(record.status)),
        "Strategy": spec.strategy,
        "CreationTime": utc(record.created),
        "LastModifiedTime": utc(record.modified),
        **status_counters(record, {}),
        "ResourceLimits": copy.deepcopy(record.request["HyperParameterTuningJobConfig"]["ResourceLimits"]),
    }
    if record.ended is not None:
        summary["HyperParameterTuningEndTime"] = utc(record.ended)
    return summary


def completed_tuning(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with AWS's defaults where it says nothing."""
    full = copy.deepcopy(dict(request))
    full["HyperParameterTuningJobConfig"].setdefault("TrainingJobEarlyStoppingType", "Off")
    definitions = [full["TrainingJobDefinition"]] if "TrainingJobDefinition" in full else full["TrainingJobDefinitions"]
    for definition in definitions:
        for name in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"):
            definition.setdefault(name, False)
        definition["OutputDataConfig"].setdefault("KmsKeyId", "")
        objective = definition.get("TuningObjective") or full["HyperParameterTuningJobConfig"].get(
            "HyperParameterTuningJobObjective", {}
        )
        definition["StaticHyperParameters"] = {
            **definition.get("StaticHyperParameters", {}),
            OBJECTIVE_HYPERPARAMETER: objective["MetricName"],
        }
    return full


def status_counters(record: TuningRecord, children: Mapping[str, JobRecord]) -> dict[str, dict[str, int]]:
    """Return TrainingJobStatusCounters and ObjectiveStatusCounters."""
    jobs = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
    objectives = dict.fromkeys(("Succeeded", "Pending", "Failed"), 0)
    for trial in record.trials:
        jobs[_COUNTERS.get(trial_status(trial, children.get(trial.job)), "NonRetryableError")] += 1
        objectives[objective_status(trial)] += 1
    return {"TrainingJobStatusCounters": jobs, "ObjectiveStatusCounters": objectives}


def trial_status(trial: Trial, child: JobRecord | None) -> str:
    """Return the status of a training job of a tuning job."""
    return trial.status or (str(Status(child.status)) if child else str(Status.IN_PROGRESS))


def objective_status(trial: Trial) -> str:
    """Return ObjectiveStatus: ``Succeeded`` for a training job that ended with a value, and did not fail."""
    return "Pending" if not trial.ended else "Succeeded" if trial.counts else "Failed"


def trial_summary(spec: TuningJobSpec, trial: Trial, child: JobRecord | None, created: float) -> dict[str, Any]:
    """Return a training job in the shape of HyperParameterTrainingJobSummary.

    Args:
        spec: its tuning job.
        trial: the training job.
        child: its record; None where it was removed, or is not there yet.
        created: when its tuning job was made, for a training job without a record.
    """
    definition = spec.definitions[trial.definition]
    summary: dict[str, Any] = {
        "TrainingJobName": trial.job,
        "TrainingJobArn": training_job_arn(trial.job),
        "CreationTime": utc(child.created if child else created),
        "TrainingJobStatus": trial_status(trial, child),
        "TunedHyperParameters": {entry.name: entry.text(trial.values[entry.name]) for entry in definition.ranges},
        "ObjectiveStatus": objective_status(trial),
    }
    if definition.name:
        summary["TrainingJobDefinitionName"] = definition.name
    if child is not None and child.started is not None:
        summary["TrainingStartTime"] = utc(child.started)
    if child is not None and child.ended is not None:
        summary["TrainingEndTime"] = utc(child.ended)
    if trial.failure:
        summary["FailureReason"] = trial.failure
    if trial.counts:
        summary["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "Type": definition.objective.kind,
            "MetricName": definition.objective.metric,
            "Value": trial.objective,
        }
    return summary


def best_trial(spec: TuningJobSpec, trials: Sequence[Trial]) -> Trial | None:
    """Return the training job with the best objective, of two equal ones the earlier; None where none has a result."""
    results = [trial for trial in trials if trial.counts]
    return max(results, key=lambda trial: _score(spec, trial), default=None)


def not_improving(spec: TuningJobSpec, trials: Sequence[Trial]) -> int:
    """Return how many training jobs in a row, the last ones that ended, have not improved the best objective."""
    best, count = -math.inf, 0
    for trial in trials:
        if trial.ended:
            improves = trial.counts and _score(spec, trial) > best
            best, count = (_score(spec, trial), 0) if improves else (best, count + 1)
    return count


def consumed_seconds(record: TuningRecord) -> float:
    """Return how long a tuning job has run, or ran."""
    if record.billable_seconds is not None:
        return record.billable_seconds
    return 0.0 if record.started is None else record.seconds_since("started", record.started)


def _score(spec: TuningJobSpec, trial: Trial) -> float:
    return spec.definitions[trial.definition].objective.sign * (trial.objective or 0.0)


def _definitions(request: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[TuningDefinition]:
    single, several = request.get("TrainingJobDefinition"), request.get("TrainingJobDefinitions")
    if (single is None) == (several is None):
        raise BadInputError(
            "exactly one of TrainingJobDefinition and TrainingJobDefinitions is needed.",
            "Give the first for training jobs of one kind.",
        )
    if single is not None:
        for member in ("TuningObjective", "HyperParameterRanges"):
            if member in single:
                raise BadInputError(
                    f"TrainingJobDefinition.{member} is for TrainingJobDefinitions.",
                    "Give it in HyperParameterTuningJobConfig.",
                )
        objective, ranges = config.get("HyperParameterTuningJobObjective"), config.get("ParameterRanges", {})
        yield _definition(request, single, "TrainingJobDefinition", objective, ranges)
        return
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if member in config:
            raise BadInputError(
                f"HyperParameterTuningJobConfig.{member} is for a single TrainingJobDefinition.",
                "Give each of TrainingJobDefinitions TuningObjective and HyperParameterRanges of its own.",
            )
    names = [definition.get("DefinitionName", "") for definition in several or ()]
    if not all(names) or len(set(names)) < len(names):
        raise BadInputError(
            "TrainingJobDefinitions: each definition needs a DefinitionName of its own.", "Name each of them."
        )
    kinds = set()
    for position, definition in enumerate(several or ()):
        objective = definition.get("TuningObjective")
        place = f"TrainingJobDefinitions[{position}]"
        yield _definition(request, definition, place, objective, definition.get("HyperParameterRanges", {}))
        kinds.add(objective["Type"])
    if len(kinds) > 1:
        raise BadInputError(
            "TrainingJobDefinitions: some maximize their objective and others minimize theirs.",
            "Use one Type: their training jobs are compared.",
        )


def _definition(
    request: Mapping[str, Any],
    definition: Mapping[str, Any],
    place: str,
    objective: Mapping[str, Any] | None,
    ranges: Mapping[str, Any],
) -> TuningDefinition:
    """Return a definition whose training jobs would be accepted."""
    if objective is None:
        raise BadInputError(
            f"{place}: no objective is given.", "Name Type and MetricName, of one of its MetricDefinitions."
        )
    own = copy.deepcopy(dict(request.get(OWN_MEMBER, {})))
    template = copy.deepcopy(dict(definition))
    for member in ("DefinitionName", "TuningObjective", "HyperParameterRanges"):
        template.pop(member, None)
    static = template.pop("StaticHyperParameters", {})
    resources = template.pop("HyperParameterTuningResourceConfig", None)
    if resources is not None:
        if "ResourceConfig" in template:
            raise BadInputError(
                f"{place} has both ResourceConfig and HyperParameterTuningResourceConfig.", "Give one of them."
            )
        template["ResourceConfig"] = resources
    template["HyperParameters"] = {**static, OBJECTIVE_HYPERPARAMETER: objective["MetricName"]}
    template["Tags"] = copy.deepcopy(list(request.get("Tags", ())))
    template[OWN_MEMBER] = own
    checked = tuple(_ranges(ranges, place))
    for entry in checked:
        if entry.name in template["HyperParameters"]:
            raise HyperparameterError(
                f"{place}: the hyperparameter '{entry.name}' is static and has a range as well.",
                "Leave it out of StaticHyperParameters.",
            )
    result = TuningDefinition(
        definition.get("DefinitionName", ""), Objective(objective["MetricName"], objective["Type"]), checked, template
    )
    _check_training(result, place)
    return result


def _check_training(definition: TuningDefinition, place: str) -> TrainingJobSpec:
    """Check what each training job will ask for, in the words of the definition."""
    first = {entry.name: entry.text(entry.values[0] if entry.values else entry.low) for entry in definition.ranges}
    sample = {**definition.request, "TrainingJobName": "tuning-sample"}
    sample["HyperParameters"] = {**definition.request["HyperParameters"], **first}
    try:
        spec = check_training_request(sample)
    except BadInputError as error:
        error.message = f"{place}: {error.message}"
        error.args = (error.message, error.hint)
        raise
    if definition.objective.metric not in {entry.name for entry in spec.metric_definitions}:
        raise BadInputError(
            f"{place}: the objective metric '{definition.objective.metric}' is not among its MetricDefinitions.",
            "Add a definition: a Name and a Regex whose group 1 is the value in a line of the log.",
        )
    return spec


def _ranges(members: Mapping[str, Any], place: str) -> Iterator[ParameterRange]:
    names: set[str] = set()
    for kind, member in _RANGE_LISTS.items():
        for entry in members.get(member, ()):
            name = entry["Name"]
            if name in names or not name:
                raise HyperparameterError(
                    f"{place}: the hyperparameter {name!r} has {'two ranges' if name else 'no name'}.",
                    "Give each hyperparameter a single range.",
                )
            names.add(name)
            if kind == CATEGORICAL:
                if len(set(entry["Values"])) < len(entry["Values"]):
                    raise HyperparameterError(f"{place}: a value of '{name}' is listed twice.", "List each value once.")
                yield ParameterRange(name, kind, values=tuple(entry["Values"]))
            else:
                yield _number_range(entry, kind)
    if not names:
        raise HyperparameterError(f"{place}: no hyperparameter has a range.", "Give at least one parameter range.")


def _number_range(entry: Mapping[str, str], kind: str) -> ParameterRange:
    name, asked = entry["Name"], entry.get("ScalingType", "Auto")
    ends = []
    for member in ("MinValue", "MaxValue"):
        try:
            number = float(int(entry[member])) if kind == INTEGER else float(entry[member])
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > 2**53:
            raise HyperparameterError(
                f"the range of '{name}': {member}={entry[member]!r:.60} is no "
                f"{'whole number' if kind == INTEGER else 'number'}.",
                "Write it as text, such as '8'." if kind == INTEGER else "Write it as text, such as '0.001'.",
            )
        ends.append(number)
    low, high = ends
    if low > high or (low == high and kind == CONTINUOUS):
        raise HyperparameterError(
            f"the range of '{name}': MinValue={entry['MinValue']} is not below MaxValue={entry['MaxValue']}.",
            "Swap them, or make the hyperparameter static.",
        )
    if asked == "Logarithmic" and low <= 0:
        raise HyperparameterError(
            f"the range of '{name}': a logarithmic scale needs a MinValue above 0, not {entry['MinValue']}.",
            "Raise it, or use ScalingType=Linear.",
        )
    if asked == "ReverseLogarithmic" and not (kind == CONTINUOUS and low >= 0 and high < 1):
        raise HyperparameterError(
            f"the range of '{name}': a reverse logarithmic scale is for continuous values from 0 to below 1.",
            "Use ScalingType=Linear or Logarithmic.",
        )
    scaling = asked
    if asked == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= _AUTO_LOG_RATIO else "Linear"
    return ParameterRange(name, kind, scaling, asked, low, high)


def _max_jobs(strategy: str, definitions: Sequence[TuningDefinition], asked: int | None) -> int:
    if strategy == "Grid":
        total = 0
        for definition in definitions:
            numbers = [entry.name for entry in definition.ranges if entry.kind != CATEGORICAL]
            if numbers:
                raise HyperparameterError(
                    f"Grid takes categorical ranges alone, and '{numbers[0]}' is a range of numbers.",
                    "List its values as a categorical range, or use another strategy.",
                )
            total += math.prod(len(entry.values) for entry in definition.ranges)
        if asked not in (None, total):
            raise BadInputError(
                f"MaxNumberOfTrainingJobs={asked}, and the grid has {total} combinations.",
                f"Leave it out, or give {total}.",
            )
        asked = total
    if asked is None:
        raise BadInputError(
            f"ResourceLimits.MaxNumberOfTrainingJobs is missing; {strategy} needs it.", "Say how many jobs to train."
        )
    if asked > MAX_TRIALS:
        raise BadInputError(f"{asked} training jobs are too many for one tuning job.", f"Use up to {MAX_TRIALS}.")
    return asked


def _resources(
    config: Mapping[str, Any], definitions: Sequence[TuningDefinition], stops_early: bool
) -> tuple[int, int]:
    """Return Hyperband's MinResource and MaxResource, in values of the objective; 0 as the second without Hyperband."""
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    if config["Strategy"] != "Hyperband":
        if given is not None:
            raise BadInputError(
                f"StrategyConfig.HyperbandStrategyConfig is for Hyperband, not for {config['Strategy']}.",
                "Leave it out.",
            )
        return 1, 0
    if stops_early:
        raise BadInputError(
            "Hyperband stops training jobs by itself: TrainingJobEarlyStoppingType must be Off.", "Leave it out."
        )
    given = given or {}
    low = given.get("MinResource", 1)
    high = given.get("MaxResource") or _resource_of(definitions)
    if high is None:
        raise BadInputError(
            "Hyperband needs MaxResource, and no static hyperparameter says how many epochs there are.",
            f"Give StrategyConfig.HyperbandStrategyConfig.MaxResource, or one of: {', '.join(EPOCH_NAMES)}.",
        )
    if not low <= high <= MAX_RESOURCE:
        raise BadInputError(
            f"Hyperband's MinResource={low} and MaxResource={high} are no range within 1 to {MAX_RESOURCE}.",
            "Give them in values of the objective that a training job emits, such as epochs.",
        )
    return low, high


def _resource_of(definitions: Sequence[TuningDefinition]) -> int | None:
    for definition in definitions:
        for name, text in definition.request["HyperParameters"].items():
            if name.rpartition(".")[2] in EPOCH_NAMES:
                try:
                    value = int(json.loads(text) if text.startswith('"') else text)
                except (TypeError, ValueError):
                    continue
                if value > 0:
                    return value
    return None


def _check_parents(name: str, strategy: str, parents: Sequence[str | None]) -> None:
    if any(parent is None for parent in parents):
        raise BadInputError("WarmStartConfig: a parent has no HyperParameterTuningJobName.", "Name each of them.")
    if name in parents:
        raise BadInputError(f"WarmStartConfig: '{name}' cannot be its own parent.", "Name an earlier tuning job.")
    if len(set(parents)) < len(parents):
        raise BadInputError("WarmStartConfig: a parent is named twice.", "Name each of them once.")
    if parents and strategy != "Bayesian":
        raise UnsupportedOptionError(
            f"WarmStartConfig with Strategy={strategy} is not emulated: only Bayesian learns from earlier results.",
            "Use Bayesian, or leave it out.",
        )
