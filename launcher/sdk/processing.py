"""``Processor`` and ``ScriptProcessor``: the SDK's processing jobs, as translators to CreateProcessingJob."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import BadInputError, JobExistsError, SourceError
from launcher.jobs.processing_spec import BUNDLED_IMAGE, CODE_PATH
from launcher.jobs.store import ProcessingStore
from launcher.paths import checked_path
from launcher.processing_jobs.submission import (
    AcceptedProcessing,
    accept_processing,
    plan_processing,
    record_processing,
)
from launcher.requests.names import make_job_name
from launcher.requests.processing import OPERATION
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import DEFAULT_VOLUME_GB, s3_member
from launcher.running.plan import RunPlan
from launcher.runtimes import Runtime
from launcher.sdk.options import check_options, given, in_sdk_words
from launcher.sdk.processing_inputs import NetworkConfig, ProcessingInput, ProcessingOutput
from launcher.sdk.processing_job import ProcessingJob, RemoteProcessingJob
from launcher.sdk.processing_options import PROCESSOR_OPTIONS, PROCESSOR_RUN_OPTIONS
from launcher.sdk.roles import role_in
from launcher.sdk.session import Session, check_session
from launcher.settings import AWS_MODE, default_runtime, home_path
from launcher.storage import Storage, recorded_storage, to_uri
from launcher.terminal import say


@dataclass(frozen=True)
class Upload:
    """A file of a job's program, put in its place before the job is recorded.

    Attributes:
        path: a file of this machine: the file itself, or for one that is made then, what it is made of.
        make: writes the file to the path that it is given; None takes ``path``.
    """

    path: Path
    make: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Program:
    """What a job runs: a command, and the files that bring it.

    Attributes:
        command: ContainerEntrypoint; empty runs the image's own.
        uploads: files by their names below ``/opt/ml/processing/input``, a folder and a name.
        code_uri: of a script that lies somewhere already; empty for none.
        base_name: the beginning of generated names, where neither image nor user gives one.
    """

    command: tuple[str, ...] = ()
    uploads: tuple[tuple[str, Upload], ...] = ()
    code_uri: str = ""
    base_name: str = "processing"


class Processor:
    """Runs an image over data, with the arguments that the SDK has.

    Args:
        role: kept and described.
        image_uri: an image; None takes the bundled one, or on the process runtime this machine's Python.
        instance_count: hosts; None is 1.
        instance_type: kept and told to the job; None is ``local``.
        entrypoint: the command, a list of words; None runs the image's own.
        volume_size_in_gb, volume_kms_key, output_kms_key: kept; the job has this machine's disk.
        max_runtime_in_seconds: the job is stopped after this time; None is a day.
        base_job_name: the beginning of generated names.
        sagemaker_session: default: ``Session(mode=mode)``.
        env: variables for the job.
        tags: kept with each job.
        network_config: ``NetworkConfig(enable_network_isolation=True)`` takes the network away.
        runtime: this project's own: ``auto``, ``docker``, ``process`` or ``slurm``.
        mode: this project's own: ``local``, ``s3`` or ``aws``, where no session says it.

    Attributes:
        jobs: the jobs that were run.
        latest_job: the last of them; None before the first.
        arguments: those of the last job.
    """

    def __init__(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        entrypoint: Sequence[str] | None = None,
        volume_size_in_gb: int = DEFAULT_VOLUME_GB,
        volume_kms_key: Any = None,
        output_kms_key: Any = None,
        max_runtime_in_seconds: int | None = None,
        base_job_name: str | None = None,
        sagemaker_session: Session | None = None,
        env: Mapping[str, str] | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        network_config: NetworkConfig | None = None,
        *,
        runtime: str | Runtime | None = None,
        mode: str | None = None,
    ) -> None:
        options, owner = {**locals()}, type(self).__name__
        check_options(PROCESSOR_OPTIONS, {row.name: options[row.name] for row in PROCESSOR_OPTIONS}, owner)
        if network_config is not None and not isinstance(network_config, NetworkConfig):
            raise BadInputError(
                f"{owner}(network_config=...) is no NetworkConfig.", "Use launcher.network.NetworkConfig."
            )
        if sagemaker_session is not None:
            check_session(sagemaker_session, owner)
        self.role = role
        self.image_uri = image_uri
        self.instance_count = 1 if instance_count is None else instance_count
        self.instance_type = instance_type or "local"
        self.entrypoint = entrypoint
        self.volume_size_in_gb = volume_size_in_gb
        self.volume_kms_key = volume_kms_key
        self.output_kms_key = output_kms_key
        self.max_runtime_in_seconds = max_runtime_in_seconds
        self.base_job_name = base_job_name
        self.sagemaker_session = sagemaker_session or Session(mode=mode)
        self.sagemaker_session._refuse_runtime(runtime)
        self._session_given = sagemaker_session is not None
        self.env = env
        self.tags = tags
        self.network_config = network_config
        self._runtime = runtime
        self.jobs: list[ProcessingJob] = []
        self.latest_job: ProcessingJob | None = None
        self.arguments: Sequence[str] | None = None
        self._current_job_name: str | None = None

    def run(
        self,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        arguments: Sequence[str] | None = None,
        wait: bool = True,
        logs: bool = True,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
        kms_key: Any = None,
    ) -> ProcessingJob:
        """Run a job; with ``wait``, return when it has ended.

        Args:
            inputs: what the job reads.
            outputs: what is taken from it.
            arguments: the words after the command.
            wait: until it has ended; a process of its own drives it otherwise.
            logs: whether to print what the job prints; as in the SDK, False where ``wait`` is.
            job_name: default: made from the time.
            experiment_config: kept and described.
            kms_key: not emulated.
        Raises:
            BadInputError: the job cannot be run; nothing has been recorded.
            JobFailedError: it failed.
        """
        return self._run(
            self._program(), inputs, outputs, arguments, job_name, experiment_config, kms_key, wait=wait, logs=logs
        )

    def _program(self) -> Program:
        return Program(tuple(self.entrypoint or ()))

    def _run(
        self,
        program: Program,
        inputs: Sequence[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput] | None,
        arguments: Sequence[str] | None,
        job_name: str | None,
        experiment_config: Mapping[str, str] | None,
        kms_key: Any,
        *,
        wait: bool,
        logs: bool,
    ) -> ProcessingJob:
        if logs and not wait:
            raise BadInputError(
                "Logs can only be shown if wait is set to True.", "Set wait=True, or logs=False as well."
            )
        check_options(PROCESSOR_RUN_OPTIONS, {"kms_key": kms_key}, f"{type(self).__name__}.run")
        job = self.submit(program, inputs, outputs, arguments, job_name, experiment_config)
        if not wait or self.sagemaker_session.mode == AWS_MODE:
            say(job.announcement)
        if wait:
            job.wait(logs=logs)
        else:
            job.detach()
        return job

    def submit(
        self,
        program: Program | None = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        arguments: Sequence[str] | None = None,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
    ) -> ProcessingJob:
        """Put the program in its place and record a job without running it. This project's own.

        On AWS it runs from then on.

        Raises:
            BadInputError: the job cannot be run; nothing has been recorded.
        """
        chosen = program or self._program()
        if self.sagemaker_session.mode == AWS_MODE:
            document = self._document(chosen, inputs, outputs, arguments, job_name, experiment_config)
            job = self._sent(document, chosen)
        else:
            job = self._recorded(chosen, inputs, outputs, arguments, job_name, experiment_config)
        self.latest_job = job
        self.jobs.append(job)
        self._current_job_name, self.arguments = job.name, arguments
        return job

    def _sent(self, document: Mapping[str, Any], program: Program) -> ProcessingJob:
        session = self.sagemaker_session
        with in_sdk_words((*PROCESSOR_OPTIONS, *PROCESSOR_RUN_OPTIONS)):
            session._documents.prepared(OPERATION, document)  # checks it, before anything is uploaded
            with tempfile.TemporaryDirectory(prefix="launcher-source-") as scratch:
                for uri, upload in self._uploads(document, program).items():
                    _put(upload, uri, session.wire.storage, Path(scratch, "source"))
            session._documents.send(OPERATION, document)
        return RemoteProcessingJob(document["ProcessingJobName"], session.wire)

    def _recorded(
        self,
        chosen: Program,
        inputs: Sequence[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput] | None,
        arguments: Sequence[str] | None,
        job_name: str | None,
        experiment_config: Mapping[str, str] | None,
    ) -> ProcessingJob:
        store = ProcessingStore(home_path())
        while True:
            request = self._document(chosen, inputs, outputs, arguments, job_name, experiment_config)
            job, uploads = self._accepted(request, chosen, store)
            try:
                with store.claim(job.spec.job_name) as claim:
                    for uri, upload in uploads.items():
                        scratch = claim.folder.path / f"source.{uri.rpartition('/')[2]}"
                        _put(upload, uri, recorded_storage(uri, job.spec.s3), scratch)
                    record_processing(job, claim)
                break
            except JobExistsError:
                if job_name is not None:
                    raise
                time.sleep(0.001)  # another job was named in the same millisecond: the next one is free
        for line in job.warnings:
            say(f"warning: {line}")
        return ProcessingJob(job.spec.job_name, store, self._own_runtime)

    def plan(self, program: Program | None = None, **options: Any) -> RunPlan:
        """Return everything that ``run`` would run, read and write; arguments as ``request`` takes them.

        This project's own.

        Raises:
            BadInputError: the job cannot be run.
        """
        self.sagemaker_session._refuse_aws(f"{type(self).__name__}.plan")
        store, chosen = ProcessingStore(home_path()), program or self._program()
        job, uploads = self._accepted(self._document(chosen, **options), chosen, store)
        return plan_processing(job, store, to_be_written={uri: upload.path for uri, upload in uploads.items()})

    def request(self, program: Program | None = None, *given: Any, **options: Any) -> dict[str, Any]:
        """Return the CreateProcessingJob document that ``run`` would submit; this project's own.

        Args:
            given, options: ``inputs``, ``outputs``, ``arguments``, ``job_name`` and ``experiment_config`` of ``run``.
        Raises:
            BadInputError: it is for AWS, which would refuse it.
        """
        document, session = self._document(program or self._program(), *given, **options), self.sagemaker_session
        if session.mode != AWS_MODE:
            return document
        with in_sdk_words((*PROCESSOR_OPTIONS, *PROCESSOR_RUN_OPTIONS)):
            return dict(session._documents.prepared(OPERATION, document).request)

    def _document(
        self,
        chosen: Program,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        arguments: Sequence[str] | None = None,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        options = {"job_name": job_name, "arguments": arguments, "experiment_config": experiment_config}
        check_options(PROCESSOR_RUN_OPTIONS, options, f"{type(self).__name__}.run")
        _check_types(inputs, ProcessingInput, "inputs")
        _check_types(outputs, ProcessingOutput, "outputs")
        name = job_name or make_job_name(self._base_name(chosen))
        results, programs = self._places(name)
        bringing = [ProcessingInput(chosen.code_uri, CODE_PATH, "code")] if chosen.code_uri else []
        for path, _ in chosen.uploads:
            folder = path.partition("/")[0]
            destination = f"{CODE_PATH.rpartition('/')[0]}/{folder}"
            bringing.append(ProcessingInput(f"{programs}/{path}", destination, folder))
        members = [given.to_member(number) for number, given in enumerate([*(inputs or ()), *bringing], 1)]
        taken = [output.to_member(number, results) for number, output in enumerate(outputs or (), 1)]
        uris = [member["S3Input"]["S3Uri"] for member in members] + [member["S3Output"]["S3Uri"] for member in taken]
        session = self.sagemaker_session
        uses_s3 = session.mode == "s3" or any(uri.startswith("s3://") for uri in uris)
        runtime = self._own_runtime
        return {
            "ProcessingJobName": name,
            "AppSpecification": given(
                ImageUri=self.image_uri or BUNDLED_IMAGE,
                ContainerEntrypoint=list(chosen.command) or None,
                ContainerArguments=list(arguments or ()) or None,
            ),
            "ProcessingResources": {
                "ClusterConfig": given(
                    InstanceCount=self.instance_count,
                    InstanceType=self.instance_type,
                    VolumeSizeInGB=self.volume_size_in_gb,
                    VolumeKmsKeyId=self.volume_kms_key,
                )
            },
            "RoleArn": role_in(session.mode, self.role),
            **given(
                ProcessingInputs=members or None,
                ProcessingOutputConfig=given(Outputs=taken, KmsKeyId=self.output_kms_key)
                if taken or self.output_kms_key
                else None,
                Environment=None if self.env is None else dict(self.env),
                Tags=None if self.tags is None else [dict(tag) for tag in self.tags],
                ExperimentConfig=None if experiment_config is None else dict(experiment_config),
                NetworkConfig=None if self.network_config is None else self.network_config.to_member(),
                StoppingCondition=None
                if self.max_runtime_in_seconds is None
                else {"MaxRuntimeInSeconds": self.max_runtime_in_seconds},
            ),
            OWN_MEMBER: given(
                Runtime=runtime.name if runtime else self._runtime or default_runtime(),
                S3=s3_member(session.s3.to_dict()) if uses_s3 else None,
            ),
        }

    def _accepted(
        self, request: Mapping[str, Any], program: Program, store: ProcessingStore
    ) -> tuple[AcceptedProcessing, dict[str, Upload]]:
        """Return the job that a request asks for, checked and planned, and what is uploaded for it, by URI."""
        uploads = self._uploads(request, program)
        with in_sdk_words((*PROCESSOR_OPTIONS, *PROCESSOR_RUN_OPTIONS)):
            job = accept_processing(request, self._own_runtime)
            plan_processing(job, store, to_be_written={uri: upload.path for uri, upload in uploads.items()})
        return job, uploads

    def _uploads(self, request: Mapping[str, Any], program: Program) -> dict[str, Upload]:
        programs = self._places(request["ProcessingJobName"])[1]
        return {to_uri(f"{programs}/{path}"): upload for path, upload in program.uploads}

    def _places(self, name: str) -> tuple[str, str]:
        """Return where a job's outputs and its program go, if nothing else says it."""
        if self._session_given or self.sagemaker_session.mode != "local":
            place = f"{self.sagemaker_session.default_output_uri()}/{name}"
            return f"{place}/output", f"{place}/input"
        folder = to_uri(str(ProcessingStore(home_path()).folder(name).path))
        return f"{folder}/output", f"{folder}/source"

    @property
    def _own_runtime(self) -> Runtime | None:
        return self._runtime if isinstance(self._runtime, Runtime) else None

    def _base_name(self, program: Program) -> str:
        if self.base_job_name:
            return self.base_job_name
        if self.image_uri:
            return self.image_uri.rsplit("/", 1)[-1].split("@")[0].split(":")[0]
        return program.base_name


class ScriptProcessor(Processor):
    """Runs a script over data, with the arguments that the SDK has; see ``Processor`` for the others.

    Args:
        command: what runs the script, a list of words; None is ``python3``.
    """

    def __init__(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        command: Sequence[str] | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        volume_size_in_gb: int = DEFAULT_VOLUME_GB,
        volume_kms_key: Any = None,
        output_kms_key: Any = None,
        max_runtime_in_seconds: int | None = None,
        base_job_name: str | None = None,
        sagemaker_session: Session | None = None,
        env: Mapping[str, str] | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        network_config: NetworkConfig | None = None,
        *,
        runtime: str | Runtime | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(
            role,
            image_uri,
            instance_count,
            instance_type,
            None,
            volume_size_in_gb,
            volume_kms_key,
            output_kms_key,
            max_runtime_in_seconds,
            base_job_name,
            sagemaker_session,
            env,
            tags,
            network_config,
            runtime=runtime,
            mode=mode,
        )
        self.command = list(command) if command else ["python3"]

    def run(  # type: ignore[override]  # the SDK's own order: the script comes first
        self,
        code: str | os.PathLike[str],
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        arguments: Sequence[str] | None = None,
        wait: bool = True,
        logs: bool = True,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
        kms_key: Any = None,
    ) -> ProcessingJob:
        """Run a script; with ``wait``, return when it has ended. See ``Processor.run`` for the other arguments.

        Args:
            code: the script: a path, a ``file://`` or an ``s3://`` URI. A path is copied as it is now.
        Raises:
            BadInputError: the job cannot be run; nothing has been recorded.
            JobFailedError: it failed.
        """
        return self._run(
            self.program(code),
            inputs,
            outputs,
            arguments,
            job_name,
            experiment_config,
            kms_key,
            wait=wait,
            logs=logs,
        )

    def program(self, code: str | os.PathLike[str]) -> Program:
        """Return what runs a script, for ``request``, ``plan`` and ``submit``; this project's own.

        Raises:
            SourceError: there is no such script.
        """
        text = os.fspath(code)
        name = text.rstrip("/").rpartition("/")[2]
        command = (*self.command, f"{CODE_PATH}/{name}")
        base = Path(name).stem or "processing"
        if text.startswith("s3://"):
            return Program(command, code_uri=text, base_name=base)
        path = checked_path(to_uri(text).removeprefix("file://"), "code", SourceError)
        if not path.is_file():
            fault = "is no file" if path.exists() else "does not exist"
            raise SourceError(f"code={text!r}: {path} {fault}.", "Give the path of a script, or its s3:// URI.")
        return Program(command, ((f"code/{name}", Upload(path)),), base_name=base)


def _put(upload: Upload, uri: str, storage: Storage, scratch: Path) -> None:
    """Put a file of a job's program in its place, as it is now; ``scratch`` is where it is made."""
    if upload.make is None:
        storage.upload_all({upload.path: uri})
        return
    try:
        upload.make(scratch)
        storage.put_file(scratch, uri)
    finally:
        scratch.unlink(missing_ok=True)


def _check_types(values: Sequence[Any] | None, kind: type, name: str) -> None:
    for value in values or ():
        if not isinstance(value, kind):
            raise BadInputError(f"{name}: {value!r:.60} is no {kind.__name__}.", f"Give a list of {kind.__name__}.")
