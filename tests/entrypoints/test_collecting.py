"""collect.py's behavior policies and formats, and what train.py does with such data."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import collect
import train
from batch_rl.errors import CheckpointError, DatasetError, PresetError
from batch_rl.formats.coach_csv import read_csv
from batch_rl.formats.loading import load_episodes
from batch_rl.learning.training import TrainingRun
from batch_rl.presets.reading import find_preset, load_preset, preset_folders
from batch_rl.presets.schema import TrainingPreset
from job_toolkit.environment import JobInputError

RANDOM = {"preset": "preset-cartpole-random", "collection.num_envs": 10}
SMALL = {"preset": "preset-cartpole-ddqnbcq", "agent.hidden_sizes": "[8]", "agent.members": 1, "training.epochs": 1}


@pytest.fixture
def run(tmp_path_factory, monkeypatch, capsys):
    """Run an entry point on a tree of its own; return its output folder and what it printed."""

    def run_main(main, hyperparameters, **channels):
        base = tmp_path_factory.mktemp("job")
        (base / "input" / "config").mkdir(parents=True)
        texts = {name: str(value) for name, value in hyperparameters.items()}
        (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(texts))
        (base / "input" / "config" / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
        for name, source in channels.items():
            shutil.copytree(source, base / "input" / "data" / name)
        monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
        assert main() == 0
        return base / "output" / "data", capsys.readouterr().out

    return run_main


@pytest.fixture
def checkpoint(run):
    logged, _ = run(collect.main, RANDOM)
    return run(train.main, SMALL, train=logged)[0] / "checkpoint"


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_the_files_ending_chooses_the_format_and_the_rows_are_the_same(run, ending):
    output, _ = run(collect.main, RANDOM | {"collection.file_name": f"log.{ending}"})
    plain, _ = run(collect.main, RANDOM)
    (path, episodes), (_, expected) = load_episodes(output), load_episodes(plain)
    assert path.name == f"log.{ending}"
    assert (episodes.observations == expected.observations).all()
    assert (episodes.propensities == 0.5).all()


def test_fixed_probabilities_act_and_are_logged(run):
    output, text = run(
        collect.main, RANDOM | {"collection.policy": "fixed", "collection.action_probabilities": "[0.1, 0.9]"}
    )
    table = pd.read_csv(output / "cartpole_dataset.csv")
    assert set(table["all_action_probabilities"]) == {"[0.1, 0.9]"}
    assert table["action"].mean() > 0.8
    assert "of a policy with the fixed probabilities [0.1, 0.9] in CartPole-v0" in text


def test_a_softmax_checkpoint_acts_by_the_propensities_that_it_logs(run, checkpoint):
    """Among rows with a probability near p, a share of about p takes the action; the ratio averages 1."""
    options = RANDOM | {"collection.policy": "softmax", "collection.temperature": 0.05, "collection.num_envs": 30}
    output, text = run(collect.main, options, checkpoint=checkpoint)
    episodes = read_csv(output / "cartpole_dataset.csv")
    first = episodes.probabilities[:, 0]
    assert first.std() > 0.01
    standard_error = np.sqrt((first * (1 - first)).mean() / len(first))
    assert abs((episodes.actions == 0).mean() - first.mean()) < 4 * standard_error
    assert "the latest checkpoint's softmax(Q / 0.05)" in text
    again, _ = run(collect.main, options | {"collection.num_envs": 40}, checkpoint=checkpoint)
    rows = pd.read_csv(output / "cartpole_dataset.csv"), pd.read_csv(again / "cartpole_dataset.csv")
    for number in range(30):  # rows of an environment do not depend on how many there are
        first, second = (table[table["episode_id"] == number] for table in rows)
        assert first.reset_index(drop=True).equals(second.reset_index(drop=True))


def test_an_epsilon_greedy_checkpoint_logs_its_two_probabilities(run, checkpoint):
    options = RANDOM | {"collection.policy": "epsilon_greedy", "collection.epsilon": 0.2}
    output, text = run(collect.main, options, checkpoint=checkpoint)
    episodes = read_csv(output / "cartpole_dataset.csv")
    assert {round(p, 9) for p in episodes.propensities.tolist()} <= {0.9, 0.1}
    assert 0.8 < (episodes.propensities > 0.5).mean() < 0.97
    assert "greedy except for a share of 0.2" in text


def test_values_of_the_preset_that_do_not_fit_are_refused(run, tmp_path):
    for options, error in (
        ({"collection.policy": "fixed"}, PresetError),
        ({"collection.action_probabilities": "[0.5, 0.5]"}, PresetError),
        ({"collection.policy": "fixed", "collection.action_probabilities": "[1.0]"}, PresetError),
        ({"collection.policy": "softmax"}, JobInputError),
    ):
        with pytest.raises(error):
            run(collect.main, RANDOM | options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        run(collect.main, RANDOM | {"collection.policy": "softmax"}, checkpoint=tmp_path / "empty")


def test_a_time_limit_logs_how_episodes_ended_and_training_says_so(run):
    """Pushing left for ever ends no episode of MountainCar but by the limit."""
    options = {
        "preset": "preset-cartpole-random",
        "environment.name": "MountainCar-v0",
        "collection.time_limit": 1,
        "collection.num_envs": 8,
        "collection.episodes_per_env": 1,
    }
    output, _ = run(collect.main, options)
    episodes = read_csv(output / "cartpole_dataset.csv")
    assert episodes.lengths.tolist() == [200] * 8
    assert episodes.truncated.all()
    _, text = run(train.main, SMALL, train=output)
    assert "8 episodes are truncated, the others terminated" in text
    assert "Assumed>" not in text


def small_run(episodes, **overrides):
    path = find_preset("preset-cartpole-ddqnbcq", preset_folders(__import__("pathlib").Path(train.__file__)))
    return TrainingRun(
        episodes, load_preset(path, TrainingPreset, {"agent.hidden_sizes": "[8]", "agent.members": 1} | overrides)
    )


def cut_episodes(final):
    """Ten episodes of two steps; the odd ones are truncated."""
    from batch_rl.data.episodes import Episodes

    return Episodes(
        observations=np.arange(40, dtype=np.float32).reshape(20, 2),
        actions=np.tile([0, 1], 10),
        rewards=np.ones(20),
        probabilities=np.full((20, 2), 0.5),
        lengths=np.full(10, 2),
        truncated=np.arange(10) % 2 == 1,
        final_observations=final,
    )


def test_a_truncated_last_row_bootstraps_from_what_it_led_to():
    """Its next row holds the standardised final observation, and is itself no row to learn from."""
    final = np.full((10, 2), 100, dtype=np.float32)
    run = small_run(cut_episodes(final))
    transitions, fitting = run.learner._transitions, run.fitting
    cut = np.flatnonzero(fitting.truncated)
    rows = fitting.starts[cut] + 1
    assert transitions.terminated[rows].tolist() == [0.0] * len(cut)
    assert transitions.terminated.sum() == fitting.terminated.sum()
    expected = (100 - run.mean) / run.scale
    assert (transitions.inputs[transitions.next_rows[rows]] == expected).all()
    assert transitions.learned_rows is None, "all are learned from"
    assert transitions.count == len(fitting.actions) < len(transitions.inputs)
    assert run.run_epoch() is not None


def test_a_truncated_last_row_without_it_is_not_learned_from():
    run = small_run(cut_episodes(None))
    fitting = run.fitting
    left_out = (fitting.starts[fitting.truncated] + 1).tolist()
    assert sorted(set(range(len(fitting.actions))) - set(run.learner._transitions.learned_rows.tolist())) == left_out
    result = run.run_epoch()
    assert np.isfinite(result.losses).all()


def test_data_without_a_row_to_learn_from_are_refused():
    episodes = cut_episodes(None)
    single = type(episodes)(
        observations=episodes.observations[:10],
        actions=episodes.actions[:10],
        rewards=episodes.rewards[:10],
        probabilities=episodes.probabilities[:10],
        lengths=np.ones(10, dtype=np.int64),
        truncated=np.ones(10, dtype=np.bool_),
    )
    with pytest.raises(DatasetError, match="nothing can be learned"):
        small_run(single)


def test_estimated_propensities_report_themselves_and_come_near_the_true_ones(run, tmp_path):
    """The logging policy is 0.2 / 0.8 everywhere; its expected log-likelihood is -0.50."""
    output, _ = run(
        collect.main,
        RANDOM
        | {"collection.policy": "fixed", "collection.action_probabilities": "[0.2, 0.8]", "collection.num_envs": 20},
    )
    table = pd.read_csv(output / "cartpole_dataset.csv").drop(columns="all_action_probabilities")
    folder = tmp_path / "log"
    folder.mkdir()
    table.to_csv(folder / "log.csv", index=False)
    with pytest.raises(DatasetError, match=r"data\.behavior_policy=estimate"):
        run(train.main, SMALL, train=folder)
    options = SMALL | {"data.behavior_policy": "estimate"}
    _, poor = run(train.main, options | {"bcq.imitation_updates": 1}, train=folder)
    assert "worse than the frequencies alone: raise bcq.imitation_updates" in poor
    _, text = run(train.main, options | {"bcq.imitation_epochs": 200}, train=folder)
    line = next(line for line in text.splitlines() if line.startswith("Behavior policy> "))
    assert "worse" not in line
    assert "propensities are estimated, not logged" in line
    assert -0.6 < float(line.split("logged actions ")[1].split(" ")[0]) < -0.45


def test_clipping_reports_the_share_that_it_changed(run, tmp_path):
    output, _ = run(
        collect.main, RANDOM | {"collection.policy": "fixed", "collection.action_probabilities": "[0.1, 0.9]"}
    )
    share = (read_csv(output / "cartpole_dataset.csv").propensities < 0.2).mean()
    _, text = run(train.main, SMALL | {"data.least_propensity": 0.2}, train=output)
    assert f"Clipping> {share:.2%} of the propensities were raised to 0.2." in text


def test_all_faults_of_a_dataset_are_printed_before_training_fails(run, tmp_path, capsys):
    (tmp_path / "log.csv").write_text(
        "action,all_action_probabilities,episode_id,reward,state_feature_0\n"
        '0,"[0.5, 0.5]",0,x,1\n5,"[0.5, 0.5]",0,1,1\n0,"[0.5]",0,1,\n0,"[0.5, 0.6]",1,1,1\n'
    )
    with pytest.raises(DatasetError, match=r"log.csv: 5 problems: line 2, column 'reward'.*; and 2 more\.$"):
        run(train.main, SMALL, train=tmp_path)
    printed = capsys.readouterr().out
    assert "log.csv: 4 rows, 2 episodes, 5 problems\n" in printed
    assert "line 5, column 'all_action_probabilities': [0.5, 0.6] sums to 1.1, not 1" in printed
