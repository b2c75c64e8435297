"""The failure file: why a job failed, for the platform to show."""

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from job_toolkit.paths import job_paths


def write_stop_reason(reason: str) -> None:
    """Tell the platform, in ``output/.stop-reason``, why this process ended the job by itself."""
    _write_whole(job_paths().output / ".stop-reason", reason)


def write_failure(message: str) -> None:
    """Write ``message`` to ``output/failure``; a reader sees all of it or nothing.

    The platform shows the first 1024 characters, so what matters comes first. Where the file cannot be
    written, that is said on stderr: the exit code still tells the platform that the job failed.
    """
    _write_whole(job_paths().failure, message)


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Text from a program's output may hold lone surrogates, which UTF-8 has no bytes for.
        temporary.write_text(text, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a full disk takes no log either; the exit code still has to get out
            print(f"job_toolkit: cannot write {path}: {error}", file=sys.stderr, flush=True)


def fail_job(message: str, exit_code: int = 1) -> NoReturn:
    """End this process and leave ``message`` as the reason why the job failed.

    Args:
        exit_code: not 0; 2 says that the job was given what it cannot work with, and the command line returns it too.
    """
    write_failure(message)
    print(message, file=sys.stderr, flush=True)
    sys.exit(exit_code)
