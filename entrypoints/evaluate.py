"""Play a learned policy in its environment and report the rewards."""

import json
import math
import statistics
import sys
from pathlib import Path

from batch_rl.acting.gifs import check_rendering, write_gifs
from batch_rl.acting.policies import greedy_policy, softmax_policy
from batch_rl.acting.rollout import Player, mean_interval, play_episodes, play_steps
from batch_rl.data.episodes import join_episodes
from batch_rl.errors import BatchRLError, EvaluationError
from batch_rl.files import write_text_atomically
from batch_rl.learning.checkpoint import load_policy, trained_for
from batch_rl.networks import use_threads
from batch_rl.presets.reading import choose_preset, preset_folders, preset_notes
from batch_rl.presets.schema import EvaluationPreset
from batch_rl.reporting.log_lines import episode_line, evaluation_line
from batch_rl.reporting.metrics_csv import EPISODE_COLUMNS, EPISODE_FILE_NAME, MetricsFile
from job_toolkit.environment import JobInputError, read_environment
from job_toolkit.failure import fail_job


def main() -> int:
    """Evaluate the checkpoint of the channel of that name."""
    environment = read_environment()
    presets = preset_folders(Path(__file__))
    preset = choose_preset(EvaluationPreset, environment.hyperparameters, presets)
    for note in preset_notes(environment.hyperparameters, presets):
        print(f"Preset> {note}.", flush=True)
    name, evaluation = preset.environment.name, preset.evaluation
    limit = preset.environment.max_steps
    probe = Player(name, preset.seed, 0, time_limit=True, step_limit=limit)
    policy = load_policy(
        environment.channel("checkpoint"),
        evaluation.checkpoint,
        observation_size=probe.observation_size,
        n_actions=probe.n_actions,
    )
    if evaluation.gifs:
        check_rendering(name)
    use_threads(1)
    greedy = evaluation.policy == "greedy"
    acting = greedy_policy(policy.q_array) if greedy else softmax_policy(policy.q_array, policy.temperature)
    if evaluation.episodes is not None:
        episodes = play_episodes(name, preset.seed, acting, episodes=evaluation.episodes, step_limit=limit)
    else:
        episodes = play_steps(name, preset.seed, acting, steps=evaluation.steps, step_limit=limit)
    rewards = [episode.total_reward for episode in episodes]
    trained = trained_for(environment.channel("checkpoint"))
    discounted = join_episodes(episodes).returns(trained.discount).tolist()
    threshold = probe.reward_threshold
    steps = 0
    paths = environment.paths
    with MetricsFile(paths.intermediate / EPISODE_FILE_NAME, EPISODE_COLUMNS) as metrics:
        for number, (episode, reward) in enumerate(zip(episodes, rewards, strict=True), start=1):
            steps += len(episode.actions)
            print(episode_line("Testing", episode=number, reward=reward, exploration=0, steps=steps, updates=0))
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
        "policy": "greedy" if greedy else f"softmax(Q / {policy.temperature:g})",
        "checkpoint": evaluation.checkpoint,
        "seed": preset.seed,
        "episodes": len(rewards),
        "steps": steps,
        "mean": statistics.fmean(rewards),
        "mean_interval": mean_interval(rewards, seed=preset.seed),  # 95 %, by bootstrap over the episodes
        "std": statistics.pstdev(rewards),
        "min": min(rewards),
        "max": max(rewards),
        "discount": trained.discount,  # of the training, so that estimates and these are of one kind
        "discounted_mean": statistics.fmean(discounted),
        "discounted_mean_interval": mean_interval(discounted, seed=preset.seed),
        "truncated": sum(episode.truncated and not episode.terminated for episode in episodes),
        "action_names": list(trained.action_names),
    }
    write_text_atomically(paths.output_data / "evaluation.json", json.dumps(summary, indent=2) + "\n")
    print(evaluation_line(successes, statistics.fmean(rewards)), flush=True)
    if evaluation.passing_score is not None and statistics.fmean(rewards) < evaluation.passing_score:
        raise EvaluationError(
            f"the mean reward of {len(rewards)} episodes is {statistics.fmean(rewards):.2f}, below "
            f"evaluation.passing_score = {evaluation.passing_score:g}. The metric file has every reward."
        )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}", error.exit_code)
