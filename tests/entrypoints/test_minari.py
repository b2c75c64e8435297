"""Minari's data sets as logged data: written and read again, without propensities, and of the wrong kind."""

import dataclasses
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from minari import MinariDataset

from batch_rl.acting.policies import uniform_policy
from batch_rl.acting.rollout import Player, play
from batch_rl.errors import DatasetError
from batch_rl.formats.loading import find_dataset, load_episodes
from batch_rl.formats.minari_format import read_minari, write_minari


@pytest.fixture(scope="module")
def episodes():
    players = [Player("CartPole-v1", 0, index, time_limit=True) for index in range(6)]
    return [episode for turn in play(players, uniform_policy(2), episodes_each=1) for episode in turn]


def test_what_is_written_is_read_again_and_minari_reads_it_too(episodes, tmp_path):
    rows = write_minari(tmp_path / "log.minari", episodes, dataset_id="cartpole-v0")
    path, again = load_episodes(tmp_path)
    assert path.name == "log.minari"
    assert (len(again), len(again.actions)) == (6, rows)
    assert again.assumptions == ()
    for ours, read in zip(episodes, again, strict=True):
        for name in ("observations", "actions", "rewards", "probabilities"):
            assert np.array_equal(getattr(read, name), getattr(ours, name)), name
        assert (read.terminated, read.truncated) == (ours.terminated, not ours.terminated)
    theirs = MinariDataset(tmp_path / "log.minari" / "data")
    assert (theirs.total_episodes, theirs.total_steps, theirs.id) == (6, rows, "cartpole-v0")
    assert np.array_equal(theirs[2].observations[-1], episodes[2].final_observation)
    with pytest.raises(DatasetError, match="there is a data set already"):
        write_minari(tmp_path / "log.minari", episodes)


def without_propensities(folder, episodes, truncated):
    """Write a data set as Minari's own are: without probabilities."""
    cut = [
        dataclasses.replace(episode, terminated=number not in truncated, truncated=number in truncated)
        for number, episode in enumerate(episodes)
    ]
    write_minari(folder, cut)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for number in range(len(episodes)):
            del file[f"episode_{number}"]["infos"]
    return folder


def test_without_propensities_estimating_them_must_be_asked_for(episodes, tmp_path):
    folder = without_propensities(tmp_path / "short-v0", episodes, truncated={1, 4})
    with pytest.raises(DatasetError, match=r"'all_action_probabilities' is missing.*data\.behavior_policy=estimate"):
        read_minari(folder)
    read = read_minari(folder, require_propensities=False)
    assert find_dataset(tmp_path) == [folder]
    assert find_dataset(folder) == [folder], "the channel may be the data set's own folder"
    assert np.flatnonzero(read.truncated).tolist() == [1, 4]
    assert np.array_equal(read.final_observations[1], episodes[1].final_observation)
    assert read.n_actions == 2
    assert np.array_equal(read.observations, np.concatenate([episode.observations for episode in episodes]))


def test_a_data_set_of_another_kind_is_refused(episodes, tmp_path, monkeypatch):
    folder = tmp_path / "log.minari"
    write_minari(folder, episodes)
    metadata = folder / "data" / "metadata.json"
    content = json.loads(metadata.read_text())
    continuous = content["observation_space"]
    metadata.write_text(json.dumps(content | {"action_space": continuous}))
    with pytest.raises(DatasetError, match="Discrete actions and Box observations of one dimension"):
        read_minari(folder)
    metadata.write_text(json.dumps(content | {"minari_version": "9.9"}))
    with pytest.raises(DatasetError, match="not a readable data set of Minari"):
        read_minari(folder)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DatasetError, match=r"need the package h5py; .*sagemaker-launcher\[minari\]"):
        read_minari(Path(folder))
