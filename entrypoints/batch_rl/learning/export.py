"""The servable model, from raw features to action probabilities, in one or more formats with a description beside it.

TorchScript is the default, although torch has deprecated it: a program loads it without this library, serves a row
three times as fast as it would a ``torch.export`` program, and writing it does not load torch's compiler, which
delays a job by most of a second. The others are there for when torch drops it, and for programs without torch.
"""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.errors import BatchRLError, install_command
from batch_rl.files import write_atomically, write_text_atomically
from batch_rl.learning.support import ImitationSupport
from batch_rl.networks import PolicyNetwork

DESCRIPTION_FILE_NAME = "model.json"
ARRAYS_FILE_NAME, ARRAYS_VERSION = "model.npz", 1
INPUT, OUTPUT = "observation", "policy"
CHECK_ROWS = 100
TOLERANCE = 1e-5  # of a probability, for each unit of the largest logit: rounding errors grow with the logits


class ExportError(BatchRLError):
    """A model cannot be exported, or does not compute what the trained one does."""


@dataclass(frozen=True)
class _Format:
    file_name: str
    write: Callable[[PolicyNetwork, Tensor, Path], object]
    load: Callable[[Path], Callable[[Tensor], Tensor]]


def _write_torchscript(policy: PolicyNetwork, inputs: Tensor, path: Path) -> None:
    traced = torch.jit.freeze(torch.jit.trace(policy, inputs))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(path))


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    model: Callable[[Tensor], Tensor] = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return model


def _program(policy: PolicyNetwork, inputs: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(policy, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _write_torch_export(policy: PolicyNetwork, inputs: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # by name, torch asks for the ending .pt2
        torch.export.save(_program(policy, inputs), file)


def _load_torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    model: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return model


def require_onnx() -> None:
    """Find out before training whether ONNX can be written.

    Raises:
        ExportError: its packages are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(
            f"training.export has onnx, and the package {error.name} is not installed. As a process: "
            f"{install_command('onnx')}; or leave onnx out."
        ) from error


def _write_onnx(policy: PolicyNetwork, inputs: Tensor, path: Path) -> None:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of operators of packages that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.onnx uses what torch has deprecated
            program = torch.onnx.export(
                _program(policy, inputs), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise ExportError("torch exported no ONNX program.")
    path.write_bytes(program.model_proto.SerializeToString())


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Return the model as ONNX's own reference implementation runs it: slow, and no further dependency."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))

    def run(inputs: Tensor) -> Tensor:
        outputs: Any = evaluator.run(None, {INPUT: inputs.numpy()})
        return torch.from_numpy(outputs[0])

    return run


FORMATS = {
    "torchscript": _Format("model.pt", _write_torchscript, _load_torchscript),
    "torch_export": _Format("model.pt2", _write_torch_export, _load_torch_export),
    "onnx": _Format("model.onnx", _write_onnx, _load_onnx),
}


def export_policy(
    policy: PolicyNetwork,
    folder: Path,
    formats: Sequence[str] = ("torchscript",),
    *,
    action_names: Sequence[str] = (),
) -> list[Path]:
    """Write a model file in each of ``formats``, the weights as arrays, and ``model.json``; return the first.

    The model takes (batch, obs_dim) float32 features as the environment gives them, and returns (batch,
    n_actions) probabilities, softmax(Q / temperature) among the actions that the policy may play. The arrays are for
    the model server, which then needs no torch; a policy that is more than layers has none.

    Args:
        formats: of ``FORMATS``, at least one; the first is the one that ``model.json`` names as the model.
        action_names: of the columns of what the model returns, for ``model.json``; none where they have only numbers.
    Raises:
        ExportError: on random inputs a written file and ``policy`` differ, or a format's packages are missing.
    """
    policy = policy.cpu().eval()
    inputs = policy.random_inputs(CHECK_ROWS, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = policy(inputs)
        logits = policy.logits(inputs)
        largest = float(logits[logits.isfinite()].abs().max())
        tolerance = TOLERANCE * max(1.0, largest)
        paths = [_export(policy, inputs, expected, tolerance, folder, FORMATS[name]) for name in formats]
    arrays = policy_arrays(policy)
    if arrays is not None:
        write_atomically(folder / ARRAYS_FILE_NAME, lambda temporary: _write_arrays(temporary, arrays))
    description = {
        "format": formats[0],
        "file": paths[0].name,
        "files": {name: path.name for name, path in zip(formats, paths, strict=True)},
        "input": {"name": INPUT, "shape": ["batch", inputs.shape[1]], "dtype": "float32"},
        "output": {
            "name": OUTPUT,
            "shape": ["batch", expected.shape[1]],
            "meaning": "action probabilities",
            **({"actions": list(action_names)} if action_names else {}),
        },
        "temperature": policy.temperature,
        "networks": policy.members,
        **({} if arrays is None else {"arrays": {"file": ARRAYS_FILE_NAME, "version": ARRAYS_VERSION}}),
    }
    write_text_atomically(folder / DESCRIPTION_FILE_NAME, json.dumps(description, indent=2) + "\n")
    return paths


def policy_arrays(policy: PolicyNetwork) -> dict[str, NDArray[Any]] | None:
    """Return all that a policy computes with; None where that is more than layers.

    ``mean``, ``scale`` (inputs,); ``temperature``; ``layer_0``, ... a weight (members, in, out) and a bias (members, 1,
    out) by turns. Of a support by imitation ``support_layer_0``, ..., ``logged`` (n_actions,) and two ``thresholds``.
    """
    support = policy.support
    if type(policy) is not PolicyNetwork or policy.preprocessor is not None:
        return None
    if support is not None and type(support) is not ImitationSupport:
        return None
    arrays: dict[str, Any] = {"mean": policy.mean, "scale": policy.scale, "temperature": policy.temperature}
    arrays |= _layers("layer", policy)
    if isinstance(support, ImitationSupport):
        thresholds = [support.threshold, support.absolute_threshold]
        arrays |= _layers("support_layer", support) | {"logged": support.logged, "thresholds": thresholds}
    return {name: np.asarray(value) for name, value in arrays.items()}


def _layers(name: str, module: torch.nn.Module) -> dict[str, Tensor]:
    prefix = "parameter_"
    return {
        f"{name}_{key.removeprefix(prefix)}": value
        for key, value in module.named_buffers(recurse=False)
        if key.startswith(prefix)
    }


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:  # by name, numpy asks for the ending .npz
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _export(
    policy: PolicyNetwork, inputs: Tensor, expected: Tensor, tolerance: float, folder: Path, chosen: _Format
) -> Path:
    path = folder / chosen.file_name
    write_atomically(path, lambda temporary: chosen.write(policy, inputs, temporary))
    loaded = chosen.load(path)
    worst = max(
        float((loaded(inputs) - expected).abs().max()),
        float((loaded(inputs[:1]) - expected[:1]).abs().max()),  # another batch size than the traced one
    )
    if not worst <= tolerance:
        path.unlink()
        raise ExportError(f"{path}: differs from the trained network by {worst:.3g} on random inputs.")
    return path
