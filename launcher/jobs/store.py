"""What lives in one home: a folder and one JSON file a job, a model, an endpoint.

The record holds all that another process needs to take a job up; nothing is only in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from launcher.errors import (
    BadInputError,
    JobFolderError,
    OutputPathError,
    RecordError,
    SettingsError,
)
from launcher.jobs.changes import mark_changed
from launcher.jobs.folder import JobFolder
from launcher.jobs.kinds import (
    ENDPOINT_CONFIGS,
    ENDPOINTS,
    MODELS,
    PROCESSING_JOBS,
    TRAINING_JOBS,
    TRANSFORM_JOBS,
    TUNING_JOBS,
    Kind,
    RecordType,
)
from launcher.jobs.record import JobRecord
from launcher.paths import is_open_at, make_private
from launcher.settings import default_home

if TYPE_CHECKING:
    from launcher.jobs.endpoint_record import EndpointConfigRecord as EndpointConfigRecord
    from launcher.jobs.endpoint_record import EndpointRecord as EndpointRecord
    from launcher.jobs.model_record import ModelRecord as ModelRecord
    from launcher.jobs.processing_record import ProcessingRecord as ProcessingRecord
    from launcher.jobs.transform_record import TransformRecord as TransformRecord
    from launcher.jobs.tuning_record import TuningRecord as TuningRecord

if TYPE_CHECKING:
    pass

_SCRATCH = ".new-"  # folders that version 0.1.0 left when it was killed
_REMOVED = ".removed-"  # what is being removed, out of the way of its name
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Claim(Generic[RecordType]):
    """A name that this process holds until the job is recorded or the claim is given up.

    Args:
        store: the home of the job to be.
        folder: its folder; what is put there belongs to the job.
    """

    def __init__(self, store: Store[RecordType], folder: JobFolder) -> None:
        self._store = store
        self.folder = folder

    def record(self, record: RecordType) -> None:
        """Make the claim a job.

        Raises:
            OutputPathError: the home cannot be written.
        """
        try:
            if not record.terminal:
                self.folder.keep_spare(len(json.dumps(record.to_dict())))
            mark_changed(self._store.home, self._store.path, self.folder.name)  # the name may have been another's
            self._store._write(self.folder, record, durable=True)
        except OSError as error:
            raise self._store.not_recorded(self.folder.name, error) from error


class Store(Generic[RecordType]):
    """Everything of one kind in one home.

    Args:
        home: ``LAUNCHER_HOME``; made when the first job is.
        kind: what lives here.
    """

    def __init__(self, home: Path, kind: Kind[RecordType]) -> None:
        self.home = home
        self.kind = kind
        self.path = home / kind.folder
        # How the names begin that a claim has before its record.
        self._claim_entries = ("driver.lock", f"{kind.record_file}.", "source")

    def folder(self, name: str) -> JobFolder:
        """Return the paths of a job, whether or not it exists."""
        return JobFolder(self.path / name, self.kind.record_file, self.kind.noun)

    def check_writable(self) -> None:
        """Refuse a home that jobs cannot be written to; writes nothing.

        Raises:
            OutputPathError: it is not writable.
        """
        parent = self.path
        try:
            while not parent.exists():
                parent = parent.parent
            writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
        except OSError:  # a folder on the way may not be entered
            writable = False
        if not writable:
            raise OutputPathError(
                f"{self.kind.noun}s cannot be kept in {self.path}: {parent} is not a folder that can be written.",
                "Name another: export LAUNCHER_HOME=/path/to/folder",
            )

    def check_unused(self, name: str) -> None:
        """Refuse a name that a job of this home has.

        Raises:
            JobExistsError: there is such a job.
        """
        if self.folder(name).record_path.exists():
            raise self._name_is_used(name)

    def create(self, name: str, record: RecordType) -> JobFolder:
        """Record a new job; of two processes that try the same name, one gets it.

        Raises:
            JobExistsError: the name is used.
            OutputPathError: the home cannot be written.
        """
        with self.claim(name) as claim:
            claim.record(record)
        return self.folder(name)

    @contextmanager
    def claim(self, name: str) -> Iterator[Claim[RecordType]]:
        """Hold a name that no job has, and its folder, where the files of a job lie before its record.

        Without a record the folder is removed in the end. The kernel releases the lock of a process that died, so its
        claim is free again; a folder without a record is no job.

        Raises:
            JobExistsError: the name is used, or another process holds it.
            OutputPathError: something that is no job has the folder.
        """
        folder = self.folder(name)
        self.check_unused(name)
        if not self.home.exists() or self.home == default_home():
            make_private(self.home)
        make_private(self.path)
        try:
            descriptor = self._locked(folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._in_the_way(name, error.strerror or str(error)) from error
        except OSError as error:
            raise self.not_recorded(name, error) from error
        try:
            self.check_unused(name)
            if strangers := [
                entry.name for entry in folder.path.iterdir() if not entry.name.startswith(self._claim_entries)
            ]:
                folder.lock_path.unlink()
                raise self._in_the_way(name, f"it holds '{strangers[0]}'")
            shutil.rmtree(folder.path / "source", ignore_errors=True)  # of a claim whose process died
            try:
                yield Claim(self, folder)
            finally:
                if not folder.record_path.exists():
                    shutil.rmtree(folder.path, ignore_errors=True)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _locked(self, folder: JobFolder) -> int:
        """Make a job's folder and lock it; return the descriptor of the locked file.

        Raises:
            JobExistsError: another process has the lock.
        """
        while True:
            folder.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # another claim was given up at this moment, and its folder removed
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_open_at(descriptor, folder.lock_path):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise self._name_is_used(folder.name) from None
            os.close(descriptor)

    def load(self, name: str) -> RecordType:
        """Read a job's record.

        Raises:
            JobNotFoundError: there is no such job.
            RecordError: its record cannot be read, or is none.
        """
        path = self.folder(name).record_path
        try:
            return self.kind.record.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            raise self._is_missing(name) from None
        except OSError as error:
            raise RecordError(
                f"{self.kind.noun} '{name}': {path} cannot be read: {error.strerror}.", "Act as the user who owns it."
            ) from error
        except (ValueError, RecursionError) as error:
            raise RecordError(
                f"{self.kind.noun} '{name}': {path} is no record that this version can read: {error}.",
                f"Other {self.kind.noun}s are not affected. Read it with the launcher that wrote it, "
                "or move its folder away.",
            ) from error

    def save(self, name: str, record: RecordType) -> None:
        """Write the record; a terminal one survives a power cut and a full disk as well.

        Raises:
            OSError: it could not be written, and is as it was before.
        """
        folder = self.folder(name)
        if record.terminal:
            mark_changed(self.home, self.path, name)
        try:
            self._write(folder, record, durable=record.terminal)
        except OSError as error:
            if not record.terminal or error.errno not in DISK_FULL or not folder.spare_path.exists():
                raise
            self._write(folder, record, durable=True, part=folder.spare_path)
        if record.terminal:
            folder.drop_spare()

    def remove(self, name: str) -> None:
        """Remove what nobody drives: its record and all that is in its folder.

        Raises:
            BadInputError: nothing has this name.
            JobFolderError: a process is at it, or the folder cannot be removed.
        """
        folder = self.folder(name)
        if not folder.record_path.exists():
            raise self._is_missing(name)
        with folder.driving(wait=False) as had:
            if not had:
                raise JobFolderError(
                    f"{self.kind.noun} '{name}' is in use by another process.", "Wait for it, or stop it first."
                )
            aside = self.path / f"{_REMOVED}{os.getpid()}-{name}"
            try:
                folder.path.rename(aside)
                shutil.rmtree(aside)
            except OSError as error:
                raise JobFolderError(
                    f"{self.kind.noun} '{name}' could not be removed: {error}.", f"Check: ls -la {self.path}"
                ) from error

    def names(self) -> list[str]:
        """Return the names of all jobs that can be read, the oldest first."""
        return [name for name, _ in self.records()[0]]

    def records(self) -> tuple[list[tuple[str, RecordType]], list[RecordError]]:
        """Return every job that can be read, the oldest first, and why each of the others cannot be.

        Raises:
            SettingsError: the home may not be looked into.
        """
        records, errors = [], []
        for path in self._job_paths():
            try:
                records.append((path.name, self.load(path.name)))
            except RecordError as error:
                errors.append(error)
            except BadInputError:
                continue  # a folder that is no job, or was removed at this moment
        return sorted(records, key=lambda entry: entry[1].created), errors

    def leftovers(self) -> list[Path]:
        """Return what writers that were killed have left beside and in the jobs' folders: scratch, never results."""
        try:
            scratch = [path for begin in (_SCRATCH, _REMOVED) for path in sorted(self.path.glob(f"{begin}*"))]
            paths = self._job_paths()
            parts = [part for path in paths for part in sorted(path.glob(f"{self.kind.record_file}.*.part"))]
            claims = [path for path in paths if self._is_dead_claim(self.folder(path.name))]
        except OSError as error:
            raise unreadable(self.path, error) from error
        return claims + [path for path in (*scratch, *parts) if path.parent not in claims and not _writer_lives(path)]

    def _is_dead_claim(self, folder: JobFolder) -> bool:
        """Return whether a folder is what a process left that died between its claim of a name and the record."""
        if folder.record_path.exists() or not folder.lock_path.exists() or folder.driven():
            return False
        return all(entry.name.startswith(self._claim_entries) for entry in folder.path.iterdir())

    def _job_paths(self) -> list[Path]:
        try:
            with os.scandir(self.path) as entries:
                # A link to a job, as docker compose makes them for the newest, is not another job.
                return sorted(
                    Path(entry.path) for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise unreadable(self.path, error) from error

    def not_recorded(self, name: str, error: OSError) -> OutputPathError:
        """Return the error for a new job whose folder cannot be written."""
        return OutputPathError(
            f"{self.kind.noun} '{name}' cannot be recorded in {self.path}: {error.strerror}.",
            "Make room on its disk, or name another folder: export LAUNCHER_HOME=/path/to/folder",
        )

    def _name_is_used(self, name: str) -> BadInputError:
        return self.kind.taken(
            self.kind.taken_words.format(arn=self.kind.arn(name)),
            f"Choose another name, leave it out to have one made, or remove {self.folder(name).path}.",
        )

    def _is_missing(self, name: str) -> BadInputError:
        words = self.kind.missing_words.format(arn=self.kind.arn(name), name=name)
        return self.kind.missing(
            words or f"no {self.kind.noun} '{name}' in {self.path}.", f"List them with: {self.kind.listing}"
        )

    def _in_the_way(self, name: str, problem: str) -> OutputPathError:
        return OutputPathError(
            f"{self.kind.noun} '{name}' cannot have the folder {self.folder(name).path}: {problem}.",
            f"Something that is no {self.kind.noun} is in the way; move it, or choose another name.",
        )

    def _write(self, folder: JobFolder, record: RecordType, *, durable: bool, part: Path | None = None) -> None:
        """Write the record beside the one that is there, and put it in its place.

        Args:
            part: a file whose room on the disk is used for it; default: a new file.
        """
        record.modified = time.time()
        path = part or folder.record_path.with_name(f"{folder.record_path.name}.{os.getpid()}.part")
        text = json.dumps(record.to_dict()).encode()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                file.truncate()
                if durable:
                    os.fsync(file.fileno())
            path.replace(folder.record_path)
        except BaseException:
            if part is None:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise


class JobStore(Store[JobRecord]):
    """The training jobs of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, TRAINING_JOBS)
        self.jobs_path = self.path


class TransformStore(Store["TransformRecord"]):
    """The transform jobs of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, TRANSFORM_JOBS)


class ProcessingStore(Store["ProcessingRecord"]):
    """The processing jobs of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, PROCESSING_JOBS)


class TuningStore(Store["TuningRecord"]):
    """The hyperparameter tuning jobs of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, TUNING_JOBS)


class ModelStore(Store["ModelRecord"]):
    """The models of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, MODELS)


class EndpointConfigStore(Store["EndpointConfigRecord"]):
    """The endpoint configurations of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, ENDPOINT_CONFIGS)


class EndpointStore(Store["EndpointRecord"]):
    """The endpoints of one home."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, ENDPOINTS)


def unreadable(path: Path, error: OSError) -> SettingsError:
    """Return the error of a home that cannot be looked into."""
    return SettingsError(
        f"{path} cannot be looked into: {error.strerror}.",
        "Act as the user who owns it, or name another home: export LAUNCHER_HOME=/path/to/folder",
    )


def _writer_lives(path: Path) -> bool:
    """Return whether the process that wrote a scratch file or folder, whose id stands in its name, is still there."""
    pid = next((part for part in path.name.replace("-", ".").split(".") if part.isdigit()), "0")
    return Path(f"/proc/{pid}").exists() or not Path("/proc").exists()
