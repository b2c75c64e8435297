"""The one quadratic program that MAGIC needs."""

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import BatchRLError

_TOLERANCE = 1e-12


def minimize_on_simplex(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x that minimises x' M x, M = matrix + vector vector', where x >= 0 and its sum is 1.

    For y >= 0, y' M y + (sum(y) - 1)^2 is smallest at a multiple of that x: written as y = s x it is
    s^2 x' M x + (s - 1)^2, and whatever s, a smaller x' M x is better. So this is least squares without
    negative numbers, which an active set solves in finitely many exact steps.

    Args:
        matrix: (n, n), symmetric and positive semidefinite.
        vector: (n,).
    Returns:
        (n,). Where several are best, one of them.
    Source of the active set: Lawson, Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    n = len(matrix)
    diagonal = np.diag(matrix) + np.square(vector)
    scale = float(diagonal.max())
    if scale == 0:
        return np.full(n, 1 / n)
    # Of a size with the ones below. The smallest diagonal sets it: it is near the size of the minimum.
    unit = max(float(diagonal.min()), scale * 1e-9)
    x, free = np.zeros(n), np.zeros(n, dtype=np.bool_)
    for _ in range(50 * n + 50):
        # Only the columns in use are ever put together: few numbers are free, and n may be a thousand.
        chosen = np.flatnonzero(free)
        product = (matrix[:, chosen] @ x[chosen] + vector * (vector[chosen] @ x[chosen])) / unit + x.sum()
        gradient = 1.0 - product
        gradient[free] = -np.inf
        candidate = int(gradient.argmax())
        if gradient[candidate] <= _TOLERANCE * max(1.0, float(product[candidate])):
            break
        free[candidate] = True
        while True:
            chosen = np.flatnonzero(free)
            part = matrix[np.ix_(chosen, chosen)] + np.outer(vector[chosen], vector[chosen])
            gram = part / unit + 1.0
            # lstsq, because equal rows of the matrix make the free part singular
            solution = np.linalg.lstsq(gram, np.ones(len(chosen)), rcond=None)[0]
            if (solution > 0).all():
                x[:] = 0.0
                x[chosen] = solution
                break
            # Go as far towards the solution as no number turns negative; what reaches 0 is no longer free.
            falling = solution <= 0
            now = x[chosen]
            steps = now[falling] / np.maximum(now[falling] - solution[falling], np.finfo(np.float64).tiny)
            x[chosen] = now + steps.min() * (solution - now)
            leaving = chosen[falling][steps <= steps.min()]
            x[leaving] = 0.0
            free[leaving] = False
            if candidate in leaving and not now[chosen == candidate].any():
                # Rounding let in a number that cannot grow: nothing better is left within the tolerance.
                return _shares(x)
    else:
        raise BatchRLError("the weights of MAGIC were not found: the quadratic program did not come to an end.")
    return _shares(x)


def _shares(x: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = x / x.sum()
    return shares
