"""The S3 that is built in, as the launcher uses it: its server, by the launcher's own settings and errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from launcher.errors import StorageError
from launcher.s3_server.errors import S3Error
from launcher.settings import LOCAL_AWS_MODULE, s3_access, s3_idle_seconds

if TYPE_CHECKING:
    from launcher.s3_server.service import Server

LOOPBACK = "127.0.0.1"
_Class = TypeVar("_Class", bound=type[Any])


def as_storage_error(error: S3Error) -> StorageError:
    """Return the launcher's error for an error of the S3 that is built in."""
    return StorageError(error.code, error.words, error.place, error.hint)


@contextmanager
def s3_errors() -> Iterator[None]:
    """Raise what the S3 that is built in raises as the launcher's own StorageError."""
    try:
        yield
    except S3Error as error:
        raise as_storage_error(error) from error


def raises_storage_errors(storage: _Class) -> _Class:
    """Decorate a class: its public methods raise StorageError where they would raise S3Error."""
    for name, method in list(vars(storage).items()):
        if callable(method) and not name.startswith("_"):
            setattr(storage, name, _translated(method))
    return storage


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        with s3_errors():
            answer = method(*arguments, **options)
        return _items(answer) if isinstance(answer, Iterator) else answer

    return call


def _items(iterator: Iterator[Any]) -> Iterator[Any]:
    with s3_errors():
        yield from iterator


def check_bucket_name(name: str) -> str:
    """Return ``name`` if S3 would take it for a new bucket; raise StorageError otherwise."""
    from launcher.s3_server import names

    with s3_errors():
        return names.check_bucket_name(name)


def check_key(bucket: str, key: str) -> bytes:
    """Return ``key`` in UTF-8 if S3 would take it; raise StorageError otherwise."""
    from launcher.s3_server import names

    with s3_errors():
        return names.check_key(bucket, key)


def ensure_server(home: Path, address: str = LOOPBACK, port: int | None = None) -> str:
    """Return the URL of the server of the S3 below ``home`` at an address of this machine; start it if need be.

    Args:
        port: this and no other. Default: the last server's if it is free.
    Raises:
        StorageError: the address is none of this machine, the port is taken, or the server does not start.
        SettingsError: ``LAUNCHER_S3_IDLE_SECONDS`` or ``LAUNCHER_ACCESS`` has no valid value.
    """
    from launcher.s3_server import service

    idle_seconds, access = s3_idle_seconds(), s3_access()
    with s3_errors():
        return service.ensure(
            home, address, idle_seconds=idle_seconds, access=access, module=LOCAL_AWS_MODULE, port=port
        )


@contextmanager
def server_in_use(home: Path, address: str = LOOPBACK) -> Iterator[str]:
    """Yield the server's URL as ``ensure_server`` returns it; meanwhile the server does not stop as idle."""
    from launcher.s3_server import service

    idle_seconds, access = s3_idle_seconds(), s3_access()
    with ExitStack() as held:
        with s3_errors():
            url = held.enter_context(
                service.in_use(home, address, idle_seconds=idle_seconds, access=access, module=LOCAL_AWS_MODULE)
            )
        yield url


def stop_servers(home: Path) -> list[Server]:
    """End the servers that are up, after the requests they are at; return them."""
    from launcher.s3_server import service

    with s3_errors():
        return service.stop(home)


def server_credentials(home: Path, address: str = LOOPBACK) -> dict[str, str]:
    """Return ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` for clients of the server at that address."""
    from launcher.s3_server import service

    with s3_errors():
        return service.credentials(home, address)
