"""``Estimator`` and ``RLEstimator``: the SageMaker Python SDK's training API (its version 2), on this machine."""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from launcher.errors import BadInputError, JobExistsError, PresetError, SourceError, UnsupportedOptionError
from launcher.jobs.metrics import check_metric_definitions
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.store import JobStore, check_job_name, make_job_name
from launcher.requests.instance_types import INSTANCE_TYPES, nearest_instance_types
from launcher.running.plan import RunPlan
from launcher.running.runner import plan_job, submit
from launcher.running.source import Source, check_source
from launcher.runtimes import Runtime, choose_runtime
from launcher.sdk.analytics import TrainingJobAnalytics
from launcher.sdk.inputs import (
    Inputs,
    check_environment,
    check_input_mode,
    hyperparameter_texts,
    make_channels,
    make_checkpoint_config,
)
from launcher.sdk.options import refuse, refuse_unknown
from launcher.sdk.preflight import check_libraries, check_preset
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob, logs_wanted
from launcher.settings import REGION, data_path, default_runtime, home_path
from launcher.storage import to_uri

MAX_RUN_LIMIT_SECONDS = 28 * 24 * 3600


class Estimator:
    """Trains in a container or a local process as SageMaker would, with the arguments that its SDK has.

    Args:
        image_uri: an image that follows the training contract; None takes the bundled one.
        role: kept and described; nothing here asks for permission.
        instance_count: 1.
        instance_type: ``local``, or a SageMaker type, which the job is told; it uses this machine as it is.
        max_run: seconds after which the job is stopped.
        output_path: a path, a ``file://`` or ``s3://`` URI; results go to ``<output_path>/<job>/output/``. None takes
            the session's bucket; in local mode without a session, the job's own folder under ``LAUNCHER_HOME``.
        sagemaker_session: a ``launcher.Session``.
        hyperparameters: text, numbers and booleans.
        metric_definitions: ``[{"Name": ..., "Regex": ...}]``, looked for in each line of the log.
        entry_point: the script, relative to ``source_dir`` or by itself; ``dependencies`` are packed beside it.
        model_uri: a model to start from; a channel named ``model_channel_name``.
        checkpoint_s3_uri: a path, a ``file://`` or ``s3://`` URI: what is there is in ``checkpoint_local_path`` when
            the job begins, and what the job writes to that folder is copied there, while it runs and at its end.
        runtime: ``auto`` (Docker if an engine answers, else a process), ``docker``, ``process``; None takes
            ``LAUNCHER_RUNTIME``. This argument is the launcher's own.
        mode: ``local`` or ``s3``, where no session says it; None takes ``LAUNCHER_MODE``. The launcher's own.
    Raises:
        UnsupportedOptionError: an option that is not emulated; none is ever ignored.
        BadInputError: a value that SageMaker would refuse.

    The other arguments are the SDK's; ``docs/options.md`` lists what each does here.
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
        runtime: str | Runtime | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        where = type(self).__name__
        refuse_unknown(kwargs, _option_names(type(self)), where)
        for option, value in (
            ("keep_alive_period_in_seconds", keep_alive_period_in_seconds),
            ("volume_size", volume_size),
            ("volume_kms_key", volume_kms_key),
            ("output_kms_key", output_kms_key),
            ("subnets", subnets),
            ("security_group_ids", security_group_ids),
            ("encrypt_inter_container_traffic", encrypt_inter_container_traffic),
            ("use_spot_instances", use_spot_instances),
            ("max_wait", max_wait),
            ("rules", rules),
            ("debugger_hook_config", debugger_hook_config),
            ("tensorboard_output_config", tensorboard_output_config),
            ("enable_sagemaker_metrics", enable_sagemaker_metrics),
            ("profiler_config", profiler_config),
            ("max_retry_attempts", max_retry_attempts),
            ("git_config", git_config),
            ("instance_groups", instance_groups),
            ("training_repository_access_mode", training_repository_access_mode),
            ("training_repository_credentials_provider_arn", training_repository_credentials_provider_arn),
            ("disable_output_compression", disable_output_compression),
            ("enable_infra_check", enable_infra_check),
            ("enable_remote_debug", enable_remote_debug),
            ("enable_session_tag_chaining", enable_session_tag_chaining),
            ("training_plan", training_plan),
            ("instance_placement_config", instance_placement_config),
        ):
            refuse(option, value, where)
        check_input_mode(input_mode, where)
        if not isinstance(disable_profiler, bool):
            raise BadInputError(f"disable_profiler={disable_profiler!r} is no boolean.", "Use True or False.")
        if not isinstance(container_log_level, int) or container_log_level < 0:
            raise BadInputError(f"container_log_level={container_log_level!r} is no level.", "Use logging.INFO or so.")
        self.image_uri = _checked_image(image_uri)
        self.role = role or ""
        self.instance_count = _checked_instance_count(instance_count)
        self.instance_type = _checked_instance_type(instance_type)
        self.max_run = _checked_max_run(max_run)
        self.volume_size = volume_size
        self.input_mode = input_mode
        self.base_job_name = base_job_name
        self.tags = _checked_tags(tags)
        self.model_uri = _text(model_uri)
        self.model_channel_name = model_channel_name
        self.metric_definitions = list(metric_definitions or [])
        check_metric_definitions(metric_definitions)
        self.environment = check_environment(environment)
        self.source_dir = _text(source_dir)
        self.entry_point = _text(entry_point)
        self.dependencies = [os.fspath(one) for one in dependencies or ()]
        self.code_location = _text(code_location)
        make_checkpoint_config(checkpoint_s3_uri, checkpoint_local_path)
        self.checkpoint_s3_uri = _text(checkpoint_s3_uri)
        self.checkpoint_local_path = checkpoint_local_path
        self.container_log_level = container_log_level
        self.container_entry_point = _checked_command("container_entry_point", container_entry_point)
        self.container_arguments = _checked_command("container_arguments", container_arguments)
        self._session_given = check_session(sagemaker_session, where) is not None
        self.sagemaker_session = check_session(sagemaker_session, where) or Session(mode=mode)
        if mode not in (None, self.sagemaker_session.mode):
            raise BadInputError(
                f"{where}(mode={mode!r}) contradicts its session, whose mode is '{self.sagemaker_session.mode}'.",
                "Give one of the two.",
            )
        self.deploy_instance_type: str | None = None
        self.jobs: list[TrainingJob] = []
        self.latest_training_job: TrainingJob | None = None
        self._current_job_name: str | None = None
        self._network_isolation = bool(enable_network_isolation)
        self._hyperparameters: dict[str, Any] = dict(hyperparameters or {})
        self._output_path = _text(output_path)
        self._runtime = runtime
        if source_dir is not None and entry_point is None:
            raise SourceError("source_dir is given, but no entry_point.", 'Name the script: entry_point="train.py".')
        if self.image_uri is None and entry_point is None and not self.container_entry_point:
            raise SourceError(
                "neither an image nor an entry point is given, so there is nothing to run.",
                'Name a script, entry_point="train.py", or an image, image_uri="my-algorithm".',
            )

    def fit(
        self,
        inputs: Inputs = None,
        wait: bool = True,
        logs: str | bool = "All",
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
    ) -> None:
        """Train: submit a job and, unless told otherwise, follow it to its end.

        Args:
            inputs: a path (channel ``training``), a ``TrainingInput``, or a dict of channels.
            wait: False returns at once; a process of its own sees the job through.
            logs: ``All`` or True prints the job's log as it grows; ``None`` or False does not.
            job_name: None has one made of ``base_job_name`` and the time.
            experiment_config: not emulated.
        Raises:
            JobFailedError: the job failed; the message has reason, exit code and last log lines.
            BadInputError: the job cannot be run as asked; nothing was started.
            KeyboardInterrupt: Ctrl-C; the job has been stopped, and what it had written is kept.
        """
        refuse("experiment_config", experiment_config, "fit")
        shown = logs_wanted(logs)
        if not wait and isinstance(self._runtime, Runtime):
            raise BadInputError("wait=False needs a runtime by name.", 'Use runtime="docker" or "process".')
        job = self.submit(inputs, job_name)
        if shown:
            print(f"Training job {job.name} in {job.path}", flush=True)
        if wait:
            job.wait(logs=logs)
        else:
            job.detach()

    def submit(self, inputs: Inputs = None, job_name: str | None = None) -> TrainingJob:
        """Record a job and keep its source, without running it; ``wait`` or ``detach`` on the job sees it through.

        Raises:
            BadInputError: the job cannot be run as asked; nothing was recorded.
        """
        while True:
            store, spec, runtime = self._resolve(inputs, job_name)
            try:
                submit(spec, store, runtime)
                break
            except JobExistsError:
                if job_name is not None:
                    raise
                time.sleep(0.001)  # another job was named in the same millisecond: the next one is free
        job = TrainingJob(spec.job_name, store, runtime)
        self.latest_training_job = job
        self.jobs.append(job)
        self._current_job_name = spec.job_name
        return job

    def plan(self, inputs: Inputs = None, job_name: str | None = None) -> RunPlan:
        """Return everything that ``fit`` would run, read and write; print it, compare it. Nothing is done.

        The bucket of the session is made, where results would go to it, as the SDK does.

        Raises:
            BadInputError: the job cannot be run as asked.
        """
        store, spec, runtime = self._resolve(inputs, job_name)
        return plan_job(spec, store, runtime)

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
        return self._network_isolation

    def logs(self) -> None:
        """Print the log of the latest job, and follow it while the job runs."""
        self._latest.wait(logs="All")

    @classmethod
    def attach(
        cls, training_job_name: str, sagemaker_session: object | None = None, model_channel_name: str = "model"
    ) -> Estimator:
        """Return an estimator whose latest job is an existing one, begun by any process; wait for it if it runs.

        Raises:
            JobNotFoundError: there is no such job.
        """
        session = check_session(sagemaker_session, "attach")
        store = JobStore(home_path())
        spec = store.load(training_job_name).training_spec
        estimator = Estimator(
            image_uri=spec.image_uri,
            role=spec.role,
            instance_count=spec.instance_count,
            instance_type=spec.instance_type,
            max_run=spec.max_run_seconds,
            output_path=spec.output_uri,
            hyperparameters={
                name: _decoded(text) for name, text in spec.hyperparameters.items() if not name.startswith("sagemaker_")
            },
            tags=[{"Key": key, "Value": value} for key, value in spec.tags],
            model_channel_name=model_channel_name,
            metric_definitions=[{"Name": one.name, "Regex": one.regex} for one in spec.metric_definitions],
            environment=spec.environment,
            enable_network_isolation=spec.enable_network_isolation,
            source_dir=None if spec.source_members else spec.source_path,
            entry_point=str(Path(spec.source_path or "", spec.entry_point or ""))
            if spec.source_members
            else spec.entry_point,
            dependencies=spec.dependencies,
            container_entry_point=spec.container_entry_point or None,
            container_arguments=spec.container_arguments or None,
            checkpoint_s3_uri=spec.checkpoint_config.s3_uri if spec.checkpoint_config else None,
            checkpoint_local_path=spec.checkpoint_config.local_path if spec.checkpoint_config else None,
            runtime=spec.runtime,
            sagemaker_session=session or _session_of(spec),
        )
        job = TrainingJob(training_job_name, store)
        estimator.latest_training_job = job
        estimator.jobs.append(job)
        estimator._current_job_name = training_job_name
        job.wait()
        return estimator

    @property
    def output_path(self) -> str:
        """Where results go, as a URI; each job has its own folder in it."""
        if self._output_path:
            return to_uri(self._output_path)
        session = self.sagemaker_session
        if self._session_given or session.mode == "s3":
            return session.uri(session.default_bucket())
        return to_uri(str(JobStore(home_path()).jobs_path))

    @property
    def model_data(self) -> str:
        """The URI of the latest job's ``model.tar.gz``."""
        return self._latest.model_data

    @property
    def training_job_analytics(self) -> TrainingJobAnalytics:
        """The metrics of the latest job."""
        return TrainingJobAnalytics(self._latest.name)

    def create_model(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not emulated.

        Raises:
            UnsupportedOptionError: always.
        """
        _refuse_serving(self, "create_model")

    def transformer(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not emulated.

        Raises:
            UnsupportedOptionError: always.
        """
        _refuse_serving(self, "transformer")

    def deploy(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not emulated.

        Raises:
            UnsupportedOptionError: always.
        """
        _refuse_serving(self, "deploy")

    @property
    def _latest(self) -> TrainingJob:
        if self.latest_training_job is None:
            raise BadInputError("this estimator has no training job yet.", "Call fit() first, or attach().")
        return self.latest_training_job

    def _resolve(self, inputs: Inputs, job_name: str | None) -> tuple[JobStore, TrainingJobSpec, Runtime]:
        """Turn everything that is known now into a job; reads files, changes nothing."""
        store = JobStore(home_path())
        name = check_job_name(job_name if job_name is not None else make_job_name(self._base_name()))
        source = check_source(self.entry_point, self.source_dir, self.dependencies) if self.entry_point else None
        output_uri = self.output_path
        code_uri = to_uri(self.code_location) if self.code_location else output_uri
        hyperparameters = self._hyperparameter_texts(source, name, output_uri, code_uri)
        if source is not None:
            check_preset(source, self._hyperparameters)
        channels = make_channels(inputs)
        if self.model_uri is not None:
            channels += make_channels({self.model_channel_name: self.model_uri})
        checkpoints = make_checkpoint_config(self.checkpoint_s3_uri, self.checkpoint_local_path)
        session = self.sagemaker_session
        uris = [output_uri, code_uri, *(one.uri for one in channels), checkpoints.s3_uri if checkpoints else ""]
        uses_s3 = any(uri.startswith("s3://") for uri in uris)
        chosen = self._runtime if self._runtime is not None else default_runtime()
        runtime = chosen if isinstance(chosen, Runtime) else choose_runtime(chosen, image_uri=self.image_uri)
        if source is not None and runtime.name == "process":
            check_libraries(source)
        spec = TrainingJobSpec(
            job_name=name,
            runtime=runtime.name,
            image_uri=self.image_uri,
            role=self.role,
            hyperparameters=hyperparameters,
            channels=channels,
            output_uri=output_uri,
            code_uri=code_uri,
            instance_type=self.instance_type,
            instance_count=self.instance_count,
            volume_size_gb=self.volume_size,
            environment=self.environment,
            metric_definitions=check_metric_definitions(self.metric_definitions),
            max_run_seconds=self.max_run,
            entry_point=source.program if source else None,
            source_path=str(source.path) if source else None,
            source_members=source.members if source else (),
            dependencies=tuple(str(path) for path in source.dependencies) if source else (),
            container_entry_point=self.container_entry_point,
            container_arguments=self.container_arguments,
            enable_network_isolation=self._network_isolation,
            tags=self.tags,
            checkpoint_config=checkpoints,
            s3=session.s3.to_dict() if uses_s3 or session.mode == "s3" else None,
        )
        return store, spec, runtime

    def _hyperparameter_texts(self, source: Source | None, name: str, output_uri: str, code_uri: str) -> dict[str, str]:
        if source is None:
            return hyperparameter_texts(self._hyperparameters, json_encoded=False)
        platform = {
            "sagemaker_submit_directory": f"{code_uri.rstrip('/')}/{name}/source/sourcedir.tar.gz",
            "sagemaker_program": source.program,
            "sagemaker_container_log_level": self.container_log_level,
            "sagemaker_job_name": name,
            "sagemaker_region": REGION,
            **self._platform_hyperparameters(output_uri),
        }
        return hyperparameter_texts({**self._hyperparameters, **platform}, json_encoded=True)

    def _platform_hyperparameters(self, _output_uri: str) -> dict[str, Any]:
        return {}

    def _base_name(self) -> str:
        if self.base_job_name:
            return self.base_job_name
        if self.image_uri:
            return self.image_uri.rsplit("/", 1)[-1].split("@")[0].split(":")[0]
        return Path(self.entry_point).stem if self.entry_point else "job"


class RLToolkit(Enum):
    """The toolkits that ``RLEstimator`` knows."""

    COACH = "coach"
    RAY = "ray"


class RLFramework(Enum):
    """The frameworks that ``RLEstimator`` knows."""

    TENSORFLOW = "tensorflow"
    MXNET = "mxnet"
    PYTORCH = "pytorch"


class RLEstimator(Estimator):
    """The SDK's estimator for reinforcement learning; its toolkits' work is done by the bundled image.

    Args:
        entry_point: the script.
        toolkit: Coach's or Ray's metric definitions are the default ones.
        toolkit_version: kept; the bundled image has its own library.
        framework: kept; the bundled image has PyTorch.
        image_uri: an image of one's own instead.
    Raises:
        AttributeError: neither toolkit, version and framework nor an image were given, as in the SDK.
    """

    COACH_LATEST_VERSION_TF = "0.11.1"
    COACH_LATEST_VERSION_MXNET = "0.11.0"
    RAY_LATEST_VERSION = "1.6.0"

    def __init__(
        self,
        entry_point: str,
        toolkit: RLToolkit | None = None,
        toolkit_version: str | None = None,
        framework: RLFramework | None = None,
        source_dir: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        if image_uri is None:
            for name, value in (("toolkit", toolkit), ("toolkit_version", toolkit_version), ("framework", framework)):
                if not value:
                    raise AttributeError(f"Please provide `{name}`, or `image_uri`, to RLEstimator.")
        for name, value, kind in (("toolkit", toolkit, RLToolkit), ("framework", framework, RLFramework)):
            if value is not None and not isinstance(value, kind):
                raise BadInputError(
                    f"RLEstimator({name}={value!r}) is no {kind.__name__}.",
                    f"Use one of: {', '.join(f'{kind.__name__}.{one.name}' for one in kind)}.",
                )
        self.toolkit = toolkit.value if toolkit else None
        self.toolkit_version = toolkit_version
        self.framework = framework.value if framework else None
        if metric_definitions is None and toolkit is not None:
            metric_definitions = self.default_metric_definitions(toolkit)
        super().__init__(
            image_uri,
            entry_point=entry_point,
            source_dir=source_dir,
            hyperparameters=hyperparameters,
            metric_definitions=metric_definitions,
            **kwargs,
        )

    @classmethod
    def default_metric_definitions(cls, toolkit: RLToolkit) -> list[dict[str, str]]:
        """Return the metric definitions that SageMaker uses for a toolkit's log."""
        if toolkit is RLToolkit.COACH:
            return [
                {"Name": "reward-training", "Regex": "^Training>.*Total reward=(.*?),"},
                {"Name": "reward-testing", "Regex": "^Testing>.*Total reward=(.*?),"},
            ]
        number = r"([-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?)"
        return [{"Name": name, "Regex": f"{name}: {number}"} for name in ("episode_reward_mean", "episode_reward_max")]

    def _platform_hyperparameters(self, output_uri: str) -> dict[str, Any]:
        return {"sagemaker_s3_output": output_uri, "sagemaker_estimator": "RLEstimator"}


BUNDLED_METRIC_DEFINITIONS = [
    {"Name": "reward-training", "Regex": "^Training>.*Total reward=(.*?),"},
    {"Name": "reward-testing", "Regex": "^Testing>.*Total reward=(.*?),"},
    {"Name": "weighted-importance-sampling", "Regex": r"^Off-Policy Evaluation>.*\bWIS=([^,\s]+)"},
    {"Name": "sequential-doubly-robust", "Regex": r"^Off-Policy Evaluation>.*\bSequential-DR=([^,\s]+)"},
]


def fit(
    preset: str,
    inputs: Inputs = None,
    *,
    entry_point: str = "train.py",
    hyperparameters: Mapping[str, Any] | None = None,
    wait: bool = True,
    logs: str | bool = "All",
    job_name: str | None = None,
    **options: Any,
) -> TrainingJob:
    """Run one of the bundled entry points with a preset: the one-line form of a job.

    Args:
        preset: the name of a bundled preset, or the path of a YAML file.
        inputs: as ``Estimator.fit`` takes them; training wants the channel ``train``.
        entry_point: ``collect.py``, ``prepare.py``, ``train.py`` or ``evaluate.py``.
        hyperparameters: a dotted name overrides a value of the preset.
        options: anything that ``Estimator`` takes.
    Returns:
        The job, which has ended unless ``wait`` is False.
    Raises:
        JobFailedError, BadInputError, KeyboardInterrupt: as ``Estimator.fit``.
    """
    estimator = bundled_estimator(preset, entry_point, hyperparameters, **options)
    estimator.fit(bundled_inputs(entry_point, inputs), wait=wait, logs=logs, job_name=job_name)
    return estimator._latest


def bundled_estimator(
    preset: str, entry_point: str = "train.py", hyperparameters: Mapping[str, Any] | None = None, **options: Any
) -> Estimator:
    """Return an estimator for a bundled entry point, its presets packed beside it.

    Raises:
        PresetError: a path was given, and there is no such file.
    """
    if not isinstance(preset, str) or not preset:
        raise PresetError(f"the preset {preset!r} is not a name.", "Name a preset, or the path of a YAML file.")
    if "/" in preset or preset.endswith((".yaml", ".yml")):
        path = Path(preset).expanduser()
        if not path.is_file():
            raise PresetError(f"preset {preset}: there is no such file.", "Give its path, or the name of a preset.")
        preset = path.name
    else:
        path = data_path("presets") / f"{preset}.yaml"
        # Without that file the whole folder: whoever checks presets then names the nearest.
        path = path if path.is_file() else path.parent
    options.setdefault("metric_definitions", BUNDLED_METRIC_DEFINITIONS)
    options.setdefault("base_job_name", preset.removesuffix(".yaml").removesuffix(".yml"))
    options.setdefault("source_dir", str(data_path("entrypoints")))
    return Estimator(
        entry_point=entry_point,
        hyperparameters={"preset": preset, **(hyperparameters or {})},
        dependencies=[str(path), *(options.pop("dependencies", None) or ())],
        **options,
    )


def bundled_inputs(entry_point: str, inputs: Inputs) -> Inputs:
    """Return ``inputs``; a bare path becomes the channel that the entry point reads."""
    if isinstance(inputs, str | os.PathLike):
        return {"checkpoint" if entry_point == "evaluate.py" else "train": inputs}
    return inputs


def _session_of(spec: TrainingJobSpec) -> Session:
    """Return a session with the S3 that a job was submitted with."""
    s3 = spec.s3
    return Session(mode="s3" if s3 else "local", s3_endpoint_url=(s3["endpoint_url"] or s3["kind"]) if s3 else None)


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _option_names(cls: type) -> list[str]:
    names = {name for one in cls.__mro__ if "__init__" in vars(one) for name in inspect.signature(one).parameters}
    return sorted(names - {"self", "args", "kwargs"})


def _refuse_serving(estimator: Estimator, method: str) -> NoReturn:
    raise UnsupportedOptionError(
        f"{type(estimator).__name__}.{method} is not emulated by this version: it trains and evaluates.",
        "Load the model from latest_training_job.outputs.model_path, or from model_data.",
    )


def _checked_image(image_uri: str | None) -> str | None:
    if image_uri is not None and (not isinstance(image_uri, str) or not image_uri.strip()):
        raise BadInputError(f"image_uri={image_uri!r} names no image.", "Name one, or leave it out.")
    return image_uri


def _checked_instance_count(count: int | None) -> int:
    if count is None:
        return 1
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInputError(f"instance_count={count!r} is no count of hosts.", "Use 1.")
    if count > 1:
        raise UnsupportedOptionError(
            f"instance_count={count} is not emulated by this version, which runs one host.", "Use 1."
        )
    return count


def _checked_instance_type(instance_type: str | None) -> str:
    if instance_type is None:
        return "local"
    if instance_type == "local_gpu":
        raise UnsupportedOptionError(
            "instance_type='local_gpu' is not emulated by this version.",
            'Use "local"; a job of the process runtime sees the GPUs that this machine has.',
        )
    if instance_type not in INSTANCE_TYPES:
        near = nearest_instance_types(str(instance_type))
        raise BadInputError(
            f"instance_type={instance_type!r} is not one that SageMaker trains on.",
            f"Did you mean {', '.join(near)}?" if near else 'Use "local", or a type such as ml.m5.xlarge.',
        )
    return instance_type


def _checked_max_run(seconds: int) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= MAX_RUN_LIMIT_SECONDS:
        raise BadInputError(
            f"max_run={seconds!r} is no time limit.", f"Give whole seconds, 1 to {MAX_RUN_LIMIT_SECONDS} (28 days)."
        )
    return seconds


def _checked_tags(tags: Sequence[Mapping[str, str]] | None) -> tuple[tuple[str, str], ...]:
    checked = []
    for tag in tags or ():
        if not isinstance(tag, Mapping) or set(tag) != {"Key", "Value"}:
            raise BadInputError(f"the tag {tag!r} needs exactly 'Key' and 'Value'.", "{'Key': 'team', 'Value': 'rl'}")
        checked.append((str(tag["Key"]), str(tag["Value"])))
    return tuple(checked)


def _checked_command(name: str, command: Sequence[str] | None) -> tuple[str, ...]:
    if command is None:
        return ()
    if isinstance(command, str) or not command or not all(isinstance(part, str) and part for part in command):
        raise BadInputError(f"{name}={command!r} is no list of words.", f'For example: {name}=["/bin/sh", "-c"].')
    return tuple(command)


def _decoded(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text
