"""Training runs on logged episodes: the shipped presets, Coach's treatment of the data, and the warnings."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.acting.policies import greedy_policy, uniform_policy
from batch_rl.acting.rollout import Player, play, play_episodes
from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError
from batch_rl.learning.divergence import ValueWatch, largest_possible_value
from batch_rl.learning.estimates import PolicyEstimates
from batch_rl.learning.preparation import without_last_rows
from batch_rl.learning.training import EpochResult, TrainingRun
from batch_rl.networks import mean_and_scale, softmax
from batch_rl.ope import WeightDiagnostics
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import ALGORITHMS, Agent, TrainingPreset

PRESETS = Path(__file__).resolve().parents[2] / "presets"
SHIPPED = sorted(
    path.stem
    for path in PRESETS.glob("preset-cartpole-*.yaml")
    if "Used by train.py" in path.read_text("utf-8") and "\nonline:" not in path.read_text("utf-8")
)


def logged(environments, episodes_each):
    """Log a uniform random policy in CartPole, as preset-cartpole-random does."""
    players = [Player("CartPole-v0", 0, index, time_limit=False) for index in range(environments)]
    played = play(players, uniform_policy(2), episodes_each=episodes_each)
    episodes = [episode for turn in played for episode in turn]
    return Episodes(
        observations=np.concatenate([episode.observations for episode in episodes]),
        actions=np.concatenate([episode.actions for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        probabilities=np.concatenate([episode.probabilities for episode in episodes]),
        lengths=np.array([len(episode.actions) for episode in episodes]),
    )


@pytest.fixture(scope="module")
def few_episodes():
    return logged(environments=20, episodes_each=1)


def preset(name, **overrides):
    return load_preset(PRESETS / f"{name}.yaml", TrainingPreset, overrides)


def test_there_is_a_preset_for_every_algorithm_and_way_of_dropping_actions():
    agents = [preset(name) for name in SHIPPED]
    assert {p.agent.algorithm for p in agents} == set(ALGORITHMS) - {"dueling", "quantile"}
    assert {p.bcq.action_drop_method for p in agents} == {"imitation_model", "nearest_neighbors"}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_preset_trains(name, few_episodes):
    """Two epochs, twice: finite numbers, and the same ones."""
    results = []
    for _ in range(2):
        run = TrainingRun(few_episodes, preset(name, **{"training.epochs": 2, "ope.reward_model_epochs": 1}))
        results.append([run.run_epoch() for _ in range(2)])
    for ours, again in zip(*results, strict=True):
        assert np.isfinite(ours.losses).all()
        assert np.array_equal(ours.losses, again.losses)
        # With so few episodes little is near an observation, and Coach's model knows them by heart: the policy may give
        # every held-out episode probability 0.
        bound = name.endswith(("-coach", "-knn"))
        defined = ("one_step_dr",) if bound else ("wis", "sequential_dr", "one_step_dr")
        for estimate in defined:
            assert np.isfinite(getattr(ours.estimates, estimate))
            assert getattr(ours.estimates, estimate) == getattr(again.estimates, estimate)


def test_what_is_scored_is_the_policy_that_is_saved(few_episodes):
    """Snapshots are asked once for their values at the held-out rows; the mean stays that of all networks."""
    overrides = {"training.epochs": 4, "agent.snapshot_updates": 1, "ope.estimators": ()}
    run = TrainingRun(few_episodes, preset("preset-cartpole-ddqnbcq", **overrides))
    for _ in range(4):
        estimates = run.run_epoch().estimates
        target = softmax(run.policy().q_array(run.held_out.observations), run.temperature)
        expected = ope.wis(ope.weigh(ope.LoggedRows.of(run.held_out), target, discount=0.99)[0])
        assert estimates.wis == pytest.approx(expected, rel=1e-5)
    assert len(run.learner.snapshots) > 2


def test_features_get_mean_0_and_deviation_1_but_those_that_never_change_are_only_shifted():
    """In float32 the mean of many 0.1 is another number than 0.1, and their deviation not 0."""
    mean, scale = mean_and_scale(np.stack([np.full(1001, 0.1), np.arange(1001) % 2 * 4], axis=1, dtype=np.float32))
    assert mean.tolist() == pytest.approx([0.1, 2000 / 1001])
    assert scale[0] == 1
    assert scale[1] == pytest.approx(2, rel=1e-5)


def test_coachs_loader_ends_an_episode_a_row_earlier(few_episodes):
    """Rows 0 to 4 are episodes of 3, 1 and 1 steps; 0 and 1 are left, of the first episode alone."""
    first = few_episodes.select(np.array([0]))
    rows = slice(0, 5)
    three = dataclasses.replace(
        first,
        observations=first.observations[rows],
        actions=first.actions[rows],
        rewards=first.rewards[rows],
        probabilities=first.probabilities[rows],
        lengths=np.array([3, 1, 1]),
        truncated=np.array([False, False, False]),
    )
    left = without_last_rows(three)
    assert left.lengths.tolist() == [2]
    assert np.array_equal(left.observations, three.observations[:2])
    assert left.ends.tolist() == [False, True]
    cut = without_last_rows(dataclasses.replace(three, truncated=np.array([True, False, False])))
    assert cut.truncated.tolist() == [True]
    assert np.array_equal(cut.final_observations, three.observations[2:3]), "what followed is known: the row left out"
    with pytest.raises(DatasetError, match="single row"):
        without_last_rows(three.select(np.array([1, 2])))


def test_behavior_cloning_imitates_the_episodes_of_the_highest_returns(few_episodes):
    """Half of 20 episodes: the longest ones, as every step earns 1; rounded up, so that one is always left."""
    run = TrainingRun(few_episodes, preset("preset-cartpole-bc", **{"agent.imitated_share": 0.5}))
    lengths = np.sort(run.fitting.lengths)[::-1]
    assert len(run.learner._transitions.actions) == lengths[: -(-len(lengths) // 2)].sum()


def epoch(number, q, wis, sequential_dr):
    estimates = PolicyEstimates(wis, sequential_dr, 0.0, 0.0, 0.0, WeightDiagnostics(1.0, 1.0, 1.0))
    values = np.array([q, q])
    return EpochResult(number, number, values, values, values, values, largest_q=q, estimates=estimates)


@pytest.mark.parametrize(("discount", "reward", "bound"), [(0.5, 3, 6), (1, 1, np.inf), (0.5, -1, -1)])
def test_no_return_exceeds_the_largest_reward_forever(discount, reward, bound):
    assert largest_possible_value(reward, discount) == bound


def test_values_above_every_possible_return_are_reported_once():
    watch = ValueWatch(10.0, Agent())
    assert watch.warnings(epoch(1, q=9.0, wis=1.0, sequential_dr=1.0)) == []
    (warning,) = watch.warnings(epoch(2, q=11.0, wis=2.0, sequential_dr=2.0))
    assert "Q reached 11 in epoch 2, but no return can exceed 10" in warning
    assert "or choose agent.algorithm=cql or iql" in warning
    assert watch.warnings(epoch(3, q=12.0, wis=3.0, sequential_dr=3.0)) == []


def test_values_that_double_while_both_estimates_fall_are_reported_once():
    watch = ValueWatch(np.inf, Agent())
    assert watch.warnings(epoch(1, q=4.0, wis=30.0, sequential_dr=50.0)) == []
    assert watch.warnings(epoch(2, q=9.0, wis=29.0, sequential_dr=51.0)) == []
    assert watch.warnings(epoch(3, q=7.9, wis=29.0, sequential_dr=49.0)) == []
    (warning,) = watch.warnings(epoch(4, q=8.0, wis=29.0, sequential_dr=49.0))
    assert "since epoch 1 Q has grown from 4 to 8, while WIS fell from 30 to 29" in warning
    assert watch.warnings(epoch(5, q=9.0, wis=28.0, sequential_dr=48.0)) == []


def test_nothing_is_said_of_values_before_anything_is_learned():
    """The first weights alone give 0.57 where the logged returns are -60 to 0."""
    watch = ValueWatch(0.0, Agent(), spread=20.0)
    assert watch.warnings(epoch(1, q=3.0, wis=-60.0, sequential_dr=-60.0)) == []
    assert watch.warnings(epoch(2, q=0.57, wis=-50.0, sequential_dr=-50.0)) == []
    assert watch.warnings(epoch(3, q=2.5, wis=-50.0, sequential_dr=-50.0)) != []


def test_values_that_sink_to_negative_returns_have_not_grown():
    watch = ValueWatch(np.inf, Agent())
    watch.warnings(epoch(1, q=-3.2, wis=-50.0, sequential_dr=-40.0))
    assert watch.warnings(epoch(2, q=-8.8, wis=-60.0, sequential_dr=-50.0)) == []
    (warning,) = watch.warnings(epoch(3, q=0.1, wis=-60.0, sequential_dr=-50.0))
    assert "Q has grown from -3.2 to 0.1" in warning


@pytest.mark.parametrize("algorithm", ["cql", "iql"])
def test_a_warning_does_not_advise_what_was_chosen(algorithm):
    watch = ValueWatch(0.0, Agent(algorithm=algorithm, target_update_rate=0.01))
    (warning,) = watch.warnings(epoch(2, q=5.0, wis=1.0, sequential_dr=1.0))
    assert "agent.algorithm" not in warning
    assert "lower agent.target_update_rate" in warning
    (warning,) = watch.warnings(epoch(3, q=50.0, wis=0.0, sequential_dr=0.0))
    assert "the checkpoint 'best' is the earlier one" in warning


def test_logits_are_no_values():
    watch = ValueWatch(1.0, Agent(algorithm="bc"))
    assert watch.warnings(epoch(1, q=5.0, wis=2.0, sequential_dr=2.0)) == []


RANDOM_RETURN = 22
LEAST_RETURNS = {
    "preset-cartpole-bc": 60,
    "preset-cartpole-ddqnbcq-coach": 90,
}


EXAMPLES = {"preset-cartpole-ddqnbcq", "preset-cartpole-ddqnbcq-imitation", "preset-cartpole-dqn-offline"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in EXAMPLES else pytest.param(name, marks=pytest.mark.whole) for name in SHIPPED]
)
def test_every_shipped_preset_beats_the_policy_that_logged_its_data(name):
    """From 500 random episodes of about 22 steps; what a preset reaches on average is in docs/learning.md."""
    run = TrainingRun(logged(environments=100, episodes_each=5), preset(name))
    for _ in range(run.preset.training.epochs):
        run.run_epoch()
    played = play_episodes("CartPole-v0", 0, greedy_policy(run.policy().q_array), episodes=50)
    assert run.held_out.lengths.mean() == pytest.approx(RANDOM_RETURN, abs=3)
    assert np.mean([episode.total_reward for episode in played]) > LEAST_RETURNS.get(name, 150)


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [("ddqn_bcq", "nearest_neighbors")] + [(algorithm, "imitation_model") for algorithm in ALGORITHMS],
)
def test_every_rule_learns_from_truncated_episodes(few_episodes, algorithm, method):
    """Half of them are cut; of those, every other one has the observation that came next."""
    numbers = np.arange(len(few_episodes))
    finals = np.where((numbers % 4 == 0)[:, None], 0.1, np.nan).repeat(4, axis=1).astype(np.float32)
    episodes = dataclasses.replace(few_episodes, truncated=numbers % 2 == 0, final_observations=finals)
    values = {"agent.algorithm": algorithm, "bcq.action_drop_method": method, "training.epochs": 1}
    run = TrainingRun(episodes, preset("preset-cartpole-ddqnbcq", **values))
    result = run.run_epoch()
    assert np.isfinite(result.losses).all()
    learned = run.learner._transitions.learned_rows
    cut = run.fitting.truncated
    has_final = cut & ~np.isnan(run.fitting.final_observations).any(axis=1) & (algorithm != "one_step")
    assert len(learned) == len(run.fitting.actions) - (cut & ~has_final).sum()
