"""The options of the SageMaker SDK: what each does here, the member that it becomes, and the values that raise.

One table a class. The estimator checks by it when it is made and again when a job is submitted; ``docs/options.md`` is
generated from it. Limits are not repeated here: an option is checked against its member.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import BadInputError, RequestError, UnsupportedOptionError
from launcher.requests.members import MEMBERS, Member, is_accepted

GROUP_ATTRIBUTES = ("instance_group_name", "instance_type", "instance_count")
_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES = 255, 4096  # of Linux


class Option(NamedTuple):
    """A row of a table.

    Attributes:
        name: the SDK's, or the launcher's own.
        here: what it does here, for the page; of an option that is not emulated, nothing.
        member: the member of CreateTrainingJob that it becomes; empty for none.
        kind: what Python must give, a key of ``_KINDS``, where the member is made of it; else the value is checked
            against the member itself.
        accepted: the only values accepted; None accepts what kind and member accept.
        instead: what to do instead of passing another value; default: the advice of the member's row.
        optional: whether None may be passed.
        noted: it means nothing on one machine: it is kept, and named in the job's warnings.
    """

    name: str
    here: str = ""
    member: str = ""
    kind: str = ""
    accepted: tuple[Any, ...] | None = None
    instead: str = ""
    optional: bool = True
    noted: bool = False

    @property
    def advice(self) -> str:
        """What to do instead of passing a value that is refused."""
        return self.instead or self._row.instead

    @property
    def _row(self) -> Member:
        path = self.member
        while path not in MEMBERS:
            path = path.rpartition(".")[0]
        return MEMBERS[path]


def _refused(name: str, member: str = "", accepted: tuple[Any, ...] = (None,), instead: str = "") -> Option:
    return Option(name, member=member, accepted=accepted, instead=instead)


def _noted(name: str, member: str, kind: str = "") -> Option:
    return Option(name, member=member, kind=kind, noted=True)


_UNSET = (None, False)
_NO_DEBUGGER = "Leave it out: print values and read them with metric_definitions."

ESTIMATOR_OPTIONS = (
    Option(
        "image_uri",
        "An image that follows the [contract](job-contract.md), run on the Docker runtime as `docker run IMAGE train`. "
        "`None` takes the bundled image, or on the process runtime your own Python. An image that the engine lacks is "
        "pulled. With an entry point, the process runtime runs that without the image and says so in `warnings`.",
        "AlgorithmSpecification.TrainingImage",
    ),
    Option(
        "role",
        "Kept, and shown by `describe()`. Nothing here asks for permission; a name becomes the ARN that the local "
        "account would give it.",
        member="RoleArn",
        kind="text",
    ),
    Option(
        "instance_count",
        "`None`, which is 1, or any number: each host is a container or a process of this machine "
        "([several hosts](job-contract.md#several-hosts)).",
        "ResourceConfig.InstanceCount",
    ),
    Option(
        "instance_type",
        '`"local"`, `"local_cpu"` (the default is `"local"`), or any type that SageMaker trains on. The job is told it '
        "in `resourceconfig.json`, and gets [its CPUs, memory and GPUs](job-contract.md#what-an-instance-type-means) "
        'as far as this machine has them. `"local_gpu"` gets the GPUs of this machine. An unknown type is an error '
        "that names similar ones.",
        "ResourceConfig.InstanceType",
    ),
    Option(
        "instance_groups",
        "[Hosts of several types](distributed.md#hosts-of-several-types): a list of `launcher.InstanceGroup`, or of "
        "the SDK's, in place of `instance_count` and `instance_type`.",
        kind="groups",
    ),
    Option(
        "max_run",
        "Seconds, 1 to 2419200. The job is stopped when its training has taken longer: status `Stopped`, secondary "
        "status `MaxRuntimeExceeded`.",
        "StoppingCondition.MaxRuntimeInSeconds",
        optional=False,
    ),
    Option(
        "input_mode",
        '`"File"`, `"FastFile"` or `"Pipe"`, for channels that do not say it themselves ([channels](channels.md)).',
        "AlgorithmSpecification.TrainingInputMode",
    ),
    Option(
        "output_path",
        "A path, a `file://` or an `s3://` URI; results go to `<output_path>/<job>/output/`. `None` takes the bucket "
        "of the session; in local mode without a session, the job's own folder under `LAUNCHER_HOME`.",
        member="OutputDataConfig.S3OutputPath",
        kind="path",
    ),
    Option(
        "sagemaker_session",
        "A `launcher.Session`: [local mode or S3 mode](storage.md#local-mode-and-s3-mode), or [AWS itself]"
        "(amazon-sagemaker.md), and the bucket for results. "
        "`None` takes `Session(mode=mode)`. A session of the SageMaker SDK is an error: it talks to AWS.",
        kind="anything",
    ),
    Option(
        "base_job_name",
        "The beginning of generated job names. Without it, the image's or the entry point's name.",
        kind="text",
    ),
    Option(
        "hyperparameters",
        "Text, numbers, booleans, `None`, lists, dicts and numpy's scalars, at most 100, each at most 2500 characters. "
        "A script gets them as JSON, an image without an entry point as `str()` writes them, as the SDK does. `NaN` "
        "and infinity are errors.",
        member="HyperParameters",
        kind="mapping",
    ),
    Option("tags", '`[{"Key": ..., "Value": ...}]`; checked and kept in the record.', "Tags"),
    Option("model_uri", "A model to start from: a path or a URI, read as a channel.", kind="path"),
    Option(
        "model_channel_name",
        "The name of that channel, `model` by default.",
        "InputDataConfig[].ChannelName",
        optional=False,
    ),
    Option(
        "checkpoint_s3_uri",
        "A folder for [checkpoints](job-contract.md#checkpoints) that outlives the job: a path, a `file://` or an "
        "`s3://` URI. What is there is in `checkpoint_local_path` when the job begins; what the job writes to that is "
        "copied there.",
        member="CheckpointConfig.S3Uri",
        kind="path",
    ),
    Option(
        "checkpoint_local_path",
        "Where the job has them; `None` takes `/opt/ml/checkpoints`. Another path below `/opt/ml` that nothing else "
        "uses, on Docker also one outside. Without `checkpoint_s3_uri` an error.",
        "CheckpointConfig.LocalPath",
        kind="text",
    ),
    Option(
        "metric_definitions",
        'At most 40 `{"Name": ..., "Regex": ...}`; group 1 of a match in a line of the log is a value. See '
        "`training_job_analytics`.",
        "AlgorithmSpecification.MetricDefinitions",
    ),
    Option(
        "enable_network_isolation",
        "`True` runs the job without network, on both runtimes.",
        "EnableNetworkIsolation",
    ),
    Option("disable_profiler", "`True` or `False`; there is no profiler.", kind="boolean", optional=False),
    Option("environment", "Variables for the job; names and lengths as SageMaker allows them.", "Environment"),
    Option(
        "source_dir",
        "A folder of this machine, packed into `sourcedir.tar.gz` and unpacked to `/opt/ml/code`. Caches "
        "(`__pycache__`, `.git`, `.venv` and the like) are left out. The URI of a `.tar.gz` that is there already, "
        "`s3://` or `file://`, is used as it is.",
        kind="path",
    ),
    Option(
        "entry_point",
        "The script: relative to `source_dir`, or by itself the path of a lone script. `.py`, `.sh`, or executable.",
        kind="path",
    ),
    Option("dependencies", "Files and folders that are packed beside the source under their own names.", kind="paths"),
    Option(
        "container_log_level",
        "Told to the script as the hyperparameter `sagemaker_container_log_level`.",
        kind="level",
        optional=False,
    ),
    Option(
        "code_location",
        "Where `<code_location>/<job>/source/sourcedir.tar.gz` goes; a path, a `file://` or an `s3://` URI. `None` "
        "takes `output_path`.",
        kind="path",
    ),
    Option(
        "container_entry_point",
        "A list of words that replaces the image's entry point; `train` is then not added.",
        "AlgorithmSpecification.ContainerEntrypoint",
    ),
    Option("container_arguments", "A list of words in place of `train`.", "AlgorithmSpecification.ContainerArguments"),
    Option(
        "distribution",
        '`{"torch_distributed": {"enabled": True}}` trains [over the hosts together]'
        "(distributed.md); every other way raises. In the SDK the estimators of frameworks have it.",
        kind="mapping",
    ),
    Option(
        "runtime",
        'This project\'s own: `"auto"`, `"docker"`, `"process"`, `"slurm"`; `None` takes `LAUNCHER_RUNTIME`, else '
        '`"auto"`.',
        kind="anything",
    ),
    Option(
        "mode",
        'This project\'s own: `"local"`, `"s3"` or `"aws"` ([AWS itself](amazon-sagemaker.md)), where no session says '
        'it; `None` takes `LAUNCHER_MODE`, else `"local"`.',
        kind="anything",
    ),
    Option(
        "keep_alive_period_in_seconds",
        "Seconds that a [warm pool](warm-pools.md) stays for the next job of its kind, at most 21600; `None` and 0 "
        "make none. On the process runtime; on Docker the job says in `warnings` why there is none.",
        "ResourceConfig.KeepAlivePeriodInSeconds",
    ),
    _noted("volume_size", "ResourceConfig.VolumeSizeInGB"),
    _noted("volume_kms_key", "ResourceConfig.VolumeKmsKeyId"),
    _noted("output_kms_key", "OutputDataConfig.KmsKeyId"),
    _noted("subnets", "VpcConfig.Subnets"),
    _noted("security_group_ids", "VpcConfig.SecurityGroupIds"),
    _noted("encrypt_inter_container_traffic", "EnableInterContainerTrafficEncryption"),
    Option(
        "use_spot_instances",
        "`True` makes a job that may be [interrupted](job-contract.md#spot-jobs); it is, where a plan says so. Needs "
        "`max_wait`.",
        "EnableManagedSpotTraining",
    ),
    Option(
        "max_wait",
        "Seconds from the submission of a spot job to its end, at least `max_run`. The job is stopped when it takes "
        "longer: secondary status `MaxWaitTimeExceeded`.",
        "StoppingCondition.MaxWaitTimeInSeconds",
    ),
    Option(
        "spot_interruptions",
        'This project\'s own: when a spot job is interrupted, such as `["after:30s", "at-line:epoch 3"]` '
        "([spot jobs](job-contract.md#spot-jobs)); `None` takes `LAUNCHER_SPOT_INTERRUPTIONS`, `[]` "
        "interrupts nothing.",
        kind="texts",
    ),
    Option(
        "faults",
        'This project\'s own: what happens to the hosts on purpose, such as `"kill:algo-2@30s"` or `"kill"` '
        "([faults on purpose](faults.md)); `None` takes `LAUNCHER_FAULTS`, `[]` lets nothing happen.",
        kind="words",
    ),
    _refused("rules", "DebugRuleConfigurations", (None, []), _NO_DEBUGGER),
    _refused("debugger_hook_config", "DebugHookConfig", _UNSET, _NO_DEBUGGER),
    _refused("tensorboard_output_config", "TensorBoardOutputConfig"),
    Option(
        "enable_sagemaker_metrics",
        "`True` or `False`; the whole series of every metric is there, asked for or not.",
        "AlgorithmSpecification.EnableSageMakerMetricsTimeSeries",
    ),
    _refused("profiler_config", "ProfilerConfig", instead="Leave it out, or run a profiler in the entry point."),
    Option(
        "max_retry_attempts",
        "How often a job begins again after an `InternalServerError`: a container that was removed, an engine that "
        "could not start it ([retries](job-contract.md#retries)); 1 to 30.",
        "RetryStrategy.MaximumRetryAttempts",
    ),
    _refused("git_config", instead="Clone the repository and give source_dir."),
    _noted(
        "training_repository_access_mode", "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode"
    ),
    _noted(
        "training_repository_credentials_provider_arn",
        "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig.TrainingRepositoryCredentialsProviderArn",
    ),
    _refused("disable_output_compression", "OutputDataConfig.CompressionType", (False,)),
    _noted("enable_infra_check", "InfraCheckConfig.EnableInfraCheck"),
    _noted("enable_remote_debug", "RemoteDebugConfig.EnableRemoteDebug"),
    _noted("enable_session_tag_chaining", "SessionChainingConfig.EnableSessionTagChaining"),
    _noted("training_plan", "ResourceConfig.TrainingPlanArn"),
    _noted("instance_placement_config", "ResourceConfig.InstancePlacementConfig"),
)
FIT_OPTIONS = (_noted("experiment_config", "ExperimentConfig"),)
_S3_SOURCE = "InputDataConfig[].DataSource.S3DataSource"
INPUT_OPTIONS = (
    Option(
        "s3_data",
        "A path, a `file://` or an `s3://` URI, or a `TrainingJob` for its output data; the name is the SDK's.",
        kind="path",
        optional=False,
    ),
    Option("content_type", "Told to the job in `inputdataconfig.json`.", "InputDataConfig[].ContentType"),
    Option(
        "input_mode",
        '`None`, which is the estimator\'s, `"File"`, `"FastFile"` or `"Pipe"` ([channels](channels.md)).',
        "InputDataConfig[].InputMode",
    ),
    Option(
        "distribution",
        '`None` or `"FullyReplicated"`: every host gets all objects; `"ShardedByS3Key"`: each gets its part of them.',
        f"{_S3_SOURCE}.S3DataDistributionType",
    ),
    Option(
        "compression",
        '`None`, or `"Gzip"`, which a Pipe channel decompresses.',
        "InputDataConfig[].CompressionType",
    ),
    Option(
        "record_wrapping",
        '`None`, or `"RecordIO"`: in Pipe mode each object, or attribute, is a record.',
        "InputDataConfig[].RecordWrapperType",
    ),
    Option(
        "s3_data_type",
        '`"S3Prefix"`, `"ManifestFile"` or `"AugmentedManifestFile"` ([channels](channels.md#which-objects)).',
        f"{_S3_SOURCE}.S3DataType",
        optional=False,
    ),
    Option(
        "attribute_names",
        "The attributes of an augmented manifest that the job gets, in this order; at most 16.",
        f"{_S3_SOURCE}.AttributeNames",
    ),
    Option(
        "target_attribute_name",
        "One more attribute, the last, where `attribute_names` lacks it.",
        kind="text",
    ),
    Option(
        "shuffle_config",
        'A `launcher.inputs.ShuffleConfig(seed)`, or a dict `{"Seed": 7}`: the order of objects or lines, another one '
        "in each epoch of a Pipe channel.",
        kind="seed",
    ),
    Option(
        "instance_groups",
        "The names of the [groups](distributed.md#hosts-of-several-types) whose hosts get the channel; `None`: all "
        "hosts. In Pipe mode an error.",
        f"{_S3_SOURCE}.InstanceGroupNames",
    ),
    Option(
        "writable",
        "This project's own: `True` gives the job a copy of the channel, which it may change.",
        kind="boolean",
        optional=False,
    ),
    _refused("hub_access_config", f"{_S3_SOURCE}.HubAccessConfig"),
    _refused("model_access_config", f"{_S3_SOURCE}.ModelAccessConfig"),
)


def check_options(options: Iterable[Option], values: Mapping[str, Any], owner: str) -> None:
    """Check the options that a caller gave.

    Args:
        options: a table.
        values: by the names of options; an option without a value was not given.
        owner: the class or function that took them.
    Raises:
        UnsupportedOptionError: an option that is not emulated asks for something.
        BadInputError: a value of another type, or one that the option's member refuses.
    """
    for option in options:
        if option.name in values:
            _check_option(option, values[option.name], owner)


@contextmanager
def in_sdk_words(options: Iterable[Option]) -> Iterator[None]:
    """Let errors about members of a request name the options that these came from."""
    names = {option.member: option.name for option in options if option.member}
    try:
        yield
    except RequestError as error:
        blamed = [f"{member} is the option {names[member]}" for member in error.members if member in names]
        error.hint = " ".join([f"{'; '.join(blamed)}." if blamed else "", error.hint]).strip()
        error.args = (error.message, error.hint)
        raise
    except BadInputError as error:
        for member, name in names.items():
            error.message = re.sub(rf"\b{re.escape(member)}\b", name, error.message)
        error.args = (error.message, error.hint)
        raise


def said_in_sdk_words(options: Iterable[Option], text: str) -> str:
    """Return a text about members of a request with the names of the options that these came from."""
    for option in options:
        if option.member:
            text = re.sub(rf"^{re.escape(option.member)}(?==)", option.name, text)
    return text


def refuse_unknown(options: Mapping[str, Any], names: Sequence[str], owner: str) -> None:
    """Raise for the first option that does not exist at all.

    Raises:
        UnsupportedOptionError: there is one; the message has the nearest that does exist.
    """
    from difflib import get_close_matches

    for option in options:
        near = get_close_matches(option, names, n=1)
        raise UnsupportedOptionError(
            f"{owner} has no option '{option}'.", f"Did you mean '{near[0]}'?" if near else "Leave it out."
        )


def _check_option(option: Option, value: Any, owner: str) -> None:
    given = f"{owner}({option.name}={_shown(value)})"
    if value is None and option.optional and (option.accepted is None or None in option.accepted):
        return
    if option.accepted is not None:
        if not is_accepted(option.accepted, value):
            raise UnsupportedOptionError(f"{given} is not emulated.", option.advice)
        return
    if option.kind:
        fits, wanted = _KINDS[option.kind]
        if not fits(value):
            raise BadInputError(f"{given} is not {wanted}.", f"Give {wanted}, or leave it out.")
    elif option.member:
        _check_against_member(option, value, given)


def _check_against_member(option: Option, value: Any, given: str) -> None:
    from launcher.requests.shapes import member_shape
    from launcher.requests.training import EXCEPTIONS, OPERATION
    from launcher.requests.validation import check

    plain = list(value) if isinstance(value, tuple) else value
    member = option.member.replace("[]", "[0]")
    try:
        check(plain, member_shape(OPERATION, option.member), member=member, exceptions=EXCEPTIONS, refused=given)
    except RequestError as error:
        if not error.hint.startswith("Did you mean"):
            error.hint = f"It becomes {option.member} of CreateTrainingJob, and is checked as AWS does."
        raise
    row = MEMBERS.get(option.member)
    if row is not None and row.accepted is not None and not row.noted and not is_accepted(row.accepted, plain):
        raise UnsupportedOptionError(f"{given} is not emulated.", row.instead)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):  # a value may be a password
        return "{" + ", ".join(f"{_shown(key)}: ..." for key in list(value)[:5]) + "}"
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        return f"({type(value).__name__})"
    return text if len(text) <= 100 else text[:100] + "..."


def seed_of(value: Any) -> Any:
    """Return the seed of a ShuffleConfig: this project's, the SDK's, or the member of a request."""
    return value.get("Seed") if isinstance(value, Mapping) else getattr(value, "seed", None)


def _is_path(value: Any) -> bool:
    """Return whether a value is text, or a path object, that can be a path of this machine or a URI."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        return False
    text = os.fspath(value)
    try:
        encoded = text.encode()
        Path(text).expanduser()
    except (UnicodeEncodeError, RuntimeError):  # half a character, or ~ of a user that does not exist
        return False
    if not encoded or b"\0" in encoded or len(encoded) >= _LONGEST_PATH_BYTES:
        return False
    return max(map(len, encoded.split(b"/"))) <= _LONGEST_NAME_BYTES


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "text": (lambda value: isinstance(value, str), "text"),
    "path": (_is_path, "a path that this machine can have, or a URI"),
    "paths": (
        lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_path, value)),
        "a list of paths that this machine can have",
    ),
    "texts": (
        lambda value: (
            isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)
        ),
        "a list of texts",
    ),
    "words": (
        lambda value: (
            isinstance(value, str) or (isinstance(value, Sequence) and all(isinstance(word, str) for word in value))
        ),
        "a text, or a list of texts",
    ),
    "mapping": (lambda value: isinstance(value, Mapping), "a dict"),
    "groups": (
        lambda value: (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(hasattr(group, name) for group in value for name in GROUP_ATTRIBUTES)
        ),
        "a list of InstanceGroup",
    ),
    "boolean": (lambda value: isinstance(value, bool), "True or False"),
    "level": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "a level, such as logging.INFO",
    ),
    "seed": (
        lambda value: isinstance(seed_of(value), int) and not isinstance(seed_of(value), bool),
        "a ShuffleConfig, or a dict with a whole number as Seed",
    ),
    "anything": (lambda value: True, "anything"),
}


def given(**members: Any) -> dict[str, Any]:
    """Return the members of a document that have a value."""
    return {name: value for name, value in members.items() if value is not None}
