"""``HyperparameterTuner``: the SDK's tuning API (its version 2), as a translator to CreateHyperParameterTuningJob."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from launcher.errors import BadInputError, HyperparameterError, UnsupportedNameError, UnsupportedOptionError
from launcher.jobs.store import TuningStore
from launcher.jobs.tuning_spec import TuningDefinition
from launcher.requests.shapes import OWN_MEMBER, member_shape, shape
from launcher.requests.training import check_training_request, training_request
from launcher.requests.tuning import OBJECTIVE_HYPERPARAMETER, OPERATION, check_tuning_request
from launcher.runtimes import Runtime
from launcher.sdk.analytics import HyperparameterTuningJobAnalytics
from launcher.sdk.endpoint_configs import tag_members
from launcher.sdk.estimator import Estimator
from launcher.sdk.inputs import Inputs
from launcher.sdk.parameters import CategoricalParameter, ContinuousParameter, IntegerParameter, ParameterRange
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_submission import aws_submission_of, decoded, session_of, submission_of
from launcher.sdk.tuning_job import RemoteTuningJob, TuningJob, tuning_job
from launcher.sdk.uploading import put_source
from launcher.settings import AWS_MODE, home_path
from launcher.terminal import say
from launcher.tuning.submission import TuningPlan, plan_tuning, record_tuning

if TYPE_CHECKING:
    from launcher.sdk.aws_training import AwsSubmission

_SAMPLE = "sample"
_RANGE_LISTS = {
    "Integer": "IntegerParameterRanges",
    "Continuous": "ContinuousParameterRanges",
    "Categorical": "CategoricalParameterRanges",
}
_DEFINITION_MEMBERS = frozenset({
    *("RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "Environment"),
    *("EnableNetworkIsolation", "CheckpointConfig"),
})  # fmt: skip
_NO_AUTOTUNE = (
    "Leave it out, and give the ranges yourself: AWS chooses them by what it knows of its own algorithms, and says "
    "nowhere how."
)


class WarmStartTypes(Enum):
    """How a tuning job uses the results of its parents."""

    IDENTICAL_DATA_AND_ALGORITHM = "IdenticalDataAndAlgorithm"
    TRANSFER_LEARNING = "TransferLearning"


class WarmStartConfig:
    """The tuning jobs whose results a new one begins with.

    Args:
        warm_start_type: ``WarmStartTypes.IDENTICAL_DATA_AND_ALGORITHM`` or ``TRANSFER_LEARNING``.
        parents: their names, 1 to 5.
    Raises:
        ValueError: another type, or no parents, as in the SDK.
    """

    def __init__(self, warm_start_type: WarmStartTypes, parents: Iterable[str]) -> None:
        if warm_start_type not in list(WarmStartTypes):
            raise BadInputError(
                f"WarmStartConfig(warm_start_type={warm_start_type!r}) is no type.",
                f"Use one of: {', '.join(str(entry) for entry in WarmStartTypes)}.",
            )
        if not parents:
            raise BadInputError("WarmStartConfig names no parents.", "Name 1 to 5 tuning jobs that have ended.")
        self.type = warm_start_type
        self.parents = set(parents)

    @classmethod
    def from_job_desc(cls, warm_start_config: Mapping[str, Any] | None) -> WarmStartConfig | None:
        """Return the configuration that a description holds; None where it holds none."""
        if not warm_start_config:
            return None
        parents = [
            entry["HyperParameterTuningJobName"] for entry in warm_start_config["ParentHyperParameterTuningJobs"]
        ]
        return cls(WarmStartTypes(warm_start_config["WarmStartType"]), parents)

    def to_input_req(self) -> dict[str, Any]:
        """Return the member of the request."""
        parents = [{"HyperParameterTuningJobName": parent} for parent in sorted(self.parents)]
        return {"WarmStartType": self.type.value, "ParentHyperParameterTuningJobs": parents}


@dataclass
class HyperbandStrategyConfig:
    """Hyperband's limits, in values of the objective that a training job emits, such as epochs."""

    max_resource: int
    min_resource: int

    def to_input_req(self) -> dict[str, int]:
        """Return the member of the request."""
        return {"MinResource": self.min_resource, "MaxResource": self.max_resource}


@dataclass
class StrategyConfig:
    """The configuration of a strategy; only Hyperband has any."""

    hyperband_strategy_config: HyperbandStrategyConfig

    def to_input_req(self) -> dict[str, Any]:
        """Return the member of the request."""
        return {"HyperbandStrategyConfig": self.hyperband_strategy_config.to_input_req()}


@dataclass
class TuningJobCompletionCriteriaConfig:
    """What ends a tuning job before its last training job.

    Attributes:
        max_number_of_training_jobs_not_improving: so many in a row, at least 3.
        complete_on_convergence: not emulated.
        target_objective_metric_value: a training job is as good.
    """

    max_number_of_training_jobs_not_improving: int | None = None
    complete_on_convergence: bool | None = None
    target_objective_metric_value: float | None = None

    def to_input_req(self) -> dict[str, Any]:
        """Return the member of the request."""
        request: dict[str, Any] = {}
        if self.max_number_of_training_jobs_not_improving is not None:
            count = self.max_number_of_training_jobs_not_improving
            request["BestObjectiveNotImproving"] = {"MaxNumberOfTrainingJobsNotImproving": count}
        if self.target_objective_metric_value is not None:
            request["TargetObjectiveMetricValue"] = self.target_objective_metric_value
        if self.complete_on_convergence is not None:
            converged = "Enabled" if self.complete_on_convergence else "Disabled"
            request["ConvergenceDetected"] = {"CompleteOnConvergence": converged}
        return request


@dataclass(frozen=True)
class _Part:
    """An estimator of a tuner, with what is tuned of it.

    Attributes:
        metric_definitions: None for the estimator's.
    """

    estimator: Estimator
    objective_metric_name: str
    ranges: Mapping[str, ParameterRange]
    metric_definitions: Sequence[Mapping[str, str]] | None = None

    def range_members(self) -> dict[str, list[dict[str, Any]]]:
        """Return the ranges as the request has them, by their kind."""
        members: dict[str, list[dict[str, Any]]] = {member: [] for member in _RANGE_LISTS.values()}
        is_script = self.estimator.entry_point is not None
        for name, entry in self.ranges.items():
            if is_script and isinstance(entry, CategoricalParameter):
                member = entry.as_json_range(name)
            else:
                member = entry.as_tuning_range(name)
            members[_RANGE_LISTS[entry.kind]].append(member)
        return members


@dataclass(frozen=True)
class _Submission:
    """What is submitted: the document, the members of each source archive to upload, and a runtime given whole.

    Attributes:
        uploads: for AWS, a training job of each estimator, with the files that it would upload.
    """

    request: dict[str, Any]
    members: list[list[tuple[str, Path]] | None]
    runtime: Runtime | None
    uploads: list[AwsSubmission]

    @property
    def names(self) -> list[list[str] | None]:
        """The names in each archive."""
        return [None if members is None else [name for name, _ in members] for members in self.members]


class HyperparameterTuner:
    """Finds good hyperparameters of an estimator's training jobs, with the arguments that the SDK has.

    Args:
        estimator: makes the training jobs; its hyperparameters are those that are not tuned.
        objective_metric_name: one of the metric definitions.
        hyperparameter_ranges: by the names of hyperparameters: ``ContinuousParameter``, ``IntegerParameter``,
            ``CategoricalParameter``.
        metric_definitions: default: the estimator's.
        strategy: ``Bayesian`` (needs the extra ``tuning``), ``Random``, ``Grid`` or ``Hyperband``.
        objective_type: ``Maximize`` or ``Minimize``.
        max_jobs: training jobs in all; default: the combinations of ``Grid``, else 1.
        max_parallel_jobs: training jobs at once.
        max_runtime_in_seconds: of the whole tuning job, at least 120.
        tags: of the tuning job and its training jobs, beside the estimator's.
        base_tuning_job_name: the beginning of generated names.
        warm_start_config: earlier tuning jobs whose results count; ``Bayesian`` only.
        strategy_config: Hyperband's limits.
        completion_criteria_config: what ends the tuning job early.
        early_stopping_type: ``Auto`` stops training jobs by the median rule.
        estimator_name: makes it a tuner as ``create`` makes one, of this estimator.
        random_seed: the same one chooses the same values.
    Raises:
        UnsupportedOptionError: an option that is not emulated.
        BadInputError: a value that SageMaker would refuse.
    """

    TUNING_JOB_NAME_MAX_LENGTH = 32

    def __init__(
        self,
        estimator: Estimator,
        objective_metric_name: str,
        hyperparameter_ranges: Mapping[str, ParameterRange],
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        strategy: str = "Bayesian",
        objective_type: str = "Maximize",
        max_jobs: int | None = None,
        max_parallel_jobs: int = 1,
        max_runtime_in_seconds: int | None = None,
        tags: Any = None,
        base_tuning_job_name: str | None = None,
        warm_start_config: WarmStartConfig | None = None,
        strategy_config: StrategyConfig | None = None,
        completion_criteria_config: TuningJobCompletionCriteriaConfig | None = None,
        early_stopping_type: str = "Off",
        estimator_name: str | None = None,
        random_seed: int | None = None,
        autotune: bool = False,
        hyperparameters_to_keep_static: Sequence[str] | None = None,
    ) -> None:
        if autotune or hyperparameters_to_keep_static is not None:
            raise UnsupportedOptionError("HyperparameterTuner(autotune=True) is not emulated.", _NO_AUTOTUNE)
        part = _checked_part(_Part(estimator, objective_metric_name, hyperparameter_ranges, metric_definitions))
        self.estimator: Estimator | None = None
        self.objective_metric_name: str | None = None
        self._hyperparameter_ranges: dict[str, ParameterRange] | None = None
        self.metric_definitions: list[dict[str, str]] | None = None
        self.estimator_dict: dict[str, Estimator] | None = None
        self.objective_metric_name_dict: dict[str, str] = {}
        self._hyperparameter_ranges_dict: dict[str, dict[str, ParameterRange]] = {}
        self.metric_definitions_dict: dict[str, list[dict[str, str]]] = {}
        if estimator_name is not None:
            self._add_estimator(estimator_name, estimator, objective_metric_name, part.ranges, metric_definitions)
        else:
            self.estimator = estimator
            self.objective_metric_name = objective_metric_name
            self._hyperparameter_ranges = dict(part.ranges)
            if metric_definitions is not None:
                self.metric_definitions = [dict(entry) for entry in metric_definitions]
        self.strategy = strategy
        self.objective_type = objective_type
        self.max_jobs = 1 if max_jobs is None and strategy != "Grid" else max_jobs
        self.max_parallel_jobs = max_parallel_jobs
        self.max_runtime_in_seconds = max_runtime_in_seconds
        self.tags = tags
        self.base_tuning_job_name = base_tuning_job_name
        self.warm_start_config = warm_start_config
        self.strategy_config = strategy_config
        self.completion_criteria_config = completion_criteria_config
        self.early_stopping_type = early_stopping_type
        self.random_seed = random_seed
        self.latest_tuning_job: TuningJob | None = None
        self._current_job_name: str | None = None

    def fit(
        self,
        inputs: Inputs | Mapping[str, Inputs] = None,
        job_name: str | None = None,
        include_cls_metadata: bool | Mapping[str, bool] = False,
        estimator_kwargs: Mapping[str, Any] | None = None,
        wait: bool = True,
        **kwargs: Any,
    ) -> None:
        """Tune: submit a tuning job and, unless told otherwise, follow it to its end.

        Args:
            inputs: of every training job, as ``Estimator.fit`` takes them; with several estimators a dictionary with
                those of each, by its name.
            job_name: up to 32 characters; default: ``base_tuning_job_name`` and the time.
            include_cls_metadata: taken and not needed: ``attach`` knows the estimator.
            estimator_kwargs: not emulated.
            wait: False returns at once; another process drives it.
        Raises:
            JobFailedError: it failed: no training job has a result.
            BadInputError: it cannot be run as asked; nothing was started.
        """
        if estimator_kwargs or kwargs:
            raise UnsupportedOptionError(
                f"fit({', '.join(['estimator_kwargs', *kwargs] if estimator_kwargs else kwargs)}) is not emulated.",
                "Leave it out; options of the training jobs belong to the estimator.",
            )
        if not wait and any(isinstance(part.estimator._runtime, Runtime) for part in self._parts.values()):
            raise BadInputError("wait=False needs a runtime by name.", 'Use runtime="docker" or "process".')
        job = self.submit(inputs, job_name)
        say(job.announcement)
        if wait:
            job.wait()
        else:
            job.detach()

    def request(self, inputs: Inputs | Mapping[str, Inputs] = None, job_name: str | None = None) -> dict[str, Any]:
        """Return the CreateHyperParameterTuningJob document that ``fit`` would submit. The launcher's own.

        Raises:
            BadInputError: it cannot be run as asked.
        """
        return self._submission(inputs, job_name).request

    def plan(self, inputs: Inputs | Mapping[str, Inputs] = None, job_name: str | None = None) -> TuningPlan:
        """Return what ``fit`` would run; print it. Nothing is written. The launcher's own."""
        self.sagemaker_session._refuse_aws("HyperparameterTuner.plan")
        asked = self._submission(inputs, job_name)
        return plan_tuning(asked.request, home_path(), asked.runtime, source_members=asked.names)

    def submit(self, inputs: Inputs | Mapping[str, Inputs] = None, job_name: str | None = None) -> TuningJob:
        """Upload the source as it is now and record a tuning job, without running it. The launcher's own.

        On AWS it runs from then on.

        Raises:
            BadInputError: it cannot be run as asked; nothing was uploaded or recorded.
        """
        store, session = TuningStore(home_path()), self.sagemaker_session
        asked = self._submission(inputs, job_name)
        if session.mode == AWS_MODE:
            for submission in asked.uploads:
                submission.upload(session.wire)
            session._documents.send(OPERATION, asked.request)
            self._current_job_name = str(asked.request["HyperParameterTuningJobName"])
            self.latest_tuning_job = RemoteTuningJob(self._current_job_name, session.wire)
            return self.latest_tuning_job
        plan = plan_tuning(asked.request, store.home, asked.runtime, source_members=asked.names)
        with store.claim(plan.spec.job_name) as claim:
            for members, sample in zip(asked.members, plan.samples, strict=True):
                if members is not None:
                    put_source(members, sample, claim.folder)
            record_tuning(plan, asked.request, claim)
        self.latest_tuning_job = TuningJob(plan.spec.job_name, store, asked.runtime)
        self._current_job_name = plan.spec.job_name
        return self.latest_tuning_job

    def wait(self) -> None:
        """Follow the latest tuning job to its end.

        Raises:
            JobFailedError: it failed.
        """
        self._latest.wait()

    def stop_tuning_job(self) -> None:
        """Ask the latest tuning job and its training jobs to stop, and do not wait for that."""
        self._latest.stop(wait=False)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeHyperParameterTuningJob returns for the latest tuning job."""
        return self._latest.describe()

    def best_training_job(self) -> str:
        """Return the name of the training job with the best objective.

        Raises:
            BadInputError: none has a result yet.
        """
        best = self._latest.best_training_job
        if best is None:
            raise BadInputError(
                f"Best training job not available for tuning job: {self._latest.name}",
                "Wait for a training job that emits the objective; see: launcher describe NAME --kind tuning",
            )
        return best.name

    def best_estimator(self, best_training_job: Mapping[str, Any] | None = None) -> Estimator:
        """Return an estimator for the best training job, ready to ``deploy`` or ``transformer``.

        Args:
            best_training_job: a description or a summary with TrainingJobName; default: the best one.
        """
        if best_training_job is None:
            self.best_training_job()  # there is one
            best_training_job = self.describe()["BestTrainingJob"]
        definition, parts = best_training_job.get("TrainingJobDefinitionName", ""), self._parts
        part = parts.get(definition)
        if part is None:
            raise BadInputError(
                f"best_estimator: TrainingJobDefinitionName={definition!r} is no estimator of this tuner.",
                f"Its estimators: {', '.join(filter(None, parts)) or 'one without a name'}.",
            )
        session = self.sagemaker_session if self.sagemaker_session.mode == AWS_MODE else None
        return type(part.estimator).attach(best_training_job["TrainingJobName"], session)

    def deploy(self, initial_instance_count: int, instance_type: str, *args: Any, **kwargs: Any) -> Any:
        """Deploy the best training job's model; arguments as ``Estimator.deploy`` has them."""
        return self.best_estimator().deploy(initial_instance_count, instance_type, *args, **kwargs)

    def analytics(self) -> HyperparameterTuningJobAnalytics:
        """Return the latest tuning job's results as a table."""
        return HyperparameterTuningJobAnalytics(self._latest.name, self.sagemaker_session)

    def hyperparameter_ranges(self) -> dict[str, list[dict[str, Any]]] | None:
        """Return the ranges as the request has them, by their kind; None for a tuner that ``create`` made."""
        return None if self.estimator is None else self._parts[""].range_members()

    def hyperparameter_ranges_dict(self) -> dict[str, dict[str, list[dict[str, Any]]]] | None:
        """Return the same by the names of estimators; None for a tuner of a single one without a name."""
        if self.estimator_dict is None:
            return None
        return {name: part.range_members() for name, part in self._parts.items()}

    def identical_dataset_and_algorithm_tuner(self, additional_parents: Iterable[str] | None = None) -> Self:
        """Return a tuner that goes on from the latest tuning job with the same data and algorithm."""
        return self._warm_started(WarmStartTypes.IDENTICAL_DATA_AND_ALGORITHM, additional_parents)

    def transfer_learning_tuner(
        self, additional_parents: Iterable[str] | None = None, estimator: Estimator | None = None
    ) -> Self:
        """Return a tuner that goes on from the latest tuning job with other data or another estimator."""
        return self._warm_started(WarmStartTypes.TRANSFER_LEARNING, additional_parents, estimator)

    @classmethod
    def attach(
        cls,
        tuning_job_name: str,
        sagemaker_session: object | None = None,
        job_details: object | None = None,
        estimator_cls: type[Estimator] | Mapping[str, type[Estimator]] | None = None,
    ) -> Self:
        """Return a tuner for an existing tuning job, whichever process began it.

        Args:
            tuning_job_name: its name.
            sagemaker_session: a ``launcher.Session``, for the estimator.
            job_details: not emulated.
            estimator_cls: default: ``Estimator``; with several estimators a dictionary, by their names.
        Raises:
            TuningJobNotFoundError: there is no such tuning job.
        """
        if job_details is not None:
            raise UnsupportedOptionError(
                "attach(job_details=...) is not emulated.", "Leave it out: the record is read."
            )
        session = check_session(sagemaker_session, "attach")
        job = tuning_job(tuning_job_name, session)
        request, spec = job.request, job.spec
        runtime = None if session is not None and session.mode == AWS_MODE else spec.runtime
        config = request["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        hyperband = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
        parts = {}
        for definition in spec.definitions:
            own = estimator_cls.get(definition.name) if isinstance(estimator_cls, Mapping) else estimator_cls
            estimator = _estimator_of(definition, own or Estimator, runtime, session)
            asked = next(
                (
                    entry["HyperParameterRanges"]
                    for entry in request.get("TrainingJobDefinitions", ())
                    if entry["DefinitionName"] == definition.name
                ),
                config.get("ParameterRanges", {}),
            )
            ranges = _ranges_of(asked, is_script=estimator.entry_point is not None)
            parts[definition.name] = _Part(estimator, definition.objective.metric, ranges)
        first_name, first = next(iter(parts.items()))
        tuner = cls(
            first.estimator,
            first.objective_metric_name,
            first.ranges,
            strategy=spec.strategy,
            objective_type=spec.definitions[0].objective.kind,
            max_jobs=limits.get("MaxNumberOfTrainingJobs"),
            max_parallel_jobs=limits["MaxParallelTrainingJobs"],
            max_runtime_in_seconds=limits.get("MaxRuntimeInSeconds"),
            warm_start_config=WarmStartConfig.from_job_desc(request.get("WarmStartConfig")),
            strategy_config=StrategyConfig(
                HyperbandStrategyConfig(hyperband.get("MaxResource"), hyperband.get("MinResource"))
            )
            if hyperband
            else None,
            early_stopping_type=config.get("TrainingJobEarlyStoppingType", "Off"),
            random_seed=config.get("RandomSeed"),
            estimator_name=first_name or None,
        )
        for name, part in list(parts.items())[1:]:
            tuner._add_estimator(name, part.estimator, part.objective_metric_name, part.ranges)
        tuner.latest_tuning_job, tuner._current_job_name = job, tuning_job_name
        return tuner

    @classmethod
    def create(
        cls,
        estimator_dict: Mapping[str, Estimator],
        objective_metric_name_dict: Mapping[str, str],
        hyperparameter_ranges_dict: Mapping[str, Mapping[str, ParameterRange]],
        metric_definitions_dict: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
        base_tuning_job_name: str | None = None,
        strategy: str = "Bayesian",
        strategy_config: StrategyConfig | None = None,
        completion_criteria_config: TuningJobCompletionCriteriaConfig | None = None,
        objective_type: str = "Maximize",
        max_jobs: int | None = None,
        max_parallel_jobs: int = 1,
        max_runtime_in_seconds: int | None = None,
        tags: Any = None,
        warm_start_config: WarmStartConfig | None = None,
        early_stopping_type: str = "Off",
        random_seed: int | None = None,
        autotune: bool = False,
        hyperparameters_to_keep_static_dict: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """Return a tuner of several estimators, which tunes each in turn and compares the results of all.

        Args:
            estimator_dict: estimators by names of yours, which become ``DefinitionName``.
            objective_metric_name_dict: the objective of each, one of its metric definitions.
            hyperparameter_ranges_dict: the ranges of each.
            metric_definitions_dict: of some of them; default: the estimator's.
        Raises:
            UnsupportedOptionError: an option that is not emulated.
            BadInputError: a dictionary has other names, or a value that SageMaker would refuse.
        """
        if hyperparameters_to_keep_static_dict is not None:
            raise UnsupportedOptionError(
                "HyperparameterTuner.create(hyperparameters_to_keep_static_dict=...) is not emulated.", _NO_AUTOTUNE
            )
        if not estimator_dict:
            raise BadInputError("At least one estimator should be provided", "Give estimator_dict={'NAME': estimator}.")
        names = sorted(estimator_dict)
        _check_names("objective_metric_name_dict", objective_metric_name_dict, names, all_of_them=True)
        _check_names("hyperparameter_ranges_dict", hyperparameter_ranges_dict, names, all_of_them=True)
        _check_names("metric_definitions_dict", metric_definitions_dict, names)
        definitions = metric_definitions_dict or {}
        tuner = cls(
            estimator_dict[names[0]],
            objective_metric_name_dict[names[0]],
            hyperparameter_ranges_dict[names[0]],
            definitions.get(names[0]),
            strategy=strategy,
            objective_type=objective_type,
            max_jobs=max_jobs,
            max_parallel_jobs=max_parallel_jobs,
            max_runtime_in_seconds=max_runtime_in_seconds,
            tags=tags,
            base_tuning_job_name=base_tuning_job_name,
            warm_start_config=warm_start_config,
            strategy_config=strategy_config,
            completion_criteria_config=completion_criteria_config,
            early_stopping_type=early_stopping_type,
            estimator_name=names[0],
            random_seed=random_seed,
            autotune=autotune,
        )
        for name in names[1:]:
            tuner._add_estimator(
                name,
                estimator_dict[name],
                objective_metric_name_dict[name],
                hyperparameter_ranges_dict[name],
                definitions.get(name),
            )
        return tuner

    def _add_estimator(
        self,
        estimator_name: str,
        estimator: Estimator,
        objective_metric_name: str,
        hyperparameter_ranges: Mapping[str, ParameterRange],
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """Tune another estimator as well; the SDK has this name."""
        part = _checked_part(_Part(estimator, objective_metric_name, hyperparameter_ranges, metric_definitions))
        self.estimator_dict = {**(self.estimator_dict or {}), estimator_name: estimator}
        self.objective_metric_name_dict[estimator_name] = objective_metric_name
        self._hyperparameter_ranges_dict[estimator_name] = dict(part.ranges)
        if metric_definitions is not None:
            self.metric_definitions_dict[estimator_name] = [dict(entry) for entry in metric_definitions]

    def override_resource_config(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse other machines for the training jobs.

        Raises:
            UnsupportedNameError: always.
        """
        raise UnsupportedNameError(
            "HyperparameterTuner.override_resource_config is not emulated.",
            "Leave it out: there is one machine to choose from.",
        )

    @property
    def sagemaker_session(self) -> Session:
        """The estimator's session; of several estimators the first one's.

        Raises:
            BadInputError: an estimator has none of ours; UnsupportedOptionError: some run on AWS, and some here.
        """
        sessions = [part.estimator.sagemaker_session for part in self._parts.values()]
        for session in sessions:
            check_session(session, "HyperparameterTuner")
        if len({session.mode == AWS_MODE for session in sessions}) > 1:
            raise UnsupportedOptionError(
                "HyperparameterTuner: some of the estimators run on AWS, and some here.",
                "Give all of them one session.",
            )
        return sessions[0]

    @property
    def _parts(self) -> dict[str, _Part]:
        """The estimators with what is tuned of them, by name, in order; the name of a lone one is empty."""
        if self.estimator is not None:
            metric, ranges = self.objective_metric_name or "", self._hyperparameter_ranges or {}
            return {"": _Part(self.estimator, metric, ranges, self.metric_definitions)}
        return {
            name: _Part(
                estimator,
                self.objective_metric_name_dict[name],
                self._hyperparameter_ranges_dict[name],
                self.metric_definitions_dict.get(name),
            )
            for name, estimator in sorted((self.estimator_dict or {}).items())
        }

    @property
    def _latest(self) -> TuningJob:
        if self.latest_tuning_job is None:
            raise BadInputError("No tuning job available", "Call fit() first, or attach().")
        return self.latest_tuning_job

    def _warm_started(
        self, kind: WarmStartTypes, parents: Iterable[str] | None, estimator: Estimator | None = None
    ) -> Self:
        if len(self._parts) > 1:
            raise UnsupportedOptionError(
                "Warm start is not supported currently for tuners with multiple estimators",
                "Give warm_start_config to a tuner of one estimator.",
            )
        tuner = copy.copy(self)
        if self.estimator is not None:
            tuner.estimator = estimator or self.estimator
        else:
            tuner.estimator_dict = {name: estimator or part.estimator for name, part in self._parts.items()}
        tuner.warm_start_config = WarmStartConfig(kind, {self._latest.name, *(parents or ())})
        tuner.latest_tuning_job, tuner._current_job_name = None, None
        return tuner

    def _submission(self, inputs: Inputs | Mapping[str, Inputs], job_name: str | None) -> _Submission:
        """Turn everything that is set now into a checked request; reads files, changes nothing."""
        name = self._new_name() if job_name is None else job_name
        parts, definitions, owns, archives = self._parts, [], [], []
        on_aws, uploads = self.sagemaker_session.mode == AWS_MODE, []
        tags = tag_members(self.tags) if self.tags else []
        by_name: Mapping[str, Any] = {"": inputs}
        if self.estimator is None:
            _check_names("inputs", inputs, list(parts))
            by_name = cast("Mapping[str, Any]", inputs or {})
        for number, (part_name, part) in enumerate(parts.items(), 1):
            # Their sources have a place each; a tuning job of a lone estimator has its source at its own name.
            place = name if not part_name else f"{name}-{number}"
            folder = TuningStore(home_path()).path
            estimator = _sampled(part)
            if on_aws:
                uploads.append(aws_submission_of(estimator, by_name.get(part_name), place))
                training: Mapping[str, Any] = uploads[-1].request
            else:
                training, members = _training(
                    estimator, by_name.get(part_name), place, folder if not part_name else folder / name
                )
                archives.append(members)
            owns.append(training.get(OWN_MEMBER, {}))
            tags += [tag for tag in training.get("Tags", ()) if tag not in tags]
            definition = _definition(part, training)
            if part_name:
                definition |= {
                    "DefinitionName": part_name,
                    "TuningObjective": {"Type": self.objective_type, "MetricName": part.objective_metric_name},
                    "HyperParameterRanges": _present(part.range_members()),
                }
            definitions.append(definition)
        config: dict[str, Any] = {
            "Strategy": self.strategy,
            "ResourceLimits": {
                "MaxParallelTrainingJobs": self.max_parallel_jobs,
                **({} if self.max_jobs is None else {"MaxNumberOfTrainingJobs": self.max_jobs}),
                **({} if self.max_runtime_in_seconds is None else {"MaxRuntimeInSeconds": self.max_runtime_in_seconds}),
            },
            "TrainingJobEarlyStoppingType": self.early_stopping_type,
        }
        if "" in parts:
            config["HyperParameterTuningJobObjective"] = {
                "Type": self.objective_type,
                "MetricName": self.objective_metric_name,
            }
            config["ParameterRanges"] = _present(parts[""].range_members())
        if self.strategy_config is not None:
            config["StrategyConfig"] = self.strategy_config.to_input_req()
        if self.completion_criteria_config is not None:
            config["TuningJobCompletionCriteria"] = self.completion_criteria_config.to_input_req()
        if self.random_seed is not None:
            config["RandomSeed"] = self.random_seed
        request: dict[str, Any] = {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": config,
            **({"TrainingJobDefinition": definitions[0]} if "" in parts else {"TrainingJobDefinitions": definitions}),
            OWN_MEMBER: _common(owns),
        }
        if tags:
            request["Tags"] = tags
        if self.warm_start_config is not None:
            request["WarmStartConfig"] = self.warm_start_config.to_input_req()
        if on_aws:
            request = dict(self.sagemaker_session._documents.prepared(OPERATION, request).request)
        else:
            check_tuning_request(request)
        runtime = next(iter(parts.values())).estimator._runtime
        return _Submission(request, archives, runtime if isinstance(runtime, Runtime) else None, uploads)

    def _new_name(self) -> str:
        base = self.base_tuning_job_name or next(iter(self._parts.values())).estimator._base_name()
        longest = shape(member_shape(OPERATION, "HyperParameterTuningJobName"))["max"]
        now = time.time()
        stamp = time.strftime("%y%m%d-%H%M%S-", time.gmtime(now)) + f"{int(now * 1000) % 1000:03d}"
        cleaned = re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", base)).strip("-") or "tuning"
        return f"{cleaned[: longest - len(stamp) - 1].strip('-')}-{stamp}"


def _ranges_of(members: Mapping[str, Any], *, is_script: bool) -> dict[str, ParameterRange]:
    """Return the ranges that a request was made of."""
    ranges: dict[str, ParameterRange] = {}
    for listed in members.get("IntegerParameterRanges", ()), members.get("ContinuousParameterRanges", ()):
        for entry in listed:
            low, high = (
                float(text) if set(text) & set(".eE") else int(text) for text in (entry["MinValue"], entry["MaxValue"])
            )
            kind = IntegerParameter if listed is members.get("IntegerParameterRanges") else ContinuousParameter
            ranges[entry["Name"]] = kind(low, high, entry.get("ScalingType", "Auto"))
    for entry in members.get("CategoricalParameterRanges", ()):
        values = [decoded(text) if is_script else text for text in entry["Values"]]
        ranges[entry["Name"]] = CategoricalParameter(values)
    return ranges


def _checked_part(part: _Part) -> _Part:
    """Return an estimator with what is tuned of it.

    Raises:
        BadInputError: it is none.
        HyperparameterError: nothing is tuned, or no range says how.
    """
    if not isinstance(part.estimator, Estimator):
        raise BadInputError(
            f"HyperparameterTuner(estimator=...) got a {type(part.estimator).__name__}.", "Give a launcher.Estimator."
        )
    if not isinstance(part.ranges, Mapping) or not part.ranges:
        raise HyperparameterError(
            "Need to specify hyperparameter ranges or set autotune=True.",
            "For example: hyperparameter_ranges={'lr': ContinuousParameter(1e-5, 1e-2)}",
        )
    for name, entry in part.ranges.items():
        if not isinstance(entry, ParameterRange) or not entry.kind:
            raise HyperparameterError(
                f"the range of '{name}' is a {type(entry).__name__}.",
                "Use ContinuousParameter, IntegerParameter or CategoricalParameter.",
            )
    return part


def _check_names(argument: str, value: object, names: list[str], *, all_of_them: bool = False) -> None:
    """Refuse a dictionary that is none, or has other keys than the names of estimators, in the SDK's words.

    Raises:
        BadInputError: it is so.
    """
    if value is None and not all_of_them:
        return
    shown = f"The estimators are {', '.join(names)}."
    if not isinstance(value, Mapping):
        raise BadInputError(f"Argument '{argument}' must be a dictionary using {names} as keys", shown)
    if all_of_them and sorted(value) != names:
        raise BadInputError(f"The keys of argument '{argument}' must be the same as {names}", shown)
    if not set(value) <= set(names):
        raise BadInputError(f"The keys of argument '{argument}' must be a subset of {names}", shown)


def _sampled(part: _Part) -> Estimator:
    """Return the estimator of some training job.

    Raises:
        UnsupportedOptionError: it has options that no tuning job has.
    """
    estimator = copy.copy(part.estimator)
    if part.metric_definitions is not None:
        estimator.metric_definitions = list(part.metric_definitions)
    samples = {name: entry.sample for name, entry in part.ranges.items()}
    estimator._hyperparameters = {**estimator._hyperparameters, **samples}
    if estimator.container_entry_point or estimator.container_arguments:
        raise UnsupportedOptionError(
            "HyperparameterTuner: CreateHyperParameterTuningJob has no member for the estimator's "
            "container_entry_point and container_arguments.",
            "Build them into the image, or use an entry_point.",
        )
    return estimator


def _training(
    estimator: Estimator, inputs: Inputs, job_name: str, folder: Path
) -> tuple[dict[str, Any], list[tuple[str, Path]] | None]:
    """Return the request of some training job of an estimator, and the members of its source archive.

    Args:
        estimator: a copy.
        folder: where the source goes that has no other place.
    """
    given_place = estimator.code_location
    if given_place is None and not estimator._output_path and not estimator._session_given:
        # The source belongs to the tuning job, not to a training job of its name.
        estimator.code_location = str(folder)
    submission = submission_of(estimator, inputs, job_name)
    if given_place is None:
        submission.request[OWN_MEMBER].get("Estimator", {}).pop("CodeLocation", None)
    return submission.request, submission.members


def _definition(part: _Part, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the training jobs of an estimator are made of."""
    definition = {member: value for member, value in training.items() if member in _DEFINITION_MEMBERS}
    definition["AlgorithmSpecification"] = training["AlgorithmSpecification"]
    definition["StaticHyperParameters"] = {
        name: text for name, text in training.get("HyperParameters", {}).items() if name not in part.ranges
    }
    definition["StaticHyperParameters"].pop("sagemaker_job_name", None)  # each training job has its own
    return definition


def _common(owns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return our own member of a request for several estimators.

    Raises:
        UnsupportedOptionError: they run in different places.
    """
    first = owns[0]
    for name, option in (("Runtime", "runtime"), ("S3", "session"), ("SpotInterruptions", "spot_interruptions")):
        if any(own.get(name) != first.get(name) for own in owns):
            raise UnsupportedOptionError(
                f"HyperparameterTuner: the estimators have another {option} each.", "Give all of them the same."
            )
    return {name: value for name, value in first.items() if all(own.get(name) == value for own in owns)}


def _present(members: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {name: listed for name, listed in members.items() if listed}


def _estimator_of(
    definition: TuningDefinition, estimator_cls: type[Estimator], runtime: str | None, session: Session | None
) -> Estimator:
    """Return an estimator whose training jobs are those of a definition."""
    template = training_request(check_training_request({**definition.request, "TrainingJobName": _SAMPLE}))
    options = estimator_cls._options_of(template)
    options["hyperparameters"].pop(OBJECTIVE_HYPERPARAMETER, None)
    return estimator_cls(**options | {"runtime": runtime, "sagemaker_session": session or session_of(template)})


__all__ = [
    "HyperbandStrategyConfig",
    "HyperparameterTuner",
    "StrategyConfig",
    "TuningJobCompletionCriteriaConfig",
    "WarmStartConfig",
    "WarmStartTypes",
]
