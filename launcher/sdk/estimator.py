"""``Estimator``: the SageMaker Python SDK's training API (its version 2), as a translator to CreateTrainingJob."""

from __future__ import annotations

import copy
import inspect
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from launcher.errors import BadInputError, HyperparameterError, JobExistsError, SourceError, UnsupportedOptionError
from launcher.jobs.instance_types import instance_type
from launcher.jobs.spec import TrainingJobSpec, hyperparameter_text
from launcher.jobs.store import JobStore
from launcher.requests.distribution import HYPERPARAMETERS as DISTRIBUTION_HYPERPARAMETERS
from launcher.requests.distribution import distribution_hyperparameters, distribution_of
from launcher.requests.names import check_job_name, make_job_name
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import (
    check_metric_definition,
    checkpoint_config,
    completed,
    s3_member,
    training_request,
)
from launcher.running.accepting import AcceptedJob, accept, plan_job, record_job
from launcher.running.plan import RunPlan
from launcher.running.source import Source, check_source, list_members
from launcher.runtimes import Runtime
from launcher.sdk.analytics import TrainingJobAnalytics
from launcher.sdk.inputs import Inputs, hyperparameter_texts, make_channels, without_numpy, writable_channels
from launcher.sdk.instance_group import InstanceGroup, group_request
from launcher.sdk.model import Model
from launcher.sdk.options import (
    ESTIMATOR_OPTIONS,
    FIT_OPTIONS,
    check_options,
    in_sdk_words,
    refuse_unknown,
    said_in_sdk_words,
)
from launcher.sdk.preflight import check_libraries, check_preset
from launcher.sdk.roles import role_arn
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob, logs_wanted
from launcher.sdk.transformer import Transformer
from launcher.sdk.uploading import upload_source
from launcher.settings import AWS_MODE, REGION, default_runtime, home_path
from launcher.storage import to_uri
from launcher.storage.s3_uris import split_s3_uri
from launcher.terminal import say

if TYPE_CHECKING:
    from launcher.sdk.aws_training import AwsSubmission

# The estimator sets them for each job; attach() does not return them as the user's.
_PLATFORM_HYPERPARAMETERS = DISTRIBUTION_HYPERPARAMETERS | {
    f"sagemaker_{name}"
    for name in ("submit_directory", "program", "container_log_level", "job_name", "region", "s3_output", "estimator")
}
# Options whose attribute has another name: the SDK has methods of theirs.
_ATTRIBUTES = {
    "hyperparameters": "_hyperparameters",
    "enable_network_isolation": "_enable_network_isolation",
    "output_path": "_output_path",
    "runtime": "_runtime",
}

# What deploy() of a model takes and that of an estimator hands on.
_DEPLOY_OPTIONS = frozenset({
    *("accept_eula", "endpoint_logging", "update_endpoint", "resources", "managed_instance_scaling", "routing_config"),
    *("inference_component_name", "inference_ami_version", "model_reference_arn", "endpoint_type"),
})  # fmt: skip

# Methods that are easily taken for attributes, with what to do instead of assigning to them.
_METHODS = {
    "hyperparameters": "Change hyperparameters with set_hyperparameters(name=value).",
    "enable_network_isolation": "Give enable_network_isolation=True when the estimator is made.",
}


class Estimator:
    """Trains in a container or a local process as SageMaker would, with the arguments that its SDK has.

    Args:
        image_uri: an image that follows the training contract; default: the bundled one.
        role: shown by describe; no permission is checked here.
        instance_count: how many hosts; each is a container or a process of this machine.
        instance_type: ``local``, or a SageMaker type; the job gets what such a machine has, or this one.
        max_run: seconds after which the job is stopped.
        output_path: a path, a ``file://`` or ``s3://`` URI; results go to ``<output_path>/<job>/output/``. Default:
            the session's bucket; in local mode without a session, the job's own folder under ``LAUNCHER_HOME``.
        sagemaker_session: a ``launcher.Session``.
        hyperparameters: what JSON can hold, and numpy's scalars.
        metric_definitions: ``[{"Name": ..., "Regex": ...}]``, looked for in each line of the log.
        entry_point: the script, relative to ``source_dir`` or by itself; ``dependencies`` are packed beside it.
        source_dir: a folder, which is packed; or the URI of an uploaded archive.
        model_uri: a model to start from; it becomes the channel ``model_channel_name``.
        checkpoint_s3_uri: a path, a ``file://`` or ``s3://`` URI: its files are copied to ``checkpoint_local_path``
            before the job begins, and what the job writes there is copied back, while it runs and at its end.
        runtime: ``auto`` (Docker if an engine answers, else a process), ``docker``, ``process``, ``slurm``; default:
            ``LAUNCHER_RUNTIME``. This argument is the launcher's own.
        distribution: how the hosts train together, ``{"torch_distributed": {"enabled": True}}``; in the SDK the
            estimators of frameworks have it.
        mode: ``local``, ``s3`` or ``aws``, for an estimator without a session; default: ``LAUNCHER_MODE``, which cannot
            say ``aws``. The launcher's own.
        spot_interruptions: when a spot job is interrupted, an entry for each time: ``after:30s``, ``at-line:REGEX``,
            ``random:0.01`` (in each second, for ever); default: ``LAUNCHER_SPOT_INTERRUPTIONS``. The launcher's own.
        faults: what happens to the hosts on purpose, such as ``kill:algo-2@30s``; default: ``LAUNCHER_FAULTS``. The
            launcher's own.
    Raises:
        UnsupportedOptionError: an option that is not emulated: no option is ignored.
        BadInputError: a value that SageMaker would refuse.

    The other arguments are the SDK's; ``docs/options.md`` lists what each does here. Attributes may be set after
    construction, as in the SDK; they are checked again when a job is submitted.
    """

    # Options that are kept as they were given.
    keep_alive_period_in_seconds: int | None
    volume_size: int
    volume_kms_key: str | None
    output_kms_key: str | None
    subnets: Sequence[str] | None
    security_group_ids: Sequence[str] | None
    encrypt_inter_container_traffic: bool | None
    training_repository_access_mode: str | None
    training_repository_credentials_provider_arn: str | None
    training_plan: str | None
    instance_placement_config: Mapping[str, Any] | None

    def __init__(
        self,
        image_uri: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        keep_alive_period_in_seconds: int | None = None,
        volume_size: int = 30,
        volume_kms_key: str | None = None,
        max_run: int = 86400,
        input_mode: str = "File",
        output_path: str | None = None,
        output_kms_key: str | None = None,
        base_job_name: str | None = None,
        sagemaker_session: object | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        subnets: Sequence[str] | None = None,
        security_group_ids: Sequence[str] | None = None,
        model_uri: str | None = None,
        model_channel_name: str = "model",
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        encrypt_inter_container_traffic: bool | None = None,
        use_spot_instances: bool = False,
        max_wait: int | None = None,
        checkpoint_s3_uri: str | None = None,
        checkpoint_local_path: str | None = None,
        enable_network_isolation: bool | None = None,
        rules: Sequence[object] | None = None,
        debugger_hook_config: object | None = None,
        tensorboard_output_config: object | None = None,
        enable_sagemaker_metrics: bool | None = None,
        profiler_config: object | None = None,
        disable_profiler: bool = False,
        environment: Mapping[str, str] | None = None,
        max_retry_attempts: int | None = None,
        source_dir: str | None = None,
        git_config: Mapping[str, str] | None = None,
        container_log_level: int = 20,
        code_location: str | None = None,
        entry_point: str | None = None,
        dependencies: Sequence[str] | None = None,
        instance_groups: Sequence[object] | None = None,
        training_repository_access_mode: str | None = None,
        training_repository_credentials_provider_arn: str | None = None,
        container_entry_point: Sequence[str] | None = None,
        container_arguments: Sequence[str] | None = None,
        disable_output_compression: bool = False,
        enable_infra_check: bool | None = None,
        enable_remote_debug: bool | None = None,
        enable_session_tag_chaining: bool | None = None,
        training_plan: str | None = None,
        instance_placement_config: object | None = None,
        *,
        distribution: Mapping[str, Any] | None = None,
        runtime: str | Runtime | None = None,
        mode: str | None = None,
        spot_interruptions: Sequence[str] | None = None,
        faults: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        given = dict(locals())
        owner = type(self).__name__
        refuse_unknown(kwargs, _option_names(type(self)), owner)
        check_options(ESTIMATOR_OPTIONS, given, owner)
        for option in ESTIMATOR_OPTIONS:
            if option.accepted is not None or option.noted:
                setattr(self, option.name, given[option.name])
        self.image_uri = image_uri
        self.role = role
        self.instance_groups: list[Any] | None = None if instance_groups is None else list(instance_groups)
        if self.instance_groups and (instance_count is not None or instance_type is not None):
            raise BadInputError(
                f"{owner}(instance_groups=...) and instance_count or instance_type are both given.",
                "Give either the groups, or one type and a count.",
            )
        self.instance_count = 1 if instance_count is None else instance_count
        self.instance_type = "local" if instance_type is None else instance_type
        self.max_run = max_run
        self.use_spot_instances = use_spot_instances
        self.max_wait = max_wait
        self.faults = faults
        self.spot_interruptions = None if spot_interruptions is None else list(spot_interruptions)
        self.max_retry_attempts = max_retry_attempts
        self.enable_sagemaker_metrics = enable_sagemaker_metrics
        self.input_mode = input_mode
        self.base_job_name = base_job_name
        self.tags = None if tags is None else list(tags)
        self.model_uri = _text(model_uri)
        self.model_channel_name = model_channel_name
        self.metric_definitions = list(metric_definitions or [])
        self.environment = dict(environment or {})
        self.source_dir = _text(source_dir)
        self.entry_point = _text(entry_point)
        self.dependencies = [os.fspath(path) for path in dependencies or ()]
        self.code_location = _text(code_location)
        self.checkpoint_s3_uri = _text(checkpoint_s3_uri)
        self.checkpoint_local_path = checkpoint_local_path
        self.container_log_level = container_log_level
        self.container_entry_point = container_entry_point
        self.container_arguments = container_arguments
        self.disable_profiler = disable_profiler
        self.distribution: dict[str, Any] = dict(distribution or {})
        self._session_given = check_session(sagemaker_session, owner) is not None
        self.sagemaker_session = check_session(sagemaker_session, owner) or Session(mode=mode)
        if mode not in (None, self.sagemaker_session.mode):
            raise BadInputError(
                f"{owner}(mode={mode!r}) contradicts its session, whose mode is '{self.sagemaker_session.mode}'.",
                "Give one of the two.",
            )
        self.deploy_instance_type: str | None = None
        self.jobs: list[TrainingJob] = []
        self.latest_training_job: TrainingJob | None = None
        self._current_job_name: str | None = None
        self._enable_network_isolation = enable_network_isolation
        self.keep_alive_period_in_seconds = keep_alive_period_in_seconds
        self._hyperparameters: dict[str, Any] = dict(hyperparameters or {})
        self._output_path = _text(output_path)
        self._runtime = runtime
        self._check()

    def fit(
        self,
        inputs: Inputs = None,
        wait: bool = True,
        logs: str | bool = "All",
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
        *,
        debug: bool = False,
    ) -> None:
        """Train: submit a job and, unless told otherwise, follow it to its end.

        Args:
            inputs: a path (channel ``training``), a ``TrainingInput``, or a dict of channels.
            wait: False returns at once; another process drives the job.
            logs: ``All`` or True prints the job's log as it grows; ``None`` or False does not.
            job_name: default: ``base_job_name`` and the time.
            experiment_config: kept and shown by ``describe``; it means nothing here.
            debug: the program waits for a debugger; ``launcher debug`` says how to connect one.
        Raises:
            JobFailedError: the job failed; the message has reason, exit code and last log lines.
            BadInputError: the job cannot be run as asked; nothing was started.
            KeyboardInterrupt: Ctrl-C; the job has been stopped, and what it had written is kept.
        """
        check_options(FIT_OPTIONS, {"experiment_config": experiment_config}, "fit")
        shown = logs_wanted(logs)
        if not wait and isinstance(self._runtime, Runtime):
            raise BadInputError("wait=False needs a runtime by name.", 'Use runtime="docker" or "process".')
        job = self.submit(inputs, job_name, experiment_config, debug=debug)
        if shown:
            say(job.announcement)
            for warning in job.warnings:
                say(f"warning: {warning}")
        if wait:
            job.wait(logs=logs)
        else:
            job.detach()

    def request(
        self, inputs: Inputs = None, job_name: str | None = None, *, debug: bool = False, mode: str | None = None
    ) -> dict[str, Any]:
        """Return the CreateTrainingJob document that ``fit`` would submit; nothing is written or uploaded.

        Without its member ``Launcher``, which is the launcher's own, boto3's ``create_training_job`` takes it.
        Where the source is a folder, it names the archive that ``fit`` would upload, and for AWS itself the objects
        that folders of inputs would be.

        Args:
            mode: ``aws`` returns what would go to AWS itself, whatever the session's mode; nothing is asked there.
        Raises:
            BadInputError: the job cannot be run as asked.
        """
        if mode not in (None, AWS_MODE, self.sagemaker_session.mode):
            raise BadInputError(f"request(mode={mode!r}) is another mode than the estimator's.", "Use 'aws'.")
        if AWS_MODE in (mode, self.sagemaker_session.mode):
            estimator = self if self.sagemaker_session.mode == AWS_MODE else self._for_aws()
            return dict(estimator._aws_submission(inputs, job_name, debug=debug).request)
        return self._submission(inputs, job_name, debug=debug).request

    def submit(
        self,
        inputs: Inputs = None,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
        *,
        debug: bool = False,
    ) -> TrainingJob:
        """Upload the source as it is now and record a job, without running it; call ``wait`` or ``detach`` on it next.

        Raises:
            BadInputError: the job cannot be run as asked; nothing was uploaded or recorded.
        """
        if self.sagemaker_session.mode == AWS_MODE:
            sending = self._aws_submission(inputs, job_name, experiment_config, debug=debug)
            return self._follow(sending.send(self.sagemaker_session.wire))
        store = JobStore(home_path())
        while True:
            submission = self._submission(inputs, job_name, experiment_config, debug=debug)
            job = submission.job
            plan_job(job, store, source_members=submission.source_members)
            try:
                with store.claim(job.spec.job_name) as claim:
                    if submission.members is not None:
                        upload_source(submission.members, job.spec, claim)
                    record_job(job, claim)
                break
            except JobExistsError:
                if job_name is not None:
                    raise
                time.sleep(0.001)  # another job was named in the same millisecond: the next one is free
        return self._follow(TrainingJob(job.spec.job_name, store, job.runtime))

    def enqueue(
        self,
        queue: str,
        inputs: Inputs = None,
        job_name: str | None = None,
        *,
        priority: int | None = None,
        share: str | None = None,
    ) -> str:
        """Put a job into a queue of AWS Batch, as a service job; return that job's id. The launcher's own.

        Args:
            queue: name or ARN of a queue for ``SAGEMAKER_TRAINING``.
            inputs, job_name: as of ``fit``.
            priority: within the queue, or the share.
            share: of a queue with a scheduling policy.
        Raises:
            UnsupportedOptionError: the session's mode is not ``aws``; here boto3 submits to queues.
            BadInputError: AWS would refuse the job; nothing was uploaded.
        """
        wire = self.sagemaker_session.wire
        return self._aws_submission(inputs, job_name).enqueue(wire, queue, priority=priority, share=share)

    def plan(self, inputs: Inputs = None, job_name: str | None = None, *, debug: bool = False) -> RunPlan:
        """Return everything that ``fit`` would run, read and write; print it, compare it. Nothing is run.

        As in the SDK, the session's bucket is made if results would go to it.

        Raises:
            BadInputError: the job cannot be run as asked.
            UnsupportedOptionError: the session's mode is ``aws``: ``request`` returns all that would go there.
        """
        self.sagemaker_session._refuse_aws("Estimator.plan")
        submission = self._submission(inputs, job_name, debug=debug)
        return plan_job(submission.job, JobStore(home_path()), source_members=submission.source_members)

    def set_hyperparameters(self, **kwargs: Any) -> None:
        """Add hyperparameters, or change them."""
        self._hyperparameters.update(kwargs)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters as they were given."""
        return dict(self._hyperparameters)

    def training_image_uri(self) -> str:
        """Return the image that trains; empty for the bundled one."""
        return self.image_uri or ""

    def enable_network_isolation(self) -> bool:
        """Return whether jobs run without network."""
        return bool(self._enable_network_isolation)

    def logs(self) -> None:
        """Print the log of the latest job, and follow it while the job runs."""
        self._latest.wait(logs="All")

    @classmethod
    def attach(
        cls, training_job_name: str, sagemaker_session: object | None = None, model_channel_name: str = "model"
    ) -> Self:
        """Return an estimator for an existing job, whichever process began it; wait for it if it runs.

        Raises:
            JobNotFoundError: there is no such job.
        """
        session = check_session(sagemaker_session, "attach")
        check_job_name(training_job_name)
        if session is not None and session.mode == AWS_MODE:
            return cls._attach_to_aws(training_job_name, session, model_channel_name)
        store = JobStore(home_path())
        record = store.load(training_job_name)
        request = training_request(record.training_spec)
        estimator = cls(
            **cls._options_of(request),
            model_channel_name=model_channel_name,
            runtime=record.training_spec.runtime,
            sagemaker_session=session or session_of(request),
        )
        job = estimator._follow(TrainingJob(training_job_name, store))
        job.wait()
        return estimator

    @classmethod
    def _attach_to_aws(cls, name: str, session: Session, model_channel_name: str) -> Self:
        job = session._training_job(name)
        request = completed(job.describe())
        estimator = cls(**cls._options_of(request), model_channel_name=model_channel_name, sagemaker_session=session)
        estimator._follow(job).wait()
        return estimator

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that a complete request was made of."""
        algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
        own = request[OWN_MEMBER].get("Estimator", {})
        image_config = algorithm.get("TrainingImageConfig", {})
        texts = request["HyperParameters"]
        checkpoints = request.get("CheckpointConfig", {})
        archive = hyperparameter_text(texts, "sagemaker_submit_directory")
        level = hyperparameter_text(texts, "sagemaker_container_log_level") or "20"
        is_script = "sagemaker_program" in texts
        return {
            "image_uri": algorithm.get("TrainingImage"),
            "role": request["RoleArn"],
            "instance_count": resources.get("InstanceCount"),
            "instance_type": resources.get("InstanceType"),
            "instance_groups": [
                InstanceGroup(group["InstanceGroupName"], group["InstanceType"], group["InstanceCount"])
                for group in resources.get("InstanceGroups", ())
            ]
            or None,
            "input_mode": algorithm["TrainingInputMode"],
            "volume_size": resources["VolumeSizeInGB"],
            "volume_kms_key": resources.get("VolumeKmsKeyId"),
            "keep_alive_period_in_seconds": resources.get("KeepAlivePeriodInSeconds"),
            "training_plan": resources.get("TrainingPlanArn"),
            "instance_placement_config": resources.get("InstancePlacementConfig"),
            "output_kms_key": request["OutputDataConfig"].get("KmsKeyId") or None,
            "subnets": request.get("VpcConfig", {}).get("Subnets"),
            "security_group_ids": request.get("VpcConfig", {}).get("SecurityGroupIds"),
            "encrypt_inter_container_traffic": request["EnableInterContainerTrafficEncryption"] or None,
            "max_retry_attempts": request.get("RetryStrategy", {}).get("MaximumRetryAttempts"),
            "enable_infra_check": request.get("InfraCheckConfig", {}).get("EnableInfraCheck"),
            "enable_remote_debug": request.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
            "enable_session_tag_chaining": request.get("SessionChainingConfig", {}).get("EnableSessionTagChaining"),
            "enable_sagemaker_metrics": algorithm.get("EnableSageMakerMetricsTimeSeries"),
            "training_repository_access_mode": image_config.get("TrainingRepositoryAccessMode"),
            "training_repository_credentials_provider_arn": image_config.get("TrainingRepositoryAuthConfig", {}).get(
                "TrainingRepositoryCredentialsProviderArn"
            ),
            "max_run": request["StoppingCondition"]["MaxRuntimeInSeconds"],
            "use_spot_instances": request["EnableManagedSpotTraining"],
            "max_wait": request["StoppingCondition"].get("MaxWaitTimeInSeconds"),
            "spot_interruptions": request[OWN_MEMBER].get("SpotInterruptions"),
            "faults": request[OWN_MEMBER].get("Faults"),
            "output_path": request["OutputDataConfig"]["S3OutputPath"],
            "base_job_name": own.get("BaseJobName"),
            "hyperparameters": {
                name: decoded(text) if is_script else text
                for name, text in texts.items()
                if name not in _PLATFORM_HYPERPARAMETERS
            },
            "distribution": distribution_of(texts),
            "tags": request["Tags"] or None,
            "metric_definitions": algorithm["MetricDefinitions"],
            "environment": request["Environment"],
            "enable_network_isolation": request["EnableNetworkIsolation"],
            "source_dir": own.get("SourceDir") or (archive if "EntryPoint" not in own else None),
            "entry_point": own.get("EntryPoint") or hyperparameter_text(texts, "sagemaker_program"),
            "dependencies": own.get("Dependencies"),
            "code_location": own.get("CodeLocation"),
            "container_log_level": int(level) if level.isdecimal() else 20,
            "container_entry_point": algorithm.get("ContainerEntrypoint"),
            "container_arguments": algorithm.get("ContainerArguments"),
            "checkpoint_s3_uri": checkpoints.get("S3Uri"),
            "checkpoint_local_path": checkpoints.get("LocalPath"),
        }

    @property
    def output_path(self) -> str:
        """Where results go, as a URI; each job has its own folder in it."""
        if self._output_path:
            return to_uri(self._output_path)
        session = self.sagemaker_session
        if session.mode == AWS_MODE:
            return f"{session.default_output_uri()}/"  # as the SDK writes it
        if self._session_given or session.mode == "s3":
            return session.default_output_uri()
        return to_uri(str(JobStore(home_path()).jobs_path))

    @output_path.setter
    def output_path(self, path: str | os.PathLike[str] | None) -> None:
        check_options(ESTIMATOR_OPTIONS, {"output_path": path}, type(self).__name__)
        self._output_path = _text(path)

    @property
    def model_data(self) -> str:
        """The URI of the latest job's ``model.tar.gz``."""
        return self._latest.model_data

    @property
    def training_job_analytics(self) -> TrainingJobAnalytics:
        """The metrics of the latest job."""
        return TrainingJobAnalytics(self._latest.name, sagemaker_session=self.sagemaker_session)

    def create_model(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Any = None,
        vpc_config_override: Any = None,
        enable_network_isolation: bool | None = None,
        **options: Any,
    ) -> Model:
        """Return the latest job's model, ready to transform data; nothing is recorded before that.

        Args:
            role: default: the estimator's.
            image_uri: what serves it; default: what trained it.
            predictor_cls: what ``deploy`` returns.
            vpc_config_override: not emulated.
            enable_network_isolation: default: the estimator's.
            options: of ``Model``, such as ``entry_point``, ``source_dir``, ``env`` and ``name``.
        Raises:
            BadInputError: there is no job yet.
        """
        if vpc_config_override not in (None, "VPC_CONFIG_DEFAULT"):
            raise UnsupportedOptionError(
                "create_model(vpc_config_override=...) is not emulated.", "Leave it out: the model runs here."
            )
        job = self._latest
        isolated = self._enable_network_isolation if enable_network_isolation is None else enable_network_isolation
        model = Model(
            image_uri or job.image_uri,
            self.model_data,
            role or self.role,
            predictor_cls,
            sagemaker_session=self.sagemaker_session if self._session_given else None,
            enable_network_isolation=bool(isolated),
            runtime=self._runtime,
            mode=self.sagemaker_session.mode,
            **options,
        )
        model._base_name = self._base_name()
        return model

    def transformer(
        self,
        instance_count: int,
        instance_type: str,
        strategy: str | None = None,
        assemble_with: str | None = None,
        output_path: str | os.PathLike[str] | None = None,
        output_kms_key: Any = None,
        accept: str | None = None,
        env: Mapping[str, str] | None = None,
        max_concurrent_transforms: int | None = None,
        max_payload: int | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        role: str | None = None,
        volume_kms_key: Any = None,
        vpc_config_override: Any = None,
        enable_network_isolation: bool | None = None,
        model_name: str | None = None,
    ) -> Transformer:
        """Make the latest job's model, and return what transforms data by it; arguments as the SDK has them."""
        model = self.create_model(
            role=role,
            vpc_config_override=vpc_config_override,
            enable_network_isolation=enable_network_isolation,
            name=model_name,
        )
        return model.transformer(
            instance_count,
            instance_type,
            strategy=strategy,
            assemble_with=assemble_with,
            output_path=output_path,
            output_kms_key=output_kms_key,
            accept=accept,
            env=env,
            max_concurrent_transforms=max_concurrent_transforms,
            max_payload=max_payload,
            tags=tags if tags is not None else self.tags,
            volume_kms_key=volume_kms_key,
        )

    def deploy(
        self,
        initial_instance_count: int | None = None,
        instance_type: str | None = None,
        serializer: Any = None,
        deserializer: Any = None,
        accelerator_type: Any = None,
        endpoint_name: str | None = None,
        use_compiled_model: bool = False,
        wait: bool = True,
        model_name: str | None = None,
        kms_key: Any = None,
        data_capture_config: Any = None,
        tags: Any = None,
        serverless_inference_config: Any = None,
        async_inference_config: Any = None,
        volume_size: int | None = None,
        model_data_download_timeout: int | None = None,
        container_startup_health_check_timeout: int | None = None,
        inference_recommendation_id: Any = None,
        explainer_config: Any = None,
        **options: Any,
    ) -> Any:
        """Make the latest job's model and an endpoint of it; arguments as the SDK has them, see ``Model.deploy``.

        Args:
            use_compiled_model: not emulated.
            model_name: default: made from the time.
            options: of ``create_model``, such as ``entry_point``, ``source_dir`` and ``env``.
        Returns:
            A Predictor, or an AsyncPredictor with ``async_inference_config``.
        """
        if use_compiled_model:
            raise UnsupportedOptionError(
                "deploy(use_compiled_model=True) is not emulated.", "Leave it out: models are not compiled."
            )
        of_deploy = {name: options.pop(name) for name in tuple(options) if name in _DEPLOY_OPTIONS}
        model = self.create_model(name=model_name, **options)
        self.deploy_instance_type = instance_type
        return model.deploy(
            initial_instance_count,
            instance_type,
            serializer,
            deserializer,
            accelerator_type=accelerator_type,
            endpoint_name=endpoint_name,
            tags=tags if tags is not None else self.tags,
            kms_key=kms_key,
            wait=wait,
            data_capture_config=data_capture_config,
            async_inference_config=async_inference_config,
            serverless_inference_config=serverless_inference_config,
            volume_size=volume_size,
            model_data_download_timeout=model_data_download_timeout,
            container_startup_health_check_timeout=container_startup_health_check_timeout,
            inference_recommendation_id=inference_recommendation_id,
            explainer_config=explainer_config,
            **of_deploy,
        )

    @property
    def _latest(self) -> TrainingJob:
        if self.latest_training_job is None:
            raise BadInputError("this estimator has no training job yet.", "Call fit() first, or attach().")
        return self.latest_training_job

    def _follow(self, job: TrainingJob) -> TrainingJob:
        self.latest_training_job = job
        self.jobs.append(job)
        self._current_job_name = job.name
        return job

    def _check(self) -> None:
        """Check the options as they are now: attributes may have been set since the last time."""
        owner = type(self).__name__
        names = [option.name for option in ESTIMATOR_OPTIONS if option.name != "mode"]
        check_options(ESTIMATOR_OPTIONS, {name: getattr(self, _ATTRIBUTES.get(name, name)) for name in names}, owner)
        check_session(self.sagemaker_session, owner)
        for name, instead in _METHODS.items():
            if name in vars(self):
                raise BadInputError(f"{owner}.{name} is a method, and was set to a value.", instead)
        if self.source_dir is not None and self.entry_point is None:
            raise SourceError("source_dir is given, but no entry_point.", 'Name the script: entry_point="train.py".')
        if self.image_uri is None and self.entry_point is None and not self.container_entry_point:
            raise SourceError(
                "neither an image nor an entry point is given, so there is nothing to run.",
                'Name a script, entry_point="train.py", or an image, image_uri="my-algorithm".',
            )
        for definition in self.metric_definitions:
            check_metric_definition(definition["Name"], definition["Regex"])
        if self._distribution_hyperparameters() and self.entry_point is None:
            raise SourceError(
                f"{owner}(distribution=...) starts an entry point, and none is given.",
                'Name the script: entry_point="train.py".',
            )
        with in_sdk_words(ESTIMATOR_OPTIONS):
            if checkpoints := self._checkpoints():
                checkpoint_config(checkpoints)

    def _distribution_hyperparameters(self) -> dict[str, Any]:
        groups = [str(group.instance_group_name) for group in self.instance_groups or ()]
        return distribution_hyperparameters(
            self.distribution,
            type(self).__name__,
            instance_type=None if groups else self.instance_type,
            groups=groups,
        )

    def _distribution_warnings(self) -> list[str]:
        kind = None if self.instance_groups else instance_type(self.instance_type)
        if kind is None or kind.gpus or ".trn" in self.instance_type or not self._distribution_hyperparameters():
            return []
        return [f"distribution: {self.instance_type} has no GPUs, and the SDK then refuses torch_distributed"]

    def _checkpoints(self) -> dict[str, str] | None:
        if self.checkpoint_s3_uri is None:
            if self.checkpoint_local_path is not None:
                raise BadInputError(
                    f"checkpoint_local_path={self.checkpoint_local_path!r} says where checkpoints are written, and "
                    "nothing where they go.",
                    "Give checkpoint_s3_uri as well, or leave it out.",
                )
            return None
        try:
            uri = to_uri(os.fspath(self.checkpoint_s3_uri))
        except BadInputError as error:
            raise type(error)(f"checkpoint_s3_uri: {error.message}", error.hint) from error
        local = {} if self.checkpoint_local_path is None else {"LocalPath": self.checkpoint_local_path}
        return {"S3Uri": uri, **local}

    def _submission(
        self,
        inputs: Inputs,
        job_name: str | None,
        experiment_config: Mapping[str, str] | None = None,
        *,
        debug: bool = False,
    ) -> _Submission:
        """Turn everything that is set now into a checked request; reads files, changes nothing."""
        draft = self._draft(inputs, job_name, experiment_config, role=role_arn(self.role))
        request, source = draft.request, draft.source
        runtime = self._runtime if isinstance(self._runtime, Runtime) else None
        channels, checkpoints = request.get("InputDataConfig", []), request.get("CheckpointConfig")
        output_uri = request["OutputDataConfig"]["S3OutputPath"]
        request[OWN_MEMBER] = _given(
            Runtime=runtime.name if runtime else self._runtime or default_runtime(),
            S3=self._s3([output_uri, draft.code_uri, draft.archive, str(checkpoints), str(channels)]),
            Estimator=self._own_options(source),
            **self._own_effects(inputs, debug=debug),
        )
        with in_sdk_words(ESTIMATOR_OPTIONS):
            job = accept(request, runtime)
            said = (*job.warnings, *self._warnings(job.runtime.name), *self._distribution_warnings())
            words = tuple(said_in_sdk_words((*ESTIMATOR_OPTIONS, *FIT_OPTIONS), text) for text in said)
            job = replace(job, warnings=words)
        if source is not None and job.runtime.needs_local_libraries:
            check_libraries(source)
        return _Submission(request, job, draft.members)

    def _aws_submission(
        self,
        inputs: Inputs,
        job_name: str | None,
        experiment_config: Mapping[str, str] | None = None,
        *,
        debug: bool = False,
    ) -> AwsSubmission:
        """Do the same for AWS itself, which is asked for nothing yet."""
        from launcher.sdk.aws_training import checked_role, submission_for_aws

        if self._runtime is not None:
            raise BadInputError(
                f"runtime={self._runtime!r} says how this machine runs a job, and mode='aws' that AWS does.",
                "Leave runtime out.",
            )
        draft = self._draft(
            inputs,
            job_name,
            experiment_config,
            role=checked_role(self.role),
            region=self.sagemaker_session.boto_region_name,
        )
        request = {**draft.request, OWN_MEMBER: self._own_effects(inputs, debug=debug)}
        source_uri = draft.archive if draft.members is not None else ""
        with in_sdk_words(ESTIMATOR_OPTIONS):
            return submission_for_aws(request, source_uri=source_uri, members=draft.members or ())

    def _for_aws(self) -> Self:
        """Return the same estimator with a session that means AWS, and the bucket that this one's session names."""
        twin, session = copy.copy(self), self.sagemaker_session
        twin.sagemaker_session = Session(
            mode=AWS_MODE, default_bucket=session._bucket, default_bucket_prefix=session.default_bucket_prefix
        )
        return twin

    def _own_effects(self, inputs: Inputs, *, debug: bool) -> dict[str, Any]:
        """Return what the launcher's own options do to a job, as members of its own."""
        return _given(
            WritableChannels=writable_channels(inputs) or None,
            Debug=debug or None,
            SpotInterruptions=self.spot_interruptions,
            Faults=_words(self.faults),
        )

    def _draft(
        self,
        inputs: Inputs,
        job_name: str | None,
        experiment_config: Mapping[str, str] | None,
        *,
        role: str,
        region: str = "",
    ) -> _Draft:
        """Return the document without the launcher's own member.

        Args:
            region: of AWS itself; empty for a job of this machine.
        """
        self._check()
        name = check_job_name(make_job_name(self._base_name()) if job_name is None else job_name)
        source, archive = self._source()
        output_uri = self.output_path
        code_uri = self._code_uri(output_uri, on_aws=bool(region))
        if source is not None:
            check_preset(source, without_numpy(self._hyperparameters))
            archive = f"{code_uri.rstrip('/')}/{name}/source/sourcedir.tar.gz"
        program = source.program if source else self.entry_point
        channels = make_channels(inputs)
        if self.model_uri is not None:
            channels += make_channels({self.model_channel_name: self.model_uri})
        checkpoints = self._checkpoints()
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "RoleArn": role,
            "AlgorithmSpecification": _given(
                TrainingImage=self._image_on_aws(region) if region else self.image_uri,
                TrainingInputMode=self.input_mode or "File",
                MetricDefinitions=[dict(definition) for definition in self.metric_definitions],
                ContainerEntrypoint=None if self.container_entry_point is None else list(self.container_entry_point),
                ContainerArguments=None if self.container_arguments is None else list(self.container_arguments),
            ),
            "HyperParameters": self._hyperparameter_texts(program, archive, name, output_uri, region or REGION),
            "InputDataConfig": channels,
            "OutputDataConfig": {"S3OutputPath": output_uri, **_given(KmsKeyId=self.output_kms_key)},
            "ResourceConfig": {
                **self._hosts(),
                "VolumeSizeInGB": self.volume_size,
                **_given(
                    VolumeKmsKeyId=self.volume_kms_key,
                    KeepAlivePeriodInSeconds=self.keep_alive_period_in_seconds,
                    TrainingPlanArn=self.training_plan,
                    InstancePlacementConfig=self.instance_placement_config,
                ),
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": self.max_run, **_given(MaxWaitTimeInSeconds=self.max_wait)},
            "Environment": dict(self.environment or {}),
            "Tags": [dict(tag) for tag in self.tags or ()],
            "EnableNetworkIsolation": bool(self._enable_network_isolation),
        }
        # AWS refuses an empty list of channels.
        request |= _given(
            CheckpointConfig=checkpoints,
            ExperimentConfig=experiment_config and dict(experiment_config),
            EnableManagedSpotTraining=self.use_spot_instances or None,
            RetryStrategy=self.max_retry_attempts and {"MaximumRetryAttempts": self.max_retry_attempts},
        )
        request |= self._without_effect()
        request["AlgorithmSpecification"] |= self._image_options()
        if not channels:
            del request["InputDataConfig"]
        members = list_members(source.path, source.members, source.dependencies) if source else None
        return _Draft(request, source, archive or "", code_uri, members)

    def _code_uri(self, output_uri: str, *, on_aws: bool) -> str:
        """Return where the source archive goes, below a folder with the job's name."""
        if self.code_location:
            return to_uri(os.fspath(self.code_location))
        # As the SDK: to the bucket of the results, and not below their prefix.
        is_own = on_aws and self._output_path and output_uri.startswith("s3://")
        return f"s3://{split_s3_uri(output_uri)[0]}" if is_own else output_uri

    def _image_on_aws(self, _region: str) -> str | None:
        """Return the image that AWS runs."""
        return self.image_uri

    def _hosts(self) -> dict[str, Any]:
        if self.instance_groups:
            return {"InstanceGroups": [group_request(group) for group in self.instance_groups]}
        return {"InstanceType": self.instance_type, "InstanceCount": self.instance_count}

    def _without_effect(self) -> dict[str, Any]:
        """Return the members that are kept, and mean nothing on one machine."""
        network = {"Subnets": self.subnets, "SecurityGroupIds": self.security_group_ids}
        members = {
            "VpcConfig": {name: list(ids) for name, ids in network.items() if ids is not None} or None,
            "EnableInterContainerTrafficEncryption": self.encrypt_inter_container_traffic,
        }
        for member, flag in (
            ("InfraCheckConfig", "enable_infra_check"),
            ("RemoteDebugConfig", "enable_remote_debug"),
            ("SessionChainingConfig", "enable_session_tag_chaining"),
        ):
            value = getattr(self, flag)
            name = f"Enable{member.removesuffix('Config').replace('SessionChaining', 'SessionTagChaining')}"
            members[member] = None if value is None else {name: value}
        return _given(**members)

    def _image_options(self) -> dict[str, Any]:
        credentials = self.training_repository_credentials_provider_arn
        image_config = _given(
            TrainingRepositoryAccessMode=self.training_repository_access_mode,
            TrainingRepositoryAuthConfig=credentials and {"TrainingRepositoryCredentialsProviderArn": credentials},
        )
        return _given(
            TrainingImageConfig=image_config or None,
            EnableSageMakerMetricsTimeSeries=self.enable_sagemaker_metrics,
        )

    def _source(self) -> tuple[Source | None, str | None]:
        """Return the folder to pack, or the URI of an archive that is there already, or neither."""
        if self.entry_point is None:
            return None, None
        location = None if self.source_dir is None else os.fspath(self.source_dir)
        if location is not None and "://" in location:
            uri = to_uri(location)
            if not (uri.startswith("file://") and Path(uri.removeprefix("file://")).is_dir()):
                if not os.fspath(self.entry_point):
                    raise SourceError(
                        "the entry point is empty.", 'Name a script, for example: entry_point="train.py".'
                    )
                if self.dependencies:
                    raise SourceError(
                        f"dependencies cannot be packed beside {uri}, which is there already.",
                        "Put them into that archive.",
                    )
                return None, uri
            location = uri.removeprefix("file://")
        dependencies = [os.fspath(path) for path in self.dependencies or ()]
        return check_source(os.fspath(self.entry_point), location, dependencies), None

    def _hyperparameter_texts(
        self, program: str | None, archive: str | None, name: str, output_uri: str, region: str
    ) -> dict[str, str]:
        if program is None:
            return hyperparameter_texts(self._hyperparameters, json_encoded=False)
        for taken in sorted(_PLATFORM_HYPERPARAMETERS & set(self._hyperparameters)):
            raise HyperparameterError(
                f"the hyperparameter '{taken}' is set by the estimator itself.",
                "Leave it out; entry_point, source_dir, container_log_level and distribution say what it holds.",
            )
        platform = {
            "sagemaker_submit_directory": archive,
            "sagemaker_program": program,
            "sagemaker_container_log_level": self.container_log_level,
            "sagemaker_job_name": name,
            "sagemaker_region": region,
            **self._distribution_hyperparameters(),
            **self._platform_hyperparameters(output_uri),
        }
        return hyperparameter_texts({**self._hyperparameters, **platform}, json_encoded=True)

    def _platform_hyperparameters(self, _output_uri: str) -> dict[str, Any]:
        return {}

    def _own_options(self, source: Source | None) -> dict[str, Any]:
        """Return the options for ``attach`` that no member of AWS holds."""
        lone = source is not None and bool(source.members)
        return _given(
            SourceDir=str(source.path) if source and not lone else None,
            EntryPoint=str(source.path / source.program) if source and lone else source.program if source else None,
            Dependencies=[str(path) for path in source.dependencies] or None if source else None,
            CodeLocation=to_uri(os.fspath(self.code_location)) if self.code_location else None,
            BaseJobName=self.base_job_name or None,
        )

    def _warnings(self, _runtime: str) -> list[str]:
        """Return what the user should know about a job before it runs on a runtime of this name."""
        return []

    def _s3(self, texts: Sequence[str]) -> dict[str, str] | None:
        """Return which S3 the job's URIs mean; None where it has none."""
        session = self.sagemaker_session
        uses_s3 = session.mode == "s3" or any("s3://" in text for text in texts)
        return s3_member(session.s3.to_dict()) if uses_s3 else None

    def _base_name(self) -> str:
        if self.base_job_name:
            return self.base_job_name
        if self.image_uri:
            return self.image_uri.rsplit("/", 1)[-1].split("@")[0].split(":")[0]
        return Path(self.entry_point).stem if self.entry_point else "job"


@dataclass(frozen=True)
class _Draft:
    """A request that is not checked yet.

    Attributes:
        request: the document, without the launcher's own member.
        source: the folder to pack; None where there is none.
        archive: the URI of the source archive; empty where there is none.
        code_uri: below it is the archive.
        members: name and path of each member of the archive; None packs nothing.
    """

    request: dict[str, Any]
    source: Source | None
    archive: str
    code_uri: str
    members: list[tuple[str, Path]] | None


@dataclass(frozen=True)
class _Submission:
    """What an estimator is about to submit.

    Attributes:
        request: the document.
        job: the same, checked and decided.
        members: name and path of each member of the source archive; None packs nothing.
    """

    request: dict[str, Any]
    job: AcceptedJob[TrainingJobSpec]
    members: list[tuple[str, Path]] | None

    @property
    def source_members(self) -> list[str] | None:
        return None if self.members is None else [name for name, _ in self.members]


def _words(texts: str | Sequence[str] | None) -> list[str] | None:
    """Return the words of a text, with blanks or commas between them, or a list as it is."""
    if texts is None:
        return None
    return texts.replace(",", " ").split() if isinstance(texts, str) else list(texts)


def _given(**members: Any) -> dict[str, Any]:
    """Return the members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def session_of(request: Mapping[str, Any]) -> Session:
    """Return a session with the S3 that a job was submitted with."""
    s3 = request[OWN_MEMBER].get("S3")
    return Session(mode="s3" if s3 else "local", s3_endpoint_url=s3.get("EndpointUrl", s3["Kind"]) if s3 else None)


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _option_names(cls: type) -> list[str]:
    names = {name for base in cls.__mro__ if "__init__" in vars(base) for name in inspect.signature(base).parameters}
    return sorted(names - {"self", "args", "kwargs"})


def decoded(text: str) -> Any:
    """Return the value of a hyperparameter that a script gets as JSON; text that is none stays as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
