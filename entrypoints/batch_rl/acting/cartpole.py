"""CartPole for many environments at once: what ``rollout.play`` gives, bit for bit, in a tenth of the time.

Gymnasium's own vectorised CartPole draws all starts from one generator, so its rows change with the number of
environments. Here each environment keeps its two generators, seeded as in ``rollout.Player``; only the
arithmetic is shared. The equations and constants are those of Gymnasium's ``CartPoleEnv`` (Barto, Sutton,
Anderson, "Neuronlike Adaptive Elements That Can Solve Difficult Learning Control Problems", 1983), in the same
order of operations; tests compare every row.
"""

import math

import numpy as np
from numpy.typing import NDArray

from batch_rl.acting.policies import ActionProbabilities, draw_actions
from batch_rl.data.episodes import Episode

STEP_LIMITS = {"CartPole-v0": 200, "CartPole-v1": 500}
LIMITS = np.array([[2.4], [12 * 2 * math.pi / 360]])  # of position and angle
FORCES = np.array([-10.0, 10.0])
POLE_MASS, TOTAL_MASS, HALF_LENGTH = 0.1, 0.1 + 1.0, 0.5
POLE_MOMENT = POLE_MASS * HALF_LENGTH
UNIFORMS_AT_ONCE = 128

Floats = NDArray[np.float64]


def step_states(states: Floats, actions: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the next states, (4, batch): position, its speed, angle, its speed; and which have ended."""
    _, x_speed, angle, angle_speed = states
    force = FORCES[actions]
    cos, sin = np.cos(angle), np.sin(angle)
    push = (force + POLE_MOMENT * np.square(angle_speed) * sin) / TOTAL_MASS
    angle_acceleration = (9.8 * sin - cos * push) / (
        HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS)
    )
    derivatives = np.empty_like(states)
    derivatives[0], derivatives[2], derivatives[3] = x_speed, angle_speed, angle_acceleration
    derivatives[1] = push - POLE_MOMENT * angle_acceleration * cos / TOTAL_MASS
    following = states + 0.02 * derivatives
    over = np.abs(following[::2]) > LIMITS
    return following, over[0] | over[1]


def play_cartpoles(
    num_envs: int, seed: int, policy: ActionProbabilities, *, episodes_each: int, step_limit: int | None
) -> list[list[Episode]]:
    """Play ``episodes_each`` whole episodes in every environment; return them by environment.

    Args:
        step_limit: cuts episodes; None: they end by falling alone.
    """
    # The two that SeedSequence([seed, index]).spawn(2) returns, without mixing the seed of their parent first.
    seeds = [
        [np.random.SeedSequence([seed, index], spawn_key=(child,)) for child in range(2)] for index in range(num_envs)
    ]
    starts = np.stack([_starts(environment_seed, episodes_each) for environment_seed, _ in seeds], axis=2)
    generators = [np.random.default_rng(action_seed) for _, action_seed in seeds]
    running = np.arange(num_envs)
    states = starts[0]
    turns = np.zeros(num_envs, dtype=np.int64)  # each as long as ``running``, as are the states
    steps = np.zeros(num_envs, dtype=np.int64)
    log: list[tuple[NDArray[np.float32], NDArray[np.int64], Floats, NDArray[np.int64]]] = []
    ends: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]] = []
    uniforms = np.zeros((0, num_envs))
    drawn = 0
    while len(running):
        if drawn == len(uniforms):
            by_environment, drawn = np.zeros((num_envs, UNIFORMS_AT_ONCE)), 0
            for index in running:
                generators[index].random(out=by_environment[index])
            uniforms = by_environment.T.copy()
        observations = states.T.astype(np.float32)
        probabilities = policy(observations)
        actions = draw_actions(probabilities, uniforms[drawn][running])
        drawn += 1
        states, terminated = step_states(states, actions)
        steps += 1
        log.append((observations, actions, probabilities, running))
        over = terminated if step_limit is None else terminated | (steps == step_limit)
        ended = over.nonzero()[0]
        if len(ended):
            time = np.full(len(ended), len(log))
            ends.append((running[ended], time, terminated[ended], states.T[ended].astype(np.float32)))
            turns[ended] += 1
            steps[ended] = 0
            again = ended[turns[ended] < episodes_each]
            states[:, again] = starts[turns[again], :, running[again]].T
            if len(again) < len(ended):
                still = turns < episodes_each
                running, states, turns, steps = running[still], states[:, still], turns[still], steps[still]
    return _cut_into_episodes(log, ends, num_envs)


def _starts(seed: np.random.SeedSequence, episodes: int) -> Floats:
    """Return the first state of each episode, (episodes, 4), as an environment reset again and again draws them."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed.generate_state(1)[0]))))
    return generator.uniform(low=-0.05, high=0.05, size=(episodes, 4))


def _cut_into_episodes(
    log: list[tuple[NDArray[np.float32], NDArray[np.int64], Floats, NDArray[np.int64]]],
    ends: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]],
    num_envs: int,
) -> list[list[Episode]]:
    observations, actions, probabilities, environments = (np.concatenate(parts) for parts in zip(*log, strict=True))
    by_environment = np.argsort(environments, kind="stable")  # stable: rows stay in order of time
    observations, actions = observations[by_environment], actions[by_environment]
    probabilities = probabilities[by_environment]
    owners, times, terminated, finals = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    rewards = np.ones(len(actions))
    played: list[list[Episode]] = [[] for _ in range(num_envs)]
    row, begun = 0, dict.fromkeys(range(num_envs), 0)
    for at in np.argsort(owners, kind="stable").tolist():
        owner, time = int(owners[at]), int(times[at])
        rows = slice(row, row + time - begun[owner])  # an environment steps in every round until it is done
        row, begun[owner] = rows.stop, time
        played[owner].append(
            Episode(
                observations=observations[rows],
                actions=actions[rows],
                probabilities=probabilities[rows],
                rewards=rewards[rows],
                terminated=bool(terminated[at]),
                truncated=not terminated[at],
                final_observation=finals[at],
            )
        )
    return played
