"""What others ask of tuning jobs: how one is doing, its training jobs, and to stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from launcher.errors import JobNotFoundError, RecordError
from launcher.jobs.record import JobRecord
from launcher.jobs.store import JobStore, Store
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import Trial
from launcher.requests.tuning import best_trial, describe_tuning, trial_summary


def describe(store: Store[TuningRecord], name: str) -> dict[str, Any]:
    """Return what DescribeHyperParameterTuningJob returns, in boto3's types.

    Raises:
        TuningJobNotFoundError: there is no such tuning job.
    """
    return describe_loaded(store, store.load(name))


def describe_loaded(store: Store[TuningRecord], record: TuningRecord) -> dict[str, Any]:
    """Return the same for a record that was just read."""
    parents = []
    for parent in record.tuning_spec.parents:
        if store.folder(parent).record_path.exists():
            parents.append((parent, store.load(parent)))
    trials = [trial for trial in record.trials if not trial.ended]
    for owner in (record, *(parent for _, parent in parents)):
        best = best_trial(owner.tuning_spec, owner.trials)
        trials += [best] if best else []
    return describe_tuning(record, child_records(store, trials), parents)


def list_training_jobs(store: Store[TuningRecord], name: str) -> list[dict[str, Any]]:
    """Return its training jobs as ListTrainingJobsForHyperParameterTuningJob has them, the oldest first.

    Raises:
        TuningJobNotFoundError: there is no such tuning job.
    """
    record = store.load(name)
    children = child_records(store, record.trials)
    spec = record.tuning_spec
    return [trial_summary(spec, trial, children.get(trial.job), record.created) for trial in record.trials]


def child_records(store: Store[TuningRecord], trials: Iterable[Trial]) -> dict[str, JobRecord]:
    """Return the records of training jobs, by name; those that were removed, or are not there yet, are left out."""
    jobs, records = JobStore(store.home), {}
    for trial in trials:
        try:
            records[trial.job] = jobs.load(trial.job)
        except (JobNotFoundError, RecordError):
            continue
    return records
