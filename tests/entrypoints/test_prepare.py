"""``prepare.py`` as a job runs it: from any log to a timeline and the types of its features, and on to training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from batch_rl.acting.policies import uniform_policy
from batch_rl.acting.rollout import Player, play
from batch_rl.data.episodes import join_episodes
from batch_rl.data.feature_types import identify_features, read_normalization
from batch_rl.formats.coach_csv import write_csv
from batch_rl.formats.json_lines import write_json_lines
from batch_rl.formats.loading import load_episodes
from batch_rl.reagent.timeline import timeline, to_reagent_frame, write_reagent_parquet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def episodes():
    players = [Player("CartPole-v1", 0, index, time_limit=True) for index in range(12)]
    return [episode for turn in play(players, uniform_policy(2), episodes_each=1) for episode in turn]


def run(base, entry_point, hyperparameters, **channels):
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
    (base / "input" / "data").mkdir()
    for name, folder in channels.items():
        (base / "input" / "data" / name).symlink_to(folder)
    paths = os.pathsep.join([str(ROOT / "container"), str(ROOT / "entrypoints")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "entrypoints" / entry_point)],
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(base), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, base / "output" / "data"


@pytest.mark.parametrize("written_as", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_log_in_any_format_gives_the_timeline_that_training_reads(episodes, tmp_path, written_as):
    log, path = join_episodes(episodes), tmp_path / "channel" / written_as
    path.parent.mkdir()
    if path.suffix == ".csv":
        write_csv(path, enumerate(episodes), with_ends=True)
    else:
        (write_json_lines if path.suffix == ".jsonl" else write_reagent_parquet)(path, to_reagent_frame(log))
    done, output = run(tmp_path / "job", "prepare.py", {"preset": "preset-timeline"}, train=path.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Timeline> {len(log.actions)} rows" in done.stdout
    assert "Normalization> features by type: " in done.stdout
    table = pq.read_table(output / "timeline").to_pylist()
    expected = timeline(to_reagent_frame(log))
    for name in ("mdp_id", "sequence_number", "next_action", "possible_next_actions", "time_diff", "reward"):
        assert [row[name] for row in table] == expected[name].tolist(), name
    assert [dict(row["next_state_features"]) for row in table] == expected["next_state_features"].tolist()
    _, again = load_episodes(output / "timeline")
    assert np.array_equal(again.lengths, log.lengths[np.argsort(np.arange(12).astype(str))])
    normalization = read_normalization(output / "normalization" / "normalization.json")
    assert {feature: parameters.feature_type for feature, parameters in normalization.items()} == {
        feature: parameters.feature_type for feature, parameters in identify_features(log.observations).items()
    }
    values = {"preset": "preset-cartpole-ddqnbcq", "training.epochs": 1, "agent.hidden_sizes": "[8]"}
    channels = {"train": output / "timeline", "normalization": output / "normalization"}
    done, _ = run(tmp_path / "refused", "train.py", values, **channels)
    assert done.returncode == 2
    assert "channel 'normalization', and data.normalization is none" in done.stderr
    if path.suffix == ".csv":
        done, trained = run(tmp_path / "training", "train.py", values | {"data.normalization": "reagent"}, **channels)
        assert (done.returncode, done.stderr) == (0, "")
        assert read_normalization(trained / "normalization.json") == normalization


def test_several_steps_ahead_are_written_as_lists(episodes, tmp_path):
    folder = tmp_path / "channel"
    folder.mkdir()
    write_json_lines(folder / "log.jsonl", to_reagent_frame(join_episodes(episodes)))
    values = {"preset": "preset-timeline", "preparation.multi_steps": "3", "preparation.start_ds": "2019-01-01"}
    done, output = run(tmp_path / "job", "prepare.py", values, train=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first = pq.read_table(output / "timeline").to_pylist()[0]
    assert first["reward"] == [1.0, 1.0, 1.0]
    assert [len(features) for features in first["next_state_features"]] == [4, 4, 4]
    done, _ = run(tmp_path / "late", "prepare.py", values | {"preparation.start_ds": "2030-01-01"}, train=folder)
    assert done.returncode == 2
    assert "no row is left for the timeline" in done.stderr
