"""Writes the streams of a job's Pipe channels into named pipes: a process of its own that outlives the launcher.

Started as a script with the standard library alone: ``python -I -S feeder.py STATE_PATH LOCK_FD``. The state folder
holds ``request.json`` (what to write where) and gets ``feeder.json`` (who writes), ``ended.json`` (that nothing went
wrong, or what did) and from the driver ``hosts.json`` (the processes that end with the hosts). The lock on the given
descriptor is held as long as this process lives.

A pipe ``STEM_N`` is epoch N; a training job's stem is the channel's name. It gets a writer when a job opens it; the
pipe of the next epoch is there by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

_CHUNK_BYTES = 1 << 20
_TICK_SECONDS = 0.2
_F_SETPIPE_SZ = 1031
_LONELY_SECONDS = 10.0  # without a driver and before any host is there
_MAGIC = 0xCED7230A
_LONGEST_RECORD = 1 << 29  # the upper bits of a length are flags
PIPE_MODE = 0o666

_Entry = TypeVar("_Entry")


def shuffled(entries: Sequence[_Entry], seed: int | None, epoch: int) -> list[_Entry]:
    """Return the entries in the order of an epoch; without a seed as they are."""
    if seed is None:
        return list(entries)
    import random  # few channels are shuffled, and the launcher loads this module for every job

    ordered = list(entries)
    random.Random(f"{seed}/{epoch}").shuffle(ordered)
    return ordered


def share_of(entries: Sequence[_Entry], host: int, hosts: int) -> list[_Entry]:
    """Return the part of one of several hosts: every object is on one of them."""
    return list(entries[host::hosts])


def main(state_path: Path, lock_descriptor: int) -> None:
    """Write all streams until the hosts have ended, somebody asks for the end, or the job is gone."""
    os.set_inheritable(lock_descriptor, False)
    request: dict[str, Any] = json.loads((state_path / "request.json").read_text(encoding="utf-8"))
    wanted_end = threading.Event()
    # A cluster that takes a job away sends it to every process; the job reads on until it ends.
    ignores = request.get("ignores_sigterm")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else lambda _number, _frame: wanted_end.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0)  # an image may run as any user; the folder around the tree keeps others out
    _write_json(state_path / "feeder.json", {"pid": os.getpid()})
    errors: list[str] = []
    for stream in request["streams"]:
        feed = _Stream(stream, request["channels"][stream["channel"]])
        threading.Thread(target=feed.run, args=(errors.append,), daemon=True).start()
    watch = _Watch(state_path, request)
    told = False
    while not wanted_end.wait(_TICK_SECONDS) and not watch.is_over():
        if errors and not told:
            # The pipes stay open: an end of the stream would look as if all had been read.
            told = True
            _write_json(state_path / "ended.json", {"error": errors[0]})
    if not told:
        with contextlib.suppress(OSError):  # the folder may be gone
            _write_json(state_path / "ended.json", {"error": ""})
    os._exit(0)  # threads that wait for a reader end here


class _Stream:
    """The pipes of one channel on one host."""

    def __init__(self, stream: dict[str, Any], channel: dict[str, Any]) -> None:
        self._name, self._stem = stream["channel"], stream["stem"]
        self._host, self._hosts = stream["number"], stream["hosts"]
        self._channel = channel
        # Opened before any host runs: whatever a job puts in the place of a folder later, this is the folder.
        self._folder = os.open(stream["folder"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def run(self, tell: Callable[[str], None]) -> None:
        """Write epoch after epoch; ``tell`` gets what went wrong."""
        epoch = 0
        make_pipe(f"{self._stem}_{epoch}", self._folder)
        try:
            while True:
                pipe = self._open(epoch)
                make_pipe(f"{self._stem}_{epoch + 1}", self._folder)
                with contextlib.suppress(BrokenPipeError):  # the job has read enough
                    for entry in self._entries(epoch):
                        for part in entry:
                            self._write(pipe, part)
                os.close(pipe)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._stem}_{epoch}", dir_fd=self._folder)
                epoch += 1
        except (OSError, ValueError) as error:
            tell(f"channel '{self._name}' cannot be streamed: {error}")

    def _entries(self, epoch: int) -> list[Any]:
        entries = shuffled(self._channel["entries"], self._channel["seed"], epoch)
        return share_of(entries, self._host, self._hosts) if self._channel["sharded"] else entries

    def _open(self, epoch: int) -> int:
        """Wait for a reader; the job owns the folder and may have put anything in the place of the pipe."""
        name = f"{self._stem}_{epoch}"
        pipe = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            os.close(pipe)
            raise ValueError(f"{name} is no pipe any more")
        with contextlib.suppress(OSError):  # a user may have only so many large pipes
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _CHUNK_BYTES)
        return pipe

    def _write(self, pipe: int, part: dict[str, str]) -> None:
        if "text" in part:
            data = part["text"].encode()
            self._write_record(pipe, len(data), iter([data]))
            return
        with open(part["path"], "rb", buffering=0) as file:  # noqa: PTH123
            if self._channel["gzip"]:
                self._write_unzipped(pipe, file, part["path"])
            elif self._channel["record_io"]:
                self._write_record(pipe, os.fstat(file.fileno()).st_size, _chunks(file))
            else:
                _splice(file.fileno(), pipe)

    def _write_unzipped(self, pipe: int, file: Any, path: str) -> None:
        import gzip
        import zlib

        try:
            if self._channel["record_io"]:  # the length comes first: the content is unpacked twice
                length = sum(len(chunk) for chunk in _chunks(gzip.GzipFile(fileobj=file)))
                file.seek(0)
                self._write_record(pipe, length, _chunks(gzip.GzipFile(fileobj=file)))
            else:
                for chunk in _chunks(gzip.GzipFile(fileobj=file)):
                    _write_all(pipe, chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file: {error}") from error

    def _write_record(self, pipe: int, length: int, chunks: Iterator[bytes]) -> None:
        """Write one record: magic number and length, little endian, then the data, filled up to four bytes."""
        if not self._channel["record_io"]:
            for chunk in chunks:
                _write_all(pipe, chunk)
            return
        if length >= _LONGEST_RECORD:
            raise ValueError(f"{length:,} bytes are too many for a RecordIO record, which holds less than 512 MiB")
        _write_all(pipe, struct.pack("<II", _MAGIC, length))
        for chunk in chunks:
            _write_all(pipe, chunk)
        _write_all(pipe, bytes(-length % 4))


class _Watch:
    """Whether there is anybody left to write for."""

    def __init__(self, state_path: Path, request: dict[str, Any]) -> None:
        self._state_path = state_path
        self._driver_lock = request["driver_lock"]
        self._deadline = time.monotonic() + float(request["longest_seconds"])
        self._driven = time.monotonic()
        self._processes: list[int] | None = None
        self._seen = ""

    def is_over(self) -> bool:
        now = time.monotonic()
        if not self._state_path.is_dir() or now > self._deadline:
            return True
        self._read_hosts()
        if self._processes is not None:
            return bool(self._processes) and all(map(_has_ended, self._processes))
        if _is_locked(self._driver_lock):
            self._driven = now
        return now - self._driven > _LONELY_SECONDS

    def _read_hosts(self) -> None:
        try:
            text = (self._state_path / "hosts.json").read_text(encoding="utf-8")
        except OSError:
            return
        if text != self._seen:
            self._seen = text
            numbers: list[int] = json.loads(text)
            # A number that nobody knows can end by the deadline alone, or when it is asked to.
            self._processes = [] if 0 in numbers else [_handle(number) for number in numbers]


def _handle(number: int) -> int:
    """Return a descriptor of a process, which no later process of that number can take; -1 where it has ended."""
    try:
        return os.pidfd_open(number)
    except (OSError, AttributeError):
        return -1


def _has_ended(handle: int) -> bool:
    return handle < 0 or bool(select.select([handle], [], [], 0)[0])


def _is_locked(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def make_pipe(name: str, folder: int) -> None:
    """Make a named pipe in an open folder, unless something of that name is there."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(name, PIPE_MODE, dir_fd=folder)


def _splice(source: int, pipe: int) -> None:
    """Copy a file into a pipe, where the kernel can without a way through this process."""
    splice = getattr(os, "splice", None)
    if splice is None:
        while data := os.read(source, _CHUNK_BYTES):
            _write_all(pipe, data)
        return
    while splice(source, pipe, _CHUNK_BYTES):
        pass


def _chunks(file: BinaryIO | Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _write_all(pipe: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _write_json(path: Path, value: object) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
