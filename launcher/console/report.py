"""A job in one file, for somebody who has no console: what its page shows, without links and without a script."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from launcher import __version__
from launcher.console import frame, pages, places
from launcher.console.reading import job_files, job_view, read_log
from launcher.jobs.record import JobRecord

_LOG_BYTES = 1 << 20


def job_report(home: Path, folder: str, name: str) -> bytes:
    """Return a page that needs nothing beside it; secrets are masked, in the request, not in the log.

    Args:
        folder: that of the job's kind.
    Raises:
        LauncherError: there is no such job, or its record cannot be read.
    """
    view = job_view(home, folder, name)
    body = pages.job_page(view, read_log(view.folder, _LOG_BYTES), alone=True)
    if isinstance(view.record, JobRecord):
        body += places.file_sections(job_files(view.record, home))
    made = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"
    return frame.standalone(name, body, f"made {made} by launcher {__version__}")
