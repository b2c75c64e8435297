"""The entry points as jobs run them: a process each, an ``/opt/ml`` tree, files and log lines as the result."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from batch_rl.acting.cartpole import play_cartpoles
from batch_rl.acting.gifs import check_rendering
from batch_rl.acting.policies import softmax_policy
from batch_rl.data.episodes import join_episodes
from batch_rl.errors import CheckpointError, PresetError
from batch_rl.learning.checkpoint import load_policy
from batch_rl.reporting.plots import plot_estimates

ROOT = Path(__file__).resolve().parents[2]
METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
COACH_METRIC = re.compile(r"^Testing>.*Total reward=(.*?),", re.MULTILINE)
SMALL = {"preset": "preset-cartpole-ddqnbcq", "agent.hidden_sizes": "[16]", "agent.members": 2}


class Job:
    """One job: its tree, and the process that ran in it."""

    def __init__(self, base, entry_point, hyperparameters, channels, folder=ROOT / "entrypoints", search=()):
        self.base, self.entry_point, self.folder = base, entry_point, folder
        self.search = [*search, ROOT / "container", folder]
        self.output, self.intermediate = base / "output" / "data", base / "output" / "intermediate"
        config = base / "input" / "config"
        config.mkdir(parents=True)
        texts = {name: str(value) for name, value in hyperparameters.items()}
        (config / "hyperparameters.json").write_text(json.dumps(texts))
        (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
        for name, source in channels.items():
            shutil.copytree(source, base / "input" / "data" / name)

    def start(self, **variables):
        return subprocess.Popen(
            [sys.executable, str(self.folder / self.entry_point)],
            env=os.environ
            | {
                "SAGEMAKER_BASE_DIR": str(self.base),
                "PYTHONPATH": os.pathsep.join(str(path) for path in self.search),
            }
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self):
        process = self.start()
        self.stdout, self.stderr = process.communicate(timeout=300)
        self.exit_code = process.returncode
        return self

    @property
    def metrics(self):
        return pd.read_csv(self.intermediate / METRICS)


@pytest.fixture(scope="module")
def run_job(tmp_path_factory):
    def run(entry_point, hyperparameters, **channels):
        return Job(tmp_path_factory.mktemp("job"), entry_point, hyperparameters, channels).run()

    return run


@pytest.fixture(scope="module")
def collected(run_job):
    return run_job("collect.py", {"preset": "preset-cartpole-random", "num_envs": 20})


@pytest.fixture(scope="module")
def trained(run_job, collected):
    return run_job("train.py", SMALL | {"improve_steps": 4}, train=collected.output)


@pytest.fixture(scope="module")
def evaluated(run_job, trained):
    environment = {"RLCOACH_PRESET": "preset-cartpole-ddqnbcq-env", "evaluate_steps": 60}
    return run_job("evaluate.py", environment, checkpoint=trained.output / "checkpoint")


def test_collecting_logs_the_random_policy_in_the_documented_columns(collected):
    assert (collected.exit_code, collected.stderr) == (0, "")
    table = pd.read_csv(collected.output / "cartpole_dataset.csv")
    features = [f"state_feature_{i}" for i in range(4)]
    names = ["action", "all_action_probabilities", "episode_id", "reward", "cumulative_rewards", *features]
    assert list(table.columns) == names
    assert set(table["all_action_probabilities"]) == {"[0.5, 0.5]"}
    # by environment, then by turn: 0, 20, 40, 60, 80, 1, 21, ...
    assert table["episode_id"].drop_duplicates().tolist() == [i + 20 * k for i in range(20) for k in range(5)]
    returns = table.groupby("episode_id")["reward"].sum()
    last_rows = table.groupby("episode_id").tail(1).set_index("episode_id")["cumulative_rewards"].sort_index()
    assert (last_rows == returns).all()
    assert (table["cumulative_rewards"] > 0).sum() == len(returns)
    assert f"100 episodes, {len(table)} rows" in collected.stdout
    assert f"mean total reward {returns.mean():.2f}" in collected.stdout
    assert 15 < returns.mean() < 30


def test_collecting_again_gives_the_same_bytes(run_job, collected):
    again = run_job("collect.py", {"preset": "preset-cartpole-random", "num_envs": 20})
    name = "cartpole_dataset.csv"
    assert (again.output / name).read_bytes() == (collected.output / name).read_bytes()


def test_training_leaves_what_a_job_leaves(trained):
    assert (trained.exit_code, trained.stderr) == (0, "")
    checkpoint = trained.output / "checkpoint"
    latest = (checkpoint / "latest").read_text().strip()
    assert latest.startswith("epoch-0004-")
    assert (checkpoint / latest).is_file()
    assert (checkpoint / (checkpoint / "best").read_text().strip()).is_file()
    assert len(list(checkpoint.glob("*.pt"))) <= 4
    metadata = json.loads((checkpoint / "metadata.json").read_text())
    assert metadata["algorithm"] == "ddqn_bcq"
    assert (metadata["observation_size"], metadata["n_actions"]) == (4, 2)
    picture = trained.output / "off_policy_evaluation.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.read_bytes() == (trained.intermediate / picture.name).read_bytes()
    assert not [path for path in trained.base.rglob("*") if path.name.endswith(".partial")]


@pytest.fixture
def own_source(tmp_path):
    """A copy of the source folder, as a notebook has one that it writes its data to."""
    folder = tmp_path / "src"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "entrypoints", folder, ignore=ignored)
    shutil.copytree(ROOT / "presets", folder / "presets")
    return folder


def test_a_dataset_beside_the_script_is_read_where_the_channel_is_missing(own_source, collected, trained, tmp_path):
    """The notebook writes src/cartpole_dataset.csv and calls fit() without inputs."""
    shutil.copy(collected.output / "cartpole_dataset.csv", own_source)
    job = Job(tmp_path / "job", "train.py", SMALL | {"improve_steps": 4}, {}, folder=own_source).run()
    assert job.exit_code == 0, job.stderr
    assert f"{own_source}/cartpole_dataset.csv, which lies beside the script, is read." in job.stdout
    assert (job.intermediate / METRICS).read_bytes() == (trained.intermediate / METRICS).read_bytes()


def test_a_channel_goes_before_the_dataset_beside_the_script(own_source, collected, tmp_path):
    (own_source / "other.csv").write_text("not,a,dataset\n")
    channels = {"train": collected.output}
    job = Job(tmp_path / "job", "train.py", SMALL | {"improve_steps": 1}, channels, folder=own_source).run()
    assert job.exit_code == 0, job.stderr


def test_no_dataset_or_several_beside_the_script_are_an_error_that_says_what_to_do(own_source, tmp_path):
    job = Job(tmp_path / "none", "train.py", SMALL, {}, folder=own_source).run()
    assert job.exit_code != 0
    assert "no channel 'train'" in job.stderr
    assert "Or put the dataset into the source folder, beside train.py." in job.stderr
    for name in ("a.csv", "b.csv"):
        (own_source / name).write_text("x\n")
    job = Job(tmp_path / "several", "train.py", SMALL, {}, folder=own_source).run()
    assert "holds 2 CSV files (a.csv, b.csv)" in job.stderr


def test_every_epoch_has_a_row_and_a_log_line_with_the_same_estimates(collected, trained):
    metrics = trained.metrics
    assert metrics["Epoch"].tolist() == [1, 2, 3, 4]
    assert "Wall-Clock Time" not in metrics
    for name in ("Weighted Importance Sampling", "Sequential Doubly Robust", "Loss/Mean", "Effective Sample Size"):
        assert np.isfinite(metrics[name]).all()
    lines = re.findall(
        r"^Off-Policy Evaluation> .*Epoch=(\d+), .*WIS=(.*?), Sequential-DR=(.*?),", trained.stdout, re.M
    )
    assert [int(epoch) for epoch, _, _ in lines] == [1, 2, 3, 4]
    shown = metrics["Weighted Importance Sampling"].map("{:.4g}".format)  # for people; the file has every digit
    assert [wis for _, wis, _ in lines] == shown.tolist()
    assert max(len(line) for line in trained.stdout.splitlines() if "Epoch=" in line) <= 80
    # The preset's temperature counts tenths of the returns' deviation; what is reported is in the unit of rewards.
    policy = load_policy(trained.output / "checkpoint", "latest", observation_size=4, n_actions=2)
    assert set(metrics["Evaluated Policy"]) == {f"softmax(Q / {policy.temperature:g})"}
    lengths = pd.read_csv(collected.output / "cartpole_dataset.csv").groupby("episode_id").size()
    to_go = np.concatenate([(1 - 0.99 ** np.arange(1, length + 1)) / (1 - 0.99) for length in lengths])
    assert policy.temperature == pytest.approx(2 * 0.1 * to_go.std(), rel=0.2)  # the scale is that of the fitting part
    assert f"Evaluated policy: softmax(Q / {policy.temperature:g})" in trained.stdout


def test_the_estimates_of_whole_trajectories_stand_beside_coachs_with_their_intervals(trained):
    metrics = trained.metrics
    for name in ("IPS", "WIS", "PDIS", "weighted PDIS", "sequential DR", "WDR"):
        column = f"{name} (trajectory)"
        assert (metrics[f"{column} Low"] <= metrics[f"{column} High"]).all()
        assert np.isfinite(metrics[[column, f"{column} Low", f"{column} High"]]).all(axis=None)
    assert metrics["WIS (trajectory)"].tolist() == pytest.approx(metrics["Weighted Importance Sampling"].tolist())
    # One is corrected by the agent's own values, the other by those of the policy that is scored.
    assert (metrics["sequential DR (trajectory)"] != metrics["Sequential Doubly Robust"]).all()
    assert np.isfinite(metrics["DM (trajectory)"]).all()
    assert set(metrics["Interval Level"]) == {0.95}
    # DM's interval would not hold the model's error; MAGIC takes long, and is not asked for by default.
    assert metrics[["DM (trajectory) Low", "MAGIC (trajectory)"]].isna().all(axis=None)


def test_a_preset_chooses_the_estimators_and_the_one_that_names_the_best_checkpoint(run_job, collected, trained):
    job = run_job(
        "train.py",
        SMALL | {"improve_steps": 4, "ope.estimators": "PDIS, MAGIC", "training.best_by": "PDIS Low"},
        train=collected.output,
    )
    assert (job.exit_code, job.stderr) == (0, "")
    given = job.metrics
    assert np.isfinite(given[["PDIS (trajectory)", "MAGIC (trajectory) Low"]]).all(axis=None)
    assert given[["WIS (trajectory)", "WDR (trajectory)"]].isna().all(axis=None)
    best = (job.output / "checkpoint" / "best").read_text()
    assert best.startswith(f"epoch-{given['Epoch'][given['PDIS (trajectory) Low'].idxmax()]:04d}-")
    # What the agent learns, and Coach's columns, do not depend on what is computed beside them.
    shared = [name for name in given if "(trajectory)" not in name]
    pd.testing.assert_frame_equal(given[shared], trained.metrics[shared])


def test_a_best_checkpoint_by_an_estimate_that_is_not_made_is_refused(run_job, collected):
    job = run_job("train.py", SMALL | {"ope.estimators": "[]", "training.best_by": "WDR"}, train=collected.output)
    assert_failed(job, "PresetError: training.best_by is 'WDR', which is not among ope.estimators")


def test_training_again_gives_the_same_bytes(run_job, collected, trained):
    """Metrics and learned weights; the SDK's name for the channel does as well."""
    again = run_job("train.py", SMALL | {"improve_steps": 4}, training=collected.output)
    assert (again.intermediate / METRICS).read_bytes() == (trained.intermediate / METRICS).read_bytes()
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (job.output / "checkpoint").iterdir()}
        for job in (again, trained)
    ]
    assert digests[0] == digests[1]


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_the_servable_model_takes_raw_features_and_agrees_with_the_checkpoint(trained):
    model = torch.jit.load(str(trained.base / "model" / "model.pt"))
    policy = load_policy(trained.output / "checkpoint", "latest", observation_size=4, n_actions=2)
    features = torch.tensor([[0.1, -0.2, 0.03, 0.4], [2.0, 1.0, -0.2, -3.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(model(features), policy(features))
    torch.testing.assert_close(model(features).sum(dim=1), torch.ones(3))
    assert json.loads((trained.base / "model" / "model.json").read_text())["input"]["shape"] == ["batch", 4]


def test_evaluating_reports_every_episode_as_coachs_metric_definition_reads_it(evaluated):
    assert (evaluated.exit_code, evaluated.stderr) == (0, "")
    rewards = [float(reward) for reward in COACH_METRIC.findall(evaluated.stdout)]
    assert sum(rewards) >= 60 > sum(rewards[:-1])  # whole episodes until 60 steps; a step earns 1
    summary = json.loads((evaluated.output / "evaluation.json").read_text())
    assert summary["mean"] == pytest.approx(np.mean(rewards))
    assert (summary["episodes"], summary["steps"]) == (len(rewards), sum(rewards))
    assert summary["policy"] == "greedy"
    discounted = [(1 - 0.99**reward) / 0.01 for reward in rewards]  # a reward of 1 a step, at the training's discount
    assert (summary["discount"], summary["discounted_mean"]) == (0.99, pytest.approx(np.mean(discounted)))
    lower, upper = summary["discounted_mean_interval"]
    assert min(discounted) <= lower <= summary["discounted_mean"] <= upper <= max(discounted)
    name = "worker_0.simple_rl_graph.main_level.main_level.agent_0.csv"
    assert pd.read_csv(evaluated.intermediate / name)["Evaluation Reward"].tolist() == rewards
    last = evaluated.stdout.splitlines()[-1]
    assert re.fullmatch(r"## agent: Finished evaluation phase\. Success rate = .*, Avg Total Reward = .*", last)


def test_evaluating_a_number_of_episodes_plays_exactly_that_many(run_job, trained):
    job = run_job(
        "evaluate.py",
        {"preset": "preset-cartpole-ddqnbcq-env", "evaluate_episodes": 3, "evaluation.checkpoint": "best"},
        checkpoint=trained.output / "checkpoint",
    )
    assert len(COACH_METRIC.findall(job.stdout)) == 3


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_a_managed_stop_leaves_whole_artifacts(tmp_path, collected):
    """SIGTERM in the middle: exit code 143, a checkpoint that loads, a model, one row per finished epoch."""
    job = Job(tmp_path / "job", "train.py", SMALL | {"training.epochs": 100000}, {"train": collected.output})
    process = job.start()
    for line in process.stdout:
        if "Epoch=3," in line:
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "")
    load_policy(job.output / "checkpoint", "latest", observation_size=4, n_actions=2)
    torch.jit.load(str(job.base / "model" / "model.pt"))
    assert job.metrics["Epoch"].tolist() == list(range(1, len(job.metrics) + 1))
    assert len(job.metrics) >= 3


LONGER = SMALL | {"improve_steps": 8, "agent.batch_size": 16}


@pytest.fixture(scope="module")
def ran_through(run_job, collected):
    return run_job("train.py", LONGER, train=collected.output)


def assert_same_results(job, expected):
    assert (job.exit_code, job.stderr) == (0, "")
    assert (job.intermediate / METRICS).read_bytes() == (expected.intermediate / METRICS).read_bytes()
    for pointer in ("latest", "best"):
        names = [(run.output / "checkpoint" / pointer).read_text().strip() for run in (job, expected)]
        assert names[0] == names[1]
        contents = [(run.output / "checkpoint" / names[0]).read_bytes() for run in (job, expected)]
        assert contents[0] == contents[1]


@pytest.mark.parametrize(("epoch", "end"), [(1, signal.SIGKILL), (6, signal.SIGKILL), (3, signal.SIGTERM)])
def test_a_run_that_was_ended_goes_on_as_if_it_had_not(run_job, tmp_path, collected, ran_through, epoch, end):
    """Killed or stopped after some epoch, and handed its checkpoint: the same metrics and weights, to the byte."""
    job = Job(tmp_path / "job", "train.py", LONGER, {"train": collected.output})
    process = job.start()
    for line in process.stdout:
        if f"Epoch={epoch}," in line:
            break
    process.send_signal(end)
    process.communicate(timeout=60)
    checkpoint = job.output / "checkpoint"
    resumed = run_job("train.py", LONGER, train=collected.output, checkpoint=checkpoint)
    assert int(re.search(r"^Resumed> .*, Epoch=(\d+),", resumed.stdout, re.M)[1]) >= epoch
    assert_same_results(resumed, ran_through)


def test_a_restarted_job_goes_on_from_the_folder_that_outlives_it(tmp_path, collected, ran_through):
    """The platform keeps ``checkpoints`` and starts the job anew; an empty folder is no checkpoint."""
    first = Job(tmp_path / "first", "train.py", LONGER, {"train": collected.output})
    (first.base / "checkpoints").mkdir()
    process = first.start()
    for line in process.stdout:
        assert "Resumed>" not in line
        if "Epoch=2," in line:
            break
    process.kill()
    process.communicate(timeout=60)
    second = Job(tmp_path / "second", "train.py", LONGER, {"train": collected.output})
    shutil.copytree(first.base / "checkpoints", second.base / "checkpoints")
    assert "Resumed>" in second.run().stdout
    assert_same_results(second, ran_through)


def test_a_finished_run_that_is_resumed_writes_its_results_again(run_job, collected, ran_through):
    again = run_job("train.py", LONGER, train=collected.output, checkpoint=ran_through.output / "checkpoint")
    assert (again.exit_code, again.stderr) == (0, "")
    assert (again.intermediate / METRICS).read_bytes() == (ran_through.intermediate / METRICS).read_bytes()
    assert (again.base / "model" / "model.pt").is_file()


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_a_final_fit_changes_the_policy_that_is_served_and_not_the_estimates(run_job, collected, trained):
    """It learns from all 100 episodes, and says that the estimates are not its own."""
    job = run_job(
        "train.py", SMALL | {"improve_steps": 4, "training.final_fit": "all_episodes"}, train=collected.output
    )
    assert (job.exit_code, job.stderr) == (0, "")
    assert (job.intermediate / METRICS).read_bytes() == (trained.intermediate / METRICS).read_bytes()
    assert re.search(r"^Final fit> .*, [34] epochs on all 100 episodes\. The estimates above are of", job.stdout, re.M)
    policies = [
        load_policy(run.output / "checkpoint", "latest", observation_size=4, n_actions=2) for run in (job, trained)
    ]
    features = torch.randn((50, 4), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.jit.load(str(job.base / "model" / "model.pt"))(features), policies[0](features))
    assert not torch.allclose(policies[0](features), policies[1](features))


def test_a_run_is_not_resumed_with_other_values_or_other_data(run_job, tmp_path, collected, trained):
    checkpoint = trained.output / "checkpoint"
    job = run_job("train.py", SMALL | {"improve_steps": 5}, train=collected.output, checkpoint=checkpoint)
    assert_failed(job, "CheckpointError: ", "training.epochs = 4 (now 5)", "leave the checkpoint out")
    rows = (collected.output / "cartpole_dataset.csv").read_text().splitlines(keepends=True)
    (tmp_path / "log.csv").write_text("".join(rows).replace("[0.5, 0.5]", "[0.4, 0.6]"))
    job = run_job("train.py", SMALL | {"improve_steps": 4}, train=tmp_path, checkpoint=checkpoint)
    assert_failed(job, "CheckpointError: ", "another dataset")


def assert_failed(job, *words, exit_code=2):
    """The reason is in the failure file and on stderr, in one line and without a traceback; 2 is for unfit input."""
    assert job.exit_code == exit_code
    reason = (job.base / "output" / "failure").read_text()
    assert reason.strip() == job.stderr.strip()
    assert len(reason.strip().splitlines()) == 1
    for word in words:
        assert word in reason


def test_a_wrong_hyperparameter_fails_the_job_with_its_reason(run_job, collected):
    job = run_job("train.py", SMALL | {"agent.learning_rte": 1}, train=collected.output)
    assert_failed(job, "PresetError: ", "did you mean 'agent.learning_rate'?")


def test_divergence_fails_the_job_with_its_reason(run_job, collected):
    job = run_job("train.py", SMALL | {"agent.learning_rate": 1e30}, train=collected.output)
    assert_failed(job, "TrainingError: ", "diverged in epoch 1", "Lower agent.learning_rate", exit_code=1)


def test_a_missing_channel_fails_the_job_with_its_reason(run_job):
    assert_failed(run_job("train.py", SMALL), "JobInputError: ", "'train'")


def test_a_faulty_dataset_fails_the_job_with_its_reason(run_job, tmp_path):
    (tmp_path / "log.csv").write_text("action,reward\n1,1\n")
    assert_failed(run_job("train.py", SMALL, train=tmp_path), "DatasetError: ", "log.csv", "all_action_probabilities")


def test_data_are_refused_before_torch_is_loaded_and_all_missing_columns_are_named(tmp_path):
    """A torch that cannot be loaded stands in the way of whoever wants it."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was loaded')")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "log.csv").write_text("user,gain\n1,1\n")
    job = Job(tmp_path / "job", "train.py", SMALL, {"train": tmp_path / "log"}, search=[tmp_path]).run()
    assert_failed(
        job,
        "columns 'action', 'all_action_probabilities', 'episode_id', 'reward', 'state_features' are missing",
        "the table has: user, gain",
        "data.columns of the preset says which column is which",
        "'propensity' alone will do",
    )


def test_an_empty_checkpoint_channel_fails_the_job_with_its_reason(run_job, tmp_path):
    job = run_job("evaluate.py", {"preset": "preset-cartpole-ddqnbcq-env"}, checkpoint=tmp_path)
    assert_failed(job, "CheckpointError: ", "is empty", "metadata.json")


@pytest.fixture
def checkpoint(trained, tmp_path):
    return Path(shutil.copytree(trained.output / "checkpoint", tmp_path / "checkpoint"))


def refusal(folder, observation_size=4, which="latest"):
    with pytest.raises(CheckpointError) as caught:
        load_policy(folder, which, observation_size=observation_size, n_actions=2)
    return str(caught.value)


def test_a_foreign_folder_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "0_Step-0.ckpt.index").touch()
    assert "holds 0_Step-0.ckpt.index, but no checkpoint of ours" in refusal(tmp_path)


def test_the_folder_around_a_checkpoint_is_refused_with_a_hint(checkpoint):
    assert "Give the folder 'checkpoint' itself" in refusal(checkpoint.parent)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("{", "is not readable JSON"),
        ("[]", "describes something else"),
        ('{"format": "other"}', "describes something else"),
        ('{"format": "batch-rl-checkpoint", "version": 99, "algorithm": "ddqn_bcq"}', "version 99"),
        ('{"format": "batch-rl-checkpoint", "version": 1, "algorithm": "sarsa"}', "algorithm 'sarsa'"),
    ],
)
def test_other_metadata_are_refused(checkpoint, metadata, words):
    (checkpoint / "metadata.json").write_text(metadata)
    assert words in refusal(checkpoint)


def test_a_checkpoint_for_other_observations_is_refused(checkpoint):
    assert "observation_size 4, the environment has 6" in refusal(checkpoint, observation_size=6)


def test_a_damaged_or_incomplete_checkpoint_is_refused(checkpoint):
    name = (checkpoint / "latest").read_text().strip()
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:1000])
    assert "damaged or not a checkpoint" in refusal(checkpoint)
    (checkpoint / name).unlink()
    assert "which is not in the folder" in refusal(checkpoint)
    (checkpoint / "latest").unlink()
    assert "no readable file 'latest'" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("entry_point", "unwanted"),
    [
        ("train", ["torch", "gymnasium", "pandas", "matplotlib"]),
        ("train_offline", ["gymnasium", "torch._dynamo", "matplotlib"]),
        ("evaluate", ["pandas", "matplotlib"]),
        ("collect", ["torch", "pandas"]),
    ],
)
def test_an_entry_point_loads_only_the_libraries_it_needs(entry_point, unwanted):
    code = f"import sys, {entry_point}; print([name for name in {unwanted} if name in sys.modules])"
    path = os.pathsep.join([str(ROOT / "container"), str(ROOT / "entrypoints")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_matplotlib_costs_the_picture_and_nothing_else(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not plot_estimates(trained.intermediate / METRICS, [tmp_path / "plot.png"])
    assert "no plot" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_event_files_are_written_where_the_preset_asks_for_them(run_job, collected, trained):
    job = run_job("train.py", SMALL | {"improve_steps": 1, "training.tensorboard": "true"}, train=collected.output)
    (path,) = (job.intermediate / "tensorboard").iterdir()
    for name in (b"Weighted Importance Sampling", b"WDR (trajectory) Low", b"Loss/Mean"):
        assert name in path.read_bytes()
    assert not (trained.intermediate / "tensorboard").exists()


def test_evaluation_episodes_are_drawn_under_coachs_names(run_job, trained):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pygame")
    job = run_job(
        "evaluate.py",
        {"preset": "preset-cartpole-ddqnbcq-env", "evaluate_episodes": 3, "evaluation.gifs": 2},
        checkpoint=trained.output / "checkpoint",
    )
    assert job.exit_code == 0
    rewards = [float(reward) for reward in COACH_METRIC.findall(job.stdout)]
    drawn = sorted((job.intermediate / "gifs").iterdir(), key=lambda path: path.name[20:])
    assert [re.sub(r"^[\d-]+_", "", path.name) for path in drawn] == [
        f"episode-{number}_score-{reward:g}.gif" for number, reward in enumerate(rewards[:2], start=1)
    ]
    with image.open(drawn[0]) as animation:
        assert animation.n_frames == 1 + math.ceil(rewards[0] / 2)


def test_drawing_without_pygame_is_refused_before_an_episode_is_played(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(PresetError, match=r"evaluation.gifs needs pygame.*sagemaker-launcher\[gif\]"):
        check_rendering("CartPole-v0")


def test_a_page_holds_the_drawing_and_the_last_numbers_and_loads_nothing(trained, tmp_path):
    assert plot_estimates(trained.intermediate / METRICS, [tmp_path / "plot.html", tmp_path / "plot.png"])
    page = (tmp_path / "plot.html").read_text()
    last = trained.metrics.iloc[-1]
    low, high = last["WDR (trajectory) Low"], last["WDR (trajectory) High"]
    assert f"<td>WDR</td><td>{last['WDR (trajectory)']:.2f}</td><td>{low:.2f} to {high:.2f}</td>" in page
    assert page.index("<td>DM<") < page.index("<td>WDR<") < page.index("<td>WIS<") < page.index("<td>Coach&#x27;s WIS<")
    assert "MAGIC" not in page  # not among the preset's estimators
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|<script|@import', page) == []
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_default_presets_learn_to_balance_the_pole(run_job):
    """From 500 random episodes (about 22 steps each) to more than 195 of 200, while the estimates rise."""
    logged = run_job("collect.py", {"preset": "preset-cartpole-random"})
    learned = run_job("train.py", {"preset": "preset-cartpole-ddqnbcq"}, train=logged.output)
    played = run_job(
        "evaluate.py",
        {"preset": "preset-cartpole-ddqnbcq-env", "evaluate_episodes": 100},
        checkpoint=learned.output / "checkpoint",
    )
    assert json.loads((played.output / "evaluation.json").read_text())["mean"] > 195
    for name in ("Weighted Importance Sampling", "Sequential Doubly Robust"):
        values = learned.metrics[name]
        assert np.isfinite(values).all()
        assert values.corr(learned.metrics["Epoch"]) > 0.8
        assert values.iloc[-1] > values.iloc[0] + 5
    # The true value of the policy that is scored, where it is logged from: without a time limit.
    policy = load_policy(learned.output / "checkpoint", "latest", observation_size=4, n_actions=2)
    scored = softmax_policy(policy.q_array, policy.temperature)
    played = play_cartpoles(300, 99, scored, episodes_each=1, step_limit=1500)
    truth = join_episodes([episode for (episode,) in played]).returns(0.99).mean()
    last = learned.metrics.iloc[-1]
    assert last["WDR (trajectory) Low"] < truth < last["WDR (trajectory) High"]
    assert last["WDR (trajectory) Low"] > last["Logged Discounted Return"]
