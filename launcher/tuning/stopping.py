"""Which training jobs are stopped before their end: by the median rule, or by Hyperband. Pure functions of results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from launcher.jobs.tuning_spec import Trial, TuningJobSpec
from launcher.tuning.sampling import random_of

ETA = 3
"""Hyperband keeps one training job of so many at a rung, and multiplies the resource by it from rung to rung."""
MEDIAN_JOBS = 4
"""The median rule stops nothing before so many training jobs have got as far."""

Histories = Mapping[int, Sequence[float]]
"""The objective's values of each training job, in the order in which it emitted them, by the number of its trial."""


def reason_to_stop(spec: TuningJobSpec, trial: Trial, trials: Sequence[Trial], histories: Histories) -> str:
    """Return why a running training job is to be stopped now; empty where it goes on.

    What was judged is noted in ``trial.judged``, so that each rung or epoch counts once.

    Source of Hyperband's rule: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, which
    stops without waiting for others; of the median rule: Golovin et al., "Google Vizier", KDD 2017.
    """
    if spec.strategy == "Hyperband":
        return _hyperband(spec, trial, trials, histories)
    return _median_rule(spec, trial, trials, histories) if spec.early_stopping else ""


def rungs(spec: TuningJobSpec, number: int) -> Iterator[int]:
    """Yield the resources at which Hyperband judges a training job.

    Training jobs are dealt to brackets at random, with the shares that Hyperband gives them: those of the first are
    judged from MinResource on, those of the last not before MaxResource.
    """
    levels = int(math.log(spec.max_resource / spec.min_resource, ETA) + 1e-9)
    shares = [(levels + 1) / (levels - bracket + 1) * ETA ** (levels - bracket) for bracket in range(levels + 1)]
    (bracket,) = random_of(spec, number, "bracket").choices(range(levels + 1), shares)
    resource = spec.min_resource * ETA**bracket
    while resource < spec.max_resource:
        yield resource
        resource *= ETA


def _hyperband(spec: TuningJobSpec, trial: Trial, trials: Sequence[Trial], histories: Histories) -> str:
    own = histories[trial.number]
    for resource in rungs(spec, trial.number):
        if not trial.judged < resource <= len(own):
            continue
        trial.judged = resource
        reached = sorted(
            (
                _signed(spec, other, histories[other.number][resource - 1])
                for other in _comparable(trial, trials, histories, resource)
            ),
            reverse=True,
        )
        if _signed(spec, trial, own[resource - 1]) < reached[max(1, len(reached) // ETA) - 1]:
            return f"Hyperband: not among the best {max(1, len(reached) // ETA)} of {len(reached)} after {resource}"
    # A training job that knows MaxResource itself ends there, and leaves its model.
    return f"Hyperband: more than {spec.max_resource} values" if len(own) > spec.max_resource else ""


def _median_rule(spec: TuningJobSpec, trial: Trial, trials: Sequence[Trial], histories: Histories) -> str:
    own = histories[trial.number]
    if len(own) <= trial.judged:
        return ""
    trial.judged = epoch = len(own)
    averages = [
        _signed(spec, other, sum(histories[other.number][:epoch]) / epoch)
        for other in _comparable(trial, trials, histories, epoch)
        if other.counts
    ]
    if len(averages) < MEDIAN_JOBS or _signed(spec, trial, own[-1]) >= median(averages):
        return ""
    return f"early stopping: worse than the median of {len(averages)} after {epoch}"


def _comparable(trial: Trial, trials: Sequence[Trial], histories: Histories, epochs: int) -> Iterator[Trial]:
    """Yield the training jobs of the same definition that have got as far."""
    for other in trials:
        if other.definition == trial.definition and len(histories.get(other.number, ())) >= epochs:
            yield other


def _signed(spec: TuningJobSpec, trial: Trial, value: float) -> float:
    return spec.definitions[trial.definition].objective.sign * value
