"""A process that forks itself when it is asked to: what it has loaded, no copy has to load again.

Standard library alone. It has one thread, so that a fork is a whole process, and keeps nothing of a request: a copy
gets the request and its descriptors, a session of its own, and none of the server's. Requests come by a Unix socket,
from processes of the same user that see this machine as the server does: not from a job, which has namespaces of its
own.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_MAX_BYTES = 4 << 20
_MAX_DESCRIPTORS = 8
_CLIENT_SECONDS = 2.0
_LENGTH = struct.Struct(">I")
_GO = b"\1"
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
# What an interpreter, or a library that it loads, reads once, when it begins.
_READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "OPENSSL_", "OMP_", "GOMP_", "KMP_", "MKL_"),
    *("OPENBLAS_", "BLIS_", "NUMEXPR_", "TORCH", "PYTORCH_", "CUDA_", "NVIDIA_", "NCCL_", "ATEN_", "ARROW_"),
)


class Asked(NamedTuple):
    """What a copy is for: the request, and the descriptors that came with it, which it owns."""

    request: dict[str, Any]
    descriptors: list[int]


def read_at_start(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that a process which runs already cannot take to heart any more."""
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def surroundings(environment: dict[str, str]) -> dict[str, Any]:
    """Return what a process inherits, as JSON: a copy of one stands for another only where all of it is the same.

    Args:
        environment: the variables that the process begins with.
    """
    import resource

    limits = sorted(number for name, number in vars(resource).items() if name.startswith("RLIMIT_"))
    return {
        "interpreter": [sys.executable, sys.version],
        "variables": read_at_start(environment),
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "cpus": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": [list(resource.getrlimit(number)) for number in limits],
        "umask": _line(Path("/proc/self/status").read_text(), "Umask:"),
        "cgroup": Path("/proc/self/cgroup").read_text(),
        "root": os.readlink("/proc/self/root"),  # noqa: PTH115
    }


def _line(text: str, begin: str) -> str:
    return next((line.removeprefix(begin).strip() for line in text.splitlines() if line.startswith(begin)), "")


def ask(
    path: Path, request: dict[str, Any], descriptors: list[int], *, timeout_seconds: float = _CLIENT_SECONDS
) -> dict[str, Any] | None:
    """Ask the server whose socket is at ``path``; return its answer, or None where none answers in time.

    Returns:
        ``{"pid": ...}`` of the copy, 0 where the server was ended before it could say; or ``{"refused": why}``.
    """
    text = json.dumps(request).encode()
    if len(text) > _MAX_BYTES:
        return None
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        with _short(path) as address:
            connection.connect(address)
        connection.sendmsg([_LENGTH.pack(len(text))], rights)
        connection.sendall(text)
        answer = _answer_of(connection)
        if answer.get("ready"):  # what has waited for too long has asked for nothing
            connection.sendall(_GO)
            return {"pid": 0, **_answer_of(connection)}
        return answer
    return None


def _answer_of(connection: socket.socket) -> dict[str, Any]:
    try:
        answer = json.loads(_receive(connection, *_LENGTH.unpack(_receive(connection, _LENGTH.size))))
    except (ConnectionError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, whose folder is this user's alone; one left there is replaced.

    Raises:
        OSError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as address:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            listener.bind(address)
        listener.listen(64)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _short(path: Path):  # type: ignore[no-untyped-def]  # an iterator of one text
    """Yield another name of a path: a socket's address has room for 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def serve(
    listener: socket.socket,
    refusal: Callable[[dict[str, Any]], str],
    finished: Callable[[int], bool],
    *,
    watched: int = -1,
    tick_seconds: float = 1.0,
) -> Asked | None:
    """Answer requests, each by a copy of this process; return what is asked of it in the copy, None in the server.

    Args:
        listener: of ``listen``.
        refusal: says why a request cannot be served by a copy; empty where it can.
        finished: asked every ``tick_seconds`` and after each request, with the number of copies that have not ended:
            whether the server has to end.
        watched: a descriptor; its end ends the server. -1 for none.
    """
    copies: set[int] = set()
    while not finished(len(copies)):
        with contextlib.suppress(ChildProcessError):
            while copies and (pid := os.waitpid(-1, os.WNOHANG)[0]):
                copies.discard(pid)
        numbers = [listener.fileno(), *([watched] if watched >= 0 else [])]
        readable, _, _ = select.select(numbers, [], [], tick_seconds)
        if watched in readable:
            break
        if not readable:
            continue
        try:
            connection, _ = listener.accept()
        except OSError:  # whoever asked has gone
            continue
        asked = _answer(connection, refusal, copies)
        if asked is not None:
            listener.close()
            if watched >= 0 and watched not in asked.descriptors:
                with contextlib.suppress(OSError):
                    os.close(watched)
            return asked
    listener.close()
    return None


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    text = json.dumps(answer).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)


def _answer(connection: socket.socket, refusal: Callable[[dict[str, Any]], str], copies: set[int]) -> Asked | None:
    """Answer one request; return it in the copy."""
    descriptors: list[int] = []
    try:
        with connection:
            connection.settimeout(_CLIENT_SECONDS)
            with contextlib.suppress(OSError, ValueError):
                request = _read(connection, descriptors)
                reason = _stranger(connection) or refusal(request)
                if reason:
                    _send(connection, {"refused": reason})
                    return None
                _send(connection, {"ready": True})
                if _receive(connection, len(_GO)) != _GO:
                    return None
                pid = os.fork()
                if not pid:
                    connection.close()
                    os.setsid()
                    asked, descriptors = Asked(request, descriptors), []
                    return asked
                copies.add(pid)
                _send(connection, {"pid": pid})
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return None


def _read(connection: socket.socket, descriptors: list[int]) -> dict[str, Any]:
    """Return a request; the descriptors that come with it are added to the list, and inherited by no program.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    size = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    head, rights, _, _ = connection.recvmsg(_LENGTH.size, size, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            descriptors += numbers
    head += _receive(connection, _LENGTH.size - len(head))
    (length,) = _LENGTH.unpack(head)
    if length > _MAX_BYTES:
        raise ValueError("too long")
    request = json.loads(_receive(connection, length))
    if not isinstance(request, dict):
        raise ValueError("no object")
    return request


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise ConnectionError
        data += chunk
    return bytes(data)


def _stranger(connection: socket.socket) -> str:
    """Say why the process at the other end may ask nothing; empty where it may."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    if uid != os.geteuid():
        return "it is another user's"
    try:
        same = all(
            os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115
            for name in _NAMESPACES
        )
    except OSError:
        same = False
    return "" if same else "it has namespaces of its own"


def lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on ``path`` until it is closed; None where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
