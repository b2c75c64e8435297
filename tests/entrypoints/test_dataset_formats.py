"""Parquet, shards larger than memory, npz, ReAgent's table: what is written is read back, and faults are named."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_rl.acting.policies import fixed_policy
from batch_rl.acting.rollout import collect_episodes
from batch_rl.data.episodes import join_episodes
from batch_rl.errors import DatasetError
from batch_rl.formats.coach_csv import write_csv
from batch_rl.formats.json_lines import read_json_lines, write_json_lines
from batch_rl.formats.loading import find_dataset, load_episodes
from batch_rl.formats.npz import read_npz, write_npz
from batch_rl.formats.parquet import read_parquet, read_parquet_frame, stream_parquet, write_parquet
from batch_rl.reagent.timeline import multi_step_rewards, timeline, to_reagent_frame, write_reagent_parquet

ARRAYS = ("observations", "actions", "rewards", "probabilities", "lengths", "truncated")


@pytest.fixture(scope="module")
def played():
    """Eight episodes, some of which the limit cuts."""
    lean = np.array([0.0, 0.5, 1.0, 0.5])

    def policy(observations):
        return np.where((observations @ lean > 0)[:, None], [[0.1, 0.9]], [[0.9, 0.1]])

    options = {"num_envs": 2, "episodes_each": 2, "time_limit": True}
    long = collect_episodes("CartPole-v0", 1, policy, **options)
    short = collect_episodes("CartPole-v0", 2, fixed_policy([0.25, 0.75], 2), **options)
    return [episode for environment in short + long for episode in environment]


@pytest.fixture(scope="module")
def episodes(played):
    joined = join_episodes(played)
    assert 0 < joined.truncated.sum() < len(joined)
    return joined


def assert_same(actual, expected, *, finals=True):
    for name in ARRAYS:
        if finals or name != "probabilities":
            assert (getattr(actual, name) == getattr(expected, name)).all(), name
        assert getattr(actual, name).dtype == getattr(expected, name).dtype
    if finals:
        cut = expected.truncated
        assert (actual.final_observations[cut] == expected.final_observations[cut]).all()


def test_csv_with_ends_keeps_terminated_and_truncated_apart(tmp_path, played, episodes):
    write_csv(tmp_path / "log.csv", enumerate(played), with_ends=True)
    _, read = load_episodes(tmp_path)
    assert_same(read, episodes)
    assert read.assumptions == ()


def test_parquet_keeps_everything(tmp_path, played, episodes):
    assert write_parquet(tmp_path / "log.parquet", enumerate(played)) == len(episodes.actions)
    _, read = load_episodes(tmp_path)
    assert_same(read, episodes)


def test_npz_keeps_everything_and_the_same_episodes_give_the_same_bytes(tmp_path, episodes):
    write_npz(tmp_path / "log.npz", episodes)
    write_npz(tmp_path / "more" / "log.npz", episodes)
    assert (tmp_path / "log.npz").read_bytes() == (tmp_path / "more" / "log.npz").read_bytes()
    _, read = load_episodes(tmp_path)
    assert_same(read, episodes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": None}, "no array 'actions'"),
        ({"rewards": np.zeros(3)}, "lengths do not fit"),
        ({"lengths": np.array([0])}, "lengths do not fit"),
        ({"probabilities": np.zeros(2)}, "array 'probabilities' has shape"),
        ({"rewards": "nan"}, "not a finite number"),
        ({"actions": "last"}, "an action is not one of 0 to 1"),
    ],
)
def test_a_damaged_npz_is_refused(tmp_path, episodes, changes, words):
    arrays = {name: getattr(episodes, name) for name in ARRAYS}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        elif isinstance(value, str):
            arrays[name] = arrays[name].copy()
            arrays[name][0] = np.nan if value == "nan" else 2
        else:
            arrays[name] = value
    np.savez(tmp_path / "log.npz", **arrays)
    with pytest.raises(DatasetError, match=words):
        read_npz(tmp_path / "log.npz")


def test_a_file_that_is_no_archive_is_refused_and_pickles_are_not_opened(tmp_path):
    (tmp_path / "log.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DatasetError, match="not an archive of episodes"):
        read_npz(tmp_path / "log.npz")
    np.savez(tmp_path / "objects.npz", observations=np.array([{}], dtype=object))
    with pytest.raises(DatasetError, match="not an archive of episodes"):
        read_npz(tmp_path / "objects.npz")


def shards(folder, played):
    """Three files; the second begins in the middle of an episode."""
    whole = folder / "whole.parquet"
    write_parquet(whole, enumerate(played))
    table = pq.read_table(whole)
    whole.unlink()
    cuts = [0, 40, 45, len(table)]
    paths = [folder / f"part-{i}.parquet" for i in range(3)]
    for path, start, stop in zip(paths, cuts, cuts[1:], strict=False):
        pq.write_table(table.slice(start, stop - start), path)
    return paths


def test_shards_are_one_dataset(tmp_path, played, episodes):
    paths = shards(tmp_path, played)
    assert find_dataset(tmp_path) == paths
    assert_same(load_episodes(tmp_path)[1], episodes)


@pytest.mark.parametrize("rows_at_once", [1, 7, 50, 10**6])
def test_streaming_yields_the_same_whole_episodes_in_bounded_blocks(tmp_path, played, episodes, rows_at_once):
    paths = shards(tmp_path, played)
    blocks = list(stream_parquet(paths, rows_at_once=rows_at_once))
    assert_same(join_episodes(episode for block in blocks for episode in block), episodes)
    longest = episodes.lengths.max()
    assert all(len(block.actions) <= 2 * rows_at_once + longest for block in blocks)
    assert (len(blocks) == 1) == (rows_at_once == 10**6)


def test_streaming_refuses_an_episode_whose_rows_lie_apart_and_counts_rows_over_all_files(tmp_path, played):
    paths = shards(tmp_path, played)
    with pytest.raises(DatasetError, match=r"rows of episode 0 do not stand together"):
        list(stream_parquet([*paths, paths[0]], rows_at_once=10))
    frame = pq.read_table(paths[2]).to_pandas()
    frame.loc[len(frame) - 1, "reward"] = np.nan
    pq.write_table(pa.Table.from_pandas(frame), paths[2])
    total = 45 + len(frame)
    with pytest.raises(DatasetError, match=rf"row {total - 1}, column 'reward'"):
        list(stream_parquet(paths, rows_at_once=10))


def test_other_columns_in_a_shard_and_files_that_are_no_parquet_are_refused(tmp_path, played):
    paths = shards(tmp_path, played)
    pq.write_table(pq.read_table(paths[1]).drop_columns(["step"]), paths[1])
    for read in (read_parquet, lambda paths: list(stream_parquet(paths))):
        with pytest.raises(DatasetError, match=r"their columns differ \(step\)"):
            read(paths)
    paths[1].write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"part-1\.parquet: not a readable Parquet file"):
        read_parquet(paths)


def test_a_channel_holds_one_dataset_of_one_format(tmp_path, episodes):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"nor \.jsonl, \.minari, \.npz, \.parquet, only: notes\.txt"):
        find_dataset(tmp_path)
    write_npz(tmp_path / "a.npz", episodes)
    write_npz(tmp_path / "b.npz", episodes)
    with pytest.raises(DatasetError, match="holds 2 datasets"):
        find_dataset(tmp_path)


# ReAgent's table


def test_reagents_table_has_its_columns_and_comes_back_by_parquet_and_json_lines(tmp_path, episodes):
    frame = to_reagent_frame(episodes, ds="2020-02-02")
    assert list(frame.columns) == ["ds", "mdp_id", "sequence_number", "state_features", "action", "reward", "metrics",
                                   "possible_actions", "action_probability"]  # fmt: skip
    first = frame.iloc[0]
    assert first["state_features"] == dict(zip("0123", episodes.observations[0].tolist(), strict=True))
    assert (first["ds"], first["mdp_id"], first["action"]) == ("2020-02-02", "0", str(episodes.actions[0]))
    empty = frame["possible_actions"].map(len) == 0
    assert empty.sum() == episodes.terminated.sum()
    write_json_lines(tmp_path / "log.jsonl", frame)
    write_reagent_parquet(tmp_path / "log.parquet", frame)
    assert pa.types.is_map(pq.read_schema(tmp_path / "log.parquet").field("state_features").type)
    for read in (read_json_lines(tmp_path / "log.jsonl"), read_parquet([tmp_path / "log.parquet"])):
        assert_same(read, episodes, finals=False)
        assert (read.propensities == episodes.propensities).all()
        assert read.probabilities == pytest.approx(episodes.probabilities)
        assert any("count as truncated" in text for text in read.assumptions)


def reagent_rows():
    """Two episodes; the first has a gap in its numbers and terminates, the second goes on."""
    return pd.DataFrame(
        {
            "ds": ["2019-01-01"] * 3 + ["2019-01-02"] * 2,
            "mdp_id": ["a", "a", "a", "b", "b"],
            "sequence_number": [1, 2, 5, 0, 1],
            "state_features": [{"0": 1.0}, {"0": 2.0}, {"0": 3.0}, {"0": 4.0}, {"0": 5.0}],
            "action": ["left", "right", "left", "right", "right"],
            "reward": [1.0, 2.0, 4.0, 8.0, 16.0],
            "possible_actions": [["left", "right"]] * 2 + [[]] + [["left", "right"]] * 2,
            "action_probability": [0.5, 0.25, 0.5, 0.5, 0.5],
        }
    )


def test_named_actions_are_numbered_in_the_order_of_the_possible_ones_and_gaps_are_allowed(tmp_path):
    write_json_lines(tmp_path / "log.jsonl", reagent_rows())
    read = read_json_lines(tmp_path / "log.jsonl")
    assert read.actions.tolist() == [0, 1, 0, 1, 1]
    assert read.propensities.tolist() == [0.5, 0.25, 0.5, 0.5, 0.5]
    assert read.truncated.tolist() == [False, True]
    other = read_json_lines(tmp_path / "log.jsonl", action_names=["right", "left"])
    assert other.actions.tolist() == [1, 0, 1, 0, 0]


def test_the_timeline_joins_each_step_with_the_next():
    result = timeline(reagent_rows().iloc[[4, 2, 0, 3, 1]])
    assert result["mdp_id"].tolist() == ["a", "a", "a", "b", "b"]
    assert result["next_state_features"].tolist() == [{"0": 2.0}, {"0": 3.0}, {}, {"0": 5.0}, {}]
    assert result["next_action"].tolist() == ["right", "left", "", "right", ""]
    assert result["possible_next_actions"].tolist() == [["left", "right"], [], [], ["left", "right"], []]
    assert result["sequence_number_ordinal"].tolist() == [1, 2, 3, 1, 2]
    assert result["time_diff"].tolist() == [1, 3, 0, 1, 0]
    assert result["time_since_first"].tolist() == [0, 1, 4, 0, 1]
    assert result["reward"].tolist() == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_the_timelines_options_choose_rows():
    rows = reagent_rows()
    assert timeline(rows, add_terminal_state_row=False)["sequence_number"].tolist() == [1, 2, 0]
    assert set(timeline(rows, start_ds="2019-01-02")["mdp_id"]) == {"b"}
    assert set(timeline(rows, end_ds="2019-01-01")["mdp_id"]) == {"a"}
    assert timeline(rows, time_window_limit=1)["sequence_number"].tolist() == [1, 2, 0, 1]
    # lengths 3 and 2: their median is 2.5
    assert set(timeline(rows, outlier_episode_length_percentile=0.5)["mdp_id"]) == {"b"}
    extra = timeline(rows.assign(user=[1, 2, 3, 4, 5]), extra_feature_columns=["user"])
    assert extra["next_user"].tolist()[:2] == [2, 3]
    assert "possible_next_actions" not in timeline(rows, include_possible_actions=False)
    shuffled = [timeline(rows, shuffle_seed=seed)["reward"].tolist() for seed in (1, 1, 2)]
    assert shuffled[0] == shuffled[1] != shuffled[2]


def test_multi_step_rewards_end_with_the_episode():
    """By hand, two steps at discount 0.5: 1 + 0.5 * 2 = 2, 2 + 0.5 * 4 = 4, 4; 8 + 0.5 * 16 = 16, 16."""
    result = timeline(reagent_rows(), multi_steps=2)
    assert result["reward"].tolist() == [[1.0, 2.0], [2.0, 4.0], [4.0], [8.0, 16.0], [16.0]]
    assert multi_step_rewards(result["reward"].tolist(), 0.5).tolist() == [2.0, 4.0, 4.0, 16.0, 16.0]
    assert result["next_state_features"].tolist()[:3] == [[{"0": 2.0}, {"0": 3.0}], [{"0": 3.0}, {}], [{}]]
    assert result["time_diff"].tolist() == [[1, 4], [3, 0], [0], [1, 0], [0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop(columns="reward"), "no column 'reward'"),
        (lambda rows: rows.assign(sequence_number=[1, 1, 5, 0, 1]), "step 1 of episode a stands twice"),
        (lambda rows: rows.iloc[:0], "no row is left"),
    ],
)
def test_a_table_that_has_no_timeline_is_refused(change, words):
    with pytest.raises(DatasetError, match=words):
        timeline(change(reagent_rows()))


def test_a_timeline_is_written_with_its_types(tmp_path):
    write_reagent_parquet(tmp_path / "t.parquet", timeline(reagent_rows()))
    assert pq.read_table(tmp_path / "t.parquet").column("next_action").to_pylist()[2] == ""


@pytest.mark.parametrize(
    ("line", "words"), [("{", "line 2: not JSON"), ("[1]", "line 2: not a JSON object"), ("", "line 2: not JSON")]
)
def test_a_malformed_json_line_is_named(tmp_path, line, words):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(reagent_rows().iloc[0].to_dict(), default=int) + f"\n{line}\n")
    with pytest.raises(DatasetError, match=words):
        read_json_lines(path)


def test_missing_pyarrow_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DatasetError, match="needs the package pyarrow"):
        read_parquet_frame([tmp_path / "log.parquet"])


def test_fixed_policies_log_their_probabilities(tmp_path):
    episodes = collect_episodes("Acrobot-v1", 0, fixed_policy([0.2, 0.3, 0.5], 3), num_envs=1, episodes_each=1,
                                time_limit=True)  # fmt: skip
    write_csv(tmp_path / "log.csv", [(0, episodes[0][0])], with_ends=True)
    read = load_episodes(tmp_path)[1]
    assert (read.probabilities == [0.2, 0.3, 0.5]).all()
    assert read.truncated.tolist() == [True]
