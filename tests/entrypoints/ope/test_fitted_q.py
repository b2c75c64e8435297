"""Fitted Q evaluation: solved by hand, against the exact values, and by a network."""

import numpy as np
import pytest
import torch

from batch_rl import ope
from batch_rl.errors import DatasetError, TrainingError
from batch_rl.networks import forward

# In state 0 action 0 pays 1 and stays, action 1 pays 0 and leads to state 1; in state 1 either pays 2 and ends.
STATES = np.array([0, 0, 1, 1])
ACTIONS = np.array([0, 1, 0, 1])
REWARDS = np.array([1.0, 0.0, 2.0, 2.0])
NEXT = np.array([0, 1, -1, -1])
ENDS = np.array([False, False, True, True])
TARGET = np.array([[0.5, 0.5], [0.5, 0.5]])
# By hand, discount 1/2: V(1) = 2; V(0) = 1/2 (1 + V(0) / 2) + 1/2 (V(1) / 2) = 1 + V(0) / 4 = 4/3.
SOLUTION = np.array([[1 + 2 / 3, 1.0], [2.0, 2.0]])


def test_a_table_solves_the_model_of_the_counts():
    q = ope.fit_tabular_q(STATES, ACTIONS, REWARDS, NEXT, ENDS, TARGET, discount=0.5)
    assert q == pytest.approx(SOLUTION, rel=1e-12)


def test_repeated_steps_are_averaged_and_unseen_ones_are_zero():
    """By hand: state 0, action 0 paid 1 and 3 and ended; nothing else was seen."""
    q = ope.fit_tabular_q(
        np.array([0, 0]), np.array([0, 0]), np.array([1.0, 3.0]), np.array([0, 0]), np.array([True, True]), TARGET,
        discount=0.9,
    )  # fmt: skip
    assert q == pytest.approx(np.array([[2.0, 0.0], [0.0, 0.0]]))


def features(states, actions):
    return np.eye(4)[states * 2 + actions]


def test_features_that_are_a_table_give_the_table():
    following = np.where(ENDS[:, None], 0, np.einsum("sa,saf->sf", TARGET, np.eye(4).reshape(2, 2, 4))[NEXT])
    weights = ope.fit_linear_q(features(STATES, ACTIONS), following, REWARDS, discount=0.5)
    assert weights.reshape(2, 2) == pytest.approx(SOLUTION, rel=1e-12)


def test_on_the_whole_distribution_the_table_over_state_and_step_is_exact(world):
    """DM with it is then the true value."""
    starts, lengths = world.episodes.starts, world.episodes.lengths
    step = np.arange(len(world.states)) - np.repeat(starts, lengths)
    cells = world.states * 3 + step
    ends = world.episodes.ends
    following = np.append(cells[1:], 0)
    q = ope.fit_tabular_q(
        cells, world.episodes.actions, world.episodes.rewards, following, ends, np.repeat(world.target, 3, axis=0),
        discount=world.discount,
    )  # fmt: skip
    steps = ope.weigh(
        ope.LoggedRows.of(world.episodes), world.target[world.states], discount=world.discount, q_hat=q[cells]
    )[0]
    assert ope.dm(steps) == pytest.approx(world.value, rel=1e-9)


def test_a_network_comes_to_the_same_values():
    """Regression by steps of gradient: to 2 %."""
    torch.set_num_threads(1)
    repeat = 64
    inputs = torch.eye(2)[torch.from_numpy(np.tile(STATES, repeat))]
    parameters = ope.fit_network_q(
        inputs,
        torch.from_numpy(np.tile(ACTIONS, repeat)),
        torch.from_numpy(np.tile(REWARDS, repeat)).float(),
        torch.where(torch.from_numpy(np.tile(ENDS, repeat))[:, None], torch.nan, torch.eye(2)[np.tile(NEXT, repeat)]),
        torch.full((4 * repeat, 2), 0.5),
        torch.from_numpy(np.tile(ENDS, repeat)),
        discount=0.5,
        hidden_sizes=(32,),
        iterations=12,
        generator=torch.Generator().manual_seed(0),
        epochs_per_iteration=20,
        learning_rate=1e-2,
    )
    assert forward(parameters, torch.eye(2)[None])[0].numpy() == pytest.approx(SOLUTION, rel=0.02)


def test_a_network_whose_rewards_are_not_finite_is_stopped():
    with pytest.raises(TrainingError, match="diverged"):
        ope.fit_network_q(
            torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), torch.tensor([1.0, torch.inf]), torch.zeros(2, 1),
            torch.ones(2, 1), torch.tensor([True, True]), discount=0.9, hidden_sizes=(4,), iterations=1,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip


def test_values_without_a_bound_are_refused():
    with pytest.raises(DatasetError, match="not determined"):
        ope.fit_tabular_q(
            np.array([0]), np.array([0]), np.array([1.0]), np.array([0]), np.array([False]), np.array([[1.0]]),
            discount=1.0,
        )  # fmt: skip


def test_features_that_depend_on_each_other_are_refused():
    twice = np.random.default_rng(0).normal(size=(20, 1)) * np.array([[1.0, 2.0]])
    with pytest.raises(DatasetError, match="depend on each other"):
        ope.fit_linear_q(twice, 0 * twice, np.ones(20), discount=0.5)


@pytest.mark.parametrize(("states", "following", "name"), [([2], [0], "states"), ([0], [-1], "next_states")])
def test_an_index_out_of_range_is_refused_by_name(states, following, name):
    with pytest.raises(DatasetError, match=f"'{name}' must hold"):
        ope.fit_tabular_q(
            np.array(states), np.array([0]), np.array([1.0]), np.array(following), np.array([False]), TARGET,
            discount=0.5,
        )  # fmt: skip


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DatasetError, match="the same columns"):
        ope.fit_linear_q(np.ones((3, 2)), np.ones((3, 1)), np.ones(3), discount=0.5)


# Some updates at a time --------------------------------------------------------------------------------------------


def a_fitted_q(rewards=REWARDS, discount=0.5, rows=(0, 1, 2, 3)):
    return ope.FittedQ(
        ope.LoggedSteps(
            inputs=torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]),
            actions=torch.from_numpy(ACTIONS),
            rewards=torch.from_numpy(rewards).float(),
            terminated=torch.from_numpy(ENDS).float(),
            next_rows=torch.from_numpy(np.maximum(NEXT * 2, 0)),
        ),
        torch.tensor(rows),
        n_actions=2,
        discount=discount,
        hidden_sizes=(16, 16),
        generator=torch.Generator().manual_seed(0),
    )


def uniform(rows):
    return torch.full((len(rows), 2), 0.5)


def test_values_learned_by_some_updates_at_a_time_come_to_the_solution():
    fitted = a_fitted_q()
    for _ in range(40):
        fitted.fit(uniform, 16)
    assert fitted.values(torch.tensor([[-1.0], [1.0]])) == pytest.approx(SOLUTION, abs=0.05)


def test_they_follow_a_policy_that_changes():
    """By hand: a policy that always leaves state 0 earns 0 + 2 / 2 there, and 1 + (2 / 2) / 2 for staying once."""
    fitted = a_fitted_q()
    fitted.fit(uniform, 160)
    fitted.fit(lambda rows: torch.tensor([[0.0, 1.0]]).expand(len(rows), 2), 480)
    assert fitted.values(torch.tensor([[-1.0]])) == pytest.approx(np.array([[1.5, 1.0]]), abs=0.05)


def test_rows_that_are_left_out_are_not_fitted_to():
    """Without the steps from state 0, whose rewards would be 1000."""
    fitted = a_fitted_q(np.array([1000.0, 1000.0, 2.0, 2.0]), rows=(2, 3))
    fitted.fit(uniform, 320)
    assert fitted.values(torch.tensor([[1.0]])) == pytest.approx(np.array([[2.0, 2.0]]), abs=0.05)


def test_going_on_from_a_state_gives_the_same_bits():
    through, stopped, resumed = a_fitted_q(), a_fitted_q(), a_fitted_q()
    through.fit(uniform, 16)
    stopped.fit(uniform, 16)
    resumed.restore(stopped.state())
    for fitted in (through, resumed):
        fitted.fit(uniform, 16)
    states = torch.tensor([[0.3], [-2.0]])
    assert np.array_equal(through.values(states), resumed.values(states))
    assert not np.array_equal(through.values(states), stopped.values(states))


def test_values_that_diverge_are_reported():
    with pytest.raises(TrainingError, match="fitted Q evaluation diverged"):
        a_fitted_q(np.array([torch.inf, 0.0, 2.0, 2.0])).fit(uniform, 16)
