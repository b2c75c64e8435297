"""Off-policy estimators: numbers worked by hand, and equality with the truth on an MDP that can be enumerated."""

import math

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError


def logged(actions, rewards, probabilities, lengths):
    """Build episodes whose observation is the number of the row."""
    rows = len(actions)
    return Episodes(
        observations=np.arange(rows, dtype=np.float32)[:, None],
        actions=np.array(actions),
        rewards=np.array(rewards, dtype=np.float64),
        probabilities=np.broadcast_to(np.array(probabilities, dtype=np.float64), (rows, 2)),
        lengths=np.array(lengths),
    )


def weighted(episodes, target, discount=1.0, q_hat=None):
    return ope.weigh(ope.LoggedRows.of(episodes), target, discount=discount, q_hat=q_hat)[0]


def always(probabilities, rows):
    return np.tile(np.array(probabilities, dtype=np.float64), (rows, 1))


ONE_STEP = logged(actions=[0, 1], rewards=[1, 3], probabilities=[0.5, 0.5], lengths=[1, 1])
# Ratios of the policy (0.8, 0.2): 1.6 for action 0, 0.4 for action 1.
TWO_EPISODES = logged(actions=[0, 0, 1], rewards=[1, 2, 4], probabilities=[0.5, 0.5], lengths=[2, 1])


def test_wis_weighs_each_return_by_its_probability_ratio():
    """By hand: ratios 1.6 and 0.4, returns 1 and 3 -> (1.6 * 1 + 0.4 * 3) / 2 = 1.4."""
    assert ope.wis(weighted(ONE_STEP, always([0.8, 0.2], 2))) == pytest.approx(1.4, rel=1e-12)


def test_wis_multiplies_the_ratios_of_an_episode_and_discounts_its_rewards():
    """By hand: weights 1.6 * 1.6 = 2.56 and 0.4; returns 1 + 0.5 * 2 = 2 and 4 -> (5.12 + 1.6) / 2.96."""
    assert ope.wis(weighted(TWO_EPISODES, always([0.8, 0.2], 3), 0.5)) == pytest.approx(6.72 / 2.96, rel=1e-12)


def test_wis_of_the_logging_policy_is_the_mean_return_with_every_episode_in_effect():
    steps = weighted(TWO_EPISODES, TWO_EPISODES.probabilities)
    assert ope.wis(steps) == pytest.approx(3.5)
    assert ope.describe_weights(steps).effective_sample_size == pytest.approx(2)


def test_wis_survives_products_of_ratios_that_leave_the_range_of_floats():
    """1.6 ** 3000 overflows. By hand: the weights' quotient is (1.6 / 0.4) ** 1 = 4 -> (4 * 1 + 1 * 6) / 5 = 2."""
    steps = 3000
    actions = [0] * steps + [0] * (steps - 1) + [1]
    rewards = [1] + [0] * (steps - 1) + [6] + [0] * (steps - 1)
    episodes = logged(actions, rewards, [0.5, 0.5], [steps, steps])
    target = always([0.8, 0.2], 2 * steps)
    assert ope.wis(weighted(episodes, target)) == pytest.approx(2, rel=1e-9)


def test_the_diagnostics_of_weights_follow_their_definitions():
    """By hand: weights 2.56 and 0.4: ESS 2.96^2 / (2.56^2 + 0.4^2), mean 1.48, largest share 2.56 / 2.96."""
    weights = ope.describe_weights(weighted(TWO_EPISODES, always([0.8, 0.2], 3)))
    assert weights.effective_sample_size == pytest.approx(2.96**2 / (2.56**2 + 0.4**2))
    assert weights.mean_weight == pytest.approx(1.48)
    assert weights.largest_share == pytest.approx(2.56 / 2.96)


def test_a_policy_that_no_logged_episode_follows_has_no_wis():
    """Its weights are all 0, and 0 / 0 is not 0."""
    never = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.warns(ope.UndefinedEstimateWarning, match="probability 0"):
        assert math.isnan(ope.wis(weighted(ONE_STEP, never)))
    with pytest.warns(ope.UndefinedEstimateWarning, match="probability 0"):
        assert ope.describe_weights(weighted(ONE_STEP, never)).effective_sample_size == 0


def test_sequential_dr_follows_its_recursion():
    """By hand, discount 0.5, q = (1, 2) in every state, so v = 0.8 + 0.4 = 1.2.

    Episode 1: V_1 = 1.2 + 1.6 (2 - 1) = 2.8; V_0 = 1.2 + 1.6 (1 + 0.5 * 2.8 - 1) = 3.44.
    Episode 2: V_0 = 1.2 + 0.4 (4 - 2) = 2. Mean: 2.72.
    """
    value = ope.sequential_dr(weighted(TWO_EPISODES, always([0.8, 0.2], 3), 0.5, always([1.0, 2.0], 3)))
    assert value == pytest.approx(2.72, rel=1e-12)


def test_the_one_step_columns_follow_their_definitions():
    """By hand, ratios 1.6, 1.6, 0.4, rewards 1, 2, 4, predicted (1, 2), so v = 1.2:

    IPS = (1.6 + 3.2 + 1.6) / 3; DM = 1.2; DR = 1.2 + (1.6 * 0 + 1.6 * 1 + 0.4 * 2) / 3 = 2.
    """
    target, predicted = always([0.8, 0.2], 3), always([1.0, 2.0], 3)
    assert ope.one_step_importance_sampling(TWO_EPISODES, target) == pytest.approx(6.4 / 3)
    assert ope.one_step_direct_method(target, predicted) == pytest.approx(1.2)
    assert ope.one_step_doubly_robust(TWO_EPISODES, target, predicted) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_sequential_dr_is_the_true_value_on_the_whole_distribution_whatever_the_model(world, seed):
    """With a model of zeros it is per-decision importance sampling, which is unbiased as well."""
    states, episodes = world.states, world.episodes
    q_hat = np.zeros((2, 2)) if seed is None else np.random.default_rng(seed).normal(size=(2, 2))
    value = ope.sequential_dr(weighted(episodes, world.target[states], world.discount, q_hat[states]))
    assert value == pytest.approx(world.value, rel=1e-9)


def test_the_mean_weight_is_one_on_the_whole_distribution(world):
    states, episodes = world.states, world.episodes
    assert ope.describe_weights(weighted(episodes, world.target[states])).mean_weight == pytest.approx(1, rel=1e-9)


def test_wis_is_the_true_value_on_the_whole_distribution(world):
    """Its weights sum to the number of episodes there, so it is ordinary importance sampling."""
    states, episodes = world.states, world.episodes
    value = ope.wis(weighted(episodes, world.target[states], world.discount))
    assert value == pytest.approx(world.value, rel=1e-9)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, math.nan])
def test_an_impossible_propensity_is_refused(propensity):
    episodes = logged([0, 1], [1, 1], [[0.5, 0.5], [0.5, propensity]], [1, 1])
    with pytest.raises(DatasetError, match=r"row 1: the propensity is .*; it must be in \(0, 1\]"):
        ope.importance_ratios(episodes, always([0.5, 0.5], 2))


@pytest.mark.parametrize("target", [always([0.5, 0.5], 3), always([0.5, 0.6], 2), always([-0.5, 1.5], 2)])
def test_target_probabilities_must_be_probabilities_of_every_row(target):
    with pytest.raises(DatasetError, match="target probabilities"):
        ope.importance_ratios(ONE_STEP, target)
