"""Which values the next training job gets: a pure function of the tuning job, its results so far and a number.

Nothing is remembered between two calls, so a driver that takes a tuning job up after a crash chooses as the first one
would have.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

from launcher.errors import UnsupportedOptionError
from launcher.jobs.tuning_spec import CATEGORICAL, INTEGER, ParameterRange, Trial, TuningJobSpec
from launcher.settings import install_command

Values = dict[str, float | str]


def choose_values(
    spec: TuningJobSpec, trials: Sequence[Trial], parents: Sequence[tuple[TuningJobSpec, Sequence[Trial]]] = ()
) -> tuple[int, Values]:
    """Return the place of the next training job's definition, and its values.

    Args:
        trials: all training jobs so far, those that run among them.
        parents: the tuning jobs that this one is warm-started from, and their training jobs.
    Raises:
        UnsupportedOptionError: the strategy is Bayesian, and optuna is not installed.
    """
    number = len(trials) + 1
    if spec.strategy == "Grid":
        return _grid_values(spec, number)
    place = (number - 1) % len(spec.definitions)
    if spec.strategy == "Bayesian":
        return place, _bayesian_values(spec, place, trials, parents)
    generator = random_of(spec, number)
    return place, {entry.name: _random_value(entry, generator) for entry in spec.definitions[place].ranges}


def random_of(spec: TuningJobSpec, number: int, purpose: str = "values") -> random.Random:
    """Return the generator of a training job's random numbers: the same one whenever it is asked for."""
    return random.Random(f"{spec.seed}:{number}:{purpose}")


def check_strategy(strategy: str) -> None:
    """Refuse a strategy whose library is not installed.

    Raises:
        UnsupportedOptionError: it is Bayesian, and there is no optuna.
    """
    if strategy == "Bayesian":
        _optuna()


def _grid_values(spec: TuningJobSpec, number: int) -> tuple[int, Values]:
    place = 0
    while number > (size := math.prod(len(entry.values) for entry in spec.definitions[place].ranges)):
        place, number = place + 1, number - size
    ranges = spec.definitions[place].ranges
    combination = next(itertools.islice(itertools.product(*(entry.values for entry in ranges)), number - 1, None))
    return place, {entry.name: value for entry, value in zip(ranges, combination, strict=True)}


def _random_value(entry: ParameterRange, generator: random.Random) -> float | str:
    if entry.kind == CATEGORICAL:
        return generator.choice(entry.values)
    low, high = _internal(entry, entry.low), _internal(entry, entry.high)
    if entry.kind == INTEGER:
        # Each whole number has the share of the scale that lies nearest to it.
        half = 0.5 if entry.scaling == "Linear" else 0.0
        if not half:
            low, high = math.log(entry.low - 0.5), math.log(entry.high + 0.5)
        drawn = generator.uniform(low - half, high + half)
        return float(min(max(round(drawn if half else math.exp(drawn)), int(entry.low)), int(entry.high)))
    return _external(entry, generator.uniform(min(low, high), max(low, high)))


def _internal(entry: ParameterRange, value: float) -> float:
    """Return a value on the scale of its range, over which values are spread evenly."""
    if entry.scaling == "Logarithmic":
        return math.log(value)
    return math.log(1 - value) if entry.scaling == "ReverseLogarithmic" else value


def _external(entry: ParameterRange, position: float) -> float:
    """Return the value at a position of that scale, within the range."""
    value = position
    if entry.scaling != "Linear":
        value = math.exp(position)
    if entry.scaling == "ReverseLogarithmic":
        value = 1 - value
    return min(max(value, entry.low), entry.high)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UnsupportedOptionError(
            f"Strategy=Bayesian needs optuna, which is not installed: {error}.",
            f"Use Random, Grid or Hyperband, which need none; or install it: {install_command('tuning')}",
        ) from error
    return optuna


def _bayesian_values(
    spec: TuningJobSpec,
    place: int,
    trials: Sequence[Trial],
    parents: Sequence[tuple[TuningJobSpec, Sequence[Trial]]],
) -> Values:
    """Ask a tree-structured Parzen estimator, in a study that is built of all results."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it says that a study was made
    ranges = spec.definitions[place].ranges
    distributions = {entry.name: _distribution(optuna, entry) for entry in ranges}
    sampler = optuna.samplers.TPESampler(
        seed=random_of(spec, len(trials) + 1).randrange(2**32),
        n_startup_trials=min(10, max(3, spec.max_jobs // 4)),
        constant_liar=True,  # what runs already is not asked for again
    )
    # Every result is turned so that more is better: parents and definitions agree on that much.
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for owner, results in [*parents, (spec, trials)]:
        for trial in results:
            if owner is spec and trial.definition != place:
                continue
            if (frozen := _frozen(optuna, owner, trial, ranges, distributions)) is not None:
                study.add_trial(frozen)
    asked = study.ask(distributions).params
    return {entry.name: _given_back(entry, asked[entry.name]) for entry in ranges}


def _distribution(optuna: Any, entry: ParameterRange) -> Any:
    if entry.kind == CATEGORICAL:
        return optuna.distributions.CategoricalDistribution(entry.values)
    logarithmic = entry.scaling != "Linear"
    if entry.kind == INTEGER:
        return optuna.distributions.IntDistribution(int(entry.low), int(entry.high), log=logarithmic)
    low, high = entry.low, entry.high
    if entry.scaling == "ReverseLogarithmic":
        low, high = 1 - high, 1 - low
    return optuna.distributions.FloatDistribution(low, high, log=logarithmic)


def _frozen(
    optuna: Any,
    owner: TuningJobSpec,
    trial: Trial,
    ranges: Sequence[ParameterRange],
    distributions: dict[str, Any],
) -> Any:
    """Return a training job as optuna has it; None where it says nothing about these ranges."""
    parameters = {}
    for entry in ranges:
        value = trial.values.get(entry.name)
        if not _fits(entry, value):
            return None
        parameters[entry.name] = _taken(entry, value)
    if trial.ended and not trial.counts:
        return None
    states = optuna.trial.TrialState
    sign = owner.definitions[trial.definition].objective.sign
    return optuna.trial.create_trial(
        params=parameters,
        distributions=distributions,
        state=states.COMPLETE if trial.counts else states.RUNNING,
        value=sign * (trial.objective or 0.0) if trial.counts else None,
    )


def _fits(entry: ParameterRange, value: float | str | None) -> bool:
    if entry.kind == CATEGORICAL:
        return value in entry.values
    return isinstance(value, int | float) and entry.low <= value <= entry.high


def _taken(entry: ParameterRange, value: Any) -> Any:
    if entry.kind == INTEGER:
        return int(value)
    return 1 - value if entry.scaling == "ReverseLogarithmic" else value


def _given_back(entry: ParameterRange, value: Any) -> float | str:
    if entry.kind == CATEGORICAL:
        return str(value)
    value = 1 - value if entry.scaling == "ReverseLogarithmic" else value
    return float(min(max(value, entry.low), entry.high))
