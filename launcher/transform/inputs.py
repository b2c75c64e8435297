"""The objects that a transform job reads: found below a prefix, in a folder, or named by a manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import ChannelError, LauncherError
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.storage import recorded_storage
from launcher.storage.s3_uris import channel_files, no_objects_error, split_s3_uri

OUTPUT_SUFFIX = ".out"


@dataclass(frozen=True)
class InputObject:
    """One object to be transformed.

    Attributes:
        uri: where it lies.
        name: its path relative to the input; its output has the same, and ``.out``.
    """

    uri: str
    name: str


def output_uri_of(spec: TransformJobSpec, name: str) -> str:
    """Return where the output of an object goes."""
    return f"{spec.output_uri.rstrip('/')}/{name}{OUTPUT_SUFFIX}"


def find_inputs(spec: TransformJobSpec, scratch: Path) -> list[InputObject]:
    """Return the job's objects, by their keys.

    Args:
        spec: the job.
        scratch: for a manifest that has to be copied here.
    Raises:
        ChannelError: there are none, or a manifest cannot be read.
        StorageError: an S3 refuses it, or does not answer.
    """
    if spec.s3_data_type == "ManifestFile":
        return _of_manifest(spec, scratch)
    uri = spec.input_uri
    storage = recorded_storage(uri, spec.s3)
    if uri.startswith("s3://"):
        bucket, prefix = split_s3_uri(uri)
        try:
            files = channel_files(uri, storage.keys(f"s3://{bucket}", prefix))
        except ChannelError:
            raise
        except LauncherError as error:
            raise no_objects_error(uri, f"{error.message} {error.hint}") from error
        if not files:
            raise no_objects_error(uri, f"List what is there: launcher storage ls s3://{bucket}/")
        return [InputObject(f"s3://{bucket}/{key}", name) for key, name in files.items()]
    path, is_file = storage.locate(uri, Path())
    if is_file:
        return [InputObject(uri, path.name)]
    files = storage.files_below(uri)
    return [InputObject(place, name) for name, place in files.items()]


def _of_manifest(spec: TransformJobSpec, scratch: Path) -> list[InputObject]:
    """Read SageMaker's manifest: ``[{"prefix": "s3://bucket/folder/"}, "relative/key", ...]``."""
    uri = spec.input_uri
    path = recorded_storage(uri, spec.s3).fetch_object(uri, scratch)
    try:
        entries: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise _bad_manifest(uri, f"it is not JSON: {error}") from error
    if not (isinstance(entries, list) and entries and isinstance(entries[0], dict)):
        raise _bad_manifest(uri, "it does not begin with an object that holds 'prefix'")
    prefix, names = entries[0].get("prefix"), entries[1:]
    if not isinstance(prefix, str) or not prefix.startswith(("s3://", "file:///")):
        raise _bad_manifest(uri, f"its prefix is {prefix!r}")
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _bad_manifest(uri, "it names no keys, or something that is no key")
    if bad := next((name for name in names if {"", ".", ".."} & set(name.split("/"))), None):
        raise _bad_manifest(uri, f"the key {bad!r} could leave the folder of the results")
    if len(set(names)) < len(names):
        raise _bad_manifest(uri, "it names a key twice")
    storage = recorded_storage(prefix, spec.s3)
    for name in names:
        if not storage.exists(f"{prefix}{name}"):
            raise _bad_manifest(uri, f"{prefix}{name} is not there")
    return [InputObject(f"{prefix}{name}", name) for name in names]


def _bad_manifest(uri: str, problem: str) -> ChannelError:
    return ChannelError(
        f"the manifest {uri}: {problem}.",
        'A manifest is JSON: [{"prefix": "s3://bucket/folder/"}, "relative/key", ...]',
    )


def share_of(objects: Sequence[InputObject], host: int, hosts: int) -> list[InputObject]:
    """Return the objects of one of several hosts; those beyond the last object have none."""
    return list(objects[host::hosts])
