"""Presets: what they may hold. A preset has every value of a collect, train, evaluate or prepare job.

The dataclasses below are the whole schema: a key that is not a field is an error, and so is a value of another type
or outside its range. Only the standard library is imported, because a host checks presets before it starts a job.
"""

import dataclasses
import json
import math
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batch_rl.errors import PresetError

# The estimators of whole trajectories, by the names of batch_rl.ope, which is not imported here.
ESTIMATORS = ("IPS", "WIS", "PDIS", "weighted PDIS", "DM", "sequential DR", "WDR", "MAGIC")
LOWER_END = " Low"
ALGORITHMS = ("ddqn_bcq", "dqn", "ddqn", "dueling", "quantile", "cql", "iql", "one_step", "bc")
ONLINE_ALGORITHMS = ("dqn", "ddqn", "dueling", "quantile")

Columns = Mapping[str, str | tuple[str, ...]]  # this library's name of a column -> the log's, or several
Value = bool | int | float | str | None | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Columns
LISTED_COLUMNS = ("state_features", "next_state_features")


def _key(
    meaning: str,
    *,
    default: Value | dataclasses._MISSING_TYPE = dataclasses.MISSING,
    within: str | None = None,
    choices: tuple[str, ...] | None = None,
    pattern: str | None = None,
    before: Value | dataclasses._MISSING_TYPE = dataclasses.MISSING,
) -> typing.Any:
    """Declare a preset key.

    Args:
        within: an interval, ``"(0, 1]"``.
        pattern: must match all of a text.
        before: what a checkpoint has that was written before there was the key, if it is not the default.
    """
    metadata = {"meaning": meaning, "within": within, "choices": choices, "pattern": pattern, "before": before}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Data:
    """How the logged episodes are read and used."""

    columns: Columns | None = _key(  # noqa: RUF009 - declares a key, as everywhere; a mapping is taken for mutable
        "which of the log's columns has which meaning: {reward: gain, state_features: [age, visits]}; null: they have "
        "the names of docs/data.md",
        default=None,
    )
    action_names: tuple[str, ...] = _key(
        "of actions 0, 1, ..., a list; []: the log's actions are numbers, or are numbered in the order of their names",
        default=(),
    )
    train_fraction: float = _key("share of the episodes that trains; the rest evaluates", default=0.85, within="(0, 1)")
    behavior_policy: str = _key(
        "logged: probabilities are in the data; estimate: fit a model of them, which is a guess",
        default="logged",
        choices=("logged", "estimate"),
    )
    least_propensity: float = _key(
        "smaller propensities are raised to it, which biases estimates; 0: none is", default=0.0, within="[0, 1)"
    )
    rows_in_memory: int | None = _key(
        "Parquet larger than memory: learn from parts of about so many rows; null: from all rows at once",
        default=None,
        within="[1, inf)",
    )
    drop_last_rows: bool = _key("leave out each episode's last row, as Coach's loader does", default=False)
    normalization: str = _key(
        "reagent: transform each feature by its type, found in the data or read from the channel 'normalization', "
        "before agent.standardize_inputs",
        default="none",
        choices=("none", "reagent"),
    )


@dataclass(frozen=True)
class Agent:
    """A learning rule over an ensemble of networks; a module of batch_rl/learning/rules says what each rule is."""

    algorithm: str = _key("learning rule", default="ddqn_bcq", choices=ALGORITHMS)
    discount: float = _key("weight of a reward one step later", default=0.99, within="[0, 1]")
    reward_scaling: str = _key(
        "returns: learn values in tenths of the deviation of the logged returns, so that no other key depends on the "
        "unit of rewards (estimates and the saved policy are in that unit); none: as they are",
        default="returns",
        choices=("returns", "none"),
        before="none",
    )
    support_threshold: float = _key(
        "an action is played only where the log's policy, by a model, gave it this share of the likeliest action's "
        "probability; 0: anywhere (ddqn_bcq: see bcq.threshold)",
        default=0.01,
        within="[0, 1]",
        before=0.0,
    )
    n_steps: int = _key("rewards that a target adds up before it asks for a value", default=1, within="[1, 1000]")
    double_q: bool = _key("choose the next action by the online network (dqn never does)", default=True)
    target_temperature: float = _key(
        "above 0 a next state counts for the mean by softmax(Q / it), not the highest value; in scaled units",
        default=0.0,
        within="[0, inf)",
    )
    huber_loss: bool = _key("Huber instead of squared error", default=False)
    loss_over_all_actions: bool = _key(
        "divide that error by the number of actions, as Coach's mean does", default=False
    )
    cql_alpha: float = _key("cql: weight of the penalty on actions that the log lacks", default=1.0, within="[0, inf)")
    iql_expectile: float = _key(
        "iql: 0.5 values the logged policy, near 1 its best actions", default=0.8, within="(0, 1)"
    )
    iql_policy: str = _key(
        "iql: regression extracts the policy from logged actions, weighted by advantage; values: softmax(Q)",
        default="regression",
        choices=("regression", "values"),
        before="values",
    )
    iql_temperature: float = _key(
        "iql: advantages weigh by exp(advantage / it); in scaled units", default=1.0, within="(0, inf)"
    )
    quantiles: int = _key("quantile: number of quantiles of each action's return", default=16, within="[1, 1000]")
    imitated_share: float = _key("bc: share of the episodes that is imitated, by return", default=1.0, within="(0, 1]")
    batch_size: int = _key("transitions per update and member", default=128, within="[1, inf)")
    learning_rate: float = _key("Adam step size at the first update", default=1e-3, within="(0, inf)")
    learning_rate_schedule: str = _key(
        "linear ends at 0 with the last update", default="linear", choices=("linear", "constant")
    )
    adam_beta1: float = _key("decay of the gradient's mean, per update", default=0.9, within="[0, 1)")
    adam_beta2: float = _key("decay of its square's mean, per update", default=0.999, within="[0, 1)")
    adam_epsilon: float = _key("added to Adam's denominator", default=1e-8, within="(0, inf)")
    weight_decay: float = _key(
        "share of itself that every weight loses per update, times the step size", default=0.0, within="[0, inf)"
    )
    l2_regularization: float = _key("share of each weight that joins its gradient", default=0.0, within="[0, inf)")
    target_copy_updates: int = _key("updates between copies to the target network", default=200, within="[1, inf)")
    target_update_rate: float = _key(
        "move the target network by this share at every update; 0: copy it now and then", default=0.0, within="[0, 1]"
    )
    standardize_inputs: bool = _key("scale every feature to mean 0, deviation 1", default=True)
    hidden_sizes: tuple[int, ...] = _key("units per hidden layer", default=(64, 64), within="[1, 65536]")
    members: int = _key("networks, whose mean Q decides", default=4, within="[1, 1000]")
    snapshot_updates: int = _key(
        "updates between snapshots that join the mean; 0: none", default=400, within="[0, inf)"
    )
    snapshot_after: float = _key("share of all updates before the first one", default=0.4, within="[0, 1]")


@dataclass(frozen=True)
class Bcq:
    """Which actions ddqn_bcq may use and play: those that the log makes likely. And how that is modelled, for all."""

    action_drop_method: str = _key(
        "by a model of the behavior policy, or by distance to logged steps",
        default="imitation_model",
        choices=("imitation_model", "nearest_neighbors"),
    )
    threshold: float = _key(
        "least probability, relative to the likeliest action; 0: no limit", default=0.3, within="[0, 1]"
    )
    absolute_threshold: float = _key("least probability as such; 0: no limit", default=0.0, within="[0, 1]")
    imitation_updates: int = _key(
        "updates that fit the behavior policy's model, at most; fewer where held-out rows get no likelier",
        default=3000,
        within="[1, inf)",
    )
    imitation_epochs: int | None = _key(
        "exactly so many passes over all rows instead, as Coach", default=None, within="[1, inf)"
    )
    average_distance_coefficient: float = _key(
        "a usable neighbor is so much farther than the nearest, in mean distances",
        default=1.0,
        within="[0, inf)",
    )
    neighbors_per_action: int = _key("logged steps that are searched, the last ones", default=50000, within="[1, inf)")
    embed_observations: bool = _key("measure distances in the reward model's last hidden layer", default=True)


@dataclass(frozen=True)
class Ope:
    """Off-policy evaluation on the held-out episodes."""

    temperature: float = _key(
        "the scored policy is softmax(Q / temperature); in scaled units, see agent.reward_scaling",
        default=2.0,
        within="(0, inf)",
    )
    reward_model_epochs: int = _key("passes that fit the reward model (one-step columns)", default=5, within="[1, inf)")
    estimators: tuple[str, ...] = _key(
        "estimators of whole trajectories after each epoch, a list; [] for none",
        default=("IPS", "WIS", "PDIS", "weighted PDIS", "DM", "sequential DR", "WDR"),
        choices=ESTIMATORS,
    )
    interval: str = _key(
        "how their confidence intervals are made", default="bootstrap", choices=("bootstrap", "student_t", "none")
    )
    level: float = _key("probability with which an interval should hold the value", default=0.95, within="(0, 1)")
    resamples: int = _key("logs that the bootstrap draws", default=400, within="[1, 1000000]")
    fqe_updates: int = _key(
        "updates per epoch of the scored policy's values (DM, and q_hat of the doubly robust ones)",
        default=16,
        within="[1, inf)",
    )
    fqe_refits: int = _key(
        "networks of the estimate FQE, which is made after the last epoch alone; 0: none; 16 take as long as 13 epochs",
        default=0,
        within="[0, 1000]",
    )


def needs_model(estimators: Iterable[str]) -> bool:
    """Return whether one of the estimators needs the evaluated policy's action values."""
    return not set(estimators) <= set(ESTIMATORS[:4])


@dataclass(frozen=True)
class Training:
    """The run as a whole."""

    epochs: int = _key("passes over the training episodes", default=60, within="[1, inf)")
    final_fit: str = _key(
        "all_episodes: fit once more to all of them, for the policy that is served",
        default="none",
        choices=("none", "all_episodes"),
    )
    threads: int = _key("processor threads; other counts, other last digits", default=1, within="[1, 1024]")
    device: str = _key(
        "where the networks learn; auto: cuda where there is one", default="cpu", choices=("cpu", "cuda", "auto")
    )
    best_by: str | None = _key(
        "estimate whose highest value makes the checkpoint 'best', or the lower end of its interval; null: "
        "WDR where ope.estimators has it, else WIS",
        default=None,
        choices=(*ESTIMATORS, *(name + LOWER_END for name in ESTIMATORS)),
    )
    kept_checkpoints: int = _key("newest ones on disk, beside the best", default=3, within="[1, inf)")
    save_model: bool = _key("write the servable model", default=True)
    export: tuple[str, ...] = _key(
        "its formats: model.pt, model.pt2, model.onnx",
        default=("torchscript",),
        choices=("torchscript", "torch_export", "onnx"),
    )
    tensorboard: bool = _key("write the metrics as TensorBoard event files as well", default=False)


@dataclass(frozen=True)
class Environment:
    """A registered Gymnasium environment with discrete actions."""

    name: str = _key("its id")
    max_steps: int | None = _key(
        "cut episodes after this many steps; null: its registered limit", default=None, within="[1, inf)"
    )


@dataclass(frozen=True)
class Collection:
    """Logging episodes with a known behavior policy."""

    num_envs: int = _key("environments, each with its own generators", default=100, within="[1, 100000]")
    episodes_per_env: int = _key("whole episodes in each", default=5, within="[1, inf)")
    steps: int | None = _key(
        "whole episodes, an environment for each, until this many steps; in place of the two above",
        default=None,
        within="[1, inf)",
    )
    file_name: str = _key(
        "name of the dataset in the output folder; its ending chooses the format",
        default="dataset.csv",
        pattern=r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.(csv|parquet|npz|minari)",
    )
    policy: str = _key(
        "the behavior policy; the last two act by the values of the checkpoint in the channel of that name",
        default="uniform",
        choices=("uniform", "fixed", "softmax", "epsilon_greedy"),
    )
    action_probabilities: tuple[float, ...] | None = _key(
        "of every action, for policy fixed", default=None, within="[0, 1]"
    )
    epsilon: float = _key("share of uniform draws, for policy epsilon_greedy", default=0.1, within="(0, 1]")
    temperature: float | None = _key(
        "policy softmax is softmax(Q / temperature); null: the checkpoint's", default=None, within="(0, inf)"
    )
    checkpoint: str = _key("which one of the channel acts", default="latest", choices=("latest", "best"))
    time_limit: bool = _key("let the registered limit cut episodes, and log how each one ended", default=False)


@dataclass(frozen=True)
class Online:
    """Learning while acting, from a replay buffer."""

    steps: int = _key(
        "environment steps, the heatup's too; the last episode is whole", default=15000, within="[1, inf)"
    )
    episodes: int | None = _key("exactly this many episodes after the heatup instead", default=None, within="[1, inf)")
    stop_at_reward: float | None = _key("end earlier, when an evaluation's mean reaches this", default=None)
    heatup_steps: int = _key("random steps before the first update", default=1000, within="[1, inf)")
    replay_size: int = _key("newest transitions to learn from", default=40000, within="[1, 100000000]")
    steps_between_updates: int = _key("environment steps from update to update", default=1, within="[1, inf)")
    updates_at_once: int = _key("batches per update", default=1, within="[1, inf)")
    epsilon_start: float = _key("share of random actions after the heatup ...", default=1.0, within="[0, 1]")
    epsilon_end: float = _key("... which falls linearly to this ...", default=0.01, within="[0, 1]")
    epsilon_steps: int = _key("... within this many steps", default=10000, within="[1, inf)")
    evaluate_every_episodes: int = _key(
        "training episodes from evaluation to evaluation", default=10, within="[1, inf)"
    )
    evaluation_episodes: int = _key("episodes of the greedy policy in each", default=10, within="[1, 100000]")
    temperature: float = _key("the served policy is softmax(Q / temperature)", default=1.0, within="(0, inf)")


@dataclass(frozen=True)
class Evaluation:
    """Playing the learned policy."""

    steps: int = _key("whole episodes until this many steps", default=1000, within="[1, inf)")
    episodes: int | None = _key("exactly this many instead", default=None, within="[1, inf)")
    checkpoint: str = _key(
        "the last one, or the one with the highest estimate (training.best_by)",
        default="latest",
        choices=("latest", "best"),
    )
    policy: str = _key(
        "play the best action, or draw from softmax(Q / temperature)", default="greedy", choices=("greedy", "softmax")
    )
    passing_score: float | None = _key("the job fails where the mean reward is below this", default=None)
    gifs: int = _key("first episodes that are drawn as animated GIFs; needs pygame", default=0, within="[0, 1000]")


@dataclass(frozen=True)
class Preparation:
    """A timeline and the types of the features, as ReAgent makes them; docs/data.md describes both."""

    engine: str = _key("where: in this process, or on Spark", default="embedded", choices=("embedded", "spark"))
    add_terminal_state_row: bool = _key("keep the last row of each episode, which nothing follows", default=True)
    multi_steps: int | None = _key(
        "at most so many steps ahead, in lists; null: the next one", default=None, within="[1, inf)"
    )
    start_ds: str | None = _key("the first ds that is read; null: all", default=None)
    end_ds: str | None = _key("the last ds that is read; null: all", default=None)
    outlier_episode_length_percentile: float | None = _key(
        "longer episodes than this quantile of all are left out", default=None, within="(0, 1]"
    )
    time_window_limit: int | None = _key(
        "rows further than this from their episode's first are left out", default=None, within="[0, inf)"
    )
    skip_box_cox: bool = _key("leave out that type of feature", default=False)
    skip_quantiles: bool = _key("leave out that type of feature", default=True)
    max_unique_enum_values: int = _key("different values of an ENUM, at most", default=10, within="[1, inf)")
    quantile_size: int = _key("number of quantiles", default=20, within="[1, 10000]")
    quantile_k2_threshold: float = _key(
        "the test's statistic above which a feature is far from normal", default=1000.0, within="(0, inf)"
    )


@dataclass(frozen=True)
class Preset:
    """What every preset has."""

    entry_point: typing.ClassVar[str]
    aliases: typing.ClassVar[Mapping[str, str]] = {}  # come before ``ALIASES``
    unread: typing.ClassVar[frozenset[str]] = frozenset()  # keys of its sections that the entry point does not use
    seed: int = _key("one seed, one result", default=0, within="[0, 4294967295]")

    def decided(self) -> typing.Self:
        """Return the preset with nothing left open, as a checkpoint has it: a default may change, and its run not."""
        return self


@dataclass(frozen=True, kw_only=True)
class CollectionPreset(Preset):
    """What ``collect.py`` reads."""

    entry_point = "collect.py"
    environment: Environment
    collection: Collection


BEST_BY = "WDR"  # by docs/batch-rl.md's figures


@dataclass(frozen=True, kw_only=True)
class TrainingPreset(Preset):
    """What ``train.py`` reads."""

    entry_point = "train.py"
    data: Data
    agent: Agent
    bcq: Bcq
    ope: Ope
    training: Training

    def __post_init__(self) -> None:
        name = self.best_by
        if name != "WIS" and name.removesuffix(LOWER_END) not in self.ope.estimators:
            raise PresetError(f"training.best_by is '{name}', which is not among ope.estimators; add it there.")
        if name.endswith(LOWER_END) and self.ope.interval == "none":
            raise PresetError(f"training.best_by is '{name}', but ope.interval is none; choose how to make intervals.")
        if self.ope.fqe_refits == 1:
            raise PresetError("ope.fqe_refits is 1: an interval needs at least two networks; 0 leaves FQE out.")

    @property
    def best_by(self) -> str:
        """The estimate that makes a checkpoint the best: the one that the preset names, or the default."""
        return self.training.best_by or (BEST_BY if BEST_BY in self.ope.estimators else "WIS")

    def decided(self) -> typing.Self:
        """Return the preset with the name of its ``best_by``."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, best_by=self.best_by))


@dataclass(frozen=True, kw_only=True)
class OnlinePreset(Preset):
    """What ``train.py`` reads where a preset has the section ``online``: it learns in an environment.

    Raises:
        PresetError: the values do not fit each other.
    """

    entry_point = "train.py"
    aliases: typing.ClassVar[Mapping[str, str]] = {
        "improve_steps": "online.steps",
        "rl.improve_steps:TrainingSteps": "online.steps",
        "rl.improve_steps:EnvironmentSteps": "online.steps",
        "rl.heatup_steps:EnvironmentSteps": "online.heatup_steps",
        "evaluation_episodes": "online.evaluation_episodes",
        "rl.evaluation_steps:EnvironmentEpisodes": "online.evaluation_episodes",
        "rl.steps_between_evaluation_periods:EnvironmentEpisodes": "online.evaluate_every_episodes",
        "rl.agent_params.algorithm.num_steps_between_copying_online_weights_to_target:EnvironmentSteps": (
            "agent.target_copy_updates"
        ),
        "rl.agent_params.network_wrappers.main.softmax_temperature": "online.temperature",
    }
    unread: typing.ClassVar[frozenset[str]] = frozenset(
        {
            "agent.cql_alpha",
            "agent.iql_expectile",
            "agent.iql_policy",
            "agent.iql_temperature",
            "agent.n_steps",
            "agent.reward_scaling",
            "agent.support_threshold",
            "agent.imitated_share",
            "agent.snapshot_updates",
            "agent.snapshot_after",
            "training.best_by",
            "training.device",
            "training.epochs",
            "training.final_fit",
            "training.tensorboard",
        }
    )
    environment: Environment
    agent: Agent
    online: Online
    training: Training

    def __post_init__(self) -> None:
        if self.agent.algorithm not in ONLINE_ALGORITHMS:
            raise PresetError(
                f"agent.algorithm: '{self.agent.algorithm}' learns from logged data; online it is one of: "
                f"{listed(ONLINE_ALGORITHMS)}."
            )
        if self.agent.learning_rate_schedule == "linear" and self.online.episodes is not None:
            raise PresetError(
                "agent.learning_rate_schedule: 'linear' ends with online.steps, and this preset ends with "
                "online.episodes; choose 'constant'."
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationPreset(Preset):
    """What ``evaluate.py`` reads."""

    entry_point = "evaluate.py"
    environment: Environment
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class PreparationPreset(Preset):
    """What ``prepare.py`` reads."""

    entry_point = "prepare.py"
    preparation: Preparation


ALL_KINDS: tuple[type[Preset], ...] = (
    CollectionPreset,
    TrainingPreset,
    EvaluationPreset,
    OnlinePreset,
    PreparationPreset,
)
PRESET_NAMES = ("preset", "RLCOACH_PRESET")  # hyperparameters that choose a preset: the name, its old name
_COACH_NETWORK = "rl.agent_params.network_wrappers.main"
_COACH_ALGORITHM = "rl.agent_params.algorithm"
ALIASES = {
    "discount": "agent.discount",
    "improve_steps": "training.epochs",
    "save_model": "training.save_model",
    "num_envs": "collection.num_envs",
    "num_episodes": "collection.episodes_per_env",
    "evaluate_steps": "evaluation.steps",
    "evaluate_episodes": "evaluation.episodes",
    "evaluation_episodes": "evaluation.episodes",
    "rl.improve_steps:TrainingSteps": "training.epochs",
    "rl.evaluation_steps:EnvironmentSteps": "evaluation.steps",
    "rl.evaluation_steps:EnvironmentEpisodes": "evaluation.episodes",
    "rl.train_to_eval_ratio": "data.train_fraction",
    "rl.reward_model_num_epochs": "ope.reward_model_epochs",
    "rl.env_params.level": "environment.name",
    f"{_COACH_NETWORK}.learning_rate": "agent.learning_rate",
    f"{_COACH_NETWORK}.batch_size": "agent.batch_size",
    f"{_COACH_NETWORK}.adam_optimizer_beta1": "agent.adam_beta1",
    f"{_COACH_NETWORK}.adam_optimizer_beta2": "agent.adam_beta2",
    f"{_COACH_NETWORK}.optimizer_epsilon": "agent.adam_epsilon",
    f"{_COACH_NETWORK}.l2_regularization": "agent.l2_regularization",
    f"{_COACH_NETWORK}.replace_mse_with_huber_loss": "agent.huber_loss",
    f"{_COACH_NETWORK}.softmax_temperature": "ope.temperature",
    f"{_COACH_ALGORITHM}.discount": "agent.discount",
    f"{_COACH_ALGORITHM}.num_steps_between_copying_online_weights_to_target:TrainingSteps": (
        "agent.target_copy_updates"
    ),
    f"{_COACH_ALGORITHM}.action_drop_method.imitation_model_num_epochs": "bcq.imitation_epochs",
    f"{_COACH_ALGORITHM}.action_drop_method.mask_out_actions_threshold": "bcq.absolute_threshold",
    f"{_COACH_ALGORITHM}.action_drop_method.average_dist_coefficient": "bcq.average_distance_coefficient",
    f"{_COACH_ALGORITHM}.action_drop_method.knn_size": "bcq.neighbors_per_action",
    f"{_COACH_ALGORITHM}.action_drop_method.use_state_embedding_instead_of_state": "bcq.embed_observations",
}


@dataclass(frozen=True)
class Key:
    """One value of a preset: its type, what it means and what it may be."""

    type: typing.Any
    meaning: str
    within: str | None
    choices: tuple[str, ...] | None
    pattern: str | None
    before: typing.Any


def sections_of(kind: type[Preset]) -> dict[str, typing.Any]:
    """Return the dataclass of each section that an entry point reads."""
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.name != "seed"}


def keys_of(dataclass_type: typing.Any, prefix: str = "") -> dict[str, Key]:
    """Return the keys of a section."""
    hints = typing.get_type_hints(dataclass_type)
    return {prefix + f.name: Key(hints[f.name], **f.metadata) for f in dataclasses.fields(dataclass_type)}


SECTIONS: dict[str, typing.Any] = {name: section for kind in ALL_KINDS for name, section in sections_of(kind).items()}
SCHEMA: dict[str, Key] = keys_of(Preset) | {
    name: key for name, section in SECTIONS.items() for name, key in keys_of(section, f"{name}.").items()
}

TEXT = (str, str | None)


def checked_value(value: object, key: Key) -> Value:
    """Return ``value`` as the key's type.

    Raises:
        ValueError: another type, not finite, or outside the key's range; the message starts with the value.
    """
    shown = shorten(json.dumps(value, default=str))
    if value is None and type(None) in typing.get_args(key.type):
        return None
    if key.type is bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{shown}; must be true or false")
    if key.type == Columns | None:
        return _checked_columns(value, shown)
    if key.type == tuple[str, ...] and key.choices is None:
        names = [str(item) for item in value] if isinstance(value, list | tuple) else [""]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError(f"{shown}; must be a list of different names, as [left, right]")
        return tuple(names)
    if key.type == tuple[str, ...]:
        if not isinstance(value, list | tuple) or any(item not in (key.choices or ()) for item in value):
            raise ValueError(f"{shown}; must be a list of: {', '.join(key.choices or ())}")
        return tuple(dict.fromkeys(value))
    if key.type in TEXT:
        if not isinstance(value, str) or not value:
            raise ValueError(f"{shown}; must be text")
        if key.choices and value not in key.choices:
            raise ValueError(f"{shown}; must be one of: {', '.join(key.choices)}")
        if key.pattern and not re.fullmatch(key.pattern, value):
            raise ValueError(f"{shown}; must have the form {key.pattern}")
        return value
    if float in (item := item_types(key.type)):
        if not isinstance(value, list | tuple) or not value or not all(type(v) in item for v in value):
            raise ValueError(f"{shown}; must be a list of numbers, as [0.5, 0.5]")
        for entry in value:
            _check_interval(entry, shown, key.within)
        return tuple(float(entry) for entry in value)
    if key.type == tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value or not all(type(item) is int for item in value):
            raise ValueError(f"{shown}; must be a list of whole numbers, as [64, 64]")
        for item in value:
            _check_interval(item, shown, key.within)
        return tuple(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown}; must be a number")
    is_float = float in (key.type, *typing.get_args(key.type))
    if not is_float and not isinstance(value, int):
        raise ValueError(f"{shown}; must be a whole number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{shown}; must be a finite number")
    _check_interval(number, shown, key.within)
    return number if is_float else value


def _checked_columns(value: object, shown: str) -> Columns:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{shown}; must be a mapping, as {{reward: gain, state_features: [age, visits]}}")
    columns: dict[str, str | tuple[str, ...]] = {}
    for ours, theirs in value.items():
        if isinstance(theirs, list | tuple) and theirs and str(ours) in LISTED_COLUMNS:
            columns[str(ours)] = tuple(str(name) for name in theirs)
        elif isinstance(theirs, str) and theirs:
            columns[str(ours)] = theirs
        else:
            raise ValueError(
                f"{shown}; '{ours}' must be the name of a column ({' and '.join(LISTED_COLUMNS)}: or a list)"
            )
    names = [name for theirs in columns.values() for name in ([theirs] if isinstance(theirs, str) else theirs)]
    if len(set(names)) < len(names):
        raise ValueError(f"{shown}; a column is named twice")
    return columns


def item_types(annotation: typing.Any) -> tuple[type, ...]:
    """Return the types that the items of a list of numbers may have; none where the key is not a list of numbers."""
    kinds = (annotation, *typing.get_args(annotation))
    if tuple[float, ...] in kinds:
        return (int, float)
    return (int,) if tuple[int, ...] in kinds else ()


def _check_interval(number: int | float, shown: str, interval: str | None) -> None:
    if interval is None:
        return
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below):
        raise ValueError(f"{shown}; must be in {interval}")


def listed(words: Iterable[str]) -> str:
    """Return words as a message lists them."""
    return ", ".join(words)


def shorten(text: str) -> str:
    """Make a word from the user fit for a message: of one line, printable and not too long."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= 100 else f"{plain[:97]}..."
