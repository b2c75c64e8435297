"""Where the command line begins: ``launcher up`` and a job's driver at once, every other command by ``main``.

To load the command line takes longer than to start either of them, and somebody waits; in the image of the jobs, where
the local AWS of compose drives some, it cannot be loaded at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case ["up", *arguments] if _up(arguments):
            return
        case ["drive", job]:
            sys.exit(_drive(job, "jobs"))
        case ["drive", job, "--kind", folder]:
            sys.exit(_drive(job, folder))
        case _:
            from launcher.cli.main import main as run

            run()


def _drive(job: str, folder: str) -> int:
    """See a job through to its end; ``folder`` is that of its kind."""
    from launcher.running.driving import be_driver

    return be_driver(job, folder)


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
