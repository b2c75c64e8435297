"""ReAgent's normalization: the type of every feature found in the data, with the parameters of its transformation.

They are written in ReAgent's JSON, a text per feature; feature ids are the positions in the observation.
``batch_rl.data.normalization`` applies them. Nothing here needs torch.

| type | when | becomes |
|---|---|---|
| BINARY | all 0 or 1, or constant | whether it is not 0 |
| PROBABILITY | all in [0, 1] | its logit, between those of 1e-5 and 1 - 1e-5 |
| ENUM | at most ten different whole numbers, none negative | an output per value, all 0 for an unknown one |
| BOXCOX | continuous, and much nearer to a normal distribution after a power transformation | that, standardised |
| QUANTILE | continuous, far from normal, and quantiles are allowed | its place among 20 quantiles, in [0, 1] |
| CONTINUOUS | else | standardised, by a deviation of at least 1 |
| DO_NOT_PREPROCESS, CLIP_LOG | only when asked for | itself; its logarithm, from 1e-6 on |

All but DO_NOT_PREPROCESS end within +-11.513. A missing value (NaN) counts for nothing when types are found,
and becomes 0.

Source: Gauci et al., "Horizon: Facebook's Open Source Applied Reinforcement Learning Platform", 2018, and
ReAgent's ``identify_types`` and ``normalization``. What differs: everything is computed in
float64; a Box-Cox exponent lies within +-5.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import DatasetError
from batch_rl.files import write_text_atomically

BINARY = "BINARY"
PROBABILITY = "PROBABILITY"
CONTINUOUS = "CONTINUOUS"
BOXCOX = "BOXCOX"
ENUM = "ENUM"
QUANTILE = "QUANTILE"
DO_NOT_PREPROCESS = "DO_NOT_PREPROCESS"
CLIP_LOG = "CLIP_LOG"
FEATURE_TYPES = (BINARY, PROBABILITY, CONTINUOUS, BOXCOX, ENUM, QUANTILE, DO_NOT_PREPROCESS, CLIP_LOG)  # of outputs

NORMALIZATION_FILE_NAME = "normalization.json"

LEAST_VALUES = 20  # fewer say nothing about a feature
LEAST_RANGE = 1e-4  # a continuous feature that varies less is left as it is
BOX_COX_FLOOR_IN_DATA = 1e-4
LARGEST_LAMBDA = 5.0
LAMBDAS_NEAR_ONE = (0.9, 1.1)  # exponents that change too little
NEARER_TO_NORMAL = 10.0  # how often smaller the test statistic must become
LARGEST_BOX_COX_DEVIATION = 1e8
SEARCHED_VALUES = 10_000  # a first look at the exponent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureParameters:
    """What is known about a feature, under ReAgent's names."""

    feature_type: str
    boxcox_lambda: float | None = None
    boxcox_shift: float | None = None
    mean: float | None = None
    stddev: float | None = None
    possible_values: tuple[int, ...] | None = None
    quantiles: tuple[float, ...] | None = None
    min_value: float | None = None
    max_value: float | None = None


Normalization = Mapping[int, FeatureParameters]


def identify_features(
    values: NDArray[Any],
    *,
    max_unique_enum_values: int = 10,
    quantile_size: int = 20,
    quantile_k2_threshold: float = 1000.0,
    skip_box_cox: bool = False,
    skip_quantiles: bool = True,
    feature_overrides: Mapping[int, str] | None = None,
) -> dict[int, FeatureParameters]:
    """Find the type of every feature, and its parameters.

    Args:
        values: (rows, features), raw; NaN where a feature is absent. A feature with fewer than 20 values is left
            out, as the network then never sees it.
        max_unique_enum_values: how many different values an ENUM may have.
        quantile_size: number of quantiles.
        quantile_k2_threshold: the statistic of D'Agostino's and Pearson's test above which a feature is far from
            normal.
        skip_box_cox, skip_quantiles: leave out that type. Quantiles are left out by default, as in ReAgent's
            workflow.
        feature_overrides: types by feature id, instead of what the data say.
    Raises:
        DatasetError: an infinite value, an unknown type or feature in the overrides, or no feature is left.
    """
    if values.ndim != 2:
        raise DatasetError(f"features must have shape (rows, features), not {values.shape}.")
    overrides = dict(feature_overrides or {})
    for feature, chosen in overrides.items():
        if chosen not in FEATURE_TYPES or not 0 <= feature < values.shape[1]:
            raise DatasetError(
                f"feature {feature} cannot be made {chosen!r}: there are {values.shape[1]} features, from 0, of the "
                f"types {', '.join(FEATURE_TYPES)}."
            )
    identified = {}
    for feature in range(values.shape[1]):
        column = values[:, feature].astype(np.float64)
        if (absent := np.isnan(column)).any():
            column = column[~absent]
        if len(column) < LEAST_VALUES:
            continue
        if not np.isfinite([column.min(), column.max()]).all():
            raise DatasetError(f"feature {feature} has an infinite value.")
        identified[feature] = _identify(
            feature,
            column,
            overrides.get(feature),
            max_unique_enum_values=max_unique_enum_values,
            quantile_size=quantile_size,
            quantile_k2_threshold=quantile_k2_threshold,
            skip_box_cox=skip_box_cox,
            skip_quantiles=skip_quantiles,
        )
    if not identified:
        raise DatasetError(f"no feature has {LEAST_VALUES} values, which its type could be found from.")
    return identified


def _identify(
    feature: int,
    values: Floats,
    asked: str | None,
    *,
    max_unique_enum_values: int,
    quantile_size: int,
    quantile_k2_threshold: float,
    skip_box_cox: bool,
    skip_quantiles: bool,
) -> FeatureParameters:
    low, high = float(values.min()), float(values.max())
    feature_type = asked or _type_of(values, low, high, max_unique_enum_values)
    bounds: dict[str, Any] = {"min_value": low, "max_value": high}
    plain: dict[str, Any] = {"mean": 0.0, "stddev": 1.0, "boxcox_shift": 0.0} | bounds
    if asked in (BOXCOX, QUANTILE) and low == high:
        raise DatasetError(f"feature {feature} is always {low:g}, so it cannot be made {asked}.")
    if feature_type == ENUM:
        possible = np.unique(values.astype(np.int64)).tolist()
        return FeatureParameters(ENUM, possible_values=tuple(possible), **plain)
    if feature_type == DO_NOT_PREPROCESS:
        return FeatureParameters(feature_type, **(plain | _moments(values)))
    if feature_type not in (CONTINUOUS, BOXCOX, QUANTILE):
        return FeatureParameters(feature_type, **plain)
    if high - low < LEAST_RANGE and feature_type == CONTINUOUS:
        return FeatureParameters(CONTINUOUS, mean=0.0, stddev=1.0, boxcox_shift=0.0)
    statistic = np.inf if asked else _distance_from_normal(values)
    if asked == BOXCOX or (asked is None and not skip_box_cox):
        logs = np.log(np.maximum(values - low, BOX_COX_FLOOR_IN_DATA))
        exponent = _box_cox_lambda(logs)
        transformed = _box_cox(logs, exponent)
        changes = not LAMBDAS_NEAR_ONE[0] <= exponent <= LAMBDAS_NEAR_ONE[1]
        if asked or (changes and _is_improved(statistic, transformed, quantile_k2_threshold)):
            parameters = bounds | _moments(transformed)
            return FeatureParameters(BOXCOX, boxcox_lambda=exponent, boxcox_shift=-low, **parameters)
    if asked == QUANTILE or (asked is None and statistic > quantile_k2_threshold and not skip_quantiles):
        at = np.arange(quantile_size + 1) / quantile_size
        quantiles = np.unique(np.quantile(values, at, method="interpolated_inverted_cdf")).tolist()
        return FeatureParameters(QUANTILE, quantiles=tuple(quantiles), mean=0.0, stddev=1.0, **bounds)
    return FeatureParameters(CONTINUOUS, **(bounds | _moments(values)))


def _type_of(values: Floats, low: float, high: float, max_unique: int) -> str:
    if low == high or (low == 0 and high == 1 and bool(((values == 0) | (values == 1)).all())):
        return BINARY
    if low >= 0 and high <= 1:
        return PROBABILITY
    # Most continuous features are told by their first values.
    for part in (values[:1000], values):
        if low < 0 or (part != np.floor(part)).any() or len(np.unique(part)) > max_unique:
            return CONTINUOUS
    return ENUM


def _moments(values: Floats) -> dict[str, float]:
    """Return the mean, and the deviation that ReAgent divides by: a small feature is never made larger."""
    return {"mean": float(values.mean()), "stddev": max(float(values.std(ddof=1)), 1.0)}


def _is_improved(before: float, transformed: Floats, threshold: float) -> bool:
    statistic, deviation = _distance_from_normal(transformed), float(transformed.std(ddof=1))
    usable = np.isfinite(deviation) and 1e-8 < deviation < LARGEST_BOX_COX_DEVIATION
    return bool(usable and before > NEARER_TO_NORMAL * statistic and statistic <= threshold)


def _distance_from_normal(values: Floats) -> float:
    """Return K2, the sum of the squared z-scores of skewness and kurtosis.

    Source: D'Agostino, "Transformation to normality of the null distribution of g1", Biometrika 1970;
    Anscombe, Glynn, "Distribution of the kurtosis statistic b2 for normal samples", Biometrika 1983.
    """
    n = float(len(values))
    deviations = values - values.mean()
    squares = deviations * deviations
    variance = float(squares.mean())
    skewness = float(np.dot(squares, deviations)) / n / variance**1.5
    kurtosis = float(np.dot(squares, squares)) / n / variance**2
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta2 = 3 * (n * n + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = np.sqrt(2 * (beta2 - 1)) - 1
    z_skewness = np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(0.5 * np.log(w2))
    expected = 3 * (n - 1) / (n + 1)
    spread = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - expected) / np.sqrt(spread)
    root = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / root * (2 / root + np.sqrt(1 + 4 / root**2))
    z_kurtosis = (1 - 2 / (9 * a) - np.cbrt((1 - 2 / a) / (1 + x * np.sqrt(2 / (a - 4))))) / np.sqrt(2 / (9 * a))
    return float(z_skewness**2 + z_kurtosis**2)


def _box_cox(logs: Floats, exponent: float) -> Floats:
    """Return (x^exponent - 1) / exponent for x = exp(logs)."""
    return logs if exponent == 0 else np.expm1(exponent * logs) / exponent


def _box_cox_lambda(logs: Floats) -> float:
    """Return the exponent of highest likelihood: a grid on some of the values, then parabolas through all.

    Source: Box, Cox, "An Analysis of Transformations", 1964. With logarithms around their mean the likelihood is
    the negative logarithm of the transformed values' deviation.
    """
    centered = logs - logs.mean()

    def cost(of: Floats, exponent: float) -> float:
        # Far from 0 the subtraction of 1 changes nothing but the time.
        moved = np.exp(exponent * of) / exponent if abs(exponent) > 1e-3 else _box_cox(of, exponent)
        return float(np.log(moved.std()))

    some = centered[:: -(-len(centered) // SEARCHED_VALUES)]
    grid = np.linspace(-LARGEST_LAMBDA, LARGEST_LAMBDA, 41)
    best = float(grid[int(np.argmin([cost(some, float(exponent)) for exponent in grid]))])
    for of, width in ((some, 0.25), (some, 0.01), (centered, 0.01), (centered, 0.001)):
        best = _lowest_point(partial(cost, of), best, width)
    return best


def _lowest_point(cost: Callable[[float], float], start: float, width: float) -> float:
    """Walk to where the lowest of three points is in the middle; return the lowest point of their parabola."""
    at = start
    left, middle, right = cost(at - width), cost(at), cost(at + width)
    while min(left, right) < middle and abs(at) < LARGEST_LAMBDA:
        if left < right:
            at, left, middle, right = at - width, cost(at - 2 * width), left, middle
        else:
            at, left, middle, right = at + width, middle, right, cost(at + 2 * width)
    curvature = left - 2 * middle + right
    moved = at + (0.5 * width * (left - right) / curvature if curvature > 0 else 0.0)
    return float(np.clip(moved, -LARGEST_LAMBDA, LARGEST_LAMBDA))


def describe_types(normalization: Normalization) -> str:
    """Return a few words on which features have which type."""
    of_type = {
        kind: [str(feature) for feature, parameters in normalization.items() if parameters.feature_type == kind]
        for kind in FEATURE_TYPES
    }
    return "features by type: " + "; ".join(f"{kind} {', '.join(ids)}" for kind, ids in of_type.items() if ids)


def write_normalization(path: Path, normalization: Normalization) -> None:
    """Write parameters as ReAgent does: an object that has a JSON text for each feature id."""
    texts = {
        str(feature): json.dumps(asdict(parameters), allow_nan=False) for feature, parameters in normalization.items()
    }
    write_text_atomically(path, json.dumps(texts, indent=2) + "\n")


def read_normalization(path: Path) -> dict[int, FeatureParameters]:
    """Read what ``write_normalization`` or ReAgent wrote; a feature may also be an object instead of its text.

    Raises:
        DatasetError: the file cannot be read, or a feature is none, of a type that is not known or incomplete.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return parse_normalization(content)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({type(error).__name__}).") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not a normalization: {error}.") from error


def parse_normalization(content: object) -> dict[int, FeatureParameters]:
    """Return parameters from plain JSON values.

    Raises:
        ValueError: as ``read_normalization``.
    """
    if not isinstance(content, Mapping) or not content:
        raise ValueError("it must be an object with an entry for each feature")
    names = {field.name for field in fields(FeatureParameters)}
    normalization = {}
    for feature, entry in content.items():
        values = json.loads(entry) if isinstance(entry, str) else entry
        if not str(feature).isdigit() or not isinstance(values, Mapping) or not set(values) <= names:
            raise ValueError(f"feature {str(feature)[:80]!r} must be a number from 0, with ReAgent's parameters")
        normalization[int(feature)] = _checked(int(feature), dict(values))
    return dict(sorted(normalization.items()))


_NEEDED = {
    CONTINUOUS: ("mean", "stddev"),
    BOXCOX: ("mean", "stddev", "boxcox_lambda", "boxcox_shift"),
    ENUM: ("possible_values",),
    QUANTILE: ("quantiles",),
}


def _checked(feature: int, values: dict[str, Any]) -> FeatureParameters:
    kind = values.get("feature_type")
    if kind not in FEATURE_TYPES:
        raise ValueError(f"feature {feature} has the type {kind!r}; they are {', '.join(FEATURE_TYPES)}")
    for name in ("possible_values", "quantiles"):
        if values.get(name) is not None:
            if not isinstance(values[name], list | tuple):
                raise ValueError(f"feature {feature}: {name} must be a list")
            values[name] = tuple(values[name])
    for name in _NEEDED.get(kind, ()):
        items = values.get(name)
        items = items if isinstance(items, tuple) else (items,)
        if not items or not all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
            raise ValueError(f"feature {feature} is {kind} and needs numbers as {name}")
        if not np.isfinite(items).all():
            raise ValueError(f"feature {feature}: {name} is not finite")
    parameters = FeatureParameters(**values)
    if parameters.stddev is not None and not parameters.stddev > 0:
        raise ValueError(f"feature {feature}: stddev must be above 0")
    quantiles = parameters.quantiles
    if kind == QUANTILE and (quantiles is None or len(quantiles) < 2 or not (np.diff(quantiles) > 0).all()):
        raise ValueError(f"feature {feature}: quantiles must be at least two, in rising order")
    return parameters
