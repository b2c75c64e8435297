"""ReAgent's table of logged steps, written and read without pickle, and its timeline operator without Spark.

A row is a step: ``ds`` (name of the data set), ``mdp_id`` (episode), ``sequence_number`` (order in it, gaps
allowed), ``state_features`` (a map from feature to number), ``action`` (its name), ``reward``, ``metrics``,
``possible_actions`` (names; empty on a row that terminates) and ``action_probability`` (of the logged action).

Source: Gauci et al., "Horizon: Facebook's Open Source Applied Reinforcement Learning Platform", 2018, and the
schemas of ReAgent's ``Timeline`` and ``MultiStepTimeline`` operators.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_rl.data.episodes import Episodes
from batch_rl.data.tables import sorted_features
from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically
from batch_rl.formats.json_lines import plain_cells, read_json_lines_frame
from batch_rl.formats.loading import read_dataset
from batch_rl.formats.parquet import import_pyarrow, read_parquet_frame

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("mdp_id", "sequence_number", "state_features", "action", "reward")


def to_reagent_frame(
    episodes: Episodes, *, ds: str = "2019-01-01", action_names: Sequence[str] | None = None
) -> "pd.DataFrame":
    """Return episodes as ReAgent's table, a row per step.

    What a truncated episode led to has no column there; its last row keeps its possible actions.

    Args:
        action_names: of actions 0, 1, ...; if left out, the numbers as text.
    """
    import pandas as pd

    names = [str(i) for i in range(episodes.n_actions)] if action_names is None else [str(n) for n in action_names]
    if len(names) != episodes.n_actions:
        raise DatasetError(f"{len(names)} action names were given for {episodes.n_actions} actions.")
    rows = len(episodes.actions)
    ends_here = episodes.ends & np.repeat(episodes.terminated, episodes.lengths)
    keys = [str(i) for i in range(episodes.observations.shape[1])]
    number = np.repeat(np.arange(len(episodes)), episodes.lengths)
    rewards = episodes.rewards.tolist()
    return pd.DataFrame(
        {
            "ds": [ds] * rows,
            "mdp_id": number.astype(str).astype(object),
            "sequence_number": np.arange(rows) - np.repeat(episodes.starts, episodes.lengths),
            "state_features": [dict(zip(keys, row, strict=True)) for row in episodes.observations.tolist()],
            "action": [names[action] for action in episodes.actions.tolist()],
            "reward": rewards,
            "metrics": [{"reward": reward} for reward in rewards],
            "possible_actions": [[] if over else list(names) for over in ends_here.tolist()],
            "action_probability": episodes.propensities,
        }
    )


def read_reagent_frame(paths: Sequence[Path]) -> "pd.DataFrame":
    """Read a log as ReAgent's table: unchanged where it is one, in Parquet or JSON lines; else converted from episodes.

    Raises:
        DatasetError: it cannot be read, or has faults.
    """
    kind = paths[0].suffix.lower()
    if kind == ".jsonl":
        frame = read_json_lines_frame(paths[0])
    elif kind == ".parquet":
        frame = read_parquet_frame(paths)
        # Arrow has maps as lists of pairs.
        plain = {"state_features": dict, "metrics": dict, "possible_actions": list}
        frame = frame.assign(
            **{name: [kind(cell) for cell in frame[name].tolist()] for name, kind in plain.items() if name in frame}
        )
    else:
        return to_reagent_frame(read_dataset(paths))
    return frame if "mdp_id" in frame else to_reagent_frame(read_dataset(paths))


def write_reagent_parquet(path: Path, frame: "pd.DataFrame") -> None:
    """Write ReAgent's table with the types of its schema: maps stay maps. ``parquet.read_parquet`` reads it.

    Raises:
        DatasetError: pyarrow is not installed.
    """
    pa, pq = import_pyarrow(path)
    number_map, texts = pa.map_(pa.string(), pa.float64()), pa.list_(pa.string())
    types = {
        "ds": pa.string(),
        "mdp_id": pa.string(),
        "sequence_number": pa.int64(),
        "state_features": number_map,
        "action": pa.string(),
        "reward": pa.float64(),
        "metrics": number_map,
        "possible_actions": texts,
        "action_probability": pa.float64(),
        "next_state_features": number_map,
        "next_action": pa.string(),
        "possible_next_actions": texts,
        "sequence_number_ordinal": pa.int64(),
        "time_diff": pa.int64(),
        "time_since_first": pa.int64(),
    }

    # With multi_steps these columns hold a list of what they else hold.
    of_steps = {"reward", "metrics", "next_state_features", "next_action", "possible_next_actions", "time_diff"}
    several = len(frame) > 0 and isinstance(frame.get("time_diff", frame["reward"]).iloc[0], list)

    def column(name: str) -> Any:
        cells, kind = plain_cells(frame[name]), types.get(name)
        listed = several and name in of_steps
        if kind == number_map:
            cells = [
                [list(item.items()) for item in cell] if listed else None if cell is None else list(cell.items())
                for cell in cells
            ]
        return pa.array(cells, type=pa.list_(kind) if listed else kind)

    table = pa.table({str(name): column(name) for name in frame.columns})
    write_atomically(path, lambda temporary: pq.write_table(table, temporary))


def timeline(
    frame: "pd.DataFrame",
    *,
    start_ds: str | None = None,
    end_ds: str | None = None,
    add_terminal_state_row: bool = True,
    outlier_episode_length_percentile: float | None = None,
    time_window_limit: int | None = None,
    reward_columns: Sequence[str] = ("reward", "metrics"),
    extra_feature_columns: Sequence[str] = (),
    include_possible_actions: bool = True,
    multi_steps: int | None = None,
    shuffle_seed: int | None = None,
) -> "pd.DataFrame":
    """Join every step with the one after it: what ReAgent's trainers read.

    Adds ``next_state_features``, ``next_action``, ``possible_next_actions`` (empty, as is the text or the map,
    where nothing follows), ``sequence_number_ordinal`` (from 1), ``time_diff`` (to the next row; 0 on the last)
    and ``time_since_first``.

    Args:
        start_ds, end_ds: the first and the last ``ds`` that is read, both included.
        add_terminal_state_row: keep each episode's last row, which nothing follows; else it is dropped.
        outlier_episode_length_percentile: in (0, 1]; episodes longer than this quantile of all are dropped.
        time_window_limit: rows that lie further than this from their episode's first are dropped, before
            anything is joined.
        reward_columns: which columns are rewards; with ``multi_steps`` they become lists.
        extra_feature_columns: more columns to keep; each also gets its ``next_``.
        include_possible_actions: whether the table has, and gets, the possible actions.
        multi_steps: at most so many steps from each row on: rewards, next states, next actions, their possible
            actions and time differences become lists of what the 1st, 2nd, ... step brought; at an episode's end
            they are shorter.
        shuffle_seed: rows in a random order that it decides; if left out, by episode and time.
    Raises:
        DatasetError: a column is missing, a step stands twice, or no row is left.
    """
    by_ds = start_ds is not None or end_ds is not None
    check_timeline_options(frame.columns, extra_feature_columns, include_possible_actions, multi_steps, by_ds=by_ds)
    rows = frame
    if by_ds:
        ds = frame["ds"].astype(str)
        rows = rows[(ds >= (start_ds or "")) & (True if end_ds is None else ds <= end_ds)]
    rows = rows.assign(sequence_number=rows["sequence_number"].astype(np.int64))
    rows = rows.sort_values(["mdp_id", "sequence_number"], kind="stable", ignore_index=True)
    twice = rows.duplicated(["mdp_id", "sequence_number"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise DatasetError(
            f"step {first['sequence_number']} of episode {first['mdp_id']} stands twice ({int(twice.sum())} such rows)."
        )
    since_first = rows["sequence_number"] - rows.groupby("mdp_id")["sequence_number"].transform("min")
    rows = rows.assign(time_since_first=since_first)
    if time_window_limit is not None:
        rows = rows[rows["time_since_first"] <= time_window_limit]
    if outlier_episode_length_percentile is not None:
        lengths = rows.groupby("mdp_id")["mdp_id"].transform("size")
        per_episode = rows.groupby("mdp_id").size()
        rows = rows[lengths <= per_episode.quantile(outlier_episode_length_percentile)]
    if rows.empty:
        raise DatasetError("no row is left for the timeline; look at the dates and the limits.")
    rows = rows.reset_index(drop=True)
    result = _join_next(rows, list(reward_columns), list(extra_feature_columns), include_possible_actions, multi_steps)
    if not add_terminal_state_row:
        last = rows["mdp_id"] != rows["mdp_id"].shift(-1)
        result = result[~last.to_numpy()].reset_index(drop=True)
    if shuffle_seed is not None:
        order = np.random.default_rng(shuffle_seed).permutation(len(result))
        result = result.iloc[order].reset_index(drop=True)
    return result


def check_timeline_options(
    columns: Iterable[str], extras: Iterable[str], with_actions: bool, multi_steps: int | None, *, by_ds: bool
) -> None:
    """Refuse a table or options that a timeline cannot be made of, embedded or on Spark.

    Raises:
        DatasetError: see ``timeline``.
    """
    present = set(columns)
    wanted = [*REQUIRED, *(["possible_actions"] if with_actions else []), *extras]
    if missing := [name for name in wanted if name not in present]:
        raise DatasetError(f"the table has no column '{missing[0]}'; the timeline needs {', '.join(wanted)}.")
    if multi_steps is not None and multi_steps < 1:
        raise DatasetError(f"multi_steps is {multi_steps}; it begins at 1.")
    if by_ds and "ds" not in present:
        raise DatasetError("the table has no column 'ds' to choose dates by.")


def features_of(frame: "pd.DataFrame", column: str = "state_features") -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a column of maps as (rows, features), NaN where a row lacks a feature."""
    import pandas as pd

    maps = [dict(cell) for cell in frame[column]]
    names = sorted_features(name for features in maps for name in features)
    return pd.DataFrame.from_records(maps, columns=names).to_numpy(dtype=np.float64)


def _join_next(
    rows: "pd.DataFrame", rewards: list[str], extras: list[str], with_actions: bool, multi_steps: int | None
) -> "pd.DataFrame":
    """Read each column at the rows that follow within the episode; nothing is copied but references."""
    count = len(rows)
    ids = rows["mdp_id"].to_numpy()
    last = np.append(ids[1:] != ids[:-1], True)
    episode = np.concatenate([[0], np.cumsum(last)[:-1]])
    ends = np.flatnonzero(last)[episode]  # each row's last row of its episode
    numbers = rows["sequence_number"].to_numpy()
    first = np.append(0, np.flatnonzero(last)[:-1] + 1)[episode]
    following: list[tuple[str, str, Any]] = [
        ("next_state_features", "state_features", {}),
        ("next_action", "action", ""),
    ]
    if with_actions:
        following.append(("possible_next_actions", "possible_actions", []))
    following += [(f"next_{name}", name, None) for name in extras]
    columns = ["ds"] if "ds" in rows else []
    columns += ["mdp_id", "sequence_number", "state_features", "action"]
    columns += ["action_probability"] if "action_probability" in rows else []
    columns += (["possible_actions"] if with_actions else []) + extras
    result = rows[columns].copy()
    result["sequence_number_ordinal"] = np.arange(count) - first + 1
    result["time_since_first"] = rows["time_since_first"].to_numpy()
    steps = multi_steps or 1
    offsets = [np.minimum(np.arange(count) + k, ends) for k in range(steps + 1)]
    within = [np.arange(count) + k <= ends for k in range(steps + 1)]
    for name, source, empty in following:
        cells = rows[source].tolist()
        steps_of = [
            [cells[at] if inside else empty for at, inside in zip(offsets[k], within[k], strict=True)]
            for k in range(1, steps + 1)
        ]
        # A window of k steps looks at the k rows that follow; nothing stands for what is behind the end, except
        # for the first of it, which says that the episode is over.
        result[name] = _listed(steps_of, within) if multi_steps else steps_of[0]
    for name in [name for name in rewards if name in rows]:
        cells = rows[name].tolist()
        taken = [[cells[at] for at in offsets[k]] for k in range(steps)]
        result[name] = _listed(taken, within) if multi_steps else taken[0]
    differences = [np.where(within[k], numbers[offsets[k]] - numbers, 0).tolist() for k in range(1, steps + 1)]
    result["time_diff"] = _listed(differences, within) if multi_steps else differences[0]
    return result


def _listed(by_step: list[list[Any]], within: list[Any]) -> list[list[Any]]:
    """Collect each row's values of step 1, 2, ... as far as the row that begins the step is in the episode."""
    return [
        [values[row] for values, begins in zip(by_step, within, strict=False) if begins[row]]
        for row in range(len(by_step[0]))
    ]


def multi_step_rewards(rewards: Sequence[Sequence[float]], discount: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the discounted sum of each list, sum over k of discount^k r_k, (rows,)."""
    return np.array(
        [sum(discount**k * reward for k, reward in enumerate(steps)) for steps in rewards], dtype=np.float64
    )
