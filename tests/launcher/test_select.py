"""``launcher select``: values of a preset, chosen by a log."""

import pytest

from launcher.cli.select import Candidate, Selection, as_report, as_table, combinations, read_grid
from launcher.errors import BadInputError


def test_a_grid_has_every_combination_and_a_comma_in_brackets_is_part_of_a_value():
    grid = read_grid(["agent.learning_rate=1e-3, 1e-4", "agent.hidden_sizes=[64,64],[32]"])
    assert grid == {"agent.learning_rate": ["1e-3", "1e-4"], "agent.hidden_sizes": ["[64,64]", "[32]"]}
    every = combinations(["a", "b"], grid)
    assert len(every) == 8
    assert every[0] == ("a", {"agent.learning_rate": "1e-3", "agent.hidden_sizes": "[64,64]"})
    assert combinations(["a"], {}) == [("a", {})]


def test_a_search_draws_different_combinations_the_same_ones_for_a_seed():
    grid = {"x": [str(number) for number in range(50)]}
    drawn = combinations(["a"], grid, draw=5, seed=3)
    assert drawn == combinations(["a"], grid, draw=5, seed=3) != combinations(["a"], grid, draw=5, seed=4)
    assert len({values["x"] for _, values in drawn}) == 5


@pytest.mark.parametrize("text", ["agent.learning_rate", "=1", "x=1,,2", "x="])
def test_a_setting_of_another_form_is_refused(text):
    with pytest.raises(BadInputError, match="is not NAME=VALUE,VALUE"):
        read_grid([text])


def test_a_name_is_given_once():
    with pytest.raises(BadInputError, match="'x' is given twice"):
        read_grid(["x=1", "x=2"])


def selected(truths=(None, None)):
    def policy(value, lower, upper):
        return {"estimates": [{"estimator": "FQE", "value": value, "lower": lower, "upper": upper}]}

    candidates = [
        Candidate("p", {"x": "1"}, "job-1", truth=truths[0]),
        Candidate("p", {"x": "2"}, "job-2", failure="TrainingError: the networks diverged"),
        Candidate("p", {"x": "3"}, "job-3", truth=truths[1]),
    ]
    judgement = {
        "judged_by": "the 20 of 40 episodes that no policy has learned from",
        "behavior": {"value": 20.0, "lower": 18.0, "upper": 22.0},
        "policies": [policy(30.0, 25.0, 35.0), policy(40.0, 33.0, 47.0)],
        "comparison": {"ranking": ["/c/3", "/c/1"], "undecided": ["/c/1"]},
    }
    return Selection(candidates, judgement, ["job-3", "job-1"])


def test_the_regret_is_what_the_chosen_policy_earns_less_than_the_best_one_that_was_played():
    assert selected().regret is None
    assert selected(truths=(38.0, 36.5)).regret == pytest.approx(1.5)
    report = as_report(selected(truths=(38.0, 36.5)))
    assert (report["chosen"], report["undecided"]) == ("job-3", ["job-1"])
    assert [candidate["truth"] for candidate in report["candidates"]] == [38.0, None, 36.5]


def test_the_table_ranks_says_what_the_log_cannot_tell_and_names_what_failed():
    text = as_table(selected(truths=(38.0, 36.5)))
    assert text.index("x=3") < text.index("x=1") < text.index("x=2: failed, TrainingError")
    assert "Chosen: x=3, job job-3" in text
    assert "the log cannot tell these from it: x=1" in text
    assert "regret 1.50" in text
    assert "optimistic" in text
    assert "regret" not in as_table(selected())
