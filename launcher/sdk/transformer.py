"""``Transformer``: the SDK's batch transform, as a translator to CreateTransformJob."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from launcher.errors import BadInputError
from launcher.jobs.store import ModelStore, TransformStore
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.requests.names import make_job_name
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import s3_member
from launcher.requests.transform import OPERATION, transform_request
from launcher.runtimes import Runtime
from launcher.sdk.job_results import as_location
from launcher.sdk.options import check_options, given, in_sdk_words
from launcher.sdk.serving_options import TRANSFORM_OPTIONS, TRANSFORMER_OPTIONS
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob
from launcher.sdk.transform_job import RemoteTransformJob, TransformJob
from launcher.settings import AWS_MODE, default_runtime, home_path
from launcher.storage import to_uri
from launcher.terminal import say
from launcher.transform.submission import TransformPlan, accept_transform, plan_transform, submit_transform


class Transformer:
    """Transforms data by a model, with the arguments that the SDK has.

    Args:
        model_name: the model, as ``Model.create`` or ``Estimator.create_model`` made it.
        instance_count: containers among which the objects are shared out.
        instance_type: kept and described; the job uses this machine as it is.
        strategy: ``SingleRecord`` or ``MultiRecord``; default: what the container says.
        assemble_with: ``Line`` puts a newline after each answer.
        output_path: where outputs go; default: a folder of the job, or of the session's bucket.
        accept: the type of the answers.
        max_concurrent_transforms: requests under way at once; default: what the container says.
        max_payload: of a request, in MB; 0 sets no limit.
        tags: kept with each job.
        env: variables for the container besides the model's own.
        base_transform_job_name: the beginning of generated names.
        sagemaker_session: default: ``Session(mode=mode)``.
        runtime: this project's own: ``auto``, ``docker`` or ``process``.
        mode: this project's own: ``local``, ``s3`` or ``aws``, where no session says it.
    """

    def __init__(
        self,
        model_name: str,
        instance_count: int = 1,
        instance_type: str = "local",
        strategy: str | None = None,
        assemble_with: str | None = None,
        output_path: str | os.PathLike[str] | None = None,
        output_kms_key: Any = None,
        accept: str | None = None,
        max_concurrent_transforms: int | None = None,
        max_payload: int | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        env: Mapping[str, str] | None = None,
        base_transform_job_name: str | None = None,
        sagemaker_session: Session | None = None,
        volume_kms_key: Any = None,
        *,
        runtime: str | Runtime | None = None,
        mode: str | None = None,
    ) -> None:
        options = {**locals()}
        named = {option.name: options[option.name] for option in TRANSFORMER_OPTIONS}
        check_options(TRANSFORMER_OPTIONS, named, "Transformer")
        if sagemaker_session is not None:
            check_session(sagemaker_session, "Transformer")
        self.model_name = model_name
        self.instance_count = instance_count
        self.instance_type = instance_type
        self.strategy = strategy
        self.assemble_with = assemble_with
        self._output_path = output_path
        self.accept = accept
        self.max_concurrent_transforms = max_concurrent_transforms
        self.max_payload = max_payload
        self.tags = tags
        self.env = env
        self.base_transform_job_name = base_transform_job_name
        self.sagemaker_session = sagemaker_session or Session(mode=mode)
        self.sagemaker_session._refuse_runtime(runtime)
        self._session_given = sagemaker_session is not None
        self._runtime = runtime
        self.latest_transform_job: TransformJob | None = None
        self._current_job_name: str | None = None
        self._written_to: str | None = None

    @property
    def output_path(self) -> str | None:
        """Where outputs go: what was given, else the place of the latest job; None before the first."""
        return to_uri(os.fspath(self._output_path)) if self._output_path is not None else self._written_to

    @output_path.setter
    def output_path(self, path: str | os.PathLike[str] | None) -> None:
        check_options(TRANSFORMER_OPTIONS, {"output_path": path}, "Transformer")
        self._output_path = path

    def transform(
        self,
        data: str | os.PathLike[str] | TrainingJob,
        data_type: str = "S3Prefix",
        content_type: str | None = None,
        compression_type: str | None = None,
        split_type: str | None = None,
        job_name: str | None = None,
        input_filter: str | None = None,
        output_filter: str | None = None,
        join_source: str | None = None,
        experiment_config: Any = None,
        model_client_config: Mapping[str, int] | None = None,
        batch_data_capture_config: Any = None,
        wait: bool = True,
        logs: bool = True,
        *,
        resume: bool = False,
    ) -> TransformJob:
        """Transform data; with ``wait``, return when the job has ended.

        Args:
            data: a path, a ``file://`` or an ``s3://`` URI: a file, a folder, a prefix or a manifest. A ``TrainingJob``
                stands for its output data.
            data_type: ``S3Prefix`` or ``ManifestFile``.
            content_type: of the records, told to the container.
            compression_type: ``Gzip`` decompresses the input.
            split_type: ``None``, ``Line``, ``RecordIO`` or ``TFRecord``.
            job_name: default: made from the time.
            input_filter, output_filter: JSONPath as SageMaker has it.
            join_source: ``Input`` puts each record beside its answer.
            experiment_config: not emulated.
            model_client_config: ``InvocationsTimeoutInSeconds`` and ``InvocationsMaxRetries``.
            batch_data_capture_config: not emulated.
            wait: until it has ended; a process of its own drives it otherwise.
            logs: whether to print what the containers print.
            resume: this project's own: outputs that are there already are left as they are.
        Raises:
            BadInputError: the job cannot be run; nothing has been recorded.
            JobFailedError: it failed.
        """
        options = {**locals()}
        named = {option.name: options[option.name] for option in TRANSFORM_OPTIONS}
        job = self.submit(**named, resume=resume)
        if not wait or self.sagemaker_session.mode == AWS_MODE:
            say(job.announcement)
        if wait:
            job.wait(logs=logs)
        else:
            job.detach()
        return job

    def submit(self, data: str | os.PathLike[str] | TrainingJob, **options: Any) -> TransformJob:
        """Record a job without running it; arguments as ``request`` takes them. This project's own.

        On AWS it runs from then on.
        """
        request, session = self._document(data, **options), self.sagemaker_session
        name = str(request["TransformJobName"])
        with in_sdk_words((*TRANSFORMER_OPTIONS, *TRANSFORM_OPTIONS)):
            if session.mode == AWS_MODE:
                session._documents.send(OPERATION, request)
                self.latest_transform_job = RemoteTransformJob(name, session.wire)
            else:
                store, runtime = TransformStore(home_path()), self._own_runtime
                submit_transform(request, store, ModelStore(store.home), runtime)
                self.latest_transform_job = TransformJob(name, store, runtime)
        self._current_job_name = name
        self._written_to = self.latest_transform_job.output_path
        return self.latest_transform_job

    def request(self, data: str | os.PathLike[str] | TrainingJob, *given: Any, **options: Any) -> dict[str, Any]:
        """Return the CreateTransformJob document that ``transform`` would submit; this project's own.

        Args:
            given, options: of ``transform``, but ``wait`` and ``logs``.
        Raises:
            BadInputError: it is for AWS, which would refuse it.
        """
        document, session = self._document(data, *given, **options), self.sagemaker_session
        if session.mode != AWS_MODE:
            return document
        with in_sdk_words((*TRANSFORMER_OPTIONS, *TRANSFORM_OPTIONS)):
            return dict(session._documents.prepared(OPERATION, document).request)

    def _document(
        self,
        data: str | os.PathLike[str] | TrainingJob,
        data_type: str = "S3Prefix",
        content_type: str | None = None,
        compression_type: str | None = None,
        split_type: str | None = None,
        job_name: str | None = None,
        input_filter: str | None = None,
        output_filter: str | None = None,
        join_source: str | None = None,
        experiment_config: Any = None,
        model_client_config: Mapping[str, int] | None = None,
        batch_data_capture_config: Any = None,
        *,
        resume: bool = False,
    ) -> dict[str, Any]:
        location: str | os.PathLike[str] = as_location(data)
        options = {**locals(), "data": location}
        check_options(
            TRANSFORM_OPTIONS,
            {option.name: options[option.name] for option in TRANSFORM_OPTIONS},
            "Transformer.transform",
        )
        name = job_name or make_job_name(self.base_transform_job_name or self.model_name)
        uri, output_uri = to_uri(os.fspath(location)), self._output_uri(name)
        session = self.sagemaker_session
        uses_s3 = session.mode == "s3" or any(text.startswith("s3://") for text in (uri, output_uri))
        runtime = self._own_runtime
        request: dict[str, Any] = {
            "TransformJobName": name,
            "ModelName": self.model_name,
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": data_type, "S3Uri": uri}},
                **given(ContentType=content_type, CompressionType=compression_type, SplitType=split_type),
            },
            "TransformOutput": {
                "S3OutputPath": output_uri,
                **given(Accept=self.accept, AssembleWith=self.assemble_with),
            },
            "TransformResources": {"InstanceType": self.instance_type, "InstanceCount": self.instance_count},
            **given(
                MaxConcurrentTransforms=self.max_concurrent_transforms,
                MaxPayloadInMB=self.max_payload,
                BatchStrategy=self.strategy,
                ModelClientConfig=None if model_client_config is None else dict(model_client_config),
                Environment=None if self.env is None else dict(self.env),
                Tags=None if self.tags is None else [dict(tag) for tag in self.tags],
            ),
            OWN_MEMBER: given(
                Runtime=runtime.name if runtime else self._runtime or default_runtime(),
                S3=s3_member(session.s3.to_dict()) if uses_s3 else None,
                Resume=True if resume else None,
            ),
        }
        if processing := given(InputFilter=input_filter, OutputFilter=output_filter, JoinSource=join_source):
            request["DataProcessing"] = processing
        return request

    def plan(self, data: str | os.PathLike[str] | TrainingJob, **options: Any) -> TransformPlan:
        """Return everything that ``transform`` would run, read and write; this project's own."""
        self.sagemaker_session._refuse_aws("Transformer.plan")
        store = TransformStore(home_path())
        with in_sdk_words((*TRANSFORMER_OPTIONS, *TRANSFORM_OPTIONS)):
            job = accept_transform(self._document(data, **options), ModelStore(store.home), self._own_runtime)
            return plan_transform(job, store)

    def wait(self, logs: bool = True) -> None:
        """Wait for the latest job.

        Raises:
            BadInputError: there is none.
            JobFailedError: it failed.
        """
        self._latest.wait(logs=logs)

    def stop_transform_job(self, wait: bool = True) -> None:
        """Stop the latest job.

        Args:
            wait: until it has stopped.
        """
        self._latest.stop(wait)

    def stop(self) -> None:
        """Stop the latest job, and wait until it has stopped."""
        self._latest.stop()

    def delete_model(self) -> None:
        """Delete the model, as DeleteModel does; jobs that use it go on."""
        self.sagemaker_session._serving.ask("DeleteModel", ModelName=self.model_name)

    @classmethod
    def attach(cls, transform_job_name: str, sagemaker_session: Session | None = None) -> Self:
        """Return a transformer with the options of an existing job, begun by any process.

        Args:
            transform_job_name: the job.
            sagemaker_session: for its next jobs; default: the S3 of the job.
        Raises:
            JobNotFoundError: there is no such job.
        """
        job, spec, runtime = _attached(transform_job_name, sagemaker_session)
        request = transform_request(spec)
        s3 = request[OWN_MEMBER].get("S3")
        session = sagemaker_session or Session(
            mode="s3" if s3 else "local", s3_endpoint_url=s3.get("EndpointUrl", s3["Kind"]) if s3 else None
        )
        transformer = cls(
            spec.model_name,
            spec.instance_count,
            spec.instance_type,
            strategy=spec.batch_strategy,
            assemble_with=None if spec.assemble_with == "None" else spec.assemble_with,
            output_path=spec.output_uri,
            accept=spec.accept,
            max_concurrent_transforms=spec.max_concurrent_transforms,
            max_payload=spec.max_payload_mb,
            tags=request["Tags"] or None,
            env=dict(spec.environment) or None,
            sagemaker_session=session,
            runtime=runtime,
        )
        transformer.latest_transform_job = job
        transformer._current_job_name = transform_job_name
        return transformer

    @property
    def _own_runtime(self) -> Runtime | None:
        return self._runtime if isinstance(self._runtime, Runtime) else None

    @property
    def _latest(self) -> TransformJob:
        if self.latest_transform_job is None:
            raise BadInputError("this transformer has no job yet.", "Call transform() first, or attach().")
        return self.latest_transform_job

    def _output_uri(self, name: str) -> str:
        if self._output_path is not None:
            return to_uri(os.fspath(self._output_path))
        if self._session_given or self.sagemaker_session.mode != "local":
            return f"{self.sagemaker_session.default_output_uri()}/{name}"
        return to_uri(str(TransformStore(home_path()).folder(name).path / "output"))


def _attached(name: str, session: Session | None) -> tuple[TransformJob, TransformJobSpec, str | None]:
    """Return an existing job, what it was asked to do, and its runtime; None for one on AWS."""
    if session is not None and session.mode == AWS_MODE:
        job = RemoteTransformJob(name, session.wire)
        return job, job.spec, None
    store = TransformStore(home_path())
    spec = store.load(name).transform_spec
    return TransformJob(name, store), spec, spec.runtime
