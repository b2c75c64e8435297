"""Minari's data sets: read as logged episodes, and written.

Minari keeps terminations and truncations apart and has the observation after each episode's last action, so nothing
needs to be assumed about ends. It has no place of its own for probabilities: they are read from an episode's ``infos``
under the names that a table's columns have, a row per action, and written as ``all_action_probabilities``.

Source: Farama Foundation, Minari, https://minari.farama.org (data set format 0.4 and 0.5).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_rl.data.episodes import FEATURE_PREFIX, NEXT_FEATURE_PREFIX, Episode, Episodes
from batch_rl.data.tables import PROBABILITIES, PROPENSITY, ROWS, episodes_from_frame
from batch_rl.errors import DatasetError, install_command

if TYPE_CHECKING:
    import gymnasium

DATA = "data"  # the folder in a data set's folder
METADATA = "metadata.json"


def _import_minari(path: Path) -> Any:
    try:
        import h5py  # noqa: F401 - Minari asks for it only when a file is opened
        import minari
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{path}: Minari's data sets need the package {error.name}; as a process: {install_command('minari')}"
        ) from error
    return minari


def is_minari(folder: Path) -> bool:
    """Return whether ``folder`` is a data set of Minari."""
    return (folder / DATA / METADATA).is_file()


def write_minari(folder: Path, episodes: Iterable[Episode], *, dataset_id: str = "logged-v0") -> int:
    """Write episodes as a data set, in HDF5; return the number of rows.

    What an episode's last action led to is NaN where it is not known.

    Args:
        folder: to be made; below ``MINARI_DATASETS_PATH`` Minari finds it by its name.
        dataset_id: what Minari calls it.
    Raises:
        DatasetError: Minari is not installed, or the folder holds a data set.
    """
    minari = _import_minari(folder)
    # Imported here, as below: learning from other formats needs neither.
    import gymnasium
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    played = list(episodes)
    if is_minari(folder):
        raise DatasetError(f"{folder}: there is a data set already; choose another name.")
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    width, n_actions = played[0].observations.shape[1], played[0].probabilities.shape[1]
    storage = MinariStorage.new(
        folder / DATA,
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32),
        action_space=gymnasium.spaces.Discrete(n_actions),
        data_format="hdf5",
    )
    storage.update_metadata({"dataset_id": dataset_id, "minari_version": minari.__version__})
    storage.update_episodes(_buffer(EpisodeBuffer, episode) for episode in played)
    return sum(len(episode.actions) for episode in played)


def _buffer(kind: Any, episode: Episode) -> Any:
    steps = len(episode.actions)
    last = np.arange(steps) == steps - 1
    final = np.full_like(episode.observations[0], np.nan)
    return kind(
        observations=np.vstack([episode.observations, final if episode.final_observation is None else
                                episode.final_observation]),
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=last & episode.terminated,
        truncations=last & (not episode.terminated),
        infos={PROBABILITIES[0]: episode.probabilities},
    )  # fmt: skip


def read_minari(folder: Path, *, require_propensities: bool = True) -> Episodes:
    """Read and check a data set with flat observations and numbered actions.

    Args:
        require_propensities: as in ``tables.check_frame``; few of Minari's data sets have them.
    Raises:
        DatasetError: it cannot be read, is of another kind, or has faults; rows count from 0 over all episodes.
    """
    minari = _import_minari(folder)
    import gymnasium

    try:
        dataset = minari.MinariDataset(folder / DATA)
        episodes = list(dataset.iterate_episodes())
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise DatasetError(f"{folder}: not a readable data set of Minari ({error}).") from error
    actions, observations = dataset.action_space, dataset.observation_space
    flat = isinstance(observations, gymnasium.spaces.Box) and len(observations.shape) == 1
    if not isinstance(actions, gymnasium.spaces.Discrete) or not flat:
        raise DatasetError(
            f"{folder}: actions of {actions} and observations of {observations}; Discrete actions and Box observations "
            "of one dimension can be learned from."
        )
    if not episodes:
        raise DatasetError(f"{folder}: it has no episodes.")
    return episodes_from_frame(
        _frame(episodes, actions),
        source=str(folder),
        labels=ROWS,
        action_names=[str(action) for action in range(int(actions.n))],
        require_propensities=require_propensities,
    )


def _frame(episodes: list[Any], actions: "gymnasium.spaces.Discrete") -> Any:
    """Return the columns of ``batch_rl.data.tables``, so that these data pass the same check as all others."""
    import pandas as pd

    lengths = [len(episode.rewards) for episode in episodes]
    seen = [np.asarray(episode.observations, dtype=np.float64) for episode in episodes]
    before = np.concatenate([observations[:-1] for observations in seen])
    after = np.concatenate([observations[1:] for observations in seen])
    columns: dict[str, Any] = {
        "episode_id": np.repeat([episode.id for episode in episodes], lengths),
        "step": np.concatenate([np.arange(length) for length in lengths]),
        "action": np.concatenate([episode.actions for episode in episodes]) - int(actions.start),
        "reward": np.concatenate([episode.rewards for episode in episodes]),
        "terminated": np.concatenate([episode.terminations for episode in episodes]),
        "truncated": np.concatenate([episode.truncations for episode in episodes]),
    }
    columns |= {f"{FEATURE_PREFIX}{i}": before[:, i] for i in range(before.shape[1])}
    if not np.isnan([observations[-1] for observations in seen]).any():
        columns |= {f"{NEXT_FEATURE_PREFIX}{i}": after[:, i] for i in range(after.shape[1])}
    for name in (*PROBABILITIES, *PROPENSITY):
        if all(name in (episode.infos or {}) for episode in episodes):
            # Environments report after a reset too, so there may be one more than there are actions.
            rows = [np.asarray(e.infos[name])[: len(e.rewards)] for e in episodes]
            columns[name] = list(np.concatenate(rows))
    return pd.DataFrame(columns)
