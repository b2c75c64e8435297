"""The host's side of the ``/opt/ml`` tree: makes it, writes the configuration, reads what a job left."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.terminal import neutralised_text
from launcher.trees import NoFolderError, OnSkip, Tree, why_no_folder

FAILURE_REASON_LIMIT = 1024
TRAINING_FOLDERS = ("model", "output/data", "output/intermediate", "input/data", "input/config", "checkpoints")
"""What a training job sees below ``/opt/ml`` when it begins, beside its source."""

_SHARED = 0o777
_SHARED_FILE = 0o666


class OptMl:
    """One job's tree, as the host sees it.

    Args:
        path: the folder that the job sees as ``/opt/ml``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.code = path / "code"

    def prepare(
        self,
        config_files: Mapping[str, str],
        mount_points: Mapping[str, bool],
        folders: Sequence[str] = TRAINING_FOLDERS,
    ) -> None:
        """Make the tree and write the configuration; doing it again changes nothing.

        Every folder is open to any user, because an image may run as any user. The folder around the tree is the
        caller's alone and keeps other users out.

        Args:
            config_files: content by path below ``/opt/ml``.
            mount_points: paths below ``/opt/ml`` that something will be mounted on; True for a file.
            folders: paths below ``/opt/ml`` of the folders that the job has.
        """
        for name in folders:
            (self.path / name).mkdir(parents=True, exist_ok=True)
        for relative, is_file in mount_points.items():
            # An engine that has to make a mount point makes it as root: it must be there before.
            point = self.path / relative
            point.parent.mkdir(parents=True, exist_ok=True)
            if is_file:
                point.touch()
            else:
                point.mkdir(exist_ok=True)
        for relative, text in config_files.items():
            target = self.path / relative
            part = target.with_name(target.name + ".part")
            part.write_text(text, encoding="utf-8")
            part.replace(target)
        for folder in self.path.rglob("*"):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(_SHARED)
        self.path.chmod(_SHARED)

    def share(self, folder: Path) -> None:
        """Make a folder of the tree, and let any user change all that is in it."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            path.chmod(_SHARED if path.is_dir() else _SHARED_FILE)

    def read_failure(self, on_skip: OnSkip) -> str:
        """Return the text of ``output/failure``, at most what a FailureReason holds; empty when there is none.

        Args:
            on_skip: is told of one that is no regular file, or that cannot be read.
        """
        text = self.read_output("failure", 4 * FAILURE_REASON_LIMIT, on_skip).decode("utf-8", "replace")
        return neutralised_text("\n".join(text.splitlines()), colours=False).strip()[:FAILURE_REASON_LIMIT]

    def read_output(self, name: str, size: int, on_skip: OnSkip) -> bytes:
        """Return the beginning of a file in ``output``, at most ``size`` bytes; nothing when there is none.

        Args:
            name: of the file.
            size: in bytes.
            on_skip: is told of one that is no regular file, or that cannot be read.
        """
        try:
            with Tree.open(self.path, "output", make_readable=True) as output:
                descriptor = output.open_file(name, make_readable=True)
            with os.fdopen(descriptor, "rb") as file:
                return file.read(size)
        except NoFolderError as error:
            on_skip(f"output: {why_no_folder(error.cause)}")
        except FileNotFoundError:
            pass
        except OSError as error:
            on_skip(f"output/{name}: {'a link' if error.errno == errno.ELOOP else error.strerror}")
        return b""
