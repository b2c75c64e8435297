"""The console in the foreground, for compose: ``python -m launcher.console.foreground HOME ADDRESS PORT URL``.

``URL`` is where a browser of the machine outside finds it: compose publishes the port on a loopback address alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.console import ROOT
from launcher.console.access import address_of
from launcher.console.serving import Console
from launcher.s3_server import foreground
from launcher.s3_server.service import store_path

if TYPE_CHECKING:
    from launcher.s3_server.access import Key
    from launcher.s3_server.body import Body
    from launcher.s3_server.errors import S3Error
    from launcher.s3_server.messages import Response
    from launcher.s3_server.wire import Head

_CONSOLE = "console"


class ConsoleAlone:
    """The console, as what a server serves besides S3.

    Requests come from the machine outside, to an address that is none of its loopback ones; the names that they ask by
    are loopback ones, and they need the token.
    """

    def __init__(self, home: Path) -> None:
        self._console = Console(home)

    def service_of(self, head: Head) -> str:
        """Return whether a request is for the console: its name, or nothing."""
        return _CONSOLE if head.target.startswith(ROOT) and self._console.is_meant(head) else ""

    def answer(self, service: str, head: Head, body: Body, key: Key | None, address: str) -> Response:
        """Answer a request."""
        return self._console.answer(head, is_local=True)

    def refusal(self, service: str, head: Head, error: S3Error, status: int) -> Response:
        """Return the answer to a request that was refused before anybody looked at it."""
        return self._console.refusal(error, status)


def main(home: str, address: str, port: str, url: str) -> None:
    """Print the address that opens it, and serve until SIGTERM or SIGINT."""
    place = Path(home)
    store_path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
    print(address_of(place, url), flush=True)
    foreground.main(str(store_path(place)), address, port, (), lambda _root: ConsoleAlone(place))


if __name__ == "__main__":
    main(*sys.argv[1:])
