"""Propensities for a log that has none, by a model of the policy that acted: a guess, which every report says."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError
from batch_rl.learning.support import fit_behavior_model
from batch_rl.networks import seeded_generator

PURPOSE = 10  # of the generators; training's own count from 0
FOLDS = 2


@dataclasses.dataclass(frozen=True)
class BehaviorEstimate:
    """How well the model foretells the logged actions of episodes that it has not seen.

    Attributes:
        log_likelihood: mean logarithm of the probability of a logged action.
        frequency_log_likelihood: the same of a model that knows only how often each action was taken.
        least_propensity: the smallest probability of a logged action.
    """

    log_likelihood: float
    frequency_log_likelihood: float
    least_propensity: float

    def __str__(self) -> str:
        worse = self.log_likelihood < self.frequency_log_likelihood - 0.01
        return (
            "propensities are estimated, not logged: every estimate that weighs by them inherits the model's errors. "
            f"Mean log-likelihood of the logged actions {self.log_likelihood:.4f} (of their frequencies alone "
            f"{self.frequency_log_likelihood:.4f}), least propensity {self.least_propensity:.3g}"
            + ("; that is worse than the frequencies alone: raise bcq.imitation_updates" if worse else "")
        )


def estimate_behavior(
    episodes: Episodes, seed: int, *, hidden_sizes: tuple[int, ...], updates: int, epochs: int | None = None
) -> tuple[Episodes, BehaviorEstimate]:
    """Replace the probabilities by those of a network that was fitted to the logged actions.

    Each half of the episodes gets its probabilities from a model of the other half, so that no row is told its
    own action.

    Raises:
        DatasetError: there is only one episode.
    """
    if len(episodes) < FOLDS:
        raise DatasetError("data.behavior_policy=estimate needs at least two episodes.")
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSE,)))
    fold_of_row = np.repeat(generator.permutation(len(episodes)) % FOLDS, episodes.lengths)
    observations = episodes.observations.astype(np.float64)
    deviation = observations.std(axis=0)
    scale = np.where(deviation > 1e-8 * np.abs(observations).max(axis=0), deviation, 1.0)
    inputs = torch.from_numpy(((observations - observations.mean(axis=0)) / scale).astype(np.float32))
    actions = torch.from_numpy(episodes.actions)
    probabilities = np.empty_like(episodes.probabilities)
    frequencies = np.empty_like(episodes.probabilities)
    for fold in range(FOLDS):
        own, other = fold_of_row == fold, fold_of_row != fold
        model = fit_behavior_model(
            inputs[other],
            actions[other],
            episodes.n_actions,
            hidden_sizes=hidden_sizes,
            updates=updates,
            epochs=epochs,
            generator=seeded_generator(seed, PURPOSE + 1 + fold),
        )
        probabilities[own] = _normalized(model(inputs[own]).numpy().astype(np.float64))
        counts = np.bincount(episodes.actions[other], minlength=episodes.n_actions) + 1.0
        frequencies[own] = counts / counts.sum()
    estimated = dataclasses.replace(episodes, probabilities=probabilities)
    by_frequency = dataclasses.replace(episodes, probabilities=frequencies)
    estimate = BehaviorEstimate(
        log_likelihood=float(np.log(estimated.propensities).mean()),
        frequency_log_likelihood=float(np.log(by_frequency.propensities).mean()),
        least_propensity=float(estimated.propensities.min()),
    )
    return estimated, estimate


def _normalized(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """A softmax in float32 can round to 0; no logged action may have that probability."""
    positive = np.maximum(probabilities, 1e-7)
    normalized: NDArray[np.float64] = positive / positive.sum(axis=1, keepdims=True)
    return normalized
