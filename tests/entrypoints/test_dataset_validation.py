"""The report on a table: all faults at once, each with its column and its rows; and what is assumed without any."""

import numpy as np
import pandas as pd
import pytest

from batch_rl.data.episodes import join_episodes
from batch_rl.data.tables import CSV_LINES, TERMINATED_ASSUMED, check_frame, episodes_from_frame, read_csv_frame
from batch_rl.errors import DatasetError
from batch_rl.formats.coach_csv import read_csv
from batch_rl.formats.loading import raise_small_propensities


def table(**changes):
    """Two episodes, of 3 and 2 steps; a column given as None is left out."""
    columns = {
        "action": [0, 1, 0, 1, 1],
        "all_action_probabilities": [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]],
        "episode_id": [7, 7, 7, 9, 9],
        "step": [0, 1, 2, 0, 1],
        "reward": [1.0, 2.0, 3.0, 4.0, 5.0],
        "state_feature_0": [0.1, 0.2, 0.3, 0.4, 0.5],
        "terminated": [0, 0, 1, 0, 0],
        "truncated": [0, 0, 0, 0, 1],
        "next_state_feature_0": [0.2, 0.3, 9.0, 0.5, 0.6],
    } | changes
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def problems(frame, **options):
    report, episodes = check_frame(frame, **options)
    assert (episodes is None) == bool(report.problems)
    return [(problem.column, problem.rows.tolist(), problem.fault) for problem in report.problems]


def test_a_good_table_has_no_problem_and_keeps_apart_how_episodes_ended():
    report, episodes = check_frame(table())
    assert not report.problems
    assert str(report) == "table: 5 rows, 2 episodes, 0 problems"
    assert (episodes.terminated.tolist(), episodes.truncated.tolist()) == ([True, False], [False, True])
    assert episodes.final_observations[1] == np.float32(0.6)
    assert episodes.assumptions == ()


def test_a_report_has_every_fault_with_column_rows_and_count():
    """By hand: line = row + 2 in a CSV."""
    frame = table(
        reward=[np.nan, 2.0, np.inf, 4.0, 5.0],
        action=[0, 1, 2, 1, 1],
        all_action_probabilities=["[0.5, 0.5]", "[0.5, 0.4]", "[0.5, 0.5]", "[0.5]", "[-0.5, 1.5]"],
        truncated=[0, 0, 0, 0, 0],
    )
    report, _ = check_frame(frame, source="log.csv", labels=CSV_LINES)
    assert str(report).splitlines() == [
        "log.csv: 5 rows, 2 episodes, 6 problems",
        "  line 2, column 'reward': nan is not a finite number (2 such rows: 2, 4)",
        "  line 3, column 'all_action_probabilities': [0.5, 0.4] sums to 0.9, not 1",
        "  line 4, column 'action': 2 is not an action; they are numbered 0 to 1",
        "  line 5, column 'all_action_probabilities': [0.5] has 1 probabilities where earlier rows have 2",
        "  line 6, column 'all_action_probabilities': [-0.5, 1.5] has a probability outside [0, 1]",
        "  line 6, column 'terminated': neither terminated nor truncated: the episode has no end",
    ]
    with pytest.raises(DatasetError) as caught:
        report.raise_problems()
    assert str(caught.value).startswith("log.csv: 6 problems: line 2, column 'reward': nan is not")
    assert str(caught.value).endswith("; and 3 more.")
    assert caught.value.report is report


def test_all_missing_columns_are_one_problem_that_says_what_will_do():
    """The table has none of the four meanings under their names, and no feature."""
    ((column, rows, fault),) = problems(pd.DataFrame({"user": [1], "episod_id": [1], "gain": [2.0]}))
    assert (column, rows) == (None, [])
    for words in (
        "columns 'action', 'all_action_probabilities', 'episode_id', 'reward', 'state_features' are missing",
        "is 'episod_id' meant by 'episode_id'?",
        "the table has: user, episod_id, gain",
        "'propensity' alone will do",
        "'state_feature_0'",
    ):
        assert words in fault


# Columns and actions under their own names --------------------------------------------------------------------------


SHOP = {
    "episode_id": "customer",
    "action": "mail",
    "reward": "spent",
    "propensity": "chance",
    "state_features": ["visits", "days"],
}


def shop(**changes):
    columns = {
        "customer": [7, 7, 9],
        "mail": ["none", "discount", "reminder"],
        "spent": [1.0, 2.0, 3.0],
        "chance": [0.5, 0.25, 0.25],
        "visits": [1, 2, 3],
        "days": [10, 20, 30],
        "reward": [0.0, 0.0, 0.0],  # means something else
    } | changes
    return pd.DataFrame(columns)


def test_columns_under_other_names_are_read_by_what_they_mean():
    report, episodes = check_frame(shop(), columns=SHOP)
    assert not report.problems
    assert episodes.rewards.tolist() == [1, 2, 3]
    assert episodes.observations.tolist() == [[1, 10], [2, 20], [3, 30]]
    assert episodes.propensities.tolist() == [0.5, 0.25, 0.25]
    assert episodes.lengths.tolist() == [2, 1]


def test_a_fault_names_the_tables_own_column():
    (problem,) = problems(shop(spent=[1.0, np.nan, 3.0]), columns=SHOP)
    assert problem == ("spent", [1], "nan is not a finite number")


def test_columns_that_the_table_does_not_have_are_refused_all_at_once():
    with pytest.raises(DatasetError, match=r"data\.columns names 'shopper', 'gain', which the table does not have"):
        check_frame(shop(), columns=SHOP | {"episode_id": "shopper", "reward": "gain"})


def test_actions_with_names_are_numbered_by_the_alphabet_and_keep_them():
    _, episodes = check_frame(shop(), columns=SHOP)
    assert episodes.actions.tolist() == [1, 0, 2]
    assert episodes.action_names == ("discount", "none", "reminder")
    assert "actions are numbered by their names: 0 is 'discount', 1 is 'none', 2 is 'reminder'" in episodes.assumptions
    assert episodes.select(np.array([1])).action_names == episodes.action_names


def test_names_that_are_given_decide_the_numbers_and_an_action_that_was_never_logged_has_one():
    _, episodes = check_frame(shop(), columns=SHOP, action_names=["reminder", "call", "none", "discount"])
    assert episodes.actions.tolist() == [2, 3, 0]
    assert episodes.n_actions == 4
    (problem,) = problems(shop(), columns=SHOP, action_names=["reminder", "none"])
    assert problem == ("mail", [1], "discount is not an action; they are: reminder, none")


def test_a_list_of_probabilities_does_not_say_whose_they_are_and_a_map_does():
    shares = {"all_action_probabilities": [[0.5, 0.25, 0.25]] * 3}
    columns = {name: theirs for name, theirs in SHOP.items() if name != "propensity"}
    (problem,) = problems(shop(**shares), columns=columns)
    assert "list them in that order as data.action_names" in problem[2]
    _, episodes = check_frame(shop(**shares), columns=columns, action_names=["none", "discount", "reminder"])
    assert episodes.propensities.tolist() == [0.5, 0.25, 0.25]
    by_name = {"all_action_probabilities": [{"reminder": 0.2, "none": 0.7, "discount": 0.1}] * 3}
    _, episodes = check_frame(shop(**by_name), columns=columns)
    assert episodes.propensities.tolist() == [0.7, 0.1, 0.2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"step": [0, 1, 1, 0, 1]}, ("step", [2], "1 stands twice in its episode")),
        ({"step": [0, 1, 3, 0, 1]}, ("step", [2], "3 follows a gap: steps are missing before it")),
        ({"step": [0, 1, 2, 1, 2]}, ("step", [3], "1 begins an episode, though others begin at 0")),
        ({"step": [0, 0.5, 1, 0, 1]}, ("step", [1], "0.5 is not a whole number")),
        ({"terminated": [1, 0, 1, 0, 0]}, ("terminated", [0], "1 ends the episode, yet later rows belong to it")),
        ({"terminated": [0, 0, 7, 0, 0]}, ("terminated", [2], "7 is not 0, 1, false or true")),
        ({"next_state_feature_0": [0, 0, 0, 0, np.nan]}, ("next_state_feature_0", [4], "nan is not a finite number")),
        (
            {"reward": None, "next_state_feature_0": None},
            (None, [], "column 'reward' is missing; the table has: action, all_action_probabilities, episode_id, step, "
                       "state_feature_0, terminated, truncated; data.columns of the preset says which column is which"),
        ),
        (
            {"action_probs": [[0.5, 0.5]] * 5},
            (None, [], "columns 'all_action_probabilities' and 'action_probs' have the same meaning; keep one"),
        ),
        ({"propensity": [0.5, 0.5, 0.5, 0.5, 0.5]}, ("propensity", [1], "0.5 is not what 'all_action_probabilities' "
                                                                        "gives the logged action")),
        ({"state_features": [[1, 2], [1, 2], [1], [1, 2], [1, 2]]}, ("state_features", [2], "[1] has 1 features where "
                                                                                           "earlier rows have 2")),
        ({"state_features": [{"a": 1}, {"a": 2}, {"b": 1}, {"a": 1}, {"a": 1}]},
         ("state_features", [2], "{'b': 1} has other features than earlier rows: a, b")),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_column_and_rows(changes, expected):
    assert expected in problems(table(**changes))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.nan, "is missing"),
        (np.inf, "inf is not a finite number"),
        (0.0, "0.0 is zero, so the row cannot come from that policy"),
        (-0.1, "-0.1 is negative"),
        (1.5, "1.5 is above 1"),
    ],
)
def test_a_propensity_that_no_policy_can_have_is_a_fault(value, fault):
    """Missing, not a number, zero, negative, more than one."""
    frame = table(all_action_probabilities=None, action_probability=[0.5, value, 0.5, 0.5, 0.5])
    assert problems(frame) == [("action_probability", [1], fault)]


def test_missing_propensities_point_to_the_option_that_estimates_them():
    frame = table(all_action_probabilities=None)
    assert "data.behavior_policy=estimate" in problems(frame)[0][2]
    assert problems(frame, require_propensities=False) == []


def test_what_the_other_actions_had_is_shared_evenly_and_said():
    """By hand: 0.4 for action 0 of three leaves 0.3 for each other one."""
    frame = table(all_action_probabilities=None, propensity=[0.4] * 5, action=[0, 1, 2, 1, 1])
    episodes = episodes_from_frame(frame)
    assert episodes.probabilities[0].tolist() == pytest.approx([0.4, 0.3, 0.3])
    assert episodes.probabilities[1].tolist() == pytest.approx([0.3, 0.4, 0.3])
    assert any("share the rest evenly" in text for text in episodes.assumptions)
    assert any("they are 0 to 2, as logged" in text for text in episodes.assumptions)


def test_steps_decide_the_order_whatever_the_order_of_rows():
    shuffled = table().iloc[[4, 2, 0, 3, 1]].reset_index(drop=True)
    assert episodes_from_frame(shuffled).rewards.tolist() == [4.0, 5.0, 1.0, 2.0, 3.0]
    assert episodes_from_frame(shuffled).truncated.tolist() == [True, False]


def test_both_flags_mean_that_nothing_follows():
    """Gymnasium sets both where the last allowed step also ends the task."""
    assert episodes_from_frame(table(truncated=[0, 0, 1, 0, 1])).truncated.tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "truncated", "words"),
    [
        ({"terminated": None, "truncated": None}, [False, False], TERMINATED_ASSUMED),
        ({"terminated": None}, [False, True], "episodes that were not truncated count as such"),
        ({"truncated": None}, [False, True], "1 episodes that did not terminate count as such"),
        ({"next_state_feature_0": None}, [False, True], "1 truncated episodes led to is not logged"),
    ],
)
def test_what_the_table_does_not_say_is_written_down(changes, truncated, words):
    episodes = episodes_from_frame(table(**changes))
    assert episodes.truncated.tolist() == truncated
    assert any(words in assumption for assumption in episodes.assumptions)


def test_both_spellings_of_a_column_are_read_and_lists_may_be_text():
    """The notebook's text says action_probs and state_features; its data have the long names."""
    documented = table(
        all_action_probabilities=None,
        state_feature_0=None,
        action_probs=["[0.5, 0.5]", "[0.25, 0.75]", *["[0.5, 0.5]"] * 3],
        state_features=["[0.1]", "[0.2]", "[0.3]", "[0.4]", "[0.5]"],
    )
    documented_spelling, other = episodes_from_frame(documented), episodes_from_frame(table())
    assert (documented_spelling.probabilities == other.probabilities).all()
    assert (documented_spelling.observations == other.observations).all()


@pytest.mark.parametrize("without", ["pyarrow.csv", None])
def test_many_different_probabilities_are_parsed_exactly_by_either_way(tmp_path, monkeypatch, without):
    """20,000 different texts are parsed together; the numbers are those that Python reads."""
    if without:
        monkeypatch.setitem(__import__("sys").modules, without, None)
    first = np.random.default_rng(0).uniform(0.1, 0.9, 20_000)
    texts = [f'"[{p!r}, {1 - p!r}]"' for p in first.tolist()]
    path = tmp_path / "log.csv"
    lines = [f"0,{text},{i // 10},1.0,0.5" for i, text in enumerate(texts)]
    path.write_text("\n".join(["action,all_action_probabilities,episode_id,reward,state_feature_0", *lines]) + "\n")
    assert (read_csv(path).probabilities == np.stack([first, 1 - first], axis=1)).all()
    lines[12_345] = '0,"[0.5, x]",1234,1.0,0.5'
    lines[12_346] = '0,"[0.5] [0.5]",1234,1.0,0.5'
    path.write_text("\n".join(["action,all_action_probabilities,episode_id,reward,state_feature_0", *lines]) + "\n")
    with pytest.raises(DatasetError, match=r"line 12347, .*\[0.5, x\] is not a list of numbers.* \(2 such rows\)"):
        read_csv(path)


def test_episode_ids_that_are_numbers_and_text_in_one_file_stay_what_they_are(tmp_path):
    """pandas reads long files in pieces; 7 in one and "7" in another would become two episodes."""
    path = tmp_path / "log.csv"
    rows = [f'0,"[1.0]",{i // 100},1,{i}' for i in range(300_000)] + ['0,"[1.0]",last,1,0', '0,"[1.0]",0,1,0']
    path.write_text("\n".join(["action,all_action_probabilities,episode_id,reward,state_feature_0", *rows]) + "\n")
    assert len(read_csv(path)) == 3001
    assert read_csv_frame(path)["episode_id"].iloc[0] == "0"


def test_small_propensities_are_raised_and_the_share_is_told():
    """By hand: 0.25 of (0.25, 0.75) raised to 0.4 leaves 0.6; 1 of 5 rows."""
    episodes = episodes_from_frame(table(action=[0, 0, 0, 1, 1]))
    raised, share = raise_small_propensities(episodes, 0.4)
    assert share == pytest.approx(0.2)
    assert raised.probabilities[1].tolist() == pytest.approx([0.4, 0.6])
    assert (raised.probabilities[[0, 2, 3, 4]] == 0.5).all()
    assert raise_small_propensities(episodes, 0.1) == (episodes, 0.0)


def test_episodes_taken_apart_and_joined_are_the_same():
    episodes = episodes_from_frame(table())
    again = join_episodes(episodes)
    for name in ("observations", "actions", "rewards", "probabilities", "lengths", "truncated"):
        assert (getattr(again, name) == getattr(episodes, name)).all()
    assert again.select(np.array([1])).final_observations.tolist() == [[pytest.approx(0.6)]]


BAD = (None, np.nan, np.inf, -np.inf, 0, -1, 0.5, 2, 1e300, 10**30, "", "x", "nan", "0", "[", "[]", "[0.5, 0.5]",
       "[NaN, 1]", "[[0.5], [0.5]]",
       "[1e999, 0]", "[true, false]", '{"a": 1}', [], [0.5], [0.0, 1.0], [None, 1.0], {}, {"a": None},
       True, b"1", (1, 2), np.float64(0.5), np.array([0.5, 0.5]), np.array([np.nan, 1.0]))  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_whatever_stands_in_a_cell_nothing_but_sound_numbers_passes(seed):
    """Each table has one to three strange cells: it is refused with a report, or all of its numbers are sound."""
    generator = np.random.default_rng(seed)
    for _ in range(10):
        variants = (
            {},
            {"all_action_probabilities": None, "propensity": [0.5] * 5},
            {"state_feature_0": None, "state_features": [[0.1], [0.2], [0.3], [0.4], [0.5]]},
        )
        frame = table(**variants[generator.integers(3)]).astype(object)
        for _ in range(generator.integers(1, 4)):
            row, column = int(generator.integers(5)), int(generator.integers(len(frame.columns)))
            frame.iat[row, column] = BAD[generator.integers(len(BAD))]
        report, episodes = check_frame(frame)
        str(report)
        if episodes is None:
            assert report.problems
            with pytest.raises(DatasetError):
                report.raise_problems()
            continue
        assert np.isfinite(episodes.observations).all()
        assert np.isfinite(episodes.rewards).all()
        assert ((episodes.propensities > 0) & (episodes.propensities <= 1)).all()
        assert np.allclose(episodes.probabilities.sum(axis=1), 1, atol=1e-3)
        if episodes.truncated.any():
            assert np.isfinite(episodes.final_observations[episodes.truncated]).all()
