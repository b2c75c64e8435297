"""Targets and losses that rules share. Each loss comes with its derivative; tests hold it against autograd."""

import torch
from torch import Tensor


def double_q_targets(
    online: Tensor, target: Tensor, forbidden: Tensor, rewards: Tensor, going_on: Tensor, temperature: float = 0.0
) -> Tensor:
    """Return r + discount * Q_target(s', a'), a' = the allowed action of highest Q_online; r at the end.

    Above temperature 0 it is the mean of Q_target, weighted by softmax(Q_online / temperature): differences between
    actions that are small beside the temperature, and so mostly noise, are then averaged and not maximised.

    Args:
        online, target: (..., n_actions), values of the next observation.
        forbidden: (..., n_actions) bool, not all of a row.
        rewards: (...).
        going_on: (...), the discount, or 0 at the end.
    Source: Song, Parr, Carin, "Revisiting the Softmax Bellman Operator: New Benefits and New Perspective", ICML 2019.
    """
    choosing = online.masked_fill(forbidden, -torch.inf)
    if temperature > 0:
        following = ((choosing / temperature).softmax(dim=-1) * target).sum(dim=-1)
    else:
        following = target.gather(-1, choosing.argmax(dim=-1, keepdim=True)).squeeze(-1)
    return rewards + going_on * following


def squared_error(errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared errors, and the derivative."""
    return errors.square(), errors + errors  # adding takes half as long as multiplying by a number, and is the same


def huber_loss(errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return half the square of errors below 1, what goes on as a straight line above, and the derivative."""
    slope = errors.clamp(-1, 1)
    return slope * (errors - slope / 2), slope


def negative_log_likelihood(values: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log softmax(values) at the logged actions, what bc minimises and cql's penalty, and the derivative.

    Args:
        values: (..., n_actions).
        actions: (...).
    Returns:
        (...) and (..., n_actions).
    """
    at = actions.unsqueeze(-1)
    normalizer = values.logsumexp(dim=-1, keepdim=True)
    slope = (values - normalizer).exp_().scatter_add_(-1, at, -torch.ones_like(normalizer))
    return (normalizer - values.gather(-1, at)).squeeze(-1), slope


def expectile_loss(errors: Tensor, expectile: float) -> tuple[Tensor, Tensor]:
    """Return squared errors, weighted by ``expectile`` where positive and else by the rest to 1, and the derivative."""
    weighted = torch.where(errors > 0, expectile, 1 - expectile) * errors
    return weighted * errors, 2 * weighted


def quantile_loss(quantiles: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the quantile Huber loss of a distribution against samples of another, and the derivative.

    Args:
        quantiles: (..., count), of the levels (i + 1/2) / count.
        targets: (..., samples), equally likely.
    Returns:
        (...), the sum over quantiles of the mean over samples, and (..., count).
    Source: Dabney, Rowland, Bellemare, Munos, "Distributional Reinforcement Learning with Quantile Regression",
    AAAI 2018, equation 10, with kappa 1.
    """
    count = quantiles.shape[-1]
    levels = (torch.arange(count, device=quantiles.device) + 0.5).to(quantiles.dtype) / count
    errors = targets.unsqueeze(-2) - quantiles.unsqueeze(-1)  # (..., count, samples)
    weights = (levels.unsqueeze(-1) - (errors < 0).to(quantiles.dtype)).abs()
    losses, slopes = huber_loss(errors)
    return (weights * losses).mean(dim=-1).sum(dim=-1), -(weights * slopes).mean(dim=-1)
