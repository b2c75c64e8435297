"""Request documents that somebody else wrote: read from a file or the standard input, and told where to run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import BadInputError, SettingsError


def read_document(location: str) -> dict[str, Any]:
    """Return the JSON object in a file; ``-`` is the standard input.

    Raises:
        BadInputError: it cannot be read, or is not a JSON object.
    """
    shown = "the standard input" if location == "-" else location
    try:
        raw = sys.stdin.buffer.read() if location == "-" else Path(location).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise BadInputError(f"{location:.200} cannot be read: {problem}.", "Name a JSON file, or '-'.") from error
    try:
        document = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{shown} is not JSON: {error}.", "Make one with: launcher fit ... --dry-run --json > request.json"
        ) from error
    if not isinstance(document, dict):
        raise BadInputError(
            f"{shown} holds a {type(document).__name__}, not one CreateTrainingJob document.",
            "It is a JSON object with TrainingJobName, RoleArn and so on.",
        )
    return document


def read_training_document(location: str) -> dict[str, Any]:
    """Return a CreateTrainingJob document as ``read_document`` does, and name the command for another kind of job.

    Raises:
        BadInputError: it is one of those.
    """
    document = read_document(location)
    for kind in ("ProcessingJob", "TransformJob", "HyperParameterTuningJob"):
        if f"{kind}Name" in document:
            raise BadInputError(
                f"{location} is a Create{kind} document, and this takes CreateTrainingJob documents.",
                f"See what it would do: launcher run {location} --dry-run",
            )
    return document


def placed(document: Mapping[str, Any], *, runtime: str | None = None, mode: str | None = None) -> dict[str, Any]:
    """Return a document that also says where it runs, and which S3 it has; the rest stays as it is.

    Args:
        document: as it was read.
        runtime: default: what the document says, else ``LAUNCHER_RUNTIME``.
        mode: ``s3`` gives the job the addresses and keys of the S3 even where no URI of it is in one.
    Raises:
        SettingsError: there is no such mode.
    """
    from launcher.requests.shapes import OWN_MEMBER
    from launcher.requests.training import s3_member
    from launcher.settings import MODE_NAMES, default_mode
    from launcher.storage import which_s3

    if mode is not None and mode not in MODE_NAMES:
        raise SettingsError(f"--mode {mode!r} is not a mode.", f"Use one of: {', '.join(MODE_NAMES)}.")
    own = document.get(OWN_MEMBER, {})
    if not isinstance(own, Mapping):
        return dict(document)  # the check of the request names the error
    own = dict(own)
    if runtime is not None:
        own["Runtime"] = runtime
    if "S3" not in own and (mode or default_mode()) == "s3":
        own["S3"] = s3_member(which_s3().to_dict())
    return {**document, OWN_MEMBER: own} if own else dict(document)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice!r} is there twice")
    return document
