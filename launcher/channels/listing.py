"""Which objects a channel holds: a prefix, a manifest, an augmented manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import BadInputError, ChannelError, StorageError
from launcher.jobs.spec import Channel
from launcher.storage import Storage, to_uri
from launcher.storage.s3_uris import check_file_name, split_s3_uri

StorageOf = Callable[[str], Storage]
_MOST_SHOWN = 3
_REFERENCE = "-ref"


class Part(NamedTuple):
    """One piece of a streamed record: an object, or a text of the manifest itself; one of the two is empty."""

    uri: str = ""
    text: str = ""


def channel_objects(channel: Channel, storage_of: StorageOf) -> dict[str, str]:
    """Return the URI of each object of a channel by its file name there, in the channel's order.

    Args:
        channel: of the type S3Prefix or ManifestFile.
        storage_of: returns the storage of a URI.
    Raises:
        ChannelError: there is nothing to read, or the manifest is broken.
    """
    if channel.s3_data_type == "ManifestFile":
        return _manifest_objects(channel.uri, storage_of)
    return storage_of(channel.uri).channel_items(channel.uri)


def augmented_lines(channel: Channel, storage_of: StorageOf) -> list[list[Part]]:
    """Return what each line of an augmented manifest streams: its attributes in the order that was asked for.

    The value of ``X-ref`` is the object at that URI, any other value its JSON text.

    Raises:
        ChannelError: the manifest is broken, a line lacks an attribute, or an object is missing.
    """
    place = f"the augmented manifest {channel.uri}"
    lines = []
    for number, text in enumerate(_content(channel.uri, storage_of).splitlines(), 1):
        if not text.strip():
            continue
        line = _json(text, f"{place}, line {number}")
        if not isinstance(line, dict):
            raise ChannelError(f"{place}, line {number}, is not a JSON object.", "Write one object a line.")
        lines.append([_attribute(line, name, f"{place}, line {number}") for name in channel.attribute_names])
    if not lines:
        raise ChannelError(f"{place} has no lines.", "Write one JSON object a line.")
    _check_there((part.uri for line in lines for part in line if part.uri), place, storage_of)
    return lines


def check_whole_folder(channel: Channel, storage_of: StorageOf) -> None:
    """Refuse a FastFile channel whose prefix is a part of names: such a prefix cannot be mounted on AWS.

    Raises:
        ChannelError: keys begin with the prefix that are neither it nor below it.
    """
    if not channel.uri.startswith("s3://"):
        return
    bucket, key = split_s3_uri(channel.uri)
    folder = f"s3://{bucket}/{key.rstrip('/')}/" if key else f"s3://{bucket}/"
    for uri in storage_of(channel.uri).channel_items(channel.uri).values():
        if uri != channel.uri and not uri.startswith(folder):
            raise ChannelError(
                f"FastFile needs the whole name of a folder, and {channel.uri} also begins {uri}.",
                f"Write {folder}, or use File.",
            )


def _manifest_objects(uri: str, storage_of: StorageOf) -> dict[str, str]:
    place = f"the manifest {uri}"
    entries = _json(_content(uri, storage_of), place)
    prefix = (
        entries[0].get("prefix") if isinstance(entries, list) and entries and isinstance(entries[0], dict) else None
    )
    if not isinstance(prefix, str) or not prefix.strip():
        raise ChannelError(
            f"{place} does not begin with its prefix: the first element must be a valid non-empty S3Uri.",
            'Write a JSON array: [{"prefix": "s3://BUCKET/some/prefix/"}, "relative/path/1", ...]',
        )
    _check_uri(prefix, place)
    objects: dict[str, str] = {}
    for number, suffix in enumerate(entries[1:], 2):
        if not isinstance(suffix, str) or not suffix:
            raise ChannelError(
                f"{place}: element {number} is no text: {json.dumps(suffix)[:80]}.",
                "Each element after the prefix is a relative path.",
            )
        name = suffix.lstrip("/")
        check_file_name(f"{prefix}{suffix}", name)
        objects[name] = f"{prefix}{suffix}"
    if not objects:
        raise ChannelError(f"{place} names no objects.", "Add relative paths after the prefix.")
    folders = {str(parent) for name in objects for parent in Path(name).parents}
    for name in objects:
        if name in folders:
            raise ChannelError(f"{place}: '{name}' would be a file and a folder.", "Rename one of the objects.")
    _check_there(objects.values(), place, storage_of)
    return objects


def _attribute(line: Mapping[str, Any], name: str, place: str) -> Part:
    if name not in line:
        names = ", ".join(sorted(line)) or "none"
        raise ChannelError(
            f"{place}, has no attribute '{name}'.", f"AttributeNames are case-sensitive; the line has: {names}."
        )
    value = line[name]
    if not name.endswith(_REFERENCE):
        return Part(text=json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    if not isinstance(value, str):
        raise ChannelError(f"{place}: the value of '{name}' is no S3 URI.", "A name that ends in -ref holds a URI.")
    _check_uri(value, place)
    return Part(uri=value)


def _check_uri(uri: str, place: str) -> None:
    try:
        if not uri.startswith(("s3://", "file:///")):
            raise ChannelError(f"'{uri}' is no S3 URI.", "Write s3://BUCKET/KEY, or file:///path.")
        to_uri(uri)
    except BadInputError as error:
        raise ChannelError(f"{place}: {error.message}", error.hint) from error


def _check_there(uris: Iterable[str], place: str, storage_of: StorageOf) -> None:
    wanted = list(dict.fromkeys(uris))
    missing = []
    for scheme in ("s3://", "file://"):
        of_scheme = [uri for uri in wanted if uri.startswith(scheme)]
        missing += storage_of(of_scheme[0]).missing(of_scheme) if of_scheme else []
    if missing:
        shown = ", ".join(missing[:_MOST_SHOWN]) + (", ..." if len(missing) > _MOST_SHOWN else "")
        raise ChannelError(
            f"{place} names {len(missing)} object{'s' if len(missing) > 1 else ''} that cannot be read: {shown}.",
            "Keys are case-sensitive; the prefix and the relative path are joined as they are.",
        )


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChannelError(f"{place} is not JSON: {error}.", "Correct the file.") from error


def _content(uri: str, storage_of: StorageOf) -> str:
    import tempfile  # slow to load, and few channels are manifests

    with tempfile.TemporaryDirectory(prefix="launcher-manifest-") as folder:
        try:
            path = storage_of(uri).fetch_object(uri, Path(folder, "manifest"))
            return path.read_text(encoding="utf-8")
        except StorageError as error:
            raise ChannelError(f"the manifest {uri} cannot be read: {error.message}", error.hint) from error
        except UnicodeDecodeError as error:
            raise ChannelError(f"the manifest {uri} is no text in UTF-8.", "Correct the file.") from error
