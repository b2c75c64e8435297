"""The embedded S3 in the foreground, for compose: ``python -m launcher.s3_server.foreground ROOT ADDRESS PORT``.

It needs nothing but the standard library, so that it runs in the image of the jobs, and ends when it is told to.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from launcher.s3_server.server import listen, serve
from launcher.s3_server.store import ObjectStore


def main(root: str, address: str, port: str) -> None:
    """Serve the store in a folder until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    listener = listen(address, int(port))
    serve(ObjectStore(Path(root)), listener, "compose", float("inf"), Path(root, "servers", "use"))


if __name__ == "__main__":
    main(*sys.argv[1:])
