"""Applying ReAgent's normalization, in training and inside the served model, which takes raw features.

Source: ReAgent's ``preprocessor``. What differs: between quantiles that are nearer than 1e-6 the place is exact.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batch_rl.data.feature_types import (
    BINARY,
    BOXCOX,
    CLIP_LOG,
    CONTINUOUS,
    DO_NOT_PREPROCESS,
    ENUM,
    FEATURE_TYPES,
    PROBABILITY,
    QUANTILE,
    FeatureParameters,
    Normalization,
    describe_types,
)
from batch_rl.errors import DatasetError

LEAST_PROBABILITY = 1e-5
LARGEST_OUTPUT = 11.513  # the logit of 1 - LEAST_PROBABILITY
BOX_COX_FLOOR = 1e-6
LOG_FLOOR = 1e-6


class Preprocessor(nn.Module):
    """Raw features in, normalized ones out: by type in the order of ``FEATURE_TYPES``, then by feature id.

    Args:
        normalization: a feature that is missing there is not used.
        observation_size: number of raw features.
    Raises:
        DatasetError: a feature is not in the observation.
    """

    def __init__(self, normalization: Normalization, observation_size: int) -> None:
        super().__init__()
        if strange := [feature for feature in normalization if feature >= observation_size]:
            raise DatasetError(
                f"the normalization has feature {strange[0]}, the observations have {observation_size}, from 0."
            )
        self.normalization = dict(sorted(normalization.items()))
        self.observation_size = observation_size
        self.output_size = 0
        self._groups: list[str] = []
        for kind in FEATURE_TYPES:
            of_kind = {f: p for f, p in self.normalization.items() if p.feature_type == kind}
            if of_kind:
                self._groups.append(kind)
                self.register_buffer(f"{kind}_columns", torch.tensor(list(of_kind)))
                self._register(kind, list(of_kind.values()))
                self.output_size += sum(len(p.possible_values or ()) if kind == ENUM else 1 for p in of_kind.values())

    def _register(self, kind: str, parameters: list[FeatureParameters]) -> None:
        def keep(name: str, values: Any) -> None:
            self.register_buffer(f"{kind}_{name}", torch.from_numpy(np.array(values, dtype=np.float32)))

        if kind in (CONTINUOUS, BOXCOX):
            keep("mean", [p.mean for p in parameters])
            keep("stddev", [p.stddev for p in parameters])
        if kind == BOXCOX:
            keep("shift", [p.boxcox_shift for p in parameters])
            # Below this the power is the logarithm, in float32 exactly.
            exponents = np.array([p.boxcox_lambda for p in parameters], dtype=np.float64)
            keep("lambda", np.where(np.abs(exponents) < 1e-8, 1e-8, exponents))
        if kind == ENUM:
            # A row of outputs for all features: which column each is of, and the value that it stands for.
            columns = [i for i, p in enumerate(parameters) for _ in p.possible_values or ()]
            self.register_buffer("ENUM_outputs", torch.tensor(columns))
            keep("values", [value for p in parameters for value in p.possible_values or ()])
        if kind == QUANTILE:
            # The place is a sum of ramps between neighboring quantiles; features with fewer quantiles have flat ramps.
            widest = max(len(p.quantiles or ()) for p in parameters)
            starts, widths, heights = np.zeros((3, len(parameters), widest - 1))
            widths[:] = 1.0
            for row, p in enumerate(parameters):
                edges = np.array(p.quantiles)
                starts[row, : len(edges) - 1] = edges[:-1]
                widths[row, : len(edges) - 1] = np.diff(edges)
                heights[row, : len(edges) - 1] = 1 / (len(edges) - 1)
            keep("starts", starts)
            keep("widths", np.maximum(widths, np.finfo(np.float32).tiny))
            keep("heights", heights)

    def forward(self, observations: Tensor) -> Tensor:
        """Return normalized features, (batch, output_size), for (batch, observation_size) float32."""
        outputs = []
        for kind in self._groups:
            raw = observations[:, self.get_buffer(f"{kind}_columns")]
            absent = torch.isnan(raw)
            values = self._transform(kind, torch.where(absent, torch.zeros_like(raw), raw))
            if kind == ENUM:
                absent = absent[:, self.get_buffer("ENUM_outputs")]
            if kind != DO_NOT_PREPROCESS:
                values = values.clamp(-LARGEST_OUTPUT, LARGEST_OUTPUT)
            outputs.append(torch.where(absent, torch.zeros_like(values), values))
        return torch.cat(outputs, dim=1)

    def _transform(self, kind: str, raw: Tensor) -> Tensor:
        def constant(name: str) -> Tensor:
            return self.get_buffer(f"{kind}_{name}")

        if kind == BINARY:
            return (raw != 0).to(raw.dtype)
        if kind == PROBABILITY:
            inside = raw.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            return torch.log(inside) - torch.log1p(-inside)
        if kind == CONTINUOUS:
            return (raw - constant("mean")) / constant("stddev")
        if kind == BOXCOX:
            logs = torch.log((raw + constant("shift")).clamp_min(BOX_COX_FLOOR))
            return (torch.expm1(constant("lambda") * logs) / constant("lambda") - constant("mean")) / constant("stddev")
        if kind == ENUM:
            return (raw[:, constant("outputs")] == constant("values")).to(raw.dtype)
        if kind == QUANTILE:
            ramps = ((raw.unsqueeze(2) - constant("starts")) / constant("widths")).clamp(0, 1)
            return (ramps * constant("heights")).sum(dim=2)
        if kind == CLIP_LOG:
            return torch.log(raw.clamp_min(LOG_FLOOR))
        return raw

    def random_inputs(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return raw features that reach every branch: inside and outside the data, whole numbers and missing ones."""
        lowest, highest = torch.zeros(self.observation_size), torch.ones(self.observation_size)
        for feature, parameters in self.normalization.items():
            if parameters.min_value is not None and parameters.max_value is not None:
                lowest[feature], highest[feature] = parameters.min_value, parameters.max_value
        shares = 2 * torch.rand((rows, self.observation_size), generator=generator) - 0.5
        inputs = lowest + shares * (highest - lowest)
        inputs[::2] = inputs[::2].round()
        inputs[::5] = torch.where(torch.rand(inputs[::5].shape, generator=generator) < 0.2, torch.nan, inputs[::5])
        return inputs


def describe_normalization(preprocessor: Preprocessor) -> str:
    """Return a sentence on which features have which type, and how many inputs they become."""
    normalization = preprocessor.normalization
    unused = [str(feature) for feature in range(preprocessor.observation_size) if feature not in normalization]
    left_out = f"; not used {', '.join(unused)}" if unused else ""
    return f"{describe_types(normalization)}{left_out}; {preprocessor.output_size} inputs."
