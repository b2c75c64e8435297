"""The local AWS as a process: the server of the embedded S3, with the other services on the same port.

``launcher.s3_server.service`` starts it, and finds it again; ``python -m launcher.aws.server`` with its arguments. Who
uses S3 alone waits for nothing else to be loaded.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.aws.hosts import ENDINGS
from launcher.aws.services import service_of
from launcher.aws_names.variables import PROXY_VARIABLES
from launcher.console import ROOT as CONSOLE_ROOT
from launcher.s3_server import server
from launcher.s3_server.access import is_loopback
from launcher.s3_server.documents import ACCOUNT_ID

if TYPE_CHECKING:
    from launcher.aws.front import LocalAws
    from launcher.aws.proxy import Proxy
    from launcher.console.serving import Console
    from launcher.s3_server.access import Key
    from launcher.s3_server.body import Body
    from launcher.s3_server.errors import S3Error
    from launcher.s3_server.messages import Response
    from launcher.s3_server.wire import Head

# Would lead a request that came here to another S3, or to AWS.
_VARIABLES_OF_CALLERS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"),
    "LAUNCHER_S3_ENDPOINT",
)


_CONSOLE = "console"


class OnDemand:
    """The local AWS and the console, each loaded at the first request that is for it.

    Args:
        home: where jobs and all other things live.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._front: LocalAws | None = None
        self._console: Console | None = None
        self._proxy: Proxy | None = None
        self._lock = threading.Lock()

    def service_of(self, head: Head) -> str:
        """Return the service that a request is for; empty where it is S3's."""
        if head.target.startswith(CONSOLE_ROOT) and self._loaded_console().is_meant(head):
            return _CONSOLE
        return service_of(head)

    def answer(self, service: str, head: Head, body: Body, key: Key | None, address: str) -> Response:
        """Answer a request, and refuse it in the service's own words.

        Raises:
            S3Error: it is not well-formed, or not signed.
        """
        if service == _CONSOLE:
            return self._loaded_console().answer(head, is_local=is_loopback(address))
        return self._loaded().answer(service, head, body, key)

    def refusal(self, service: str, head: Head, error: S3Error, status: int) -> Response:
        """Return the answer to a request that was refused, in the shape in which this service says so."""
        if service == _CONSOLE:
            return self._loaded_console().refusal(error, status)
        return self._loaded().refusal(service, head, error, status)

    def relay(self, head: Head, client: socket.socket, begun: bytes) -> None:
        """Serve a client that asked this server as a proxy: AWS's names lead to this very server."""
        with self._lock:
            if self._proxy is None:
                from launcher.aws.proxy import Proxy, outside_variables
                from launcher.aws_names.authority import Authority

                address = client.getsockname()[:2]
                self._proxy = Proxy(lambda: address, Authority(self._home / "exec"), outside=outside_variables())
        self._proxy.serve(client, head, begun)

    def _loaded_console(self) -> Console:
        with self._lock:
            if self._console is None:
                from launcher.console.serving import Console

                self._console = Console(self._home)
            return self._console

    def _loaded(self) -> LocalAws:
        with self._lock:
            if self._front is None:
                from launcher.aws.front import LocalAws

                self._front = LocalAws(self._home)
            return self._front


def make_local_aws(root: Path) -> OnDemand:
    """Return what is served besides the store in ``root``, which is in the launcher's home; this process is its own.

    The surroundings of whoever happened to start it do not count: ``s3://`` means the S3 on this port.
    """
    home = root.parent
    for name in _VARIABLES_OF_CALLERS:
        os.environ.pop(name, None)
    for name in PROXY_VARIABLES:
        if "//127.0.0.1:" in os.environ.get(name, "") and os.environ.get("LAUNCHER_AWS_NAMES"):
            del os.environ[name]  # of launcher exec, which ends before this server does
    os.environ |= {"LAUNCHER_HOME": str(home), "MOTO_ACCOUNT_ID": ACCOUNT_ID}
    return OnDemand(home)


def main(arguments: list[str]) -> None:
    """Serve, as a process of its own, until a stop is asked for or nobody has used it for long."""
    server.main(arguments, make_local_aws, ENDINGS)


if __name__ == "__main__":
    main(sys.argv[1:])
