"""The notebook's VectoredGymEnvironment: its interface and columns, without what was wrong in it."""

import json

import numpy as np
import pandas as pd
import pytest

from batch_rl.acting.environments import VectoredGymEnvironment, read_predictions
from batch_rl.acting.policies import uniform_policy
from batch_rl.acting.rollout import collect_episodes
from batch_rl.data.tables import episodes_from_frame
from batch_rl.errors import EnvironmentUseError, PresetError
from batch_rl.formats.coach_csv import read_csv, write_csv

COLUMNS = ["action", "all_action_probabilities", "episode_id", "reward", "cumulative_rewards"]
HALF = [0.5, 0.5]


def environments(count=2, **options):
    return VectoredGymEnvironment("CartPole-v0", count, **options)


def collect(vectored, **options):
    return vectored.collect_rollouts_with_given_action_probs(action_probs=[HALF] * vectored.num_of_envs, **options)


def test_the_notebooks_cells_run_and_give_its_columns(tmp_path):
    num_envs, num_episodes = 10, 5
    vectored_envs = VectoredGymEnvironment("CartPole-v0", num_envs)
    action_probs = [[1 / 2, 1 / 2] for _ in range(num_envs)]
    df = vectored_envs.collect_rollouts_with_given_action_probs(action_probs=action_probs, num_episodes=num_episodes)
    assert list(df.columns) == [*COLUMNS, *(f"state_feature_{i}" for i in range(4))]
    assert 15 < df["cumulative_rewards"].sum() / (num_envs * num_episodes) < 30
    assert df["episode_id"].drop_duplicates().tolist() == [i + 10 * k for i in range(10) for k in range(5)]
    df.to_csv(tmp_path / "cartpole_dataset.csv", index=False)
    assert len(read_csv(tmp_path / "cartpole_dataset.csv")) == 50


def test_its_rows_are_those_that_collect_writes(tmp_path):
    collect(vectored := environments(3, seed=4), num_episodes=2).to_csv(tmp_path / "notebook.csv", index=False)
    played = collect_episodes("CartPole-v0", 4, uniform_policy(2), num_envs=3, episodes_each=2, time_limit=False)
    numbered = [(i + 3 * turn, episode) for i, episodes in enumerate(played) for turn, episode in enumerate(episodes)]
    write_csv(tmp_path / "collected.csv", numbered)
    assert (tmp_path / "notebook.csv").read_bytes() == (tmp_path / "collected.csv").read_bytes()
    assert vectored.state_dims == 4


def test_a_seed_decides_the_rows_and_the_number_of_environments_does_not():
    two, five = collect(environments(2), num_episodes=2), collect(environments(5), num_episodes=2)
    of_two = five[five["episode_id"] % 5 < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(two.drop(columns="episode_id"), of_two.drop(columns="episode_id"))
    assert not two.equals(collect(environments(2, seed=1), num_episodes=2))


def test_a_number_of_steps_gives_that_many_rows_and_episodes_go_on_from_call_to_call():
    """What batch transform needs: a prediction, a step, the next states; together they are the same episodes."""
    stepwise = environments(2)
    pieces = [collect(stepwise, num_steps=1) for _ in range(60)]
    assert all(len(piece) == 2 for piece in pieces)
    at_once = collect(environments(2), num_steps=60)
    joined = pd.concat(pieces).sort_values("episode_id", key=lambda ids: ids % 2, kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(joined, at_once)
    assert (at_once["cumulative_rewards"] > 0).sum() >= 2
    for _, rows in at_once.groupby("episode_id"):
        assert rows["cumulative_rewards"].iloc[-1] in (0, len(rows))


def test_a_second_call_returns_its_own_rows_alone():
    vectored = environments()
    first, second = collect(vectored, num_episodes=1), collect(vectored, num_episodes=1)
    assert not set(first["episode_id"]) & set(second["episode_id"])
    assert len(vectored.data_rows) == len(second)


def test_no_episode_id_is_used_twice_whatever_interrupts_an_episode():
    vectored = environments(1)
    begun = collect(vectored, num_steps=3)["episode_id"].unique().tolist()
    vectored.reset_all_envs()
    after_reset = collect(vectored, num_steps=3)["episode_id"].unique().tolist()
    whole = collect(vectored, num_episodes=1)["episode_id"].unique().tolist()  # gives the begun one up
    vectored.step("environment_0", 1)
    after_step = collect(vectored, num_steps=2)["episode_id"].unique().tolist()  # its first row is not in the log
    assert begun + after_reset + whole + after_step == [0, 1, 2, 4]


@pytest.mark.parametrize("joined", [True, False])
def test_probabilities_come_from_what_batch_transform_wrote(tmp_path, joined):
    outputs = [{"predictions": [[0.9, 0.1]]}, {"predictions": [[2.0, 2.0]]}]
    lines = [json.dumps({"features": [0, 0], "SageMakerOutput": out} if joined else out) for out in outputs]
    path = tmp_path / "states.json.out"
    path.write_text(lines[0] + "\n\n" + lines[1] + "\n \n")  # blank lines do no harm
    rows = environments().collect_rollouts_with_given_action_probs(num_steps=1, file_name=path)
    assert rows["all_action_probabilities"].tolist() == [[0.9, 0.1], [0.5, 0.5]]
    assert [type(p) for p in rows["all_action_probabilities"][0]] == [float, float]
    assert len(environments().collect_rollouts_with_given_action_probs(num_episodes=1, file_name=str(path))) > 10


def test_states_are_written_as_plain_lists_of_floats(tmp_path):
    vectored = environments(3)
    vectored.reset_all_envs()
    vectored.dump_environment_states(str(tmp_path), "states.json")
    lines = [json.loads(line) for line in (tmp_path / "states.json").read_text().splitlines()]
    assert lines == list(vectored.get_environment_states().values())
    assert all(type(value) is float for line in lines for value in line)


def test_the_rest_of_the_interface():
    vectored = environments(2, render_mode="rgb_array")
    assert vectored.is_initialized()
    assert vectored.envs_initialized
    assert vectored.get_environment_ids() == ["environment_0", "environment_1"] == list(vectored.initialized_envs)
    assert vectored.env_reset_counter == {"environment_0": 0, "environment_1": 0}
    observation, reward, done, info = vectored.step("environment_1", 1)
    assert vectored.env_states["environment_1"] == observation.tolist()
    assert (reward, done, info) == (1.0, False, {"terminated": False, "truncated": False})
    while not vectored.step("environment_1", 1)[2]:
        pass
    with pytest.raises(EnvironmentUseError, match="the episode is over"):
        vectored.step("environment_1", 1)
    assert len(vectored.reset("environment_1")) == 4
    assert vectored.env_reset_counter["environment_1"] == 1
    vectored.collect_rollouts_for_single_env_with_given_episodes("environment_0", HALF, 1)
    vectored.collect_rollouts_for_single_env_with_given_steps("environment_1", HALF, 2)
    assert [row[2] % 2 for row in vectored.data_rows][-3:] == [0, 1, 1]
    vectored.close("environment_0")
    assert vectored.get_environment_ids() == ["environment_1"]
    with pytest.raises(EnvironmentUseError, match="no environment 'environment_0'"):
        vectored.render("environment_0")
    vectored.initialize_envs()
    assert len(vectored.get_environment_ids()) == 2


def test_a_time_limit_adds_how_episodes_ended():
    """Always pushing left ends MountainCar by its limit of 200 steps alone."""
    vectored = VectoredGymEnvironment("MountainCar-v0", 1, time_limit=True)
    rows = vectored.collect_rollouts_with_given_action_probs(num_episodes=1, action_probs=[[1, 0, 0]])
    assert (len(rows), rows["terminated"].sum(), rows["truncated"].sum()) == (200, 0, 1)
    assert episodes_from_frame(rows).truncated.tolist() == [True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"action_probs": [HALF] * 2}, "either num_steps or num_episodes"),
        ({"num_steps": 1, "num_episodes": 1, "action_probs": [HALF] * 2}, "either num_steps or num_episodes"),
        ({"num_steps": 1}, "either action_probs or file_name"),
        ({"num_steps": 0, "action_probs": [HALF] * 2}, "0 is not a number of steps"),
        ({"num_steps": 1, "action_probs": [HALF]}, "2 environments, but 1 rows"),
        ({"num_steps": 1, "action_probs": [HALF, [1.0]]}, "environment_1: .* must be 2 numbers"),
        ({"num_steps": 1, "action_probs": [HALF, [np.nan, 1]]}, "must be 2 numbers"),
        ({"num_steps": 1, "action_probs": [HALF, [0, 0]]}, "not all 0"),
        ({"num_steps": 1, "action_probs": [HALF, [-1, 2]]}, "must be 2 numbers"),
    ],
)
def test_a_call_that_cannot_be_served_is_refused_before_any_step(options, words):
    vectored = environments()
    before = vectored.get_environment_states()
    with pytest.raises(EnvironmentUseError, match=words):
        vectored.collect_rollouts_with_given_action_probs(**options)
    assert vectored.get_environment_states() == before


def test_a_malformed_line_of_predictions_is_named(tmp_path):
    path = tmp_path / "out"
    path.write_text('{"predictions": [[0.5, 0.5]]}\n{"predictions": []}\n')
    with pytest.raises(EnvironmentUseError, match="line 2: not of the form"):
        read_predictions(path)
    with pytest.raises(EnvironmentUseError, match="cannot be read"):
        read_predictions(tmp_path / "none")


def test_other_environments_work_and_unsuitable_ones_are_refused():
    vectored = VectoredGymEnvironment("Acrobot-v1", 2)
    rows = vectored.collect_rollouts_with_given_action_probs(num_steps=5, action_probs=[[0.2, 0.3, 0.5]] * 2)
    assert rows.shape == (10, 5 + 6)
    with pytest.raises(PresetError, match="numbered actions"):
        VectoredGymEnvironment("Pendulum-v1", 1)
    with pytest.raises(EnvironmentUseError, match="at least one"):
        VectoredGymEnvironment("CartPole-v0", 0)
