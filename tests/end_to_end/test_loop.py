"""The loop of the examples: policies act by endpoint and by batch transform, and their logs are learned from."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from launcher.deserializers import JSONDeserializer
from launcher.serializers import JSONSerializer

from launcher import DataCaptureConfig, TrainingJob
from launcher.jobs.store import EndpointStore, ModelStore

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _as_processes(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_request_is_in_the_log_with_the_probabilities_that_its_action_was_drawn_by(tmp_path):
    """And the same seeds give the same log, however many episodes are played at once."""
    loop = example("closed_loop")
    estimator = loop.train([loop.play_at_random(40, seed=0)], tmp_path / "first.csv", 4.0, 2, 0)
    predictor = estimator.deploy(
        1,
        "local",
        serializer=JSONSerializer(),
        deserializer=JSONDeserializer(),
        data_capture_config=DataCaptureConfig(True, 100, str(tmp_path / "captured")),
    )
    try:
        requests, rewards = loop.play_by_endpoint(predictor, 20, 1, seed=3)
        log = loop.captured_log(predictor, tmp_path / "log.csv", 1)
        loop.CLIENTS = 1
        loop.play_by_endpoint(predictor, 20, 2, seed=3)
        other = loop.captured_log(predictor, tmp_path / "log.csv", 2)
        loop.seed_of = lambda *numbers, seed_of=loop.seed_of: seed_of(*numbers[:2], 1, *numbers[3:])
        loop.play_by_endpoint(predictor, 20, 4, seed=3)
        again = loop.captured_log(predictor, tmp_path / "log.csv", 4)
    finally:
        predictor.delete_endpoint()

    assert len(log) == requests == sum(rewards)
    assert log.groupby("number")["reward"].sum().tolist() == rewards
    assert (log.groupby("number")["terminated"].sum() + log.groupby("number")["truncated"].sum() == 1).all()

    logged = logged_probabilities(log)
    assert np.abs(logged - model_of(estimator.latest_training_job)(log)).max() < 1e-6
    assert logged.std() > 1e-3, "a policy that gives every state the same shows nothing"

    same = ["number", "step", "action", "all_action_probabilities", "reward"]
    assert log[same].equals(again[same])
    assert not log[same].equals(other[same])


@pytest.mark.slow
def test_a_policy_that_the_gate_refuses_is_not_served(tmp_path):
    """It is nearly uniform, and so no better than the one at work; no model is made of it."""
    loop = example("closed_loop")
    settings = loop.Settings(60, 2, rounds=(loop.Round(20, 1000.0, 1),), checked_episodes=2)
    outcome = loop.main(tmp_path, settings, seed=0)
    [decision] = outcome.decisions
    assert not decision.passed
    assert decision.why.startswith("lower ")
    assert len(ModelStore(tmp_path / "home").names()) == 1
    assert len(pd.read_csv(tmp_path / "captured.csv")) == decision.requests
    apart, learned_from = (
        pd.read_csv(tmp_path / f"{name}-1.csv", dtype={"episode_id": str}) for name in ("apart", "learning")
    )
    assert len(apart) > 0
    assert not set(apart["episode_id"]) & set(learned_from["episode_id"])
    assert EndpointStore(tmp_path / "home").names() == []


@pytest.mark.whole
@pytest.mark.slow
def test_the_gate_alone_decides_which_policy_the_endpoint_serves(tmp_path):
    """A policy that is nearly uniform is not better than the one at work, so that one stays; the next one is better."""
    loop = example("closed_loop")
    uniform, better = loop.Round(40, 1000.0, 1), loop.Round(200, 0.5, 40)
    settings = loop.Settings(first_episodes=60, first_epochs=2, rounds=(uniform, better), checked_episodes=20)
    outcome = loop.main(tmp_path, settings, seed=0)

    assert [decision.passed for decision in outcome.decisions] == [False, True], outcome
    assert [decision.why.startswith("lower ") for decision in outcome.decisions] == [True, True]
    log = pd.read_csv(tmp_path / "captured.csv", dtype={"episode_id": str})
    assert len(log) == sum(decision.requests for decision in outcome.decisions)
    second = log[log["episode_id"].str.startswith("2-")]
    of_action_0 = second["all_action_probabilities"].str.extract(r"\[([^,]*),", expand=False).astype(float)
    assert of_action_0.std() > 0.01, "the nearly uniform policy was not deployed"
    apart = pd.read_csv(tmp_path / "apart-2.csv")
    learned_from = pd.read_csv(tmp_path / "learning-2.csv")
    assert len(apart) > 0
    assert not set(apart["episode_id"]) & set(learned_from["episode_id"])
    assert outcome.final_reward > 3 * outcome.decisions[0].mean_reward
    assert EndpointStore(tmp_path / "home").names() == []


@pytest.mark.slow
@pytest.mark.parametrize(("by", "mode", "steps"), [("transform", "s3", 2), ("endpoint", "local", 20)])
def test_a_round_acts_at_every_step_by_the_policy_that_was_learned(tmp_path, store, monkeypatch, by, mode, steps):
    monkeypatch.setenv("LAUNCHER_MODE", mode)
    rewards = example("three_rounds").main(tmp_path, by, steps, temperatures=(0.5,), epochs=2)
    log = pd.read_csv(tmp_path / "round-1.csv")
    assert rewards[1] == len(log) / 100
    assert (log.groupby("episode_id").size() <= steps).all()
    assert (log.groupby("episode_id")[["terminated", "truncated"]].sum().sum(axis=1) == 1).all()
    model = model_of(TrainingJob(store.names()[-1]))
    assert np.abs(logged_probabilities(log) - model(log)).max() < 1e-6


def model_of(job):
    """What the exported policy of a job says of the states in a log, asked without a server."""
    program = torch.jit.load(str(job.outputs.model_path / "model.pt"))
    names = [f"state_feature_{index}" for index in range(4)]
    return lambda log: program(torch.tensor(log[names].to_numpy(), dtype=torch.float32)).detach().numpy()


def logged_probabilities(log):
    return np.array([json.loads(text) for text in log["all_action_probabilities"]])
