"""A channel's folder of logged data, in whatever format it came, as episodes ready for training."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batch_rl.data.episodes import Episodes
from batch_rl.data.tables import CSV_LINES, Columns, episodes_from_frame, read_csv_frame
from batch_rl.errors import DatasetError
from batch_rl.formats.json_lines import read_json_lines
from batch_rl.formats.minari_format import is_minari, read_minari
from batch_rl.formats.npz import read_npz
from batch_rl.formats.parquet import read_parquet


def _read_csv(paths: Sequence[Path], **options: Any) -> Episodes:
    return episodes_from_frame(read_csv_frame(paths[0]), source=str(paths[0]), labels=CSV_LINES, **options)


def _read_json_lines(paths: Sequence[Path], **options: Any) -> Episodes:
    return read_json_lines(paths[0], **options)


def _read_npz(paths: Sequence[Path], **_options: Any) -> Episodes:
    return read_npz(paths[0])


def _read_minari(paths: Sequence[Path], *, columns: Columns | None = None, **options: Any) -> Episodes:
    del columns  # its columns have the names of Minari
    return read_minari(paths[0], **options)


MINARI = ".minari"  # a folder; one of any name that Minari made is as good
READERS: dict[str, Callable[..., Episodes]] = {
    ".csv": _read_csv,
    ".parquet": read_parquet,
    ".jsonl": _read_json_lines,
    ".npz": _read_npz,
    MINARI: _read_minari,
}
SHARDED = (".parquet",)  # several files are one dataset


def find_dataset(folder: Path) -> list[Path]:
    """Return the file of the one dataset in a channel's folder, or its shards in the order of their names.

    Raises:
        DatasetError: there is none, or more than one.
    """
    present = sorted(folder.iterdir()) if folder.is_dir() else []
    if is_minari(folder):
        return [folder]
    datasets = [path for path in present if path.suffix.lower() in READERS or is_minari(path)]
    kinds = {_kind(path) for path in datasets}
    if len(datasets) == 1 or (len(kinds) == 1 and kinds <= set(SHARDED)):
        return datasets
    if datasets:
        kind = "CSV files" if kinds == {".csv"} else "datasets"
        names = ", ".join(path.name for path in datasets[:5]) + (", ..." if len(datasets) > 5 else "")
        raise DatasetError(f"{folder} holds {len(datasets)} {kind} ({names}); give the channel one dataset.")
    others = ", ".join(path.name for path in present[:5])
    raise DatasetError(
        f"{folder} holds no .csv file, nor {', '.join(sorted(set(READERS) - {'.csv'}))}"
        + (f", only: {others}." if others else "; it is empty.")
    )


def holds_dataset(folder: Path) -> bool:
    """Return whether a folder has a dataset of any format in it."""
    return any(path.suffix.lower() in READERS or is_minari(path) for path in folder.iterdir())


def load_episodes(
    folder: Path,
    *,
    require_propensities: bool = True,
    columns: Columns | None = None,
    action_names: Sequence[str] | None = None,
) -> tuple[Path, Episodes]:
    """Find, read and check the dataset of a channel; return its first file as well.

    Args:
        folder: the channel's, or a file of a known format itself.
        require_propensities: whether rows must say how likely their action was.
        columns, action_names: of a table; see ``batch_rl.data.tables.check_frame``.
    Raises:
        DatasetError: there is not exactly one dataset, or it has faults.
    """
    paths = [folder] if folder.is_file() and folder.suffix.lower() in READERS else find_dataset(folder)
    options: dict[str, Any] = {} if require_propensities else {"require_propensities": False}
    if columns:
        options["columns"] = columns
    if action_names:
        options["action_names"] = action_names
    return paths[0], read_dataset(paths, **options)


def read_dataset(paths: Sequence[Path], **options: Any) -> Episodes:
    """Read and check the files of one dataset, as ``find_dataset`` finds them.

    Args:
        options: of ``batch_rl.data.tables.check_frame``, as far as the format has a use for them.
    Raises:
        DatasetError: it has faults.
    """
    return READERS[_kind(paths[0])](paths, **options)


def _kind(path: Path) -> str:
    return MINARI if is_minari(path) else path.suffix.lower()


def raise_small_propensities(episodes: Episodes, least: float) -> tuple[Episodes, float]:
    """Raise the logged actions' propensities to ``least``; return the share of rows that this changed.

    The other actions of such a row lose as much probability, in proportion to their own.
    """
    small = episodes.propensities < least
    if not small.any():
        return episodes, 0.0
    probabilities = episodes.probabilities.copy()
    rows = np.flatnonzero(small)
    actions = episodes.actions[rows]
    probabilities[rows] *= ((1 - least) / (1 - episodes.propensities[rows]))[:, None]
    probabilities[rows, actions] = least
    return dataclasses.replace(episodes, probabilities=probabilities), float(small.mean())
