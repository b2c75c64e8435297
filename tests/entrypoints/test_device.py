"""Where networks learn: chosen by name, reported, and no part of what is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from batch_rl.data.episodes import Episodes
from batch_rl.errors import TrainingError
from batch_rl.learning.checkpoint import CheckpointFolder, load_policy, resume
from batch_rl.learning.export import export_policy
from batch_rl.learning.training import TrainingRun
from batch_rl.networks import choose_device
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import TrainingPreset

PRESET = Path(__file__).resolve().parents[2] / "presets" / "preset-cartpole-ddqnbcq.yaml"


@pytest.fixture
def _no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("_no_cuda")
def test_auto_takes_what_there_is_and_says_why():
    device, description = choose_device("auto")
    assert device.type == "cpu"
    assert description.startswith("cpu (no cuda: ")
    assert choose_device("cpu") == (torch.device("cpu"), "cpu")


@pytest.mark.usefixtures("_no_cuda")
def test_a_device_that_is_not_there_is_an_error_and_not_a_slower_run():
    with pytest.raises(TrainingError, match=r"training\.device is cuda: .* Use cpu, or auto"):
        choose_device("cuda")


def run_on(device):
    generator = np.random.default_rng(0)
    episodes = Episodes(
        observations=generator.normal(size=(400, 3)).astype(np.float32),
        actions=generator.integers(2, size=400),
        rewards=generator.random(400),
        probabilities=np.full((400, 2), 0.5),
        lengths=np.full(40, 10),
    )
    values = {"training.device": device, "training.epochs": 3, "agent.members": 2, "agent.snapshot_updates": 2}
    return TrainingRun(episodes, load_preset(PRESET, TrainingPreset, values))


@pytest.mark.parametrize(
    "device",
    ["auto", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
def test_a_run_goes_on_on_another_device_and_its_policy_loads_on_any(device, tmp_path):
    """Two epochs there, saved, and the third on the processor: as three epochs on the processor, but for rounding."""
    there, here = run_on(device), run_on("cpu")
    for _ in range(2):
        there.run_epoch()
    CheckpointFolder(tmp_path / "checkpoint", there, keep=1).save(1.0, "")
    resume(tmp_path / "checkpoint", here)
    last = here.run_epoch()
    alone = run_on("cpu")
    expected = [alone.run_epoch() for _ in range(3)][-1]
    np.testing.assert_allclose(last.losses, expected.losses, rtol=1e-3)
    assert last.estimates.wis == pytest.approx(expected.estimates.wis, rel=1e-3)
    policy = load_policy(tmp_path / "checkpoint", "latest", observation_size=3, n_actions=2)
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(policy(inputs), there.policy().cpu()(inputs), rtol=1e-3, atol=1e-4)
    export_policy(there.policy(), tmp_path / "model", ["torch_export"])
