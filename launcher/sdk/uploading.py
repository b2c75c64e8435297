"""Packs a job's source and puts it to its place, before the job is asked for, as the SDK does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.errors import ArtifactError, OutputPathError
from launcher.jobs.folder import JobFolder
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import TrainingJobSpec, job_keys
from launcher.jobs.store import Claim
from launcher.running import artifacts
from launcher.storage import recorded_storage

_SOURCE_MTIME = 315532800  # 1980, the first year that every archive format knows: the same files make the same bytes


def upload_source(members: Sequence[tuple[str, Path]], spec: TrainingJobSpec, claim: Claim[JobRecord]) -> None:
    """Pack the members as they are now, and make the archive the one that the job names.

    Args:
        members: name in the archive and path of each.
        spec: the job to be.
        claim: of its name, so that no other process writes to its place.
    Raises:
        OutputPathError, StorageError: a member could not be read, the disk is full, or the place cannot be written.
    """
    put_source(members, spec, claim.folder)


def put_source(members: Sequence[tuple[str, Path]], spec: TrainingJobSpec, folder: JobFolder) -> None:
    """Do the same for a folder that the caller holds: that of a tuning job, whose training jobs share an archive."""
    archive = folder.path / "sourcedir.tar.gz"
    uri = job_keys(spec).source
    try:
        artifacts.write_archive(members, archive, mtime=_SOURCE_MTIME, durable=False)
    except ArtifactError as error:
        # Nothing has run: that is an error of input, with its exit code.
        raise OutputPathError(f"the source of job '{spec.job_name}': {error.message}", error.hint) from error
    try:
        recorded_storage(uri, spec.s3).put_file(archive, uri)
    finally:
        archive.unlink(missing_ok=True)
