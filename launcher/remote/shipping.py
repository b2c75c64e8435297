"""A request that names folders of this machine, and the same request after they were uploaded.

Inputs are stored below a name made of their content. So what is there already is not sent again, and a job that runs
keeps its inputs, whatever happens here to the folders.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import ChannelError
from launcher.remote.client import WireClient
from launcher.requests.for_aws import texts_of
from launcher.running import artifacts
from launcher.storage import FileStorage

INPUTS = "launcher/inputs"
"""Below this prefix of a bucket are inputs, by their content."""

_SOURCE_MTIME = 315532800  # 1980, the first year that every archive format knows: the same files make the same bytes
_DIGEST_LETTERS = 32


@dataclass(frozen=True)
class Shipment:
    """A request as the other side takes it, and what has to be there before it is sent.

    Attributes:
        request: without the URI of a file of this machine.
        files: path of this machine, by the URI that it is uploaded to.
        total_bytes: of all of them.
    """

    request: Mapping[str, Any]
    files: Mapping[str, Path]
    total_bytes: int = 0

    def send(self, client: WireClient) -> int:
        """Upload what is not there yet; return how many bytes that was.

        An object that is there with the size of the file is the file: its key holds a digest of the content.

        Raises:
            StorageError: the bucket is not there, or may not be written.
        """
        there: dict[str, int] = {}
        for prefix in sorted({_root(uri) for uri in self.files}):
            there |= {f"s3://{entry.bucket}/{entry.key}": entry.size for entry in client.storage.objects(f"{prefix}/")}
        missing = [(path, uri) for uri, path in self.files.items() if there.get(uri) != path.stat().st_size]
        sent = 0
        while missing:
            batch: dict[Path, str] = {}
            for path, uri in missing:
                batch.setdefault(path, uri)  # a file may have several places, one a round
            client.storage.upload_all(batch)
            sent += sum(path.stat().st_size for path in batch)
            missing = [(path, uri) for path, uri in missing if batch[path] != uri]
        return sent


def ship_inputs(request: Mapping[str, Any], bucket_uri: str) -> Shipment:
    """Return a request whose inputs are in a bucket, with the files to upload; reads files, sends nothing.

    Args:
        request: of any kind, with ``file://`` or ``s3://`` URIs of channels, inputs and models.
        bucket_uri: of the bucket, or a prefix in it.
    Raises:
        ChannelError: a file cannot be read, or an input of this machine is a manifest.
    """
    shipped = copy.deepcopy(dict(request))
    files: dict[str, Path] = {}
    total = 0
    for text in list(texts_of(shipped)):
        if not text.is_local_input:
            continue
        kind = text.holder.get("S3DataType", "S3Prefix")
        if kind != "S3Prefix":
            raise ChannelError(
                f"{text.path}: {text.value} is a {kind} of this machine, whose objects are named by it and are not "
                "uploaded.",
                "Upload the objects and the manifest, and give the manifest's s3:// URI.",
            )
        root, members, size = content_key(text.value, bucket_uri)
        lone = next(iter(members)) if FileStorage.path_of(text.value).is_file() else ""
        text.holder[text.name] = f"{root}/{lone}"
        files |= {f"{root}/{name}": path for name, path in members.items()}
        total += size
    return Shipment(shipped, files, total)


def content_key(uri: str, bucket_uri: str) -> tuple[str, dict[str, Path], int]:
    """Return where a file or folder goes by its content, its files by their names there, and their bytes.

    Raises:
        ChannelError: there is nothing to read.
    """
    members = {name: FileStorage.path_of(inner) for name, inner in sorted(FileStorage().channel_items(uri).items())}
    whole, total = hashlib.sha256(), 0
    for name, path in members.items():
        try:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256")
            total += path.stat().st_size
        except OSError as error:
            raise ChannelError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
        whole.update(f"{len(name.encode())}:{name}".encode() + digest.digest())
    return f"{bucket_uri.rstrip('/')}/{INPUTS}/{whole.hexdigest()[:_DIGEST_LETTERS]}", members, total


def pack_source(members: Sequence[tuple[str, Path]], target: Path) -> Path:
    """Write a source archive; the same files make the same bytes, wherever and whenever.

    Args:
        members: name in the archive and path of each.
        target: the archive.
    Raises:
        ArtifactError: a member could not be read.
    """
    artifacts.write_archive(members, target, mtime=_SOURCE_MTIME, durable=False)
    return target


def _root(uri: str) -> str:
    """Return the folder of an upload that is named by its content."""
    before, marker, after = uri.partition(f"{INPUTS}/")
    if not marker:
        return uri.rpartition("/")[0]
    return f"{before}{INPUTS}/{after.partition('/')[0]}"
