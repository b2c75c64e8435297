"""How much likelier a policy makes the logged actions than the policy that took them."""

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError


def importance_ratios(episodes: Episodes, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pi_e(a|s) / propensity of every logged step, (rows,).

    Args:
        target: the evaluated policy's probabilities at the logged observations, (rows, n_actions).
    Raises:
        DatasetError: a propensity is not in (0, 1], or ``target`` has another shape or rows that do not
            sum to 1.
    """
    if target.shape != episodes.probabilities.shape:
        raise DatasetError(f"target probabilities have shape {target.shape}, not {episodes.probabilities.shape}.")
    if not ((target >= 0).all() and np.allclose(target.sum(axis=1), 1, rtol=0, atol=1e-6)):
        raise DatasetError("target probabilities must be at least 0 and sum to 1 in every row.")
    propensities = episodes.propensities
    if not ((propensities > 0) & (propensities <= 1)).all():
        row = int(np.argmin((propensities > 0) & (propensities <= 1)))
        raise DatasetError(f"row {row}: the propensity is {propensities[row]}; it must be in (0, 1].")
    ratios: NDArray[np.float64] = np.take_along_axis(target, episodes.actions[:, None], axis=1)[:, 0] / propensities
    return ratios
