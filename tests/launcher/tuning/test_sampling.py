"""Which values are chosen: within the ranges, spread as asked, the same ones again, and better ones by Bayesian."""

import math
import statistics
import sys

import pytest

from launcher.errors import UnsupportedOptionError
from launcher.jobs.tuning_spec import Objective, ParameterRange, Trial, TuningDefinition, TuningJobSpec
from launcher.tuning.sampling import choose_values

RATE = ParameterRange("rate", "Continuous", "Logarithmic", "Auto", 1e-4, 1.0)
RANGES = {
    "linear": ParameterRange("a", "Continuous", "Linear", "Linear", -1.0, 1.0),
    "logarithmic": RATE,
    "reverse": ParameterRange("a", "Continuous", "ReverseLogarithmic", "ReverseLogarithmic", 0.0, 0.9999),
    "whole": ParameterRange("a", "Integer", "Linear", "Linear", 1, 4),
    "whole logarithmic": ParameterRange("a", "Integer", "Logarithmic", "Logarithmic", 1, 1000),
    "single": ParameterRange("a", "Integer", "Linear", "Linear", 3, 3),
    "categorical": ParameterRange("a", "Categorical", values=("x", "y")),
}


def spec(*ranges, strategy="Random", seed=0, kind="Maximize", jobs=40):
    definition = TuningDefinition("", Objective("score", kind), ranges, {})
    return TuningJobSpec("tune", strategy, (definition,), jobs, 1, "process", seed=seed)


def drawn(tuning, count, objective=lambda values: 0.0):
    trials = []
    for number in range(1, count + 1):
        place, values = choose_values(tuning, trials)
        trials.append(Trial(number, f"job-{number}", place, values, status="Completed", objective=objective(values)))
    return trials


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
@pytest.mark.parametrize("entry", RANGES.values(), ids=RANGES)
def test_values_lie_within_their_range(entry, strategy):
    values = [trial.values[entry.name] for trial in drawn(spec(entry, strategy=strategy), 20)]
    if entry.kind == "Categorical":
        assert set(values) == {"x", "y"}
        return
    assert all(entry.low <= value <= entry.high for value in values)
    if entry.kind == "Integer":
        assert all(entry.text(value).lstrip("-").isdigit() for value in values)
    assert len(set(values)) > 1 or entry.low == entry.high


def test_a_logarithmic_range_is_spread_over_its_orders_of_magnitude():
    """A quarter of the values in each of the four decades from 1e-4 to 1: by hand, 100 of 400, sd below 9."""
    values = [trial.values["rate"] for trial in drawn(spec(RATE), 400)]
    decades = [sum(10**-n <= value < 10 ** (1 - n) for value in values) for n in (1, 2, 3, 4)]
    assert all(70 < count < 130 for count in decades)


def test_a_reverse_logarithmic_range_is_spread_towards_its_upper_end():
    """Half of the values within 0.99 and 0.9999: as many decades of 1 - value lie above 0.99 as below."""
    values = [trial.values["a"] for trial in drawn(spec(RANGES["reverse"]), 400)]
    assert 150 < sum(value > 0.99 for value in values) < 250


def test_every_whole_number_is_as_likely():
    values = [trial.values["a"] for trial in drawn(spec(RANGES["whole"]), 400)]
    assert all(65 < values.count(number) < 135 for number in (1, 2, 3, 4))


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_same_seed_chooses_the_same_values_and_another_seed_others(strategy):
    def values(seed):
        tuning = spec(RATE, RANGES["categorical"], strategy=strategy, seed=seed)
        return [trial.values for trial in drawn(tuning, 12, lambda chosen: chosen["rate"])]

    assert values(1) == values(1)
    assert values(1) != values(2)


def test_grid_tries_every_combination_once():
    letters = ParameterRange("letter", "Categorical", values=("a", "b", "c"))
    tuning = spec(RANGES["categorical"], letters, strategy="Grid")
    assert [tuple(trial.values.values()) for trial in drawn(tuning, 6)] == [
        *(("x", "a"), ("x", "b"), ("x", "c"), ("y", "a"), ("y", "b"), ("y", "c")),
    ]


@pytest.mark.parametrize("kind", ["Maximize", "Minimize"])
def test_bayesian_comes_nearer_to_the_best_than_random(kind):
    """The best rate is 0.01; the mean distance in decades of the last ten of 40, over four seeds."""
    sign = 1 if kind == "Maximize" else -1

    def distance(values):
        return abs(math.log10(values["rate"]) + 2)

    def mean_distance(strategy):
        tunings = [spec(RATE, strategy=strategy, seed=seed, kind=kind) for seed in range(4)]
        runs = [drawn(tuning, 40, lambda values: -sign * distance(values)) for tuning in tunings]
        return statistics.mean(distance(trial.values) for run in runs for trial in run[-10:])

    assert mean_distance("Bayesian") < 0.6 * mean_distance("Random")


def test_results_of_parents_count_and_those_outside_the_ranges_do_not():
    tuning = spec(RATE, strategy="Bayesian", jobs=10)
    parent = spec(RATE, strategy="Random", seed=3)
    results = drawn(parent, 30, lambda values: -abs(math.log10(values["rate"]) + 2))
    outside = [Trial(31, "job", 0, {"rate": 5.0}, status="Completed", objective=9.0)]
    _, values = choose_values(tuning, [], [(parent, [*results, *outside])])
    assert values != choose_values(tuning, [])[1]
    assert abs(math.log10(values["rate"]) + 2) < 1


def test_without_optuna_bayesian_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UnsupportedOptionError, match=r"pip install .*\[tuning\]'"):
        choose_values(spec(RATE, strategy="Bayesian"), [])
    assert choose_values(spec(RATE), [])[1]
