"""A registry of images: as much of the distribution specification as ``docker push`` asks for, and no more."""

import hashlib
import http.server
import json
import re
import threading
import uuid
from contextlib import contextmanager


class Registry:
    """What was pushed.

    Attributes:
        blobs: by digest.
        manifests: by ``REPOSITORY:TAG``.
    """

    def __init__(self):
        self.blobs, self.manifests, self._uploads = {}, {}, {}

    def answer(self, method, path, body):
        """Return status, headers and body for a request."""
        path, _, query = path.partition("?")
        if path == "/v2/":
            return 200, {}, b"{}"
        if match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", path):
            content = self.blobs.get(match[2])
            return (404, {}, b"") if content is None else (200, {"Docker-Content-Digest": match[2]}, content)
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            upload = match[2] or uuid.uuid4().hex
            self._uploads[upload] = self._uploads.get(upload, b"") + body
            if method == "PUT":
                digest = re.search(r"digest=sha256(?::|%3A)([0-9a-f]{64})", query)[1]
                content = self._uploads.pop(upload)
                if hashlib.sha256(content).hexdigest() != digest:
                    return 400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}]}'
                self.blobs[f"sha256:{digest}"] = content
                return 201, {"Docker-Content-Digest": f"sha256:{digest}"}, b""
            place = {"Location": f"/v2/{match[1]}/blobs/uploads/{upload}", "Docker-Upload-UUID": upload}
            return 202, place | {"Range": f"0-{max(0, len(self._uploads[upload]) - 1)}"}, b""
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            name = f"{match[1]}:{match[2]}"
            if method == "PUT":
                self.manifests[name] = json.loads(body)
                return 201, {"Docker-Content-Digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}, b""
            return 404, {}, b""
        return 404, {}, b""


@contextmanager
def running_registry():
    """Yield a registry and its address, ``127.0.0.1:PORT``, which every engine of this machine takes without TLS."""
    registry = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self):
            status, headers, body = registry.answer(self.command, self.path, self._body())
            self.send_response(status)
            for name, value in {**headers, "Docker-Distribution-API-Version": "registry/2.0"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _do  # noqa: N815

        def _body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
