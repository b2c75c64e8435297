"""Choosing values of a preset by a log alone: a job for each candidate, and an estimate on episodes kept apart."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cli.ope import judge_policies
from launcher.errors import BadInputError, JobFailedError
from launcher.sdk.bundled import bundled_estimator, bundled_inputs
from launcher.sdk.estimator import Estimator
from launcher.sdk.training_job import TrainingJob

ESTIMATOR = "FQE"
EVALUATION_EPISODES = 100


@dataclass(frozen=True)
class Candidate:
    """A preset with some of its values, and what became of it.

    Attributes:
        preset: its name or path.
        values: hyperparameters by dotted name, as text.
        job: that trained it.
        failure: why the job failed; empty where it did not.
        truth: mean discounted reward of the judged policy's episodes, where it was played.
    """

    preset: str
    values: Mapping[str, str]
    job: str
    failure: str = ""
    truth: float | None = None


@dataclass(frozen=True)
class Selection:
    """What came of all candidates.

    Attributes:
        candidates: in the order in which they were trained.
        judgement: of those whose job did not fail, as ``launcher ope --format json`` prints it.
        ranking: their jobs, the best first.
    """

    candidates: Sequence[Candidate]
    judgement: Mapping[str, Any]
    ranking: Sequence[str]

    @property
    def regret(self) -> float | None:
        """What the chosen policy earns less than the best one, where they were played."""
        truths = {candidate.job: candidate.truth for candidate in self.candidates if candidate.truth is not None}
        return max(truths.values()) - truths[self.ranking[0]] if truths else None


def read_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each ``NAME=VALUE,VALUE``; a comma within brackets is part of a value.

    Raises:
        BadInputError: a text is none of that form, or a name is given twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        values, depth, start = [], 0, 0
        for place, character in enumerate(listed):
            depth += (character in "[{") - (character in "]}")
            if character == "," and depth == 0:
                values.append(listed[start:place])
                start = place + 1
        values = [value.strip() for value in [*values, listed[start:]]]
        if not name or not all(values):
            raise BadInputError(
                f"--set {text!r} is not NAME=VALUE,VALUE.", "For example: --set agent.learning_rate=1e-3,1e-4"
            )
        if name in grid:
            raise BadInputError(f"--set {text!r}: '{name}' is given twice.", "List all of its values at once.")
        grid[name] = list(dict.fromkeys(values))
    return grid


def combinations(
    presets: Sequence[str], grid: Mapping[str, Sequence[str]], *, draw: int | None = None, seed: int = 0
) -> list[tuple[str, dict[str, str]]]:
    """Return every preset with every combination of values, or so many of them, drawn at random."""
    every = [
        (preset, dict(zip(grid, values, strict=True)))
        for preset in presets
        for values in itertools.product(*grid.values())
    ]
    if draw is None or draw >= len(every):
        return every
    return [every[number] for number in sorted(random.Random(seed).sample(range(len(every)), draw))]


def select_values(
    dataset: Path,
    candidates: Sequence[tuple[str, Mapping[str, str]]],
    *,
    environment_preset: str | None = None,
    max_steps: int | None = None,
    runtime: str | None = None,
    seed: int = 0,
    say: Callable[[str], None],
) -> Selection:
    """Train each candidate on the log, and rank them by what the episodes that none has learned from say.

    All have the same seed, so that with one ``data.train_fraction`` they hold out the same episodes.

    Args:
        dataset: logged episodes, a file or its folder.
        environment_preset: of ``evaluate.py``: each policy is played too, as it was judged, and the regret is known.
        max_steps: cut the played episodes after so many steps; None: as that preset says.
        say: told a line as each job ends.
    Raises:
        BadInputError: the log or a preset is refused.
        JobFailedError: every candidate failed, or a policy could not be played.
    """
    for preset, values in candidates:  # all are checked before the first one runs
        _estimator(preset, values, seed, runtime).plan(bundled_inputs("train.py", str(dataset)))
    trained: list[Candidate] = []
    jobs: dict[str, TrainingJob] = {}
    failure: JobFailedError | None = None
    for number, (preset, values) in enumerate(candidates, start=1):
        job = _estimator(preset, values, seed, runtime).submit(bundled_inputs("train.py", str(dataset)))
        try:
            job.wait(logs="None")
        except JobFailedError as error:
            if error.exit_code == BadInputError.exit_code:
                raise  # of the log or the preset: the others would fail in the same way
            failure = error
            trained.append(Candidate(preset, values, job.name, failure=error.reason))
        else:
            jobs[job.name] = job
            truth = None
            if environment_preset is not None:
                truth = _play(job, environment_preset, max_steps, runtime, seed)
            trained.append(Candidate(preset, values, job.name, truth=truth))
        say(f"{number} of {len(candidates)}: {describe(trained[-1])}: {job.status}, job {job.name}")
    if failure is not None and not jobs:
        raise failure
    folders = {name: job.outputs.data_path / "checkpoint" for name, job in jobs.items()}
    truths = [candidate.truth for candidate in trained if candidate.truth is not None]
    judgement = judge_policies(
        dataset, list(folders.values()), estimators=[ESTIMATOR], rank_by=ESTIMATOR, truths=truths, seed=seed
    )
    by_path = {str(folder.resolve()): name for name, folder in folders.items()}
    ranking = judgement["comparison"]["ranking"] if judgement["comparison"] else list(by_path)
    return Selection(trained, judgement, [by_path[path] for path in ranking])


def _estimator(preset: str, values: Mapping[str, str], seed: int, runtime: str | None) -> Estimator:
    return bundled_estimator(preset, "train.py", {"seed": seed, **values}, runtime=runtime)


def _play(job: TrainingJob, preset: str, max_steps: int | None, runtime: str | None, seed: int) -> float:
    """Return what the judged policy, the softmax, earns in its environment, discounted as in training."""
    options: dict[str, Any] = {"evaluation.policy": "softmax", "evaluate_episodes": EVALUATION_EPISODES, "seed": seed}
    if max_steps is not None:
        options["environment.max_steps"] = max_steps
    estimator = bundled_estimator(preset, "evaluate.py", options, runtime=runtime)
    played = estimator.submit(bundled_inputs("evaluate.py", str(job.outputs.data_path / "checkpoint")))
    played.wait(logs="None")
    result = json.loads((played.outputs.data_path / "evaluation.json").read_text(encoding="utf-8"))
    return float(result["discounted_mean"])


def describe(candidate: Candidate) -> str:
    """Return a candidate's values, or its preset where it has the preset's own."""
    return " ".join(f"{name}={value}" for name, value in candidate.values.items()) or candidate.preset


def as_report(selection: Selection) -> dict[str, Any]:
    """Return all of a selection in plain containers."""
    estimates = _estimates(selection)
    undecided = _undecided(selection)
    return {
        "chosen": selection.ranking[0],
        "ranking": list(selection.ranking),
        "undecided": undecided,
        "regret": selection.regret,
        "judged_by": selection.judgement["judged_by"],
        "behavior": selection.judgement["behavior"],
        "candidates": [
            {
                "preset": candidate.preset,
                "values": dict(candidate.values),
                "job": candidate.job,
                "failure": candidate.failure,
                "estimate": estimates.get(candidate.job),
                "truth": candidate.truth,
            }
            for candidate in selection.candidates
        ],
    }


def as_table(selection: Selection) -> str:
    """Return what a person reads: the candidates by rank, what the log can tell apart, and the regret."""
    estimates, by_job = _estimates(selection), {candidate.job: candidate for candidate in selection.candidates}
    played = selection.regret is not None
    rows = [["values", ESTIMATOR, "interval", *(["played"] if played else []), "job"]]
    for job in selection.ranking:
        estimate, candidate = estimates[job], by_job[job]
        ends = "none" if estimate["lower"] is None else f"{estimate['lower']:.2f} to {estimate['upper']:.2f}"
        truth = [f"{candidate.truth:.2f}"] if played and candidate.truth is not None else []
        rows.append([describe(candidate), f"{estimate['value']:.2f}", ends, *truth, job])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"Judged by {selection.judgement['judged_by']}, the best first"]
    lines += [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [
        f"  {describe(candidate)}: failed, {candidate.failure}"
        for candidate in selection.candidates
        if candidate.failure
    ]
    if (behavior := selection.judgement["behavior"]) is not None:
        lines.append(
            f"  the policy that made the log: {behavior['value']:.2f} "
            f"({behavior['lower']:.2f} to {behavior['upper']:.2f})"
        )
    chosen = by_job[selection.ranking[0]]
    lines.append(f"Chosen: {describe(chosen)}, job {chosen.job}")
    if undecided := _undecided(selection):
        lines.append("  the log cannot tell these from it: " + "; ".join(describe(by_job[job]) for job in undecided))
    if len(selection.ranking) > 1:
        lines.append(
            "  its estimate is optimistic, because the same episodes chose it; judge it by others: launcher ope"
        )
    if played:
        lines.append(f"  regret {selection.regret:.2f}: what it earns less than the best of them, when played")
    return "\n".join(lines)


def _estimates(selection: Selection) -> dict[str, dict[str, Any]]:
    jobs = [candidate.job for candidate in selection.candidates if not candidate.failure]
    policies = selection.judgement["policies"]
    return {job: policy["estimates"][0] for job, policy in zip(jobs, policies, strict=True)}


def _undecided(selection: Selection) -> list[str]:
    comparison = selection.judgement["comparison"]
    if comparison is None or not comparison["undecided"]:
        return []
    paths = dict(zip(comparison["ranking"], selection.ranking, strict=True))
    return [paths[path] for path in comparison["undecided"]]
