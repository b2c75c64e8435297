"""Parquet: our own rows, anybody's rows in the columns of ``batch_rl.data.tables``, and data larger than memory.

Parquet is read by pyarrow, which is imported when a file is opened and not before.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_rl.data.episodes import FEATURE_PREFIX, NEXT_FEATURE_PREFIX, Episode, Episodes
from batch_rl.data.tables import EPISODE, ROWS, episodes_from_frame, rename_columns
from batch_rl.data.validation import RowLabels
from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 131_072


def write_parquet(path: Path, episodes: Iterable[tuple[int, Episode]], *, row_group_rows: int = ROWS_AT_ONCE) -> int:
    """Write (episode_id, episode) pairs, at least one; return the number of rows.

    The columns are those of Coach's CSV, with ``step``, ``terminated``, ``truncated`` and, where every final
    observation is known, the observation after each action. ``all_action_probabilities`` is a list.

    Raises:
        DatasetError: pyarrow is not installed.
    """
    pa, pq = import_pyarrow(path)
    pairs = list(episodes)
    played = [episode for _, episode in pairs]
    lengths = np.array([len(episode.actions) for episode in played])
    last = np.cumsum(lengths) - 1
    rows = int(lengths.sum())
    observations = np.concatenate([episode.observations for episode in played])
    probabilities = np.concatenate([episode.probabilities for episode in played])
    terminated, truncated, returns = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool), np.zeros(rows)
    terminated[last] = [episode.terminated for episode in played]
    truncated[last] = [episode.truncated and not episode.terminated for episode in played]
    returns[last] = [episode.total_reward for episode in played]
    columns: dict[str, Any] = {
        "action": np.concatenate([episode.actions for episode in played]),
        "all_action_probabilities": pa.FixedSizeListArray.from_arrays(
            pa.array(probabilities.ravel()), probabilities.shape[1]
        ),
        "episode_id": np.repeat([episode_id for episode_id, _ in pairs], lengths),
        "step": np.concatenate([np.arange(length) for length in lengths]),
        "reward": np.concatenate([episode.rewards for episode in played]),
        "cumulative_rewards": returns,
    }
    columns |= {f"{FEATURE_PREFIX}{i}": observations[:, i] for i in range(observations.shape[1])}
    columns |= {"terminated": terminated, "truncated": truncated}
    finals = [episode.final_observation for episode in played]
    if all(final is not None for final in finals):
        following = np.concatenate([observations[1:], observations[:1]])
        following[last] = np.stack([final for final in finals if final is not None])
        columns |= {f"{NEXT_FEATURE_PREFIX}{i}": following[:, i] for i in range(following.shape[1])}
    table = pa.table(columns)
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, row_group_size=row_group_rows))
    return rows


def read_parquet(paths: Sequence[Path], **options: Any) -> Episodes:
    """Read and check one file, or the shards of one dataset as if they were one.

    Args:
        options: ``action_names`` and ``require_propensities`` of ``tables.check_frame``.
    Raises:
        DatasetError: a file cannot be read, or the table has faults; rows count from 0 over all files.
    """
    return episodes_from_frame(read_parquet_frame(paths), source=_source(paths), labels=ROWS, **options)


def read_parquet_frame(paths: Sequence[Path]) -> "pd.DataFrame":
    """Read files of the same columns into one table, without interpreting them.

    Raises:
        DatasetError: a file cannot be read, or has other columns than the first.
    """
    import pandas as pd

    pa, pq = import_pyarrow(paths[0])
    frames = []
    for path in paths:
        try:
            frames.append(_to_frame(pq.ParquetFile(path).read()))
        except (OSError, pa.ArrowInvalid) as error:
            raise DatasetError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}).") from error
        _check_columns(path, list(frames[-1].columns), paths[0], list(frames[0].columns))
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def count_rows(paths: Sequence[Path]) -> int:
    """Return the number of rows of all files, which stands at their ends.

    Raises:
        DatasetError: a file cannot be read.
    """
    pa, pq = import_pyarrow(paths[0])
    rows = 0
    for path in paths:
        try:
            rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise DatasetError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}).") from error
    return rows


def stream_parquet(paths: Sequence[Path], *, rows_at_once: int = ROWS_AT_ONCE, **options: Any) -> Iterator[Episodes]:
    """Yield the episodes of shards that are larger than memory, in blocks of whole episodes.

    A block holds about ``rows_at_once`` rows, or one episode if that is longer; memory is bound by that, by the
    files' row groups, and by the ids of the episodes seen. An episode may go on in the next row group or file,
    but its rows must stand together.

    Args:
        paths: in the order in which they are read.
        options: ``action_names``, ``columns`` and ``require_propensities`` of ``tables.check_frame``. Give the names
            where actions have some: the first block need not show all.
    Raises:
        DatasetError: as ``read_parquet``, when the block is reached; rows count from 0 over all files. Also an
            episode that goes on after others began, or a block with another number of actions.
    """
    import pandas as pd

    source, columns = _source(paths), options.pop("columns", None) or {}
    waiting: pd.DataFrame | None = None
    seen: set[Any] = set()
    first_row, n_actions = 0, None
    for raw in _frames(paths, rows_at_once):
        frame = rename_columns(raw, columns, source)
        waiting = frame if waiting is None else pd.concat([waiting, frame], ignore_index=True)
        column = next((name for name in EPISODE if name in waiting), None)
        if column is None:
            episodes_from_frame(waiting, source=source, **options)  # refuses the table and names its missing columns
            return
        ids = waiting[column]
        changes = np.flatnonzero((ids != ids.shift()).to_numpy())  # first rows of runs of one id
        if len(waiting) < rows_at_once or len(changes) < 2:
            continue
        whole = int(changes[-1])
        yield (block := _block(waiting.iloc[:whole], column, seen, source, first_row, n_actions, options))
        n_actions = block.n_actions
        if block.action_names:  # later blocks have the same numbers
            options["action_names"] = block.action_names
        first_row += whole
        waiting = waiting.iloc[whole:].reset_index(drop=True)
    if waiting is not None and len(waiting):
        column = next(name for name in EPISODE if name in waiting)
        yield _block(waiting, column, seen, source, first_row, n_actions, options)


def _block(
    frame: "pd.DataFrame",
    column: str,
    seen: set[Any],
    source: str,
    first_row: int,
    n_actions: int | None,
    options: dict[str, Any],
) -> Episodes:
    ids = set(frame[column].dropna().unique().tolist())
    if returning := ids & seen:
        raise DatasetError(
            f"{source}, column '{column}': rows of episode {min(returning, key=str)} do not stand together, so they "
            "cannot be streamed; sort the data by episode, or read them whole."
        )
    seen |= ids
    episodes = episodes_from_frame(frame, source=source, labels=RowLabels("row", first_row), **options)
    if n_actions not in (None, episodes.n_actions):
        raise DatasetError(
            f"{source}: the rows from {first_row} on show {episodes.n_actions} actions, earlier ones {n_actions}; "
            "log all_action_probabilities or possible_actions, or give action_names."
        )
    return episodes


def _frames(paths: Sequence[Path], rows_at_once: int) -> Iterator["pd.DataFrame"]:
    pa, pq = import_pyarrow(paths[0])
    first_columns: list[str] | None = None
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                first_columns = file.schema_arrow.names if first_columns is None else first_columns
                _check_columns(path, file.schema_arrow.names, paths[0], first_columns)
                for batch in file.iter_batches(batch_size=rows_at_once):
                    yield _to_frame(pa.Table.from_batches([batch]))
        except (OSError, pa.ArrowInvalid) as error:
            raise DatasetError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}).") from error


def _to_frame(table: Any) -> "pd.DataFrame":
    """Leave lists in Arrow's memory: pandas would make an array of each row's."""
    import pandas as pd
    import pyarrow as pa

    def kept_type(kind: Any) -> Any:
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return pd.ArrowDtype(kind) if is_list else None

    frame: pd.DataFrame = table.to_pandas(types_mapper=kept_type, ignore_metadata=True, split_blocks=True)
    return frame


def _check_columns(path: Path, columns: Sequence[str], first: Path, expected: Sequence[str]) -> None:
    if list(columns) != list(expected):
        apart = sorted(set(columns) ^ set(expected)) or ["their order"]
        raise DatasetError(f"{path} and {first} are not of one dataset: their columns differ ({apart[0]}).")


def _source(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} Parquet files)"


def import_pyarrow(path: Path) -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module.

    Raises:
        DatasetError: it is not installed, so ``path`` can be neither read nor written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise DatasetError(f"{path}: Parquet needs the package pyarrow; install it, or use CSV.") from error
    return pa, pq
