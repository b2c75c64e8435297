"""Spark's timeline and feature types are the embedded ones, row by row and feature by feature."""

import dataclasses
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from batch_rl.data.feature_types import identify_features
from batch_rl.errors import DatasetError
from batch_rl.formats.parquet import read_parquet
from batch_rl.reagent import spark
from batch_rl.reagent.timeline import timeline as reagent

pytest.importorskip("pyspark", reason="the extra spark is not installed")
if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
    pytest.skip("Spark needs Java", allow_module_level=True)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    settings = {
        "spark.master": "local[1]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "3",
        "spark.sql.warehouse.dir": tmp_path_factory.mktemp("warehouse"),
    }
    with pytest.MonkeyPatch.context() as patch:
        arguments = " ".join(f"--conf {name}={value}" for name, value in settings.items())
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"{arguments} pyspark-shell")
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        started = spark.start_session()
        yield started
        started.stop()


def rows():
    """Nine episodes of 1 to 9 steps, with gaps in time, an unordered table, and features that some rows lack."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(9):
        times = np.cumsum(generator.integers(1, 4, size=number + 1)).tolist()
        for step, time in enumerate(times):
            features = {"0": float(generator.normal()), "10": float(generator.integers(3)), "2": generator.random()}
            if step % 4 == 3:
                del features["2"]
            records.append(
                {
                    "ds": f"2020-01-0{1 + number % 3}",
                    "mdp_id": f"e{number}",
                    "sequence_number": time,
                    "state_features": features,
                    "action": "right" if generator.random() < 0.5 else "left",
                    "reward": generator.random(),
                    "metrics": {"clicks": float(step)},
                    "possible_actions": [] if step == number else ["left", "right"],
                    "action_probability": 0.5,
                    "user": number * 10 + step,
                }
            )
    return pd.DataFrame(records).sample(frac=1, random_state=0, ignore_index=True)


def plain(cell):
    """Return a cell as the same Python values, whichever side it comes from."""
    if isinstance(cell, dict):
        return {key: plain(value) for key, value in sorted(cell.items())}
    if isinstance(cell, list | tuple | np.ndarray):
        return [plain(item) for item in cell]
    return None if cell is None or cell != cell else cell


def records(columns, table):
    return [dict(zip(columns, map(plain, row), strict=True)) for row in table]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_terminal_state_row": False},
        {"multi_steps": 3},
        {"multi_steps": 2, "add_terminal_state_row": False, "extra_feature_columns": ["user"]},
        {"start_ds": "2020-01-02", "include_possible_actions": False},
        {"end_ds": "2020-01-02", "time_window_limit": 6, "extra_feature_columns": ["user"]},
        {"outlier_episode_length_percentile": 0.55, "reward_columns": ["reward"]},
    ],
    ids=str,
)
def test_the_timeline_has_the_rows_of_the_embedded_one(session, options):
    table = rows()
    expected = reagent.timeline(table, **options)
    timeline = spark.timeline(session.createDataFrame(table, f"{spark.SCHEMA}, user long"), **options)
    assert timeline.columns == list(expected.columns)
    theirs = records(timeline.columns, timeline.collect())
    assert len(theirs) > 10
    assert theirs == records(expected.columns, expected.itertuples(index=False))


@pytest.mark.parametrize(
    ("change", "options", "fault"),
    [
        (lambda table: table.drop(columns="reward"), {}, "has no column 'reward'"),
        (lambda table: pd.concat([table, table.iloc[:1]]), {}, "stands twice"),
        (lambda table: table, {"start_ds": "2030-01-01"}, "no row is left"),
        (lambda table: table, {"multi_steps": 0}, "multi_steps is 0"),
    ],
)
def test_the_timeline_refuses_what_the_embedded_one_refuses(session, change, options, fault):
    table = change(rows())
    columns = f"{spark.SCHEMA}, user long".replace("map<string, ", "map<string;").split(", ")
    schema = ", ".join(column.replace(";", ",") for column in columns if column.split()[0] in table)
    with pytest.raises(DatasetError, match=fault):
        reagent.timeline(table, **options)
    with pytest.raises(DatasetError, match=fault):
        spark.timeline(session.createDataFrame(table, schema), **options)


def test_feature_types_and_parameters_are_the_embedded_ones(session):
    """A feature of every type that is found; the order of the rows changes no more than last digits."""
    generator = np.random.default_rng(1)
    count = 500
    columns = {
        "0": generator.normal(size=count),
        "1": generator.integers(2, size=count),
        "2": generator.random(count),
        "3": generator.integers(5, size=count),
        "4": generator.lognormal(size=count),
        "10": np.concatenate([generator.normal(size=count // 2), 40 + generator.normal(size=count // 2)]),
        "11": generator.normal(size=count),
    }
    maps = [{name: float(values[row]) for name, values in columns.items()} for row in range(count)]
    for row in range(0, count, 3):
        del maps[row]["0"]
    for row in range(15, count):
        del maps[row]["11"]  # too few are left
    table = pd.DataFrame({"state_features": maps})
    options = {"skip_quantiles": False, "feature_overrides": {2: "CLIP_LOG"}}
    expected = identify_features(reagent.features_of(table), **options)
    kinds = ["CONTINUOUS", "BINARY", "CLIP_LOG", "ENUM", "BOXCOX", "QUANTILE"]
    assert [feature.feature_type for feature in expected.values()] == kinds
    normalization = spark.identify_table(
        session.createDataFrame(table, "state_features map<string, double>"), **options
    )
    assert list(normalization) == list(expected) == [0, 1, 2, 3, 4, 5]
    for feature, parameters in normalization.items():
        for name, value in dataclasses.asdict(expected[feature]).items():
            ours = getattr(parameters, name)
            if isinstance(value, float | tuple):
                assert ours == pytest.approx(value, rel=1e-5), (feature, name)
            else:
                assert ours == value, (feature, name)


def test_a_written_timeline_is_a_dataset_to_train_on(session, tmp_path):
    table = rows().drop(columns="user")
    table["state_features"] = [{"0": features["0"]} for features in table["state_features"]]
    reagent.write_json_lines(tmp_path / "log.jsonl", table)
    read = spark.read_table(session, [tmp_path / "log.jsonl"])
    shards = spark.write_shards(spark.timeline(read), tmp_path / "timeline")
    episodes = read_parquet(shards)
    assert sorted(episodes.lengths) == list(range(1, 10))
    assert episodes.rewards.sum() == pytest.approx(table["reward"].sum())
    with pytest.raises(DatasetError, match=r"reads \.parquet and \.jsonl"):
        spark.read_table(session, [tmp_path / "log.csv"])
