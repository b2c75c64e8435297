"""The local AWS as a process: the server of the embedded S3, with the other services on the same port.

``launcher.s3_server.service`` starts it, and finds it again; ``python -m launcher.aws.server`` with its arguments.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.aws.front import LocalAws
from launcher.s3_server import server
from launcher.settings import ACCOUNT_ID

# Would lead a request that came here to another S3, or to AWS.
_VARIABLES_OF_CALLERS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"),
    "LAUNCHER_S3_ENDPOINT",
)


def make_local_aws(root: Path) -> LocalAws:
    """Return what is served besides the store in ``root``, which is in the launcher's home; this process is its own.

    The surroundings of whoever happened to start it do not count: ``s3://`` means the S3 on this port.
    """
    home = root.parent
    for name in _VARIABLES_OF_CALLERS:
        os.environ.pop(name, None)
    os.environ |= {"LAUNCHER_HOME": str(home), "MOTO_ACCOUNT_ID": ACCOUNT_ID}
    return LocalAws(home)


if __name__ == "__main__":
    server.main(sys.argv[1:], make_local_aws)
