"""Playing episodes in Gymnasium environments.

Environments step side by side, so that a policy is asked once for all of them. Each has its own
generators, seeded by (seed, index): an episode does not depend on how many others are played beside it.
They are reset here, explicitly, and only when another episode is wanted, so a reset never appears as a
transition.
"""

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from batch_rl.acting import cartpole
from batch_rl.acting.policies import ActionProbabilities, draw_actions
from batch_rl.data.episodes import Episode
from batch_rl.errors import PresetError


class Player:
    """An environment with its own generators.

    Args:
        name: id of a registered environment with a flat observation and numbered actions.
        seed: shared by all players of a run.
        index: which of them this is.
        time_limit: whether the registered limit cuts episodes.
        step_limit: in place of the registered limit.
        render_mode: handed to the environment.
    Raises:
        PresetError: no such environment, or not one of this kind.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        index: int,
        *,
        time_limit: bool,
        step_limit: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        with warnings.catch_warnings():
            # CartPole-v0, although out of date: its limit is 200 steps.
            warnings.filterwarnings("ignore", message=".*is out of date")
            try:
                environment = gymnasium.make(
                    name, max_episode_steps=step_limit, disable_env_checker=True, render_mode=render_mode
                )
            except (gymnasium.error.Error, ModuleNotFoundError) as error:
                nearest = difflib.get_close_matches(name, list(gymnasium.registry), n=1)
                hint = f"; did you mean '{nearest[0]}'?" if nearest else "."
                extra = " It comes with the extra 'box2d' of this project." if "Box2D" in str(error) else ""
                raise PresetError(f"environment.name: Gymnasium cannot make '{name}'{hint} {error}{extra}") from error
        if not isinstance(environment.action_space, gymnasium.spaces.Discrete) or (
            environment.observation_space.shape is None or len(environment.observation_space.shape) != 1
        ):
            raise PresetError(
                f"environment.name: '{name}' must have numbered actions and a flat vector of observations."
            )
        spec = gymnasium.spec(name)
        self.reward_threshold: float | None = spec.reward_threshold
        self.step_limit: int | None = (step_limit or spec.max_episode_steps) if time_limit else None
        self.observation_size = int(environment.observation_space.shape[0])
        self.n_actions = int(environment.action_space.n)
        self.first_action = int(environment.action_space.start)
        self.environment: Any = environment if time_limit else environment.unwrapped
        environment_seed, action_seed = np.random.SeedSequence([seed, index]).spawn(2)
        self._reset_seed: int | None = int(environment_seed.generate_state(1)[0])
        self.generator = np.random.default_rng(action_seed)

    def reset(self) -> NDArray[np.float32]:
        """Start an episode; later ones continue the environment's own random sequence."""
        observation, _ = self.environment.reset(seed=self._reset_seed)
        self._reset_seed = None
        return np.asarray(observation, dtype=np.float32)

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool]:
        """Return the next observation, the reward, and whether the episode is terminated or truncated."""
        observation, reward, terminated, truncated, _ = self.environment.step(action + self.first_action)
        return np.asarray(observation, dtype=np.float32), float(reward), bool(terminated), bool(truncated)


def play(players: Sequence[Player], policy: ActionProbabilities, *, episodes_each: int) -> list[list[Episode]]:
    """Play ``episodes_each`` whole episodes in every player; return them by player, in order of time."""
    played: list[list[Episode]] = [[] for _ in players]
    steps: list[list[tuple[Any, ...]]] = [[] for _ in players]
    running = list(range(len(players)))
    observations = [player.reset() for player in players]
    while running:
        batch = np.stack([observations[i] for i in running])
        probabilities = policy(batch)
        uniforms = np.array([players[i].generator.random() for i in running])
        actions = draw_actions(probabilities, uniforms).tolist()
        still_running = []
        for row, (i, action) in enumerate(zip(running, actions, strict=True)):
            observation, reward, terminated, truncated = players[i].step(action)
            steps[i].append((batch[row], action, probabilities[row], reward))
            if terminated or truncated:
                played[i].append(_episode(steps[i], observation, terminated=terminated, truncated=truncated))
                steps[i] = []
                if len(played[i]) == episodes_each:
                    continue
                observation = players[i].reset()
            observations[i] = observation
            still_running.append(i)
        running = still_running
    return played


def _episode(steps: list[tuple[Any, ...]], final: NDArray[np.float32], *, terminated: bool, truncated: bool) -> Episode:
    observations, actions, probabilities, rewards = zip(*steps, strict=True)
    return Episode(
        observations=np.stack(observations),
        actions=np.array(actions, dtype=np.int64),
        probabilities=np.stack(probabilities),
        rewards=np.array(rewards, dtype=np.float64),
        terminated=terminated,
        truncated=truncated,
        final_observation=final,
    )


def collect_episodes(
    name: str,
    seed: int,
    policy: ActionProbabilities,
    *,
    num_envs: int,
    episodes_each: int,
    time_limit: bool,
    step_limit: int | None = None,
) -> list[list[Episode]]:
    """Play ``episodes_each`` whole episodes in each of ``num_envs`` environments; return them by environment.

    The result is that of ``play`` with as many players, also where a faster way is taken.

    Args:
        policy: asked for all running environments together.
        time_limit: whether the registered limit cuts episodes, or ``step_limit`` in its place.
    Raises:
        PresetError: no such environment, or not one with numbered actions and flat observations.
    """
    if name in cartpole.STEP_LIMITS:
        limit = (step_limit or cartpole.STEP_LIMITS[name]) if time_limit else None
        return cartpole.play_cartpoles(num_envs, seed, policy, episodes_each=episodes_each, step_limit=limit)
    players = [Player(name, seed, index, time_limit=time_limit, step_limit=step_limit) for index in range(num_envs)]
    return play(players, policy, episodes_each=episodes_each)


def play_episodes(
    name: str, seed: int, policy: ActionProbabilities, *, episodes: int, step_limit: int | None = None
) -> list[Episode]:
    """Play episodes 0 to ``episodes - 1``, cut at the environment's registered limit, or at ``step_limit``."""
    players = [Player(name, seed, index, time_limit=True, step_limit=step_limit) for index in range(episodes)]
    return [episode for (episode,) in play(players, policy, episodes_each=1)]


def mean_interval(rewards: Sequence[float], *, seed: int, level: float = 0.95) -> list[float]:
    """Return the ends of an interval for the mean reward, by bootstrap: the same ones for the same seed."""
    values, generator = np.array(rewards), np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    ends: list[float] = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return ends


def play_steps(
    name: str,
    seed: int,
    policy: ActionProbabilities,
    *,
    steps: int,
    time_limit: bool = True,
    step_limit: int | None = None,
) -> list[Episode]:
    """Play whole episodes 0, 1, ... until they have at least ``steps`` steps together.

    The result is that of playing one after the other: a round never holds more episodes than are
    certainly needed.
    """
    played: list[Episode] = []
    missing = steps
    while missing > 0:
        first = Player(name, seed, len(played), time_limit=time_limit, step_limit=step_limit)
        count = -(-missing // first.step_limit) if first.step_limit else 1
        others = [
            Player(name, seed, len(played) + i, time_limit=time_limit, step_limit=step_limit) for i in range(1, count)
        ]
        played += [episode for (episode,) in play([first, *others], policy, episodes_each=1)]
        missing = steps - sum(len(episode.actions) for episode in played)
    return played
