"""The estimators of arrays: numbers worked by hand, the truth on a whole distribution, long episodes."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.errors import DatasetError


def steps_of(lengths, ratios, rewards, *, discount=1.0, q=None, v=None):
    def floats(values):
        return None if values is None else np.array(values, dtype=np.float64)

    return ope.WeightedSteps.from_arrays(
        np.array(lengths), floats(ratios), floats(rewards), discount=discount, q=floats(q), v=floats(v)
    )


# Episode A: ratios 2, 1/2, rewards 1, 4. Episode B ends after one step: ratio 1/2, reward 6. The shorter one
# stands first, so that the layout must reorder. Discount 1/2; q = (1, 2) and (3), v = (2, 1) and (1).
# Weights: A 2, then 1; B 1/2, and still 1/2 after its end.
BY_HAND = steps_of([1, 2], [0.5, 2, 0.5], [6, 1, 4], discount=0.5, q=[3, 1, 2], v=[1, 2, 1])


def test_ips_is_the_mean_of_weight_times_return():
    """A: 1 * (1 + 2) = 3, B: 1/2 * 6 = 3."""
    assert ope.ips(BY_HAND) == pytest.approx(3, rel=1e-12)


def test_wis_divides_by_the_sum_of_the_weights():
    """(1 * 3 + 1/2 * 6) / 1.5 = 4."""
    assert ope.wis(BY_HAND) == pytest.approx(4, rel=1e-12)


def test_pdis_weighs_a_reward_by_the_actions_before_it():
    """A: 2 * 1 + 1/2 * 1 * 4 = 4, B: 3."""
    assert ope.pdis(BY_HAND) == pytest.approx(3.5, rel=1e-12)


def test_weighted_pdis_keeps_an_ended_episode_in_its_sums():
    """t = 0: (2 * 1 + 1/2 * 6) / 2.5 = 2; t = 1: 1/2 * (1 * 4) / (1 + 1/2) = 4/3.

    With running episodes alone the second would be 2.
    """
    assert ope.weighted_pdis(BY_HAND) == pytest.approx(2 + 4 / 3, rel=1e-12)


def test_dm_is_the_mean_value_of_the_first_observations():
    """(2 + 1) / 2."""
    assert ope.dm(BY_HAND) == pytest.approx(1.5, rel=1e-12)


def test_sequential_dr_corrects_the_model_by_weighted_errors():
    """A: 2 * (1 - 1) + 2 + 1/2 * (1 * (4 - 2) + 2 * 1) = 4; B: 1/2 * (6 - 3) + 1 = 2.5."""
    assert ope.sequential_dr(BY_HAND) == pytest.approx(3.25, rel=1e-12)


def test_wdr_normalises_both_parts_by_their_own_sums():
    """t = 0: (2 * 0 + 1/2 * 3) / 2.5 + (2 + 1) / 2 = 2.1; t = 1: 1/2 * (1 * 2 / 1.5 + 2 * 1 / 2.5) = 16/15."""
    assert ope.wdr(BY_HAND) == pytest.approx(2.1 + 16 / 15, rel=1e-12)


def test_the_weights_are_described_over_whole_episodes():
    """Weights 1 and 1/2: ESS 1.5^2 / 1.25, mean 0.75, largest share 2/3."""
    weights = ope.describe_weights(BY_HAND)
    assert weights.effective_sample_size == pytest.approx(1.8)
    assert weights.mean_weight == pytest.approx(0.75)
    assert weights.largest_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("estimator", [ope.ips, ope.wis, ope.pdis, ope.weighted_pdis])
def test_a_policy_that_logged_itself_is_worth_the_mean_return(estimator):
    steps = steps_of([2, 1], [1, 1, 1], [1, 4, 6], discount=0.5)
    assert estimator(steps) == pytest.approx(4.5, rel=1e-12)


@pytest.mark.parametrize("estimator", [ope.dm, ope.sequential_dr, ope.wdr])
def test_an_estimator_with_a_model_asks_for_it(estimator):
    with pytest.raises(DatasetError, match="needs q_hat"):
        estimator(steps_of([1], [1], [1]))


def test_discount_zero_counts_first_rewards_alone():
    """0 ** 0 is 1. Rewards 6 and 1, ratios 1/2 and 2."""
    steps = steps_of([1, 2], [0.5, 2, 0.5], [6, 1, 4], discount=0.0, q=[3, 1, 2], v=[1, 2, 1])
    assert ope.pdis(steps) == pytest.approx(2.5)
    assert ope.weighted_pdis(steps) == pytest.approx(2)


# The whole distribution -------------------------------------------------------------------------------------------


def weighted(world, q_hat):
    return ope.weigh(
        ope.LoggedRows.of(world.episodes), world.target[world.states], discount=world.discount, q_hat=q_hat
    )[0]


@pytest.mark.parametrize("estimator", [ope.ips, ope.wis, ope.pdis, ope.weighted_pdis, ope.sequential_dr, ope.wdr])
@pytest.mark.parametrize("model", ["zero", "random", "true"])
def test_a_log_of_the_whole_distribution_gives_the_true_value(world, estimator, model):
    """Every weight sums to the number of episodes there, so the self-normalised ones are exact as well.

    They are only because ended episodes stay in the sums.
    """
    q_hat = {
        "zero": np.zeros((len(world.states), 2)),
        "random": np.random.default_rng(0).normal(size=(2, 2))[world.states],
        "true": world.q,
    }[model]
    assert estimator(weighted(world, q_hat)) == pytest.approx(world.value, rel=1e-9)


def test_dm_with_the_true_values_gives_the_true_value(world):
    assert ope.dm(weighted(world, world.q)) == pytest.approx(world.value, rel=1e-9)


def plain_loops(episodes, target, q_hat, discount):
    """Return WIS, sequential DR by its recursion, and the effective sample size, row after row."""
    weights, returns, recursions = [], [], []
    for start, length in zip(episodes.starts, episodes.lengths, strict=True):
        weight, value, recursion = 1.0, 0.0, 0.0
        for row in range(start + length - 1, start - 1, -1):
            action = episodes.actions[row]
            ratio = target[row, action] / episodes.probabilities[row, action]
            weight *= ratio
            value = episodes.rewards[row] + discount * value
            recursion = sum(target[row] * q_hat[row]) + ratio * (
                episodes.rewards[row] + discount * recursion - q_hat[row, action]
            )
        weights.append(weight)
        returns.append(value)
        recursions.append(recursion)
    wis = sum(w * g for w, g in zip(weights, returns, strict=True)) / sum(weights)
    return wis, sum(recursions) / len(recursions), sum(weights) ** 2 / sum(w * w for w in weights)


@pytest.mark.parametrize("seed", range(5))
def test_the_arrays_give_what_plain_loops_give(world, seed):
    """On logs that are no whole distribution, with models of nothing."""
    generator = np.random.default_rng(seed)
    episodes = world.episodes.select(generator.integers(0, len(world.episodes), size=50))
    states = episodes.observations[:, 0].astype(int)
    target, q_hat = world.target[states], generator.normal(size=(len(states), 2))
    steps = ope.weigh(ope.LoggedRows.of(episodes), target, discount=0.9, q_hat=q_hat)[0]
    estimates = ope.wis(steps), ope.sequential_dr(steps), ope.describe_weights(steps).effective_sample_size
    assert estimates == pytest.approx(plain_loops(episodes, target, q_hat, 0.9), rel=1e-12)


def test_one_step_episodes_make_the_trajectory_estimators_the_one_step_ones():
    """And they are what Open Bandit Pipeline 0.4.1 prints for the same eight rounds (IPW, SNIPW, DM, DR)."""
    actions = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    rewards = np.array([1.0, 0.0, 2.0, 3.0, -1.0, 0.5, 0.0, 4.0])
    propensities = np.array([0.5, 0.25, 0.25, 0.4, 0.3, 0.3, 0.6, 0.2])
    target = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]] * 4)
    q_hat = np.arange(24, dtype=np.float64).reshape(8, 3) / 10
    rows = np.arange(8)
    steps = ope.WeightedSteps.from_arrays(
        np.ones(8, dtype=np.int64),
        target[rows, actions] / propensities,
        rewards,
        discount=1.0,
        q=q_hat[rows, actions],
        v=(target * q_hat).sum(axis=1),
    )
    assert [ope.ips(steps), ope.wis(steps), ope.dm(steps), ope.sequential_dr(steps)] == pytest.approx(
        [1.5291666666666668, 1.5887445887445886, 1.145, 1.61125], rel=1e-12
    )
    assert ope.pdis(steps) == pytest.approx(ope.ips(steps), rel=1e-12)
    assert ope.weighted_pdis(steps) == pytest.approx(ope.wis(steps), rel=1e-12)


def test_episodes_of_one_length_give_what_another_library_gives():
    """SCOPE-RL 0.2.1 on four episodes of three steps: TIS, SNTIS, PDIS, SNPDIS, DM, DR, SNDR.

    Its denominators hold 1e-10 more than the sum, hence the tolerance.
    """
    row = np.arange(12)
    actions, rewards = row * 5 % 3 % 2, row * 7 % 5 - 1.0
    first = 0.2 + (row * 3 % 7) * 0.1
    target = np.stack([first, 1 - first], axis=1)
    q_hat = np.stack([row % 5 / 2.0, (row * 2) % 3 - 0.5], axis=1)
    steps = ope.WeightedSteps.from_arrays(
        np.array([3, 3, 3, 3]),
        target[row, actions] / (0.3 + (row % 4) * 0.1),
        rewards,
        discount=0.9,
        q=q_hat[row, actions],
        v=(target * q_hat).sum(axis=1),
    )
    estimators = (ope.ips, ope.wis, ope.pdis, ope.weighted_pdis, ope.dm, ope.sequential_dr, ope.wdr)
    assert [estimator(steps) for estimator in estimators] == pytest.approx(
        [
            1.8665833333333333,
            1.6510319408859042,
            1.7440833333333332,
            1.561651167713832,
            0.37500000000000006,
            1.0930833333333336,
            1.0193693360758287,
        ],
        rel=1e-8,
    )


# Long episodes ----------------------------------------------------------------------------------------------------


def exactly(lengths, ratios, rewards, discount, q, v):
    """Compute every estimator with 60 digits and an exponent without bounds."""
    starts = np.cumsum(lengths) - lengths
    n, longest = len(lengths), max(lengths)
    gamma = Decimal(discount)

    def weight(i, t):  # with carry
        t = min(t, lengths[i] - 1)
        return products[i][t + 1]

    products = []
    for start, length in zip(starts, lengths, strict=True):
        row = [Decimal(1)]
        for ratio in ratios[start : start + length]:
            row.append(row[-1] * Decimal(ratio))
        products.append(row)

    def at(values, i, t):
        return Decimal(values[starts[i] + t]) if t < lengths[i] else Decimal(0)

    totals = [sum(weight(i, t) for i in range(n)) for t in range(longest)]
    returns = [sum(gamma**t * at(rewards, i, t) for t in range(lengths[i])) for i in range(n)]
    final = [weight(i, longest) for i in range(n)]
    weighted_pdis, wdr, pdis, dr = Decimal(0), Decimal(0), Decimal(0), Decimal(0)
    for t in range(longest):
        for i in range(n):
            now, before = weight(i, t), weight(i, t - 1) if t else Decimal(1)
            reward, error = at(rewards, i, t), at(rewards, i, t) - at(q, i, t)
            pdis += gamma**t * now * reward / n
            dr += gamma**t * (now * error + before * at(v, i, t)) / n
            weighted_pdis += gamma**t * now * reward / totals[t]
            wdr += gamma**t * (now * error / totals[t] + before * at(v, i, t) / (totals[t - 1] if t else n))
    wis = sum(w * g for w, g in zip(final, returns, strict=True)) / sum(final)
    return {ope.wis: wis, ope.weighted_pdis: weighted_pdis, ope.wdr: wdr, ope.pdis: pdis, ope.sequential_dr: dr}


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.5), (0.05, 0.4), (2.0, 4.0)], ids=["near 1", "to 0", "to inf"])
def test_1200_steps_whose_products_leave_the_range_of_floats(low, high):
    """Against 60 digits: relative error below 1e-7, also with products of 1e-700 and 1e500."""
    generator = np.random.default_rng(0)
    lengths = np.array([1200, 300, 1199, 2])
    rows = lengths.sum()
    ratios = generator.uniform(low, high, size=rows)
    rewards, q, v = generator.uniform(0.5, 1, size=(3, rows))
    steps = ope.WeightedSteps.from_arrays(lengths, ratios, rewards, discount=0.99, q=q, v=v)
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -999999, 999999
        truths = exactly(lengths.tolist(), ratios.tolist(), rewards.tolist(), 0.99, q.tolist(), v.tolist())
    if high > 1.5:
        for estimator in (ope.pdis, ope.sequential_dr):
            del truths[estimator]
            with pytest.warns(ope.UndefinedEstimateWarning, match="leaves the range"):
                assert math.isnan(estimator(steps))
    for estimator, truth in truths.items():
        assert estimator(steps) == pytest.approx(float(truth), rel=1e-7)


def test_a_weight_that_falls_far_behind_and_comes_back_is_not_lost():
    """Both end at weight 1, but in the middle one is 1e400 times the other. By hand: the mean of 1 and 3."""
    half = 400
    ratios = [10.0] * half + [0.1] * half + [1.0] * (2 * half)
    rewards = [1.0] + [0.0] * (2 * half - 1) + [3.0] + [0.0] * (2 * half - 1)
    steps = steps_of([2 * half, 2 * half], ratios, rewards)
    assert ope.wis(steps) == pytest.approx(2, rel=1e-9)


def test_an_ended_episode_outweighs_later_ones_after_they_shrank():
    """Episode B ends at weight 1; A goes to 1e400 and back to 1: the reward of its last step counts half."""
    half = 400
    ratios = [10.0] * half + [0.1] * half + [1.0]
    rewards = [0.0] * (2 * half - 1) + [3.0, 0.0]
    steps = steps_of([2 * half, 1], ratios, rewards)
    assert ope.weighted_pdis(steps) == pytest.approx(1.5, rel=1e-9)


def test_a_ratio_of_zero_ends_a_weight_also_where_later_products_would_overflow():
    """By hand: weights 0 and 1, so WIS is the second return; the first episode adds nothing to PDIS."""
    steps = steps_of([1100, 1], [0.0] + [2.0] * 1099 + [1.0], [5.0] + [1.0] * 1099 + [3.0])
    assert ope.wis(steps) == pytest.approx(3)
    assert ope.pdis(steps) == pytest.approx(1.5)


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [ope.wis, ope.weighted_pdis, ope.wdr])
def test_a_sum_of_weights_of_zero_is_undefined_and_not_zero(estimator):
    steps = steps_of([1, 1], [0, 0], [1, 3], q=[0, 0], v=[0, 0])
    with pytest.warns(ope.UndefinedEstimateWarning, match=r"probability 0|weights are 0"):
        assert math.isnan(estimator(steps))


@pytest.mark.parametrize("estimator", [ope.ips, ope.pdis])
def test_unnormalised_estimators_are_zero_where_all_weights_are(estimator):
    assert estimator(steps_of([1, 1], [0, 0], [1, 3])) == 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"lengths": []}, "needs an episode"),
        ({"lengths": [3, 0]}, "every episode a step"),
        ({"ratios": [1, 1]}, r"'ratios' has shape \(2,\); the lengths add up to 3"),
        ({"ratios": [1, -1, 1]}, "'ratios' holds a negative"),
        ({"rewards": [1, math.nan, 1]}, "'rewards' holds a value that is not finite"),
        ({"q": [1, math.inf, 1]}, "'q' holds a value that is not finite"),
    ],
)
def test_arrays_that_cannot_be_a_log_are_refused(change, fault):
    given = {"lengths": [2, 1], "ratios": [1, 1, 1], "rewards": [1, 1, 1]} | change
    with pytest.raises(DatasetError, match=fault):
        steps_of(**given)
