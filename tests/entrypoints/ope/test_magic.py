"""MAGIC and the quadratic program in it: by hand, against brute force, at its limits."""

import itertools
import math

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.ope import blending
from batch_rl.ope.simplex import minimize_on_simplex


def by_brute_force(matrix):
    """Solve for every set of numbers that may be positive, and keep the best that is."""
    n = len(matrix)
    best = math.inf
    for size in range(1, n + 1):
        for chosen in itertools.combinations(range(n), size):
            part = matrix[np.ix_(chosen, chosen)]
            x = np.linalg.lstsq(part, np.ones(size), rcond=None)[0]
            if x.sum() > 0 and (x >= 0).all():
                x = x / x.sum()
                best = min(best, float(x @ part @ x))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_the_quadratic_program_finds_what_brute_force_finds(seed):
    """Random matrices of every rank, of sizes 1 to 8, with scales far apart."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 9))
    rank = int(generator.integers(1, n + 1))
    factor = generator.normal(size=(n, rank)) * 10.0 ** generator.uniform(-3, 3, size=(n, 1))
    factor += generator.normal(size=rank) * generator.integers(0, 2)
    vector = generator.normal(size=n) * generator.integers(0, 2)
    x = minimize_on_simplex(factor @ factor.T, vector)
    matrix = factor @ factor.T + np.outer(vector, vector)
    assert (x >= 0).all()
    assert x.sum() == pytest.approx(1, rel=1e-12)
    scale = float(np.diag(matrix).min())
    assert x @ matrix @ x <= by_brute_force(matrix) + 1e-9 * scale


def test_independent_parts_share_by_the_inverse_of_their_variance():
    """By hand: variances 1, 2 and 4 -> 4/7, 2/7, 1/7."""
    assert minimize_on_simplex(np.diag([1.0, 2.0, 4.0]), np.zeros(3)) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_equal_parts_and_no_variance_at_all_are_no_obstacle():
    assert minimize_on_simplex(np.ones((3, 3)), np.zeros(3)).sum() == pytest.approx(1)
    assert minimize_on_simplex(np.zeros((2, 2)), np.zeros(2)) == pytest.approx([0.5, 0.5])


def test_many_parts_meet_the_conditions_of_a_minimum():
    """At the best x no other direction of the simplex is lower: (M x)_k >= x' M x."""
    factor = np.cumsum(np.random.default_rng(0).normal(size=(400, 300)), axis=0)
    matrix = factor @ factor.T
    x = minimize_on_simplex(matrix, np.zeros(400))
    assert (matrix @ x).min() >= (x @ matrix @ x) * (1 - 1e-6)


# Ratios 2 and 1/2, rewards 3 and 1, one step each; q = (1, 2), v = (1, 3).
TWO = ope.WeightedSteps.from_arrays(
    np.array([1, 1]),
    np.array([2.0, 0.5]),
    np.array([3.0, 1.0]),
    discount=1.0,
    q=np.array([1.0, 2]),
    v=np.array([1.0, 3]),
)


def test_magic_blends_the_model_and_wdr_by_their_expected_error():
    """By hand. DM: g(-1) = (1 + 3) / 2 = 2, parts 1/2 and 3/2. WDR: shares 4/5 and 1/5 of the errors 2 and -1:
    parts 1/2 + 8/5 = 2.1 and 3/2 - 1/5 = 1.3, g(0) = 3.4.
    Deviations from half of g: (-1/2, 1/2) and (0.4, -0.4). Omega = 2 [[.5, -.4], [-.4, .32]].
    The interval is [2.4, 4], so b = (-0.4, 0). M = [[1.16, -0.8], [-0.8, 0.64]].
    On x = (s, 1 - s): s = (0.64 + 0.8) / (1.16 + 0.64 + 1.6) = 1.44 / 3.4.
    """
    blend = ope.magic(TWO, wdr_interval=(2.4, 4.0))
    share = 1.44 / 3.4
    assert blend.returns == pytest.approx([2, 3.4])
    assert blend.shares == pytest.approx([share, 1 - share])
    assert blend.value == pytest.approx(share * 2 + (1 - share) * 3.4)


def test_a_sample_that_is_the_log_again_has_its_blend_and_one_without_weight_has_none():
    blend = ope.magic(TWO, wdr_interval=(2.4, 4.0))
    samples = np.stack([blend.returns, [2.0, math.nan]], axis=1)
    again = blending.blend_again(blend, samples, wdr_interval=(2.4, 4.0))
    assert again[0] == pytest.approx(blend.value, rel=1e-12)
    assert math.isnan(again[1])


def test_its_ends_are_dm_and_wdr(world):
    some = world.episodes.select(np.random.default_rng(0).integers(0, len(world.episodes), size=40))
    states = some.observations[:, 0].astype(int)
    q_hat = np.random.default_rng(1).normal(size=(len(states), 2))
    steps = ope.weigh(ope.LoggedRows.of(some), world.target[states], discount=0.9, q_hat=q_hat)[0]
    blend = ope.magic(steps, wdr_interval=(0.0, 1.0))
    assert blend.returns[0] == pytest.approx(ope.dm(steps), rel=1e-12)
    assert blend.returns[-1] == pytest.approx(ope.wdr(steps), rel=1e-12)
    assert min(blend.returns) <= blend.value <= max(blend.returns)


def test_it_trusts_a_perfect_model_and_leaves_a_wrong_one(world):
    """With the true values DM varies least and lies in WDR's interval; shifted by 100 it lies far outside."""
    some = world.episodes.select(np.random.default_rng(3).integers(0, len(world.episodes), size=400))
    states = some.observations[:, 0].astype(int)
    for shift, near in ((0.0, True), (100.0, False)):
        q_hat = np.array([[1.5, 2.0], [2.0, 4.0]])[states] + shift
        steps = ope.weigh(ope.LoggedRows.of(some), world.target[states], discount=0.9, q_hat=q_hat)[0]
        value = ope.wdr(steps)
        blend = ope.magic(steps, wdr_interval=(value - 0.5, value + 0.5))
        assert (blend.shares[0] > 0.2) == near


def test_the_covariance_does_not_depend_on_how_many_episodes_are_looked_at_together(monkeypatch):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 6, size=30)
    values = generator.uniform(0.5, 1.5, size=(4, lengths.sum()))
    steps = ope.WeightedSteps.from_arrays(lengths, values[0], values[1], discount=0.9, q=values[2], v=values[3])
    whole = ope.magic(steps, wdr_interval=(1.0, 2.0))
    monkeypatch.setattr(blending, "_BLOCK_VALUES", 20)
    assert ope.magic(steps, wdr_interval=(1.0, 2.0)).shares == pytest.approx(whole.shares, rel=1e-9)


def test_without_any_weight_there_is_no_blend():
    steps = ope.WeightedSteps.from_arrays(
        np.array([1]), np.zeros(1), np.ones(1), discount=1.0, q=np.zeros(1), v=np.zeros(1)
    )
    with pytest.warns(ope.UndefinedEstimateWarning, match="undefined"):
        assert math.isnan(ope.magic(steps, wdr_interval=(0, 1)).value)


def test_a_single_episode_has_no_covariance_and_counts_as_wdr():
    steps = ope.WeightedSteps.from_arrays(
        np.array([1]), np.ones(1), np.ones(1), discount=1.0, q=np.zeros(1), v=np.zeros(1)
    )
    assert ope.magic(steps, wdr_interval=(0, 1)).value == pytest.approx(1)
