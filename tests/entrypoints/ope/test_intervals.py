"""Intervals: by hand, against tables, and how often they hold the truth."""

import math

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.errors import DatasetError
from batch_rl.ope.blending import blend_again
from batch_rl.ope.intervals import student_t_quantile

ALL = ("IPS", "WIS", "PDIS", "weighted PDIS", "DM", "sequential DR", "WDR")
FUNCTIONS = dict(
    zip(ALL, (ope.ips, ope.wis, ope.pdis, ope.weighted_pdis, ope.dm, ope.sequential_dr, ope.wdr), strict=True)
)


def random_steps(generator, lengths, spread=0.5):
    values = generator.uniform(1 - spread, 1 + spread, size=(4, int(np.sum(lengths))))
    return ope.WeightedSteps.from_arrays(
        np.array(lengths), values[0], values[1], discount=0.9, q=values[2], v=values[3]
    )


def drawn_again(steps_of, lengths, chosen):
    """Build the log of the chosen episodes, plainly."""
    starts = np.cumsum(lengths) - lengths
    rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in chosen])
    return steps_of(rows, lengths[chosen])


@pytest.mark.parametrize("spread", [0.5, 1e-3, 0.999])
@pytest.mark.parametrize("longest", [5, 1500])
def test_the_bootstrap_gives_what_estimating_every_drawn_log_gives(spread, longest):
    """The fast pass over many resamples against building each of them, with and without logarithms."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, longest + 1, size=12)
    values = generator.uniform(1 - spread, 1 + spread, size=(4, lengths.sum()))
    values[0] **= 3 if longest == 5 else 1

    def steps_of(rows, lengths):
        ratios, rewards, q, v = values[:, rows]
        return ope.WeightedSteps.from_arrays(lengths, ratios, rewards, discount=0.99, q=q, v=v)

    replicates = ope.bootstrap(steps_of(np.arange(lengths.sum()), lengths), ALL, resamples=8, seed=5)
    again = np.random.default_rng(5)
    for number in range(8):
        chosen = again.integers(0, 12, size=12)
        log = drawn_again(steps_of, lengths, chosen)
        for name, estimator in FUNCTIONS.items():
            assert replicates[name][number] == pytest.approx(estimator(log), rel=1e-7), name


def test_magics_resamples_end_in_dm_and_wdr():
    steps = random_steps(np.random.default_rng(0), [3, 1, 2, 3])
    replicates = ope.bootstrap(steps, ["DM", "WDR", "MAGIC"], resamples=20, seed=0)
    assert replicates["MAGIC"].shape == (4, 20)
    assert replicates["MAGIC"][0] == pytest.approx(replicates["DM"], rel=1e-12)
    assert replicates["MAGIC"][-1] == pytest.approx(replicates["WDR"], rel=1e-12)


def test_one_seed_draws_one_thing_whatever_is_estimated(monkeypatch):
    """Also when fewer resamples fit into memory at once."""
    steps = random_steps(np.random.default_rng(0), [3, 1, 2, 3])
    first = ope.bootstrap(steps, ["WIS"], resamples=9, seed=3)["WIS"]
    monkeypatch.setattr("batch_rl.ope.intervals._COUNT_VALUES", 8)
    second = ope.bootstrap(steps, ALL, resamples=9, seed=3)["WIS"]
    assert second == pytest.approx(first, rel=1e-12)
    assert not np.allclose(ope.bootstrap(steps, ["WIS"], resamples=9, seed=4)["WIS"], first)


def test_a_resample_without_weight_is_undefined():
    steps = ope.WeightedSteps.from_arrays(np.array([1, 1]), np.array([0.0, 1.0]), np.array([1.0, 2.0]), discount=1.0)
    replicates = ope.bootstrap(steps, ["WIS", "weighted PDIS"], resamples=60, seed=0)
    for values in replicates.values():
        assert np.isnan(values).any()
        assert (values[np.isfinite(values)] == 2.0).all()
    with pytest.raises(DatasetError, match="bootstrap samples have no estimate"):
        ope.percentile_interval(replicates["WIS"], level=0.95)


def test_a_percentile_interval_is_the_middle_of_the_replicates():
    interval = ope.percentile_interval(np.arange(101.0), level=0.9)
    assert (interval.lower, interval.upper) == pytest.approx((5, 95))


VALUES = np.array([0.0, 1.0, 1.0, 2.0])


def test_hoeffdings_interval_by_hand():
    """Range 40, n = 4, level 0.5: radius 40 sqrt(ln 4 / 8) = 16.65; 1 - 16.65 is cut off at the lower bound."""
    interval = ope.hoeffding_interval(VALUES, low=0, high=40, level=0.5)
    assert (interval.lower, interval.upper) == pytest.approx((0, 1 + 40 * math.sqrt(math.log(4) / 8)))


def test_the_empirical_bernstein_interval_by_hand():
    """Variance 2/3, n = 4, level 0.5: sqrt(2 * 2/3 * ln 8 / 4) + 7 * 3 * ln 8 / 9."""
    interval = ope.empirical_bernstein_interval(np.append(VALUES, []), low=-50, high=50, level=0.5)
    radius = math.sqrt(2 * (2 / 3) * math.log(8) / 4) + 7 * 100 * math.log(8) / 9
    assert interval.upper == pytest.approx(min(50, 1 + radius))
    wide = ope.empirical_bernstein_interval(np.tile(VALUES, 1000), low=0, high=3, level=0.5)
    n, variance = 4000, 0.5 * 4000 / 3999
    assert wide.upper == pytest.approx(1 + math.sqrt(2 * variance * math.log(8) / n) + 7 * math.log(8) / (n - 1))


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    [
        (0.975, 1, 12.706204736),  # the Cauchy distribution: tan(0.475 pi)
        (0.975, 2, 4.302652730),
        (0.95, 5, 2.015048373),
        (0.975, 29, 2.045229642),
        (0.995, 30, 2.749995654),
        (0.975, 120, 1.979930405),
        (0.975, 45299, 1.960016453),
    ],
)
def test_students_quantiles_are_those_of_the_tables(probability, degrees, quantile):
    assert student_t_quantile(probability, degrees) == pytest.approx(quantile, rel=1e-6)


def test_students_interval_by_hand():
    """36 values, half 0 and half 2: mean 1, standard error sqrt(36/35) / 6."""
    interval = ope.student_t_interval(np.tile([0.0, 2.0], 18), level=0.95)
    assert interval.upper - 1 == pytest.approx(2.030107928 * math.sqrt(36 / 35) / 6, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: ope.student_t_interval(np.ones(29), level=0.95), "at least 30 episodes; there are 29"),
        (lambda: ope.student_t_interval(np.append(np.ones(99), 50), level=0.95), "one episode of 100 makes 99%"),
        (lambda: ope.student_t_interval(np.append(np.ones(99), np.inf), level=0.95), "finite values"),
        (lambda: ope.student_t_interval(np.ones(50), level=95), "level is 95"),
        (lambda: ope.hoeffding_interval(VALUES, low=0, high=1, level=0.9), r"values within \[0, 1\]"),
        (lambda: ope.hoeffding_interval(VALUES, low=0, high=math.inf, level=0.9), "finite bounds"),
        (lambda: ope.empirical_bernstein_interval(VALUES[:1], low=0, high=1, level=0.9), "two values"),
        (lambda: ope.KnownBounds(ratio=math.inf, reward=(0, 1), horizon=1), "must be finite"),
        (lambda: ope.KnownBounds(ratio=2, reward=(1, 0), horizon=1), r"\(smallest, largest\)"),
        (lambda: ope.KnownBounds(ratio=2, reward=(0, 1), horizon=9).range_of("WIS", 1.0), "no concentration bound"),
        (lambda: ope.KnownBounds(ratio=2, reward=(0, 1), horizon=2000).range_of("IPS", 1.0), "no finite bound"),
    ],
)
def test_an_interval_is_refused_where_it_would_not_hold(call, fault):
    with pytest.raises(DatasetError, match=fault):
        call()


def test_the_range_of_an_episodes_value_by_hand():
    """Ratio 2, rewards in [-1, 3], 2 steps, discount 1/2. IPS: 4 * 1.5 = 6; PDIS: 2 + 4 / 2 = 4, times both."""
    bounds = ope.KnownBounds(ratio=2, reward=(-1, 3), horizon=2)
    assert bounds.range_of("IPS", 0.5) == pytest.approx((-6, 18))
    assert bounds.range_of("PDIS", 0.5) == pytest.approx((-4, 12))


@pytest.mark.parametrize(
    ("bounds", "fault"),
    [
        ({"ratio": 1.0}, "its ratio is"),
        ({"reward": (0, 0.1)}, "its largest reward is"),
        ({"reward": (1.4, 2)}, "its negative of the smallest reward is"),
        ({"horizon": 2}, "its number of steps is 3, above 2"),
    ],
)
def test_bounds_that_the_log_breaks_are_no_bounds(bounds, fault):
    steps = random_steps(np.random.default_rng(0), [3, 1])
    with pytest.raises(DatasetError, match=fault):
        ope.KnownBounds(**({"ratio": 2.0, "reward": (0, 2), "horizon": 3} | bounds)).check(steps)


# How often they hold the truth. Two steps, uniform logging, evaluated (0.6, 0.4), reward 1 for action 0 plus a coin.
TRUTH = 2 * (0.6 + 0.5)


def simulated(generator, episodes):
    actions = generator.integers(0, 2, size=2 * episodes)
    rewards = (actions == 0) + generator.integers(0, 2, size=2 * episodes)
    ratios = np.where(actions == 0, 1.2, 0.8)
    # A model that is wrong by 0.2 everywhere, so that DM is biased and the doubly robust ones are not.
    first = np.tile([True, False], episodes)
    q = (actions == 0) + 0.5 + np.where(first, 1.1, 0) + 0.2
    return ope.WeightedSteps.from_arrays(
        np.full(episodes, 2), ratios, rewards.astype(float), discount=1.0, q=q, v=np.where(first, 2.4, 1.3)
    )


@pytest.mark.parametrize("name", [name for name in ALL if name != "DM"])
def test_a_bootstrap_interval_holds_the_truth_as_often_as_it_claims(name):
    """400 logs of 200 episodes, level 0.9.

    If each held the truth with probability 0.9, a share outside of [0.83, 0.95] would have a probability below
    1e-3 (binomial); percentile intervals of 200 episodes miss a little more often, by less than 0.02.
    """
    generator = np.random.default_rng(0)
    held = 0
    for number in range(400):
        drawn = ope.bootstrap(simulated(generator, 200), [name], resamples=200, seed=number)[name]
        interval = ope.percentile_interval(drawn, level=0.9)
        held += interval.lower <= TRUTH <= interval.upper
    assert 0.83 <= held / 400 <= 0.95


def test_magics_interval_holds_the_truth_nearly_as_often_as_it_claims():
    """150 logs of 200 episodes with a model that is wrong: level 0.9, at least 0.75 of them.

    A blend leans on its model where that looks harmless, so fewer are promised than for the others: 0.87 were found
    over 400 logs, and below 0.75 of 150 has a probability below 1e-4 then.
    """
    generator = np.random.default_rng(4)
    held = 0
    for seed in range(150):
        steps = simulated(generator, 200)
        drawn = ope.bootstrap(steps, ["WDR", "MAGIC"], resamples=200, seed=seed)
        around = ope.percentile_interval(drawn["WDR"], level=0.5)
        ends = (around.lower, around.upper)
        blended = blend_again(ope.magic(steps, wdr_interval=ends), drawn["MAGIC"], wdr_interval=ends)
        interval = ope.percentile_interval(blended, level=0.9)
        held += interval.lower <= TRUTH <= interval.upper
    assert held / 150 >= 0.75


@pytest.mark.parametrize("method", ["t", "Hoeffding", "Bernstein"])
def test_the_other_intervals_hold_the_truth_at_least_as_often_as_they_claim(method):
    """400 logs of 200 episodes, level 0.9; below 0.83 has a probability below 1e-4 if 0.9 is true."""
    generator = np.random.default_rng(1)
    bounds = ope.KnownBounds(ratio=1.2, reward=(0, 2), horizon=2)
    low, high = bounds.range_of("PDIS", 1.0)
    held = 0
    for _ in range(400):
        steps = simulated(generator, 200)
        bounds.check(steps)
        values = steps.layout.sum_by_episode(steps.weights.relative * steps.rewards)
        interval = {
            "t": lambda values: ope.student_t_interval(values, level=0.9),
            "Hoeffding": lambda values: ope.hoeffding_interval(values, low=low, high=high, level=0.9),
            "Bernstein": lambda values: ope.empirical_bernstein_interval(values, low=low, high=high, level=0.9),
        }[method](values)
        held += interval.lower <= TRUTH <= interval.upper
    assert held / 400 >= 0.83


@pytest.mark.parametrize("name", ["IPS", "PDIS", "sequential DR"])
def test_the_unbiased_estimators_are_right_on_average(name):
    """2000 logs of 20 episodes: the mean is within 4.5 standard errors, which fails with probability 7e-6."""
    generator = np.random.default_rng(2)
    estimates = np.array([FUNCTIONS[name](simulated(generator, 20)) for _ in range(2000)])
    assert abs(estimates.mean() - TRUTH) < 4.5 * estimates.std() / math.sqrt(2000)


@pytest.mark.parametrize("name", ["WIS", "weighted PDIS", "WDR"])
def test_the_self_normalised_estimators_come_to_the_truth_with_more_episodes(name):
    """50000 episodes: within 0.05, about five standard errors of the one that varies most."""
    assert FUNCTIONS[name](simulated(np.random.default_rng(3), 50_000)) == pytest.approx(TRUTH, abs=0.05)


def test_few_episodes_in_effect_widen_the_bootstraps_interval():
    """By hand, 5 in effect: Student's t with 4 degrees at 97.5 % is 2.776; times sqrt(5 / 4) it leaves 0.00096."""
    replicates = np.arange(100_001) / 100_000
    plain = ope.percentile_interval(replicates, level=0.95)
    assert (plain.lower, plain.upper) == pytest.approx((0.025, 0.975), abs=1e-5)
    widened = ope.percentile_interval(replicates, level=0.95, effective_size=5)
    assert (widened.lower, widened.upper) == pytest.approx((0.00096, 0.99904), abs=1e-5)
    many = ope.percentile_interval(replicates, level=0.95, effective_size=1e6)
    assert (many.lower, many.upper) == pytest.approx((0.025, 0.975), abs=1e-5)
    with pytest.raises(DatasetError, match=r"rests on 1\.4 episodes in effect"):
        ope.percentile_interval(replicates, level=0.95, effective_size=1.4)


# Confidence sequences -----------------------------------------------------------------------------------------------


def test_a_betting_interval_leaves_out_whom_a_gambler_got_rich_against():
    """Against plain loops, candidate by candidate."""
    values, level = np.random.default_rng(0).beta(2, 5, size=60), 0.9
    candidates = []
    for candidate in np.linspace(0, 1, 2001):
        total, deviations, variance, wealth, richest = 0.0, 0.0, 0.25, [1.0, 1.0], 0.0
        for number, value in enumerate(values, start=1):
            bet = math.sqrt(2 * math.log(2 / (1 - level)) / (variance * number * math.log(number + 1)))
            up = min(bet, 0.5 / candidate if candidate else math.inf)
            down = min(bet, 0.5 / (1 - candidate) if candidate < 1 else math.inf)
            wealth = [wealth[0] * (1 + up * (value - candidate)), wealth[1] * (1 - down * (value - candidate))]
            richest = max(richest, *(side / 2 for side in wealth))
            total += value
            deviations += (value - (0.5 + total) / (number + 1)) ** 2
            variance = (0.25 + deviations) / (number + 1)
        if richest < 1 / (1 - level):
            candidates.append(candidate)
    interval = ope.betting_interval(values * 4 - 1, low=-1, high=3, level=level)
    assert interval.lower == pytest.approx(4 * (candidates[0] - 1 / 2000) - 1)
    assert interval.upper == pytest.approx(4 * (candidates[-1] + 1 / 2000) - 1)


def test_a_betting_interval_holds_the_mean_however_often_one_looks():
    """At 80 %, after every tenth of 200 values: by the guarantee at most 20 % of sequences ever miss."""
    generator, missed = np.random.default_rng(1), 0
    for _ in range(100):
        values = (generator.random(200) < 0.1).astype(np.float64)
        looks = (ope.betting_interval(values[:n], low=0, high=1, level=0.8) for n in range(10, 201, 10))
        missed += any(not look.lower <= 0.1 <= look.upper for look in looks)
    assert missed <= 20


def test_a_betting_interval_is_the_shortest_of_those_that_always_hold():
    values = (np.random.default_rng(2).random(500) < 0.1).astype(np.float64)
    options = {"low": 0.0, "high": 2.0, "level": 0.95}
    widths = [
        interval.upper - interval.lower
        for interval in (
            make(values, **options)
            for make in (ope.betting_interval, ope.empirical_bernstein_interval, ope.hoeffding_interval)
        )
    ]
    assert widths == sorted(widths)


def test_the_order_of_the_log_is_that_of_the_bets():
    """Episodes of different lengths are laid out by length; a confidence sequence needs them as they came."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 3, size=60)
    steps = int(lengths.sum())
    ratios, rewards = generator.choice([0.5, 1.5], size=steps), generator.random(steps)
    rows = {
        "episode": np.repeat(np.arange(60), lengths),
        "t": np.concatenate([np.arange(length) for length in lengths]),
        "action": np.where(ratios > 1, 0, 1),
        "reward": rewards,
        "propensity": np.full(steps, 0.5),
        "terminated": np.concatenate([np.arange(length) == length - 1 for length in lengths]),
    }
    bounds = ope.KnownBounds(ratio=1.5, reward=(0, 1), horizon=2)
    evaluation = ope.evaluate(
        rows, np.tile([0.75, 0.25], (steps, 1)), discount=1.0, interval="betting", bounds=bounds, estimators=["PDIS"]
    )
    values = []
    for episode in range(60):
        own = rows["episode"] == episode
        values.append(float((np.cumprod(ratios[own]) * rewards[own]).sum()))
    low, high = bounds.range_of("PDIS", 1.0)
    expected = ope.betting_interval(np.array(values), low=low, high=high, level=0.95)
    assert (evaluation["PDIS"].interval.lower, evaluation["PDIS"].interval.upper) == pytest.approx(
        (expected.lower, expected.upper)
    )
