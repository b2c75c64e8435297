"""CartPole for all environments at once gives the rows of Gymnasium's own, bit for bit."""

from itertools import chain

import numpy as np
import pytest

from batch_rl.acting.policies import epsilon_greedy_policy, fixed_policy, softmax_policy, uniform_policy
from batch_rl.acting.rollout import Player, collect_episodes, play
from batch_rl.errors import PresetError

LEAN = np.array([0.0, 0.5, 1.0, 0.5])


def lean(observations):
    """Values that push in the direction in which the pole falls: it stays up for long."""
    return np.stack([-observations @ LEAN, observations @ LEAN], axis=1) * 10


@pytest.mark.parametrize("name", ["CartPole-v0", "CartPole-v1"])
@pytest.mark.parametrize(
    ("policy", "time_limit"),
    [
        pytest.param(uniform_policy(2), False, id="uniform"),
        pytest.param(softmax_policy(lean, 10.0), False, id="leaning"),
        pytest.param(softmax_policy(lean, 1.5), True, id="balancing"),
    ],
)
def test_the_fast_way_gives_the_plain_ways_rows(name, policy, time_limit):
    players = [Player(name, 3, index, time_limit=time_limit) for index in range(6)]
    plain = play(players, policy, episodes_each=3)
    fast = collect_episodes(name, 3, policy, num_envs=6, episodes_each=3, time_limit=time_limit)
    assert [len(episodes) for episodes in fast] == [3] * 6
    for slow, quick in zip(chain(*plain), chain(*fast), strict=True):
        assert (slow.terminated, slow.truncated) == (quick.terminated, quick.truncated)
        for field in ("observations", "actions", "probabilities", "rewards", "final_observation"):
            expected, actual = getattr(slow, field), getattr(quick, field)
            assert expected.dtype == actual.dtype
            assert (expected == actual).all()


def test_a_balancing_policy_is_cut_at_the_limit():
    policy = softmax_policy(lean, 0.1)
    played = collect_episodes("CartPole-v0", 0, policy, num_envs=3, episodes_each=1, time_limit=True)
    episodes = chain(*played)
    assert [(len(episode.actions), episode.truncated) for episode in episodes] == [(200, True)] * 3


def test_rows_do_not_depend_on_the_number_of_environments():
    few, many = (
        collect_episodes("CartPole-v1", 9, uniform_policy(2), num_envs=n, episodes_each=2, time_limit=True)
        for n in (2, 50)
    )
    for first, second in zip(chain(*few), chain(*many[:2]), strict=True):
        assert (first.observations == second.observations).all()


def test_the_best_action_of_an_epsilon_greedy_policy_also_gets_its_uniform_share():
    """By hand: epsilon 0.3 over 3 actions is 0.1 each, and 0.7 more for the best."""
    policy = epsilon_greedy_policy(lambda observations: np.array([[1.0, 3.0, 2.0]]), 0.3)
    assert policy(np.zeros((1, 4), dtype=np.float32)).tolist() == [pytest.approx([0.1, 0.8, 0.1])]


def test_a_softmax_policys_probabilities_are_what_the_log_shows():
    """By hand: exp(ln 3) : exp(0) = 3 : 1."""
    policy = softmax_policy(lambda observations: np.array([[2 * np.log(3), 0.0]]), 2.0)
    assert policy(np.zeros((1, 4), dtype=np.float32)).tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize("wrong", [[0.5, 0.6], [1.0], [1.5, -0.5]])
def test_fixed_probabilities_must_be_a_distribution_over_the_actions(wrong):
    with pytest.raises(PresetError, match="must be 2 numbers"):
        fixed_policy(wrong, 2)
    assert fixed_policy([0.25, 0.75], 2)(np.zeros((2, 4), dtype=np.float32)).tolist() == [[0.25, 0.75]] * 2
