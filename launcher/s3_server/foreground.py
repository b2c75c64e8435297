"""The embedded S3 in the foreground, for compose.

``python -m launcher.s3_server.foreground ROOT ADDRESS PORT [NAME...]``; names are host names that it answers to.

It needs nothing but the standard library, so that it runs in the image of the jobs, and ends when it is told to.
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.s3_server.access import home_key
from launcher.s3_server.listening import listen
from launcher.s3_server.server import OtherServices, serve
from launcher.s3_server.store import ObjectStore


def main(
    root: str, address: str, port: str, names: Sequence[str], make_others: Callable[[Path], OtherServices] | None = None
) -> None:
    """Serve the store in a folder until SIGTERM or SIGINT.

    On the loopback address it takes any credentials; elsewhere it asks for the key in ``ROOT/key.env``.

    Args:
        names: host names to answer to besides addresses and ``localhost``.
        make_others: given the store's folder, makes what is served besides S3.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    listener = listen(address, int(port))
    home_key(Path(root))
    token = secrets.token_hex(16)  # nobody looks for this server, so nobody is told
    others = make_others(Path(root)) if make_others else None
    use_path = Path(root, "servers", "use")
    serve(ObjectStore(Path(root)), listener, token, float("inf"), use_path, names=names, others=others)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
