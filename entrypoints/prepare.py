"""Prepare a log as ReAgent does: join every step with the next one, and find the types of the features.

What it leaves in the output data are two folders to use as channels: ``timeline`` with Parquet shards, and
``normalization`` with the parameters of every feature.
"""

import sys
from pathlib import Path
from typing import Any

from batch_rl.data.feature_types import (
    NORMALIZATION_FILE_NAME,
    describe_types,
    identify_features,
    write_normalization,
)
from batch_rl.errors import BatchRLError
from batch_rl.formats.loading import find_dataset
from batch_rl.presets.reading import choose_preset, preset_folders, preset_notes
from batch_rl.presets.schema import Preparation, PreparationPreset
from batch_rl.reagent.timeline import features_of, read_reagent_frame, timeline, write_reagent_parquet
from job_toolkit.environment import JobInputError, read_environment
from job_toolkit.failure import fail_job

CHANNEL = "train"
TIMELINE, NORMALIZATION = "timeline", "normalization"


def main() -> int:
    """Prepare the log of the channel ``train``."""
    environment = read_environment()
    presets = preset_folders(Path(__file__))
    preset = choose_preset(PreparationPreset, environment.hyperparameters, presets)
    for note in preset_notes(environment.hyperparameters, presets):
        print(f"Preset> {note}.", flush=True)
    preparation = preset.preparation
    paths = find_dataset(environment.channel(CHANNEL))
    output = environment.paths.output_data
    prepare = _prepare_on_spark if preparation.engine == "spark" else _prepare_embedded
    parameters, rows = prepare(paths, preparation, output / TIMELINE)
    (output / NORMALIZATION).mkdir(parents=True, exist_ok=True)
    write_normalization(output / NORMALIZATION / NORMALIZATION_FILE_NAME, parameters)
    print(f"Timeline> {rows} rows in {output / TIMELINE}")
    print(f"Normalization> {describe_types(parameters)}, in {output / NORMALIZATION}", flush=True)
    return 0


def _options(preparation: Preparation) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the timeline, and those of the feature types."""
    names = (
        *("start_ds", "end_ds", "add_terminal_state_row", "outlier_episode_length_percentile"),
        *("time_window_limit", "multi_steps"),
    )
    types = ("skip_box_cox", "skip_quantiles", "max_unique_enum_values", "quantile_size", "quantile_k2_threshold")
    return {name: getattr(preparation, name) for name in names}, {name: getattr(preparation, name) for name in types}


def _prepare_embedded(paths: list[Path], preparation: Preparation, folder: Path) -> tuple[Any, int]:
    for_timeline, for_types = _options(preparation)
    frame = read_reagent_frame(paths)
    parameters = identify_features(features_of(frame), **for_types)
    table = timeline(frame, **for_timeline)
    write_reagent_parquet(folder / "part-00000.parquet", table)
    return parameters, len(table)


def _prepare_on_spark(paths: list[Path], preparation: Preparation, folder: Path) -> tuple[Any, int]:
    # Imported here: an extra, for logs that one machine does not hold.
    from batch_rl.reagent import spark

    for_timeline, for_types = _options(preparation)
    session = spark.start_session()
    try:
        frame = spark.read_table(session, paths)
        parameters = spark.identify_table(frame, **for_types)
        table = spark.timeline(frame, **for_timeline)
        spark.write_shards(table, folder)
        return parameters, table.count()
    finally:
        session.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}", error.exit_code)
