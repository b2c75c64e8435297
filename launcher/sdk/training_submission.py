"""From an estimator to the CreateTrainingJob document, and back.

Apart from the class, so that a program that only names the class loads nothing of what runs a job.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, HyperparameterError, JobExistsError, SourceError
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
from launcher.sdk.inputs import Inputs, hyperparameter_texts, make_channels, without_numpy, writable_channels
from launcher.sdk.instance_group import InstanceGroup, group_request
from launcher.sdk.options import ESTIMATOR_OPTIONS, FIT_OPTIONS, check_options, given, in_sdk_words, said_in_sdk_words
from launcher.sdk.preflight import check_libraries, check_preset
from launcher.sdk.roles import checked_role, role_arn
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob
from launcher.sdk.training_options import TrainingOptions
from launcher.sdk.uploading import upload_source
from launcher.settings import AWS_MODE, REGION, default_runtime, home_path
from launcher.storage import to_uri
from launcher.storage.s3_uris import split_s3_uri

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

# Methods that are easily taken for attributes, with what to do instead of assigning to them.
_METHODS = {
    "hyperparameters": "Change hyperparameters with set_hyperparameters(name=value).",
    "enable_network_isolation": "Give enable_network_isolation=True when the estimator is made.",
}


def check(estimator: TrainingOptions) -> None:
    """Check the options as they are now: attributes may have been set since the last time."""
    owner = type(estimator).__name__
    names = [option.name for option in ESTIMATOR_OPTIONS if option.name != "mode"]
    check_options(ESTIMATOR_OPTIONS, {name: getattr(estimator, _ATTRIBUTES.get(name, name)) for name in names}, owner)
    check_session(estimator.sagemaker_session, owner)
    for name, instead in _METHODS.items():
        if name in vars(estimator):
            raise BadInputError(f"{owner}.{name} is a method, and was set to a value.", instead)
    if estimator.source_dir is not None and estimator.entry_point is None:
        raise SourceError("source_dir is given, but no entry_point.", 'Name the script: entry_point="train.py".')
    if estimator.image_uri is None and estimator.entry_point is None and not estimator.container_entry_point:
        raise SourceError(
            "neither an image nor an entry point is given, so there is nothing to run.",
            'Name a script, entry_point="train.py", or an image, image_uri="my-algorithm".',
        )
    for definition in estimator.metric_definitions:
        check_metric_definition(definition["Name"], definition["Regex"])
    if _distribution_hyperparameters(estimator) and estimator.entry_point is None:
        raise SourceError(
            f"{owner}(distribution=...) starts an entry point, and none is given.",
            'Name the script: entry_point="train.py".',
        )
    with in_sdk_words(ESTIMATOR_OPTIONS):
        if checkpoints := _checkpoints(estimator):
            checkpoint_config(checkpoints)


def submission_of(
    estimator: TrainingOptions,
    inputs: Inputs,
    job_name: str | None,
    experiment_config: Mapping[str, str] | None = None,
    *,
    debug: bool = False,
) -> Submission:
    """Turn everything that is set now into a checked request; reads files, changes nothing."""
    draft = _draft(estimator, inputs, job_name, experiment_config, role=role_arn(estimator.role))
    request, source = draft.request, draft.source
    runtime = estimator._runtime if isinstance(estimator._runtime, Runtime) else None
    channels, checkpoints = request.get("InputDataConfig", []), request.get("CheckpointConfig")
    output_uri = request["OutputDataConfig"]["S3OutputPath"]
    request[OWN_MEMBER] = given(
        Runtime=runtime.name if runtime else estimator._runtime or default_runtime(),
        S3=_s3(estimator, [output_uri, draft.code_uri, draft.archive, str(checkpoints), str(channels)]),
        Estimator=estimator._own_options(source),
        **_own_effects(estimator, inputs, debug=debug),
    )
    with in_sdk_words(ESTIMATOR_OPTIONS):
        job = accept(request, runtime)
        said = (*job.warnings, *estimator._warnings(job.runtime.name), *_distribution_warnings(estimator))
        words = tuple(said_in_sdk_words((*ESTIMATOR_OPTIONS, *FIT_OPTIONS), text) for text in said)
        job = replace(job, warnings=words)
    if source is not None and not job.runtime.runs_in_image(job.spec.limits):
        check_libraries(source)
    return Submission(request, job, draft.members)


def aws_submission_of(
    estimator: TrainingOptions,
    inputs: Inputs,
    job_name: str | None,
    experiment_config: Mapping[str, str] | None = None,
    *,
    debug: bool = False,
) -> AwsSubmission:
    """Do the same for AWS itself, which is asked for nothing yet."""
    from launcher.sdk.aws_training import submission_for_aws

    estimator.sagemaker_session._refuse_runtime(estimator._runtime)
    draft = _draft(
        estimator,
        inputs,
        job_name,
        experiment_config,
        role=checked_role(estimator.role),
        region=estimator.sagemaker_session.boto_region_name,
    )
    request = {**draft.request, OWN_MEMBER: _own_effects(estimator, inputs, debug=debug)}
    source_uri = draft.archive if draft.members is not None else ""
    with in_sdk_words(ESTIMATOR_OPTIONS):
        return submission_for_aws(request, source_uri=source_uri, members=draft.members or ())


def request_of(
    estimator: TrainingOptions, inputs: Inputs, job_name: str | None, *, debug: bool = False, mode: str | None = None
) -> dict[str, Any]:
    """Return the document that would be submitted; ``aws`` as the mode means AWS itself, whatever the session's is.

    Raises:
        BadInputError: the job cannot be run as asked.
    """
    session = _session(estimator)
    if mode not in (None, AWS_MODE, session.mode):
        raise BadInputError(f"request(mode={mode!r}) is another mode than the estimator's.", "Use 'aws'.")
    if AWS_MODE not in (mode, session.mode):
        return submission_of(estimator, inputs, job_name, debug=debug).request
    if session.mode != AWS_MODE:  # a session that means AWS, and the bucket that this one names
        estimator = copy.copy(estimator)
        bucket, prefix = session._bucket, session.default_bucket_prefix
        estimator.sagemaker_session = Session(mode=AWS_MODE, default_bucket=bucket, default_bucket_prefix=prefix)
    return dict(aws_submission_of(estimator, inputs, job_name, debug=debug).request)


def _session(estimator: TrainingOptions) -> Session:
    """Return the session, which may have been set to something else since the estimator was made."""
    check_session(estimator.sagemaker_session, type(estimator).__name__)
    return estimator.sagemaker_session


def _own_effects(estimator: TrainingOptions, inputs: Inputs, *, debug: bool) -> dict[str, Any]:
    """Return what the launcher's own options do to a job, as members of its own."""
    return given(
        WritableChannels=writable_channels(inputs) or None,
        Debug=debug or None,
        SpotInterruptions=estimator.spot_interruptions,
        Faults=_words(estimator.faults),
    )


def _draft(
    estimator: TrainingOptions,
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
    check(estimator)
    name = check_job_name(make_job_name(estimator._base_name()) if job_name is None else job_name)
    source, archive = _source(estimator)
    output_uri = estimator.output_path
    code_uri = _code_uri(estimator, output_uri, on_aws=bool(region))
    if source is not None:
        check_preset(source, without_numpy(estimator._hyperparameters))
        archive = f"{code_uri.rstrip('/')}/{name}/source/sourcedir.tar.gz"
    program = source.program if source else estimator.entry_point
    channels = make_channels(inputs)
    if estimator.model_uri is not None:
        channels += make_channels({estimator.model_channel_name: estimator.model_uri})
    checkpoints = _checkpoints(estimator)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": role,
        "AlgorithmSpecification": given(
            TrainingImage=estimator._image_on_aws(region) if region else estimator.image_uri,
            TrainingInputMode=estimator.input_mode or "File",
            MetricDefinitions=[dict(definition) for definition in estimator.metric_definitions],
            ContainerEntrypoint=None
            if estimator.container_entry_point is None
            else list(estimator.container_entry_point),
            ContainerArguments=None if estimator.container_arguments is None else list(estimator.container_arguments),
        ),
        "HyperParameters": estimator._hyperparameter_texts(program, archive, name, output_uri, region or REGION),
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": output_uri, **given(KmsKeyId=estimator.output_kms_key)},
        "ResourceConfig": {
            **_hosts(estimator),
            "VolumeSizeInGB": estimator.volume_size,
            **given(
                VolumeKmsKeyId=estimator.volume_kms_key,
                KeepAlivePeriodInSeconds=estimator.keep_alive_period_in_seconds,
                TrainingPlanArn=estimator.training_plan,
                InstancePlacementConfig=estimator.instance_placement_config,
            ),
        },
        "StoppingCondition": {
            "MaxRuntimeInSeconds": estimator.max_run,
            **given(MaxWaitTimeInSeconds=estimator.max_wait),
        },
        "Environment": dict(estimator.environment or {}),
        "Tags": [dict(tag) for tag in estimator.tags or ()],
        "EnableNetworkIsolation": bool(estimator._enable_network_isolation),
    }
    # AWS refuses an empty list of channels.
    request |= given(
        CheckpointConfig=checkpoints,
        ExperimentConfig=experiment_config and dict(experiment_config),
        EnableManagedSpotTraining=estimator.use_spot_instances or None,
        RetryStrategy=estimator.max_retry_attempts and {"MaximumRetryAttempts": estimator.max_retry_attempts},
    )
    request |= _without_effect(estimator)
    request["AlgorithmSpecification"] |= _image_options(estimator)
    if not channels:
        del request["InputDataConfig"]
    members = list_members(source.path, source.members, source.dependencies) if source else None
    return _Draft(request, source, archive or "", code_uri, members)


def _code_uri(estimator: TrainingOptions, output_uri: str, *, on_aws: bool) -> str:
    """Return where the source archive goes, below a folder with the job's name."""
    if estimator.code_location:
        return to_uri(os.fspath(estimator.code_location))
    # As the SDK: to the bucket of the results, and not below their prefix.
    is_own = on_aws and estimator._output_path and output_uri.startswith("s3://")
    return f"s3://{split_s3_uri(output_uri)[0]}" if is_own else output_uri


def submit(
    estimator: TrainingOptions,
    inputs: Inputs,
    job_name: str | None,
    experiment_config: Mapping[str, str] | None = None,
    *,
    debug: bool = False,
) -> TrainingJob:
    """Upload the source as it is now and record a job, without running it.

    Raises:
        BadInputError: the job cannot be run as asked; nothing was uploaded or recorded.
    """
    session = _session(estimator)
    if session.mode == AWS_MODE:
        return aws_submission_of(estimator, inputs, job_name, experiment_config, debug=debug).send(session.wire)
    store = JobStore(home_path())
    while True:
        submission = submission_of(estimator, inputs, job_name, experiment_config, debug=debug)
        job = submission.job
        plan_job(job, store, source_members=submission.source_members)
        try:
            with store.claim(job.spec.job_name) as claim:
                if submission.members is not None:
                    upload_source(submission.members, job.spec, claim)
                record_job(job, claim)
            return TrainingJob(job.spec.job_name, store, job.runtime)
        except JobExistsError:
            if job_name is not None:
                raise
            time.sleep(0.001)  # another job was named in the same millisecond: the next one is free


def plan(estimator: TrainingOptions, inputs: Inputs, job_name: str | None, *, debug: bool = False) -> RunPlan:
    """Return everything that a job would run, read and write."""
    _session(estimator)._refuse_aws("Estimator.plan")
    submission = submission_of(estimator, inputs, job_name, debug=debug)
    return plan_job(submission.job, JobStore(home_path()), source_members=submission.source_members)


def job_on_aws(job_name: str, session: Session) -> tuple[TrainingJob, dict[str, Any]]:
    """Return a job of AWS itself, and the complete request that it was made of.

    Raises:
        RemoteRequestError: there is no such job.
    """
    check_job_name(job_name)
    job = session._training_job(job_name)
    return job, completed(job.describe())


def recorded_job(job_name: str) -> tuple[TrainingJob, dict[str, Any], str]:
    """Return a job, the complete request that it was made of, and the name of its runtime.

    Raises:
        JobNotFoundError: there is no such job.
    """
    check_job_name(job_name)
    store = JobStore(home_path())
    spec = store.load(job_name).training_spec
    return TrainingJob(job_name, store), training_request(spec), spec.runtime


def options_of(request: Mapping[str, Any]) -> dict[str, Any]:
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


def hyperparameter_texts_of(
    estimator: TrainingOptions, program: str | None, archive: str | None, name: str, output_uri: str, region: str
) -> dict[str, str]:
    """Return all hyperparameters of a job as it gets them, with those that say what it runs.

    Raises:
        HyperparameterError: one of these was given by the user.
    """
    if program is None:
        return hyperparameter_texts(estimator._hyperparameters, json_encoded=False)
    for taken in sorted(_PLATFORM_HYPERPARAMETERS & set(estimator._hyperparameters)):
        raise HyperparameterError(
            f"the hyperparameter '{taken}' is set by the estimator itself.",
            "Leave it out; entry_point, source_dir, container_log_level and distribution say what it holds.",
        )
    platform = {
        "sagemaker_submit_directory": archive,
        "sagemaker_program": program,
        "sagemaker_container_log_level": estimator.container_log_level,
        "sagemaker_job_name": name,
        "sagemaker_region": region,
        **_distribution_hyperparameters(estimator),
        **estimator._platform_hyperparameters(output_uri),
    }
    return hyperparameter_texts({**estimator._hyperparameters, **platform}, json_encoded=True)


def own_options(estimator: TrainingOptions, source: Source | None) -> dict[str, Any]:
    """Return the options for ``attach`` that no member of AWS holds."""
    lone = source is not None and bool(source.members)
    return given(
        SourceDir=str(source.path) if source and not lone else None,
        EntryPoint=str(source.path / source.program) if source and lone else source.program if source else None,
        Dependencies=[str(path) for path in source.dependencies] or None if source else None,
        CodeLocation=to_uri(os.fspath(estimator.code_location)) if estimator.code_location else None,
        BaseJobName=estimator.base_job_name or None,
    )


def _checkpoints(estimator: TrainingOptions) -> dict[str, str] | None:
    if estimator.checkpoint_s3_uri is None:
        if estimator.checkpoint_local_path is not None:
            raise BadInputError(
                f"checkpoint_local_path={estimator.checkpoint_local_path!r} says where checkpoints are written, and "
                "nothing where they go.",
                "Give checkpoint_s3_uri as well, or leave it out.",
            )
        return None
    try:
        uri = to_uri(os.fspath(estimator.checkpoint_s3_uri))
    except BadInputError as error:
        raise type(error)(f"checkpoint_s3_uri: {error.message}", error.hint) from error
    local = {} if estimator.checkpoint_local_path is None else {"LocalPath": estimator.checkpoint_local_path}
    return {"S3Uri": uri, **local}


def _source(estimator: TrainingOptions) -> tuple[Source | None, str | None]:
    """Return the folder to pack, or the URI of an archive that is there already, or neither."""
    if estimator.entry_point is None:
        return None, None
    location = None if estimator.source_dir is None else os.fspath(estimator.source_dir)
    if location is not None and "://" in location:
        uri = to_uri(location)
        if not (uri.startswith("file://") and Path(uri.removeprefix("file://")).is_dir()):
            if not os.fspath(estimator.entry_point):
                raise SourceError("the entry point is empty.", 'Name a script, for example: entry_point="train.py".')
            if estimator.dependencies:
                raise SourceError(
                    f"dependencies cannot be packed beside {uri}, which is there already.",
                    "Put them into that archive.",
                )
            return None, uri
        location = uri.removeprefix("file://")
    dependencies = [os.fspath(path) for path in estimator.dependencies or ()]
    return check_source(os.fspath(estimator.entry_point), location, dependencies), None


def _hosts(estimator: TrainingOptions) -> dict[str, Any]:
    if estimator.instance_groups:
        return {"InstanceGroups": [group_request(group) for group in estimator.instance_groups]}
    return {"InstanceType": estimator.instance_type, "InstanceCount": estimator.instance_count}


def _without_effect(estimator: TrainingOptions) -> dict[str, Any]:
    """Return the members that are kept, and mean nothing on one machine."""
    network = {"Subnets": estimator.subnets, "SecurityGroupIds": estimator.security_group_ids}
    members = {
        "VpcConfig": {name: list(ids) for name, ids in network.items() if ids is not None} or None,
        "EnableInterContainerTrafficEncryption": estimator.encrypt_inter_container_traffic,
    }
    for member, flag in (
        ("InfraCheckConfig", "enable_infra_check"),
        ("RemoteDebugConfig", "enable_remote_debug"),
        ("SessionChainingConfig", "enable_session_tag_chaining"),
    ):
        value = getattr(estimator, flag)
        name = f"Enable{member.removesuffix('Config').replace('SessionChaining', 'SessionTagChaining')}"
        members[member] = None if value is None else {name: value}
    return given(**members)


def _image_options(estimator: TrainingOptions) -> dict[str, Any]:
    credentials = estimator.training_repository_credentials_provider_arn
    image_config = given(
        TrainingRepositoryAccessMode=estimator.training_repository_access_mode,
        TrainingRepositoryAuthConfig=credentials and {"TrainingRepositoryCredentialsProviderArn": credentials},
    )
    return given(
        TrainingImageConfig=image_config or None,
        EnableSageMakerMetricsTimeSeries=estimator.enable_sagemaker_metrics,
    )


def _distribution_hyperparameters(estimator: TrainingOptions) -> dict[str, Any]:
    groups = [str(group.instance_group_name) for group in estimator.instance_groups or ()]
    return distribution_hyperparameters(
        estimator.distribution,
        type(estimator).__name__,
        instance_type=None if groups else estimator.instance_type,
        groups=groups,
    )


def _distribution_warnings(estimator: TrainingOptions) -> list[str]:
    kind = None if estimator.instance_groups else instance_type(estimator.instance_type)
    if kind is None or kind.gpus or ".trn" in estimator.instance_type or not _distribution_hyperparameters(estimator):
        return []
    return [f"distribution: {estimator.instance_type} has no GPUs, and the SDK then refuses torch_distributed"]


def _s3(estimator: TrainingOptions, texts: Sequence[str]) -> dict[str, str] | None:
    """Return which S3 the job's URIs mean; None where it has none."""
    session = estimator.sagemaker_session
    uses_s3 = session.mode == "s3" or any("s3://" in text for text in texts)
    return s3_member(session.s3.to_dict()) if uses_s3 else None


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
class Submission:
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
        """The names of the archive's members; None packs nothing."""
        return None if self.members is None else [name for name, _ in self.members]


def _words(texts: str | Sequence[str] | None) -> list[str] | None:
    """Return the words of a text, with blanks or commas between them, or a list as it is."""
    if texts is None:
        return None
    return texts.replace(",", " ").split() if isinstance(texts, str) else list(texts)


def session_of(request: Mapping[str, Any]) -> Session:
    """Return a session with the S3 that a job was submitted with."""
    s3 = request[OWN_MEMBER].get("S3")
    return Session(mode="s3" if s3 else "local", s3_endpoint_url=s3.get("EndpointUrl", s3["Kind"]) if s3 else None)


def decoded(text: str) -> Any:
    """Return the value of a hyperparameter that a script gets as JSON; text that is none stays as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _listed(texts: Sequence[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)
