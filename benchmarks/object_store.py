"""The embedded S3 against a plain moto server, both by the same boto3 client, in turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from measuring import MIB, Aim, Row

from launcher.s3_server import service

_SMALL_OBJECTS = 1000
_LISTINGS = 10
_LISTED_OBJECTS = 100_000
_BUCKET = "benchmark"
_MOTO = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e6)
"""
# Listing needs keys, not requests: what puts them into a server's own memory takes a second, what PUTs them minutes.
_MOTO_WITH_KEYS = f"""
from moto.s3.models import s3_backends
backend = s3_backends["123456789012"]["aws"]
backend.create_bucket({_BUCKET!r}, "us-east-1")
for number in range({_LISTED_OBJECTS}):
    backend.put_object({_BUCKET!r}, f"folder-{{number // 1000:03}}/{{number:06}}", b"")
"""


@dataclass
class _Server:
    name: str
    client: Any
    pid: int

    def peak_mib(self) -> float:
        """Return the most memory that the process has had, in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def storage_rows(scratch: Path, runs: int, size_mib: int) -> list[Row]:
    """Measure a large object, many small ones, and a long listing."""
    folder = scratch / "object-store"
    folder.mkdir()
    rows = _large_rows(folder, min(runs, 3), size_mib) + _small_rows(folder, min(runs, 3))
    return rows + _listing_rows(folder)


def _large_rows(folder: Path, runs: int, size_mib: int) -> list[Row]:
    source, target = folder / "source", folder / "target"
    with source.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    speeds: dict[str, dict[str, list[float]]] = {"put": {}, "get": {}}
    peaks: dict[str, list[float]] = {}
    for _ in range(runs):
        # A server of its own for each turn: one that holds what an earlier turn put has another peak.
        for start in (_moto, _embedded):
            with start(folder) as server:
                put = _seconds(lambda server=server: server.client.upload_file(str(source), _BUCKET, "large"))
                get = _seconds(lambda server=server: server.client.download_file(_BUCKET, "large", str(target)))
                peaks.setdefault(server.name, []).append(server.peak_mib())
            speeds["put"].setdefault(server.name, []).append(size_mib / put)
            speeds["get"].setdefault(server.name, []).append(size_mib / get)
            target.unlink()
    source.unlink()
    size = f"{size_mib} MiB"
    return [
        _row(f"get {size} by boto3, embedded S3 against moto", speeds["get"], unit="MiB/s", at_least=30),
        _row(f"put {size} by boto3, embedded S3 against moto", speeds["put"], unit="MiB/s", at_least=1),
        Row(
            "storage", f"peak memory of the server, {size} put and got", unit="MiB",
            floor=peaks["moto"], ours=peaks["embedded"], aims=(Aim("ours", 200),),
        ),
    ]  # fmt: skip


def _small_rows(folder: Path, runs: int) -> list[Row]:
    body = os.urandom(1024)
    keys = [f"small/{number:04}" for number in range(_SMALL_OBJECTS)]

    def put(client: Any) -> None:
        for key in keys:
            client.put_object(Bucket=_BUCKET, Key=key, Body=body)

    def get(client: Any) -> None:
        for key in keys:
            client.get_object(Bucket=_BUCKET, Key=key)["Body"].read()

    def listed(client: Any) -> None:
        for _ in range(_LISTINGS):
            assert client.list_objects_v2(Bucket=_BUCKET)["KeyCount"] == _SMALL_OBJECTS

    speeds: dict[str, dict[str, list[float]]] = {"put": {}, "get": {}, "list": {}}
    with _moto(folder) as moto, _embedded(folder) as embedded:
        for turn in range(runs + 1):
            for server in (moto, embedded):
                for name, action, times in (("put", put, 1), ("get", get, 1), ("list", listed, _LISTINGS)):
                    seconds = _seconds(lambda action=action, server=server: action(server.client))
                    if turn:
                        speeds[name].setdefault(server.name, []).append(times * _SMALL_OBJECTS / seconds)
    return [
        _row(f"{name} 1,000 objects of 1 KiB, embedded S3 against moto", speeds[name], unit="1/s", at_least=bound)
        for name, bound in (("put", 1), ("get", 2), ("list", 3))
    ]


def _listing_rows(folder: Path) -> list[Row]:
    def pages(client: Any) -> None:
        listed = sum(page["KeyCount"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET))
        assert listed == _LISTED_OBJECTS

    speeds: dict[str, list[float]] = {}
    with _moto(folder, _MOTO_WITH_KEYS) as moto, _embedded(folder) as embedded:
        _fill(folder)
        for server in (moto, embedded):  # once: moto takes a minute
            seconds = _seconds(lambda server=server: pages(server.client))
            speeds[server.name] = [_LISTED_OBJECTS / seconds]
    return [_row("list 100,000 keys by pages, embedded S3 against moto", speeds, unit="1/s", at_least=3)]


def _row(title: str, speeds: dict[str, list[float]], *, unit: str, at_least: float) -> Row:
    aim = Aim("ratio", at_least, at_least=True)
    return Row("storage", title, unit=unit, floor=speeds["moto"], ours=speeds["embedded"], aims=(aim,))


def _fill(folder: Path) -> None:
    """Put the keys of the listing into the store as a put would leave them, in one transaction."""
    from launcher.s3_server.store import ObjectStore

    with ObjectStore(_home(folder) / "s3") as store:
        with store.content() as content:
            first = store.put(_BUCKET, "folder-000/000000", content)
        with store.settling() as index:
            index.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, 0, ?, ?, ?, ?, '{}')",
                (
                    (_BUCKET, f"folder-{number // 1000:03}/{number:06}".encode(), first.etag, first.modified,
                     first.content_type, first.path.name)
                    for number in range(_LISTED_OBJECTS)
                ),
            )  # fmt: skip


@contextmanager
def _embedded(folder: Path) -> Iterator[_Server]:
    home = _home(folder)
    url = service.ensure(home)
    [server] = service.status(home)
    try:
        yield _Server("embedded", _client(url), server.pid)
    finally:
        service.stop(home)
        subprocess.run(["rm", "-rf", str(home)], check=True)


@contextmanager
def _moto(folder: Path, before: str = "") -> Iterator[_Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", before + _MOTO], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder
    )
    assert process.stdout is not None
    try:
        yield _Server("moto", _client(f"http://127.0.0.1:{process.stdout.readline().strip()}"), process.pid)
    finally:
        process.kill()
        process.communicate()


def _home(folder: Path) -> Path:
    return folder / "home"


def _client(url: str) -> Any:
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(read_timeout=600, retries={"total_max_attempts": 1}),
    )  # fmt: skip
    client.create_bucket(Bucket=_BUCKET)
    return client


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
