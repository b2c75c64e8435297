"""A command that runs in a container, by the engine's exec."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker
import docker.errors

from launcher.runtimes.base import Inside
from launcher.runtimes.docker_engine.connection import ANSWER_SECONDS
from launcher.runtimes.docker_engine.output import STDOUT, Frames, frames_of


class ExecutedCommand:
    """A command that the engine's exec runs in a container.

    Attributes:
        frames: what it prints; on a terminal all of it is one stream.
    """

    def __init__(
        self,
        client: docker.APIClient,
        container_id: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str | None,
        has_terminal: bool,
    ) -> None:
        self._client = client
        self._id: str = client.exec_create(
            container_id, [*command], stdin=True, tty=has_terminal, environment=dict(environment), workdir=folder
        )["Id"]
        url = f"{client.base_url}/v{client.api_version}/exec/{self._id}/start"
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        self._answer = client.post(
            url,
            json={"Tty": has_terminal, "Detach": False},
            headers=upgrade,
            stream=True,
            timeout=(ANSWER_SECONDS, None),
        )
        if self._answer.status_code >= 400:
            raise docker.errors.APIError(self._answer.text, self._answer)
        # The reader, and not the socket below it: it may have read the first output together with the headers.
        response: Any = self._answer.raw._fp
        self._reader = response.fp
        self._socket: socket.socket = self._reader.raw._sock
        chunks = iter(lambda: self._reader.read1(1 << 16), b"")
        self.frames: Frames = ((STDOUT, chunk) for chunk in chunks) if has_terminal else frames_of(chunks)

    def read(self) -> bytes:
        """Return the next of the standard output; nothing at its end."""
        return next((data for stream, data in self.frames if stream == STDOUT), b"")

    def write(self, data: bytes) -> None:
        """Write to the standard input."""
        self._socket.sendall(data)

    def close_input(self) -> None:
        """End the standard input."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave the command; it is not ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._answer.close()

    def resize(self) -> None:
        """Tell the pseudo-terminal the size of this process's own."""
        columns, lines = os.get_terminal_size()
        with contextlib.suppress(docker.errors.APIError):  # it has ended
            self._client.exec_resize(self._id, height=lines, width=columns)

    def exit_code(self) -> int:
        """Return the exit code of a command that has ended."""
        return int(self._client.exec_inspect(self._id)["ExitCode"] or 0)


def pump_input(inside: Inside) -> None:
    """Hand standard input to a command until it ends."""
    with contextlib.suppress(OSError):  # the command has ended
        while data := os.read(0, 1 << 16):
            inside.write(data)
        inside.close_input()


@contextlib.contextmanager
def raw_terminal(is_terminal: bool) -> Iterator[None]:
    """Hand keys on as they are pressed, Ctrl-C among them, until the end of the ``with`` block."""
    if not is_terminal:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed before is for the command as well
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
