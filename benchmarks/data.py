"""Logged data: reading a million rows, against pandas alone; collecting, against Gymnasium's vector environments."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from measuring import Aim, Row

_ENTRYPOINTS = Path(__file__).resolve().parents[1] / "entrypoints"
_ROWS = 1_000_000
_PARSED_ROWS = 100_000  # ast.literal_eval takes seconds for a million


def data_rows(scratch: Path, runs: int) -> list[Row]:
    """Measure in a process of its own: the launcher's side shares no import with the library."""
    command = [sys.executable, str(Path(__file__).resolve()), str(scratch), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [Row("data", "logged data", skipped=done.stderr.strip().splitlines()[-1])]
    times: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])

    def row(title: str, floor: str, ours: str, *aims: Aim, note: str = "") -> Row:
        return Row("data", title, floor=times[floor], ours=times[ours], aims=aims, note=note)

    return [
        row("1M-row CSV, one probability text, against plain pandas", "pandas", "csv", Aim("ratio", 2)),
        row(
            "1M-row CSV, all probability texts different",
            "pandas varying",
            "csv varying",
            note="The floor leaves the probabilities as text.",
        ),
        row(
            f"{_PARSED_ROWS:,} of these rows against pandas and ast.literal_eval",
            "literal_eval",
            "csv part",
            Aim("ratio", 0.2),
        ),
        row("1M-row Parquet to checked episodes, against our CSV", "csv", "parquet"),
        row("... the same streamed in blocks of 131,072 rows", "parquet", "streamed"),
        row("... from the npz of the arrays, against our CSV", "csv", "npz", Aim("ratio", 0.2)),
        row(
            "Normalization of 1M x 4 features, against a pandas describe",
            "describe",
            "normalization",
            Aim("ratio", 5),
            note="Types and parameters of one normal, one log-normal, one gamma and one uniform feature.",
        ),
        row(
            "CartPole, 100 x 5 random episodes, against SyncVectorEnv",
            "sync episodes",
            "collect",
            Aim("ratio", 0.1),
            note="SyncVectorEnv steps until each environment has ended five episodes, and keeps what it showed; its "
            "environments are made before the clock starts. Ours includes seeding and cutting into episodes.",
        ),
        row("... against SyncVectorEnv stepping for as many rows, keeping none", "sync", "collect"),
        row(
            "... against Gymnasium's own vectorised CartPole",
            "native",
            "collect",
            note="Its rows change with the number of environments, so we cannot use it.",
        ),
        row("Acrobot, 20 x 1 random episodes, against SyncVectorEnv", "sync acrobot", "collect acrobot"),
    ]


def _measure(scratch: Path, runs: int) -> dict[str, list[float]]:
    import gymnasium
    import numpy as np
    import pandas as pd
    from measuring import interleave

    from batch_rl.acting.policies import uniform_policy
    from batch_rl.acting.rollout import collect_episodes
    from batch_rl.data.episodes import join_episodes
    from batch_rl.data.feature_types import identify_features
    from batch_rl.formats.coach_csv import read_csv, write_csv
    from batch_rl.formats.npz import read_npz, write_npz
    from batch_rl.formats.parquet import read_parquet, stream_parquet, write_parquet

    def collect(name: str, num_envs: int, episodes_each: int, time_limit: bool = False) -> list[list[object]]:
        return collect_episodes(
            name, 0, uniform_policy({"CartPole-v1": 2, "Acrobot-v1": 3}[name]), num_envs=num_envs,
            episodes_each=episodes_each, time_limit=time_limit,
        )  # fmt: skip

    played = [episode for environment in collect("CartPole-v1", 100, 5) for episode in environment]
    n_rows = sum(len(episode.actions) for episode in played)
    numbered = [(k * len(played) + i, episode) for k in range(-(-_ROWS // n_rows)) for i, episode in enumerate(played)]
    plain, parquet, npz = scratch / "plain.csv", scratch / "log.parquet", scratch / "log.npz"
    write_csv(plain, numbered)
    write_parquet(parquet, numbered)
    write_npz(npz, join_episodes(episode for _, episode in numbered))
    frame = pd.read_csv(plain)
    first = np.random.default_rng(0).uniform(0.1, 0.9, len(frame)).tolist()
    frame["all_action_probabilities"] = [str([p, 1 - p]) for p in first]
    varying, part = scratch / "varying.csv", scratch / "part.csv"
    frame.to_csv(varying, index=False)
    whole_episodes = frame["episode_id"] < frame["episode_id"].iloc[_PARSED_ROWS]
    frame[whole_episodes].to_csv(part, index=False)
    del frame

    generator = np.random.default_rng(0)
    features = np.column_stack(
        [generator.normal(size=_ROWS), generator.lognormal(size=_ROWS), generator.gamma(3.0, size=_ROWS),
         generator.uniform(-2, 2, size=_ROWS)]
    ).astype(np.float32)  # fmt: skip
    features_frame = pd.DataFrame(features)

    def literal_eval() -> None:
        table = pd.read_csv(part)
        np.array([ast.literal_eval(text) for text in table["all_action_probabilities"]])

    def stepped(environments: gymnasium.vector.VectorEnv, rows: int) -> None:
        generator = np.random.default_rng(0)
        environments.reset(seed=0)
        for _ in range(-(-rows // environments.num_envs)):
            environments.step(generator.integers(environments.single_action_space.n, size=environments.num_envs))

    def collected(environments: gymnasium.vector.VectorEnv, episodes_each: int) -> None:
        generator, steps = np.random.default_rng(0), []
        observations, _ = environments.reset(seed=0)
        ended = np.zeros(environments.num_envs, dtype=np.int64)
        was_over = np.zeros(environments.num_envs, dtype=bool)
        while (ended < episodes_each).any():
            actions = generator.integers(environments.single_action_space.n, size=environments.num_envs)
            following, rewards, terminated, truncated, _ = environments.step(actions)
            steps.append((observations, actions, rewards, was_over))  # a step after an end only resets
            was_over = terminated | truncated
            ended += was_over
            observations = following

    acrobot_rows = sum(len(e.actions) for environment in collect("Acrobot-v1", 20, 1, True) for e in environment)
    sync = gymnasium.make_vec("CartPole-v1", num_envs=100, vectorization_mode="sync")
    native = gymnasium.make_vec("CartPole-v1", num_envs=100, vectorization_mode="vector_entry_point")
    acrobot = gymnasium.make_vec("Acrobot-v1", num_envs=20, vectorization_mode="sync")
    times = interleave(
        {
            "sync episodes": lambda: collected(sync, 5),
            "sync": lambda: stepped(sync, n_rows),
            "native": lambda: stepped(native, n_rows),
            "collect": lambda: collect("CartPole-v1", 100, 5),
        },
        runs,
    )
    few = max(runs // 3, 1)
    times |= interleave(
        {
            "pandas": lambda: pd.read_csv(plain),
            "csv": lambda: read_csv(plain),
            "pandas varying": lambda: pd.read_csv(varying),
            "csv varying": lambda: read_csv(varying),
            "parquet": lambda: read_parquet([parquet]),
            "streamed": lambda: sum(len(block.actions) for block in stream_parquet([parquet])),
            "npz": lambda: read_npz(npz),
            "describe": lambda: features_frame.describe(),
            "normalization": lambda: identify_features(features, skip_quantiles=False),
            "literal_eval": literal_eval,
            "csv part": lambda: read_csv(part),
            "sync acrobot": lambda: stepped(acrobot, acrobot_rows),
            "collect acrobot": lambda: collect("Acrobot-v1", 20, 1, True),
        },
        few,
    )
    return times


if __name__ == "__main__":
    sys.path.insert(0, str(_ENTRYPOINTS))
    print(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]))))
