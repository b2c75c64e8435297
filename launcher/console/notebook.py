"""What a notebook shows of a job: parts of the console's pages, with the style that they need and no script."""

from __future__ import annotations

import time
from pathlib import Path

from markupsafe import Markup

from launcher.console import pages
from launcher.console.html import duration, markup, number, static_text
from launcher.console.reading import Estimates, job_view
from launcher.jobs.record import DrivenRecord, HostsRecord
from launcher.jobs.store import Store
from launcher.jobs.tuning_record import TuningRecord

_CLASS = "launcher-console"
_COLORS = {"Completed": "#167a3f", "Failed": "#bf3b24", "Stopped": "#8a867c"}


def job_html(home: Path, folder: str, name: str) -> str:
    """Return a job as a notebook shows it: how it is, and its curves.

    Args:
        folder: that of its kind.
    Raises:
        LauncherError: there is no such job, or its record cannot be read.
    """
    return _fragment(Markup().join(pages.job_parts(job_view(home, folder, name), alone=True).values()))


def estimates_html(estimates: Estimates) -> str:
    """Return estimates of a policy's value as a notebook shows them."""
    return _fragment(pages.estimates_part(estimates))


def progress_html(store: Store[DrivenRecord], name: str, record: DrivenRecord, metrics: dict[str, float]) -> str:
    """Return a line on a job that runs, or has just ended.

    Args:
        metrics: their last values, by name.
    """
    words = [progress_text(store, name, record), *(f"{metric} {number(value)}" for metric, value in metrics.items())]
    bar = Markup()
    if isinstance(record, TuningRecord):
        ended = sum(trial.ended for trial in record.trials)
        bar = markup(' <progress max="{}" value="{}"></progress>', record.tuning_spec.max_jobs, ended)
    return str(
        markup(
            '<div style="font:13px system-ui,sans-serif"><span style="color:{}">●</span> {}{}</div>',
            *(_COLORS.get(str(record.status), "#1f5fa8"), " · ".join(words), bar),
        )
    )


def progress_text(store: Store[DrivenRecord], name: str, record: DrivenRecord) -> str:
    """Return in a few words which job it is, how it is, and since when."""
    second = f", {record.secondary_status}" if isinstance(record, HostsRecord) and not record.terminal else ""
    seconds = (record.ended or time.time()) - record.created
    return f"{store.kind.noun} {name}: {record.status}{second}, {duration(seconds)}"


def _fragment(body: Markup) -> str:
    # Nested, so that no rule is about anything else of the notebook's page.
    parts = static_text("style.css").partition("/* Of whole pages")[0].replace(":root{", "&{")
    own = "background:var(--paper);color:var(--ink);font:14px/1.5 system-ui,sans-serif;padding:14px 18px"
    style = Markup(f".{_CLASS}{{{own};border-radius:10px;{parts}}}")
    return str(markup('<div class="{}"><style>{}</style>{}</div>', _CLASS, style, body))
