"""The policy that is played, scored, saved and exported takes no action that the log lacks, whatever the rule."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from batch_rl.acting.policies import greedy_policy
from batch_rl.data.episodes import Episodes
from batch_rl.errors import CheckpointError
from batch_rl.formats.npz import read_npz
from batch_rl.learning.checkpoint import CheckpointFolder, as_begun, load_policy, resume
from batch_rl.learning.export import export_policy
from batch_rl.learning.online import OnlineRun
from batch_rl.learning.preparation import look_ahead
from batch_rl.learning.scaling import returns_to_go, scaling_of
from batch_rl.learning.training import TrainingRun
from batch_rl.networks import softmax
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import ALGORITHMS, OnlinePreset, TrainingPreset

PRESETS = Path(__file__).resolve().parents[2] / "presets"
OLD = Path(__file__).parent / "checkpoints" / "0.1.0"
QUICK = {
    "training.epochs": 4,
    "agent.hidden_sizes": [32],
    "agent.members": 1,
    "agent.batch_size": 32,
    "agent.learning_rate": 5e-3,
    "agent.target_copy_updates": 20,
    "ope.reward_model_epochs": 1,
    "ope.interval": "none",
    "ope.fqe_updates": 2,
    "bcq.imitation_updates": 400,
}


def a_log_that_never_takes_action_2(scale=1.0, shift=0.0):
    """Rewards are -1 or -3, by the action and the sign of a feature; every episode has ten steps."""
    generator = np.random.default_rng(1)
    episodes, steps = 100, 10
    observations = np.zeros((episodes, steps, 2))
    observations[:, 0] = generator.normal(size=(episodes, 2))
    for step in range(1, steps):
        observations[:, step] = 0.8 * observations[:, step - 1] + 0.5 * generator.normal(size=(episodes, 2))
    observations = observations.reshape(-1, 2).astype(np.float32)
    actions = generator.integers(2, size=len(observations))
    right = (observations[:, 0] > 0) == (actions == 1)
    return Episodes(
        observations=observations,
        actions=actions,
        rewards=np.where(right, -1.0, -3.0) * scale + shift,
        probabilities=np.tile([0.5, 0.5, 0.0], (len(actions), 1)),
        lengths=np.full(episodes, steps),
    )


def trained(episodes, **values):
    path = PRESETS / "preset-cartpole-ddqnbcq.yaml"
    run = TrainingRun(episodes, load_preset(path, TrainingPreset, QUICK | values))
    results = [run.run_epoch() for _ in range(run.epochs)]
    return run, results


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("algorithm", "method"),
    [(name, "imitation_model") for name in ALGORITHMS] + [("ddqn_bcq", "nearest_neighbors")],
)
def test_an_action_that_was_never_logged_is_not_played_scored_saved_or_exported(algorithm, method, tmp_path):
    """All returns are negative, and the value of an action that was never tried stays near its first weights."""
    values = {"agent.algorithm": algorithm, "bcq.action_drop_method": method, "training.epochs": 2}
    run, results = trained(a_log_that_never_takes_action_2(), **values)
    policy = run.policy()
    anywhere = (2 * np.random.default_rng(2).normal(size=(500, 2))).astype(np.float32)
    for network in (policy, saved(run, tmp_path / "checkpoint")):
        assert not greedy_policy(network.q_array)(anywhere)[:, 2].any()
        assert not softmax(network.q_array(anywhere), network.temperature)[:, 2].any()
        with torch.no_grad():
            assert not network(torch.from_numpy(anywhere))[:, 2].any()
    (path,) = export_policy(policy, tmp_path, ["torchscript"])
    assert not torch.jit.load(str(path))(torch.from_numpy(anywhere))[:, 2].any()
    assert np.isfinite(results[-1].estimates.sequential_dr)


def saved(run, folder):
    CheckpointFolder(folder, run, keep=1).save(0.0, "")
    return load_policy(folder, "latest", observation_size=run.observation_size, n_actions=run.n_actions)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["imitation_model", "nearest_neighbors"])
@pytest.mark.parametrize("name", ["torch_export", "onnx"])
def test_every_export_keeps_to_the_supported_actions(name, method, tmp_path):
    """``export_policy`` compares each file with the policy; here with 1, 3 and 64 rows as well."""
    run, _ = trained(a_log_that_never_takes_action_2(), **{"bcq.action_drop_method": method, "training.epochs": 1})
    policy = run.policy()
    (path,) = export_policy(policy, tmp_path, [name])
    if name == "torch_export":
        model = torch.export.load(path).module()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))

        def model(inputs):
            return torch.from_numpy(session.run(["policy"], {"observation": inputs.numpy()})[0])

    for rows in (1, 3, 64):
        inputs = torch.randn((rows, 2), generator=torch.Generator().manual_seed(rows))
        with torch.no_grad():
            expected = policy(inputs)
            torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=0)
        assert not expected[:, 2].any()


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 0.0), (100.0, 0.0), (1.0, -300.0)])
def test_what_is_learned_does_not_depend_on_the_unit_of_rewards_or_a_constant(scale, shift):
    """By the factor all is the same but for rounding; in episodes of one length a constant changes no choice."""
    run, results = trained(a_log_that_never_takes_action_2())
    other, others = trained(a_log_that_never_takes_action_2(scale, shift))
    observations = run.held_out.observations
    if not shift:
        ours, theirs = run.policy(), other.policy()
        np.testing.assert_allclose(
            theirs.values_array(observations), scale * ours.values_array(observations), rtol=2e-3, atol=2e-3 * scale
        )
        assert others[-1].batch_q.mean() == pytest.approx(scale * results[-1].batch_q.mean(), rel=1e-3)
        assert other.temperature == pytest.approx(scale * run.temperature)
    best = greedy_policy(other.policy().q_array)(observations).argmax(axis=1)
    clear = np.abs(observations[:, 0]) > 0.2
    assert ((best == 1) == (observations[:, 0] > 0))[clear].mean() > 0.9


def test_values_are_learned_in_tenths_of_the_deviation_of_the_logged_returns():
    """By hand, discount 0.5: returns 2, 2 and, of a second episode, 4; their deviation is the root of 8/9."""
    episodes = Episodes(
        observations=np.zeros((3, 1), dtype=np.float32),
        actions=np.zeros(3, dtype=np.int64),
        rewards=np.array([1.0, 2.0, 4.0]),
        probabilities=np.ones((3, 1)),
        lengths=np.array([2, 1]),
    )
    assert returns_to_go(episodes, 0.5).tolist() == [2.0, 2.0, 4.0]
    scaling = scaling_of(episodes, 0.5)
    assert (scaling.scale, scaling.constant, scaling.center) == pytest.approx((np.sqrt(8 / 9) / 10, 0, 0))
    assert scaling.values(scaling.rewards(episodes.rewards)) == pytest.approx(episodes.rewards)
    one_length = dataclasses.replace(episodes, lengths=np.array([1, 1, 1]))
    assert scaling_of(one_length, 0.5).constant == pytest.approx(7 / 3)
    assert scaling_of(one_length, 0.5).center == pytest.approx(7 / 3)


def test_several_steps_ahead_end_with_the_episode_or_its_log():
    """By hand, discount 0.5, three steps: rows 0 to 3 terminate; rows 4 and 5 are cut, what followed is unknown."""
    episodes = Episodes(
        observations=np.arange(6, dtype=np.float32)[:, None],
        actions=np.zeros(6, dtype=np.int64),
        rewards=np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]),
        probabilities=np.ones((6, 1)),
        lengths=np.array([4, 2]),
        truncated=np.array([False, True]),
    )
    path = PRESETS / "preset-cartpole-bc.yaml"
    twice = dataclasses.replace(
        episodes.select(np.array([0, 1, 0, 1])),
    )
    run = TrainingRun(twice, load_preset(path, TrainingPreset, QUICK | {"data.train_fraction": 0.5}))
    run.data.fitting = episodes
    steps = run.data.logged_steps(use_finals=True)
    total, factor, terminated, ahead = look_ahead(episodes.rewards, steps, discount=0.5, n_steps=3)
    assert total[:5].tolist() == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8, 16]
    assert terminated[:5].tolist() == [0, 1, 1, 1, 0]
    assert (factor[0].item(), ahead[0].item()) == (0.125, 3)
    assert (factor[4].item(), ahead[4].item()) == (0.5, 5), "row 5 has no step that is known to the end"
    single = look_ahead(episodes.rewards, steps, discount=0.5, n_steps=1)
    assert single[0].tolist() == episodes.rewards.tolist()


@pytest.mark.parametrize("algorithm", ["ddqn_bcq", "quantile", "iql", "one_step"])
def test_rules_learn_from_several_steps_ahead(algorithm):
    run, results = trained(
        a_log_that_never_takes_action_2(), **{"agent.n_steps": 3, "agent.algorithm": algorithm, "training.epochs": 1}
    )
    assert np.isfinite(results[0].losses).all()
    assert run.learner._transitions.discounts.unique().numel() > 1


OLD_VALUES = {
    "training.epochs": 4,
    "agent.hidden_sizes": [8],
    "agent.members": 2,
    "agent.batch_size": 32,
    "agent.snapshot_updates": 4,
    "agent.snapshot_after": 0.2,
    "training.kept_checkpoints": 1,
    "ope.resamples": 20,
    "ope.temperature": 2.0,  # shipped presets have another value now
    "bcq.imitation_epochs": 5,
}


@pytest.mark.parametrize(
    ("name", "values"),
    [("preset-cartpole-ddqnbcq", {"agent.target_temperature": 2.0, "bcq.threshold": 0.3}), ("preset-cartpole-iql", {})],
)
def test_a_checkpoint_of_version_0_1_0_is_resumed_as_it_began(name, values, tmp_path):
    """It knew no scaling, no support and no extracted policy: those keys are as they were, and nobody sets them."""
    folder = shutil.copytree(OLD / name, tmp_path / name)
    asked = load_preset(PRESETS / f"{name}.yaml", TrainingPreset, OLD_VALUES | values)
    if name == "preset-cartpole-ddqnbcq":  # which says it out loud
        asked = dataclasses.replace(asked, agent=dataclasses.replace(asked.agent, reward_scaling="returns"))
    preset, adopted = as_begun(asked, folder)
    as_they_were = {"agent.reward_scaling=none", "agent.iql_policy=values", "agent.support_threshold=0.0"}
    assert as_they_were | {"training.best_by=WIS"} == set(adopted)
    run = TrainingRun(read_npz(OLD / "episodes.npz"), preset)
    resumption = resume(folder, run)
    assert (run.epoch, run.learner.updates) == (2, 14)
    assert resumption.metrics.count("\n") == 3
    while run.epoch < 4:
        assert np.isfinite(run.run_epoch().losses).all()
    other = dataclasses.replace(preset, agent=dataclasses.replace(preset.agent, discount=0.5))
    changed = TrainingRun(read_npz(OLD / "episodes.npz"), other)
    with pytest.raises(CheckpointError, match=r"agent\.discount = 0\.99 \(now 0\.5\)"):
        resume(folder, changed)


def test_a_policy_of_version_0_1_0_is_what_it_was():
    """Its values at the first two observations, as that version gave them."""
    observations = read_npz(OLD / "episodes.npz").observations[:2]
    for name, expected in (
        ("preset-cartpole-ddqnbcq", [[-0.12572376, -0.02247533], [-0.04844979, -0.0800819]]),
        ("preset-cartpole-iql", [[0.05954033, 0.11638382], [-0.18689577, 0.06629658]]),
    ):
        policy = load_policy(OLD / name, "latest", observation_size=4, n_actions=2)
        np.testing.assert_allclose(policy.q_array(observations), expected, atol=1e-5)


def test_an_online_checkpoint_of_version_0_1_0_is_resumed():
    values = {
        "agent.hidden_sizes": [8], "agent.members": 1, "online.heatup_steps": 40, "online.replay_size": 60,
        "online.steps": 300, "agent.batch_size": 16, "online.evaluate_every_episodes": 2,
        "online.evaluation_episodes": 1,
    }  # fmt: skip
    asked = load_preset(PRESETS / "preset-cartpole-dqn.yaml", OnlinePreset, values)
    preset, _ = as_begun(asked, OLD / "preset-cartpole-dqn")
    run = OnlineRun(preset)
    resume(OLD / "preset-cartpole-dqn", run)
    assert run.learner.updates == 3
    run.run_episode()


def test_a_key_that_a_checkpoint_lacks_has_its_default(tmp_path):
    """As if a key had been new since the checkpoint was written."""
    folder = tmp_path / "checkpoint"
    episodes = a_log_that_never_takes_action_2()
    run, _ = trained(episodes, **{"training.epochs": 1})
    CheckpointFolder(folder, run, keep=1).save(0.0, "")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["version"] == 2
    metadata["preset"]["agent"].pop("double_q")
    metadata["preset"]["agent"]["a_key_of_a_newer_version"] = 1
    (folder / "metadata.json").write_text(json.dumps(metadata))
    preset, adopted = as_begun(run.preset, folder)
    assert adopted == []
    resume(folder, TrainingRun(episodes, preset))
    other = dataclasses.replace(preset, agent=dataclasses.replace(preset.agent, double_q=False))
    changed = TrainingRun(episodes, other)
    with pytest.raises(CheckpointError, match=r"agent\.double_q = True \(now False\)"):
        resume(folder, changed)


def test_a_run_goes_on_by_the_estimate_that_named_its_best_checkpoint(tmp_path):
    """It is decided once, where the preset leaves it open: a run that began with WIS, once the default, keeps it."""
    folder, episodes = tmp_path / "checkpoint", a_log_that_never_takes_action_2()
    run, _ = trained(episodes, **{"training.epochs": 1})
    CheckpointFolder(folder, run, keep=1).save(0.0, "")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert (run.preset.training.best_by, metadata["preset"]["training"]["best_by"]) == (None, "WDR")
    assert as_begun(run.preset, folder) == (run.preset, [])
    resume(folder, TrainingRun(episodes, run.preset))
    metadata["preset"]["training"]["best_by"] = "WIS"
    (folder / "metadata.json").write_text(json.dumps(metadata))
    preset, adopted = as_begun(run.preset, folder)
    assert (preset.best_by, adopted) == ("WIS", ["training.best_by=WIS"])
    resume(folder, TrainingRun(episodes, preset))
    named = dataclasses.replace(run.preset, training=dataclasses.replace(run.preset.training, best_by="DM"))
    assert as_begun(named, folder) == (named, [])
    with pytest.raises(CheckpointError, match=r"training\.best_by = WIS \(now DM\)"):
        resume(folder, TrainingRun(episodes, named))


def test_the_best_checkpoint_is_that_of_the_highest_wdr_where_there_is_one():
    path = PRESETS / "preset-cartpole-ddqnbcq.yaml"
    assert load_preset(path, TrainingPreset, {}).best_by == "WDR"
    assert load_preset(path, TrainingPreset, {"ope.estimators": ["PDIS"]}).best_by == "WIS"
    assert load_preset(path, TrainingPreset, {"training.best_by": "WIS"}).best_by == "WIS"
