"""Fitted Q evaluation that refits its networks to resamples of the log."""

import numpy as np
import pytest
import torch

from batch_rl import ope
from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError
from batch_rl.networks import use_threads


@pytest.fixture(autouse=True)
def one_thread():
    """As training and judging have it: threads of small products wait for each other more than they work."""
    before = torch.get_num_threads()
    use_threads(1)
    yield
    use_threads(before)


TARGET = np.array([[0.9, 0.1], [0.2, 0.8]])
FEW = {"refits": 6, "updates": 150}


def two_states(count, *, unit=1.0, truncated=False):
    """Three steps in alternating states; reward 1 for action 0 in state 0, and 3 for action 1 in state 1."""
    generator = np.random.default_rng(count)
    states = np.tile([0, 1, 0], count)
    actions = generator.integers(0, 2, size=3 * count)
    rewards = np.where(states == 0, actions == 0, 3 * (actions == 1)) * unit
    step = np.tile([0.0, 1.0, 2.0], count)
    finals = np.tile(np.array([1.0, 3.0], dtype=np.float32), (count, 1))
    return Episodes(
        observations=np.stack([states, step], axis=1).astype(np.float32),
        actions=actions,
        rewards=rewards.astype(np.float64),
        probabilities=np.full((3 * count, 2), 0.5),
        lengths=np.full(count, 3),
        truncated=np.full(count, truncated),
        final_observations=finals if truncated else None,
    )


def policy(observations):
    return TARGET[observations[:, 0].astype(int)]


def test_the_value_of_a_small_problem_is_found_and_its_interval_holds_it():
    """By hand, discount 0.5: 0.9 + 0.5 * 0.8 * 3 + 0.25 * 0.9 = 2.325."""
    refits = ope.refit_values(two_states(100), policy, discount=0.5, seed=0)
    assert refits.replicates.mean() == pytest.approx(2.325, abs=0.1)
    interval = ope.refitted_interval(refits.replicates, level=0.95)
    assert interval.lower < 2.325 < interval.upper
    assert interval.method == "refitted"
    assert refits.q_hat[0] == pytest.approx([1 + 1.2 + 0.225, 1.425], abs=0.25)


def test_answers_do_not_depend_on_the_unit_of_the_rewards():
    """Times 2 ** 10, so that nothing but the exponents of the numbers changes."""
    plain, large = (
        ope.refit_values(two_states(30, unit=unit), policy, discount=0.5, seed=0, **FEW) for unit in (1, 1024)
    )
    assert large.replicates == pytest.approx(plain.replicates * 1024, rel=1e-6)
    assert large.q_hat == pytest.approx(plain.q_hat * 1024, rel=1e-5, abs=1e-2)


def test_a_seed_repeats_and_another_one_does_not():
    first, again, other = (ope.refit_values(two_states(30), policy, discount=0.5, seed=s, **FEW) for s in (1, 1, 2))
    assert np.array_equal(first.replicates, again.replicates)
    assert not np.array_equal(first.replicates, other.replicates)


def test_two_policies_are_fitted_to_the_same_resamples():
    """So that their difference is about the policies, and not about what was drawn."""
    first = ope.refit_values(two_states(30), policy, discount=0.5, seed=1, **FEW)
    second = ope.refit_values(two_states(30), lambda some: np.full((len(some), 2), 0.5), discount=0.5, seed=1, **FEW)
    assert np.array_equal(first.logged, second.logged)
    assert first.replicates.mean() > second.replicates.mean() + 0.3


def test_q_hat_of_an_episode_does_not_know_its_rewards():
    """Another reward in one episode leaves its own q_hat as it was, and changes that of others."""
    episodes, changed = two_states(12), two_states(12)
    changed.rewards[0] += 0.5  # as large as others, so that nothing else follows from it
    first, second = (ope.refit_values(some, policy, discount=0.5, seed=0, **FEW) for some in (episodes, changed))
    scale = np.sqrt(np.mean(second.q_hat[3:] ** 2))
    own = np.abs(first.q_hat[0] - second.q_hat[0]).max() / scale
    others = np.abs(first.q_hat[3:] - second.q_hat[3:]).max() / scale
    assert others > 0.02
    assert own < others


def test_what_follows_truncated_episodes_counts_for_policy_and_log_alike():
    """The state alternates for ever: state 0 is worth (0.9 + 0.5 * 2.4) / 0.75 = 2.8; the log's (0.5 + 0.75) / 0.75."""

    def endless(count):
        episodes = two_states(count, truncated=True)
        observations = episodes.observations.copy()
        observations[:, 1] = 0
        finals = np.tile(np.array([1.0, 0.0], dtype=np.float32), (count, 1))
        return Episodes(
            observations, episodes.actions, episodes.rewards, episodes.probabilities, episodes.lengths,
            episodes.truncated, finals,
        )  # fmt: skip

    episodes = endless(100)
    refits = ope.refit_values(episodes, policy, discount=0.5, seed=0)
    logged = ope.refit_logged_value(episodes, discount=0.5, seed=0)
    assert refits.replicates.mean() == pytest.approx(2.8, abs=0.15)
    assert logged.replicates.mean() == pytest.approx(5 / 3, abs=0.15)
    assert logged.logged.mean() < 1.4  # what was logged, and nothing after it
    last = episodes.starts + 2
    assert refits.values_after[last] == pytest.approx(2.4 + 0.5 * 2.8, abs=0.3)
    assert np.count_nonzero(np.delete(refits.values_after, last)) == 0


@pytest.mark.parametrize(("count", "refits"), [(2, 2), (2, 16), (3, 2), (40, 4)])
def test_every_episode_has_a_network_that_has_not_seen_it_however_few_there_are(count, refits):
    for seed in range(5):
        made = ope.refit_values(two_states(count), policy, discount=0.5, seed=seed, refits=refits, updates=2)
        assert np.isfinite(made.q_hat).all()
        assert np.isfinite(made.replicates).all()


def test_a_value_stays_within_what_rewards_allow():
    refits = ope.refit_values(two_states(5), policy, discount=0.5, seed=0, refits=4, updates=8)
    assert refits.bounds == (0, 6)
    assert ((refits.replicates >= 0) & (refits.replicates <= 6)).all()
    assert ope.refitted_interval(np.array([-50.0, 50.0]), level=0.95, bounds=(0, 6)).upper == 6


def test_a_single_episode_is_refused():
    with pytest.raises(DatasetError, match="a single episode"):
        ope.refit_values(two_states(1), policy, discount=0.5, seed=0, **FEW)


def test_evaluate_puts_the_refitted_estimate_first_and_shares_its_values(world):
    episodes = world.episodes.select(np.random.default_rng(0).integers(0, len(world.episodes), size=60))
    states = episodes.observations[:, 0].astype(int)
    refits = ope.refit_values(
        episodes, lambda some: world.target[some[:, 0].astype(int)], discount=world.discount, seed=0, **FEW
    )
    log, target = ope.LoggedRows.of(episodes), world.target[states]
    evaluation = ope.evaluate(log, target, refits.q_hat, discount=world.discount, refits=refits, resamples=50)
    assert list(evaluation.values) == [ope.FQE, *ope.ESTIMATORS]
    assert evaluation["FQE"].value == pytest.approx(refits.replicates.mean())
    assert evaluation["FQE"].interval.method == "refitted"
    with pytest.raises(DatasetError, match="'FQE' needs refits"):
        ope.evaluate(log, target, discount=world.discount, estimators=["FQE"])
