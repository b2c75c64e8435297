"""The servable model: TorchScript from raw features to action probabilities, with a description beside it."""

import json
from pathlib import Path

import torch

from batch_rl.errors import BatchRLError
from batch_rl.files import write_atomically, write_text_atomically
from batch_rl.networks import PolicyNetwork

MODEL_FILE_NAME = "model.pt"
DESCRIPTION_FILE_NAME = "model.json"
CHECK_ROWS = 100
TOLERANCE = 1e-6


class ExportError(BatchRLError):
    """The exported model does not compute what the trained one does."""


def export_policy(policy: PolicyNetwork, folder: Path) -> Path:
    """Write ``model.pt`` and ``model.json`` and return the former, after checking it against ``policy``.

    The model takes (batch, obs_dim) float32 features as the environment gives them, and returns (batch,
    n_actions) probabilities, softmax(Q / temperature).

    Raises:
        ExportError: on random inputs the written file and ``policy`` differ.
    """
    features = policy.observation_size
    inputs = policy.random_inputs(CHECK_ROWS, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = policy(inputs)
        traced = torch.jit.freeze(torch.jit.trace(policy.eval(), inputs))  # type: ignore[no-untyped-call]
    path = folder / MODEL_FILE_NAME
    write_atomically(path, lambda temporary: torch.jit.save(traced, str(temporary)))
    loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        worst = max(
            float((loaded(inputs) - expected).abs().max()),
            float((loaded(inputs[:1]) - expected[:1]).abs().max()),  # another batch size than the traced one
        )
    if not worst <= TOLERANCE:
        path.unlink()
        raise ExportError(f"{path}: differs from the trained network by {worst:.3g} on random inputs.")
    description = {
        "format": "torchscript",
        "file": MODEL_FILE_NAME,
        "input": {"name": "observation", "shape": ["batch", features], "dtype": "float32"},
        "output": {
            "name": "policy",
            "shape": ["batch", expected.shape[1]],
            "meaning": "action probabilities",
        },
        "temperature": policy.temperature,
        "networks": policy.members,
    }
    write_text_atomically(folder / DESCRIPTION_FILE_NAME, json.dumps(description, indent=2) + "\n")
    return path
