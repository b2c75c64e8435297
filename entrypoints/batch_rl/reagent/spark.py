"""The timeline and the feature types on Spark, by the definitions of ``reagent`` and ``feature_types``.

For logs that one machine does not hold. A feature's values come together on one executor, so that the same function
looks at all of them; no sample is drawn.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batch_rl.data.feature_types import LEAST_VALUES, FeatureParameters, identify_features, parse_normalization
from batch_rl.data.tables import sorted_features
from batch_rl.errors import DatasetError, install_command
from batch_rl.reagent.timeline import check_timeline_options

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, SparkSession

SCHEMA = (
    "ds string, mdp_id string, sequence_number long, state_features map<string, double>, action string, reward double, "
    "metrics map<string, double>, possible_actions array<string>, action_probability double"
)


def start_session() -> "SparkSession":
    """Return the session that is configured, or one on this machine, and give its executors this library.

    Raises:
        DatasetError: pyspark is not installed, or Java does not start.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise DatasetError(f"Spark needs the package {error.name}; as a process: {install_command('spark')}") from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise DatasetError("Spark needs Java, and there is none: install a runtime (17 or newer), or set JAVA_HOME.")
    try:
        builder = SparkSession.builder.appName("batch_rl").config("spark.ui.enabled", "false")
        session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    except (PySparkException, OSError) as error:
        raise DatasetError(f"Spark does not start: {error}") from error
    # Executors fetch it whenever they start, so it stays as long as the process.
    folder, library = tempfile.mkdtemp(), Path(__file__).parent
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = shutil.make_archive(f"{folder}/batch_rl", "zip", library.parent, library.name)
    session.sparkContext.addPyFile(archive)
    return session


def read_table(session: "SparkSession", paths: Sequence[Path]) -> "DataFrame":
    """Read ReAgent's table from Parquet or JSON lines; columns that JSON lacks are left out.

    Raises:
        DatasetError: another format.
    """
    texts, kinds = [str(path) for path in paths], {path.suffix.lower() for path in paths}
    if kinds == {".parquet"}:
        return session.read.parquet(*texts)
    if kinds == {".jsonl"}:
        present = session.read.json(texts).columns
        table = session.read.schema(SCHEMA).json(texts)
        return table.select(*[name for name in table.columns if name in present])
    raise DatasetError(f"{paths[0]}: Spark reads .parquet and .jsonl.")


def timeline(
    frame: "DataFrame",
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
) -> "DataFrame":
    """Join every step with the one after it; rows and columns are those of ``reagent.timeline.timeline``.

    Raises:
        DatasetError: a column is missing, a step stands twice, or no row is left.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    extras = list(extra_feature_columns)
    check_timeline_options(
        frame.columns, extras, include_possible_actions, multi_steps, by_ds=(start_ds or end_ds) is not None
    )
    rows = frame.withColumn("sequence_number", f.col("sequence_number").cast("long"))
    if start_ds is not None:
        rows = rows.where(f.col("ds").cast("string") >= start_ds)
    if end_ds is not None:
        rows = rows.where(f.col("ds").cast("string") <= end_ds)
    keys = ["mdp_id", "sequence_number"]
    if twice := rows.groupBy(*keys).count().where("count > 1").orderBy(*keys).first():
        raise DatasetError(f"step {twice['sequence_number']} of episode {twice['mdp_id']} stands twice.")
    episode = Window.partitionBy("mdp_id")
    since_first = f.col("sequence_number") - f.min("sequence_number").over(episode)
    rows = rows.withColumn("time_since_first", since_first)
    if time_window_limit is not None:
        rows = rows.where(f.col("time_since_first") <= time_window_limit)
    if outlier_episode_length_percentile is not None:
        lengths = rows.groupBy("mdp_id").count()
        longest = lengths.agg(f.percentile("count", f.lit(outlier_episode_length_percentile))).collect()[0][0]
        # Without rows there is no longest one, and nothing to keep.
        short_enough = lengths.where(f.col("count") <= f.lit(longest)).select("mdp_id")
        rows = rows.join(short_enough, "mdp_id", "left_semi")
    if rows.isEmpty():
        raise DatasetError("no row is left for the timeline; look at the dates and the limits.")

    in_time = episode.orderBy("sequence_number")
    no_features = f.map_from_arrays(f.array().cast("array<string>"), f.array().cast("array<double>"))
    following: dict[str, Column] = {
        "next_state_features": f.coalesce(f.lead("state_features").over(in_time), no_features),
        "next_action": f.coalesce(f.lead("action").over(in_time), f.lit("")),
    }
    if include_possible_actions:
        empty = f.array().cast("array<string>")
        following["possible_next_actions"] = f.coalesce(f.lead("possible_actions").over(in_time), empty)
    following |= {f"next_{name}": f.lead(name).over(in_time) for name in extras}
    rewards = [name for name in reward_columns if name in rows.columns]
    next_number = f.lead("sequence_number").over(in_time)
    kept_columns = [name for name in ("ds",) if name in rows.columns]
    kept_columns += ["mdp_id", "sequence_number", "state_features", "action"]
    kept_columns += [name for name in ("action_probability",) if name in rows.columns]
    kept_columns += (["possible_actions"] if include_possible_actions else []) + extras
    joined = rows.select(
        *kept_columns,
        f.row_number().over(in_time).cast("long").alias("sequence_number_ordinal"),
        "time_since_first",
        *[column.alias(name) for name, column in following.items()],
        *rewards,
        next_number.alias("_next_number"),
    )
    if multi_steps is None:
        difference = f.coalesce(f.col("_next_number") - f.col("sequence_number"), f.lit(0))
        joined = joined.withColumn("time_diff", difference)
    else:
        window = in_time.rowsBetween(0, multi_steps - 1)

        def listed(name: str) -> "Column":
            # A list leaves out nulls, but not structures of one.
            return f.transform(f.collect_list(f.struct(name)).over(window), lambda item: item[name])

        numbers, gathered = "_next_number", [*following, *rewards]
        joined = joined.withColumns({name: listed(name) for name in gathered} | {"_numbers": listed(numbers)})
        differences = f.transform("_numbers", lambda number: f.coalesce(number - f.col("sequence_number"), f.lit(0)))
        joined = joined.withColumn("time_diff", differences).drop("_numbers")
    if not add_terminal_state_row:
        joined = joined.where(f.col("_next_number").isNotNull())
    return joined.drop("_next_number").orderBy(*keys)


def identify_table(frame: "DataFrame", column: str = "state_features", **options: Any) -> dict[int, FeatureParameters]:
    """Find the type and the parameters of every feature of a table; ids are places among the sorted names.

    Args:
        column: a map from feature to number.
        options: of ``feature_types.identify_features``.
    Raises:
        DatasetError: as there.
    """
    from pyspark.sql import functions as f

    values = frame.select(f.explode(column).alias("feature", "value")).dropna()
    names = sorted_features(row["feature"] for row in values.select("feature").distinct().collect())
    overrides = {names[feature]: kind for feature, kind in (options.pop("feature_overrides", None) or {}).items()}

    def identify(key: tuple[str], rows: "pd.DataFrame") -> "pd.DataFrame":
        import pandas as pd

        # Sorted: in which order an executor gets them changes from run to run.
        column = np.sort(rows["value"].to_numpy(dtype=np.float64))[:, None]
        if len(column) < LEAST_VALUES:
            return pd.DataFrame({"feature": [], "parameters": []}, dtype=object)
        override = {0: overrides[key[0]]} if key[0] in overrides else None
        parameters = identify_features(column, feature_overrides=override, **options)[0]
        return pd.DataFrame({"feature": [key[0]], "parameters": [json.dumps(asdict(parameters))]})

    identified = values.groupBy("feature").applyInPandas(identify, "feature string, parameters string").collect()
    if not identified:
        raise DatasetError(f"no feature has {LEAST_VALUES} values, which its type could be found from.")
    return parse_normalization({str(names.index(row["feature"])): row["parameters"] for row in identified})


def write_shards(frame: "DataFrame", folder: Path) -> Iterable[Path]:
    """Write a table as Parquet shards into a new folder, and return them."""
    frame.write.parquet(str(folder))
    return sorted(folder.glob("*.parquet"))
