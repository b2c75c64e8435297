"""The policy that the bundled training exports: ``model.json`` and the file it names, without any code of the user.

What is exported holds everything from raw features to the probabilities of the policy that was scored, the support of
the log included, so that nothing of the library that trained it is needed here, and no torch where there are
arrays of its weights.
"""

import json
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_server.errors import RequestError, ServingError
from model_server.formats import PolicyPrediction
from model_server.settings import POLICY_CHOICES

DESCRIPTION_FILE_NAME = "model.json"
ARRAYS_VERSION = 1
# As batch_rl.acting.policies rounds: a network's last digits change with the number of rows computed together.
PROBABILITY_DECIMALS = 9
ROWS_AT_ONCE = 2048  # what they make on the way stays in a processor's cache; of a large ensemble 20 MiB
WARM_UP_ROUNDS = 3  # TorchScript optimises what it has seen run

Program = Callable[[NDArray[np.float32]], NDArray[Any]]


class ServedPolicy:
    """Action probabilities for raw observations.

    Args:
        program: observations (rows, observation_size) float32 -> probabilities (rows, n_actions).
    """

    def __init__(self, program: Program, observation_size: int, n_actions: int) -> None:
        self.observation_size, self.n_actions = observation_size, n_actions
        self._program = program

    def __call__(self, observations: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return probabilities, (rows, n_actions); a row is NaN where the model has no answer."""
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold has no answer
            inputs = np.ascontiguousarray(observations, dtype=np.float32)
            if len(inputs) <= ROWS_AT_ONCE:
                probabilities = self._program(inputs).astype(np.float64)
            else:
                starts = range(0, len(inputs), ROWS_AT_ONCE)
                parts = [self._program(inputs[start : start + ROWS_AT_ONCE]) for start in starts]
                probabilities = np.concatenate(parts).astype(np.float64)
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            rounded: NDArray[np.float64] = probabilities.round(PROBABILITY_DECIMALS)
        return rounded


def has_exported_policy(folder: Path) -> bool:
    """Return whether a model folder holds what the bundled training exports."""
    return (folder / DESCRIPTION_FILE_NAME).is_file()


def preload(folder: Path) -> None:
    """Import what ``load_policy`` will need, so that processes forked afterwards share it."""
    description = _read_description(folder)
    if _arrays_path(folder, description) is None and {"torchscript", "torch_export"} & set(description["files"]):
        import torch  # noqa: F401


def load_policy(folder: Path) -> ServedPolicy:
    """Load the exported policy.

    Raises:
        ServingError: the folder does not hold one that can be run here.
    """
    description = _read_description(folder)
    sizes = int(description["input"]["shape"][1]), int(description["output"]["shape"][1])
    arrays_path = _arrays_path(folder, description)
    if arrays_path is not None:
        return ServedPolicy(_load_arrays(arrays_path), *sizes)
    for name, loader in _LOADERS.items():
        if name in description["files"]:
            path = folder / Path(str(description["files"][name])).name
            if not path.is_file():
                raise ServingError(f"{folder / DESCRIPTION_FILE_NAME} names {path.name}, which is not in the folder.")
            policy = ServedPolicy(loader(path), *sizes)
            for rows in [1, 2] * WARM_UP_ROUNDS:
                policy(np.zeros((rows, policy.observation_size)))
            return policy
    raise ServingError(
        f"{folder / DESCRIPTION_FILE_NAME} lists {', '.join(description['files']) or 'no model'}; "
        f"this server runs: {', '.join(_LOADERS)}."
    )


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE_NAME
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if "files" not in description:
            description["files"] = {description["format"]: description["file"]}  # an older model names one
        if not isinstance(description["files"], dict):
            raise TypeError("files is no object")
        int(description["input"]["shape"][1]), int(description["output"]["shape"][1])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ServingError(
            f"{path} does not describe a model of train.py ({type(error).__name__}: {error}). "
            "A model of another kind needs an inference.py beside it, with a model_fn."
        ) from error
    return dict(description)


def _arrays_path(folder: Path, description: dict[str, Any]) -> Path | None:
    """Return the file of the weights, where there is one that this server can compute with."""
    arrays = description.get("arrays")
    if not isinstance(arrays, dict) or arrays.get("version") != ARRAYS_VERSION:
        return None
    path = folder / Path(str(arrays.get("file"))).name
    return path if path.is_file() else None


def _load_arrays(path: Path) -> Program:
    """Return the policy computed by numpy: no torch to import, and for few records a fraction of its time."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        layers, support = _layers(arrays, "layer"), _layers(arrays, "support_layer")
        mean, scale, temperature = arrays["mean"], arrays["scale"], np.float32(arrays["temperature"])
        logged = arrays["logged"] if support else np.zeros(0, dtype=bool)
        threshold, absolute_threshold = arrays["thresholds"].astype(np.float32) if support else np.zeros(2, np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ServingError(f"{path} does not hold a policy's weights ({type(error).__name__}: {error}).") from error

    def run(inputs: NDArray[np.float32]) -> NDArray[Any]:
        standardized = (inputs - mean) / scale
        logits = _forward(layers, standardized) / temperature
        if support:
            behavior = _softmax(np.where(logged, _forward(support, standardized), -np.inf))
            likeliest = behavior.max(axis=1, keepdims=True)
            allowed = (behavior >= threshold * likeliest) & ((behavior >= absolute_threshold) | (behavior == likeliest))
            logits = np.where(allowed, logits, -np.inf)
        return _softmax(logits)

    return run


def _layers(arrays: dict[str, NDArray[Any]], name: str) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return weight and bias of each layer; those of one member without the axis of members."""
    count = sum(key.startswith(f"{name}_") for key in arrays)
    flat = [arrays[f"{name}_{index}"] for index in range(count)]
    flat = [array[0] if len(array) == 1 else array for array in flat]
    return list(zip(flat[0::2], flat[1::2], strict=True))


def _forward(layers: list[tuple[NDArray[Any], NDArray[Any]]], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of what the members put out, (rows, out)."""
    hidden = inputs
    for weight, bias in layers[:-1]:
        hidden = hidden @ weight
        hidden += bias
        np.maximum(hidden, 0, out=hidden)
    weight, bias = layers[-1]
    outputs: NDArray[np.float32] = hidden @ weight + bias
    return outputs.mean(axis=0) if outputs.ndim == 3 else outputs


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _load_torchscript(path: Path) -> Program:
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what serves a row fastest
        model = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    return _torch_program(model)


def _load_torch_export(path: Path) -> Program:
    import torch

    torch.set_num_threads(1)
    return _torch_program(torch.export.load(path).module())


def _torch_program(model: Any) -> Program:
    import torch

    def run(inputs: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            outputs: NDArray[Any] = model(torch.from_numpy(inputs)).numpy()
        return outputs

    return run


def _load_onnx(path: Path) -> Program:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ServingError(
            f"{path.name} needs the package onnxruntime, which is not installed. Add torchscript to training.export, "
            "or name onnxruntime in code/requirements.txt of the model."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[np.float32]) -> NDArray[Any]:
        outputs: NDArray[Any] = session.run(None, {name: inputs})[0]
        return outputs

    return run


_LOADERS: dict[str, Callable[[Path], Program]] = {
    "torchscript": _load_torchscript,
    "torch_export": _load_torch_export,
    "onnx": _load_onnx,
}


def choose_actions(probabilities: NDArray[np.float64], choice: str, generator: np.random.Generator) -> PolicyPrediction:
    """Choose an action for each record, and say with which probabilities.

    Args:
        probabilities: (records, n_actions), of the exported policy.
        choice: ``softmax`` draws by them; ``greedy`` takes the likeliest, and the answer's probabilities are 1 and 0.
    Raises:
        RequestError: the model has no answer for a record.
    """
    if not math.isfinite(probabilities.sum()):
        number = int((~np.isfinite(probabilities).all(axis=1)).argmax()) + 1
        raise RequestError(
            f"record {number}: the model gives no probabilities for these values; one is missing, or out of all range."
        )
    if choice == "greedy":
        actions = probabilities.argmax(axis=1)
        return PolicyPrediction(np.eye(probabilities.shape[1])[actions], actions)
    cumulative = probabilities.cumsum(axis=1)
    # Rounding can end a row beside 1: compare with its own end, so that no action of probability 0 is drawn.
    drawn = generator.random(len(probabilities)) * cumulative[:, -1]
    return PolicyPrediction(probabilities, (drawn[:, None] >= cumulative[:, :-1]).sum(axis=1))


def read_attributes(text: str, default_choice: str) -> tuple[str, int | None]:
    """Return what the custom attributes of a request ask for: ``policy=greedy`` or ``softmax``, ``seed=N``.

    Other attributes are the application's own.

    Raises:
        RequestError: one of the two has no usable value.
    """
    choice, seed = default_choice, None
    if not text:
        return choice, seed
    for part in text.replace(";", ",").split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if key == "policy":
            if value not in POLICY_CHOICES:
                raise RequestError(f"custom attribute policy={value}: use one of: {', '.join(POLICY_CHOICES)}.")
            choice = value
        elif key == "seed":
            if not value.isdecimal() or not value.isascii():
                raise RequestError(f"custom attribute seed={value}: not a whole number from 0.")
            seed = int(value)
    return choice, seed
