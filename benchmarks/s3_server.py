"""A fast S3 with one object, as a process of its own: what is measured against it is the client.

Usage: s3_server.py FILE PART_BYTES. The object is one that was uploaded in parts of that size; 0 is one that was not.
Prints its address; answers HEAD, also of a part, GET with and without Range (sendfile), and listings.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BUCKET, KEY = "bench", "channel/data.bin"
_LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name><Prefix>{prefix}</Prefix>
<KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key>
<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>
<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_of_file: Path
    size: int
    part_bytes: int
    etag: str
    checksum: str

    def do_HEAD(self) -> None:
        of_part = "partNumber" in parse_qs(urlsplit(self.path).query)
        self._head(206 if of_part else 200, min(self.part_bytes or self.size, self.size) if of_part else self.size)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.rstrip("/") == f"/{BUCKET}":
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            text = _LISTING.format(bucket=BUCKET, prefix=prefix, key=KEY, etag=self.etag, size=self.size).encode()
            self._head(200, len(text))
            self.wfile.write(text)
            return
        start, stop = 0, self.size
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(match[1]), int(match[2]) + 1 if match[2] else self.size
        self._head(206 if match else 200, stop - start, f"bytes {start}-{stop - 1}/{self.size}" if match else "")
        self.wfile.flush()
        with self.path_of_file.open("rb") as file:
            while start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response_only(status)
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.send_header("Accept-Ranges", "bytes")
        if self.command == "HEAD":
            self.send_header("x-amz-checksum-crc32", self.checksum)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()


def main(path: Path, part_bytes: int) -> None:
    size = path.stat().st_size
    digests, checksums = [], []
    with path.open("rb") as file:
        while data := file.read(part_bytes or size):
            digests.append(hashlib.md5(data).digest())
            checksums.append(zlib.crc32(data).to_bytes(4, "big"))
    etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}" if part_bytes else digests[0].hex()
    checksum = base64.b64encode(zlib.crc32(b"".join(checksums)).to_bytes(4, "big") if part_bytes else checksums[0])
    suffix = f"-{len(digests)}" if part_bytes else ""
    members = {"path_of_file": path, "size": size, "part_bytes": part_bytes, "etag": etag}
    members["checksum"] = checksum.decode() + suffix
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), members))
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
