"""Where the command line begins: ``launcher up``, ``ui`` and a job's driver at once, other commands by ``main``.

To load the command line takes longer than to start either of them, and somebody waits; in the image of the jobs, where
the local AWS of compose drives some, it cannot be loaded at all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case ["up", *arguments] if _up(arguments):
            return
        case ["ui"] if _ui():
            return
        case ["drive", job]:
            sys.exit(_drive(job, "jobs"))
        case ["drive", job, "--kind", folder]:
            sys.exit(_drive(job, folder))
        case _:
            # To look for what can be freed takes a tenth of the time while modules are loaded, and a fifth at the end
            # of a short command, and frees nothing. A command that runs enables it.
            gc.disable()
            from launcher.cli.main import main as run

            try:
                run()
            finally:
                gc.freeze()


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
    from launcher.s3_server import service
    from launcher.settings import home_path

    url = _server(port)
    if url:
        service.stay(home_path())
        print(url, flush=True)
    return bool(url)


def _ui() -> bool:
    """Do what ``launcher ui`` does without options; return False to leave it, and its errors, to that."""
    from launcher.console.access import address_of  # the server, a copy of this process, needs it as well
    from launcher.s3_server.errors import S3Error
    from launcher.settings import home_path

    url = _server()
    if not url:
        return False
    try:
        print(address_of(home_path(), url), flush=True)
    except (S3Error, OSError):
        return False
    return True


def _server(port: int | None = None) -> str:
    """Return the URL of the local AWS, which is started if it is not up; empty where that fails."""
    from launcher.errors import LauncherError
    from launcher.s3_server import service
    from launcher.s3_server.errors import S3Error
    from launcher.settings import LOCAL_AWS_MODULE, home_path, s3_access, s3_idle_seconds

    try:
        idle_seconds, access = s3_idle_seconds(), s3_access()
        return service.ensure(
            home_path(), idle_seconds=idle_seconds, access=access, module=LOCAL_AWS_MODULE, port=port, as_copy=True
        )
    except (LauncherError, S3Error, OSError):
        return ""
