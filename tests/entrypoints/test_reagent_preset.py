"""ReAgent's configuration files, read as presets."""

import json
import re
from pathlib import Path

import pytest

import collect
import evaluate
import prepare
import train
from batch_rl.errors import EvaluationError, PresetError
from batch_rl.presets.checking import describe_preset
from batch_rl.presets.reading import load_preset, preset_notes
from batch_rl.presets.reagent import (
    _DEFAULTS,
    _DEFAULTS_OFFLINE,
    _DEFAULTS_ONLINE,
    _SAME,
    _SAME_OFFLINE,
    _SAME_ONLINE,
    KNOWN_KEYS,
)
from batch_rl.presets.schema import (
    SCHEMA,
    CollectionPreset,
    EvaluationPreset,
    OnlinePreset,
    PreparationPreset,
    TrainingPreset,
)

PRESETS = Path(__file__).resolve().parents[2] / "presets"
PAGE = (PRESETS.parent / "docs" / "reagent.md").read_text(encoding="utf-8")
OFFLINE = """\
env_name: CartPole-v0
model_path: m.torchscript
pkl_path: /tmp/x.pkl
input_table_spec: {table_name: t, table_sample: 80, eval_table_sample: 20}
model:
  DiscreteDQN:
    trainer_param:
      actions: [0, 1]
      rl: {gamma: 0.9, target_update_rate: 0.1, maxq_learning: true, temperature: 0.5, softmax_policy: true,
           q_network_loss: huber, multi_steps: null, reward_boost: {}}
      double_q_learning: false
      minibatch_size: 64
      minibatches_per_step: 1
      optimizer: {Adam: {lr: 0.01, weight_decay: 0.02, betas: [0.8, 0.99], eps: 1e-6, amsgrad: false}}
    net_builder: {FullyConnected: {sizes: [12, 6], activations: [relu, leaky_relu]}}
    cpe_net_builder: {FullyConnected: {sizes: [9], activations: [relu]}}
    preprocessing_options: {num_samples: 1000, max_unique_enum_values: 4}
    eval_parameters: {calc_cpe_in_training: true}
num_train_transitions: 400
max_steps: 150
seed: 42
num_epochs: 3
publisher: {FileSystemPublisher: {}}
num_eval_episodes: 7
passing_score_bar: 20
"""
ONLINE = """\
env: {Gym: {env_name: CartPole-v1}}
model:
  DiscreteDQN:
    trainer_param: {rl: {epsilon: 0.05, temperature: 1.0}, minibatches_per_step: 2}
    net_builder: {FullyConnected: {sizes: [8], activations: [relu]}}
replay_memory_size: 500
train_every_ts: 3
train_after_ts: 100
num_train_episodes: 4
num_eval_episodes: 2
passing_score_bar: 1.0
use_gpu: false
minibatch_size: 16
"""


@pytest.fixture
def write(tmp_path):
    def write_preset(text):
        (tmp_path / "theirs.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "theirs.yaml"

    return write_preset


def refusal(path, kind=TrainingPreset):
    with pytest.raises(PresetError) as caught:
        load_preset(path, kind)
    return str(caught.value)


def test_an_offline_file_serves_the_three_entry_points(write):
    path = write(OFFLINE)
    collecting = load_preset(path, CollectionPreset)
    assert (collecting.seed, collecting.collection.steps, collecting.collection.time_limit) == (42, 400, True)
    assert (collecting.environment.name, collecting.environment.max_steps) == ("CartPole-v0", 150)
    training = load_preset(path, TrainingPreset)
    agent = training.agent
    assert (agent.algorithm, agent.discount, agent.batch_size, agent.huber_loss) == ("dqn", 0.9, 64, True)
    assert (agent.learning_rate, agent.l2_regularization, agent.learning_rate_schedule) == (0.01, 0.02, "constant")
    assert (agent.adam_beta1, agent.adam_beta2, agent.adam_epsilon) == (0.8, 0.99, 1e-6)
    assert (agent.hidden_sizes, agent.members, agent.snapshot_updates) == ((12, 6), 1, 0)
    assert agent.target_update_rate == 0.1
    assert (training.training.epochs, training.data.train_fraction, training.ope.temperature) == (3, 0.8, 0.5)
    assert training.data.normalization == "reagent"
    assert load_preset(path, PreparationPreset).preparation.max_unique_enum_values == 4
    evaluating = load_preset(path, EvaluationPreset)
    assert (evaluating.evaluation.episodes, evaluating.evaluation.passing_score) == (7, 20.0)
    assert evaluating.evaluation.policy == "softmax"
    assert describe_preset(path)["entry_point"] == "collect.py, train.py, evaluate.py, prepare.py"


def test_an_online_file_learns_in_the_environment(write):
    preset = load_preset(write(ONLINE), OnlinePreset)
    online = preset.online
    assert (preset.environment.name, preset.agent.batch_size, preset.agent.algorithm) == ("CartPole-v1", 16, "ddqn")
    assert (online.replay_size, online.steps_between_updates, online.heatup_steps) == (500, 3, 100)
    assert (online.episodes, online.updates_at_once, online.temperature) == (4, 2, 1.0)
    assert (online.epsilon_start, online.epsilon_end) == (0.05, 0.05)
    assert not preset.agent.standardize_inputs


def test_what_a_file_leaves_out_has_reagents_default(write):
    path = write("model: {DiscreteDQN: {trainer_param: {actions: [a, b]}}}\nnum_epochs: 1\n")
    preset = load_preset(path, TrainingPreset)
    agent = preset.agent
    assert (agent.discount, agent.target_update_rate, agent.batch_size, agent.learning_rate) == (0.9, 0.001, 1024, 1e-3)
    assert (agent.hidden_sizes, agent.algorithm, preset.ope.temperature) == ((256, 128), "ddqn", 0.01)


@pytest.mark.parametrize(
    ("rule", "algorithm"),
    [
        ("bcq: {drop_threshold: 0.2}", "ddqn_bcq"),
        ("rl: {maxq_learning: false}", "one_step"),
        ("double_q_learning: false", "dqn"),
    ],
)
def test_the_rule_follows_from_the_keys_that_choose_it(write, rule, algorithm):
    preset = load_preset(write(f"model: {{DiscreteDQN: {{trainer_param: {{{rule}}}}}}}\n"), TrainingPreset)
    assert preset.agent.algorithm == algorithm
    assert algorithm != "ddqn_bcq" or preset.bcq.threshold == 0.2


def test_keys_without_effect_and_what_is_read_otherwise_are_named(write):
    path = write(OFFLINE)
    notes = " ".join(preset_notes({"preset": "theirs"}, [path.parent]))
    for key in ("pkl_path", "model_path", "trainer_param.actions", "cpe_net_builder.FullyConnected.sizes"):
        assert key in notes
    assert "'leaky_relu' is read as 'relu'" in notes
    assert "lr" not in notes.replace("leaky_relu", "")
    assert preset_notes({"preset": "preset-cartpole-ddqnbcq"}, [PRESETS]) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("gamma", "gama", 9, "no key of ReAgent's; did you mean 'model.DiscreteDQN.trainer_param.rl.gamma'?"),
        ("num_epochs", "num_epoch", 22, "did you mean 'num_epochs'?"),
        ("gamma: 0.9", "gamma: 1.9", 9, "'model.DiscreteDQN.trainer_param.rl.gamma' is 1.9; must be in [0, 1]"),
        ("DiscreteDQN", "DiscreteC51DQN", 8, "model 'DiscreteC51DQN' is not one of this library's; use DiscreteDQN"),
        ("Adam", "SGD", 14, "optimizer 'SGD' is not one of this library's; use Adam"),
        ("multi_steps: null", "multi_steps: 0", 10, "multi_steps' is 0; must be in [1, 1000]"),
        ("reward_boost: {}", "reward_boost: {a: 1}", 10, "no key of ReAgent's"),
        ("q_network_loss: huber", "q_network_loss: bce", 10, "must be one of: mse, huber"),
        ("amsgrad: false", "amsgrad: true", 14, "amsgrad' is True"),
        ("eval_table_sample: 20", "eval_table_sample: 30", 4, "must add up to 100; got 80 and 30"),
        ("[relu, leaky_relu]", "[relu]", 15, "has 1 names for 2 sizes"),
        ("[relu, leaky_relu]", "[tanh, relu]", 15, "has tanh"),
        ("betas: [0.8, 0.99]", "betas: 0.8", 14, "must be a list of two numbers"),
        ("softmax_policy: true", "softmax_policy: 1", 9, "must be true or false"),
        ("minibatch_size: 64", "minibatch_size: 64.5", 12, "must be a whole number"),
    ],
)
def test_a_fault_is_refused_with_its_line(write, old, new, line, words):
    path = write(OFFLINE.replace(old, new, 1))
    message = refusal(path)
    assert f"line {line}" in message
    assert words in message


def test_two_spellings_of_one_value_must_agree(write):
    text = ONLINE.replace("minibatches_per_step: 2", "minibatches_per_step: 2, minibatch_size: 32")
    assert "differs from" in refusal(write(text), OnlinePreset)


def test_rules_for_logged_data_are_refused_online(write):
    text = ONLINE.replace("minibatches_per_step: 2", "bcq: {drop_threshold: 0.1}")
    assert "leave it out where a policy learns online" in refusal(write(text), OnlinePreset)


def test_every_key_that_is_set_is_one_of_ours():
    for table in (_SAME, _SAME_OFFLINE, _SAME_ONLINE):
        assert set(table.values()) <= SCHEMA.keys()
    for defaults in (_DEFAULTS, _DEFAULTS_OFFLINE, _DEFAULTS_ONLINE):
        assert defaults.keys() <= SCHEMA.keys()


def test_every_key_that_the_page_names_is_read():
    """The table of docs/reagent.md: ReAgent's key, or the end of it, and ours."""
    table = PAGE.split("## What each key sets")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (`.*?) \|", table, re.MULTILINE)
    assert len(rows) > 15
    for theirs, ours in rows:
        assert set(re.findall(r"`([\w.]+)`", ours)) <= SCHEMA.keys()
        for key in re.findall(r"`([\w.]+)`", theirs):
            assert any(path == key or path.endswith(f".{key}") for path in KNOWN_KEYS), key


@pytest.fixture
def run(tmp_path_factory, write, monkeypatch, capsys):
    """Run an entry point with a file of ReAgent's; return its output folder and what it printed."""

    def run_main(main, text, **channels):
        base = tmp_path_factory.mktemp("job")
        (base / "input" / "config").mkdir(parents=True)
        (base / "input" / "data").mkdir()
        path = write(text)
        (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps({"preset": path.stem}))
        (base / "input" / "config" / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
        for name, source in channels.items():
            (base / "input" / "data" / name).symlink_to(source)
        monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
        for module in (collect, prepare, train, evaluate):
            monkeypatch.setattr(module, "preset_folders", lambda _: [path.parent])
        assert main() == 0
        return base / "output" / "data", capsys.readouterr().out

    return run_main


def test_the_offline_commands_run_one_after_the_other(run):
    logged, text = run(collect.main, OFFLINE)
    assert "Preset> theirs.yaml: without effect here:" in text
    rows = int(re.search(r"(\d+) rows, of a uniform random policy", text)[1])
    assert 400 <= rows < 600
    prepared, text = run(prepare.main, OFFLINE, train=logged)
    assert f"Timeline> {rows} rows" in text
    _, text = run(train.main, OFFLINE, train=logged, normalization=prepared / "normalization")
    assert "Epoch=3," in text
    trained, text = run(train.main, OFFLINE, train=logged)
    assert "Epoch=3," in text
    assert "Evaluated policy: softmax(Q / 0.5)" in text
    played, _ = run(evaluate.main, OFFLINE.replace("bar: 20", "bar: 1"), checkpoint=trained / "checkpoint")
    summary = json.loads((played / "evaluation.json").read_text())
    assert (summary["episodes"], summary["policy"]) == (7, "softmax(Q / 0.5)")
    assert summary["max"] <= 150
    with pytest.raises(EvaluationError, match=r"below evaluation\.passing_score = 151"):
        run(evaluate.main, OFFLINE.replace("bar: 20", "bar: 151"), checkpoint=trained / "checkpoint")


def test_the_online_command_runs(run):
    trained, text = run(train.main, ONLINE)
    assert len(re.findall("^Training>", text, re.MULTILINE)) == 4
    _, text = run(evaluate.main, ONLINE, checkpoint=trained / "checkpoint")
    assert len(re.findall("^Testing>", text, re.MULTILINE)) == 2


@pytest.mark.slow
def test_the_pages_example_passes_reagents_bar(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_RUNTIME", "process")
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(example, "docs/reagent.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 120
