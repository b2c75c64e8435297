"""The embedded S3's server as a process of its own: started by whoever needs it first, found by all others.

A server holds a ``flock`` for as long as it lives, so no process id is trusted; a file says where it listens, with a
secret that both sides prove to have and neither sends. The port stays the same from one server to the next
while it is free.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from launcher.s3_server.access import ANY_KEY, Access, home_key, needs_key, prove
from launcher.s3_server.errors import S3Error

LOOPBACK = "127.0.0.1"
_CONTROL_PATH = "/_launcher/"  # of server.py, which is imported by who starts one
_START_SECONDS = 30
_PING_SECONDS = 5
_MAX_ANSWER_BYTES = 8192
IDLE_SECONDS = 900.0
MODULE = "launcher.s3_server.server"
"""What is run as the server's process: S3 alone."""


class Server(NamedTuple):
    """A server that answers.

    Attributes:
        module: what runs as its process.
        stays: whether it stays up when nobody uses it.
    """

    address: str
    port: int
    pid: int
    token: str
    access: Access
    module: str = MODULE
    stays: bool = False

    def __repr__(self) -> str:  # the token is a secret
        return f"Server(url={self.url!r}, pid={self.pid})"

    @property
    def needs_key(self) -> bool:
        """Whether callers have to sign with the key of the home."""
        return needs_key(self.address, self.access)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return _url(self.address, self.port)


def ensure(
    home: Path,
    address: str = LOOPBACK,
    *,
    idle_seconds: float = IDLE_SECONDS,
    access: Access = "any",
    module: str = MODULE,
    port: int | None = None,
    as_copy: bool = False,
) -> str:
    """Return the URL of a server of the store below ``home`` that listens on ``address``; start it when there is none.

    It ends by itself when nobody has used it for ``idle_seconds``, nobody holds ``in_use`` and ``stay`` was not called.

    Args:
        access: ``key`` asks for the key of this home on a loopback address as well; a server that does not ask is
            replaced by another. ``any`` leaves a server that asks as it is.
        module: what is run as the server's process, and serves S3 and maybe more; a server of S3 alone is replaced.
        port: this and no other; a server on another port is replaced. Default: the last server's if it is free.
        as_copy: a server that is started is a copy of this process, which is new and has one thread: no second
            interpreter starts.
    Raises:
        S3Error: the address is none of this machine, the port is taken, or the server does not start.
    """
    place = _Place(home, address)
    server = place.running()
    if server is not None and (
        (access == "key" and not server.needs_key)
        or (module not in (MODULE, server.module))
        or (port not in (None, server.port))
    ):
        _stop(home, server)
        server = None
    return server.url if server is not None else place.start(idle_seconds, access, module, port, as_copy).url


def stay(home: Path, address: str = LOOPBACK) -> None:
    """Have the server on ``address`` stay up until it is stopped, however long nobody uses it."""
    _make_folder(home)
    _Place(home, address).file("stay").touch()


def credentials(home: Path, address: str = LOOPBACK) -> dict[str, str]:
    """Return the variables that clients of the server on ``address`` have to be given; ``ensure`` was called before."""
    server = _Place(home, address).running()
    asks = needs_key(address, server.access if server else "any")
    return home_key(store_path(home)).variables if asks else ANY_KEY.variables


def status(home: Path) -> list[Server]:
    """Return the servers that are up, by address."""
    servers = [_Place(home, path.stem).running() for path in sorted(_folder(home).glob("*.json"))]
    return [server for server in servers if server is not None]


def is_ours(home: Path, url: str) -> bool:
    """Return whether a server of the store below ``home`` is at ``url``, or was until it ended."""
    for path in _folder(home).glob("*.json"):
        place = _Place(home, path.stem)
        if place.last_url() == url:
            return place.running() is not None or not place.taken()
    return False


def stop(home: Path) -> list[Server]:
    """End the servers that are up, after the requests they are at; return them."""
    stopped = status(home)
    for path in _folder(home).glob("*.stay"):
        path.unlink(missing_ok=True)
    for server in stopped:
        _stop(home, server)
    return stopped


def _stop(home: Path, server: Server) -> None:
    with contextlib.suppress(OSError, ValueError):
        _ask(server.address, server.port, "POST", "stop", server.token)
    place, deadline = _Place(home, server.address), time.monotonic() + _START_SECONDS
    while place.alive():
        if time.monotonic() > deadline:
            raise S3Error("SlowDown", "the server does not stop", server.url, f"If it must end: kill -9 {server.pid}")
        time.sleep(0.02)


@contextmanager
def in_use(
    home: Path,
    address: str = LOOPBACK,
    *,
    idle_seconds: float = IDLE_SECONDS,
    access: Access = "any",
    module: str = MODULE,
) -> Iterator[str]:
    """Start a server if there is none, keep it from ending as idle, and yield its URL."""
    place = _Place(home, address)
    _make_folder(home)
    with place.file("use").open("ab") as use:
        fcntl.flock(use, fcntl.LOCK_SH)
        yield ensure(home, address, idle_seconds=idle_seconds, access=access, module=module)


class _Place:
    """The files of the server of one store on one address."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._address = address

    def file(self, kind: str) -> Path:
        return _folder(self._home) / f"{self._address}.{kind}"

    def running(self) -> Server | None:
        """Return the server that the file names, if that very server answers."""
        noted = self._known()
        if noted is None:
            return None
        try:
            nonce, text = _ask(self._address, noted["port"], "GET", "ping", noted["token"])
            answer = json.loads(text)
        except (OSError, ValueError):
            return None
        if not isinstance(answer, dict) or answer.get("proof") != prove(noted["token"], "answer", nonce):
            return None
        return Server(
            self._address, noted["port"], answer["pid"], noted["token"], noted.get("access", "any"),
            noted.get("module", MODULE), self.file("stay").exists(),
        )  # fmt: skip

    def last_url(self) -> str | None:
        """Return where the last server listened, whether it is up or not."""
        noted = self._known()
        return _url(self._address, noted["port"]) if noted else None

    def taken(self) -> bool:
        """Return whether anybody listens where the last server did."""
        noted = self._known()
        try:
            socket.create_connection((self._address, noted["port"] if noted else 0), _PING_SECONDS).close()
        except OSError:
            return False
        return True

    def alive(self) -> bool:
        """Return whether a server holds its lock."""
        try:
            with self.file("alive").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def start(self, idle_seconds: float, access: Access, module: str, port: int | None, as_copy: bool) -> Server:
        """Start a server, or find the one that somebody else has started meanwhile."""
        _make_folder(self._home)
        deadline = time.monotonic() + _START_SECONDS
        with self.file("starting").open("wb") as starting, self.file("alive").open("ab") as alive:
            fcntl.flock(starting, fcntl.LOCK_EX)
            while True:
                server = self.running()
                if server is not None:
                    return server
                try:
                    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:  # one is about to end, or too busy to answer at once
                    if time.monotonic() > deadline:
                        raise self._failed("holds its lock and does not answer") from None
                    time.sleep(0.05)
            self._launch(alive.fileno(), idle_seconds, access, module, port, as_copy)
        while time.monotonic() < deadline:
            server = self.running()
            if server is not None:
                return server
            if not self.alive():
                break
            time.sleep(0.02)
        raise self._failed("did not start")

    def _launch(
        self, lock: int, idle_seconds: float, access: Access, module: str, port: int | None, as_copy: bool
    ) -> None:
        """Bind the port, hand it and the lock to a new process, and write down where it will answer."""
        from launcher.s3_server.listening import listen

        noted = self._known()
        try:
            listener = listen(self._address, port or (noted["port"] if noted else 0), exactly=port is not None)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise S3Error(
                    "InternalError", f"port {port} of {self._address} is taken", "the embedded S3",
                    "Name another port, or leave it out to get a free one.",
                ) from error  # fmt: skip
            raise S3Error(
                "InternalError", f"cannot listen on {self._address}: {error.strerror or error}", "the embedded S3",
                "Is it an address of this machine? ip addr shows them.",
            ) from error  # fmt: skip
        token = os.urandom(16).hex()
        with listener, self.file("log").open("ab") as log:
            new = self.file("json").with_suffix(".new")
            values = {"port": listener.getsockname()[1], "token": token, "access": access, "module": module}
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(values, file)
            package_parent = str(Path(__file__).resolve().parents[2])
            search_path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
            descriptors = (listener.fileno(), lock)
            arguments = [store_path(self._home), self.file("use"), *descriptors, token, idle_seconds, access]
            environment = {**os.environ, "PYTHONPATH": search_path}
            # It forks and returns at once, so that the server is nobody's child to wait for.
            if as_copy and threading.active_count() == 1:
                _run_copy(module, [str(argument) for argument in arguments], environment, log.fileno(), descriptors)
            else:
                import subprocess  # a copy needs it not

                subprocess.run(
                    [sys.executable, "-m", module, *map(str, arguments)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False,
                    env=environment, pass_fds=descriptors, start_new_session=True,
                )  # fmt: skip
            new.replace(self.file("json"))

    def _known(self) -> dict[str, Any] | None:
        try:
            noted = json.loads(self.file("json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        valid = isinstance(noted, dict) and isinstance(noted.get("port"), int) and isinstance(noted.get("token"), str)
        return noted if valid else None

    def _failed(self, fault: str) -> S3Error:
        log = self.file("log")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:] if log.exists() else []
        return S3Error(
            "InternalError",
            f"the server on {self._address} {fault}",
            "the embedded S3",
            "\n  ".join([f"Its log: {log}", *lines]),
        )


def _run_copy(
    module: str, arguments: list[str], environment: dict[str, str], log: int, descriptors: tuple[int, ...]
) -> None:
    """Run a module's ``main`` in a copy of this process that has nothing of it but code; return when that has ended."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        empty = os.open(os.devnull, os.O_RDONLY)
        for source, number in ((empty, 0), (log, 1), (log, 2)):
            os.dup2(source, number)
        # Locks of the caller too: they belong to the open file, and would be held as long as the server lives.
        first = 3
        for descriptor in sorted(descriptors):
            os.closerange(first, descriptor)
            first = descriptor + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        os.environ.update(environment)
        import_module(module).main(arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the caller may run here
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _url(address: str, port: int) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def store_path(home: Path) -> Path:
    """Return the folder of the store below a home."""
    return home / "s3"


def _folder(home: Path) -> Path:
    return store_path(home) / "servers"


def _make_folder(home: Path) -> None:
    store_path(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    _folder(home).mkdir(exist_ok=True)


def _ask(address: str, port: int, method: str, action: str, token: str) -> tuple[str, bytes]:
    """Return the challenge that was sent, and the answer.

    Raises:
        OSError: nobody answers.
        ValueError: it is another server.
    """
    nonce = os.urandom(16).hex()
    target = f"{_CONTROL_PATH}{action}/{nonce}/{prove(token, action, nonce)}"
    request = f"{method} {target} HTTP/1.1\r\nHost: {_url(address, port)[7:]}\r\nConnection: close\r\n\r\n"
    # By hand: to load Python's HTTP client takes longer than all else that starting a server needs.
    with socket.create_connection((address, port), timeout=_PING_SECONDS) as connection:
        connection.sendall(request.encode("ascii"))
        answer = bytearray()
        while len(answer) < _MAX_ANSWER_BYTES and (chunk := connection.recv(4096)):
            answer += chunk
    head, _, text = bytes(answer).partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise ValueError(head[:100].decode("latin-1"))
    return nonce, text
