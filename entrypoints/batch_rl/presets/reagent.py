"""ReAgent's configuration of discrete DQN, read as a preset: its keys by what they mean, not by their names.

The keys are those that ReAgent's workflow and its Gym runner take (commit 15e3b66). One that is not among them is an
error, as is a value whose meaning this library lacks; a key that can change nothing here is accepted and named.
A key that is left out has ReAgent's default.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batch_rl.errors import PresetError

MARK = "model"  # a file with this key is one of ReAgent's

_MODEL = "model.DiscreteDQN"
_TRAINER = f"{_MODEL}.trainer_param"
_RL = f"{_TRAINER}.rl"
_ADAM = f"{_TRAINER}.optimizer.Adam"
_NET = f"{_MODEL}.net_builder"
_CPE_NET = f"{_MODEL}.cpe_net_builder"
_PREPROCESSING = f"{_MODEL}.preprocessing_options"

# ReAgent's key -> ours, which has the same meaning and takes the same value.
_SAME = {
    "env_name": "environment.name",
    "env.Gym.env_name": "environment.name",
    "env.Gym.max_steps": "environment.max_steps",
    "max_steps": "environment.max_steps",
    "seed": "seed",
    "num_eval_episodes": "evaluation.episodes",
    "passing_score_bar": "evaluation.passing_score",
    "minibatch_size": "agent.batch_size",
    f"{_TRAINER}.minibatch_size": "agent.batch_size",
    f"{_RL}.gamma": "agent.discount",
    f"{_RL}.target_update_rate": "agent.target_update_rate",
    f"{_ADAM}.lr": "agent.learning_rate",
    f"{_ADAM}.eps": "agent.adam_epsilon",
    f"{_ADAM}.weight_decay": "agent.l2_regularization",
    f"{_NET}.FullyConnected.sizes": "agent.hidden_sizes",
    f"{_NET}.Dueling.sizes": "agent.hidden_sizes",
}
_SAME_OFFLINE = {
    "num_epochs": "training.epochs",
    "num_train_transitions": "collection.steps",
    f"{_RL}.temperature": "ope.temperature",
    **{
        f"{_PREPROCESSING}.{name}": f"preparation.{name}"
        for name in (
            "max_unique_enum_values",
            "quantile_size",
            "quantile_k2_threshold",
            "skip_box_cox",
            "skip_quantiles",
        )
    },
}
_SAME_ONLINE = {
    "replay_memory_size": "online.replay_size",
    "train_every_ts": "online.steps_between_updates",
    "train_after_ts": "online.heatup_steps",
    "num_train_episodes": "online.episodes",
    f"{_TRAINER}.minibatches_per_step": "online.updates_at_once",
    f"{_RL}.temperature": "online.temperature",
}
_ONLINE_MARKS = ("replay_memory_size", "train_every_ts", "train_after_ts", "num_train_episodes")
# What is read by the rules of ``_by_rule``.
_BY_RULE = (
    "input_table_spec.table_sample",
    "input_table_spec.eval_table_sample",
    f"{_TRAINER}.double_q_learning",
    f"{_TRAINER}.bcq.drop_threshold",
    f"{_RL}.epsilon",
    f"{_RL}.maxq_learning",
    f"{_RL}.multi_steps",
    f"{_RL}.softmax_policy",
    f"{_RL}.q_network_loss",
    f"{_ADAM}.betas",
    f"{_NET}.FullyConnected.activations",
    f"{_NET}.Dueling.activations",
)
# Key -> the values that ask for nothing; any other is refused.
_ONLY: dict[str, tuple[object, ...]] = {
    f"{_TRAINER}.bcq": (None,),
    f"{_RL}.reward_boost": (None, {}),
    f"{_RL}.use_seq_num_diff_as_time_diff": (False,),
    f"{_ADAM}.amsgrad": (False,),
    f"{_ADAM}.maximize": (False,),
    f"{_ADAM}.lr_schedulers": (None, []),
    f"{_NET}.FullyConnected.dropout_ratio": (0,),
    f"{_NET}.FullyConnected.use_batch_norm": (False,),
    f"{_PREPROCESSING}.feature_overrides": (None, {}),
    f"{_MODEL}.target_action_distribution": (None,),
    "reward_options": (None, {}),
    "reward_options.custom_reward_expression": (None,),
    "reward_options.metric_reward_values": (None, {}),
    "warmstart_path": (None,),
    "validator": (None,),
}
_NO_EFFECT = (
    "model_path",
    "pkl_path",
    "module_name",
    "use_gpu",
    "input_table_spec.table_name",
    "input_table_spec.test_table_sample",
    "publisher",
    "publisher.FileSystemPublisher",
    "publisher.FileSystemPublisher.publishing_file",
    "publisher.NoPublishing",
    "reader_options",
    "reader_options.minibatch_size",
    "reader_options.petastorm_reader_pool_type",
    "resource_options",
    "resource_options.gpu",
    "resource_options.cpu",
    "resource_options.memory",
    "resource_options.min_nodes",
    "resource_options.max_nodes",
    "env.Gym.set_max_steps_manually",
    f"{_TRAINER}.actions",
    f"{_TRAINER}.minibatches_per_step",
    f"{_TRAINER}.evaluation.calc_cpe_in_training",
    f"{_RL}.set_missing_value_to_zero",
    f"{_RL}.tensorboard_logging_freq",
    f"{_RL}.predictor_atol_check",
    f"{_RL}.predictor_rtol_check",
    f"{_RL}.time_diff_unit_length",
    f"{_RL}.ratio_different_predictions_tolerance",
    f"{_MODEL}.eval_parameters.calc_cpe_in_training",
    f"{_MODEL}.reader_options",
    f"{_CPE_NET}.FullyConnected.sizes",
    f"{_CPE_NET}.FullyConnected.activations",
    f"{_CPE_NET}.FullyConnected.dropout_ratio",
    f"{_CPE_NET}.FullyConnected.use_batch_norm",
    f"{_CPE_NET}.Dueling.sizes",
    f"{_CPE_NET}.Dueling.activations",
    *(
        f"{_PREPROCESSING}.{name}"
        for name in (
            "num_samples",
            "tablesample",
            "set_missing_value_to_zero",
        )
    ),
)
KNOWN_KEYS = {*_SAME, *_SAME_OFFLINE, *_SAME_ONLINE, *_BY_RULE, *_ONLY, *_NO_EFFECT}

# ReAgent's defaults, and the behavior that no key of it changes.
_DEFAULTS: dict[str, object] = {
    "agent.discount": 0.9,
    "agent.target_update_rate": 0.001,
    "agent.batch_size": 1024,
    "agent.learning_rate": 1e-3,
    "agent.hidden_sizes": [256, 128],
    "agent.algorithm": "ddqn",
    "agent.learning_rate_schedule": "constant",
    "agent.members": 1,
}
_DEFAULTS_OFFLINE: dict[str, object] = {
    "agent.snapshot_updates": 0,
    "data.normalization": "reagent",
    "ope.temperature": 0.01,
}
# Its random policy fills the buffer, then the greedy one plays; it normalizes nothing in the simulator.
_DEFAULTS_ONLINE: dict[str, object] = {
    "agent.standardize_inputs": False,
    "online.temperature": 0.01,
    "online.epsilon_start": 0.0,
    "online.epsilon_end": 0.0,
}


@dataclass(frozen=True)
class Translation:
    """A preset in our keys."""

    sections: set[str]
    values: dict[str, tuple[str, object]]  # our key -> (where the value comes from, the value)
    notes: list[str]  # for the job's log


def translate(leaves: Mapping[str, tuple[int, object]], shown_path: str) -> Translation:
    """Return the preset that a configuration of ReAgent's stands for.

    Args:
        leaves: dotted key -> (line, value), of everything that is no section.
        where: the file, for messages.
    Raises:
        PresetError: an unknown key, or something that this library does not do.
    """
    for key, (line, _) in leaves.items():
        if key not in KNOWN_KEYS:
            _refuse_unknown(key, f"{shown_path}, line {line}")
    online = any(mark in leaves for mark in _ONLINE_MARKS)
    same = {**_SAME, **(_SAME_ONLINE if online else _SAME_OFFLINE)}
    defaults = _DEFAULTS | (_DEFAULTS_ONLINE if online else _DEFAULTS_OFFLINE)
    values: dict[str, tuple[str, object]] = {key: (shown_path, value) for key, value in defaults.items()}
    without_effect: list[str] = []
    notes: list[str] = []

    def put(our_key: str, source: str, value: object) -> None:
        if our_key in values and values[our_key][0] != shown_path and values[our_key][1] != value:
            raise PresetError(f"{source} differs from {values[our_key][0]}, which means the same; leave one out.")
        values[our_key] = (source, value)

    for key, (line, value) in leaves.items():
        source = f"{shown_path}, line {line}: '{key}'"
        if key in same:
            if value is not None:
                put(same[key], source, value)
        elif key in _ONLY:
            if value not in _ONLY[key]:
                raise PresetError(f"{source} is {value!r}, which this library does not do; leave it out.")
        elif key not in _BY_RULE:
            without_effect.append(key)
    _Rules(leaves, shown_path, online, put, without_effect, notes).apply()
    if without_effect:
        notes.append(f"without effect here: {', '.join(sorted(without_effect))}")
    sections = {"agent", "training", "evaluation"} | ({"online"} if online else {"data", "bcq", "ope", "preparation"})
    if "environment.name" in values:
        sections |= {"environment"} if online else {"environment", "collection"}
    if not online:
        put("collection.time_limit", shown_path, True)
    return Translation(sections, values, notes)


def _refuse_unknown(key: str, place: str) -> None:
    parts = key.split(".")
    if parts[0] == "model" and len(parts) > 1 and parts[1] != "DiscreteDQN":
        raise PresetError(f"{place}: model '{parts[1]}' is not one of this library's; use DiscreteDQN.")
    if key.startswith(f"{_TRAINER}.optimizer.") and not key.startswith(f"{_ADAM}."):
        name = key.removeprefix(f"{_TRAINER}.optimizer.").partition(".")[0]
        raise PresetError(f"{place}: optimizer '{name}' is not one of this library's; use Adam.")
    nearest = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.8)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else "; leave it out."
    raise PresetError(f"{place}: '{key}' is no key of ReAgent's{hint}")


@dataclass(frozen=True)
class _Rules:
    """Translates the keys whose values cannot be copied."""

    leaves: Mapping[str, tuple[int, object]]
    shown_path: str
    online: bool
    put: Callable[[str, str, object], None]
    without_effect: list[str]
    notes: list[str]

    def _given(self, key: str) -> tuple[str, object] | None:
        if key not in self.leaves:
            return None
        line, value = self.leaves[key]
        return f"{self.shown_path}, line {line}: '{key}'", value

    def _flag(self, key: str, *, default: bool) -> tuple[str, bool]:
        source, value = self._given(key) or (self.shown_path, default)
        if not isinstance(value, bool):
            raise PresetError(f"{source} is {value!r}; must be true or false.")
        return source, value

    def _number(self, key: str) -> tuple[str, float] | None:
        given = self._given(key)
        if given is None or given[1] is None:
            return None
        source, value = given
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PresetError(f"{source} is {value!r}; must be a number.")
        return source, value

    def apply(self) -> None:
        self._algorithm()
        self._exploration()
        self._loss_and_optimizer()
        self._network()
        self._split()
        _, softmax = self._flag(f"{_RL}.softmax_policy", default=False)
        self.put("evaluation.policy", self.shown_path, "softmax" if softmax else "greedy")

    def _algorithm(self) -> None:
        """DQN or double DQN; BCQ where it has its section; without max-Q the next action is the logged one."""
        _, double = self._flag(f"{_TRAINER}.double_q_learning", default=True)
        self.put("agent.double_q", self.shown_path, double)
        algorithm, source = "ddqn" if double else "dqn", self.shown_path
        if (threshold := self._number(f"{_TRAINER}.bcq.drop_threshold")) is not None:
            algorithm, source = "ddqn_bcq", threshold[0]
            self.put("bcq.threshold", *threshold)
        flag_source, maximum = self._flag(f"{_RL}.maxq_learning", default=True)
        if not maximum:
            algorithm, source = "one_step", flag_source
        if self.online and algorithm not in ("dqn", "ddqn"):
            raise PresetError(f"{source} is for logged data; leave it out where a policy learns online.")
        self.put("agent.algorithm", self.shown_path, algorithm)
        if not self.online:
            self.put("agent.reward_scaling", self.shown_path, "none")  # ReAgent learns in units of reward
        if (steps := self._number(f"{_RL}.multi_steps")) is not None and steps[1] != 1:
            if self.online:
                raise PresetError(f"{steps[0]} is for logged data; leave it out where a policy learns online.")
            self.put("agent.n_steps", *steps)

    def _exploration(self) -> None:
        epsilon = self._number(f"{_RL}.epsilon")
        if epsilon is None:
            return
        if self.online:
            self.put("online.epsilon_start", *epsilon)
            self.put("online.epsilon_end", *epsilon)
        else:
            self.without_effect.append(f"{_RL}.epsilon")

    def _loss_and_optimizer(self) -> None:
        source, loss = self._given(f"{_RL}.q_network_loss") or (self.shown_path, "mse")
        if loss not in ("mse", "huber"):
            raise PresetError(f"{source} is {loss!r}; must be one of: mse, huber.")
        self.put("agent.huber_loss", source, loss == "huber")
        if (given := self._given(f"{_ADAM}.betas")) is not None:
            source, betas = given
            if not isinstance(betas, list) or len(betas) != 2:
                raise PresetError(f"{source} is {betas!r}; must be a list of two numbers, as [0.9, 0.999].")
            self.put("agent.adam_beta1", source, betas[0])
            self.put("agent.adam_beta2", source, betas[1])

    def _network(self) -> None:
        """Every layer has ReLU here."""
        kinds = {key.split(".")[3] for key in self.leaves if key.startswith(f"{_NET}.")}
        if "Dueling" in kinds or not kinds:
            self.notes.append("net_builder: 'Dueling' is read as 'FullyConnected', without its two streams")
        for kind in kinds:
            given, sizes = self._given(f"{_NET}.{kind}.activations"), self._given(f"{_NET}.{kind}.sizes")
            if given is None:
                continue
            source, names = given
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise PresetError(f"{source} is {names!r}; must be a list of names, as [relu, relu].")
            if sizes is not None and isinstance(sizes[1], list) and len(sizes[1]) != len(names):
                raise PresetError(
                    f"{source} has {len(names)} names for {len(sizes[1])} sizes; give one for each layer."
                )
            others = sorted(set(names) - {"relu"})
            if others and set(others) != {"leaky_relu"}:
                raise PresetError(f"{source} has {', '.join(others)}; this library's layers are relu.")
            if others:
                self.notes.append("net_builder: 'leaky_relu' is read as 'relu'")

    def _split(self) -> None:
        train = self._number("input_table_spec.table_sample")
        held_out = self._number("input_table_spec.eval_table_sample")
        if self.online:
            self.without_effect.extend(
                key
                for key in ("input_table_spec.table_sample", "input_table_spec.eval_table_sample")
                if key in self.leaves
            )
            return
        if train is None and held_out is None:
            return
        if train is not None and held_out is not None and train[1] + held_out[1] != 100:
            raise PresetError(
                f"{train[0]} and 'eval_table_sample' must add up to 100; got {train[1]} and {held_out[1]}."
            )
        if train is not None:
            self.put("data.train_fraction", train[0], train[1] / 100)
        elif held_out is not None:
            self.put("data.train_fraction", held_out[0], 1 - held_out[1] / 100)
