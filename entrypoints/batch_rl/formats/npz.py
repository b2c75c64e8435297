"""Episodes as one NumPy archive: the arrays as they are, so nothing is parsed when they are read again."""

import zipfile
from pathlib import Path

import numpy as np

from batch_rl.data.episodes import Episodes
from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically

ARRAYS = ("observations", "actions", "rewards", "probabilities", "lengths", "truncated")
OPTIONAL = "final_observations"


def write_npz(path: Path, episodes: Episodes) -> None:
    """Write all arrays; the same episodes give the same bytes."""
    arrays = {name: getattr(episodes, name) for name in ARRAYS}
    if episodes.final_observations is not None:
        arrays[OPTIONAL] = episodes.final_observations
    arrays["assumptions"] = np.array(episodes.assumptions, dtype=np.str_)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by name, NumPy would append .npz
            np.savez(file, **arrays)

    write_atomically(path, write)


def read_npz(path: Path) -> Episodes:
    """Read what ``write_npz`` wrote.

    Raises:
        DatasetError: it is another file, or its arrays do not fit together or hold what no log may.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"{path}: not an archive of episodes ({type(error).__name__}).") from error
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DatasetError(f"{path}: not an archive of episodes: it has no array '{missing[0]}'.")
    dimensions = {"observations": 2, "probabilities": 2}
    for name in ARRAYS:
        if arrays[name].ndim != dimensions.get(name, 1) or arrays[name].dtype.kind not in "fiub":
            raise DatasetError(f"{path}: array '{name}' has shape {arrays[name].shape}, type {arrays[name].dtype}.")
    episodes = Episodes(
        observations=arrays["observations"].astype(np.float32, copy=False),
        actions=arrays["actions"].astype(np.int64, copy=False),
        rewards=arrays["rewards"].astype(np.float64, copy=False),
        probabilities=arrays["probabilities"].astype(np.float64, copy=False),
        lengths=arrays["lengths"].astype(np.int64, copy=False),
        truncated=arrays["truncated"].astype(np.bool_, copy=False),
        final_observations=arrays.get(OPTIONAL),
        assumptions=tuple(str(text) for text in arrays.get("assumptions", ())),
    )
    _check(path, episodes)
    return episodes


def _check(path: Path, episodes: Episodes) -> None:
    rows = len(episodes.actions)
    fits = {len(getattr(episodes, name)) for name in ("observations", "rewards", "probabilities")} == {rows}
    counts_fit = len(episodes.lengths) > 0 and (episodes.lengths > 0).all() and episodes.lengths.sum() == rows
    finals = episodes.final_observations
    finals_fit = finals is None or finals.shape == (len(episodes), episodes.observations.shape[1])
    if not (fits and counts_fit and finals_fit and len(episodes.truncated) == len(episodes)):
        raise DatasetError(f"{path}: the arrays' lengths do not fit together.")
    if not (np.isfinite(episodes.observations).all() and np.isfinite(episodes.rewards).all()):
        raise DatasetError(f"{path}: an observation or a reward is not a finite number.")
    if not ((episodes.actions >= 0) & (episodes.actions < episodes.n_actions)).all():
        raise DatasetError(f"{path}: an action is not one of 0 to {episodes.n_actions - 1}.")
    if not ((episodes.propensities > 0) & (episodes.propensities <= 1)).all():
        raise DatasetError(f"{path}: a logged action's probability is not in (0, 1].")
    if not np.allclose(episodes.probabilities.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise DatasetError(f"{path}: probabilities of a row do not sum to 1.")
