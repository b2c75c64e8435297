"""The address at which code inside a job reaches the S3 of its URIs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from launcher.errors import RuntimeUnavailableError
from launcher.settings import S3Settings
from launcher.storage.own_s3 import server_credentials, server_in_use

_LOOPBACK = "127.0.0.1"
_TIMEOUT_SECONDS = 2.0


@contextmanager
def s3_within_reach(s3: S3Settings, home: Path, host_address: str) -> Iterator[str]:
    """Yield the URL for ``AWS_ENDPOINT_URL`` in a job; meanwhile the embedded S3's server does not end as idle.

    Args:
        s3: embedded, or with an address.
        home: the launcher's home, which the embedded S3 is in.
        host_address: where a job reaches servers of this machine.
    Raises:
        LauncherError: there is no such address.
    """
    if s3.kind == "embedded" or s3.endpoint_url is None:
        with server_in_use(home, host_address) as url:
            yield url
    else:
        yield _translated(s3.endpoint_url, host_address)


def credentials_within(s3: S3Settings, home: Path, host_address: str) -> dict[str, str]:
    """Return the credentials that a job needs at the address of ``s3_within_reach``; empty where it has its own."""
    return server_credentials(home, host_address) if s3.kind == "embedded" else {}


def is_loopback_url(url: str) -> bool:
    """Return whether a URL names the machine that it is used on."""
    name = urlsplit(url).hostname or ""
    return name in ("localhost", "::1") or name.startswith("127.")


def _translated(url: str, host_address: str) -> str:
    """Return an address of this machine as containers know it, any other as it is."""
    parts = urlsplit(url)
    if host_address == _LOOPBACK or not is_loopback_url(url):
        return url
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host_address, port), _TIMEOUT_SECONDS).close()
    except OSError as error:
        raise RuntimeUnavailableError(
            f"{url} is this machine's own address, which containers know as {host_address}, and nothing "
            f"answers there on port {port}.",
            f"Have it listen on {host_address} as well, or name another address in LAUNCHER_S3_ENDPOINT.",
        ) from error
    return parts._replace(netloc=f"{host_address}:{port}").geturl()
