"""The example of a contextual bandit: its simulation, and what it promises about estimates and the truth."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "examples" / "email_campaign.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("email_campaign", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_log_has_the_policy_that_made_it_and_earns_what_is_expected(example):
    """Mean reward of 50,000 users against the expected one of those users: within 4 standard errors."""
    log = example.campaign(50_000, seed=5)
    people = example.people_of(log)
    policy = example.todays_policy(people)
    assert np.allclose(policy.sum(axis=1), 1)
    for mail in range(4):
        share = (log["action"] == mail).mean()
        assert share == pytest.approx(policy[:, mail].mean(), abs=4 * 0.5 / 50_000**0.5)
    expected = (policy * example.expected_rewards(people)).sum(axis=1).mean()
    assert log["reward"].mean() == pytest.approx(expected, abs=4 * log["reward"].std() / 50_000**0.5)
    rows = example.rows(log)
    assert np.array_equal(rows["propensity"], policy[np.arange(50_000), log["action"]])


@pytest.mark.slow
def test_the_learned_policy_beats_todays_and_the_weighted_estimates_hold_the_truth(example, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    table = example.main(seed=0)
    assert table.attrs["today"] + 0.02 < table.attrs["truth"] <= table.attrs["best"]
    assert table.loc[["IPS", "DR"], "holds"].all()
    assert (table.loc[["IPS", "DR"], "lower"] > table.attrs["today"]).all()
