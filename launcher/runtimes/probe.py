"""Whether a Docker engine answers, asked over its socket without loading any client: a few milliseconds."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from launcher.errors import SettingsError

DEFAULT_SOCKET = "/var/run/docker.sock"
_TIMEOUT_SECONDS = 2.0


def engine_address() -> str:
    """Return the engine's address: ``DOCKER_HOST``, else the usual Unix socket.

    Raises:
        SettingsError: the variable is no address.
    """
    address = os.environ.get("DOCKER_HOST", "") or f"unix://{DEFAULT_SOCKET}"
    try:
        urlsplit(address).port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise SettingsError(
            f"DOCKER_HOST is {address!r}, which is no address: {error}.",
            f"For example tcp://10.0.0.5:2375; unset it for unix://{DEFAULT_SOCKET}",
        ) from error
    return address


def engine_answers() -> bool:
    """Return whether something at the engine's address speaks the engine's API.

    Raises:
        SettingsError: ``DOCKER_HOST`` is no address.
    """
    address = urlsplit(engine_address())
    try:
        if address.scheme == "unix":
            if not Path(address.path).exists():
                return False
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_TIMEOUT_SECONDS)
            target: str | tuple[str, int] = address.path
        elif os.environ.get("DOCKER_TLS_VERIFY"):
            return True  # asking needs certificates: leave it to the client, whose error says what is wrong
        else:
            connection = socket.socket(socket.AF_INET)
            connection.settimeout(_TIMEOUT_SECONDS)
            target = (address.hostname or "localhost", address.port or 2375)
        with connection:
            connection.connect(target)
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(256).split(b"\r\n", 1)[0]
    except OSError:
        return False
