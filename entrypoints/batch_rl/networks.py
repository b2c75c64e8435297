"""Small networks side by side: an ensemble is one stack of weights, and one product serves all members."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import TrainingError

Parameters = list[Tensor]  # weight (members, in, out), bias (members, 1, out), of layer after layer


def use_threads(count: int) -> None:
    """Fix the number of threads: the order of additions, and so the last digits, depends on it."""
    torch.set_num_threads(count)


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return the device for ``cpu``, ``cuda`` or ``auto``, and a few words that name it and say why.

    Raises:
        TrainingError: ``cuda`` is asked for and there is none.
    """
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda"), f"cuda ({torch.cuda.get_device_name()})"
    if name == "cpu":
        return torch.device("cpu"), "cpu"
    reason = "this build of torch has none" if torch.version.cuda is None else "torch finds no device"
    if name == "cuda":
        raise TrainingError(f"training.device is cuda: {reason}. Use cpu, or auto to take what there is.")
    return torch.device("cpu"), f"cpu (no cuda: {reason})"


def seeded_generator(seed: int, purpose: int) -> torch.Generator:
    """Return a generator for one purpose of a run, independent of those for the others."""
    state = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def initial_parameters(sizes: Sequence[int], members: int, generator: torch.Generator) -> Parameters:
    """Draw weights (Glorot, uniform) and zero biases; ``sizes`` includes input and output."""
    parameters = []
    for inputs, outputs in itertools.pairwise(sizes):
        bound = math.sqrt(6 / (inputs + outputs))
        weight = torch.rand((members, inputs, outputs), generator=generator) * (2 * bound) - bound
        parameters += [weight, torch.zeros((members, 1, outputs))]
    return parameters


def mean_and_scale(features: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Return what makes the mean of each feature 0 and its deviation 1, (features,) each."""
    values = features.astype(np.float64)
    deviation = values.std(axis=0)
    # A feature that never changes is only shifted.
    scale = np.where(deviation > 1e-8 * np.abs(values).max(axis=0), deviation, 1.0)
    return torch.from_numpy(values.mean(axis=0)).float(), torch.from_numpy(scale).float()


def forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Run every member on its inputs: (members, batch, in) -> (members, batch, out); ReLU between."""
    return last_outputs(parameters, last_hidden(parameters, inputs))


def last_hidden(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return what ``forward`` hands to its last layer, (members, batch, units)."""
    return layer_inputs(parameters, inputs)[-1]


def layer_inputs(parameters: Sequence[Tensor], inputs: Tensor) -> list[Tensor]:
    """Return what each layer takes, from ``inputs`` on."""
    taken = [inputs]
    for layer in range(0, len(parameters) - 2, 2):
        taken.append(torch.baddbmm(parameters[layer + 1], taken[-1], parameters[layer]).relu_())
    return taken


def last_outputs(parameters: Sequence[Tensor], hidden: Tensor) -> Tensor:
    """Run the last layer alone on what ``last_hidden`` returns."""
    # The few outputs as rows of the product, not as columns: a matrix product of two columns takes four times as long.
    weight = parameters[-2].transpose(1, 2).contiguous()
    return torch.baddbmm(parameters[-1].transpose(1, 2), weight, hidden.transpose(1, 2)).transpose(1, 2)


def backpropagate(
    parameters: Sequence[Tensor], taken: Sequence[Tensor], gradient: Tensor, into: Sequence[Tensor]
) -> None:
    """Write a loss's gradients into ``into``, tensors of the parameters' shapes.

    Autograd would do the same; for networks this small its bookkeeping takes longer than the arithmetic.

    Args:
        taken: what each layer took, by ``layer_inputs``.
        gradient: with respect to the outputs, (members, batch, out).
    """
    for layer in range(len(parameters) - 2, -1, -2):
        hidden = taken[layer // 2]
        if gradient.shape[-1] < hidden.shape[-1]:  # as in last_outputs
            into[layer].copy_(torch.bmm(gradient.transpose(1, 2), hidden).transpose(1, 2))
        else:
            torch.bmm(hidden.transpose(1, 2), gradient, out=into[layer])
        torch.sum(gradient, dim=1, keepdim=True, out=into[layer + 1])
        if layer:
            gradient = torch.bmm(gradient, parameters[layer].transpose(1, 2))
            # The derivative of ReLU by what it returned: 0 where that is 0.
            gradient = torch.ops.aten.threshold_backward.default(gradient, hidden, 0)


def joined(parameters: Sequence[Tensor]) -> tuple[Tensor, Parameters]:
    """Return one long copy of all parameters, and views of it in their shapes."""
    whole = torch.cat([parameter.reshape(-1) for parameter in parameters])
    return whole, parted(whole, parameters)


def parted(whole: Tensor, like: Sequence[Tensor]) -> Parameters:
    """Return views of ``whole``, one after the other, in the shapes of ``like``."""
    parts = torch.split(whole, [parameter.numel() for parameter in like])
    return [part.view(parameter.shape) for part, parameter in zip(parts, like, strict=True)]


class Adam:
    """Adam on one long tensor, with weight decay apart from the gradient (AdamW).

    Making one of ``torch.optim`` imports torch's compiler, which delays every job by most of a second.

    Args:
        weight_decay: in each step the parameters lose this share of themselves, times the step size.
    Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Loshchilov, Hutter, "Decoupled Weight
    Decay Regularization", ICLR 2019.
    """

    def __init__(
        self, parameters: Tensor, *, beta1: float, beta2: float, epsilon: float, weight_decay: float = 0.0
    ) -> None:
        self.beta1, self.beta2, self.epsilon, self.weight_decay = beta1, beta2, epsilon, weight_decay
        self.parameters = parameters
        self.means = torch.zeros_like(parameters)
        self.squares = torch.zeros_like(parameters)
        self.updates = 0
        self._denominators = torch.empty_like(parameters)
        # A tensor of the same type: a number is turned into one for each product, which takes longer than the product.
        self._keep_of_squares = parameters.new_tensor(beta2)

    def step(self, gradients: Tensor, learning_rate: float) -> None:
        """Move the parameters in place."""
        self.updates += 1
        correction = math.sqrt(1 - self.beta2**self.updates)
        step_size = learning_rate * correction / (1 - self.beta1**self.updates)
        self.means.lerp_(gradients, 1 - self.beta1)
        self.squares.mul_(self._keep_of_squares).addcmul_(gradients, gradients, value=1 - self.beta2)
        if self.weight_decay:
            self.parameters.mul_(1 - learning_rate * self.weight_decay)
        torch.sqrt(self.squares, out=self._denominators).add_(self.epsilon * correction)
        self.parameters.addcdiv_(self.means, self._denominators, value=-step_size)


def fit(
    parameters: Parameters,
    inputs: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    epochs: int,
    generator: torch.Generator,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> None:
    """Fit one network in place by shuffled passes, with a step size that falls linearly to 0.

    Args:
        parameters: of a single member.
        inputs: (rows, in).
        loss: (outputs (batch, out), row numbers (batch,)) -> mean loss.
    """
    whole, own = joined(parameters)
    gradients = torch.empty_like(whole)
    parts = parted(gradients, own)
    adam = Adam(whole, beta1=0.9, beta2=0.999, epsilon=1e-8)
    total = epochs * math.ceil(len(inputs) / batch_size)
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for start in range(0, len(inputs), batch_size):
            rows = order[start : start + batch_size]
            taken = layer_inputs(own, inputs[rows][None])
            outputs = last_outputs(own, taken[-1]).requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(outputs[0], rows), outputs)
            backpropagate(own, taken, gradient, parts)
            adam.step(gradients, learning_rate * (1 - adam.updates / total))
    for parameter, fitted in zip(parameters, own, strict=True):
        parameter.copy_(fitted)


class PolicyNetwork(nn.Module):
    """Raw features in, action probabilities out: standardisation, mean Q of all members, supported actions, softmax.

    Rules that have no values, or extract a policy from them, have other scores in place of Q.

    Args:
        parameters: of all members.
        mean, scale: (inputs,); inputs become (features - mean) / scale.
        temperature: probabilities are softmax(Q / temperature).
        preprocessor: turns raw features into those that are standardised; without one they are the same.
        support: standardised inputs -> which actions may be played, (batch, n_actions) bool, at least one of each row;
            without one all may.
        center: what the networks leave out of Q, the same for all actions and observations.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        parameters: Sequence[Tensor],
        mean: Tensor,
        scale: Tensor,
        temperature: float,
        preprocessor: Preprocessor | None = None,
        *,
        support: nn.Module | None = None,
        center: float = 0.0,
    ) -> None:
        super().__init__()
        self.preprocessor, self.support, self.center = preprocessor, support, center
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        for index, parameter in enumerate(parameters):
            self.register_buffer(f"parameter_{index}", parameter.detach().clone())
        self.members = len(parameters[0])
        self.temperature = temperature

    def inputs(self, observations: Tensor) -> Tensor:
        """Return what the networks take, (batch, inputs)."""
        features = observations if self.preprocessor is None else self.preprocessor(observations)
        standardized: Tensor = (features - self.mean) / self.scale
        return standardized

    def _scores(self, inputs: Tensor) -> Tensor:
        parameters = [value for name, value in self.named_buffers() if name.startswith("parameter_")]
        return forward(parameters, inputs.expand(self.members, -1, -1)).mean(dim=0)

    def q_values(self, observations: Tensor) -> Tensor:
        """Return the mean Q of every action, (batch, n_actions), those that are never played too."""
        return self._scores(self.inputs(observations)) + self.center

    def allowed(self, observations: Tensor) -> Tensor:
        """Return which actions may be played, (batch, n_actions) bool."""
        inputs = self.inputs(observations)
        if self.support is None:
            return torch.ones_like(self._scores(inputs), dtype=torch.bool)
        supported: Tensor = self.support(inputs)
        return supported

    def logits(self, observations: Tensor) -> Tensor:
        """Return what the softmax takes, (batch, n_actions): -inf where an action may not be played."""
        inputs = self.inputs(observations)
        logits = self._scores(inputs) / self.temperature
        return logits if self.support is None else logits.masked_fill(~self.support(inputs), -torch.inf)

    def forward(self, observations: Tensor) -> Tensor:
        """Return probabilities, (batch, n_actions), for raw features (batch, obs_dim) float32."""
        return torch.softmax(self.logits(observations), dim=1)

    @property
    def observation_size(self) -> int:
        """Number of raw features."""
        return len(self.mean) if self.preprocessor is None else self.preprocessor.observation_size

    def random_inputs(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return raw features as far from each other as logged ones, and farther, (rows, observation_size)."""
        if self.preprocessor is not None:
            return self.preprocessor.random_inputs(rows, generator)
        return self.mean + 3 * self.scale * torch.randn((rows, len(self.mean)), generator=generator)

    @torch.no_grad()
    def q_array(self, observations: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the Q that decides for arrays, in float64: -inf where an action may not be played."""
        inputs = self.inputs(torch.from_numpy(observations).to(self.mean.device))
        values: NDArray[np.float64] = self._scores(inputs).cpu().numpy().astype(np.float64) + self.center
        if self.support is not None:
            values[~self.support(inputs).cpu().numpy()] = -np.inf
        return values

    @torch.no_grad()
    def values_array(self, observations: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ``q_values`` for arrays, in float64: of every action, those that are never played too."""
        inputs = self.inputs(torch.from_numpy(observations).to(self.mean.device))
        values: NDArray[np.float64] = self._scores(inputs).cpu().numpy().astype(np.float64) + self.center
        return values


def softmax(values: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(values / temperature) along the last axis; 0 where a value is -inf."""
    scaled = values / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities
