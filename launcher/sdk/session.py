"""``Session``: where a script's buckets are, with the calls of the SageMaker SDK's class of that name.

A bucket is a bucket of S3 in every mode, so ``s3://BUCKET/KEY``, the calls of a session and a job's inputs and outputs
mean the same object. The mode says where results go when an estimator has neither a session nor an output path.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, MissingObjectError, UnsupportedNameError, UnsupportedOptionError
from launcher.jobs.store import JobStore
from launcher.settings import (
    ACCOUNT_ID,
    AWS_MODE,
    DEFAULT_BUCKET,
    LOCAL_ROLE_ARN,
    MODE_NAMES,
    REGION,
    S3Settings,
    default_mode,
    home_path,
)
from launcher.storage import Storage, storage_for, to_uri, which_s3

if TYPE_CHECKING:
    from launcher.remote.client import WireClient
    from launcher.sdk.aws_documents import AwsDocuments
    from launcher.sdk.remote_training_job import RemoteTrainingJob
    from launcher.sdk.runtime_client import RuntimeClient
    from launcher.sdk.serving_place import ServingHere
    from launcher.sdk.training_job import TrainingJob

_POLL_SECONDS = 0.5
_CLIENTS = {
    "sagemaker_client": "Use describe_training_job, stop_training_job and wait_for_job of the session.",
    "sagemaker_featurestore_runtime_client": "There is no feature store: keep features in files or objects.",
    "sagemaker_metrics_client": "Use metric_definitions; launcher.TrainingJobAnalytics reads the values.",
}


class Session:
    """Where buckets are, with the arguments and the data calls of the SDK's class of that name.

    Args:
        default_bucket: the bucket that ``default_bucket()`` makes and that an estimator of this session writes to;
            default: the name that the SDK would make.
        default_bucket_prefix: a prefix in that bucket for results, and for what ``upload_data`` puts there.
        mode: ``local``, ``s3`` or ``aws``; default: ``LAUNCHER_MODE``, else ``local``. The launcher's own. An estimator
            with a session writes to its bucket in every mode. With ``aws``, which no variable can say, training jobs
            run on Amazon SageMaker itself.
        s3_endpoint_url: which S3 ``s3://`` means: ``embedded``, ``aws`` or a URL; default: ``LAUNCHER_S3_ENDPOINT``,
            else boto3's own settings, else the embedded one. The SDK has it in ``LocalSession``.
    Raises:
        BadInputError: no such mode, or the bucket has no legal name.
        UnsupportedOptionError: one of the SDK's other arguments was given.
    """

    def __init__(
        self,
        boto_session: object | None = None,
        sagemaker_client: object | None = None,
        sagemaker_runtime_client: object | None = None,
        sagemaker_featurestore_runtime_client: object | None = None,
        default_bucket: str | None = None,
        settings: object | None = None,
        sagemaker_metrics_client: object | None = None,
        sagemaker_config: Mapping[str, Any] | None = None,
        default_bucket_prefix: str | None = None,
        *,
        mode: str | None = None,
        s3_endpoint_url: str | None = None,
    ) -> None:
        for name, value in (
            ("boto_session", boto_session),
            ("sagemaker_client", sagemaker_client),
            ("sagemaker_runtime_client", sagemaker_runtime_client),
            ("sagemaker_featurestore_runtime_client", sagemaker_featurestore_runtime_client),
            ("settings", settings),
            ("sagemaker_metrics_client", sagemaker_metrics_client),
            ("sagemaker_config", sagemaker_config),
        ):
            if value is not None:
                raise UnsupportedOptionError(
                    f"Session({name}=...) is not emulated.",
                    "Leave it out; mode, default_bucket and s3_endpoint_url say where data are.",
                )
        if mode is not None and mode not in (*MODE_NAMES, AWS_MODE):
            modes = ", ".join((*MODE_NAMES, AWS_MODE))
            raise BadInputError(f"Session(mode={mode!r}) is no mode.", f"Use one of: {modes}.")
        if mode == AWS_MODE and s3_endpoint_url not in (None, AWS_MODE):
            raise BadInputError(
                f"Session(mode='aws', s3_endpoint_url={s3_endpoint_url!r}): jobs on AWS read AWS's own S3.",
                "Leave s3_endpoint_url out.",
            )
        for name, text in (
            ("default_bucket", default_bucket),
            ("default_bucket_prefix", default_bucket_prefix),
            ("s3_endpoint_url", s3_endpoint_url),
        ):
            if text is not None and not isinstance(text, str):
                raise BadInputError(f"Session({name}={text!r}) is a {type(text).__name__}.", "Give it as text.")
        self.mode = mode or default_mode()
        self.default_bucket_prefix = default_bucket_prefix
        self._bucket = DEFAULT_BUCKET if default_bucket is None else default_bucket
        self._endpoint = s3_endpoint_url
        self._config: dict[str, Any] | None = None
        self._runtime_client: RuntimeClient | None = None
        self._wire: WireClient | None = None
        to_uri(f"s3://{self._bucket}")

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there.
        if name in _CLIENTS:
            raise UnsupportedNameError(f"Session.{name} is not emulated: nothing here talks to AWS.", _CLIENTS[name])
        if name.startswith("_"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")
        calls = ", ".join(call for call in dir(type(self)) if not call.startswith("_"))
        raise UnsupportedNameError(f"Session.{name} is not emulated.", f"A session has: {calls}.")

    @property
    def s3(self) -> S3Settings:
        """Which S3 the ``s3://`` URIs of this session's jobs mean."""
        return self.wire.place.s3 if self.mode == AWS_MODE else which_s3(self._endpoint)

    @property
    def wire(self) -> WireClient:
        """What asks AWS, for a session with ``mode="aws"`` alone. The launcher's own.

        Raises:
            UnsupportedOptionError: the session has another mode: nothing of it reaches AWS.
            SettingsError: no region is named, or no such profile is there.
        """
        if self.mode != AWS_MODE:
            raise UnsupportedOptionError(
                f"a session with mode='{self.mode}' does not talk to AWS.", 'Session(mode="aws") does.'
            )
        if self._wire is None:
            from launcher.remote.client import WireClient
            from launcher.remote.place import aws_place

            self._wire = WireClient(aws_place())
        return self._wire

    @property
    def boto_region_name(self) -> str:
        """The region of the session's S3; the local account's, unless another S3 has its own."""
        return self.s3.region or REGION

    @property
    def boto_session(self) -> Any:
        """A ``boto3.Session`` whose S3 clients and resources reach the S3 of this session.

        With the embedded S3, clients of other services reach the local AWS, whose server they start, also after it
        ended as idle. Beside another S3 they are refused: they would talk to AWS. In the mode ``aws`` they do.
        """
        from launcher.storage.boto_session import make_boto_session, plain_boto_session

        if self.mode == AWS_MODE:
            return plain_boto_session(self.s3)
        return make_boto_session(self.s3, home_path())

    @property
    def config(self) -> dict[str, Any] | None:
        """The assigned settings: of the SDK's local mode ``{"local": {"local_code": ...}}`` alone.

        With ``local_code`` the SDK's local mode does not upload the source; here it never leaves this machine.

        Raises:
            UnsupportedOptionError: another setting is assigned.
        """
        return self._config

    @config.setter
    def config(self, value: Mapping[str, Any] | None) -> None:
        local = value.get("local", {}) if isinstance(value, Mapping) else None
        if value is not None and not isinstance(local, Mapping):
            raise BadInputError(
                f"Session.config = {value!r} is no configuration.", "Give {'local': {'local_code': True}}, or nothing."
            )
        others = [name for name in value or {} if name != "local"]
        others += [f"local.{name}" for name in local or {} if name != "local_code"]
        if others:
            raise UnsupportedOptionError(
                f"Session.config: {', '.join(map(str, others))} is not emulated.",
                "Leave it out; of the SDK's settings of local mode 'local_code' alone has a meaning here.",
            )
        if not isinstance((local or {}).get("local_code", True), bool):
            raise BadInputError("Session.config: local_code is no boolean.", "Use True or False.")
        self._config = None if value is None else {**value}

    def account_id(self) -> str:
        """Return the number of the local account; in the mode ``aws`` the one that the credentials are of."""
        if self.mode == AWS_MODE:
            return str(self.wire.ask("sts", "GetCallerIdentity")["Account"])
        return ACCOUNT_ID

    def default_bucket(self) -> str:
        """Return the name of the session's bucket, which is made if it is not there; on AWS none is made.

        Raises:
            BadInputError: the S3 is AWS, and no bucket was given: names are shared by all accounts there.
        """
        if self.s3.kind == "aws" and self._bucket == DEFAULT_BUCKET:
            raise BadInputError(
                f"the default bucket's name, {DEFAULT_BUCKET}, is the local account's; on AWS it would be anybody's.",
                'Name a bucket of yours: Session(default_bucket="..."), or give output_path.',
            )
        if self.mode == AWS_MODE:
            return self._bucket  # one of the user's, and there
        self._storage.make_bucket(self.uri(self._bucket))
        return self._bucket

    def default_output_uri(self) -> str:
        """Return where an estimator of this session writes to; makes the bucket. The launcher's own."""
        return self.uri(self.default_bucket(), "/".join(_parts(self.default_bucket_prefix or "")))

    def uri(self, bucket: str, key: str = "") -> str:
        """Return the URI of a bucket, or of a key of it: ``s3://`` in both modes. The launcher's own."""
        to_uri(f"s3://{bucket}")
        return f"s3://{bucket}/{key}" if key else f"s3://{bucket}"

    @property
    def sagemaker_runtime_client(self) -> RuntimeClient:
        """A client of the session's endpoints, with the calls of boto3's ``sagemaker-runtime``."""
        if self._runtime_client is None:
            self._runtime_client = self._serving.runtime_client()
        return self._runtime_client

    def create_endpoint(
        self, endpoint_name: str, config_name: str, tags: Any = None, wait: bool = True, live_logging: bool = False
    ) -> str:
        """Make an endpoint of a configuration; return its name.

        Args:
            tags: of the endpoint.
            wait: until it answers.
            live_logging: taken and not needed: ``launcher endpoints logs -f`` follows the log.
        Raises:
            BadInputError: it cannot be made so.
            EndpointFailedError: its containers do not answer.
        """
        from launcher.sdk.endpoint_configs import tag_members

        request: dict[str, Any] = {"EndpointName": endpoint_name, "EndpointConfigName": config_name}
        if tags:
            request["Tags"] = tag_members(tags)
        self._serving.ask("CreateEndpoint", **request)
        if wait:
            self.wait_for_endpoint(endpoint_name)
        return endpoint_name

    def update_endpoint(self, endpoint_name: str, endpoint_config_name: str, wait: bool = True) -> str:
        """Have an endpoint serve another configuration, without a dropped request; return its name.

        Raises:
            BadInputError: it cannot be updated so, or not now.
            EndpointFailedError: the new containers never answered; the old ones still do.
        """
        update = self._serving.update(endpoint_name, endpoint_config_name)
        if wait:
            self._serving.wait(endpoint_name, update)
        return endpoint_name

    def wait_for_endpoint(self, endpoint: str, poll: int = 30, live_logging: bool = False) -> dict[str, Any]:
        """Wait until an endpoint answers; return what DescribeEndpoint returns.

        Args:
            endpoint: its name.
            poll: taken and not needed.
            live_logging: the same.
        Raises:
            NotFoundError: there is none.
            EndpointFailedError: it has failed.
        """
        return self._serving.wait(endpoint)

    def describe_endpoint(self, endpoint_name: str) -> dict[str, Any]:
        """Return what DescribeEndpoint returns, in boto3's types. The launcher's own.

        Raises:
            NotFoundError: there is none.
        """
        description: dict[str, Any] = self._serving.ask("DescribeEndpoint", EndpointName=endpoint_name)
        return description

    def delete_endpoint(self, endpoint_name: str) -> None:
        """End an endpoint; nothing of it is left on this machine when this returns. AWS goes on deleting.

        Raises:
            NotFoundError: there is none.
        """
        self._serving.ask("DeleteEndpoint", EndpointName=endpoint_name)

    def delete_endpoint_config(self, endpoint_config_name: str) -> None:
        """Delete an endpoint configuration; endpoints that were made of it go on.

        Raises:
            NotFoundError: there is none.
        """
        self._serving.ask("DeleteEndpointConfig", EndpointConfigName=endpoint_config_name)

    def describe_training_job(self, job_name: str) -> dict[str, Any]:
        """Return what DescribeTrainingJob returns, in boto3's types.

        Raises:
            JobNotFoundError: there is no such job.
        """
        return self._training_job(job_name).describe()

    def logs_for_job(
        self, job_name: str, wait: bool = False, poll: int = 10, log_type: str = "All", timeout: int | None = None
    ) -> None:
        """Print a job's log; with ``wait`` follow it until the job has ended.

        Args:
            job_name: the job.
            wait: go on until the job's end.
            poll: accepted and not used: lines are printed as they come.
            log_type: ``All`` or ``Training``; the logs of rules are not emulated.
            timeout: not emulated.
        Raises:
            JobNotFoundError: there is no such job.
            JobFailedError: it was waited for, and failed.
        """
        from launcher.sdk.training_job import logs_wanted

        if timeout is not None:
            raise UnsupportedOptionError(
                f"Session.logs_for_job(timeout={timeout!r}) is not emulated.", "Use max_run to end a job in time."
            )
        if logs_wanted(log_type) is not True:
            return
        job = self._training_job(job_name)
        if wait:
            job.wait(logs=log_type)
        else:
            job.print_logs()

    def wait_for_job(self, job: str, poll: int = 5) -> dict[str, Any]:
        """Wait until a job has ended; return what DescribeTrainingJob returns.

        Args:
            job: its name.
            poll: accepted and not used.
        Raises:
            JobNotFoundError: there is no such job.
            JobFailedError: it failed.
        """
        handle = self._training_job(job)
        handle.wait(logs="None")
        return handle.describe()

    def stop_training_job(self, job_name: str) -> None:
        """Stop a job and wait until it has stopped; nothing happens when it has already ended.

        Raises:
            JobNotFoundError: there is no such job.
        """
        self._training_job(job_name).stop()

    def upload_data(
        self,
        path: str | os.PathLike[str],
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Callable[[int], object] | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> str:
        """Copy a file, or all files of a folder, to keys that begin with ``key_prefix``.

        Args:
            path: on this machine.
            bucket: default: the session's, with ``default_bucket_prefix`` before ``key_prefix``.
            key_prefix: without a final '/'.
            callback: gets the size in bytes of each file when all have been copied.
            extra_args: not emulated.
        Returns:
            The URI to give to ``fit``: of the one file, or of the prefix.
        Raises:
            BadInputError: there is nothing to upload at ``path``.
        """
        _refuse_extra_args("upload_data", extra_args)
        source = Path(path).expanduser()
        if bucket is None:
            bucket = self.default_bucket()
            key_prefix = "/".join([*_parts(self.default_bucket_prefix or ""), *_parts(key_prefix)])
        if source.is_dir():
            # As the SDK: what a link points to goes under the link's name; links to folders are not followed.
            paths = sorted(Path(folder, name) for folder, _, names in os.walk(source) for name in names)
            files = {"/".join([*_parts(key_prefix), path.relative_to(source).as_posix()]): path for path in paths}
            uri = self.uri(bucket, "/".join(_parts(key_prefix)))
        else:
            files = {"/".join([*_parts(key_prefix), source.name]): source}
            uri = self.uri(bucket, next(iter(files)))
        if not files or not all(path.is_file() for path in files.values()):
            broken = next((path for path in files.values() if not path.is_file()), source)
            raise BadInputError(f"upload_data: {broken} is no file, nor a folder with files.", "Give what is there.")
        self._storage.upload_all({file: self.uri(bucket, key) for key, file in files.items()})
        if callback is not None:
            for file in files.values():
                callback(file.stat().st_size)
        return uri

    def download_data(
        self,
        path: str | os.PathLike[str],
        bucket: str,
        key_prefix: str = "",
        extra_args: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Copy every object whose key begins with ``key_prefix`` to the folder ``path``.

        Returns:
            The paths of the files; none when there is no such key.
        Raises:
            BadInputError: a key would become a file outside ``path``.
        """
        _refuse_extra_args("download_data", extra_args)
        folder = Path(path).expanduser()
        targets = {
            key: folder / _path_below(key, key_prefix)
            for key in self.list_s3_files(bucket, key_prefix)
            if key[-1] != "/"
        }
        inside = os.path.abspath(folder)  # noqa: PTH100 - links stay as the user named them
        for key, target in targets.items():
            if not Path(os.path.normpath(target)).is_relative_to(os.path.normpath(folder)):
                raise BadInputError(
                    f"download_data: the key '{key}' would leave {inside}.", "Name a longer key_prefix."
                )
        self._storage.download_all({self.uri(bucket, key): target for key, target in targets.items()})
        return [str(target) for target in targets.values()]

    def read_s3_file(self, bucket: str, key_prefix: str) -> str:
        """Return the text of the one object whose key is ``key_prefix``.

        Raises:
            StorageError: there is no such object.
        """
        with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
            self._storage.download_all({self.uri(bucket, key_prefix): Path(folder, "object")})
            return Path(folder, "object").read_text(encoding="utf-8")

    def list_s3_files(self, bucket: str, key_prefix: str) -> list[str]:
        """Return all keys that begin with ``key_prefix``, in the order of their UTF-8 bytes.

        Raises:
            StorageError: there is no such bucket.
        """
        return list(self._storage.keys(self.uri(bucket), key_prefix))

    def job_on_aws(self, name: str) -> RemoteTrainingJob:
        """Return a training job on AWS, whoever began it. The launcher's own.

        Raises:
            UnsupportedOptionError: the session's mode is not ``aws``.
            JobNotFoundError: there is no such job.
        """
        from launcher.sdk.remote_training_job import RemoteTrainingJob

        return RemoteTrainingJob(name, self.wire)

    def _training_job(self, name: str) -> TrainingJob:
        if self.mode == AWS_MODE:
            return self.job_on_aws(name)
        from launcher.sdk.training_job import TrainingJob

        return TrainingJob(name)

    def _refuse_aws(self, name: str) -> None:
        """Refuse to do something here that was asked for on AWS.

        Raises:
            UnsupportedOptionError: the session's mode is ``aws``.
        """
        if self.mode == AWS_MODE:
            raise UnsupportedOptionError(
                f"{name} is not there in the mode 'aws': it would happen on this machine.",
                "On AWS, use boto3 by session.boto_session, or the SageMaker SDK; here, a session of another mode.",
            )

    @property
    def _serving(self) -> ServingHere:
        """Where models and endpoints are."""
        from launcher.sdk.serving_place import ServingHere, ServingOnAws

        return ServingOnAws(self._documents) if self.mode == AWS_MODE else ServingHere()

    @property
    def _documents(self) -> AwsDocuments:
        """What sends documents to AWS, for a session with ``mode="aws"`` alone."""
        from launcher.sdk.aws_documents import AwsDocuments

        return AwsDocuments(self.wire, self.default_bucket)

    def _refuse_runtime(self, runtime: object) -> None:
        """Refuse a runtime of this machine for something on AWS.

        Raises:
            BadInputError: one is given, and the session's mode is ``aws``.
        """
        if self.mode == AWS_MODE and runtime is not None:
            raise BadInputError(
                f"runtime={runtime!r} says how this machine runs a job, and mode='aws' that AWS does.",
                "Leave runtime out.",
            )

    @property
    def _storage(self) -> Storage:
        return self._storage_of(self.uri(self._bucket))

    def _storage_of(self, uri: str) -> Storage:
        """Return what reads and writes a URI, with the session's S3."""
        if self.mode == AWS_MODE and uri.startswith("s3://"):
            return self.wire.storage
        return storage_for(uri, self.s3 if uri.startswith("s3://") else None)

    def __repr__(self) -> str:
        return f"Session(mode={self.mode!r}, default_bucket={self._bucket!r})"


class LocalSession(Session):
    """A session in local mode, with the arguments of the SDK's class of that name.

    Args:
        disable_local_code: accepted: the source never leaves this machine.
        default_bucket, default_bucket_prefix, s3_endpoint_url: as ``Session`` takes them.
    Raises:
        UnsupportedOptionError: a boto3 session or a configuration was given.
    """

    def __init__(
        self,
        boto_session: object | None = None,
        default_bucket: str | None = None,
        s3_endpoint_url: str | None = None,
        disable_local_code: bool = False,
        sagemaker_config: Mapping[str, Any] | None = None,
        default_bucket_prefix: str | None = None,
    ) -> None:
        super().__init__(
            boto_session,
            default_bucket=default_bucket,
            sagemaker_config=sagemaker_config,
            default_bucket_prefix=default_bucket_prefix,
            mode="local",
            s3_endpoint_url=s3_endpoint_url,
        )


def check_session(session: object | None, owner: str) -> Session | None:
    """Return ``session`` if it is one of ours, or None.

    Raises:
        BadInputError: it is something else, such as a session of the SageMaker SDK.
    """
    if session is None or isinstance(session, Session):
        return session
    kind = f"{type(session).__module__}.{type(session).__qualname__}"
    raise BadInputError(
        f"{owner}(sagemaker_session=...) got a {kind}, which talks to AWS.",
        'Give a launcher.Session, for example Session(mode="s3"), or leave it out.',
    )


def get_execution_role(sagemaker_session: Session | None = None, use_default: bool = False) -> str:
    """Return the ARN of the local account's role; no permission is checked here, so any other will do."""
    return LOCAL_ROLE_ARN


@dataclass(frozen=True)
class ObjectName:
    """What ``fetch_only`` of ``wait_for_s3_object`` is asked about."""

    bucket_name: str
    key: str


def wait_for_s3_object(
    s3_bucket: str,
    key: str,
    local_dir: str | os.PathLike[str],
    local_prefix: str = "",
    aws_account: str | None = None,
    aws_region: str | None = None,
    timeout: float = 1200,
    limit: int = 20,
    fetch_only: Callable[[ObjectName], bool] | None = None,
    training_job_name: str | None = None,
    *,
    sagemaker_session: Session | None = None,
) -> list[str]:
    """Wait until a key that begins with ``key`` is there; copy these objects, as SageMaker's RL notebooks do.

    Args:
        s3_bucket: a bucket of the session.
        key: a key, or the beginning of several.
        local_dir: gets the objects, each under the last part of its key.
        local_prefix: a folder below ``local_dir``.
        aws_account: accepted and not used.
        aws_region: accepted and not used.
        timeout: in seconds.
        limit: the most objects to copy; of more than this, the last ones are copied.
        fetch_only: tells which objects count; it gets an ``ObjectName``.
        training_job_name: the job that writes the object; when it ends without writing it, waiting is an error.
        sagemaker_session: default: ``Session()``. The launcher's own.
    Returns:
        The paths of the files.
    Raises:
        MissingObjectError: the time is up, or the job has ended; it is a FileNotFoundError as well.
        JobNotFoundError: there is no such job.
    """
    session = sagemaker_session or Session()
    uri = session.uri(s3_bucket, key)
    jobs = JobStore(home_path())
    deadline = time.monotonic() + timeout
    waiting = False
    while True:
        # The job's end is looked at first: what it wrote is there before it has ended.
        record = jobs.load(training_job_name) if training_job_name else None
        names = [ObjectName(s3_bucket, name) for name in session.list_s3_files(s3_bucket, key) if name[-1] != "/"]
        wanted = [name for name in names if fetch_only is None or fetch_only(name)]
        if wanted:
            break
        if record is not None and record.terminal:
            spec = record.training_spec
            raise MissingObjectError(
                f"job '{training_job_name}' is {record.status} and left no {uri}. {record.failure_reason}".strip(),
                f"It wrote below {spec.output_uri.rstrip('/')}/{training_job_name}/",
            )
        if time.monotonic() > deadline:
            raise MissingObjectError(f"{uri} did not appear within {timeout:g} seconds.", "Check bucket and key.")
        if not waiting:
            print(f"Waiting for {uri}", flush=True)
            waiting = True
        time.sleep(_POLL_SECONDS)
    if len(wanted) > limit:
        print(f"Only copying {limit} of {len(wanted)} files", flush=True)
    folder = Path(local_dir, local_prefix).expanduser()
    targets = {name: folder / name.key.rsplit("/", 1)[-1] for name in wanted[-limit:]}
    session._storage.download_all({session.uri(s3_bucket, name.key): target for name, target in targets.items()})
    return [str(target) for target in targets.values()]


def _parts(key_prefix: str) -> list[str]:
    return [key_prefix.rstrip("/")] if key_prefix.rstrip("/") else []


def _path_below(key: str, prefix: str) -> str:
    """Return where a key goes below the folder that it is copied to, as the SDK places it."""
    if key == prefix or os.path.splitext(prefix)[1]:  # noqa: PTH122 - of a key, not of a path
        return key.rsplit("/", 1)[-1]
    folder = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    return key.removeprefix(folder) if key.startswith(folder) else key[prefix.rfind("/") + 1 :]


def _refuse_extra_args(method: str, extra_args: Mapping[str, Any] | None) -> None:
    if extra_args:
        raise UnsupportedOptionError(
            f"Session.{method}(extra_args={dict(extra_args)!r}) is not emulated.", "Leave it out, or use boto3 itself."
        )
