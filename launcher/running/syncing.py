"""Copies a folder that a job writes to the place that follows it, while the job runs and at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

from launcher.errors import OutputPathError, StorageError
from launcher.storage import Storage
from launcher.storage.base import FileVersion, changed_files


class FolderSync:
    """Copies what is new or changed in a folder that the job writes; what the job deletes stays where it was copied to.

    Args:
        what: the files, as a person would call them.
        folder: the job's.
        uri: the place that follows it.
    """

    def __init__(self, what: str, folder: Path, storage: Storage, uri: str) -> None:
        self.folder = folder
        self._what = what
        self._storage = storage
        self._uri = uri
        self._copied: dict[str, FileVersion] = {}
        self._running: futures.Future[None] | None = None

    def restore(self) -> None:
        """Copy everything from the place into the folder."""
        files = self._storage.files_below(self._uri)
        self._storage.download_all({uri: self.folder / name for name, uri in files.items()})
        self._copied = dict(changed_files(self.folder, {}))

    def run(self) -> None:
        """Copy now."""
        self.wait()
        self._copy()

    def run_meanwhile(self) -> str:
        """Copy from a thread: an S3 that hangs must hold up neither the log nor a stop.

        A place that fails now may work again when the job has ended, so that it is a warning, and is tried again.

        Returns:
            The warning, if the copy before this one failed.
        """
        warning = ""
        if self._running is not None:
            if not self._running.done():
                return ""
            error = self._running.exception()
            if isinstance(error, StorageError | OutputPathError):
                warning = f"{self._what} came late: {error.message}"
            elif error is not None:
                raise error
        self._running = futures.Future()
        threading.Thread(target=_run_for, args=(self._running, self._copy), name="sync", daemon=True).start()
        return warning

    def wait(self) -> None:
        """Let a copy that is under way come to its end."""
        futures.wait([self._running] if self._running is not None else [])

    def _copy(self) -> None:
        if self.folder.is_dir():
            self._storage.sync_folder(self.folder, self._uri, self._copied)


def _run_for(future: futures.Future[None], action: Callable[[], None]) -> None:
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - raised again by whoever looks at the future
        future.set_exception(error)
    else:
        future.set_result(None)
