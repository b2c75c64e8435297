"""Brings a job's code and inputs to another machine by their content, and its document with the places there."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.elsewhere.connection import Connection
from launcher.elsewhere.contents import CHUNK_BYTES, Digests, Entry, Listing, list_contents
from launcher.errors import ChannelError
from launcher.jobs.folder import JobFolder
from launcher.jobs.spec import TrainingJobSpec
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import training_request
from launcher.settings import home_path
from launcher.storage import recorded_storage

_SUBMIT_DIRECTORY = "sagemaker_submit_directory"
_BATCH_BYTES = 64 << 20  # of small files in one message


class Sender:
    """Brings one job to another machine; what is there already is not sent again.

    Args:
        spec: the job.
        request: as it was given.
        folder: its own folder here.
        connection: to the machine.

    Attributes:
        restored: path, size and time (ns) there of each checkpoint that was sent.
    """

    def __init__(
        self, spec: TrainingJobSpec, request: Mapping[str, Any], folder: JobFolder, connection: Connection
    ) -> None:
        self._spec = spec
        self._request = request
        self._folder = folder
        self._connection = connection
        self.restored: list[list[Any]] = []

    def send(self, runtime: str) -> dict[str, Any]:
        """Send everything that the job needs; return the document that asks for it there.

        Args:
            runtime: of the other machine.
        Raises:
            ChannelError: an input cannot be read, or changes while it is sent.
            LauncherError: as ``Connection.ask``.
        """
        document = copy.deepcopy(dict(self._request))  # whole: the record there shows what was asked for
        document[OWN_MEMBER] = training_request(self._spec)[OWN_MEMBER]  # with what was decided here
        document[OWN_MEMBER]["Runtime"] = runtime
        document[OWN_MEMBER].pop("Estimator", None)  # paths of this machine, for attach() here
        with Digests(home_path() / "digests.sqlite3") as digests:
            for channel, member in zip(self._spec.channels, document.get("InputDataConfig", ()), strict=True):
                if self._comes_from_here(channel.uri):
                    listing = self._listing(channel.uri, digests)
                    member["DataSource"]["S3DataSource"]["S3Uri"] = self._place(listing)
            if self._spec.source_uri is not None and self._comes_from_here(self._spec.source_uri):
                place = self._place(self._listing(self._spec.source_uri, digests))
                texts = dict(document["HyperParameters"])
                was_json = texts[_SUBMIT_DIRECTORY].startswith('"')
                texts[_SUBMIT_DIRECTORY] = json.dumps(place) if was_json else place
                document["HyperParameters"] = texts
            if (config := self._spec.checkpoint_config) is not None and self._comes_from_here(config.s3_uri):
                document["CheckpointConfig"]["S3Uri"] = self._checkpoints(config.s3_uri, digests)
        if self._comes_from_here(self._spec.output_uri):
            document["OutputDataConfig"]["S3OutputPath"] = f"file://{self._connection.facts['home']}/jobs"
        return document

    def _comes_from_here(self, uri: str) -> bool:
        """Return whether a URI means something of this machine, and not of an S3 that both reach."""
        return uri.startswith("file://") or self._spec.s3 is None or self._spec.s3["kind"] == "embedded"

    def _listing(self, uri: str, digests: Digests) -> Listing:
        links = self._folder.work_path / "sent"
        self._folder.make_work_path()
        return list_contents(recorded_storage(uri, self._spec.s3).fetch(uri, links / str(len(uri))), digests)

    def _place(self, listing: Listing) -> str:
        """Send what is not there; return where it all is, as a URI of that machine."""
        path = self._connection.ask("folder", digest=listing.digest)["path"]
        if not path:
            self._send_contents(listing)
            path = self._connection.ask("make_folder", entries=_rows(listing.entries))["path"]
        return f"file://{path}/{listing.lone}" if listing.lone else f"file://{path}"

    def _checkpoints(self, uri: str, digests: Digests) -> str:
        files = recorded_storage(uri, self._spec.s3).files_below(uri)
        entries: tuple[Entry, ...] = ()
        if files:
            folder = self._folder.work_path / "sent" / "checkpoints"
            self._folder.make_work_path()
            recorded_storage(uri, self._spec.s3).lend_all({folder / name: file for name, file in files.items()})
            listing = list_contents(folder, digests)
            self._send_contents(listing)
            entries = listing.entries
        answer = self._connection.ask("checkpoints", name=self._spec.job_name, entries=_rows(entries))
        self.restored = answer["files"]
        return f"file://{answer['path']}"

    def _send_contents(self, listing: Listing) -> None:
        sizes = {entry.digest: entry.size for entry in listing.entries if entry.digest}
        missing = self._connection.ask("missing", digests=list(sizes))["digests"]
        while missing:
            batch: list[tuple[str, int]] = []
            total = 0
            while missing and (not batch or total + sizes[missing[0]] <= _BATCH_BYTES):
                digest = missing.pop(0)
                batch.append((digest, sizes[digest]))
                total += sizes[digest]
            self._connection.ask("put", _contents(listing, batch), total, files=batch)
            self._connection.sent_bytes += total


def _contents(listing: Listing, batch: list[tuple[str, int]]) -> Iterator[bytes]:
    for digest, size in batch:
        yield from _exactly(listing.places[digest], size)


def _exactly(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size:
            chunk = file.read(min(size, CHUNK_BYTES))
            if not chunk:
                raise ChannelError(f"{path} changed while it was sent.", "Submit the job again.")
            size -= len(chunk)
            yield chunk


def _rows(entries: tuple[Entry, ...]) -> list[list[Any]]:
    return [[entry.path, entry.digest, entry.size, entry.is_program] for entry in entries]
