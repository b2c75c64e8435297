"""Fitted Q evaluation with an interval from refitted networks: each network learns from a resample of the log.

An estimate by a model is as uncertain as the model. So the episodes are drawn anew, with replacement, and everything
is fitted again to every draw: the spread of the answers holds the log's variation and the regression's own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError
from batch_rl.networks import mean_and_scale, seeded_generator
from batch_rl.ope.bounds import possible_returns
from batch_rl.ope.fitted_q import LoggedSteps, QRegression
from batch_rl.ope.intervals import Interval, student_t_quantile
from batch_rl.ope.steps import Floats, Integers

REFITS = 16
UPDATES = 600
HIDDEN_SIZES = (32, 32)
METHOD = "refitted"
# Rewards are scaled so that returns from logged rows have this root mean square: the step sizes below are made for it.
TYPICAL_RETURN = 2.0
FIRST_STEP_SIZE, LAST_STEP_SIZE = 1e-2, 2e-4
_PURPOSE = 20  # of the generators; training's own count from 0
_ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Refits:
    """A policy's value by networks that were each fitted to a resample of the episodes.

    Args:
        replicates: (refits,) the policy's value by each network, over the first observations of its resample.
        logged: (refits,) mean discounted return of each resample, without what would have followed truncated ones.
        q_hat: (rows, n_actions), the mean of the networks whose resample lacks the row's episode.
        values_after: (rows,), what followed each truncated episode is worth by the same networks, on its last row,
            and 0 elsewhere; None where no episode is truncated, or what one of them led to is not known.
        bounds: what no policy's value can leave.
    """

    replicates: Floats
    logged: Floats
    q_hat: Floats = field(repr=False)
    values_after: Floats | None = field(repr=False)
    bounds: tuple[float, float]


def refit_values(
    episodes: Episodes,
    policy: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    *,
    discount: float,
    seed: int,
    refits: int = REFITS,
    updates: int = UPDATES,
) -> Refits:
    """Evaluate a policy by networks that are each fitted to a resample of the episodes.

    The same seed draws the same episodes, first weights and batches for every policy, so that differences between
    policies can be compared.

    Args:
        episodes: at least two.
        policy: observations (some, obs_dim) -> probabilities (some, n_actions).
        discount: in [0, 1], per step.
        refits: networks.
        updates: gradient updates of every network.
    Raises:
        DatasetError: there is a single episode, or nothing to learn from in one of the resamples.
        TrainingError: the values diverged.
    Source: Hao et al., "Bootstrapping Fitted Q-Evaluation for Off-Policy Inference", ICML 2021.
    """
    return _refit(episodes, episodes.actions, policy, discount, seed, refits, updates)


def refit_logged_value(
    episodes: Episodes, *, discount: float, seed: int, refits: int = REFITS, updates: int = UPDATES
) -> Refits:
    """Evaluate the policy that logged in the same way, with what would have followed truncated episodes.

    Its networks learn values of observations alone, from what came next in the log. The resamples are those of
    ``refit_values`` with the same seed.
    """
    none = np.zeros_like(episodes.actions)
    return _refit(episodes, none, lambda some: np.ones((len(some), 1)), discount, seed, refits, updates)


def resampled_means(values: Floats, *, refits: int, seed: int) -> Floats:
    """Return the mean of each resample of the episodes, (refits,), of one number each: those of ``refit_values``."""
    if len(values) == 1:
        return np.full(refits, values[0])
    means: Floats = (_resamples(len(values), refits, seed) * values).sum(axis=1) / len(values)
    return means


def refitted_interval(
    replicates: Floats, *, level: float, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Return Student's interval around the mean of the refits, cut at ``bounds``.

    One refit varies as the log does, and by its network's first weights and batches besides; the mean of all varies
    less, so that the interval is wider than it had to be.
    """
    n = len(replicates)
    radius = student_t_quantile((1 + level) / 2, n - 1) * float(replicates.std(ddof=1)) * math.sqrt(1 + 1 / n)
    mean = float(replicates.mean())
    lower, upper = (min(max(end, bounds[0]), bounds[1]) for end in (mean - radius, mean + radius))
    return Interval(lower, upper, level, METHOD)


class _Resampled(QRegression):
    """Networks that each draw their batches from the rows of a resample.

    Args:
        rows: of all members, one member after the other.
        counts: (members,) how many of them are each one's.
    """

    def __init__(
        self,
        steps: LoggedSteps,
        rows: Tensor,
        counts: Tensor,
        *,
        n_actions: int,
        discount: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            steps,
            members=len(counts),
            n_actions=n_actions,
            discount=discount,
            hidden_sizes=HIDDEN_SIZES,
            generator=generator,
        )
        self._rows, self._counts = rows, counts[:, None]
        self._starts = (torch.cumsum(counts, 0) - counts)[:, None]

    def begin_at(self, value: float) -> None:
        """Make every network say about this before its first update: values of 0 take long to leave."""
        self._parameters[-1].add_(value)

    @torch.inference_mode()
    def fit(self, probabilities: Tensor, updates: int) -> None:
        """Learn the values of the policy that has these probabilities at every input, (n, n_actions)."""
        members = len(self._counts)

        def draw(count: int) -> Tensor:
            places = torch.rand((members, count), generator=self._generator, dtype=torch.float64) * self._counts
            return self._rows[places.long() + self._starts]

        fall = (LAST_STEP_SIZE - FIRST_STEP_SIZE) / updates
        self._train(draw, lambda rows: probabilities[rows], updates, lambda number: FIRST_STEP_SIZE + fall * number)

    def state_values(self, inputs: Tensor, probabilities: Tensor) -> Floats:
        """Return every member's value of the policy at standardised inputs, (members, rows)."""
        values: Floats = (self._outputs(inputs) * probabilities.double().numpy()).sum(axis=-1)
        return values

    def mean_outputs(self, inputs: Tensor, shares: Floats) -> Floats:
        """Return each row's mean over members by its shares, (members, rows), as action values, (rows, n_actions)."""
        parts = []
        for start in range(0, len(inputs), _ROWS_AT_ONCE):
            chunk = slice(start, start + _ROWS_AT_ONCE)
            parts.append(np.einsum("mra,mr->ra", self._outputs(inputs[chunk]), shares[:, chunk]))
        return np.concatenate(parts)


def _refit(
    episodes: Episodes,
    actions: Integers,
    policy: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    discount: float,
    seed: int,
    refits: int,
    updates: int,
) -> Refits:
    draws = _resamples(len(episodes), refits, seed)
    next_rows, led_to, learned = episodes.next_rows()
    observations = np.concatenate([episodes.observations, led_to])
    mean, scale = mean_and_scale(observations)
    inputs = (torch.from_numpy(observations) - mean) / scale
    probabilities = torch.from_numpy(policy(observations))
    episode_of_row = np.repeat(np.arange(len(episodes)), episodes.lengths)
    rows = [np.repeat(learned, drawn[episode_of_row[learned]]) for drawn in draws]
    if not all(map(len, rows)):
        raise DatasetError(
            "a resample of the episodes holds no step that says what it led to: nearly all are the last of truncated "
            "episodes. Log more episodes, or what their last steps led to."
        )
    returns_from_rows = _returns_from_rows(episodes, discount)
    unit = TYPICAL_RETURN / (float(np.sqrt(np.square(returns_from_rows).mean())) or 1.0)
    steps = LoggedSteps(
        inputs=inputs,
        actions=torch.from_numpy(actions),
        rewards=torch.from_numpy(episodes.rewards * unit).float(),
        terminated=torch.from_numpy(episodes.ends & np.repeat(episodes.terminated, episodes.lengths)),
        next_rows=torch.from_numpy(next_rows),
    )
    regression = _Resampled(
        steps,
        torch.from_numpy(np.concatenate(rows)),
        torch.tensor([len(drawn) for drawn in rows]),
        n_actions=probabilities.shape[1],
        discount=discount,
        generator=seeded_generator(seed, _PURPOSE),
    )
    regression.begin_at(float(returns_from_rows.mean()) * unit)
    regression.fit(probabilities.float(), updates)
    cut_off = bool(episodes.truncated.any())
    bounds = possible_returns(episodes.rewards, episodes.lengths, discount, truncated=cut_off)
    starts = torch.from_numpy(episodes.starts)
    first_values = (regression.state_values(inputs[starts], probabilities[starts]) / unit).clip(*bounds)
    # Every network is read only where its resample lacks the episode: it would know that episode's errors.
    unseen = (draws == 0) / (draws == 0).sum(axis=0)
    q_hat = regression.mean_outputs(inputs[: len(episodes.actions)], unseen[:, episode_of_row]) / unit
    after = None
    if len(led_to) and len(led_to) == episodes.truncated.sum():
        behind = slice(len(episodes.actions), None)
        cut = np.flatnonzero(episodes.truncated)
        values = (regression.state_values(inputs[behind], probabilities[behind]) * unseen[:, cut]).sum(axis=0) / unit
        after = np.zeros(len(episodes.actions))
        after[(episodes.starts + episodes.lengths - 1)[cut]] = values
    returns = episodes.returns(discount)
    return Refits(
        replicates=(first_values * draws).sum(axis=1) / len(episodes),
        logged=(draws * returns).sum(axis=1) / len(episodes),
        q_hat=q_hat,
        values_after=after,
        bounds=bounds,
    )


def _resamples(n: int, refits: int, seed: int) -> Integers:
    """Return how often every resample holds each of n episodes, (refits, n); no episode is in all of them."""
    if n == 1:
        raise DatasetError(
            "a single episode cannot both be judged and have the values fitted that some estimators need. "
            "Log more episodes, or leave FQE, DM, sequential DR, WDR and MAGIC out."
        )
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PURPOSE,)))
    draws = generator.multinomial(n, np.full(n, 1 / n), size=refits)
    for number in np.flatnonzero((draws > 0).all(axis=0)):
        resample = int((draws > 0).sum(axis=1).argmax())
        taken, draws[resample, number] = int(draws[resample, number]), 0
        # To one that the resample holds already, so that no other episode gets into all of them.
        draws[resample, int(draws[resample].argmax()) if draws[resample].any() else (number + 1) % n] += taken
    return draws


def _returns_from_rows(episodes: Episodes, discount: float) -> Floats:
    """Return the discounted sum of the logged rewards from every row on, (rows,)."""
    returns = np.empty(len(episodes.rewards))
    order = np.argsort(-episodes.lengths, kind="stable")
    ends, lengths = (episodes.starts + episodes.lengths)[order], episodes.lengths[order]
    value = np.zeros(len(episodes))
    for back in range(1, int(lengths[0]) + 1):
        running = int(np.searchsorted(-lengths, -back, side="right"))
        rows = ends[:running] - back
        value[:running] = episodes.rewards[rows] + discount * value[:running]
        returns[rows] = value[:running]
    return returns
