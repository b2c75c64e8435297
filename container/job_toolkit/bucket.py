"""A bucket in place of the folder of jobs, for ``docker compose run`` in S3 mode: by HTTP, without signatures.

The S3 that compose starts beside a job asks for no credentials, so the standard library is all that this takes.
"""

import http.client
import shutil
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

DEFAULT_BUCKET = "sagemaker-us-east-1-000000000000"
LATEST = "latest/"  # its objects hold the name of the newest job of a command that succeeded
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_COPY_BYTES = 1024 * 1024
_START_SECONDS = 30
_SYNC_SECONDS = 1.0
_TIMEOUT_SECONDS = 60


class BucketError(Exception):
    """The S3 refused something or did not answer; the text says what."""


class Bucket:
    """Objects of one bucket, as files.

    Args:
        endpoint: ``http://host:port``.
        name: the bucket.
    """

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self._address = urlsplit(endpoint).netloc

    def uri(self, key: str) -> str:
        """Return the key's ``s3://`` URI."""
        return f"s3://{self.name}/{key}"

    def make(self) -> None:
        """Make the bucket, unless it is there; wait for an S3 that was only just started."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._request("PUT", "")
                return
            except BucketError as error:
                if not isinstance(error.__cause__, ConnectionError) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def put(self, key: str, source: Path) -> None:
        """Make the content of a file the object at ``key``."""
        self._request("PUT", key, source)

    def get(self, key: str, target: Path) -> bool:
        """Write an object to a file; return False where there is none."""
        return self._request("GET", key, target=target) is not None

    def text(self, key: str) -> str | None:
        """Return an object's text, None where there is none."""
        content = self._request("GET", key)
        return None if content is None else content.decode()

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield all keys that begin with ``prefix``, in their order."""
        after = ""
        while True:
            query = f"?list-type=2&prefix={quote(prefix, safe='')}&start-after={quote(after, safe='')}"
            page = ElementTree.fromstring(self._request("GET", "", query=query) or b"")
            for item in page.iter(f"{_NAMESPACE}Key"):
                after = item.text or ""
                yield after
            if page.findtext(f"{_NAMESPACE}IsTruncated") != "true":
                return

    def _request(
        self, method: str, key: str, source: Path | None = None, target: Path | None = None, query: str = ""
    ) -> bytes | None:
        """Return the answer's content; None for an object that is not there."""
        path = f"/{self.name}/{quote(key)}" if key else f"/{self.name}"
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)
        try:
            if source is None:
                connection.request(method, path + query)
            else:
                with source.open("rb") as content:
                    # A file that is growing is sent as far as it reached now.
                    size = source.stat().st_size
                    connection.request(method, path, _read(content, size), {"Content-Length": str(size)})
            answer = connection.getresponse()
            if answer.status == http.client.NOT_FOUND and key and method == "GET":
                return None
            if answer.status != http.client.OK:
                raise BucketError(f"{method} of {self.uri(key)} at {self.endpoint}: {answer.status} {answer.reason}")
            if target is None:
                return answer.read()
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(answer, file, _COPY_BYTES)
            return b""
        except (OSError, http.client.HTTPException) as error:
            raise BucketError(f"{method} of {self.uri(key)} at {self.endpoint}: {error}") from error
        finally:
            connection.close()


def fetch_input(bucket: Bucket, jobs: Path, maker: str, wanted: str) -> str:
    """Bring what a job is to read into the folder of jobs; return the path to it, "" for the newest of ``maker``.

    Args:
        wanted: an ``s3://`` URI of an object or a prefix, ``jobs/NAME``, or "" for the newest job that succeeded.
    """
    if wanted.startswith("s3://"):
        name, _, key = wanted.removeprefix("s3://").partition("/")
        source = Bucket(bucket.endpoint, name)
        keys = [one for one in source.keys(key) if not one.endswith("/")]
        folder = key.rstrip("/") + "/"
        for one in keys:
            inner = one.removeprefix(folder) if one.startswith(folder) else one.rsplit("/", 1)[-1]
            if ".." in inner.split("/"):
                raise BucketError(f"{source.uri(one)} would leave its folder.")
            source.get(one, jobs / "input" / inner)
        if not keys:
            raise BucketError(f"{wanted}: no object has a key that begins so.")
        return f"jobs/input/{keys[0].rsplit('/', 1)[-1]}" if keys == [key] else "jobs/input"
    job = wanted.removeprefix("jobs/").strip("/") if wanted.startswith("jobs/") else bucket.text(LATEST + maker)
    if wanted.startswith("jobs/") or (job and not wanted):
        archive = f"{job}/output/output.tar.gz"
        if not bucket.get(archive, jobs / archive):
            raise BucketError(f"{bucket.uri(archive)} does not exist.")
        if not wanted:
            (jobs / maker).symlink_to(str(job))
    return wanted


@contextmanager
def mirrored(jobs: Path, bucket: Bucket) -> Iterator[None]:
    """Keep the bucket like the folder of jobs, about once a second and once more at the end.

    Raises:
        BucketError: at the end, when something could not be stored.
    """
    stored = {path: _version(path) for path in _results(jobs)}
    links = {link.name: str(link.readlink()) for link in jobs.iterdir() if link.is_symlink()}
    over = threading.Event()

    def keep() -> None:
        while not over.wait(_SYNC_SECONDS):
            try:
                _sync(jobs, bucket, stored)
            except BucketError as error:
                print(f"standalone: {error}; trying again", file=sys.stderr, flush=True)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _sync(jobs, bucket, stored, final=True)
        for link in sorted(one for one in jobs.iterdir() if one.is_symlink()):
            if links.get(link.name) != str(link.readlink()):
                (jobs / ".latest").write_text(str(link.readlink()), encoding="utf-8")
                bucket.put(LATEST + link.name, jobs / ".latest")


def _sync(jobs: Path, bucket: Bucket, stored: dict[Path, tuple[int, int]], *, final: bool = False) -> None:
    for path in _results(jobs):
        try:
            version = _version(path)
            if stored.get(path) == version:
                continue
            key = path.relative_to(jobs).as_posix()
            bucket.put(key, path)
            stored[path] = version
        except FileNotFoundError:
            continue  # the job renamed it meanwhile: the next round sees what it became
        if final and path.suffix == ".gz":
            print(f"stored {bucket.uri(key)}", flush=True)


def _results(jobs: Path) -> list[Path]:
    found = (path for job in jobs.iterdir() if not job.is_symlink() for path in sorted(job.glob("output/**/*")))
    return [path for path in found if path.is_file() and not path.is_symlink() and not path.name.startswith(".")]


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read(content: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := content.read(min(size, _COPY_BYTES))):
        size -= len(chunk)
        yield chunk


def bucket_of(variables: Mapping[str, str]) -> Bucket | None:
    """Return the bucket of S3 mode, which ``AWS_ENDPOINT_URL`` turns on; ``BUCKET`` names another than the default."""
    endpoint = variables.get("AWS_ENDPOINT_URL", "")
    return Bucket(endpoint, variables.get("BUCKET") or DEFAULT_BUCKET) if endpoint else None
