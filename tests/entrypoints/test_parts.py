"""Learning from Parquet shards that are larger than memory: how episodes are dealt, and that memory is bounded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from batch_rl.errors import DatasetError
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.checkpoint import CheckpointFolder, resume
from batch_rl.learning.training import TrainingRun
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import TrainingPreset

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "presets" / "preset-cartpole-ddqnbcq.yaml"


def write_shards(folder, shards, episodes_each, length=10, features=2):
    """Write shards of episodes whose first feature is the episode's number; every fifth is truncated."""
    folder.mkdir()
    rows = episodes_each * length
    for shard in range(shards):
        generator = np.random.default_rng(shard)
        number = np.repeat(np.arange(episodes_each) + shard * episodes_each, length)
        last = np.tile(np.arange(length) == length - 1, episodes_each)
        table = pd.DataFrame(
            {
                "episode_id": number,
                "step": np.tile(np.arange(length), episodes_each),
                "action": generator.integers(2, size=rows),
                "action_probability": 0.5,
                "reward": generator.random(rows),
                "state_feature_0": number.astype(np.float64),
                **{f"state_feature_{i}": generator.normal(size=rows) for i in range(1, features)},
                "terminated": last & (number % 5 > 0),
                "truncated": last & (number % 5 == 0),
            }
        )
        table.to_parquet(folder / f"shard-{shard:03d}.parquet")
    return folder


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("data") / "channel", shards=4, episodes_each=50)


def deal(channel, folder, rows_in_memory=400, **options):
    folder.mkdir()
    values = {"train_fraction": 0.8, "seed": 3} | options
    return DealtEpisodes(channel, folder, rows_in_memory=rows_in_memory, **values)


def numbers(episodes):
    return episodes.observations[episodes.starts, 0].astype(int).tolist()


def test_every_episode_goes_to_one_place_whole_and_at_random(channel, tmp_path):
    """2,000 rows, 4 of 5 train: four parts of about 400 rows, and about 400 held out."""
    dealt = deal(channel, tmp_path / "parts")
    assert (dealt.n_parts, dealt.episodes, dealt.rows, dealt.truncated) == (4, 200, 2000, 40)
    places = [dealt.load(part) for part in range(4)] + [dealt.held_out]
    assert sorted(number for place in places for number in numbers(place)) == list(range(200))
    for place in places:
        assert 20 <= len(place) <= 60
        assert set(place.lengths) == {10}
        assert place.truncated.tolist() == [number % 5 == 0 for number in numbers(place)]
        assert max(numbers(place)) > 150, "not one shard alone"
        assert min(numbers(place)) < 50
    assert dealt.assumptions == (
        "the table does not list the actions; they are 0 to 1, as logged",
        "what some truncated episodes led to is not logged; their last rows are not learned from, and estimates count "
        "nothing after them",
    )


def test_parts_read_other_columns_and_number_names_alike(channel, tmp_path):
    """The first block shows both names; later ones are read by the same numbers."""
    (tmp_path / "renamed").mkdir()
    for path in channel.glob("*.parquet"):
        table = pd.read_parquet(path).rename(columns={"reward": "gain"})
        table["action"] = np.where(table["action"] == 0, "stay", "go")
        table.to_parquet(tmp_path / "renamed" / path.name)
    plain = deal(channel, tmp_path / "plain")
    named = deal(tmp_path / "renamed", tmp_path / "named", columns={"reward": "gain"})
    assert named.action_names == named.held_out.action_names == ("go", "stay")
    assert (named.held_out.actions == 1 - plain.held_out.actions).all()
    assert (named.held_out.rewards == plain.held_out.rewards).all()


def test_dealing_depends_on_the_seed_and_not_on_how_the_files_are_read(channel, tmp_path, monkeypatch):
    first = deal(channel, tmp_path / "first")
    monkeypatch.setattr("batch_rl.formats.parts.ROWS_AT_ONCE", 70)
    again, other = deal(channel, tmp_path / "again"), deal(channel, tmp_path / "other", seed=4)
    assert [numbers(again.load(part)) for part in range(5)] == [numbers(first.load(part)) for part in range(5)]
    assert [numbers(other.load(part)) for part in range(5)] != [numbers(first.load(part)) for part in range(5)]


def test_no_more_rows_are_held_out_than_memory_shall_hold(channel, tmp_path):
    dealt = deal(channel, tmp_path / "parts", rows_in_memory=100)
    assert dealt.n_parts == 19
    assert 30 < len(dealt.held_out.actions) < 200


def test_what_cannot_be_dealt_is_refused(channel, tmp_path):
    with pytest.raises(DatasetError, match=r"too few for 1999 parts and held-out ones; raise data\.rows_in_memory"):
        deal(channel, tmp_path / "one", rows_in_memory=1)
    table = pd.read_parquet(channel / "shard-000.parquet")
    for name, frame, fault in (
        ("bad", table.assign(reward=table["reward"].where(table.index != 7)), "row 7, column 'reward'"),
        ("csv", None, "only Parquet can be read in parts"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        table.to_csv(folder / "log.csv") if frame is None else frame.to_parquet(folder / "log.parquet")
        with pytest.raises(DatasetError, match=fault):
            deal(folder, tmp_path / f"{name}-parts")


def preset(**overrides):
    values = {"training.epochs": 3, "agent.members": 2, "agent.batch_size": 32, "data.rows_in_memory": 400}
    return load_preset(PRESET, TrainingPreset, values | overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"agent.algorithm": "bc", "agent.imitated_share": 0.3},
        {"data.drop_last_rows": True, "bcq.action_drop_method": "nearest_neighbors"},
    ],
)
def test_an_epoch_learns_once_from_every_row_of_every_part(channel, tmp_path, overrides):
    run = TrainingRun(deal(channel, tmp_path / "parts"), preset(**overrides))
    seen = []
    use = run.learner.use
    run.learner.use = lambda transitions: (seen.append(transitions.count), use(transitions))
    results = [run.run_epoch() for _ in range(3)]
    updates = sum(-(-count // 32) for count in seen[:4])
    assert [result.updates for result in results] == [updates, 2 * updates, 3 * updates]
    assert results[-1].updates == run.learner.total_updates
    assert sorted(seen[:4]) == sorted(seen[4:8]) == sorted(seen[8:])
    assert results[-1].learning_rates[-1] == pytest.approx(1e-3 / run.learner.total_updates)
    assert all(np.isfinite(result.losses).all() for result in results)


def test_a_run_that_ended_in_the_middle_of_a_part_goes_on_as_if_it_had_not(channel, tmp_path):
    dealt = deal(channel, tmp_path / "parts")
    through = TrainingRun(dealt, preset())
    expected = [through.run_epoch() for _ in range(3)]
    run = TrainingRun(dealt, preset())
    run.run_epoch()
    left = [25]  # updates: an epoch has about 50, so this is in the second of four parts

    def stop():
        left[0] -= 1
        return left[0] < 0

    assert run.run_epoch(stop) is None
    assert len(run.part_statistics) == 1
    CheckpointFolder(tmp_path / "checkpoint", run, keep=1).save(None, "")
    resumed = TrainingRun(dealt, preset())
    resume(tmp_path / "checkpoint", resumed)
    for result, other in zip([resumed.run_epoch(), resumed.run_epoch()], expected[1:], strict=True):
        assert np.array_equal(result.losses, other.losses)
        assert result.estimates.wis == other.estimates.wis
    for ours, theirs in zip(resumed.learner.online, through.learner.online, strict=True):
        assert torch.equal(ours, theirs)


MEASURE = """
import re, sys
from pathlib import Path
import numpy, pandas, pyarrow.parquet, torch
from batch_rl.formats.loading import load_episodes
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.presets.schema import TrainingPreset
from batch_rl.presets.reading import load_preset
from batch_rl.learning.training import TrainingRun
channel, folder, path = map(Path, sys.argv[1:4])

def peak():  # of this program alone; ru_maxrss would have the parent's too
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

before = peak()
preset = load_preset(path, TrainingPreset, {"training.epochs": 1, "agent.members": 1, "agent.batch_size": 8192,
    "bcq.imitation_epochs": 1, "ope.reward_model_epochs": 1, "agent.hidden_sizes": "[8]"})
if sys.argv[4] == "whole":
    episodes = load_episodes(channel)[1]
else:
    episodes = DealtEpisodes(channel, folder, rows_in_memory=20_000, train_fraction=0.85, seed=0)
assert TrainingRun(episodes, preset).run_epoch().updates > 0
print(peak() - before)
"""


def peak_kib(channel, folder, how):
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(channel), str(folder), str(PRESET), how],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "entrypoints"), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell a program's peak")
def test_memory_is_bound_by_the_part_and_not_by_the_data(tmp_path):
    """480,000 rows of 8 features: what they take at once, and in parts of 20,000 rows; and a quarter of them."""
    large = write_shards(tmp_path / "large", shards=8, episodes_each=6000, features=8)
    small = write_shards(tmp_path / "small", shards=2, episodes_each=6000, features=8)
    whole = peak_kib(large, tmp_path / "a", "whole")
    in_parts, fewer = peak_kib(large, tmp_path / "b", "parts"), peak_kib(small, tmp_path / "c", "parts")
    assert in_parts < 0.7 * whole
    assert in_parts < 1.4 * fewer
