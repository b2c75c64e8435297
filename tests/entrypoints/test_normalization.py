"""ReAgent's normalization: types found in data, parameters as JSON, the module that applies them, and its use."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from batch_rl.data.episodes import Episodes
from batch_rl.data.feature_types import (
    FeatureParameters,
    _box_cox,
    _box_cox_lambda,
    _distance_from_normal,
    identify_features,
    read_normalization,
    write_normalization,
)
from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import CheckpointError, DatasetError
from batch_rl.learning.checkpoint import CheckpointFolder, load_policy, resume
from batch_rl.learning.training import TrainingRun
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import TrainingPreset

PRESET = Path(__file__).resolve().parents[2] / "presets" / "preset-cartpole-ddqnbcq.yaml"
# Numbers without a generator: the golden ratio's multiples, which fill (0, 1) evenly.
EVEN = np.modf(np.arange(1, 401) * 0.6180339887498949)[0]
OTHER = np.modf(np.arange(1, 401) * 0.7548776662466927)[0]
NORMAL = np.sqrt(-2 * np.log(EVEN)) * np.cos(2 * np.pi * OTHER)
EXPONENTIAL = -np.log(EVEN)


def identify(values, **options):
    return identify_features(np.asarray(values, dtype=np.float64)[:, None], **options).get(0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1] * 10, "BINARY"),
        ([7.5] * 20, "BINARY"),
        ([0, 0.25, 1, 1] * 5, "PROBABILITY"),
        ([0, 1, 2, 9] * 5, "ENUM"),
        (list(range(10)) * 2, "ENUM"),
        (list(range(11)) * 2, "CONTINUOUS"),
        ([-1, 0, 1, 2] * 5, "CONTINUOUS"),
        ([0, 1, 2, 2.5] * 5, "CONTINUOUS"),
        (NORMAL, "CONTINUOUS"),
        (EXPONENTIAL, "BOXCOX"),
        ([3.00001, 3.00002] * 10, "CONTINUOUS"),
    ],
)
def test_a_type_is_found_by_reagents_rules_in_their_order(values, kind):
    assert identify(values).feature_type == kind


def test_a_feature_far_from_normal_has_quantiles_where_they_are_allowed():
    """Two heaps: no power makes them one. 20 intervals of 20 values each, from the smallest to the largest."""
    heaps = np.concatenate([NORMAL, NORMAL + 30])
    assert identify(heaps).feature_type == "CONTINUOUS"
    parameters = identify(heaps, skip_quantiles=False)
    assert (parameters.feature_type, len(parameters.quantiles)) == ("QUANTILE", 21)
    assert (parameters.quantiles[0], parameters.quantiles[-1]) == (heaps.min(), heaps.max())
    assert sum(heaps <= parameters.quantiles[5]) == 200
    assert identify(heaps, skip_quantiles=False, quantile_k2_threshold=1e9).feature_type == "CONTINUOUS"


def test_the_exponent_and_the_test_of_normality_are_those_of_scipy():
    """The figures are of scipy 1.17.1, stats.boxcox and stats.normaltest."""
    square = (3 + NORMAL) ** 2
    for values, exponent, before, after in (
        (EXPONENTIAL, 0.2820703624411372, 154.73039067793766, 1.5517998885749746),
        (square, 0.49072930193803876, 50.04609994361258, 0.24781894456619696),
    ):
        logs = np.log(np.maximum(values - values.min(), 1e-4))
        assert _distance_from_normal(values) == pytest.approx(before, rel=1e-9)
        assert _box_cox_lambda(logs) == pytest.approx(exponent, abs=1e-5)
        assert _distance_from_normal(_box_cox(logs, exponent)) == pytest.approx(after, rel=1e-6)


def test_continuous_parameters_by_hand():
    """Mean 15, squared deviations 20 * 25, so the deviation is sqrt(500 / 19); one below 1 stays 1."""
    parameters = identify([10, 20] * 10, feature_overrides={0: "CONTINUOUS"})
    assert (parameters.mean, parameters.min_value, parameters.max_value) == (15, 10, 20)
    assert parameters.stddev == pytest.approx(math.sqrt(500 / 19))
    assert identify([0.1, -0.2] * 10).stddev == 1.0
    assert identify([3, 2, 0] * 10).possible_values == (0, 2, 3)


def test_what_says_nothing_about_a_feature_is_left_out_or_refused():
    values = np.column_stack([np.arange(40.0), np.where(np.arange(40) < 21, np.nan, np.arange(40.0))])
    normalization = identify_features(values)
    assert list(normalization) == [0], "the second has 19 values"
    assert identify_features(np.where(np.isnan(values), 5.0, values))[1].min_value == 5
    with pytest.raises(DatasetError, match="no feature has 20 values"):
        identify_features(values[:19])
    with pytest.raises(DatasetError, match="feature 0 has an infinite value"):
        identify([1.0, math.inf] * 20)
    with pytest.raises(DatasetError, match="feature 3 cannot be made 'ENUM': there are 1 features"):
        identify(EVEN, feature_overrides={3: "ENUM"})
    with pytest.raises(DatasetError, match="always 1, so it cannot be made QUANTILE"):
        identify([1.0] * 20, feature_overrides={0: "QUANTILE"})


def outputs(parameters, *raw):
    result = Preprocessor({0: parameters}, 1)(torch.tensor(raw, dtype=torch.float32)[:, None])
    return result[:, 0].tolist() if result.shape[1] == 1 else result.tolist()


def test_every_transformation_by_hand():
    near = pytest.approx
    assert outputs(FeatureParameters("BINARY"), 0, 1, -3) == [0, 1, 1]
    assert outputs(FeatureParameters("PROBABILITY"), 0.5, 0.75, 1) == near([0, math.log(3), 11.5129], abs=1e-2)
    assert outputs(FeatureParameters("CONTINUOUS", mean=10, stddev=2), 14, 1000, -1000) == near([2, 11.513, -11.513])
    assert outputs(FeatureParameters("DO_NOT_PREPROCESS"), 1000) == [1000]
    assert outputs(FeatureParameters("CLIP_LOG"), math.e, 0.5, 0) == near([1, math.log(0.5), -11.513])
    assert outputs(FeatureParameters("ENUM", possible_values=(2, 5)), 2, 5, 3) == [[1, 0], [0, 1], [0, 0]]
    quantile = FeatureParameters("QUANTILE", quantiles=(0, 10, 30))
    assert outputs(quantile, -1, 5, 10, 25, 99) == near([0, 0.25, 0.5, 0.875, 1])
    root = FeatureParameters("BOXCOX", boxcox_lambda=0.5, boxcox_shift=1, mean=3, stddev=2)
    assert outputs(root, 15) == near([(2 * (math.sqrt(16) - 1) - 3) / 2])
    logarithm = FeatureParameters("BOXCOX", boxcox_lambda=0.0, boxcox_shift=0, mean=0, stddev=1)
    assert outputs(logarithm, math.e) == near([1])


def test_a_missing_value_becomes_0_whatever_its_type():
    for parameters in (
        FeatureParameters("CONTINUOUS", mean=10, stddev=2),
        FeatureParameters("BOXCOX", boxcox_lambda=0.5, boxcox_shift=1, mean=3, stddev=2),
        FeatureParameters("QUANTILE", quantiles=(-2, -1)),
        FeatureParameters("PROBABILITY"),
        FeatureParameters("DO_NOT_PREPROCESS"),
    ):
        assert outputs(parameters, math.nan) == [0]
    assert outputs(FeatureParameters("ENUM", possible_values=(0, 1)), math.nan) == [[0, 0]]


def mixed(rows=400):
    """Return raw features of every type, some of them missing, and parameters of every type."""
    even = np.resize(EVEN, rows)
    raw = np.column_stack(
        [NORMAL, np.floor(even * 4), even, even > 0.5, EXPONENTIAL, NORMAL**3 * 10, NORMAL + 5, EXPONENTIAL]
    ).astype(np.float32)
    raw[::7, :6] = np.nan
    overrides = {5: "QUANTILE", 6: "DO_NOT_PREPROCESS", 7: "CLIP_LOG"}
    return raw, identify_features(raw, feature_overrides=overrides)


def in_numpy(parameters, raw):
    """Transform one feature value by value, in float64, as the definition says it."""
    p, rows = parameters, []
    for x in raw.astype(np.float64):
        if np.isnan(x):
            rows.append([0.0] * len(p.possible_values or [0]))
        elif p.feature_type == "ENUM":
            rows.append([float(x == value) for value in p.possible_values])
        elif p.feature_type == "QUANTILE":
            rows.append([np.interp(x, p.quantiles, np.linspace(0, 1, len(p.quantiles)))])
        elif p.feature_type == "BOXCOX":
            power = (max(x + p.boxcox_shift, 1e-6) ** p.boxcox_lambda - 1) / p.boxcox_lambda
            rows.append([(power - p.mean) / p.stddev])
        else:
            inside = min(max(x, 1e-5), 1 - 1e-5)
            by_type = {
                "BINARY": float(x != 0),
                "PROBABILITY": math.log(inside / (1 - inside)),
                "CONTINUOUS": (x - (p.mean or 0)) / (p.stddev or 1),
                "DO_NOT_PREPROCESS": x,
                "CLIP_LOG": math.log(max(x, 1e-6)),
            }
            rows.append([by_type[p.feature_type]])
    return np.clip(rows, -11.513, 11.513)


def test_the_module_agrees_with_the_definition_value_by_value():
    """Outputs stand by type, then by feature: binary, probability, continuous, Box-Cox, enum, quantile, others."""
    raw, normalization = mixed()
    kinds = [normalization[feature].feature_type for feature in range(8)]
    assert kinds == [
        "CONTINUOUS", "ENUM", "PROBABILITY", "BINARY", "BOXCOX", "QUANTILE", "DO_NOT_PREPROCESS", "CLIP_LOG",
    ]  # fmt: skip
    module = Preprocessor(normalization, 8)
    ours = module(torch.from_numpy(raw)).numpy()
    expected = np.concatenate([in_numpy(normalization[f], raw[:, f]) for f in (3, 2, 0, 4, 1, 5, 6, 7)], axis=1)
    assert ours.shape == (len(raw), module.output_size) == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_parameters_survive_the_file_and_reagents_spelling_of_it(tmp_path):
    raw, normalization = mixed()
    path = tmp_path / "normalization.json"
    write_normalization(path, normalization)
    again = read_normalization(path)
    assert again == normalization
    assert torch.equal(*(Preprocessor(parameters, 8)(torch.from_numpy(raw)) for parameters in (normalization, again)))
    texts = json.loads(path.read_text())
    assert set(texts) == {str(feature) for feature in range(8)}
    assert list(json.loads(texts["0"])) == [
        "feature_type", "boxcox_lambda", "boxcox_shift", "mean", "stddev", "possible_values", "quantiles",
        "min_value", "max_value",
    ]  # fmt: skip
    path.write_text(json.dumps({feature: json.loads(text) for feature, text in texts.items()}))
    assert read_normalization(path) == normalization, "objects instead of texts"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[]", "an object with an entry for each feature"),
        ("nonsense", "not a normalization"),
        ('{"x": {"feature_type": "BINARY"}}', "feature 'x' must be a number"),
        ('{"0": {"feature_type": "BINARY", "colour": 1}}', "with ReAgent's parameters"),
        ('{"0": {"feature_type": "ROUND"}}', "feature 0 has the type 'ROUND'; they are BINARY"),
        ('{"0": {"feature_type": "CONTINUOUS", "mean": 1}}', "feature 0 is CONTINUOUS and needs numbers as stddev"),
        ('{"0": {"feature_type": "CONTINUOUS", "mean": NaN, "stddev": 1}}', "mean is not finite"),
        ('{"0": {"feature_type": "CONTINUOUS", "mean": 1, "stddev": 0}}', "stddev must be above 0"),
        ('{"0": {"feature_type": "QUANTILE", "quantiles": [2, 1]}}', "in rising order"),
        ('{"0": {"feature_type": "ENUM", "possible_values": 3}}', "possible_values must be a list"),
    ],
)
def test_a_damaged_file_is_refused_with_the_feature_at_fault(tmp_path, content, fault):
    path = tmp_path / "normalization.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"normalization\.json") as caught:
        read_normalization(path)
    assert fault in str(caught.value)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_normalization(tmp_path / "absent.json")
    with pytest.raises(DatasetError, match="feature 4, the observations have 4"):
        Preprocessor({4: FeatureParameters("BINARY")}, 4)


@pytest.fixture(scope="module")
def episodes():
    raw, _ = mixed()
    raw = np.nan_to_num(raw, nan=0.0)
    return Episodes(
        observations=raw,
        actions=(EVEN > 0.5).astype(np.int64),
        rewards=EVEN,
        probabilities=np.full((400, 2), 0.5),
        lengths=np.full(40, 10),
    )


def train(episodes, normalization=None, **overrides):
    values = {"data.normalization": "reagent", "training.epochs": 1, "agent.members": 2} | overrides
    run = TrainingRun(episodes, load_preset(PRESET, TrainingPreset, values), normalization=normalization)
    run.run_epoch()
    return run


def test_a_policy_learns_on_normalized_features_and_takes_raw_ones(episodes, tmp_path):
    """From the checkpoint as well, where a feature that is missing is as good as any."""
    run = train(episodes)
    assert run.preprocessor.normalization == identify_features(run.fitting.observations)
    assert run.policy().observation_size == 8 < run.preprocessor.output_size
    CheckpointFolder(tmp_path, run, keep=1).save(1.0, "")
    policy = load_policy(tmp_path, "latest", observation_size=8, n_actions=2)
    inputs = policy.random_inputs(50, torch.Generator().manual_seed(0))
    assert inputs.isnan().any()
    assert torch.equal(policy(inputs), run.policy()(inputs))
    assert policy(inputs).isfinite().all()
    features = run.preprocessor(torch.from_numpy(run.fitting.observations))
    standardized = (features - run.mean) / run.scale
    torch.testing.assert_close(standardized.mean(dim=0), torch.zeros(run.preprocessor.output_size), atol=1e-4, rtol=0)


def test_a_run_goes_on_only_with_its_own_normalization(episodes, tmp_path):
    given = identify_features(episodes.observations, feature_overrides={0: "DO_NOT_PREPROCESS"})
    run = train(episodes, given)
    CheckpointFolder(tmp_path, run, keep=1).save(1.0, "")
    resumed = train(episodes, given)
    resume(tmp_path, resumed)
    with pytest.raises(CheckpointError, match="another normalization of the features"):
        resume(tmp_path, train(episodes))
