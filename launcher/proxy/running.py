"""``launcher exec``: a program between the local endpoint and the proxy that leads to it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from launcher.aws.proxy import Proxy, outside_variables
from launcher.aws_names.authority import Authority
from launcher.errors import BadInputError
from launcher.proxy.environment import child_environment
from launcher.storage.own_s3 import LOOPBACK, ensure_server, server_credentials, server_in_use

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def local_aws(home: Path, caller: Mapping[str, str], *, offline: bool = False) -> Iterator[dict[str, str]]:
    """Serve AWS's names meanwhile; give every variable of a program that is to reach them here.

    Args:
        home: the launcher's home.
        caller: the variables of whoever runs the program.
        offline: whether every other host is refused.
    """
    with ExitStack() as stack:
        stack.enter_context(server_in_use(home))
        authority = Authority(home / "exec")
        proxy = Proxy(lambda: _endpoint(home), authority, offline=offline, outside=outside_variables())
        yield child_environment(
            caller,
            home=home,
            proxy_url=stack.enter_context(proxy.running()),
            credentials=server_credentials(home, LOOPBACK),
            authority=authority.certificate_path,
        )


def _endpoint(home: Path) -> tuple[str, int]:
    parts = urlsplit(ensure_server(home))
    return parts.hostname or LOOPBACK, parts.port or 80


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end, with its signals; return its exit code as a shell would.

    Raises:
        BadInputError: there is no such program, or it cannot be run.
    """
    try:
        program = subprocess.Popen(command, env=dict(environment))
    except FileNotFoundError as error:
        raise BadInputError(f"there is no program {command[0]!r}.", "Check its name, and PATH.") from error
    except OSError as error:
        raise BadInputError(f"{command[0]} cannot be run: {error.strerror}.", "Is it a program?") from error
    with _signals_to(program.send_signal):
        code = program.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_to(send: Callable[[int], None]) -> Iterator[None]:
    """Hand signals on; what a terminal sends, Ctrl-C and Ctrl-\\, the program gets from the terminal itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        send(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before |= {number: signal.signal(number, _nothing) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Left to the program, which the terminal signals as well."""
