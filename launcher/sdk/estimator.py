"""``Estimator``: the SageMaker Python SDK's training API (its version 2), as a translator to CreateTrainingJob."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.sdk.options import ESTIMATOR_OPTIONS, FIT_OPTIONS, check_options, refuse_unknown
from launcher.sdk.training_options import TrainingOptions

if TYPE_CHECKING:
    from launcher.running.plan import RunPlan
    from launcher.running.source import Source
    from launcher.runtimes import Runtime
    from launcher.sdk.analytics import TrainingJobAnalytics
    from launcher.sdk.inputs import Inputs
    from launcher.sdk.model import Model
    from launcher.sdk.training_job import TrainingJob
    from launcher.sdk.transformer import Transformer

# What deploy() of a model takes and that of an estimator hands on.
_DEPLOY_OPTIONS = frozenset({
    *("accept_eula", "endpoint_logging", "update_endpoint", "resources", "managed_instance_scaling", "routing_config"),
    *("inference_component_name", "inference_ami_version", "model_reference_arn", "endpoint_type"),
})  # fmt: skip


class Estimator(TrainingOptions):
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
        runtime: ``auto`` (Docker if an engine answers, else a process), ``docker``, ``process``; default:
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
        from launcher.sdk.session import Session, check_session

        owner = type(self).__name__
        if kwargs:
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
        from launcher.sdk import training_submission

        training_submission.check(self)

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
        from launcher.sdk.training_job import logs_wanted
        from launcher.terminal import say

        check_options(FIT_OPTIONS, {"experiment_config": experiment_config}, "fit")
        shown = logs_wanted(logs)
        if not wait and not isinstance(self._runtime, str | None):
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
        from launcher.sdk import training_submission

        return training_submission.request_of(self, inputs, job_name, debug=debug, mode=mode)

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
        from launcher.sdk import training_submission

        return self._follow(training_submission.submit(self, inputs, job_name, experiment_config, debug=debug))

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
        from launcher.sdk import training_submission

        wire = self.sagemaker_session.wire
        asked = training_submission.aws_submission_of(self, inputs, job_name)
        return asked.enqueue(wire, queue, priority=priority, share=share)

    def plan(self, inputs: Inputs = None, job_name: str | None = None, *, debug: bool = False) -> RunPlan:
        """Return everything that ``fit`` would run, read and write; print it, compare it. Nothing is run.

        As in the SDK, the session's bucket is made if results would go to it.

        Raises:
            BadInputError: the job cannot be run as asked.
            UnsupportedOptionError: the session's mode is ``aws``: ``request`` returns all that would go there.
        """
        from launcher.sdk import training_submission

        return training_submission.plan(self, inputs, job_name, debug=debug)

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
        from launcher.sdk import training_submission
        from launcher.sdk.session import check_session

        session = check_session(sagemaker_session, "attach")
        job: TrainingJob
        runtime: str | None = None
        if session is not None and session.mode == "aws":
            job, request = training_submission.job_on_aws(training_job_name, session)
        else:
            job, request, runtime = training_submission.recorded_job(training_job_name)
        estimator = cls(
            **cls._options_of(request),
            model_channel_name=model_channel_name,
            runtime=runtime,
            sagemaker_session=session or training_submission.session_of(request),
        )
        estimator._follow(job).wait()
        return estimator

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that a complete request was made of."""
        from launcher.sdk import training_submission

        return training_submission.options_of(request)

    @property
    def output_path(self) -> str:
        """Where results go, as a URI; each job has its own folder in it."""
        from launcher.jobs.store import JobStore
        from launcher.settings import home_path
        from launcher.storage import to_uri

        if self._output_path:
            return to_uri(self._output_path)
        session = self.sagemaker_session
        if session.mode == "aws":
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
        from launcher.sdk.analytics import TrainingJobAnalytics

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
        from launcher.sdk.model import Model

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

    def _hyperparameter_texts(
        self, program: str | None, archive: str | None, name: str, output_uri: str, region: str
    ) -> dict[str, str]:
        from launcher.sdk import training_submission

        return training_submission.hyperparameter_texts_of(self, program, archive, name, output_uri, region)

    def _image_on_aws(self, _region: str) -> str | None:
        return self.image_uri

    def _platform_hyperparameters(self, _output_uri: str) -> dict[str, Any]:
        return {}

    def _own_options(self, source: Source | None) -> dict[str, Any]:
        """Return the options for ``attach`` that no member of AWS holds."""
        from launcher.sdk import training_submission

        return training_submission.own_options(self, source)

    def _warnings(self, _runtime: str) -> list[str]:
        """Return what the user should know about a job before it runs on a runtime of this name."""
        return []

    def _base_name(self) -> str:
        if self.base_job_name:
            return self.base_job_name
        if self.image_uri:
            return self.image_uri.rsplit("/", 1)[-1].split("@")[0].split(":")[0]
        return Path(self.entry_point).stem if self.entry_point else "job"


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _option_names(cls: type) -> list[str]:
    import inspect  # as dear to load as Python itself, and only a fault needs it

    names = {name for base in cls.__mro__ if "__init__" in vars(base) for name in inspect.signature(base).parameters}
    return sorted(names - {"self", "args", "kwargs"})
