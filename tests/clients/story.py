"""The same training, whoever asks for it: the metric file that all of them must write."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import launcher

CHECKOUT = Path(__file__).parents[2]
METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
PRESET = "preset-cartpole-ddqnbcq"
# Short, as a preset: version 3 of the SDK takes no dots in hyperparameters.
SHORT = {"training": {"epochs": 2}, "bcq": {"imitation_updates": 50}, "ope": {"reward_model_epochs": 1}}
VALUES = {"preset": "story", "seed": 3}


@dataclass(frozen=True)
class Story:
    """What the training is made of, and the file that it writes when our own Estimator asks for it."""

    source: str
    data: str
    expected: str

    @property
    def arguments(self) -> str:
        """The story as a program gets it."""
        values = {"source": self.source, "data": self.data, "hyperparameters": VALUES, "metrics": METRICS}
        return json.dumps(values)


def make_story(folder: Path) -> Story:
    """Log a few episodes, and train on them in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(folder / "story-home"))
        patch.setenv("LAUNCHER_RUNTIME", "process")
        source, data = make_source(folder), make_data(folder)
        return Story(str(source), str(data), metrics_of_an_estimator(str(source), str(data)))


def make_source(folder: Path) -> Path:
    """Return a source folder as a user's: entry points and presets."""
    source = folder / "rl"
    shutil.copytree(CHECKOUT / "entrypoints", source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "presets", source / "presets")
    preset = yaml.safe_load((source / "presets" / f"{PRESET}.yaml").read_text())
    for section, values in SHORT.items():
        preset[section] = {**(preset.get(section) or {}), **values}
    (source / "presets" / "story.yaml").write_text(yaml.safe_dump(preset))
    return source


def make_data(folder: Path) -> Path:
    """Return a folder with a few logged episodes of CartPole; LAUNCHER_HOME names a home."""
    values = {"collection.num_envs": 10, "collection.episodes_per_env": 2, "seed": 1}
    job = launcher.fit("preset-cartpole-random", entry_point="collect.py", hyperparameters=values, logs=False)
    (folder / "logged").mkdir()
    shutil.copy(next(job.outputs.data_path.glob("*.csv")), folder / "logged" / "episodes.csv")
    return folder / "logged"


def metrics_of_an_estimator(source: str, data: str, **options) -> str:
    """Return the metric file that our own Estimator's job writes."""
    values = {"entry_point": "train.py", "source_dir": source, "hyperparameters": VALUES, **options}
    estimator = launcher.Estimator(**values)
    estimator.fit({"train": data}, logs=False)
    return (estimator.latest_training_job.outputs.intermediate_path / METRICS).read_text()
