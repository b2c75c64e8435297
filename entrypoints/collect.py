"""Log episodes of a policy whose probabilities are known: the dataset that batch training starts from."""

import sys
from pathlib import Path

from batch_rl.acting.policies import (
    ActionProbabilities,
    epsilon_greedy_policy,
    fixed_policy,
    softmax_policy,
    uniform_policy,
)
from batch_rl.acting.rollout import Player, collect_episodes, play_steps
from batch_rl.data.episodes import Episode, join_episodes
from batch_rl.errors import BatchRLError, PresetError
from batch_rl.formats.coach_csv import write_csv
from batch_rl.formats.npz import write_npz
from batch_rl.formats.parquet import write_parquet
from batch_rl.presets.reading import choose_preset, preset_folders, preset_notes
from batch_rl.presets.schema import Collection, CollectionPreset
from job_toolkit.environment import JobEnvironment, JobInputError, read_environment
from job_toolkit.failure import fail_job


def main() -> int:
    """Play ``num_envs`` x ``episodes_per_env`` episodes and write them as one dataset into the output data."""
    environment = read_environment()
    presets = preset_folders(Path(__file__))
    preset = choose_preset(CollectionPreset, environment.hyperparameters, presets)
    for note in preset_notes(environment.hyperparameters, presets):
        print(f"Preset> {note}.", flush=True)
    name, collection = preset.environment.name, preset.collection
    # No time limit by default: Coach's CSV cannot tell an episode that it cuts from a failure.
    limit = preset.environment.max_steps
    probe = Player(name, preset.seed, 0, time_limit=collection.time_limit, step_limit=limit)
    policy, description = behavior_policy(collection, probe, environment)
    if limit is not None and not collection.time_limit:
        raise PresetError("environment.max_steps cuts episodes: set collection.time_limit=true with it.")
    numbered = collected_episodes(preset, policy)
    path = environment.paths.output_data / collection.file_name
    rows = write_dataset(path, numbered, with_ends=collection.time_limit)
    mean_reward = sum(episode.total_reward for _, episode in numbered) / len(numbered)
    print(
        f"Collected {len(numbered)} episodes, {rows} rows, of {description} in {name}: "
        f"mean total reward {mean_reward:.2f}. Dataset: {path}",
        flush=True,
    )
    return 0


def collected_episodes(preset: CollectionPreset, policy: ActionProbabilities) -> list[tuple[int, Episode]]:
    """Play what the preset asks for; return the episodes with their numbers, in the order of their rows."""
    name, limit = preset.environment.name, preset.environment.max_steps
    seed, collection = preset.seed, preset.collection
    if collection.steps is not None:
        cut = collection.time_limit
        played = play_steps(name, seed, policy, steps=collection.steps, time_limit=cut, step_limit=limit)
        return list(enumerate(played))
    by_environment = collect_episodes(
        name,
        seed,
        policy,
        num_envs=collection.num_envs,
        episodes_each=collection.episodes_per_env,
        time_limit=collection.time_limit,
        step_limit=limit,
    )
    # Episode ids run over the environments first, rows stand by environment: 0, 100, 200, ..., 1, 101, ...
    return [
        (index + collection.num_envs * turn, episode)
        for index, episodes in enumerate(by_environment)
        for turn, episode in enumerate(episodes)
    ]


def behavior_policy(
    collection: Collection, probe: Player, environment: JobEnvironment
) -> tuple[ActionProbabilities, str]:
    """Return the policy that acts, and what to call it.

    Raises:
        PresetError: the preset's values do not fit each other or the environment.
        CheckpointError: the channel ``checkpoint`` holds none that fits.
    """
    if (collection.action_probabilities is not None) != (collection.policy == "fixed"):
        raise PresetError("collection.action_probabilities goes with collection.policy=fixed, which needs it.")
    if collection.action_probabilities is not None:
        chosen = list(collection.action_probabilities)
        return fixed_policy(chosen, probe.n_actions), f"a policy with the fixed probabilities {chosen}"
    if collection.policy == "uniform":
        return uniform_policy(probe.n_actions), "a uniform random policy"
    # Imported here: torch takes longer to load than most datasets to collect.
    from batch_rl.learning.checkpoint import load_policy
    from batch_rl.networks import use_threads

    use_threads(1)
    learned = load_policy(
        environment.channel("checkpoint"),
        collection.checkpoint,
        observation_size=probe.observation_size,
        n_actions=probe.n_actions,
    )
    if collection.policy == "epsilon_greedy":
        description = f"the {collection.checkpoint} checkpoint, greedy except for a share of {collection.epsilon:g}"
        return epsilon_greedy_policy(learned.q_array, collection.epsilon), description
    temperature = learned.temperature if collection.temperature is None else collection.temperature
    description = f"the {collection.checkpoint} checkpoint's softmax(Q / {temperature:g})"
    return softmax_policy(learned.q_array, temperature), description


def write_dataset(path: Path, numbered: list[tuple[int, Episode]], *, with_ends: bool) -> int:
    """Write the episodes in the format that the file's ending names; return the number of rows."""
    if path.suffix == ".parquet":
        return write_parquet(path, numbered)
    if path.suffix == ".npz":
        write_npz(path, join_episodes(episode for _, episode in numbered))
        return sum(len(episode.actions) for _, episode in numbered)
    if path.suffix == ".minari":
        # Imported here: an extra that most jobs do without.
        from batch_rl.formats.minari_format import write_minari

        return write_minari(path, (episode for _, episode in numbered), dataset_id=f"{path.stem}-v0")
    return write_csv(path, numbered, with_ends=with_ends)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}", error.exit_code)
