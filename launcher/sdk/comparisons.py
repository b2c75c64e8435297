"""Two training jobs side by side, and a recorded job run again."""

from __future__ import annotations

from collections.abc import Collection

from launcher.comparing.differences import JobComparison
from launcher.comparing.jobs import SECTIONS, compare_training_jobs
from launcher.comparing.replaying import replay_request
from launcher.errors import BadInputError
from launcher.jobs.store import JobStore
from launcher.requests.names import make_job_name
from launcher.running.accepting import submit
from launcher.sdk.bundled import NAMES_JOB_OR_TIME
from launcher.sdk.job_results import find_job
from launcher.sdk.training_job import TrainingJob
from launcher.settings import home_path


def compare_jobs(
    first: str | TrainingJob,
    second: str | TrainingJob,
    *,
    sections: Collection[str] = SECTIONS,
    ignore: Collection[str] = (),
) -> JobComparison:
    """Compare two training jobs; nothing of them is changed.

    Args:
        first, second: jobs or their names; ``latest`` is the newest.
        sections: ``outcome``, ``request``, ``source``, ``data``, ``environment``, ``metrics`` and ``results``.
        ignore: differences that do not count, as patterns of shells: ``results/intermediate/*.png``.
    Returns:
        Sections with the differences; ``same`` and ``same_results`` say whether there are any.
    Raises:
        JobNotFoundError: there is no such job.
        BadInputError: there is no such section.
    """
    names = [(find_job(job) if isinstance(job, str) else job).name for job in (first, second)]
    return compare_training_jobs(JobStore(home_path()), names[0], names[1], sections, ignore)


def compare_replay(recorded: TrainingJob, again: TrainingJob, *, ignore: Collection[str] = ()) -> JobComparison:
    """Compare a job with its replay; files of bundled entry points that name the job or the time do not count."""
    bundled = recorded.describe().get("HyperParameters", {}).get("preset") is not None
    return compare_jobs(recorded, again, ignore=[*ignore, *(NAMES_JOB_OR_TIME if bundled else ())])


def replay_job(job: str | TrainingJob, *, job_name: str | None = None, runtime: str | None = None) -> TrainingJob:
    """Submit a recorded training job again, with its source, its channels and its values; it has to be waited for.

    Args:
        job: it, or its name.
        job_name: of the new job; made from the first one's name and the time by default.
        runtime: default: that which the first ran on.
    Returns:
        The new job; its warnings say what is not as with the first. ``wait()`` sees it through.
    Raises:
        JobNotFoundError: there is no such job.
        BadInputError: it cannot be run again, as when its source or a channel is gone.
    """
    recorded = find_job(job) if isinstance(job, str) else job
    store = JobStore(home_path())
    record = store.load(recorded.name)
    name = job_name or make_job_name(f"replay-{recorded.name}")
    if name == recorded.name:
        raise BadInputError(f"'{name}' is the recorded job's own name.", "Give the new job another, or none.")
    request, notes = replay_request(record, name, runtime or "")
    submit(request, store, warnings=[f"a replay of {recorded.name}: {note}" for note in notes])
    return TrainingJob(name, store)
