"""Sends the records of one host's objects through its container, and puts whole outputs in their places.

Requests of several objects may be under way at once; an output is written in the order of its records, aside, and moved
to its place when it is whole. Memory is bounded by what is under way and by what waits for an earlier answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from isal import igzip

from launcher.errors import LauncherError
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.serving.http_client import Answer, Invoker
from launcher.storage import Storage, recorded_storage
from launcher.transform.inputs import InputObject, output_uri_of
from launcher.transform.packing import MIB, Payload, payloads_of
from launcher.transform.processing import JoinError, Processing, excerpt
from launcher.transform.splitting import SplitError
from launcher.transform.streaming import stream_object

_WAITING_BYTES = 64 * MIB
"""What answers may take that wait for an earlier one of their object."""

_WINDOW_REQUESTS = 8  # for each connection: how far answers may run ahead
_AHEAD = 2  # objects that are fetched, and outputs that are put away, at the same time
_PUTS = 16  # outputs that wait to be put away


@dataclass(frozen=True)
class Parameters:
    """How a container is asked: the request's own words, else its answer to /execution-parameters, else AWS's defaults.

    Attributes:
        concurrency: requests under way at once.
        payload_bytes: of a request; 0 sets no limit, and each object is one stream.
        single: whether each request holds one record.
    """

    concurrency: int = 1
    payload_bytes: int = 6 * MIB
    single: bool = False


@dataclass
class Counts:
    """What one host has done."""

    objects: int = 0
    failed: int = 0
    records: int = 0
    requests: int = 0
    retried: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, others = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


class Journal:
    """Which objects are done, a JSON line each: what is in it is not done again by the next driver.

    Args:
        path: of the file; a last line that a killed driver has cut in two counts for nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.entries: dict[str, dict[str, Any]] = {}
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            entry = json.loads(line)
            self.entries[entry["name"]] = entry
        if len(whole) < len(text):
            path.write_bytes(whole)

    def add(self, name: str, **facts: Any) -> None:
        """Note that an object is done, or has failed for good."""
        with self._lock:
            self.entries[name] = {"name": name, **facts}
            with self._path.open("ab") as file:
                file.write(json.dumps(self.entries[name]).encode() + b"\n")

    def summary(self) -> dict[str, int]:
        """Return what all drivers together have done."""
        entries = self.entries.values()
        return {
            "objects": sum("records" in entry for entry in entries),
            "failed": len(self.failures),
            "skipped": sum(bool(entry.get("skipped")) for entry in entries),
            "records": sum(entry.get("records", 0) for entry in entries),
            "bytes_out": sum(entry.get("bytes", 0) for entry in entries),
        }

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The objects that have failed, in the order in which they did."""
        return [entry for entry in self.entries.values() if entry.get("error")]


@dataclass(eq=False)
class _Output:
    """The output of one object, as far as it is written."""

    source: InputObject
    part: Path
    file: IO[bytes]
    written: int = 0
    sent: int = 0
    records: int = 0
    exhausted: bool = False
    error: str = ""
    waiting: dict[int, bytes] = field(default_factory=dict)


Item = tuple[_Output, int, Payload]


class HostWork:
    """The objects of one host.

    Args:
        spec: the job.
        parameters: how the container is asked.
        address: of the container.
        objects: what is this host's to do.
        work_path: a folder for what is fetched and for outputs that are not whole; this host's alone.
        journal: of the job.
        on_tick: is called about ten times a second; it may raise to end the work.
    """

    def __init__(
        self,
        spec: TransformJobSpec,
        parameters: Parameters,
        address: tuple[str, int],
        objects: Sequence[InputObject],
        work_path: Path,
        journal: Journal,
        on_tick: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._parameters = parameters
        self._address = address
        self._objects = objects
        self._work_path = work_path
        self._journal = journal
        self._on_tick = on_tick
        self._processing = Processing(spec)
        self._results: Storage = recorded_storage(spec.output_uri, spec.s3)
        self._waiting_bytes = 0
        self._ahead = 0  # answers that are still to come or to be written
        self._line = spec.assemble_with == "Line"
        self.counts = Counts()
        self._helpers = ThreadPoolExecutor(_AHEAD, "transform-files")
        self._puts: list[Future[None]] = []
        self._counting = threading.Lock()

    def run(self) -> None:
        """Do all objects; one that fails is noted, and the others go on."""
        self._work_path.mkdir(parents=True, exist_ok=True)
        try:
            if self._parameters.payload_bytes == 0 and not (
                self._parameters.single and self._spec.split_type != "None"
            ):
                self._stream_all()
            else:
                self._invoke_all()
            for put in self._puts:
                put.result()
        finally:
            self._helpers.shutdown(wait=True, cancel_futures=True)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        headers = {"Content-Type": self._spec.content_type or "application/octet-stream"}
        return headers | ({"Accept": self._spec.accept} if self._spec.accept else {})

    def _invoke_all(self) -> None:
        invoker: Invoker[Item] = Invoker(
            self._address,
            connections=self._parameters.concurrency,
            timeout_seconds=self._spec.invocations_timeout_seconds,
            retries=self._spec.invocations_max_retries,
            headers=self.headers,
        )
        window = self._parameters.concurrency * _WINDOW_REQUESTS

        def tick() -> None:
            self.counts.retried = invoker.retried
            self._on_tick()

        requests = self._requests()
        try:
            invoker.run(
                requests,
                self._take,
                may_send=lambda: self._waiting_bytes < _WAITING_BYTES and self._ahead < window,
                on_tick=tick,
            )
        finally:
            requests.close()
            invoker.close()
        self.counts.retried = invoker.retried

    def _requests(self) -> Generator[tuple[Item, bytes] | None]:
        """Yield what is to be asked, object after object; the next ones are fetched meanwhile."""
        left = deque(self._objects)
        fetched: deque[tuple[InputObject, Future[Path]]] = deque()
        while left or fetched:
            while left and len(fetched) < _AHEAD:
                source = left.popleft()
                fetched.append((source, self._helpers.submit(self._fetch, source)))
            source, future = fetched.popleft()
            # Outputs that are on their way to a slow place are on this disk meanwhile: not too many of them.
            while not future.done() or sum(not put.done() for put in self._puts) > _PUTS:
                yield None
            yield from self._requests_of(source, future)

    def _requests_of(self, source: InputObject, future: Future[Path]) -> Iterator[tuple[Item, bytes] | None]:
        part = self._work_path / "output.parts" / _file_name(source)
        part.parent.mkdir(exist_ok=True)
        output = _Output(source, part, part.open("wb"))
        try:
            path = future.result()
            with self._opened(path) as file:
                for payload in payloads_of(
                    file,
                    split_type=self._spec.split_type,
                    single=self._parameters.single,
                    limit_bytes=self._parameters.payload_bytes,
                    processing=self._processing,
                ):
                    if output.error:
                        break
                    item = (output, output.sent, payload)
                    output.sent += 1
                    self._ahead += 1
                    self.counts.bytes_in += len(payload.body)
                    yield item, payload.body
            self._discard(path)
        except (SplitError, LauncherError, EOFError, OSError) as error:
            text = error.message if isinstance(error, LauncherError) else str(error)
            self._fail(output, text)
        output.exhausted = True
        self._finish_if_whole(output)

    def _take(self, item: Item, answer: Answer) -> None:
        output, index, payload = item
        self.counts.requests += 1
        data = b""
        if not output.error:
            if not answer.is_good:
                self._fail(output, f"{_numbers(payload)}: {reason_of(answer)}")
            else:
                try:
                    data = self._assembled(payload, answer.body)
                except JoinError as error:
                    self._fail(output, f"{_numbers(payload)}: {error}")
        output.waiting[index] = data
        self._waiting_bytes += len(data)
        self.counts.records += payload.records if not output.error else 0
        output.records += payload.records
        while output.written in output.waiting:
            part = output.waiting.pop(output.written)
            self._waiting_bytes -= len(part)
            self._ahead -= 1
            output.written += 1
            if part and not output.error:
                try:
                    output.file.write(part)
                except OSError as error:
                    self._fail(output, f"its output could not be written: {error.strerror}")
        self._finish_if_whole(output)

    def _assembled(self, payload: Payload, body: bytes) -> bytes:
        if self._processing.keeps_records:
            body = self._processing.joined(payload.originals, body)
        return body + b"\n" if self._line and not body.endswith(b"\n") else body

    def _fail(self, output: _Output, reason: str) -> None:
        if not output.error:
            output.error = reason
            with self._counting:
                self.counts.failed += 1

    def _finish_if_whole(self, output: _Output) -> None:
        if not output.exhausted or output.written < output.sent or output.file.closed:
            return
        try:
            output.file.close()
        except OSError as error:
            self._fail(output, f"its output could not be written: {error.strerror}")
        if output.error:
            output.part.unlink(missing_ok=True)
            self._journal.add(output.source.name, error=output.error)
            return
        self._puts = [put for put in self._puts if not put.done() or put.result()]
        self._puts.append(self._helpers.submit(self._put, output))

    def _put(self, output: _Output) -> None:
        size = output.part.stat().st_size
        try:
            self._results.put_file(output.part, output_uri_of(self._spec, output.source.name))
        except LauncherError as error:
            self._fail(output, f"its output could not be put away: {error.message}")
            self._journal.add(output.source.name, error=output.error)
            return
        finally:
            output.part.unlink(missing_ok=True)
        with self._counting:
            self.counts.objects += 1
            self.counts.bytes_out += size
        self._journal.add(output.source.name, records=output.records, bytes=size)

    def _fetch(self, source: InputObject) -> Path:
        target = self._work_path / "fetched" / _file_name(source)
        target.unlink(missing_ok=True)
        return recorded_storage(source.uri, self._spec.s3).fetch_object(source.uri, target)

    def _discard(self, path: Path) -> None:
        if path.is_relative_to(self._work_path):  # a copy or a link of our own
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[IO[bytes]]:
        with path.open("rb") as raw:
            if self._spec.compression == "Gzip":
                with igzip.open(raw, "rb") as file:  # type: ignore[no-untyped-call]
                    yield file
            else:
                yield raw

    def _stream_all(self) -> None:
        """Send each object as one stream in chunks, several at once; nothing of it is held in memory."""
        with ThreadPoolExecutor(self._parameters.concurrency, "transform-streams") as streams:
            running = [streams.submit(self._stream, source) for source in self._objects]
            try:
                while not all(future.done() for future in running):
                    self._on_tick()
                    with contextlib.suppress(TimeoutError):
                        next(future for future in running if not future.done()).result(0.1)
            except BaseException:
                for future in running:
                    future.cancel()
                raise
            for future in running:
                future.result()

    def _stream(self, source: InputObject) -> None:
        part = self._work_path / "output.parts" / _file_name(source)
        part.parent.mkdir(exist_ok=True)
        with part.open("wb") as file:
            output = _Output(source, part, file, exhausted=True, records=1)
            try:
                path = self._fetch(source)
            except LauncherError as error:
                self._fail(output, error.message)
                part.unlink(missing_ok=True)
                self._journal.add(source.name, error=output.error)
                return
            answer = stream_object(
                self._address,
                lambda: self._opened(path),
                file,
                headers=self.headers,
                timeout_seconds=self._spec.invocations_timeout_seconds,
                retries=self._spec.invocations_max_retries,
                on_block=self._on_tick,
            )
            if answer.is_good and self._line and not answer.body.endswith(b"\n"):
                file.write(b"\n")
        self._discard(path)
        with self._counting:
            self.counts.requests += 1
            self.counts.retried += answer.attempts - 1
        if not answer.is_good:
            self._fail(output, reason_of(answer))
            part.unlink(missing_ok=True)
            self._journal.add(source.name, error=output.error)
            return
        with self._counting:
            self.counts.records += 1
        self._put(output)


def _file_name(source: InputObject) -> str:
    """Return a name of a file for an object: its own may be too long, or hold folders."""
    return hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def reason_of(answer: Answer) -> str:
    """Return why an answer is none that can be used."""
    times = f" (asked {answer.attempts} times)" if answer.attempts > 1 else ""
    if answer.error:
        return f"{answer.error}{times}"
    text = excerpt(answer.body)
    return f"the container answered {answer.status}{times}" + (f": {text}" if text else "")


def _numbers(payload: Payload) -> str:
    last = payload.first + payload.records - 1
    return f"record {payload.first}" if last == payload.first else f"records {payload.first} to {last}"
