"""Acrobot and LunarLander: a mediocre policy, its log, and a policy from that log, by presets alone."""

import json
import math
import re
import signal
from pathlib import Path

import pytest

import collect
import evaluate
import train
from batch_rl.acting.rollout import mean_interval
from batch_rl.formats.loading import load_episodes
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import CollectionPreset, EvaluationPreset, OnlinePreset

PRESETS = Path(__file__).resolve().parents[2] / "presets"


@pytest.fixture
def run(tmp_path_factory, monkeypatch, capsys):
    """Run an entry point on a tree of its own; return its output folder and what it printed."""

    def run_main(main, hyperparameters, **channels):
        base = tmp_path_factory.mktemp("job")
        (base / "input" / "config").mkdir(parents=True)
        (base / "input" / "data").mkdir()
        (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        (base / "input" / "config" / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
        for name, source in channels.items():
            (base / "input" / "data" / name).symlink_to(source)
        monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
        handler = signal.getsignal(signal.SIGTERM)
        assert main() == 0
        signal.signal(signal.SIGTERM, handler)
        return base / "output" / "data", capsys.readouterr().out

    return run_main


def beats_its_log(run, name):
    """Return the gain of the learned policy over its log, and the half width of its 95 % interval."""
    behavior, _ = run(train.main, {"preset": f"{name}-behavior"})
    logged, _ = run(collect.main, {"preset": f"{name}-log"}, checkpoint=behavior / "checkpoint")
    learned, _ = run(train.main, {"preset": name}, train=logged)
    played, _ = run(evaluate.main, {"preset": name}, checkpoint=learned / "checkpoint")
    returns = load_episodes(logged)[1].returns(1.0)
    summary = json.loads((played / "evaluation.json").read_text())
    error = math.hypot(returns.std() / len(returns) ** 0.5, summary["std"] / summary["episodes"] ** 0.5)
    return summary["mean"] - returns.mean(), 1.96 * error


@pytest.mark.slow
@pytest.mark.whole
def test_lunarlanders_policy_beats_the_log_that_it_learned_from_by_far(run):
    pytest.importorskip("Box2D")
    gain, radius = beats_its_log(run, "preset-lunarlander")
    assert gain - radius > 50


@pytest.mark.slow
@pytest.mark.whole
def test_acrobots_policy_beats_the_log_that_it_learned_from(run):
    gain, radius = beats_its_log(run, "preset-acrobot")
    assert gain - radius > 0


@pytest.mark.parametrize("name", ["preset-acrobot", "preset-lunarlander"])
def test_the_three_presets_of_a_story_are_of_one_environment(name):
    behavior = load_preset(PRESETS / f"{name}-behavior.yaml", OnlinePreset)
    log = load_preset(PRESETS / f"{name}-log.yaml", CollectionPreset)
    assert behavior.environment == log.environment
    assert log.collection.time_limit, "a cut episode must not look like a failure"
    assert load_preset(PRESETS / f"{name}.yaml", EvaluationPreset).environment == log.environment


@pytest.mark.parametrize(
    ("name", "environment", "epsilon", "n_actions"),
    [("preset-acrobot", "Acrobot-v1", 0.5, 3), ("preset-lunarlander", "LunarLander-v3", 0.4, 4)],
)
def test_small_runs_of_the_story_pass_from_job_to_job(run, name, environment, epsilon, n_actions):
    if environment.startswith("Lunar"):
        pytest.importorskip("Box2D")
    small = {
        "online.steps": 700,
        "online.heatup_steps": 600,
        "agent.hidden_sizes": [8],
        "online.evaluation_episodes": 1,
    }
    behavior, _ = run(train.main, {"preset": f"{name}-behavior", **small})
    logged, text = run(
        collect.main, {"preset": f"{name}-log", "collection.num_envs": 6}, checkpoint=behavior / "checkpoint"
    )
    assert re.search(f"Collected 6 episodes, .* greedy except for a share of {epsilon} in {environment}", text)
    episodes = load_episodes(logged)[1]
    likely, unlikely = 1 - epsilon + epsilon / n_actions, epsilon / n_actions
    assert set(episodes.propensities.round(4)) <= {round(likely, 4), round(unlikely, 4)}
    learned, text = run(
        train.main,
        {"preset": name, "training.epochs": 1, "agent.hidden_sizes": [8], "ope.estimators": []},
        train=logged,
    )
    assert "Epoch=1," in text
    played, _ = run(evaluate.main, {"preset": name, "evaluation.episodes": 2}, checkpoint=learned / "checkpoint")
    summary = json.loads((played / "evaluation.json").read_text())
    assert (summary["environment"], summary["episodes"]) == (environment, 2)


def test_an_interval_narrows_to_the_mean_and_is_the_same_for_the_same_seed():
    assert mean_interval([5.0] * 10, seed=0) == [5.0, 5.0]
    low, high = mean_interval([0.0, 10.0] * 50, seed=0)
    assert [low, high] == mean_interval([0.0, 10.0] * 50, seed=0)
    # One standard error is 0.5, so the ends lie near 5 -/+ 0.98.
    assert low == pytest.approx(4.02, abs=0.15)
    assert high == pytest.approx(5.98, abs=0.15)
