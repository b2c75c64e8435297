"""Policies on disk, judged by logged data without training."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batch_rl import ope
from batch_rl.acting.cartpole import play_cartpoles
from batch_rl.acting.policies import uniform_policy
from batch_rl.data.episodes import join_episodes, split_episodes
from batch_rl.errors import BatchRLError, CheckpointError, DatasetError
from batch_rl.formats.coach_csv import write_csv
from batch_rl.formats.loading import load_episodes
from batch_rl.formats.parquet import write_parquet
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.judging import judge
from batch_rl.learning.behavior_estimate import estimate_behavior
from batch_rl.learning.checkpoint import CheckpointFolder, open_policy
from batch_rl.learning.preparation import split_generator
from batch_rl.learning.training import TrainingRun
from batch_rl.networks import softmax
from batch_rl.presets.reading import load_preset
from batch_rl.presets.schema import TrainingPreset

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "presets/preset-cartpole-ddqnbcq.yaml"
SMALL = {"agent.hidden_sizes": [8], "agent.members": 1, "training.epochs": 2, "data.train_fraction": 0.5}
FEW = {"fqe_updates": 32, "fqe_refits": 4, "resamples": 50}


def saved(run, folder):
    """Train for an epoch, and return the checkpoint's folder."""
    checkpoints = CheckpointFolder(folder, run, keep=5)
    checkpoints.save(run.run_epoch().estimates.wis, "")
    return checkpoints.folder


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
    judgement = judge(dataset, [folder], **FEW)
    assert "the 20 of 40 episodes that no policy has learned from" in judgement.how
    assert judgement.left_out == 20
    evaluation = judgement.evaluations[str(folder)]
    assert evaluation["WIS"].value == pytest.approx(run.evaluate().wis, rel=1e-6)  # of float32 networks
    assert evaluation.logged_return == pytest.approx(run.logged_return)
    assert evaluation.policy == run.scored_policy
    assert list(evaluation.values) == ["FQE", *ope.ESTIMATORS]
    assert judgement.comparison is None


def test_other_data_are_used_whole_and_each_half_lends_the_other_its_values(other_dataset, trained):
    folder, _ = trained
    judgement = judge(other_dataset, [folder], **FEW)
    assert judgement.evaluations[str(folder)].episodes == 40
    assert judgement.how == "all 40 episodes, of which no policy has learned from any"
    again = judge(other_dataset, [folder], **FEW)
    assert {name: estimate.value for name, estimate in again.evaluations[str(folder)].values.items()} == {
        name: estimate.value for name, estimate in judgement.evaluations[str(folder)].values.items()
    }


def test_truncated_episodes_are_worth_what_the_fitted_values_say_of_what_followed(tmp_path, trained):
    """Cut after 5 steps: estimates with a model, and the value of the policy that logged beside them, count more.

    WIS and the logged return count the 5 rewards, whatever other estimators are asked for.
    """
    played = play_cartpoles(20, 3, uniform_policy(2), episodes_each=1, step_limit=5)
    path = tmp_path / "cut.csv"
    write_csv(path, enumerate(join_episodes([episode for (episode,) in played])), with_ends=True)
    folder, _ = trained
    judgement = judge(path, [folder], **(FEW | {"fqe_updates": 400}))
    (evaluation,) = judgement.evaluations.values()
    (alone,) = judge(path, [folder], estimators=["WIS"], **FEW).evaluations.values()
    assert evaluation.truncated == 20
    assert evaluation["WIS"].value == alone["WIS"].value == pytest.approx(evaluation.logged_return)
    assert evaluation.logged_return < 5
    assert evaluation["FQE"].value > 6
    assert evaluation["WDR"].value > 6
    assert judgement.behavior.value > 6


def test_a_greedy_policy_is_named_and_its_weights_are_said_to_be_none(other_dataset, trained):
    (evaluation,) = judge(other_dataset, [trained[0]], policy="greedy", estimators=["WIS"], **FEW).evaluations.values()
    assert evaluation.policy == "greedy"
    assert evaluation.deterministic
    assert any("it is deterministic: score a softmax of it" in note for note in evaluation.notes)


def test_another_temperature_is_another_policy(dataset, trained):
    folder, run = trained
    (evaluation,) = judge(dataset, [folder], temperature=0.5, estimators=["WIS"], **FEW).evaluations.values()
    target = softmax(run.policy().q_array(run.held_out.observations), 0.5)
    expected = ope.wis(ope.weigh(ope.LoggedRows.of(run.held_out), target, discount=0.99)[0])
    assert evaluation["WIS"].value == pytest.approx(expected, rel=1e-6)


def test_the_checkpoints_of_a_run_are_ranked_and_the_choice_is_compared_with_the_truth(dataset, trained):
    folder, _ = trained
    files = sorted(folder.glob("epoch-*.pt"))
    judgement = judge(dataset, files, estimators=["WIS"], rank_by="WIS", truths=[1.0, 3.0], **FEW)
    values = {str(path): judgement.evaluations[str(path)]["WIS"].value for path in files}
    best = max(values, key=values.get)
    comparison = judgement.comparison
    assert comparison.ranking[0] == best
    assert comparison.regret[1] == (2.0 if best == str(files[0]) else 0.0)
    assert comparison.rank_correlation == pytest.approx(1.0 if best == str(files[1]) else -1.0)
    assert sum(comparison.probability_best.values()) == pytest.approx(1)


def test_runs_with_different_splits_are_judged_by_what_both_held_out(dataset, train, trained):
    second, _ = train(seed=1)
    judgement = judge(dataset, [trained[0], second], estimators=["WIS"], rank_by="WIS", **FEW)
    _, episodes = load_episodes(dataset)
    numbered = dataclasses.replace(episodes, rewards=np.repeat(np.arange(40.0), episodes.lengths))
    held = [
        set(split_episodes(numbered, 0.5, split_generator(seed))[1].rewards.astype(int).tolist()) for seed in (0, 1)
    ]
    assert {evaluation.episodes for evaluation in judgement.evaluations.values()} == {len(held[0] & held[1])}


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
    report = json.loads(answer.stdout)
    assert len(report["policies"]) == 2
    assert report["comparison"]["rank_by"] == "FQE"
    estimates = {estimate["estimator"]: estimate for estimate in report["policies"][0]["estimates"]}
    assert next(iter(estimates)) == "FQE"
    assert report["policies"][0]["support"] == {"unsupported": 0, "leaving": 0, "rare": 0}
    assert estimates["WIS"]["lower"] <= estimates["WIS"]["value"] <= estimates["WIS"]["upper"]
    assert estimates["DM"]["lower"] is None
    refused = ask({"dataset": str(dataset), "checkpoints": [str(dataset.parent)]})
    assert refused.returncode == 2
    assert "no checkpoint of ours" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_log_is_read_as_the_policy_read_its_own(dataset, tmp_path):
    """The later log lacks an action: by itself it would number the other one 0."""
    table = pd.read_csv(dataset).rename(columns={"reward": "gain"})
    table["action"] = np.where(table["action"] == 0, "left", "right")
    table["propensity"] = 0.5
    table = table.drop(columns=["all_action_probabilities", "cumulative_rewards"])
    table.to_csv(tmp_path / "log.csv", index=False)
    read = {"columns": {"reward": "gain"}}
    preset = load_preset(PRESET, TrainingPreset, SMALL | {"data.columns": read["columns"]})
    run = TrainingRun(load_episodes(tmp_path / "log.csv", **read)[1], preset)
    folder = saved(run, tmp_path / "checkpoint")
    later = table[table["action"] == "right"].assign(episode_id=lambda rows: rows["episode_id"] + 1000)
    later.to_csv(tmp_path / "later.csv", index=False)
    judgement = judge(tmp_path / "later.csv", [folder], estimators=["WIS"], **FEW)
    assert judgement.episodes.action_names == ("left", "right")
    assert set(judgement.episodes.actions) == {1}
    assert judgement.episodes.n_actions == 2


# Episodes that a policy has learned from ---------------------------------------------------------------------------


def reordered(episodes):
    return episodes.select(np.random.default_rng(0).permutation(len(episodes)))


def grown(episodes):
    """Tomorrow's log: two episodes more."""
    turns = play_cartpoles(2, 77, uniform_policy(2), episodes_each=1, step_limit=None)
    return join_episodes([*episodes, *(turn[0] for turn in turns)])


@pytest.mark.parametrize(("change", "judged"), [(lambda log: log, 20), (reordered, 20), (grown, 22)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_policy_is_not_judged_by_training_episodes_in_whatever_file_they_come(
    dataset, trained, tmp_path, change, judged, suffix
):
    _, episodes = load_episodes(dataset)
    path = tmp_path / f"log{suffix}"
    (write_csv if suffix == ".csv" else write_parquet)(path, enumerate(change(episodes)))
    judgement = judge(path, [trained[0]], estimators=["WIS"], **FEW)
    assert (len(judgement.episodes), judgement.left_out) == (judged, 20)


def test_estimated_propensities_make_no_other_episodes_of_those_learned_from(dataset, tmp_path):
    preset = load_preset(PRESET, TrainingPreset, SMALL | {"data.behavior_policy": "estimate"})
    estimated, _ = estimate_behavior(load_episodes(dataset)[1], 0, hidden_sizes=(8,), updates=20)
    folder = saved(TrainingRun(estimated, preset), tmp_path / "checkpoint")
    judgement = judge(dataset, [folder], estimators=["WIS"], **FEW)
    assert (len(judgement.episodes), judgement.left_out) == (20, 20)


def test_parts_that_are_read_one_after_the_other_are_remembered_too(dataset, tmp_path):
    _, episodes = load_episodes(dataset)
    log = tmp_path / "log"
    log.mkdir()
    write_parquet(log / "log.parquet", enumerate(episodes))
    (tmp_path / "parts").mkdir()
    dealt = DealtEpisodes(log, tmp_path / "parts", rows_in_memory=300, train_fraction=0.5, seed=0)
    preset = load_preset(PRESET, TrainingPreset, SMALL | {"data.rows_in_memory": 300})
    folder = saved(TrainingRun(dealt, preset), tmp_path / "checkpoint")
    judgement = judge(dataset, [folder], estimators=["WIS"], **FEW)
    assert len(judgement.episodes) == len(dealt.held_out)
    assert judgement.left_out == 40 - len(dealt.held_out)


def test_the_best_checkpoint_of_a_run_is_said_to_be_judged_by_what_chose_it(dataset, trained, other_dataset):
    best = trained[0] / "best"
    (here,) = judge(dataset, [best], estimators=["WIS"], **FEW).evaluations.values()
    assert any("the best of its run by 20 of the very episodes" in note for note in here.notes)
    (elsewhere,) = judge(other_dataset, [best], estimators=["WIS"], **FEW).evaluations.values()
    assert not any("best of its run" in note for note in elsewhere.notes)


def test_a_damaged_list_of_episodes_is_refused(trained, dataset, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(trained[0], folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(metadata | {"episodes": {"fitted": "?", "held_out": ""}}))
    with pytest.raises(CheckpointError, match="'episodes' is damaged"):
        judge(dataset, [folder], **FEW)


# Logs without propensities ------------------------------------------------------------------------------------------


def test_a_log_without_propensities_is_judged_by_models_of_its_policy_and_the_interval_pays(tmp_path, trained):
    import pandas as pd

    played = play_cartpoles(100, 1, uniform_policy(2), episodes_each=2, step_limit=5)
    short, bare = tmp_path / "short.csv", tmp_path / "bare.csv"
    write_csv(short, enumerate(join_episodes([episode for turn in played for episode in turn])))
    pd.read_csv(short).drop(columns="all_action_probabilities").to_csv(bare, index=False)
    options = {"estimators": ["FQE", "WIS", "PDIS"], "temperature": 50.0, **FEW}  # near the policy that logged
    with pytest.raises(DatasetError, match="--behavior-policy estimate"):
        judge(bare, [trained[0]], **options)
    judgement = judge(bare, [trained[0]], behavior_policy="estimate", **options)
    (guessed,) = judgement.evaluations.values()
    (logged,) = judge(short, [trained[0]], **options).evaluations.values()
    assert any("propensities are estimated, not logged" in note for note in guessed.notes)
    assert guessed["FQE"] == logged["FQE"]  # it does not read them
    width = {name: evaluation["PDIS"].interval.upper - evaluation["PDIS"].interval.lower for name, evaluation in
             {"guessed": guessed, "logged": logged}.items()}  # fmt: skip
    assert width["guessed"] > width["logged"]


# Gates --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "passed"), [("upper > 1", True), ("value >= 1000", False), ("lower > 101", False), ("value>1.5e0", True)]
)
def test_a_gate_compares_an_end_of_the_estimate_with_a_number(other_dataset, trained, gate, passed):
    judgement = judge(other_dataset, [trained[0]], estimators=["FQE"], gate=gate, **FEW)
    assert judgement.passed is passed
    (verdict,) = judgement.verdicts.values()
    assert verdict.why.startswith(gate.split(">")[0].strip())


def test_a_gate_against_the_log_reads_the_difference_on_the_same_resamples(other_dataset, trained):
    judgement = judge(other_dataset, [trained[0]], estimators=["FQE"], gate="lower > behavior", **FEW)
    (evaluation,), (verdict,) = judgement.evaluations.values(), judgement.verdicts.values()
    gain = evaluation["FQE"].replicates - judgement.behavior.replicates
    lower = ope.refitted_interval(gain, level=0.95).lower
    assert verdict.left - verdict.right == pytest.approx(lower)
    assert judgement.behavior.value == pytest.approx(evaluation.logged_return)
    assert verdict.passed is (lower > 0)


def test_several_policies_pass_a_gate_at_a_stricter_level(dataset, trained):
    files = sorted(trained[0].glob("epoch-*.pt"))
    judgement = judge(dataset, files, estimators=["FQE"], gate="lower > behavior", **FEW)
    assert {evaluation["FQE"].interval.level for evaluation in judgement.evaluations.values()} == {0.975}
    assert judgement.passed is judgement.verdicts[judgement.comparison.ranking[0]].passed


def test_two_epochs_of_a_short_run_cannot_be_told_apart(dataset, trained):
    files = sorted(trained[0].glob("epoch-*.pt"))
    judgement = judge(dataset, files, estimators=["FQE"], **FEW)
    assert judgement.comparison.undecided == judgement.comparison.ranking[1:]


@pytest.mark.parametrize("gate", ["lower > behaviour", "lower < 3", "best > 1", ""])
def test_a_gate_that_is_not_understood_is_refused(other_dataset, trained, gate):
    with pytest.raises(DatasetError, match="is not understood"):
        judge(other_dataset, [trained[0]], gate=gate, **FEW)


def test_a_checkpoint_of_version_0_1_0_knows_its_own_log_by_the_digest_of_all_of_it(trained, dataset, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(trained[0], folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["episodes"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    judgement = judge(dataset, [folder], estimators=["WIS"], **FEW)
    assert (len(judgement.episodes), judgement.left_out) == (20, 20)
