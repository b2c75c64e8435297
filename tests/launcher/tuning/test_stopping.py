"""The rules that stop training jobs early, by numbers worked by hand."""

import pytest

from launcher.jobs.tuning_spec import Objective, ParameterRange, Trial, TuningDefinition, TuningJobSpec
from launcher.tuning.stopping import reason_to_stop, rungs


def spec(strategy="Random", kind="Maximize", **options):
    definition = TuningDefinition("", Objective("score", kind), (ParameterRange("a", "Continuous"),), {})
    return TuningJobSpec("tune", strategy, (definition,), 40, 4, "process", **options)


def trials(count, ended=()):
    statuses = dict.fromkeys(ended, "Completed")
    return [
        Trial(number, f"job-{number}", status=statuses.get(number, ""), objective=1.0 if number in ended else None)
        for number in range(1, count + 1)
    ]


def number_in_bracket(tuning, first_rung):
    """Return the number of a training job that Hyperband first judges at that resource."""
    return next(number for number in range(1, 200) if next(rungs(tuning, number), None) == first_rung)


@pytest.mark.parametrize(("kind", "sign"), [("Maximize", 1), ("Minimize", -1)])
def test_the_median_rule_compares_with_running_averages_up_to_the_same_epoch(kind, sign):
    """By hand: averages of the first two values 1.5, 2.5, 3.5, 4.5; their median is 3."""
    tuning = spec(kind=kind, early_stopping=True)
    histories = {number: [sign * value for value in (number, number + 1, 99)] for number in (1, 2, 3, 4)}
    jobs = trials(5, ended=(1, 2, 3, 4))
    histories[5] = [sign * 9.0, sign * 2.9]
    assert reason_to_stop(tuning, jobs[4], jobs, histories) == "early stopping: worse than the median of 4 after 2"
    jobs[4].judged = 0
    histories[5] = [sign * 0.0, sign * 3.1]
    assert reason_to_stop(tuning, jobs[4], jobs, histories) == ""


def test_the_median_rule_waits_for_four_jobs_that_got_as_far():
    tuning = spec(early_stopping=True)
    histories = {1: [1.0, 1.0], 2: [1.0, 1.0], 3: [1.0, 1.0], 4: [1.0], 5: [0.0, 0.0]}
    jobs = trials(5, ended=(1, 2, 3, 4))
    assert reason_to_stop(tuning, jobs[4], jobs, histories) == ""


def test_without_early_stopping_nothing_is_stopped():
    jobs = trials(5, ended=(1, 2, 3, 4))
    assert reason_to_stop(spec(), jobs[4], jobs, {number: [-float(number == 5)] for number in range(1, 6)}) == ""


def test_hyperband_keeps_the_best_third_at_a_rung():
    """Six jobs have reached the rung, so the best two go on: 6 and 5 do, 4 does not."""
    tuning = spec("Hyperband", max_resource=9)
    first = number_in_bracket(tuning, 1)
    jobs = [Trial(number, f"job-{number}") for number in range(first, first + 6)]
    histories = {job.number: [float(value)] for job, value in zip(jobs, (5, 1, 2, 3, 4, 6), strict=True)}
    assert reason_to_stop(tuning, jobs[0], jobs, histories) == ""
    jobs[0].judged = 0
    histories[jobs[0].number] = [3.5]
    reason = reason_to_stop(tuning, jobs[0], jobs, histories)
    assert reason == "Hyperband: not among the best 2 of 6 after 1"


def test_a_rung_is_judged_once():
    tuning = spec("Hyperband", max_resource=9)
    first = number_in_bracket(tuning, 1)
    jobs = [Trial(number, f"job-{number}") for number in (first, 500, 501)]
    histories = {first: [2.0], 500: [1.0], 501: []}
    assert reason_to_stop(tuning, jobs[0], jobs, histories) == ""
    histories[501] = [3.0]
    assert reason_to_stop(tuning, jobs[0], jobs, histories) == ""


def test_the_first_job_to_reach_a_rung_goes_on_and_ends_beyond_the_last():
    tuning = spec("Hyperband", max_resource=9)
    (job,) = jobs = trials(1)
    assert reason_to_stop(tuning, job, jobs, {1: [0.0] * 9}) == ""
    assert reason_to_stop(tuning, job, jobs, {1: [0.0] * 10}) == "Hyperband: more than 9 values"


def test_brackets_have_the_rungs_and_the_shares_of_hyperband():
    """From 1 to 9 there are three brackets; their shares are 9, 3 * 3/2 = 4.5 and 3, of 16.5."""
    tuning = spec("Hyperband", max_resource=9)
    brackets = [tuple(rungs(tuning, number)) for number in range(1, 1001)]
    assert set(brackets) == {(1, 3), (3,), ()}
    assert 480 < brackets.count((1, 3)) < 610
    assert 210 < brackets.count((3,)) < 340
    assert list(rungs(spec("Hyperband", min_resource=5, max_resource=5), 1)) == []
