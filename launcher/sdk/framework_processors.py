"""``FrameworkProcessor`` and those of the frameworks: a source folder over data, by the SDK's names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from launcher.errors import ArtifactError, OutputPathError
from launcher.jobs.processing_spec import ENTRYPOINT_PATH
from launcher.requests.training import DEFAULT_VOLUME_GB
from launcher.running import artifacts
from launcher.running.source import check_source, list_members
from launcher.runtimes import Runtime
from launcher.sdk import image_uris
from launcher.sdk.options import check_options
from launcher.sdk.processing import Processor, Program, ScriptProcessor, Upload
from launcher.sdk.processing_inputs import NetworkConfig, ProcessingInput, ProcessingOutput
from launcher.sdk.processing_job import ProcessingJob
from launcher.sdk.processing_options import PROCESSOR_RUN_OPTIONS
from launcher.sdk.session import Session
from launcher.settings import AWS_MODE, REGION

_SOURCE_MTIME = 315532800  # 1980: the same files make the same bytes
_ENTRYPOINT = "runproc.sh"
_SCRIPT = """#!/bin/bash
# Unpacks the source, installs what it asks for into a folder that goes with the job, and runs the program.
set -e
cd "$(dirname "$0")/../code"
tar -xzf sourcedir.tar.gz
if [ -f requirements.txt ]; then
    packages="$(mktemp -d)"
    python3 -m pip install --disable-pip-version-check --no-input --target "$packages" --requirement requirements.txt
    export PYTHONPATH="$packages${{PYTHONPATH:+:$PYTHONPATH}}"
fi
exec {command} "$@"
"""


class FrameworkProcessor(Processor):
    """Runs a program of a source folder over data, with the arguments that the SDK has.

    Args:
        estimator_cls: kept; the image says which framework there is.
        framework_version, py_version: kept.
        image_uri: an image with the framework; None takes that of the framework's version, in whose place an image of
            this machine runs, and without a version the bundled one; on the process runtime this machine's Python.
        command: what runs the program, a list of words; None is ``python3``.
        code_location: not emulated.
    """

    _framework_name = ""

    def __init__(
        self,
        estimator_cls: Any = None,
        framework_version: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        py_version: str | None = "py3",
        image_uri: str | None = None,
        command: Sequence[str] | None = None,
        volume_size_in_gb: int = DEFAULT_VOLUME_GB,
        volume_kms_key: Any = None,
        output_kms_key: Any = None,
        code_location: Any = None,
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
        check_options(PROCESSOR_RUN_OPTIONS, {"code_location": code_location}, type(self).__name__)
        framework = getattr(estimator_cls, "_framework_name", None) or self._framework_name
        super().__init__(
            role,
            image_uri or _image(framework, framework_version, py_version, instance_type),
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
        _name_in_region(self, image_uri)
        self.estimator_cls = estimator_cls
        self.framework_version = framework_version
        self.py_version = py_version
        self.command = list(command) if command else ["python3"]

    def run(  # type: ignore[override]  # the SDK's own order: the program comes first
        self,
        code: str | os.PathLike[str],
        source_dir: str | os.PathLike[str] | None = None,
        dependencies: Sequence[str] | None = None,
        git_config: Any = None,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        arguments: Sequence[str] | None = None,
        wait: bool = True,
        logs: bool = True,
        job_name: str | None = None,
        experiment_config: Mapping[str, str] | None = None,
        kms_key: Any = None,
    ) -> ProcessingJob:
        """Run a program; with ``wait``, return when it has ended. See ``Processor.run`` for the other arguments.

        Args:
            code: the program: relative to ``source_dir``, or by itself the path of a lone script.
            source_dir: a folder of this machine; its ``requirements.txt`` is installed first.
            dependencies: files and folders that are packed beside it.
            git_config: not emulated.
        Raises:
            BadInputError: the job cannot be run; nothing has been recorded.
            JobFailedError: it failed.
        """
        check_options(PROCESSOR_RUN_OPTIONS, {"git_config": git_config}, f"{type(self).__name__}.run")
        program = self.program(code, source_dir, dependencies)
        return self._run(
            program, inputs, outputs, arguments, job_name, experiment_config, kms_key, wait=wait, logs=logs
        )

    def program(
        self,
        code: str | os.PathLike[str],
        source_dir: str | os.PathLike[str] | None = None,
        dependencies: Sequence[str] | None = None,
    ) -> Program:
        """Return what runs a program, for ``request``, ``plan`` and ``submit``; this project's own.

        Raises:
            SourceError: a file is missing, or cannot be packed.
        """
        folder = None if source_dir is None else os.fspath(source_dir)
        source = check_source(os.fspath(code), folder, dependencies or ())
        members = list_members(source.path, source.members, source.dependencies)
        script = _SCRIPT.format(command=shlex.join([*self.command, source.program]))
        path = source.path / source.program
        return Program(
            ("/bin/bash", f"{ENTRYPOINT_PATH}/{_ENTRYPOINT}"),
            (
                ("code/sourcedir.tar.gz", Upload(path, partial(_write_archive, members))),
                (f"entrypoint/{_ENTRYPOINT}", Upload(path, partial(_write_text, script))),
            ),
            base_name=Path(source.program).stem,
        )


class _OwnFramework(FrameworkProcessor):
    """A framework's processor: the same without ``estimator_cls``."""

    def __init__(
        self,
        framework_version: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        py_version: str | None = "py3",
        image_uri: str | None = None,
        command: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            None, framework_version, role, instance_count, instance_type, py_version, image_uri, command, **options
        )


class PyTorchProcessor(_OwnFramework):
    """Runs a PyTorch program; see ``FrameworkProcessor``."""

    _framework_name = "pytorch"


class TensorFlowProcessor(_OwnFramework):
    """Runs a TensorFlow program; see ``FrameworkProcessor``."""

    _framework_name = "tensorflow"


class MXNetProcessor(_OwnFramework):
    """Runs an MXNet program; see ``FrameworkProcessor``."""

    _framework_name = "mxnet"


class XGBoostProcessor(_OwnFramework):
    """Runs an XGBoost program; see ``FrameworkProcessor``."""

    _framework_name = "xgboost"


class HuggingFaceProcessor(FrameworkProcessor):
    """Runs a program of Hugging Face's libraries; see ``FrameworkProcessor``.

    Args:
        transformers_version, tensorflow_version, pytorch_version: kept.
    """

    def __init__(
        self,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        transformers_version: str | None = None,
        tensorflow_version: str | None = None,
        pytorch_version: str | None = None,
        py_version: str | None = "py36",
        image_uri: str | None = None,
        command: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            None, transformers_version, role, instance_count, instance_type, py_version, image_uri, command, **options
        )
        self.transformers_version = transformers_version
        self.tensorflow_version = tensorflow_version
        self.pytorch_version = pytorch_version


class SKLearnProcessor(ScriptProcessor):
    """Runs a lone script with scikit-learn, with the arguments that the SDK has; see ``ScriptProcessor``.

    Args:
        framework_version: kept.
        image_uri: this project's own: an image with scikit-learn; None takes that of the version, as above.
    """

    def __init__(
        self,
        framework_version: str | None = None,
        role: str | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        command: Sequence[str] | None = None,
        *positional: Any,
        image_uri: str | None = None,
        **options: Any,
    ) -> None:
        image = image_uri or _image("sklearn", framework_version, "py3", instance_type)
        super().__init__(role, image, command, instance_count, instance_type, *positional, **options)
        _name_in_region(self, image_uri)
        self.framework_version = framework_version


def _image(framework: str, version: str | None, py_version: str | None, instance_type: str | None) -> str | None:
    """Return the name of a framework's image, in whose place an image of this machine runs; None without a version."""
    if not framework or version is None:
        return None
    return image_uris.retrieve(framework, REGION, version, py_version, instance_type or "local", image_scope="training")


def _name_in_region(processor: Processor, given: str | None) -> None:
    """Make the image of a framework that of the region, where it runs on AWS and none was given."""
    session = processor.sagemaker_session
    if session.mode == AWS_MODE and given is None and processor.image_uri is not None:
        processor.image_uri = image_uris.in_region(processor.image_uri, session.boto_region_name)


def _write_archive(members: Sequence[tuple[str, Path]], target: Path) -> None:
    try:
        artifacts.write_archive(members, target, mtime=_SOURCE_MTIME, durable=False)
    except ArtifactError as error:
        raise OutputPathError(f"the source of the job: {error.message}", error.hint) from error


def _write_text(text: str, target: Path) -> None:
    target.write_text(text, encoding="utf-8")
