"""Policies on disk, judged by logged data without training."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batch_rl import ope
from batch_rl.acting.cartpole import play_cartpoles
from batch_rl.acting.policies import uniform_policy
from batch_rl.data.episodes import join_episodes, split_episodes
from batch_rl.errors import BatchRLError, CheckpointError, DatasetError
from batch_rl.formats.coach_csv import write_csv
from batch_rl.formats.loading import load_episodes
from batch_rl.judging import judge
from batch_rl.learning.checkpoint import CheckpointFolder, open_policy
from batch_rl.learning.preparation import split_generator
from batch_rl.learning.training import TrainingRun
from batch_rl.networks import softmax
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import TrainingPreset

ROOT = Path(__file__).resolve().parents[2]
FEW = {"fqe_updates": 32, "resamples": 50}


def write_log(path, seed):
    played = play_cartpoles(20, seed, uniform_policy(2), episodes_each=2, step_limit=None)
    write_csv(path, enumerate(join_episodes([episode for turn in played for episode in turn])))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "log.csv", 0)


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("other") / "log.csv", 1)


@pytest.fixture(scope="module")
def train(dataset, tmp_path_factory):
    def train(**overrides):
        values = {"agent.hidden_sizes": [8], "agent.members": 1, "training.epochs": 2, "data.train_fraction": 0.5}
        preset = load_preset(ROOT / "presets/preset-cartpole-ddqnbcq.yaml", TrainingPreset, values | overrides)
        run = TrainingRun(load_episodes(dataset)[1], preset)
        folder = CheckpointFolder(tmp_path_factory.mktemp("run") / "checkpoint", run, keep=5)
        for _ in range(2):
            folder.save(run.run_epoch().estimates.wis, "")
        return folder.folder, run

    return train


@pytest.fixture(scope="module")
def trained(train):
    return train()


def test_a_policy_is_judged_by_the_episodes_that_its_training_held_out(dataset, trained):
    """And by the numbers that the training gave: the same episodes, the same policy."""
    folder, run = trained
    found = judge(dataset, [folder], **FEW)
    assert "the 20 of 40 episodes that the training held out" in found.how
    evaluation = found.evaluations[str(folder)]
    assert evaluation["WIS"].value == pytest.approx(run.evaluate().wis, rel=1e-6)
    assert evaluation.logged_return == pytest.approx(run.logged_return)
    assert evaluation.policy == run.scored_policy
    assert list(evaluation.values) == list(ope.ESTIMATORS)
    assert found.comparison is None


def test_other_data_are_used_whole_and_each_half_lends_the_other_its_values(other_dataset, trained):
    folder, _ = trained
    found = judge(other_dataset, [folder], **FEW)
    assert found.evaluations[str(folder)].episodes == 40
    assert found.how.startswith("all 40 episodes of another dataset")
    again = judge(other_dataset, [folder], **FEW)
    assert {name: one.value for name, one in again.evaluations[str(folder)].values.items()} == {
        name: one.value for name, one in found.evaluations[str(folder)].values.items()
    }


def test_truncated_episodes_are_worth_what_the_fitted_values_say_of_what_followed(tmp_path, trained):
    """Cut after 5 steps: counted as 0, what followed, the estimates could not exceed the 5 rewards."""
    played = play_cartpoles(20, 3, uniform_policy(2), episodes_each=1, step_limit=5)
    path = tmp_path / "cut.csv"
    write_csv(path, enumerate(join_episodes([episode for (episode,) in played])), with_ends=True)
    folder, _ = trained
    (evaluation,) = judge(path, [folder], **(FEW | {"fqe_updates": 400})).evaluations.values()
    assert evaluation.truncated == 20
    assert evaluation["WIS"].value > 6


def test_a_greedy_policy_is_named_and_its_weights_are_said_to_be_none(other_dataset, trained):
    (evaluation,) = judge(other_dataset, [trained[0]], policy="greedy", estimators=["WIS"], **FEW).evaluations.values()
    assert evaluation.policy == "greedy"
    assert evaluation.deterministic
    assert any("it is deterministic: score a softmax of it" in note for note in evaluation.notes)


def test_another_temperature_is_another_policy(dataset, trained):
    folder, run = trained
    (evaluation,) = judge(dataset, [folder], temperature=0.5, estimators=["WIS"], **FEW).evaluations.values()
    target = softmax(run.policy().q_array(run.held_out.observations), 0.5)
    expected = ope.wis(ope.WeightedSteps.from_episodes(run.held_out, target, discount=0.99))
    assert evaluation["WIS"].value == pytest.approx(expected, rel=1e-9)


def test_the_checkpoints_of_a_run_are_ranked_and_the_choice_is_compared_with_the_truth(dataset, trained):
    folder, _ = trained
    files = sorted(folder.glob("epoch-*.pt"))
    found = judge(dataset, files, estimators=["WIS"], rank_by="WIS", truths=[1.0, 3.0], **FEW)
    values = {str(path): found.evaluations[str(path)]["WIS"].value for path in files}
    best = max(values, key=values.get)
    comparison = found.comparison
    assert comparison.ranking[0] == best
    assert comparison.regret[1] == (2.0 if best == str(files[0]) else 0.0)
    assert comparison.rank_correlation == pytest.approx(1.0 if best == str(files[1]) else -1.0)
    assert sum(comparison.probability_best.values()) == pytest.approx(1)


def test_runs_with_different_splits_are_judged_by_what_both_held_out(dataset, train, trained):
    second, _ = train(seed=1)
    found = judge(dataset, [trained[0], second], estimators=["WIS"], rank_by="WIS", **FEW)
    _, episodes = load_episodes(dataset)
    numbered = dataclasses.replace(episodes, rewards=np.repeat(np.arange(40.0), episodes.lengths))
    held = [
        set(split_episodes(numbered, 0.5, split_generator(seed))[1].rewards.astype(int).tolist()) for seed in (0, 1)
    ]
    assert {one.episodes for one in found.evaluations.values()} == {len(held[0] & held[1])}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimators": ["wis"]}, "there is no estimator 'wis'"),
        ({"truths": [1.0, 2.0]}, "there are 2 truths for 1 policies"),
        ({"discount": 1.5}, "discount is 1.5"),
    ],
)
def test_what_cannot_be_judged_is_refused(dataset, trained, options, words):
    with pytest.raises(BatchRLError, match=words):
        judge(dataset, [trained[0]], **(FEW | options))


def test_policies_that_leave_no_episode_to_judge_them_are_refused(dataset, train):
    folders = [train(seed=seed, **{"data.train_fraction": 0.9, "training.epochs": 2})[0] for seed in range(3)]
    with pytest.raises(DatasetError, match="every episode is one that some of the policies learned from"):
        judge(dataset, folders, estimators=["WIS"], rank_by="WIS", **FEW)


def test_a_checkpoint_is_its_folder_a_pointer_in_it_or_a_file(trained, tmp_path):
    folder, _ = trained
    sizes = {"observation_size": 4, "n_actions": 2}
    latest = (folder / "latest").read_text().strip()
    first = sorted(folder.glob("epoch-*.pt"))[0]
    assert open_policy(folder, **sizes).path.name == open_policy(folder / "latest", **sizes).path.name == latest
    assert open_policy(folder / "best", **sizes).path.name == (folder / "best").read_text().strip()
    assert open_policy(first, **sizes).path == first
    with pytest.raises(CheckpointError, match="observation_size 4, the dataset has 6"):
        open_policy(folder, observation_size=6, n_actions=2)
    (tmp_path / "a.pt").touch()
    with pytest.raises(CheckpointError, match=r"no checkpoint of ours"):
        open_policy(tmp_path / "a.pt", **sizes)


def ask(request):
    return subprocess.run(
        [sys.executable, "-m", "batch_rl.judging"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "entrypoints")},
        check=False,
    )


def test_the_process_answers_in_json_and_refuses_in_words(dataset, trained):
    answer = ask({"dataset": str(dataset), "checkpoints": [str(trained[0])], "every": True, **FEW})
    found = json.loads(answer.stdout)
    assert len(found["policies"]) == 2
    assert found["comparison"]["rank_by"] == "WDR"
    estimates = {one["estimator"]: one for one in found["policies"][0]["estimates"]}
    assert estimates["WIS"]["lower"] <= estimates["WIS"]["value"] <= estimates["WIS"]["upper"]
    assert estimates["DM"]["lower"] is None
    refused = ask({"dataset": str(dataset), "checkpoints": [str(dataset.parent)]})
    assert refused.returncode == 2
    assert "no checkpoint of ours" in refused.stderr
    assert "Traceback" not in refused.stderr
