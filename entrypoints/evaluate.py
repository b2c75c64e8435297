"""Play a learned policy in its environment, greedily, and report the rewards."""

import json
import math
import statistics
import sys
from datetime import datetime
from pathlib import Path

from batch_rl.behavior import greedy_policy
from batch_rl.checkpoint import load_policy
from batch_rl.errors import BatchRLError
from batch_rl.files import write_text_atomically
from batch_rl.gifs import check_rendering, write_gifs
from batch_rl.metrics_csv import EPISODE_COLUMNS, EPISODE_FILE_NAME, MetricsFile
from batch_rl.networks import use_threads
from batch_rl.preset import EvaluationPreset, choose_preset, preset_folders
from batch_rl.rollout import Player, play_episodes, play_steps
from job_toolkit.environment import JobInputError, read_environment
from job_toolkit.failure import fail_job


def main() -> int:
    """Evaluate the checkpoint of the channel of that name."""
    environment = read_environment()
    preset = choose_preset(EvaluationPreset, environment.hyperparameters, preset_folders(Path(__file__)))
    name, evaluation = preset.environment.name, preset.evaluation
    probe = Player(name, preset.seed, 0, time_limit=True)
    policy = load_policy(
        environment.channel("checkpoint"),
        evaluation.checkpoint,
        observation_size=probe.observation_size,
        n_actions=probe.n_actions,
    )
    if evaluation.gifs:
        check_rendering(name)
    use_threads(1)
    greedy = greedy_policy(policy.q_array)
    if evaluation.episodes is not None:
        episodes = play_episodes(name, preset.seed, greedy, episodes=evaluation.episodes)
    else:
        episodes = play_steps(name, preset.seed, greedy, steps=evaluation.steps)
    rewards = [episode.total_reward for episode in episodes]
    threshold = probe.reward_threshold
    steps = 0
    paths = environment.paths
    with MetricsFile(paths.intermediate / EPISODE_FILE_NAME, EPISODE_COLUMNS) as metrics:
        for number, (episode, reward) in enumerate(zip(episodes, rewards, strict=True), start=1):
            steps += len(episode.actions)
            time = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
            print(
                f"Testing> {time}, Name=main_level/agent, Worker=0, Episode={number}, Total reward={reward:g}, "
                f"Exploration=0, Steps={steps}, Training iteration=0"
            )
            metrics.append(
                {
                    "Episode #": number,
                    "Evaluation Reward": reward,
                    "Episode Length": len(episode.actions),
                    "Success Rate": None if threshold is None else float(reward >= threshold),
                }
            )
    if evaluation.gifs:
        write_gifs(paths.intermediate / "gifs", name, preset.seed, episodes[: evaluation.gifs])
    successes = math.nan if threshold is None else sum(reward >= threshold for reward in rewards) / len(rewards)
    summary = {
        "environment": name,
        "policy": "greedy",
        "checkpoint": evaluation.checkpoint,
        "seed": preset.seed,
        "episodes": len(rewards),
        "steps": steps,
        "mean": statistics.fmean(rewards),
        "std": statistics.pstdev(rewards),
        "min": min(rewards),
        "max": max(rewards),
    }
    write_text_atomically(paths.output_data / "evaluation.json", json.dumps(summary, indent=2) + "\n")
    print(
        f"## agent: Finished evaluation phase. Success rate = {successes:g}, "
        f"Avg Total Reward = {statistics.fmean(rewards):.2f}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}")
