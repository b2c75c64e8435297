"""Playing episodes: every row is a transition of the environment, and a seed decides it."""

import gymnasium
import numpy as np
import pytest

from batch_rl.acting.policies import draw_actions, greedy_policy, uniform_policy
from batch_rl.acting.rollout import Player, play, play_episodes, play_steps
from batch_rl.errors import PresetError

UNIFORM = uniform_policy(2)


def players(count, seed=0):
    return [Player("CartPole-v0", seed, index, time_limit=False) for index in range(count)]


def same(first, second):
    return (first.observations == second.observations).all() and (first.actions == second.actions).all()


def test_an_action_is_drawn_by_the_inverse_of_the_cumulative_distribution():
    """By hand: below 0.2 action 0, from 0.2 to 0.2 none, then action 2."""
    probabilities = np.tile([0.2, 0.0, 0.8], (4, 1))
    assert draw_actions(probabilities, np.array([0.0, 0.1999, 0.2, 0.9999])).tolist() == [0, 0, 2, 2]


def test_a_row_whose_probabilities_sum_to_less_than_one_never_draws_past_its_end():
    assert draw_actions(np.array([[1 / 3, 1 / 3, 1 / 3 - 1e-9]]), np.array([1 - 1e-16])).tolist() == [2]


def test_rows_are_the_transitions_of_the_environment_and_no_reset_is_among_them():
    """A plain environment with the same seed, given the logged actions, shows the logged observations."""
    (episodes,) = play(players(1), UNIFORM, episodes_each=5)
    seed = int(np.random.SeedSequence([0, 0]).spawn(2)[0].generate_state(1)[0])
    environment = gymnasium.make("CartPole-v1").unwrapped
    for number, episode in enumerate(episodes):
        observation, _ = environment.reset(seed=seed if number == 0 else None)
        for step, action in enumerate(episode.actions):
            assert (episode.observations[step] == observation).all()
            observation, reward, terminated, _, _ = environment.step(int(action))
            assert reward == episode.rewards[step]
            assert terminated == (step == len(episode.actions) - 1)


def test_an_episode_does_not_depend_on_how_many_are_played_beside_it():
    few, many = play(players(2), UNIFORM, episodes_each=3), play(players(9), UNIFORM, episodes_each=3)
    assert all(same(a, b) for pair in zip(few, many[:2], strict=True) for a, b in zip(*pair, strict=True))


def test_another_seed_gives_other_episodes():
    ((first,),), ((second,),) = (play(players(1, seed), UNIFORM, episodes_each=1) for seed in (0, 1))
    assert first.observations[0].tolist() != second.observations[0].tolist()


def test_logged_episodes_end_by_termination_and_played_ones_at_the_limit():
    """Pushing with the pole's lean and its speed keeps it up far beyond 200 steps."""
    balance = greedy_policy(lambda observations: np.stack([-observations @ W, observations @ W], axis=1))
    (episode,) = play_episodes("CartPole-v0", 0, balance, episodes=1)
    assert (len(episode.actions), episode.terminated, episode.truncated) == (200, False, True)
    ((logged,),) = play(players(1), UNIFORM, episodes_each=1)
    assert (logged.terminated, logged.truncated) == (True, False)


W = np.array([0.0, 0.1, 1.0, 0.5])


def test_playing_for_a_number_of_steps_is_playing_whole_episodes_one_after_the_other():
    played = play_steps("CartPole-v0", 0, UNIFORM, steps=100)
    lengths = [len(episode.actions) for episode in played]
    assert sum(lengths) >= 100 > sum(lengths[:-1])
    one_by_one = play_episodes("CartPole-v0", 0, UNIFORM, episodes=len(played))
    assert all(same(a, b) for a, b in zip(played, one_by_one, strict=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [("CartPool-v0", "did you mean 'CartPole-v0'?"), ("Pendulum-v1", "numbered actions"), ("a b", "cannot make 'a b'")],
)
def test_an_environment_that_cannot_be_played_is_refused(name, words):
    with pytest.raises(PresetError) as caught:
        Player(name, 0, 0, time_limit=True)
    assert words in str(caught.value)
