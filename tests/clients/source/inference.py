"""Serves what train.py wrote: multiplies by the factor."""

import json
import pathlib


def model_fn(model_dir):
    """Read the weights of the first host."""
    return json.loads((pathlib.Path(model_dir) / "weights-algo-1.json").read_text())["factor"]


def input_fn(body, content_type):
    """Read numbers, one a line or in a list."""
    text = body.decode() if isinstance(body, bytes) else body
    return json.loads(text) if "json" in content_type else [float(line) for line in text.splitlines()]


def predict_fn(values, factor):
    """Multiply."""
    return [value * factor for value in values]


def output_fn(values, accept):
    """Answer in the form that was asked for."""
    return json.dumps(values) if "json" in accept else "\n".join(map(str, values))
