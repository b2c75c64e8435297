"""A channel of another S3 against what plain boto3 takes to download it, and again from the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import MIB, Aim, Row, interleave
from s3_server import BUCKET, KEY

_PART_BYTES = 8 * MIB  # what boto3 uploads by
_TITLES = {_PART_BYTES: "sent by parts, as boto3 sends it", 0: "sent in one piece"}


def s3_rows(scratch: Path, home: Path, runs: int, size_mib: int) -> list[Row]:
    """Measure one object of ``size_mib``; the runs are few, because each writes it to the disk twice."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    data = scratch / "object.bin"
    _write(data, size_mib)
    rows = []
    for part_bytes, title in _TITLES.items():
        with _server(data, part_bytes) as url:
            rows += _measure(scratch, home, url, min(runs, 5), f"{size_mib} MiB channel of another S3, {title}")
    data.unlink()
    return rows


def _measure(scratch: Path, home: Path, url: str, runs: int, title: str) -> list[Row]:
    import boto3

    from launcher.settings import S3Settings
    from launcher.storage.s3 import S3Storage

    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    storage = S3Storage(S3Settings("endpoint", url))
    uri = f"s3://{BUCKET}/{KEY.rpartition('/')[0]}/"
    plain, first, second = scratch / "plain.bin", scratch / "first", scratch / "second"

    def clear() -> None:
        plain.unlink(missing_ok=True)
        for folder in (first, second, home / "cache"):
            shutil.rmtree(folder, ignore_errors=True)

    def by_boto3() -> None:
        client.download_file(BUCKET, KEY, str(plain))

    def by_launcher() -> None:
        storage.fetch(uri, first)

    def from_cache() -> None:
        storage.fetch(uri, second)

    # What one has written goes before the next is timed: each finds the same room in the page cache.
    times = interleave(
        {"clear": clear, "plain": by_boto3, "clear again": clear, "first": by_launcher, "second": from_cache}, runs
    )
    same = "what arrives is checked against the object's CRC32, which boto3 leaves out when it reads by ranges"
    rows = [
        Row("s3", title, floor=times["plain"], ours=times["first"], aims=(Aim("ratio", 1.1),), note=same),
        Row("s3", f"{title}; again", floor=times["plain"], ours=times["second"], aims=(Aim("ratio", 0.1),)),
    ]
    clear()
    return rows


@contextmanager
def _server(data: Path, part_bytes: int) -> Iterator[str]:
    """Serve one file from a process of its own; yields the address."""
    command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(data), str(part_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def _write(path: Path, size_mib: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(size_mib):
            file.write(number.to_bytes(8, "little") + block[8:])
