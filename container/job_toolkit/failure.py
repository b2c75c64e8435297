"""The failure file: why a job failed, for the platform to show."""

import contextlib
import os
import sys
from typing import NoReturn

from job_toolkit.paths import job_paths


def write_failure(message: str) -> None:
    """Write ``message`` to ``output/failure``; a reader sees all of it or nothing.

    The platform shows the first 1024 characters, so what matters comes first. Where the file cannot be
    written, that is said on stderr: the exit code still tells the platform that the job failed.
    """
    failure = job_paths().failure
    temporary = failure.with_name(f".failure.{os.getpid()}")
    try:
        failure.parent.mkdir(parents=True, exist_ok=True)
        # Text from a program's output may hold lone surrogates, which UTF-8 has no bytes for.
        temporary.write_text(message, encoding="utf-8", errors="replace")
        temporary.replace(failure)
    except OSError as error:
        with contextlib.suppress(OSError):  # a disk that is full takes no log either; the exit code must still get out
            print(f"job_toolkit: cannot write {failure}: {error}", file=sys.stderr, flush=True)


def fail_job(message: str) -> NoReturn:
    """End this process with exit code 1 and leave ``message`` as the reason why the job failed."""
    write_failure(message)
    print(message, file=sys.stderr, flush=True)
    sys.exit(1)
