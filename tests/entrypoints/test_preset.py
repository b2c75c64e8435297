"""Presets: what is read, what is refused, and that a refusal says where and what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from batch_rl.errors import PresetError
from batch_rl.presets.checking import check_request
from batch_rl.presets.reading import choose_preset, find_preset, load_preset, scalar
from batch_rl.presets.schema import ALIASES, SCHEMA, CollectionPreset, EvaluationPreset, TrainingPreset

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ROOT / "presets"
EVALUATION = "environment:\n  name: CartPole-v0\nevaluation:\n  steps: 10\n"


@pytest.fixture
def write(tmp_path):
    def write_preset(content):
        path = tmp_path / "x.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_preset


def refusal(path, kind=EvaluationPreset, **overrides):
    with pytest.raises(PresetError) as caught:
        load_preset(path, kind, overrides.get("overrides"))
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_preset_loads_for_the_entry_points_it_names(path):
    (used_by,) = re.findall(r"Used by (\w+\.py(?:(?:, | and )\w+\.py)*)", path.read_text(encoding="utf-8"))
    named = re.findall(r"\w+\.py", used_by)
    assert named
    for entry_point in named:
        check_request({"folders": [str(PRESETS)], "entry_point": entry_point, "hyperparameters": {"preset": path.stem}})


def test_a_key_that_is_left_out_has_its_default():
    assert load_preset(PRESETS / "preset-cartpole-ddqnbcq-env.yaml", EvaluationPreset).evaluation.steps == 1000


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("evaluation:\n  stps: 5\n", 2, "unknown key 'evaluation.stps'; did you mean 'evaluation.steps'?"),
        ("evaluatoin:\n  steps: 5\n", 1, "unknown key 'evaluatoin'; did you mean 'evaluation'?"),
        ("steps: 5\n", 1, "did you mean 'collection.steps'?"),
        ("seed: 1\nseed: 2\n", 2, "'seed' again; first given on line 1"),
        ("evaluation:\n  steps: 1\n  steps: 2\n", 3, "'evaluation.steps' again"),
        ("evaluation:\n\tsteps: 5\n", 2, "a tab; YAML is indented with spaces"),
        ("evaluation:\n  steps:\t5\n\tseed: 1\n", 2, "a tab"),
        ("evaluation:\n  steps: many\n", 2, '"many"; must be a number'),
        ("evaluation:\n  steps: '5'\n", 2, '"5"; must be a number'),
        ("evaluation:\n  steps: 1.5\n", 2, "must be a whole number"),
        ("evaluation:\n  steps: true\n", 2, "true; must be a number"),
        ("evaluation:\n  steps: null\n", 2, "null; must be a number"),
        ("evaluation:\n  steps: 0\n", 2, "0; must be in [1, inf)"),
        ("evaluation:\n  steps: 1" + "0" * 400 + "\n", 2, "must be a finite number"),
        ("evaluation:\n  steps: [5]\n", 2, "must be a number"),
        ("evaluation:\n  checkpoint: oldest\n", 2, "must be one of: latest, best"),
        ("environment:\n  name: 5\n", 2, "5; must be text"),
        ("collection:\n  file_name: ../log.csv\n", 2, "must have the form"),
        ("agent:\n  learning_rate: .nan\n", 2, "must be a finite number"),
        ("agent:\n  discount: .inf\n", 2, "must be a finite number"),
        ("agent:\n  discount: 1e999\n", 2, "must be a finite number"),
        ("agent:\n  discount: 1.01\n", 2, "must be in [0, 1]"),
        ("agent:\n  learning_rate: 0\n", 2, "must be in (0, inf)"),
        ("agent:\n  double_q: yes\n", 2, "must be true or false"),
        ("agent:\n  hidden_sizes: [64, x]\n", 2, "must be a list of whole numbers"),
        ("agent:\n  hidden_sizes: []\n", 2, "must be a list of whole numbers"),
        ("training:\n  export: [onnx, onyx]\n", 2, "must be a list of: torchscript, torch_export, onnx"),
        ("training:\n  export: onnx\n", 2, "must be a list of: torchscript"),
        ("agent:\n  hidden_sizes: [64, 0]\n", 2, "must be in [1, 65536]"),
        ("seed: !!python/object/apply:os.system ['true']\n", 1, "tag"),
        ("seed: !mine 5\n", 1, "the tag !mine is not allowed"),
        ("a: &a [1]\nb: *a\n", 1, "anchors and aliases"),
        ("- a\n- b\n", 1, "a preset must be a mapping"),
        ("evaluation: 5\n", 1, "'evaluation' must be a mapping"),
        ("? [a]\n: 5\n", 1, "a key must be a plain word"),
        ("a: [1\nb: 2\n", 2, "expected"),
        ("seed: 1\n---\nseed: 2\n", 2, "expected a single document"),
        ("x: " + "[" * 5000 + "\n", 1, "nested too deeply"),
        (b"seed: 1\n# caf\xe9\n", 2, "not UTF-8"),
    ],
)
def test_a_fault_in_the_file_is_refused_with_its_line(write, content, line, words):
    path = write(content)
    message = refusal(path)
    assert message.startswith(f"{path}, line {line}: ")
    assert words in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("seed: 1\x00\n", "not YAML text"),
        ("#" * 1_000_001, "larger than 1 MB"),
        ("environment:\n  name: CartPole-v0\n", "needs section evaluation"),
        ("evaluation:\n  steps: 5\nenvironment: {}\n", "lacks the key 'environment.name'"),
    ],
)
def test_a_fault_of_the_whole_file_is_refused(write, content, words):
    assert words in refusal(write(content))


def test_a_preset_for_another_entry_point_says_whose_it_is():
    message = refusal(PRESETS / "preset-cartpole-ddqnbcq-env.yaml", TrainingPreset)
    assert "train.py needs sections data, agent" in message
    assert "written for evaluate.py" in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-4", 1e-4), ("5E3", 5e3), ("1.", 1.0), (".5", 0.5), ("-3", -3), ("010", 10), ("true", True)],
        *[("yes", "yes"), ("1:30", "1:30"), ("1_000", "1_000"), ("0x10", "0x10"), ("", None), ("~", None)],
    ],
)
def test_plain_text_is_read_by_yaml_1_2(text, value):
    """YAML 1.1, PyYAML's rule, takes 1e-4 for text, 010 for 8, 1:30 for 90 and yes for true."""
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_a_whole_number_serves_where_a_real_one_is_meant(write):
    agent = "data: {}\nbcq: {}\nope: {}\ntraining: {}\nagent: {learning_rate: 1, discount: 1e-1}\n"
    loaded = load_preset(write(agent), TrainingPreset).agent
    assert (loaded.learning_rate, type(loaded.learning_rate)) == (1.0, float)
    assert loaded.discount == 0.1


@pytest.mark.parametrize(
    ("name", "raw", "read"),
    [
        ("agent.learning_rate", 0.5, lambda p: p.agent.learning_rate == 0.5),
        ("agent.learning_rate", "5e-1", lambda p: p.agent.learning_rate == 0.5),
        ("rl.agent_params.network_wrappers.main.learning_rate", 0.5, lambda p: p.agent.learning_rate == 0.5),
        ("rl.agent_params.algorithm.discount", 0.5, lambda p: p.agent.discount == 0.5),
        ("discount", "0.5", lambda p: p.agent.discount == 0.5),
        ("improve_steps", 7, lambda p: p.training.epochs == 7),
        ("rl.improve_steps:TrainingSteps", "7", lambda p: p.training.epochs == 7),
        ("save_model", 0, lambda p: p.training.save_model is False),
        ("save_model", "1", lambda p: p.training.save_model is True),
        ("agent.double_q", "false", lambda p: p.agent.double_q is False),
        ("agent.hidden_sizes", "[32, 16]", lambda p: p.agent.hidden_sizes == (32, 16)),
        ("agent.hidden_sizes", [8], lambda p: p.agent.hidden_sizes == (8,)),
        ("seed", "7", lambda p: p.seed == 7),
        ("data.columns", '{"reward": "gain"}', lambda p: p.data.columns == {"reward": "gain"}),
        ("data.columns", {"state_features": ["a", "b"]}, lambda p: p.data.columns == {"state_features": ("a", "b")}),
        ("data.action_names", "[left, right]", lambda p: p.data.action_names == ("left", "right")),
    ],
)
def test_a_hyperparameter_overrides_a_value(name, raw, read):
    assert read(load_preset(PRESETS / "preset-cartpole-ddqnbcq.yaml", TrainingPreset, {name: raw}))


@pytest.mark.parametrize(
    ("name", "kind", "preset"),
    [
        ("evaluation_episodes", EvaluationPreset, "preset-cartpole-ddqnbcq-env"),
        ("evaluate_episodes", EvaluationPreset, "preset-cartpole-ddqnbcq-env"),
        ("rl.evaluation_steps:EnvironmentEpisodes", EvaluationPreset, "preset-cartpole-ddqnbcq-env"),
        ("num_envs", CollectionPreset, "preset-cartpole-random"),
    ],
)
def test_the_other_entry_points_take_overrides_too(name, kind, preset):
    loaded = load_preset(PRESETS / f"{preset}.yaml", kind, {name: 8})
    assert 8 in (getattr(loaded, "evaluation", None) or loaded.collection).__dict__.values()


def test_every_old_name_leads_to_a_key_of_the_schema():
    assert set(ALIASES.values()) <= set(SCHEMA)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"agent.learning_rte": 1}, "did you mean 'agent.learning_rate'?"),
        ({"learning_rate": 1}, "did you mean 'agent.learning_rate'?"),
        (
            {"rl.agent_params.network_wrappers.main.learning_rte": 1},
            "did you mean 'rl.agent_params.network_wrappers.main.learning_rate'?",
        ),
        ({"agent": 1}, "unknown hyperparameter 'agent'"),
        ({"a\nb\ud800": 1}, r"unknown hyperparameter 'a\nb\ud800'."),
        ({"zzz": 1}, "unknown hyperparameter 'zzz'."),
        ({"agent.learning_rate": "fast"}, "hyperparameter 'agent.learning_rate' is \"fast\"; must be a number"),
        ({"agent.learning_rate": float("nan")}, "must be a finite number"),
        ({"agent.learning_rate": -1}, "must be in (0, inf)"),
        ({"agent.double_q": "False!"}, "must be true or false"),
        ({"training.epochs": 2.5}, "must be a whole number"),
        ({"agent.hidden_sizes": "64;64"}, "must be a list"),
        ({"data.columns": "gain"}, "must be a mapping, as {reward: gain"),
        ({"data.columns": {"reward": ["gain", "tip"]}}, "'reward' must be the name of a column"),
        ({"data.columns": {"reward": "gain", "action": "gain"}}, "a column is named twice"),
        ({"data.action_names": ["left", "left"]}, "must be a list of different names"),
        ({"evaluate_steps": 5}, "train.py reads no section 'evaluation'"),
        ({"discount": 0.9, "agent.discount": 0.8}, "'discount' and 'agent.discount' set 'agent.discount' differently"),
    ],
)
def test_a_wrong_hyperparameter_is_refused(overrides, words):
    assert words in refusal(PRESETS / "preset-cartpole-ddqnbcq.yaml", TrainingPreset, overrides=overrides)


def test_a_preset_is_found_in_the_first_folder_that_has_it_with_or_without_its_suffix(tmp_path):
    (tmp_path / "preset-cartpole-random.yaml").touch()
    folders = [tmp_path / "absent", tmp_path, PRESETS]
    assert find_preset("preset-cartpole-random.yaml", folders).parent == tmp_path
    assert find_preset("preset-cartpole-ddqnbcq", folders).parent == PRESETS
    (tmp_path / "mine.yml").touch()
    assert find_preset("mine", folders) == find_preset("mine.yml", folders) == tmp_path / "mine.yml"
    with pytest.raises(PresetError, match=r"no preset 'mine.yaml'"):
        find_preset("mine.yaml", folders)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("preset-cartpole-ddqnbc", "did you mean 'preset-cartpole-ddqnbcq'?"),
        ("zzz", "known: discrete_dqn_cartpole_offline,"),
        ("../presets/preset-cartpole-random", "chosen by its name"),
        ("", "chosen by its name"),
        (7, "chosen by its name"),
    ],
)
def test_a_name_without_a_preset_is_refused(name, words):
    with pytest.raises(PresetError) as caught:
        find_preset(name, [PRESETS])
    assert words in str(caught.value)


def test_the_old_name_of_the_hyperparameter_chooses_a_preset_too():
    hyperparameters = {"RLCOACH_PRESET": "preset-cartpole-ddqnbcq", "save_model": 1}
    assert choose_preset(TrainingPreset, hyperparameters, [PRESETS]).training.save_model


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({}, "set the hyperparameter 'preset'"),
        ({"preset": "a", "RLCOACH_PRESET": "b"}, "name different presets"),
        ({"preset": ["a"]}, "chosen by its name"),
    ],
)
def test_exactly_one_preset_must_be_named(hyperparameters, words):
    with pytest.raises(PresetError, match=words):
        choose_preset(TrainingPreset, hyperparameters, [PRESETS])


def preflight(request):
    return subprocess.run(
        [sys.executable, "-m", "batch_rl.presets"],
        input=request if isinstance(request, str) else json.dumps(request),
        cwd=ROOT / "entrypoints",
        capture_output=True,
        text=True,
        check=False,
    )


def request(entry_point="train.py", **hyperparameters):
    return {"folders": [str(PRESETS)], "entry_point": entry_point, "hyperparameters": hyperparameters}


@pytest.mark.parametrize(
    "good",
    [request(preset="preset-cartpole-ddqnbcq", discount="0.9"), request("theirs.py", anything=1)],
    ids=["ours", "an entry point of the user's own"],
)
def test_the_check_before_a_job_passes_good_requests_silently(good):
    done = preflight(good)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "bad",
    [
        request(preset="preset-cartpole-ddqnbc"),
        request(preset="preset-cartpole-ddqnbcq", dicsount=1),
        {"folders": 5, "entry_point": "train.py", "hyperparameters": {}},
        *["{", "[]", "{}"],
    ],
)
def test_the_check_before_a_job_says_in_one_line_what_is_wrong(bad):
    done = preflight(bad)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_check_before_a_job_loads_no_numeric_library():
    """Every job waits for it."""
    loaded = "import sys, batch_rl.presets.reading; print({'numpy', 'torch', 'pandas', 'gymnasium'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT / "entrypoints", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
