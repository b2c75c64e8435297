"""Learning in an environment: the replay buffer, the schedules, the files and lines of a job, and going on."""

import dataclasses
import json
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import evaluate
import train
from batch_rl.errors import CheckpointError, PresetError
from batch_rl.learning.checkpoint import load_policy
from batch_rl.learning.losses import double_q_targets
from batch_rl.learning.online import OnlineLearner, OnlineRun, Replay
from batch_rl.networks import forward
from batch_rl.presets.checking import describe_preset
from batch_rl.presets.reading import choose_training_preset, load_preset
from batch_rl.presets.schema import Agent, OnlinePreset, TrainingPreset
from job_toolkit.environment import JobInputError

PRESETS = Path(__file__).resolve().parents[2] / "presets"
METRICS = "worker_0.simple_rl_graph.main_level.main_level.agent_0.csv"
COACH_TRAINING = re.compile(r"^Training>.*Total reward=(.*?),", re.MULTILINE)
SMALL = {
    "agent.hidden_sizes": [8],
    "online.steps": 600,
    "online.heatup_steps": 100,
    "online.evaluate_every_episodes": 4,
    "online.evaluation_episodes": 3,
}


def preset(**overrides):
    return load_preset(PRESETS / "preset-cartpole-dqn.yaml", OnlinePreset, SMALL | overrides)


class Job:
    """A tree, and the entry points run in it."""

    def __init__(self, base, monkeypatch, capsys):
        self.base, self._monkeypatch, self._capsys = base, monkeypatch, capsys
        self.output = base / "output" / "data"
        self.metrics_path = base / "output" / "intermediate" / METRICS

    def run(self, main, hyperparameters, **channels):
        config = self.base / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "hyperparameters.json").write_text(
            json.dumps({name: str(value) for name, value in hyperparameters.items()})
        )
        (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
        (self.base / "input" / "data").mkdir(exist_ok=True)
        for name, source in channels.items():
            (self.base / "input" / "data" / name).symlink_to(source)
        self._monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(self.base))
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self.exit_code = main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        self.text = self._capsys.readouterr().out
        return self


@pytest.fixture
def new_job(tmp_path_factory, monkeypatch, capsys):
    return lambda: Job(tmp_path_factory.mktemp("job"), monkeypatch, capsys)


def test_the_oldest_transition_makes_room_for_the_newest():
    """Three places, four transitions: the first one is gone, and what is saved comes back."""
    replay = Replay(3, 1)
    for number in range(4):
        state = np.array([number], dtype=np.float32)
        replay.add(state, number, float(number), state + 1, terminated=number == 3)
    assert sorted(replay.actions.tolist()) == [1, 2, 3]
    assert replay.terminated.sum() == 1
    again = Replay(3, 1)
    again.restore(replay.state())
    assert np.array_equal(again.actions, replay.actions)
    again.add(state, 4, 4.0, state, terminated=False)
    assert sorted(again.actions.tolist()) == [2, 3, 4]


def learner(**agent):
    values = {"algorithm": "ddqn", "hidden_sizes": (4,), "members": 1, "batch_size": 8, **agent}
    made = OnlineLearner(
        Agent(**values), observation_size=1, n_actions=2, replay_size=8, generator=torch.Generator().manual_seed(0)
    )
    for number in range(8):
        state = np.array([number], dtype=np.float32)
        made.replay.add(state, number % 2, 1.0, state + 1, terminated=number == 7)
    return made


@pytest.mark.parametrize("algorithm", ["dqn", "ddqn"])
def test_targets_are_those_of_the_rule_and_only_termination_ends_them(algorithm):
    made = learner(algorithm=algorithm, discount=0.5)
    made.target = [p + 0.5 for p in made.online]
    rows = np.array([[3, 7]])
    next_inputs = torch.tensor([[[4.0], [8.0]]])
    target = forward(made.target, next_inputs)
    chooser = target if algorithm == "dqn" else forward(made.online, next_inputs)
    expected = double_q_targets(
        chooser,
        target,
        torch.zeros_like(target, dtype=torch.bool),
        torch.ones(1, 2),
        torch.tensor([[0.5, 0.0]]),
    )
    targets = made.rule.targets(*made._batch(rows))
    assert torch.equal(targets, expected)
    assert targets[0, 1] == 1.0


def test_the_target_network_is_copied_or_moves_by_its_rate():
    copied = learner(target_copy_updates=2)
    generator = np.random.default_rng(0)
    first = [p.clone() for p in copied.target]
    copied.update(generator, 0.1)
    assert all(torch.equal(p, q) for p, q in zip(copied.target, first, strict=True))
    copied.update(generator, 0.1)
    assert all(torch.equal(p, q) for p, q in zip(copied.target, copied.online, strict=True))
    moved = learner(target_update_rate=0.25)
    before = [p.clone() for p in moved.online]
    moved.update(generator, 0.1)
    for target, start, now in zip(moved.target, before, moved.online, strict=True):
        torch.testing.assert_close(target, 0.75 * start + 0.25 * now)


def test_l2_regularization_pulls_weights_that_no_error_moves_towards_zero():
    """Without rewards and with a discount of 0 a network of zeros is right; Adam's first step is its step size."""
    made = learner(discount=0.0, l2_regularization=0.1)
    made.replay.rewards[:] = 0.0
    with torch.no_grad():
        for parameter in made.online[2:]:
            parameter.zero_()
    first = made.online[0].clone()
    made.update(np.random.default_rng(0), 0.01)
    torch.testing.assert_close(made.online[0], first - 0.01 * first.sign(), atol=1e-5, rtol=0)


def test_epsilon_falls_from_the_end_of_the_heatup_to_its_last_value():
    run = OnlineRun(preset(**{"online.epsilon_start": 0.8, "online.epsilon_end": 0.2, "online.epsilon_steps": 200}))
    epsilons = []
    for steps in (0, 99, 100, 200, 300, 1000):
        run.learner.steps = steps
        epsilons.append(run._epsilon())
    assert epsilons == pytest.approx([1.0, 1.0, 0.8, 0.5, 0.2, 0.2])


def test_inputs_are_standardized_by_what_the_heatup_saw():
    run = OnlineRun(preset())
    while run.learner.steps < 100:
        run.run_episode()
    seen = run.learner.replay.observations[:100].astype(np.float64)
    np.testing.assert_allclose(run.mean.numpy(), seen.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(run.scale.numpy(), seen.std(axis=0), rtol=1e-5)


def test_a_run_ends_after_its_episodes_or_when_it_is_good_enough():
    run = OnlineRun(preset(**{"online.episodes": 3, "agent.learning_rate_schedule": "constant"}))
    while not run.finished:
        run.run_episode()
    assert run.learner.episodes - run.learner.heatup_episodes == 3
    run = OnlineRun(preset(**{"online.stop_at_reward": 1.0}))
    while not run.finished:
        run.run_episode()
        if run.evaluation_due:
            run.evaluate()
    assert run.epoch == 1
    assert run.learner.steps < 600


def test_a_job_learns_and_leaves_what_a_job_leaves(new_job):
    job = new_job().run(train.main, {"preset": "preset-cartpole-dqn", **SMALL})
    assert job.exit_code == 0
    metrics = pd.read_csv(job.metrics_path)
    assert metrics["Episode #"].tolist() == list(range(1, len(metrics) + 1))
    assert metrics["Total steps"].iloc[-1] >= 600
    assert (metrics["Episode Length"].cumsum() == metrics["Total steps"]).all()
    assert metrics["Training Iter"].iloc[-1] == metrics["Total steps"].iloc[-1] - 100
    trained = metrics[metrics["In Heatup"] == 0]
    assert [float(reward) for reward in COACH_TRAINING.findall(job.text)] == trained["Training Reward"].tolist()
    evaluated = metrics.dropna(subset="Evaluation Reward")
    assert len(re.findall("^Testing>", job.text, re.M)) == 3 * len(evaluated)
    metadata = json.loads((job.output / "checkpoint" / "metadata.json").read_text())
    assert (metadata["algorithm"], metadata["dataset_sha256"]) == ("ddqn", "learned online")
    best = load_policy(job.output / "checkpoint", "best", observation_size=4, n_actions=2)
    served = torch.jit.load(str(job.base / "model" / "model.pt"))
    observations = torch.rand(5, 4)
    torch.testing.assert_close(served(observations), best(observations))
    assert f"Model> {job.base / 'model' / 'model.pt'}, the best checkpoint's policy" in job.text
    again = new_job().run(train.main, {"preset": "preset-cartpole-dqn", **SMALL})
    assert again.metrics_path.read_bytes() == job.metrics_path.read_bytes()
    played = new_job().run(
        evaluate.main, {"preset": "preset-cartpole-dqn", "evaluate_episodes": 2}, checkpoint=job.output / "checkpoint"
    )
    assert json.loads((played.output / "evaluation.json").read_text())["episodes"] == 2


def test_the_model_is_written_in_the_formats_that_are_asked_for(new_job):
    job = new_job().run(train.main, {"preset": "preset-cartpole-dqn", **SMALL, "training.export": "[torch_export]"})
    assert sorted(path.name for path in (job.base / "model").iterdir()) == ["model.json", "model.npz", "model.pt2"]
    with pytest.raises(PresetError, match=r"training\.export is empty"):
        new_job().run(train.main, {"preset": "preset-cartpole-dqn", **SMALL, "training.export": "[]"})


class StopAt:
    """What train.py's SIGTERM handler is, received after a number of episodes."""

    def __init__(self, episodes):
        self.left = episodes

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("episodes", [3, 9, 16])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(new_job, monkeypatch, episodes):
    """Stopped in the heatup, between evaluations, and after one: same metrics and checkpoints, to the byte."""
    hyperparameters = {"preset": "preset-cartpole-dqn", **SMALL}
    through = new_job().run(train.main, hyperparameters)
    with monkeypatch.context() as patch:
        patch.setattr(train, "StopRequest", lambda: StopAt(episodes))
        stopped = new_job().run(train.main, hyperparameters)
    assert stopped.exit_code == 143
    resumed = new_job().run(train.main, hyperparameters, checkpoint=stopped.output / "checkpoint")
    assert f"Episode={episodes}, from" in resumed.text
    assert resumed.metrics_path.read_bytes() == through.metrics_path.read_bytes()
    for pointer in ("latest", "best"):
        files = [
            (job.output / "checkpoint" / (job.output / "checkpoint" / pointer).read_text().strip())
            for job in (resumed, through)
        ]
        assert files[0].name == files[1].name
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_checkpoint_from_a_log_is_not_gone_on_with_online(new_job, tmp_path):
    hyperparameters = {"preset": "preset-cartpole-dqn", **SMALL}
    first = new_job().run(train.main, hyperparameters)
    metadata = first.output / "checkpoint" / "metadata.json"
    metadata.write_text(metadata.read_text().replace("learned online", "0" * 64))
    with pytest.raises(CheckpointError, match="was trained on logged data, and this run learns in an environment"):
        new_job().run(train.main, hyperparameters, checkpoint=first.output / "checkpoint")


def test_without_the_section_online_a_dataset_is_asked_for(new_job):
    with pytest.raises(JobInputError, match="no channel 'train'"):
        new_job().run(train.main, {"preset": "preset-cartpole-ddqnbcq"})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"agent.algorithm": "cql"}, "'cql' learns from logged data; online it is one of: dqn, ddqn"),
        ({"training.device": "auto"}, "'training.device' cannot be set where a policy learns online"),
        ({"training.tensorboard": True}, "'training.tensorboard' cannot be set where a policy learns online"),
        ({"training.epochs": 3}, "'training.epochs' cannot be set where a policy learns online"),
        ({"agent.learning_rate_schedule": "linear", "online.episodes": 3}, "choose 'constant'"),
        ({"online.step": 3}, "did you mean 'online.steps'?"),
        ({"data.train_fraction": 0.5}, "reads no section 'data'"),
    ],
)
def test_values_that_make_no_sense_online_are_refused(overrides, words):
    with pytest.raises(PresetError, match=re.escape(words)):
        preset(**overrides)


def test_coachs_names_reach_the_online_keys():
    read = preset(
        **{"rl.improve_steps:TrainingSteps": 5000, "rl.heatup_steps:EnvironmentSteps": 50}
        | {"online.steps": 5000, "online.heatup_steps": 50}
    )
    assert (read.online.steps, read.online.heatup_steps) == (5000, 50)
    chosen = choose_training_preset({"preset": "preset-cartpole-dqn", "improve_steps": "700"}, [PRESETS])
    assert chosen.online.steps == 700
    assert isinstance(choose_training_preset({"preset": "preset-cartpole-ddqnbcq"}, [PRESETS]), TrainingPreset)


def test_a_description_has_the_keys_of_all_entry_points_and_no_other():
    described = describe_preset(PRESETS / "preset-cartpole-dqn.yaml")
    assert described["entry_point"] == "evaluate.py, train.py"
    keys = {row["key"]: row for row in described["keys"]}
    assert {"online.steps", "evaluation.checkpoint", "agent.discount"} <= keys.keys()
    assert not {"training.epochs", "agent.cql_alpha", "ope.temperature"} & keys.keys()
    assert "improve_steps" in keys["online.steps"]["other_names"]


def test_other_environments_may_have_a_limit_of_their_own():
    run = OnlineRun(preset(**{"environment.name": "Acrobot-v1", "environment.max_steps": 30, "online.steps": 60}))
    assert [run.run_episode().length for _ in range(2)] == [30, 30]
    assert not run.learner.replay.terminated.any()
    assert dataclasses.asdict(run.preset)["environment"] == {"name": "Acrobot-v1", "max_steps": 30}


@pytest.mark.slow
@pytest.mark.whole
def test_the_shipped_preset_learns_to_balance_the_pole(new_job):
    job = new_job().run(train.main, {"preset": "preset-cartpole-dqn"})
    played = new_job().run(evaluate.main, {"preset": "preset-cartpole-dqn"}, checkpoint=job.output / "checkpoint")
    assert json.loads((played.output / "evaluation.json").read_text())["mean"] > 195
