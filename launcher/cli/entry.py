"""Where the command line begins: ``launcher up`` at once, every other command by ``main``.

To load the command line takes longer than to start the local AWS, and somebody waits for that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["up"] and _up(sys.argv[2:]):
        return
    from launcher.cli.main import main as run

    run()


def _up(arguments: Sequence[str]) -> bool:
    """Do what ``launcher up`` does, in its plainest forms; return False to leave it, and its errors, to that."""
    match arguments:
        case []:
            port = None
        case ["--port", text] if text.isdecimal() and 0 < int(text) < 1 << 16:
            port = int(text)
        case _:
            return False
    from launcher.errors import LauncherError
    from launcher.s3_server import service
    from launcher.s3_server.errors import S3Error
    from launcher.settings import LOCAL_AWS_MODULE, home_path, s3_access, s3_idle_seconds

    try:
        home, idle_seconds, access = home_path(), s3_idle_seconds(), s3_access()
        url = service.ensure(home, idle_seconds=idle_seconds, access=access, module=LOCAL_AWS_MODULE, port=port)
        service.stay(home)
        print(url, flush=True)
    except (LauncherError, S3Error, OSError):
        return False
    return True
