"""Every export computes what the trained network does, from raw features, by the program that would serve it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from batch_rl.data.feature_types import identify_features
from batch_rl.data.normalization import Preprocessor
from batch_rl.learning.export import FORMATS, ExportError, export_policy, require_onnx
from batch_rl.networks import PolicyNetwork, initial_parameters, seeded_generator
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import SCHEMA, TrainingPreset

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def policy(preprocessor=None, inputs=8):
    size = inputs if preprocessor is None else preprocessor.output_size
    generator = seeded_generator(0, 0)
    parameters = [5 * p for p in initial_parameters((size, 16, 3), 4, generator)]
    return PolicyNetwork(parameters, torch.linspace(-1, 1, size), torch.linspace(1, 2, size), 0.5, preprocessor)


def every_type():
    """Parameters of eight features, one of each type."""
    generator = np.random.default_rng(0)
    normal = generator.normal(size=200)
    raw = np.column_stack(
        [normal, np.arange(200) % 4, generator.random(200), normal > 0, np.exp(normal), normal**3, normal, normal]
    )
    parameters = identify_features(raw, feature_overrides={5: "QUANTILE", 6: "DO_NOT_PREPROCESS", 7: "CLIP_LOG"})
    assert len({feature.feature_type for feature in parameters.values()}) == 8
    return Preprocessor(parameters, 8)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_agrees_with_the_network_on_inputs_it_was_not_checked_with(name, normalized, tmp_path):
    """Batches of 1, 2 and 64; with every feature type, outside the logged range and missing ones."""
    network = policy(every_type() if normalized else None)
    (path,) = export_policy(network, tmp_path, [name])
    if name == "torchscript":
        model = torch.jit.load(str(path))
    elif name == "torch_export":
        model = torch.export.load(path).module()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))

        def model(inputs):
            return torch.from_numpy(session.run(["policy"], {"observation": inputs.numpy()})[0])

    generator = torch.Generator().manual_seed(7)
    for rows in (1, 2, 64):
        inputs = network.random_inputs(rows, generator)
        with torch.no_grad():
            expected = network(inputs)
            torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=0)
        assert expected.sum(dim=1).tolist() == pytest.approx([1] * rows, abs=1e-5)
    if normalized:
        assert inputs.isnan().any()


def test_the_description_names_every_file_and_the_first_is_the_model(tmp_path):
    paths = export_policy(policy(), tmp_path, ["torch_export", "torchscript"])
    description = json.loads((tmp_path / "model.json").read_text())
    assert [path.name for path in paths] == ["model.pt2", "model.pt"]
    assert (description["format"], description["file"]) == ("torch_export", "model.pt2")
    assert description["files"] == {"torch_export": "model.pt2", "torchscript": "model.pt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.npz", "model.pt", "model.pt2"]


def test_an_export_that_computes_something_else_is_not_left_behind(tmp_path, monkeypatch):
    other = policy().q_values
    wrong = FORMATS["torch_export"].__class__("model.pt2", lambda *_: _[2].write_text("x"), lambda _: other)
    monkeypatch.setitem(FORMATS, "torch_export", wrong)
    with pytest.raises(ExportError, match="differs from the trained network"):
        export_policy(policy(), tmp_path, ["torch_export"])
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_before_anything_is_trained(monkeypatch):
    require_onnx()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"onnxscript is not installed.*sagemaker-launcher\[onnx\]"):
        require_onnx()


def test_the_preset_offers_exactly_the_formats_there_are():
    assert SCHEMA["training.export"].choices == tuple(FORMATS)
    path = Path(__file__).resolve().parents[2] / "presets" / "preset-cartpole-ddqnbcq.yaml"
    chosen = load_preset(path, TrainingPreset, {"training.export": "[onnx, torchscript]"})
    assert chosen.training.export == ("onnx", "torchscript")
