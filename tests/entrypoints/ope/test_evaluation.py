"""One call from rows to every estimate, and the comparison of several policies."""

import dataclasses
import math
import warnings

import numpy as np
import pandas as pd
import pytest

from batch_rl import ope
from batch_rl.errors import DatasetError

# The two episodes of the trajectory tests: A has two steps, B one. Their rows stand in any order.
ROWS = {
    "episode": ["B", "A", "A"],
    "t": [0, 1, 0],
    "action": [1, 1, 0],
    "reward": [6.0, 4.0, 1.0],
    "propensity": [0.5, 0.5, 0.4],
    "terminated": [True, True, False],
    "truncated": [False, False, False],
}
TARGET = np.array([[0.75, 0.25], [0.75, 0.25], [0.8, 0.2]])
Q_HAT = np.array([[1 / 3, 3], [2 / 3, 2], [1, 6]])
# Ratios 0.5; 2, 0.5. q = 3; 1, 2. v = 1; 2, 1.


@pytest.fixture(autouse=True)
def few_episodes_are_fine_here():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ope.FewEpisodesWarning)
        yield


def evaluate(rows=ROWS, target=TARGET, q_hat=None, **options):
    return ope.evaluate(rows, target, q_hat, **({"discount": 0.5, "resamples": 50} | options))


def changed(column, values):
    return ROWS | {column: values}


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_one_call_gives_every_estimate_whatever_the_order_of_the_rows(kind):
    """The numbers that the trajectory tests work out by hand."""
    evaluation = evaluate(kind(ROWS), q_hat=Q_HAT)
    expected = {
        "IPS": 3,
        "WIS": 4,
        "PDIS": 3.5,
        "weighted PDIS": 2 + 4 / 3,
        "DM": 1.5,
        "sequential DR": 3.25,
        "WDR": 2.1 + 16 / 15,
    }
    assert {name: evaluation[name].value for name in expected} == pytest.approx(expected, rel=1e-12)
    assert list(evaluation.values) == [*expected, "MAGIC"]
    assert 1.5 <= evaluation["MAGIC"].value <= 2.1 + 16 / 15
    assert evaluation.weights.effective_sample_size == pytest.approx(1.8)
    assert evaluation.logged_return == pytest.approx(4.5)


def test_without_a_model_there_are_the_estimators_that_need_none():
    assert list(evaluate().values) == ["IPS", "WIS", "PDIS", "weighted PDIS"]


def test_the_table_has_a_row_for_each_estimator_with_interval_and_weights():
    rows, target, q_hat = many(), np.tile([0.8, 0.2], (200, 1)), np.tile([0.4, 0.5], (200, 1))
    table = evaluate(rows, target, q_hat, policy="softmax(Q / 0.2)").table()
    assert list(table.index) == list(evaluate(q_hat=Q_HAT).values)
    assert table.index[table["lower"] <= table["upper"]].tolist() == [name for name in table.index if name != "DM"]
    assert "only FQE covers a model's error" in table.loc["DM", "interval"]
    assert (table["interval"].drop("DM") == "bootstrap").all()
    assert (table["policy"] == "softmax(Q / 0.2)").all()
    assert np.isnan(table.loc["DM", "effective_sample_size"])
    taken = np.where(rows["action"] == 0, 1.6, 0.4)
    assert table.loc["WIS", "largest_share"] == pytest.approx(1.6 / taken.sum())


def test_a_log_of_the_whole_distribution_is_evaluated_exactly(world):
    evaluation = ope.evaluate(
        world.rows(), world.target[world.states], world.q, discount=world.discount, interval="none"
    )
    for name, value in evaluation.values.items():
        assert value.value == pytest.approx(world.value, rel=1e-9), name


def test_a_seed_repeats_and_another_one_does_not():
    first, again, other = (evaluate(q_hat=Q_HAT, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.table().equals(again.table())
    assert not np.array_equal(first["WIS"].replicates, other["WIS"].replicates)


def test_a_log_that_was_read_once_serves_many_policies():
    log = ope.read_rows(ROWS)
    assert evaluate(log, q_hat=Q_HAT) == evaluate(q_hat=Q_HAT)


def test_numbers_that_are_text_and_flags_that_are_numbers_are_understood():
    rows = ROWS | {"reward": ["6", "4", "1"], "terminated": [1, 1, 0], "t": [0.0, 1.0, 0.0]}
    assert evaluate(rows) == evaluate()


# Ends -------------------------------------------------------------------------------------------------------------

CUT = ROWS | {"terminated": [True, False, False], "truncated": [False, True, False]}


def test_what_follows_a_truncated_episode_counts_as_zero_with_a_warning():
    with pytest.warns(ope.TruncationWarning, match="1 of 2 episodes are truncated"):
        evaluation = evaluate(CUT)
    assert evaluation["PDIS"].value == pytest.approx(3.5)
    assert evaluation.truncated == 1


def test_a_value_given_for_what_follows_enters_the_estimates_with_a_model_discounted_and_no_others():
    """Whatever else is asked for: WIS beside DM is the WIS that stands alone, and so is the logged return."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ope.TruncationWarning)
        evaluation = evaluate(CUT, q_hat=Q_HAT, values_after_truncation=[math.nan, 8, math.nan])
    alone = evaluate(CUT, estimators=["IPS", "WIS", "PDIS", "weighted PDIS"])
    for name, estimate in alone.values.items():
        assert evaluation[name].value == pytest.approx(estimate.value)
        assert np.array_equal(evaluation[name].replicates, estimate.replicates)
    assert evaluation["PDIS"].value == pytest.approx(3.5)
    # sequential DR rises by discount^2 * w_1 * 8 / 2 = 1, and DM reads first observations alone.
    assert evaluation["sequential DR"].value == pytest.approx(4.25)
    assert evaluation["DM"].value == pytest.approx(1.5)
    assert evaluation.logged_return == pytest.approx(4.5)


def test_a_step_that_terminates_and_is_cut_off_terminates():
    evaluation = evaluate(ROWS | {"truncated": [False, True, False]})
    assert evaluation.truncated == 0


def test_a_table_that_does_not_say_how_episodes_ended_says_what_was_assumed():
    rows = {name: values for name, values in ROWS.items() if name not in ("terminated", "truncated")}
    evaluation = evaluate(rows)
    assert evaluation["PDIS"].value == pytest.approx(3.5)
    assert "all were taken to have terminated" in evaluation.notes[0]


# What an estimate rests on ----------------------------------------------------------------------------------------


def many(n=200):
    generator = np.random.default_rng(0)
    return {
        "episode": np.arange(n),
        "t": np.zeros(n),
        "action": generator.integers(0, 2, size=n),
        "reward": generator.uniform(size=n),
        "propensity": np.full(n, 0.5),
        "terminated": np.ones(n, dtype=bool),
    }


def test_an_estimate_that_rests_on_a_handful_of_episodes_warns():
    with pytest.warns(ope.FewEpisodesWarning, match=r"1\.8 of 2 in effect, the largest with 67%"):
        evaluate()


def test_an_estimate_that_rests_on_many_does_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(many(), np.full((200, 2), 0.5))
    assert evaluation.notes == ()
    assert evaluation.policy == "a stochastic policy"


def test_a_greedy_policy_that_no_episode_follows_is_named_as_the_reason():
    with pytest.warns(ope.UndefinedEstimateWarning):
        evaluation = evaluate(target=np.array([[1.0, 0], [1.0, 0], [0, 1.0]]), q_hat=Q_HAT)
    assert evaluation.deterministic
    assert math.isnan(evaluation["WIS"].value)
    assert math.isnan(evaluation["MAGIC"].value)
    assert evaluation["WIS"].interval is None
    assert math.isfinite(evaluation["DM"].value)
    assert evaluation.weights.effective_sample_size == 0
    assert any("it is deterministic: score a softmax of it" in note for note in evaluation.notes)


def test_clipping_is_off_by_default_and_reports_its_share():
    """Ratios 0.5, 2, 0.5 clipped at 1: A weighs 1, then 1/2: PDIS (1 + 1/2 * 1/2 * 4 + 3) / 2."""
    assert evaluate().clipped_share == 0
    evaluation = evaluate(largest_ratio=1.0)
    assert evaluation.clipped_share == pytest.approx(1 / 3)
    assert evaluation["PDIS"].value == pytest.approx(2.5)
    assert any("33.33% of the ratios were clipped at 1" in note for note in evaluation.notes)


# Some estimators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["WDR", "IPS"], ["MAGIC"], []])
def test_some_estimators_give_the_numbers_that_they_give_beside_the_others(names):
    alone, among = evaluate(q_hat=Q_HAT, estimators=names), evaluate(q_hat=Q_HAT)
    assert set(alone.values) == set(names)
    for name in names:
        assert alone[name] == among[name]
        assert np.array_equal(alone[name].replicates, among[name].replicates)


def test_an_estimator_that_is_none_or_lacks_its_model_is_refused():
    with pytest.raises(DatasetError, match=r"there is no estimator 'wis'; there are: FQE, IPS, WIS, "):
        evaluate(estimators=["wis"])
    with pytest.raises(DatasetError, match="'WDR' needs q_hat"):
        evaluate(estimators=["WDR"])


# Intervals --------------------------------------------------------------------------------------------------------


def test_a_method_gives_an_interval_to_those_it_holds_for_and_says_why_to_the_others():
    bounds = ope.KnownBounds(ratio=2, reward=(0, 1), horizon=1)
    rows, target, q_hat = many(), np.tile([0.8, 0.2], (200, 1)), np.tile([0.4, 0.5], (200, 1))
    student = evaluate(rows, target, q_hat, interval="student_t")
    assert {name for name, estimate in student.values.items() if estimate.interval} == {"IPS", "PDIS", "sequential DR"}
    for method in ("hoeffding", "empirical_bernstein"):
        evaluation = evaluate(rows, target, q_hat, interval=method, bounds=bounds)
        assert {name for name, estimate in evaluation.values.items() if estimate.interval} == {"IPS", "PDIS"}
        assert "no concentration bound holds for WDR" in evaluation["WDR"].note
        assert evaluation.table().loc["WDR", "interval"] == evaluation["WDR"].note
        assert evaluation["MAGIC"].value == pytest.approx(student["MAGIC"].value)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"interval": "hoeffding"}, "needs bounds=KnownBounds"),
        ({"interval": "jackknife"}, "it is one of bootstrap"),
        ({"level": 95}, "level is 95"),
        ({"resamples": 0}, "resamples is 0"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"largest_ratio": 0}, "largest_ratio is 0"),
        ({"bounds": ope.KnownBounds(ratio=1, reward=(0, 6), horizon=2)}, "the bounds exclude"),
        ({"values_after_truncation": [1]}, r"values_after_truncation has shape \(1,\)"),
        ({"q_hat": Q_HAT[:, :1]}, r"q_hat has shape \(3, 1\)"),
        ({"q_hat": np.where(Q_HAT == 2, np.nan, Q_HAT)}, "row 1 of q_hat"),
        ({"target": TARGET[:2]}, r"target_probabilities has shape \(2, 2\)"),
        (
            {"target": np.add(TARGET, [[0, 0], [0, 0.1], [0, 0]])},
            "row 1, column 'target_probabilities': 1.1 is what the row",
        ),
        (
            {"target": [[0.75, 0.25], [1.2, -0.2], [1, 0]]},
            r"row 1, column 'target_probabilities\[:, 1\]': -0.2 is below",
        ),
        ({"target": TARGET * np.nan}, "row 0 of target_probabilities"),
        ({"target": [["a", "b"]] * 3}, "no table of numbers"),
        ({"target": np.ones((3, 1))}, "row 0, column 'action': 1 is not an action"),
    ],
)
def test_an_argument_that_is_wrong_is_refused(options, fault):
    with pytest.raises(DatasetError, match=fault):
        evaluate(**options)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ({name: values for name, values in ROWS.items() if name != "propensity"}, "column 'propensity' is missing"),
        ({name: [] for name in ROWS}, "holds no rows"),
        (changed("reward", [1, 2]), "columns differ in length"),
        (changed("reward", [6, math.nan, 1]), "row 1, column 'reward': nan is not a finite number"),
        (changed("reward", [6, "many", 1]), "row 1, column 'reward': many is not a finite number"),
        (changed("reward", [6, math.inf, 1]), "row 1, column 'reward': inf"),
        (changed("propensity", [0.5, None, 0.5]), "row 1, column 'propensity': None is not a finite number"),
        (changed("propensity", [0.5, 0.5, 0]), r"row 2, column 'propensity': 0.0 is outside \(0, 1\]"),
        (changed("propensity", [0.5, -0.5, 2]), r"row 1, column 'propensity': -0.5 .* \(2 such rows\)"),
        (changed("episode", ["B", None, "A"]), "row 1, column 'episode': None is missing"),
        (changed("action", [1, 0.5, 0]), "row 1, column 'action': 0.5 is not a whole number"),
        (changed("action", [1, 1, -1]), "row 2, column 'action': -1 is not an action"),
        (changed("t", [0, 0, 0]), "row 2, column 't': episode A has t = 0 twice, also in row 1"),
        (changed("t", [0, 2, 0]), "row 1, column 't': episode A goes from t = 0 to 2"),
        (changed("t", [2, 1, 0]), "row 0, column 't': episode B begins at t = 2, where others begin at 0"),
        (changed("terminated", [True, True, True]), "row 2, column 'terminated': episode A is set before its last"),
        (changed("truncated", [False, False, True]), "row 2, column 'truncated': episode A is set before its last"),
        (changed("terminated", [True, False, False]), "row 1, .*episode A ends there with neither"),
        (changed("terminated", [True, 2, False]), "row 1, column 'terminated': 2 is neither true nor false"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_row_and_column(rows, fault):
    with pytest.raises(DatasetError, match=fault):
        evaluate(rows)


def test_a_value_after_truncation_must_be_known_where_it_is_read():
    with pytest.raises(DatasetError, match="row 1 of values_after_truncation is not finite"):
        evaluate(CUT, values_after_truncation=[0, math.nan, 0])


def test_an_estimate_that_was_not_made_is_asked_for_by_name():
    with pytest.raises(DatasetError, match="no estimate 'WDR'; there are: IPS"):
        evaluate()["WDR"]


# Several policies -------------------------------------------------------------------------------------------------


def policies(**options):
    """More of action 0, whose reward is higher, is better; the truths of 0.2, 0.5, 0.9 are 0.3, 0.6, 1.0."""
    generator = np.random.default_rng(0)
    rows = many(2000)
    rows["reward"] = (rows["action"] == 0) + 0.1 + generator.normal(size=2000) / 10
    log = ope.read_rows(rows)
    return {f"p{share}": evaluate(log, np.tile([share, 1 - share], (2000, 1)), **options) for share in (0.2, 0.9, 0.5)}


TRUTHS = {"p0.2": 0.3, "p0.9": 1.0, "p0.5": 0.6}


def test_policies_are_ranked_and_the_choice_is_judged():
    comparison = ope.compare(policies(), "WIS", truths=TRUTHS)
    assert comparison.ranking == ("p0.9", "p0.5", "p0.2")
    assert comparison.rank_correlation == pytest.approx(1)
    assert comparison.regret == {1: 0, 2: 0, 3: 0}
    assert comparison.mean_squared_error < 0.01
    assert comparison.probability_best["p0.9"] == 1
    assert list(comparison.table().index) == list(comparison.ranking)


def test_regret_is_what_the_best_of_the_first_k_falls_short_by():
    """Truths turned round: the ranking's first is worst. By hand: 1 - 0.3, 1 - 0.6, 0."""
    comparison = ope.compare(policies(), "WIS", truths={"p0.2": 1.0, "p0.9": 0.3, "p0.5": 0.6})
    assert comparison.regret == pytest.approx({1: 0.7, 2: 0.4, 3: 0})
    assert comparison.rank_correlation == pytest.approx(-1)


def test_rank_correlation_shares_the_ranks_of_equal_values():
    """By hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)."""
    assert ope.rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(4.5 / 22.5**0.5)
    assert math.isnan(ope.rank_correlation(np.ones(3), np.arange(3.0)))


def test_a_policy_without_an_estimate_comes_last():
    log = ope.read_rows(ROWS)
    with pytest.warns(ope.UndefinedEstimateWarning):
        never = evaluate(log, np.array([[1.0, 0], [1.0, 0], [0, 1.0]]), interval="none")
    comparison = ope.compare(
        {"never": never, "some": evaluate(log, interval="none")}, "WIS", truths={"never": 1, "some": 0}
    )
    assert comparison.ranking == ("some", "never")
    assert comparison.probability_best == {}
    assert math.isnan(comparison.rank_correlation)


def test_what_cannot_be_compared_is_refused():
    some = policies()
    for evaluations, options, fault in (
        ({}, {}, "no policy"),
        (some, {"truths": {"p0.2": 1.0}}, "truths must hold"),
        (some | {"other": evaluate()}, {}, "same log"),
        (some | {"other": dataclasses.replace(some["p0.2"], seed=9)}, {}, "different bootstraps"),
        (some, {"estimator": "WDR"}, "no estimate 'WDR'"),
    ):
        with pytest.raises(DatasetError, match=fault):
            ope.compare(evaluations, **({"estimator": "WIS"} | options))


def test_episodes_and_a_table_of_their_rows_are_the_same_log(world):
    target, q_hat = world.target[world.states], world.q
    table = ope.evaluate(world.rows(), target, q_hat, discount=world.discount, interval="none")
    log = ope.LoggedRows.of(world.episodes)
    episodes = ope.evaluate(log, target, q_hat, discount=world.discount, interval="none")
    assert {name: estimate.value for name, estimate in episodes.values.items()} == {
        name: estimate.value for name, estimate in table.values.items()
    }


# What no policy can earn, and what no log has tried -----------------------------------------------------------------


def test_a_value_that_no_policy_can_have_is_cut_and_the_note_says_what_the_estimator_said():
    """Rewards of 1 to 6 at discount 0.5: at least 1, for a single step, and at most 6 / (1 - 0.5) = 12."""
    q_hat = np.full((3, 2), 40.0)
    evaluation = evaluate(q_hat=q_hat, interval="bootstrap")
    assert evaluation.bounds == (1, 12)
    assert evaluation["DM"].value == 12
    assert evaluation["DM"].uncut == pytest.approx(40)
    assert any(
        "no policy earns less than 1 or more than 12" in note and "DM says 40" in note for note in evaluation.notes
    )
    for estimate in evaluation.values.values():
        assert 1 <= estimate.value <= 12
        assert estimate.interval is None or 1 <= estimate.interval.lower <= estimate.interval.upper <= 12


def test_an_interval_of_which_all_is_impossible_is_none():
    rows = many() | {"reward": np.full(200, 1.0)}
    # q_hat of the other action alone: corrections never bring it back
    q_hat = np.where(rows["action"][:, None] == [0, 1], 1.0, 90.0 + np.arange(200)[:, None] / 100)
    evaluation = evaluate(rows, np.full((200, 2), 0.5), q_hat, estimators=["sequential DR"])
    assert evaluation.bounds == (1, 1)
    assert evaluation["sequential DR"].value == 1
    assert evaluation["sequential DR"].uncut > 40
    assert evaluation["sequential DR"].interval is None
    assert "beyond what any policy can earn" in evaluation["sequential DR"].note


@pytest.mark.parametrize(
    ("rewards", "lengths", "discount", "truncated", "bounds"),
    [
        ([1.0, 1.0], [2], 0.99, False, (1, 100)),
        ([-1.0, 0.0], [2], 0.99, False, (-100, 0)),
        ([-1.0, -2.0], [2], 0.9, False, (-20, -1)),
        ([-1.0, 3.0], [1, 1], 0.9, False, (-1, 3)),
        ([-1.0, 3.0], [1, 1], 0.9, True, (-10, 30)),
        ([1.0, 1.0], [2], 1.0, False, (1, math.inf)),
    ],
)
def test_rewards_and_discount_bound_what_an_episode_can_bring(rewards, lengths, discount, truncated, bounds):
    returns = ope.possible_returns(np.array(rewards), np.array(lengths), discount, truncated=truncated)
    assert returns == pytest.approx(bounds)


def unsupported(share):
    """Two actions that the log tries and a third that it never does, with ``share`` of the policy's probability."""
    rows = many()
    target = np.tile([(1 - share) / 2, (1 - share) / 2, share], (200, 1))
    logged = np.tile([0.5, 0.5, 0.0], (200, 1))
    return evaluate(rows, target, np.full((200, 3), 0.5), behavior_probabilities=logged)


def test_a_policy_that_does_what_was_never_logged_gets_no_interval_and_the_share_is_stated():
    """Exactly 74 % of its probability is on an action of propensity 0."""
    evaluation = unsupported(0.74)
    assert evaluation.support.unsupported == pytest.approx(0.74)
    assert evaluation.support.leaving == pytest.approx(0.74)
    assert all(estimate.interval is None for estimate in evaluation.values.values())
    assert any("74.0% of the policy's probability is on actions that the policy that logged never" in note
               for note in evaluation.notes)  # fmt: skip


def test_a_little_of_it_is_stated_and_a_policy_within_the_log_has_nothing_to_state():
    assert any("1.0% of the policy's probability" in note for note in unsupported(0.01).notes)
    assert unsupported(0.01)["IPS"].interval is not None
    within = unsupported(0.0)
    assert within.support == ope.Support(0, 0, 0)
    assert not any("never takes" in note for note in within.notes)


def test_the_chance_to_leave_the_log_grows_with_the_steps_of_an_episode():
    """By hand: half of the probability in either of A's two steps, 1 - 1/2 * 1/2 = 3/4; a quarter in B's one."""
    layout = ope.Layout.of(np.array([2, 1]))
    behavior = np.tile([1.0, 0.0], (3, 1))
    target = np.array([[0.5, 0.5], [0.5, 0.5], [0.75, 0.25]])[layout.rows]
    support = ope.measure_support(layout, behavior, target)
    assert support.leaving == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert support.unsupported == support.rare == pytest.approx(1.25 / 3)


def test_the_mean_weight_speaks_however_many_episodes_are_in_effect():
    """Every ratio is 1/2 or less, so that 200 episodes weigh the same and the mean weight is far below 1."""
    rows = many() | {"propensity": np.full(200, 1.0)}
    evaluation = evaluate(rows, np.tile([0.2, 0.2, 0.6], (200, 1)))
    assert evaluation.weights.effective_sample_size == pytest.approx(200)
    assert any("the mean weight is 0.2 where 1 is expected" in note for note in evaluation.notes)
