"""A scrub: every stored content read once and compared with the digest that it was put with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from launcher.s3_server.store import ObjectStore

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Damage:
    """An object, or a part of an upload, whose content is not what was put."""

    uri: str
    reason: str
    path: Path


@dataclass(frozen=True)
class Scrub:
    """What a scrub saw: how many contents of how many bytes, and which of them are damaged."""

    contents: int
    size: int
    damage: list[Damage]


def damaged_contents(store: ObjectStore) -> Scrub:
    """Compare the content of every object, and of every part of an upload, with its size and MD5.

    The ETag is the MD5 of the content, or of the MD5s of the parts it came in, whose sizes are kept. An object that is
    replaced or deleted meanwhile is left out.
    """
    damage, count, total = [], 0, 0
    for bucket, key, size, etag, content, parts in store.contents():
        path = store.content_path(content)
        reason = _damage(path, size, etag, parts)
        if reason and not store.refers_to(content):
            continue
        count, total = count + 1, total + size
        if reason:
            damage.append(Damage(f"s3://{bucket}/{key}", reason, path))
    return Scrub(count, total, damage)


def _damage(path: Path, size: int, etag: str, parts: Sequence[int]) -> str:
    """Return what is wrong with a file; empty where nothing is."""
    digest, _, number = etag.partition("-")
    try:
        with path.open("rb", buffering=0) as file:
            if not number:
                length, actual = _md5(file, None)
            else:
                digests = []
                length = 0
                for part in parts:
                    read, part_digest = _md5(file, part)
                    length += read
                    digests.append(part_digest)
                length += _md5(file, None)[0]
                actual = hashlib.md5(b"".join(digests), usedforsecurity=False).digest()
    except FileNotFoundError:
        return "its content is missing"
    except OSError as error:
        return f"its content cannot be read: {error.strerror}"
    if length != size:
        return f"its content has {length} bytes instead of {size}"
    return "" if actual.hex() == digest else "its content no longer has the MD5 that it was stored with"


def _md5(file: BinaryIO, limit: int | None) -> tuple[int, bytes]:
    """Return length and MD5 of the next ``limit`` bytes, or of all."""
    md5, length = hashlib.md5(usedforsecurity=False), 0
    while limit is None or length < limit:
        chunk = file.read(_CHUNK if limit is None else min(_CHUNK, limit - length))
        if not chunk:
            break
        md5.update(chunk)
        length += len(chunk)
    return length, md5.digest()
