"""MAGIC: a blend of every step at which importance sampling may hand over to the model."""

import math
from dataclasses import dataclass, field

import numpy as np

from batch_rl.ope.doubly_robust import totals_before, wdr_terms
from batch_rl.ope.importance_sampling import defined
from batch_rl.ope.simplex import minimize_on_simplex
from batch_rl.ope.steps import Floats, WeightedSteps

_BLOCK_VALUES = 1 << 22  # of a table that holds some episodes at every step


@dataclass(frozen=True)
class Blend:
    """An estimate and its parts.

    Args:
        value: in discounted reward per episode.
        returns: (longest + 1,) g^(j) for j from -1: weighted rewards up to step j, the model's value after it.
            The first is DM, the last is WDR.
        shares: (longest + 1,) of each in ``value``; at least 0, their sum is 1.
        covariance: Omega, (longest + 1, longest + 1); empty where it is not known.
    """

    value: float
    returns: Floats
    shares: Floats
    covariance: Floats = field(default_factory=lambda: np.empty((0, 0)), repr=False)


def magic(steps: WeightedSteps, *, wdr_interval: tuple[float, float]) -> Blend:
    """Estimate a policy's value by the blend of g^(j) with the least expected squared error (MAGIC).

    The blend x minimises x' (Omega + b b') x. Omega is the sample covariance of the g^(j): n / (n - 1) times
    the sum over episodes of the outer products of their parts' deviations. b is the signed distance of g^(j)
    to an interval around WDR.

    Args:
        steps: with a model.
        wdr_interval: lower and upper end of an interval of WDR, as by ``bootstrap``.
    Returns:
        NaN, with UndefinedEstimateWarning, when all weights of a step are 0.
    Raises:
        DatasetError: there is no model.
    Source: Thomas, Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning",
        ICML 2016.
    """
    longest = len(steps.layout.running)
    if not defined(steps.weights.totals):
        undefined = np.full(longest + 1, math.nan)
        return Blend(math.nan, undefined, undefined)
    corrections, values = wdr_terms(steps)
    returns = blend_returns(corrections, values)
    covariance = _covariance(steps, returns)
    if covariance is None:  # one episode has none
        shares = np.zeros(longest + 1)
        shares[-1] = 1.0
        return Blend(float(returns[-1]), returns, shares)
    shares = minimize_on_simplex(covariance, _bias(returns, *wdr_interval))
    return Blend(float(shares @ returns), returns, shares, covariance)


def blend_again(blend: Blend, returns: Floats, *, wdr_interval: tuple[float, float]) -> Floats:
    """Blend the g^(j) of bootstrap samples, each with shares of its own, (resamples,).

    The interval moves with a sample's WDR; its width, and Omega, are those of the whole log.

    Args:
        blend: of the whole log.
        returns: (longest + 1, resamples).
        wdr_interval: of the whole log.
    """
    values = np.full(returns.shape[1], math.nan)
    if len(blend.covariance) == 0:
        values[:] = returns[-1]
        return values
    below, above = wdr_interval[0] - blend.returns[-1], wdr_interval[1] - blend.returns[-1]
    for number in np.flatnonzero(np.isfinite(returns).all(axis=0)):
        again = returns[:, number]
        bias = _bias(again, again[-1] + below, again[-1] + above)
        values[number] = minimize_on_simplex(blend.covariance, bias) @ again
    return values


def _bias(returns: Floats, lower: float, upper: float) -> Floats:
    """Return the signed distance to an interval."""
    distances: Floats = returns - np.clip(returns, lower, upper)
    return distances


def blend_returns(corrections: Floats, values: Floats) -> Floats:
    """Return g^(j) for j from -1, (longest + 1, ...), from both parts of WDR by step, (longest, ...)."""
    after = np.concatenate([values, np.zeros_like(values[:1])])
    before = np.cumsum(corrections + values, axis=0)
    returns: Floats = after + np.concatenate([np.zeros_like(before[:1]), before])
    return returns


def _covariance(steps: WeightedSteps, returns: Floats) -> Floats | None:
    """Return Omega, (longest + 1, longest + 1), from each episode's part of every g^(j)."""
    n, longest = len(steps), len(steps.layout.running)
    if n == 1:
        return None
    q, v = steps.model
    weights, running = steps.weights, steps.layout.running
    corrections = steps.discounts * (steps.rewards - q) * weights.relative / np.repeat(weights.totals, running)
    values = steps.discounts * v * weights.previous / np.repeat(totals_before(steps), running)
    sums = np.zeros((longest + 1, longest + 1))
    size = max(1, _BLOCK_VALUES // (longest + 1))
    for start in range(0, n, size):
        end = min(start + size, n)
        table = np.zeros((2, longest, end - start))
        for t, block in enumerate(steps.layout.blocks):
            count = min(int(running[t]), end) - start
            if count <= 0:
                break
            rows = slice(block.start + start, block.start + start + count)
            table[0, t, :count] = corrections[rows]
            table[1, t, :count] = values[rows]
        deviations = blend_returns(table[0], table[1]) - returns[:, None] / n
        sums += deviations @ deviations.T
    covariance: Floats = sums * (n / (n - 1))
    return covariance
