"""``VectoredGymEnvironment``: the notebook's way of logging episodes, from a few lines of Python.

Interface, columns and the order of rows are those of the class that the batch reinforcement learning notebook
imports; docs/data.md lists what was wrong in it and is right here. ``collect.py`` needs none of this, and writes
the same rows for the same seed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batch_rl.acting.policies import draw_actions
from batch_rl.acting.rollout import Player
from batch_rl.data.episodes import COLUMNS, FEATURE_PREFIX
from batch_rl.errors import EnvironmentUseError
from batch_rl.files import write_text_atomically

if TYPE_CHECKING:
    import pandas as pd


class VectoredGymEnvironment:
    """Environments of one kind, each with its own generators, from which logged data frames are collected.

    Args:
        registered_gym_env: id of a Gymnasium environment with numbered actions and a flat observation.
        num_of_envs: how many; environment ``i`` is called ``environment_i``.
        seed: with it and the number of an environment its rows are decided, whatever the number of others.
        time_limit: whether the registered limit cuts episodes; then the data frame has the columns
            ``terminated`` and ``truncated`` as well. Without it episodes end by themselves alone.
        render_mode: handed to the environments.
    Raises:
        PresetError: no such environment, or not one of this kind.
    """

    def __init__(
        self,
        registered_gym_env: str,
        num_of_envs: int = 1,
        *,
        seed: int = 0,
        time_limit: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if num_of_envs < 1:
            raise EnvironmentUseError(f"num_of_envs is {num_of_envs}; at least one environment is needed.")
        self.registered_gym_env = registered_gym_env
        self.num_of_envs = num_of_envs
        self.seed = seed
        self.time_limit = time_limit
        self.render_mode = render_mode
        self.envs_initialized = False
        self.initialized_envs: dict[str, Any] = {}
        self.env_states: dict[str, list[float]] = {}
        self.env_reset_counter: dict[str, int] = {}
        self.data_rows: list[list[Any]] = []
        self.state_dims = 0
        self._players: dict[str, Player] = {}
        self._running: dict[str, _Running] = {}
        self.initialize_envs()

    def is_initialized(self) -> bool:
        """Return whether the environments have been made."""
        return self.envs_initialized

    def initialize_envs(self) -> None:
        """Make all environments and reset them; called again, start over as if new."""
        for name in list(self.initialized_envs):
            self.close(name)
        for index in range(self.num_of_envs):
            name = f"environment_{index}"
            player = Player(
                self.registered_gym_env, self.seed, index, time_limit=self.time_limit, render_mode=self.render_mode
            )
            self._players[name] = player
            self.initialized_envs[name] = player.environment
            self.env_reset_counter[name] = 0
            self._begin(name)
        self.state_dims = len(next(iter(self.env_states.values())))
        self.envs_initialized = True

    def get_environment_ids(self) -> list[str]:
        """Return the environments' names, in order."""
        return list(self.initialized_envs)

    def get_environment_states(self) -> dict[str, list[float]]:
        """Return what each environment shows now, by name, in plain floats."""
        return {name: list(state) for name, state in self.env_states.items()}

    def dump_environment_states(self, dir_path: str | Path, file_name: str) -> None:
        """Write what each environment shows now, a JSON list of floats a line: input for batch transform."""
        lines = [json.dumps(state) for state in self.env_states.values()]
        write_text_atomically(Path(dir_path) / file_name, "".join(f"{line}\n" for line in lines))

    def step(self, environment_id: str, action: int) -> tuple[NDArray[np.float32], float, bool, dict[str, Any]]:
        """Take an action that is not logged.

        Returns:
            Observation, reward, whether the episode is over, and a dictionary that says how: ``terminated``,
            ``truncated``.
        Raises:
            EnvironmentUseError: no such environment, an action that it does not have, or an ended episode.
        """
        player, running = self._player(environment_id), self._running[environment_id]
        if running.over:
            raise EnvironmentUseError(f"{environment_id}: the episode is over; reset('{environment_id}') begins one.")
        if not 0 <= int(action) < player.n_actions:
            raise EnvironmentUseError(f"action {action} is not one of 0 to {player.n_actions - 1}.")
        observation, reward, terminated, truncated = player.step(int(action))
        running.unlogged = True
        self._show(environment_id, observation, over=terminated or truncated)
        return observation, reward, terminated or truncated, {"terminated": terminated, "truncated": truncated}

    def reset(self, environment_id: str) -> NDArray[np.float32]:
        """Begin another episode, with another id, and return its first observation."""
        self._player(environment_id)
        self.env_reset_counter[environment_id] += 1
        return self._begin(environment_id)

    def reset_all_envs(self) -> None:
        """Begin another episode in every environment."""
        for name in self.initialized_envs:
            self.reset(name)

    def close(self, environment_id: str) -> None:
        """Close an environment and forget it."""
        self._player(environment_id).environment.close()
        for by_environment in (self.initialized_envs, self.env_states, self._players, self._running):
            del by_environment[environment_id]

    def render(self, environment_id: str) -> Any:
        """Return what the environment's own ``render`` does, for the ``render_mode`` given at the start."""
        return self._player(environment_id).environment.render()

    def collect_rollouts_for_single_env_with_given_episodes(
        self, environment_id: str, action_prob: Sequence[float], num_episodes: int
    ) -> None:
        """Add the rows of whole episodes to ``data_rows``; one that has begun is given up first."""
        probabilities = self._one_row(environment_id, action_prob)
        if self._running[environment_id].steps or self._running[environment_id].unlogged:
            self.reset(environment_id)
        for _ in range(num_episodes):
            while not self._log_step(environment_id, probabilities):
                pass

    def collect_rollouts_for_single_env_with_given_steps(
        self, environment_id: str, action_prob: Sequence[float], num_steps: int
    ) -> None:
        """Add ``num_steps`` rows to ``data_rows``; the episode goes on from call to call."""
        probabilities = self._one_row(environment_id, action_prob)
        if self._running[environment_id].unlogged:
            self.reset(environment_id)  # rows of steps that are not in the log would be missing
        for _ in range(num_steps):
            self._log_step(environment_id, probabilities)

    def collect_rollouts_with_given_action_probs(
        self,
        num_steps: int | None = None,
        num_episodes: int | None = None,
        action_probs: Sequence[Sequence[float]] | None = None,
        file_name: str | Path | None = None,
    ) -> "pd.DataFrame":
        """Act in every environment by its own fixed probabilities, and return what happened.

        Args:
            num_steps: rows per environment. An episode that is not over goes on in the next call: after each
                batch transform of ``dump_environment_states`` one step can be taken.
            num_episodes: or whole episodes per environment, from the beginning.
            action_probs: for each environment, one probability per action; divided by their sum.
            file_name: or JSON lines to read them from, one per environment: the output of batch transform, with
                the input joined (``SageMakerOutput``) or without (``predictions``).
        Returns:
            Only the rows of this call, by environment and time, in the columns of Coach's CSV.
        Raises:
            EnvironmentUseError: not exactly one of each pair is given, or the probabilities do not fit.
        """
        if (num_steps is None) == (num_episodes is None):
            raise EnvironmentUseError("give either num_steps or num_episodes.")
        if (action_probs is None) == (file_name is None):
            raise EnvironmentUseError("give either action_probs or file_name.")
        count = num_steps if num_steps is not None else num_episodes
        if not isinstance(count, int) or count < 1:
            raise EnvironmentUseError(f"{count!r} is not a number of steps or episodes.")
        given = read_predictions(Path(file_name)) if file_name is not None else action_probs or []
        if len(given) != self.num_of_envs:
            raise EnvironmentUseError(
                f"there are {self.num_of_envs} environments, but {len(given)} rows of action probabilities."
            )
        self.data_rows = []
        collect: Callable[[str, Sequence[float], int], None] = (
            self.collect_rollouts_for_single_env_with_given_steps
            if num_steps is not None
            else self.collect_rollouts_for_single_env_with_given_episodes
        )
        for name, row in zip(self.initialized_envs, given, strict=True):
            self._one_row(name, row)  # all are looked at before the first step
        for name, row in zip(self.initialized_envs, given, strict=True):
            collect(name, row, count)
        import pandas as pd

        return pd.DataFrame(self.data_rows, columns=self._create_col_names())

    def _create_col_names(self) -> list[str]:
        features = [f"{FEATURE_PREFIX}{i}" for i in range(self.state_dims)]
        return [*COLUMNS, *features, *(("terminated", "truncated") if self.time_limit else ())]

    def _player(self, environment_id: str) -> Player:
        if environment_id not in self._players:
            raise EnvironmentUseError(f"no environment '{environment_id}'; they are environment_0, environment_1, ...")
        return self._players[environment_id]

    def _begin(self, name: str) -> NDArray[np.float32]:
        observation = self._players[name].reset()
        self._running[name] = _Running()
        self._show(name, observation, over=False)
        return observation

    def _show(self, name: str, observation: NDArray[np.float32], *, over: bool) -> None:
        self._running[name].over = over
        self.env_states[name] = observation.tolist()

    def _one_row(self, environment_id: str, action_prob: Sequence[float]) -> NDArray[np.float64]:
        n_actions = self._player(environment_id).n_actions
        try:
            row = np.array(action_prob, dtype=np.float64)
        except (TypeError, ValueError):
            row = np.zeros(0)
        if row.shape != (n_actions,) or not np.isfinite(row).all() or (row < 0).any() or row.sum() == 0:
            raise EnvironmentUseError(
                f"{environment_id}: {action_prob!r} must be {n_actions} numbers from 0, one per action, not all 0."
            )
        return row if row.sum() == 1 else row / row.sum()

    def _log_step(self, name: str, probabilities: NDArray[np.float64]) -> bool:
        """Draw, act, write the row; return whether that ended the episode, in which case another has begun."""
        player, running = self._players[name], self._running[name]
        state = self.env_states[name]
        uniform = np.array([player.generator.random()])
        action = int(draw_actions(probabilities[None], uniform)[0])
        observation, reward, terminated, truncated = player.step(action)
        over = terminated or truncated
        running.steps += 1
        running.total += reward
        index = int(name.rpartition("_")[2])
        episode_id = index + self.num_of_envs * self.env_reset_counter[name]
        ends = [terminated, truncated and not terminated] if self.time_limit else []
        total = running.total if over else 0.0
        self.data_rows.append([action, probabilities.tolist(), episode_id, reward, total, *state, *ends])
        self._show(name, observation, over=over)
        if over:
            self.reset(name)
        return over


class _Running:
    """The episode that an environment is in."""

    def __init__(self) -> None:
        self.steps = 0  # that were logged
        self.total = 0.0  # of their rewards
        self.unlogged = False  # whether others were taken
        self.over = False


def read_predictions(path: Path) -> list[list[float]]:
    """Read the action probabilities that batch transform wrote: the first prediction of each line.

    Raises:
        EnvironmentUseError: the file cannot be read, or a line has another form; blank lines are passed over.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentUseError(f"{path}: cannot be read as JSON lines ({type(error).__name__}).") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            inner = record["SageMakerOutput"] if isinstance(record, Mapping) and "SageMakerOutput" in record else record
            rows.append([float(value) for value in inner["predictions"][0]])
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise EnvironmentUseError(
                f'{path}, line {number}: not of the form {{"predictions": [[0.5, 0.5]]}}, with or without '
                '"SageMakerOutput" around it.'
            ) from error
    return rows
