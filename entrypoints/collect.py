"""Log episodes of a uniform random policy: the dataset that batch training starts from."""

import sys
from pathlib import Path

from batch_rl.behavior import uniform_policy
from batch_rl.dataset import write_csv
from batch_rl.errors import BatchRLError
from batch_rl.preset import CollectionPreset, choose_preset, preset_folders
from batch_rl.rollout import Player, play
from job_toolkit.environment import JobInputError, read_environment
from job_toolkit.failure import fail_job


def main() -> int:
    """Play ``num_envs`` x ``episodes_per_env`` episodes and write them as one CSV into the output data."""
    environment = read_environment()
    preset = choose_preset(CollectionPreset, environment.hyperparameters, preset_folders(Path(__file__)))
    name, collection = preset.environment.name, preset.collection
    # No time limit: a step limit would cut episodes in a way that the CSV cannot tell from a failure.
    players = [Player(name, preset.seed, index, time_limit=False) for index in range(collection.num_envs)]
    played = play(players, uniform_policy(players[0].n_actions), episodes_each=collection.episodes_per_env)
    # Episode ids run over the environments first, rows stand by environment: 0, 100, 200, ..., 1, 101, ...
    numbered = [
        (index + collection.num_envs * turn, episode)
        for index, episodes in enumerate(played)
        for turn, episode in enumerate(episodes)
    ]
    path = environment.paths.output_data / collection.file_name
    rows = write_csv(path, numbered)
    mean_reward = sum(episode.total_reward for _, episode in numbered) / len(numbered)
    print(
        f"Collected {len(numbered)} episodes, {rows} rows, of a uniform random policy in {name}: "
        f"mean total reward {mean_reward:.2f}. Dataset: {path}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}")
