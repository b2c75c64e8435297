"""The CSV dataset: what is written is read back, and every fault is refused with its line and column."""

import numpy as np
import pytest

from batch_rl.data.episodes import Episode, split_episodes
from batch_rl.errors import DatasetError
from batch_rl.formats.coach_csv import read_csv, write_csv
from batch_rl.formats.loading import find_dataset

HEADER = "action,all_action_probabilities,episode_id,reward,cumulative_rewards,state_feature_0,state_feature_1"
ROWS = (
    '1,"[0.25, 0.75]",7,1.0,0.0,0.5,-1.0',
    '0,"[0.25, 0.75]",7,2.0,3.0,0.25,2.0',
    '1,"[0.5, 0.5]",9,1.5,1.5,3.0,4.0',
)


@pytest.fixture
def write(tmp_path):
    def write_table(*rows, header=HEADER):
        path = tmp_path / "log.csv"
        path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
        return path

    return write_table


def refusal(path):
    with pytest.raises(DatasetError) as caught:
        read_csv(path)
    return str(caught.value)


def test_a_table_becomes_episodes(write):
    episodes = read_csv(write(*ROWS))
    assert episodes.lengths.tolist() == [2, 1]
    assert episodes.actions.tolist() == [1, 0, 1]
    assert episodes.propensities.tolist() == [0.75, 0.25, 0.5]
    assert episodes.observations.tolist() == [[0.5, -1.0], [0.25, 2.0], [3.0, 4.0]]
    assert episodes.ends.tolist() == [False, True, True]


def test_returns_are_discounted_from_the_first_row_of_each_episode(write):
    """By hand: 1 + 0.5 * 2 = 2, and 1.5."""
    assert read_csv(write(*ROWS)).returns(0.5).tolist() == [2.0, 1.5]


def test_interleaved_episodes_are_taken_apart_in_the_order_of_their_rows(write):
    assert read_csv(write(ROWS[0], ROWS[2], ROWS[1])).rewards.tolist() == [1.0, 2.0, 1.5]


def test_what_is_written_is_read_back_and_probabilities_are_plain_numbers(tmp_path):
    """NumPy 2 would print np.float64(0.5)."""
    episode = Episode(
        observations=np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32),
        actions=np.array([0, 1]),
        probabilities=np.array([[0.5, 0.5], [1 / 3, 2 / 3]]),
        rewards=np.array([1.0, 1.0]),
        terminated=True,
        truncated=False,
    )
    path = tmp_path / "new" / "log.csv"
    assert write_csv(path, [(3, episode)]) == 2
    assert path.read_text().splitlines()[:2] == [
        HEADER,
        '0,"[0.5, 0.5]",3,1.0,0.0,0.10000000149011612,0.20000000298023224',
    ]
    read = read_csv(path)
    assert (read.observations == episode.observations).all()
    assert (read.probabilities == episode.probabilities).all()
    assert [file.name for file in path.parent.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    ("line", "row", "column", "words"),
    [
        (2, ',"[0.25, 0.75]",7,1,0,1,1', "action", "nan is not a finite number"),
        (2, '2,"[0.25, 0.75]",7,1,0,1,1', "action", "2 is not an action; they are numbered 0 to 1"),
        (2, '-1,"[0.25, 0.75]",7,1,0,1,1', "action", "is not an action"),
        (2, '0.5,"[0.25, 0.75]",7,1,0,1,1', "action", "is not an action"),
        (2, 'left,"[0.25, 0.75]",7,1,0,1,1', "action", "left is not a finite number"),
        (3, '0,"[0.25, 0.75]",7,,3,1,1', "reward", "nan is not a finite number"),
        (3, '0,"[0.25, 0.75]",7,inf,3,1,1', "reward", "inf is not a finite number"),
        (3, '0,"[0.25, 0.75]",7,2,3,x,1', "state_feature_0", "x is not a finite number"),
        (3, '0,"[0.25, 0.75]",7,2,3,1,1e300', "state_feature_1", "too large for float32"),
        (3, '0,"[0.25, 0.75]",,2,3,1,1', "episode_id", "is missing"),
        (3, "0,,7,2,3,1,1", "all_action_probabilities", "is missing"),
        (3, "0,0.5,7,2,3,1,1", "all_action_probabilities", "is not a list of numbers"),
        (3, '0,"[0.25; 0.75]",7,2,3,1,1', "all_action_probabilities", "is not a list of numbers"),
        (3, '0,"[NaN, 0.75]",7,2,3,1,1', "all_action_probabilities", "outside [0, 1]"),
        (3, '0,"[-0.25, 1.25]",7,2,3,1,1', "all_action_probabilities", "outside [0, 1]"),
        (3, '0,"[0.25, 0.7]",7,2,3,1,1', "all_action_probabilities", "sums to 0.95, not 1"),
        (3, '0,"[0.25, 0.25, 0.5]",7,2,3,1,1', "all_action_probabilities", "3 probabilities where earlier rows have 2"),
        (3, '0,"[0.0, 1.0]",7,2,3,1,1', "all_action_probabilities", "gives the logged action probability 0"),
        (3, '0,"[np.float64(0.5), np.float64(0.5)]",7,2,3,1,1', "all_action_probabilities", "NumPy 2 prints"),
        (3, '0,"[0.25, 0.75]",7,2,2,1,1', "cumulative_rewards", "episode 7 ends with 2, but its rewards add up to 3"),
    ],
)
def test_a_faulty_row_is_refused_with_its_line_and_column(write, line, row, column, words):
    rows = list(ROWS)
    rows[line - 2] = row
    message = refusal(write(*rows))
    assert f"line {line}, column '{column}': " in message
    assert words in message


def test_probabilities_may_miss_one_by_their_rounding(write):
    assert len(read_csv(write('1,"[0.333, 0.666]",7,1,1,0,0'))) == 1


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace("all_action_probabilities", "action_probabilities"), "is 'action_probabilities' meant?"),
        (HEADER.replace("reward,", "gain,", 1), "column 'reward' is missing"),
        (HEADER.replace("state_feature_1", "state_feature_2"), "column 'state_feature_1' is missing"),
        (HEADER.replace("state_feature", "feature"), "column 'state_features' is missing"),
        (HEADER.rpartition(",")[0], "more values than the header has names"),
    ],
)
def test_a_faulty_header_is_refused(write, header, words):
    assert words in refusal(write(*ROWS, header=header))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a CSV table"),
        (HEADER.encode() + b"\n", "a header and no rows"),
        (b"\xff\xfe\x00", "not a CSV table"),
        (b"a,b\n1,2\n1,2,3\n", "not a CSV table"),
    ],
)
def test_a_file_without_a_table_is_refused(tmp_path, content, words):
    (tmp_path / "log.csv").write_bytes(content)
    assert words in refusal(tmp_path / "log.csv")


def test_a_channel_holds_exactly_one_csv(tmp_path):
    with pytest.raises(DatasetError, match="it is empty"):
        find_dataset(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"only: notes\.txt"):
        find_dataset(tmp_path)
    (tmp_path / "a.csv").touch()
    assert [path.name for path in find_dataset(tmp_path)] == ["a.csv"]
    (tmp_path / "b.CSV").touch()
    with pytest.raises(DatasetError, match=r"2 CSV files \(a\.csv, b\.CSV\)"):
        find_dataset(tmp_path)


def test_a_split_keeps_episodes_whole_and_loses_none(write):
    episodes = read_csv(write(*(f'0,"[0.5, 0.5]",{i // 3},{i},{i + i - 1 + i - 2},{i},0' for i in range(30))))
    first, second = split_episodes(episodes, 0.7, np.random.default_rng(0))
    assert (len(first), len(second)) == (7, 3)
    assert sorted([*first.rewards, *second.rewards]) == list(range(30))
    assert all(rewards[0] + 2 == rewards[2] for rewards in first.rewards.reshape(-1, 3))


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_a_split_with_an_empty_part_is_refused(write, fraction):
    with pytest.raises(DatasetError, match="one part would be empty"):
        split_episodes(read_csv(write(*ROWS)), fraction, np.random.default_rng(0))
