"""Learning while acting: (double) deep Q-learning against an environment, from a replay buffer.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015; van Hasselt, Guez, Silver,
"Deep Reinforcement Learning with Double Q-Learning", AAAI 2016.

Everything that is drawn in an episode is decided by the seed and the number of the episode, so that the networks,
the buffer and a few counters at the end of an episode are all that a resumed run needs.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.acting.policies import greedy_policy
from batch_rl.acting.rollout import Player, collect_episodes
from batch_rl.data.fingerprints import SeenEpisodes
from batch_rl.errors import TrainingError
from batch_rl.learning.checkpoint import LEARNED_ONLINE
from batch_rl.learning.learner import Ensemble
from batch_rl.learning.rules.base import Batch
from batch_rl.learning.scaling import ValueScaling
from batch_rl.networks import (
    PolicyNetwork,
    forward,
    last_outputs,
    layer_inputs,
    mean_and_scale,
    seeded_generator,
    use_threads,
)
from batch_rl.presets.schema import Agent, OnlinePreset

WEIGHTS, EPISODES, EVALUATIONS = range(10, 13)  # each purpose draws from its own generators


class Replay:
    """The newest transitions, as many as fit; the oldest make room."""

    def __init__(self, capacity: int, observation_size: int) -> None:
        self.observations = np.zeros((capacity, observation_size), dtype=np.float32)
        self.next_observations = np.zeros((capacity, observation_size), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.terminated = np.zeros(capacity, dtype=np.float32)
        self.added = 0

    def __len__(self) -> int:
        """Return how many transitions are in it."""
        return min(self.added, len(self.actions))

    def add(
        self,
        observation: NDArray[np.float32],
        action: int,
        reward: float,
        next_observation: NDArray[np.float32],
        *,
        terminated: bool,
    ) -> None:
        """Take in one transition."""
        row = self.added % len(self.actions)
        self.observations[row], self.next_observations[row] = observation, next_observation
        self.actions[row], self.rewards[row], self.terminated[row] = action, reward, terminated
        self.added += 1

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            name: getattr(self, name)
            for name in ("observations", "next_observations", "actions", "rewards", "terminated")
        }

    def state(self) -> dict[str, Any]:
        """Return the content, in tensors."""
        rows = len(self)
        return {"added": self.added} | {
            name: torch.from_numpy(array[:rows].copy()) for name, array in self._arrays().items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned for a buffer of the same size."""
        self.added = int(state["added"])
        for name, array in self._arrays().items():
            array[: len(self)] = state[name].numpy()


class OnlineLearner(Ensemble):
    """An ensemble with its replay buffer, and where training stands.

    Args:
        n_actions: width of the output.
        generator: draws the first weights.
    """

    def __init__(
        self, agent: Agent, *, observation_size: int, n_actions: int, replay_size: int, generator: torch.Generator
    ) -> None:
        super().__init__(agent, observation_size, n_actions=n_actions, generator=generator)
        self.replay = Replay(replay_size, observation_size)
        self.mean, self.scale = torch.zeros(observation_size), torch.ones(observation_size)
        self.episodes = 0  # whole episodes, those of the heatup too
        self.heatup_episodes = 0  # those that began in the heatup
        self.steps = 0
        self.reached = False  # whether an evaluation has reached online.stop_at_reward

    def standardize(self) -> None:
        """From now on scale every feature to mean 0 and deviation 1 of what the buffer holds."""
        self.mean, self.scale = mean_and_scale(self.replay.observations[: len(self.replay)])

    def values(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean Q of the members, (n_actions,)."""
        inputs = (torch.from_numpy(observation) - self.mean) / self.scale
        outputs = forward(self.online, inputs.expand(self.agent.members, 1, -1))
        mean: NDArray[np.float32] = self.rule.values(outputs).mean(dim=0)[0].numpy()
        return mean

    def update(self, generator: np.random.Generator, learning_rate: float) -> Tensor:
        """Train every member on a batch of its own.

        Returns:
            Loss, the gradient's norm, the mean Q of the batch, the step size, (4,).
        """
        agent, replay = self.agent, self.replay
        rows = generator.integers(len(replay), size=(agent.members, agent.batch_size))
        inputs = (torch.from_numpy(replay.observations[rows]) - self.mean) / self.scale
        taken = layer_inputs(self.online, inputs)
        outputs = last_outputs(self.online, taken[-1])
        next_outputs, batch = self._batch(rows)
        losses, gradient = self.rule.losses(outputs, next_outputs, batch)
        values = self.rule.values(outputs)
        norm = self._step(taken, gradient, learning_rate, taken[0].shape[1])
        return torch.stack([losses.mean(), norm, values.mean(), torch.tensor(learning_rate)])

    def _batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Batch]:
        """Return the outputs at the next observations, where the rule asks for them, and what else it needs."""
        agent, replay = self.agent, self.replay
        next_inputs = (torch.from_numpy(replay.next_observations[rows]) - self.mean) / self.scale
        target = forward(self.target, next_inputs)
        next_outputs = forward(self.online, next_inputs) if self.rule.asks_next else target[:, :0]
        return next_outputs, Batch(
            actions=torch.from_numpy(replay.actions[rows]),
            rewards=torch.from_numpy(replay.rewards[rows]),
            going_on=agent.discount * (1 - torch.from_numpy(replay.terminated[rows])),
            forbidden=torch.zeros((*rows.shape, self.n_actions), dtype=torch.bool),
            target=target,
        )

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return super().state() | {
            "replay": self.replay.state(),
            "mean": self.mean,
            "scale": self.scale,
            "episodes": self.episodes,
            "heatup_episodes": self.heatup_episodes,
            "steps": self.steps,
            "reached": self.reached,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a learner of the same preset."""
        super().restore(state)
        self.replay.restore(state["replay"])
        self.mean, self.scale = state["mean"], state["scale"]
        self.episodes, self.heatup_episodes = state["episodes"], state["heatup_episodes"]
        self.steps, self.reached = state["steps"], state["reached"]


@dataclass(frozen=True)
class EpisodeResult:
    """One finished training episode."""

    number: int  # from 1, those of the heatup too
    heatup: bool  # whether it began in the heatup
    reward: float
    length: int
    epsilon: float  # at its end
    statistics: NDArray[np.float64]  # (updates, 4): loss, gradient norm, mean Q, step size


class OnlineRun:
    """Everything between an environment and a policy.

    An epoch is what lies between two evaluations.

    Raises:
        PresetError: no such environment, or not one with numbered actions and flat observations.
    """

    dataset_digest = LEARNED_ONLINE
    seen_episodes: SeenEpisodes | None = None
    preprocessor = None  # features are standardised at most
    support = None  # every action may be played
    scaling = ValueScaling()  # values are learned in units of reward

    def __init__(self, preset: OnlinePreset) -> None:
        use_threads(preset.training.threads)
        self.preset = preset
        self._episode_seed = _derived_seed(preset.seed, EPISODES)
        self._evaluation_seed = _derived_seed(preset.seed, EVALUATIONS)
        probe = self._player(0)
        self.observation_size, self.n_actions = probe.observation_size, probe.n_actions
        self.action_names: tuple[str, ...] = ()  # environments number them
        self.reward_threshold = probe.reward_threshold
        self.learner = OnlineLearner(
            preset.agent,
            observation_size=self.observation_size,
            n_actions=self.n_actions,
            replay_size=preset.online.replay_size,
            generator=seeded_generator(preset.seed, WEIGHTS),
        )
        self.epoch = 0

    def _player(self, episode: int) -> Player:
        environment = self.preset.environment
        return Player(environment.name, self._episode_seed, episode, time_limit=True, step_limit=environment.max_steps)

    @property
    def mean(self) -> Tensor:
        """What is subtracted from the features, (observation_size,)."""
        return self.learner.mean

    @property
    def scale(self) -> Tensor:
        """What they are divided by, (observation_size,)."""
        return self.learner.scale

    @property
    def temperature(self) -> float:
        """The served policy is softmax(Q / temperature)."""
        return self.preset.online.temperature

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        online, learner = self.preset.online, self.learner
        if online.episodes is not None:
            return learner.reached or learner.episodes - learner.heatup_episodes >= online.episodes
        return learner.reached or learner.steps >= online.steps

    @property
    def evaluation_due(self) -> bool:
        """Whether the episode that has just ended is followed by an evaluation."""
        if self.learner.updates == 0:
            return False
        return self.finished or self.learner.episodes % self.preset.online.evaluate_every_episodes == 0

    def _epsilon(self) -> float:
        online = self.preset.online
        done = self.learner.steps - online.heatup_steps
        if done < 0:
            return 1.0
        share = min(1.0, done / online.epsilon_steps)
        return online.epsilon_start + share * (online.epsilon_end - online.epsilon_start)

    def _learning_rate(self) -> float:
        agent, steps = self.preset.agent, self.preset.online.steps
        if agent.learning_rate_schedule == "constant":
            return agent.learning_rate
        return agent.learning_rate * max(0.0, 1 - (self.learner.steps - 1) / steps)

    def run_episode(self) -> EpisodeResult:
        """Play one episode and learn from the buffer on the way.

        Raises:
            TrainingError: the networks diverged.
        """
        learner, online = self.learner, self.preset.online
        player = self._player(learner.episodes)
        generator = player.generator
        heatup = learner.steps < online.heatup_steps
        statistics: list[Tensor] = []
        observation, total, length, over = player.reset(), 0.0, 0, False
        while not over:
            epsilon = self._epsilon()
            # Drawn at every step, so that the next numbers do not depend on what the values are.
            explore, drawn = generator.random() < epsilon, int(generator.integers(self.n_actions))
            action = drawn if explore else int(learner.values(observation).argmax())
            following, reward, terminated, truncated = player.step(action)
            # A time limit is no end of the task: only ``terminated`` ends the bootstrapping.
            learner.replay.add(observation, action, reward, following, terminated=terminated)
            observation, total, length, over = following, total + reward, length + 1, terminated or truncated
            learner.steps += 1
            after_heatup = learner.steps - online.heatup_steps
            if after_heatup == 0 and self.preset.agent.standardize_inputs:
                learner.standardize()
            if after_heatup > 0 and after_heatup % online.steps_between_updates == 0:
                statistics += [learner.update(generator, self._learning_rate()) for _ in range(online.updates_at_once)]
        learner.episodes += 1
        learner.heatup_episodes += heatup
        numbers = torch.stack(statistics).double().numpy() if statistics else np.zeros((0, 4))
        if not np.isfinite(numbers).all():
            raise TrainingError(
                f"the networks diverged in episode {learner.episodes}: a loss or a gradient is not finite. Lower "
                "agent.learning_rate, or look for extreme rewards in the environment."
            )
        return EpisodeResult(learner.episodes, heatup, total, length, self._epsilon(), numbers)

    def evaluate(self) -> list[float]:
        """Play the greedy policy as it is now, always from the same starts; return the rewards and end the epoch."""
        environment, online = self.preset.environment, self.preset.online
        played = collect_episodes(
            environment.name,
            self._evaluation_seed,
            greedy_policy(self.policy().q_array),
            num_envs=online.evaluation_episodes,
            episodes_each=1,
            time_limit=True,
            step_limit=environment.max_steps,
        )
        rewards = [episode.total_reward for (episode,) in played]
        self.epoch += 1
        if online.stop_at_reward is not None and math.fsum(rewards) / len(rewards) >= online.stop_at_reward:
            self.learner.reached = True
        return rewards

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return {"learner": self.learner.state(), "epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a run of the same preset."""
        self.learner.restore(state["learner"])
        self.epoch = state["epoch"]

    def policy(self) -> PolicyNetwork:
        """Return the policy as it is now."""
        return PolicyNetwork(self.learner.deciding_parameters(), self.mean, self.scale, self.temperature)


def _derived_seed(seed: int, purpose: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1)[0])
