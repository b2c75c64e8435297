"""Copies a folder that a job writes to the place that follows it, while the job runs and at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path

from launcher.errors import OutputPathError, StorageError
from launcher.storage import Storage
from launcher.storage.base import FileVersion, changed_files
from launcher.trees import NoFolderError, OnSkip, Skipped, Tree, why_no_folder


class FolderSync:
    """Copies what is new or changed in a folder that the job writes; what the job deletes stays where it was copied to.

    Of files of one name the host that was copied first has the name; those of others go below a folder with the host's
    name.

    Args:
        what: the files, as a person would call them.
        trees: name and ``/opt/ml`` tree of each host, in their order.
        inside: the folder within each tree.
        storage: that of ``uri``.
        uri: the place that follows the folder.
    """

    def __init__(self, title: str, trees: Sequence[tuple[str, Path]], inside: str, storage: Storage, uri: str) -> None:
        self._title = title
        self._trees = list(trees)
        self._inside = inside
        self._storage = storage
        self._uri = uri
        self._copied: dict[str, dict[str, FileVersion]] = {host: {} for host, _ in trees}
        self._owners: dict[str, str] = {}
        self._running: futures.Future[None] | None = None

    @property
    def folders(self) -> list[Path]:
        """The folder in each tree; only before the job has begun, since a job may put anything in its place."""
        return [tree / self._inside for _, tree in self._trees]

    def restore(self) -> None:
        """Copy everything from the place into the folder of every host, before the job begins."""
        files = self._storage.files_below(self._uri)
        for (host, _), folder in zip(self._trees, self.folders, strict=True):
            self._storage.download_all({uri: folder / name for name, uri in files.items()})
            if folder.is_dir():
                with Tree.open(folder) as tree:
                    self._copied[host] = dict(changed_files(tree, {}))
        # A restored file belongs to no host: the first host that changes it keeps its name.

    def run(self) -> list[str]:
        """Copy now that the job has ended; return a line for each thing that was left out, with the reason."""
        self.wait()
        skipped = Skipped()
        self._copy(skipped.add, settled=True)
        return [f"not copied ({self._title}): {line}" for line in skipped.lines]

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
                warning = f"{self._title} came late: {error.message}"
            elif error is not None:
                raise error
        self._running = futures.Future()
        threading.Thread(target=_run_for, args=(self._running, self._copy), name="sync", daemon=True).start()
        return warning

    def wait(self) -> None:
        """Let a copy that is under way come to its end."""
        futures.wait([self._running] if self._running is not None else [])

    def _copy(self, on_skip: OnSkip = lambda _: None, *, settled: bool = False) -> None:
        for host, tree in self._trees:
            try:
                self._storage.sync_folder(
                    tree,
                    self._uri,
                    self._copied[host],
                    inside=self._inside,
                    settled=settled,
                    on_skip=on_skip,
                    place=partial(self._place, host, on_skip),
                )
            except NoFolderError as error:
                if not isinstance(error.cause, FileNotFoundError):
                    on_skip(f"{self._inside}: {why_no_folder(error.cause)}")

    def _place(self, host: str, on_skip: OnSkip, path: str) -> str:
        if self._owners.setdefault(path, host) == host:
            return path
        on_skip(f"{path} of {host} is kept as {host}/{path}: another host wrote something of that name")
        return f"{host}/{path}"


def _run_for(future: futures.Future[None], action: Callable[[], None]) -> None:
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - raised again by whoever looks at the future
        future.set_exception(error)
    else:
        future.set_result(None)
