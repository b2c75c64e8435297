"""The local AWS in the foreground, for compose.

``python -m launcher.aws.foreground ROOT ADDRESS PORT [NAME...]``; names are host names that it answers to. Jobs run as
processes beside it. Where moto is not installed, as in the image of the jobs, what it answers for is refused.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.aws.hosts import ENDINGS
from launcher.aws.server import OnDemand, make_local_aws
from launcher.s3_server import foreground


def main(root: str, address: str, port: str, *names: str) -> None:
    """Serve until SIGTERM or SIGINT; jobs, models and all else live in the folder that the store is in."""

    def make(folder: Path) -> OnDemand:
        local_aws = make_local_aws(folder)
        # Jobs ask this server too, on the address where it takes any credentials, and start no other.
        os.environ |= {"LAUNCHER_S3_ENDPOINT": f"http://127.0.0.1:{port}", "LAUNCHER_RUNTIME": "process"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "launcher"}
        return local_aws

    foreground.main(root, address, port, (*names, *ENDINGS), make)


if __name__ == "__main__":
    main(*sys.argv[1:])
