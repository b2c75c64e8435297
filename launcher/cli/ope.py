"""Off-policy evaluation of trained policies by logged data, done by the entry points' own library as a process."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.errors import BadInputError, LauncherError
from launcher.running.source import check_source
from launcher.sdk.preflight import check_libraries
from launcher.settings import data_path

COLUMNS = ("estimator", "value", "lower", "upper", "level", "interval")
_WEIGHTS = ("effective_sample_size", "mean_weight", "largest_weight_share")
_REFUSED = 2
GATE_NOT_PASSED = 3


def judge_policies(dataset: Path, checkpoints: Sequence[Path], **options: Any) -> dict[str, Any]:
    """Estimate the values of the policies of some checkpoints from logged data, without training.

    Args:
        dataset: a file, or the folder of one.
        checkpoints: folders of train.py, or files in them.
        options: further arguments of ``batch_rl.judging.judge``; ``every`` estimates every policy that a folder holds.
    Returns:
        As ``batch_rl.judging.report`` makes it.
    Raises:
        BadInputError: a path does not exist, or the data and the policies do not fit, in the words of the library.
        RuntimeUnavailableError: this interpreter lacks what the library needs.
    """
    for role, path in (("dataset", dataset), *(("checkpoint", path) for path in checkpoints)):
        if not path.exists():
            raise BadInputError(f"{role} {path}: there is no such file or folder.", "Give the path of one.")
    folder = data_path("entrypoints")
    check_libraries(check_source("train.py", str(folder)))
    request = {"dataset": str(dataset.resolve()), "checkpoints": [str(path.resolve()) for path in checkpoints]}
    answer = subprocess.run(
        [sys.executable, "-m", "batch_rl.judging"],
        input=json.dumps(request | options),
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    if answer.returncode == _REFUSED:
        raise BadInputError(answer.stderr.strip())
    if answer.returncode != 0:
        raise LauncherError(f"the policies' values could not be estimated: {answer.stderr.strip()[-500:]}")
    judgement: dict[str, Any] = json.loads(answer.stdout)
    return judgement


def as_csv(judgement: Mapping[str, Any]) -> str:
    """Return a row for each policy and estimator."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["checkpoint", "policy", *COLUMNS, *_WEIGHTS])
    for policy in judgement["policies"]:
        for estimate in policy["estimates"]:
            cells = [policy["checkpoint"], policy["policy"], *(estimate[name] for name in COLUMNS)]
            writer.writerow([*cells, *(policy[name] for name in _WEIGHTS)])
    return text.getvalue()


def as_table(judgement: Mapping[str, Any]) -> str:
    """Return what a person reads: a table for each policy, what it rests on, and the ranking."""
    lines = [
        f"Judged by {judgement['judged_by']}; discount {judgement['discount']:g}. "
        f"The policy that made the log earned {judgement['logged_return']:.2f} (discounted reward per episode)"
        + _shown_behavior(judgement["behavior"]),
        *(f"Assumed: {assumption}." for assumption in judgement["assumptions"]),
    ]
    for policy in judgement["policies"]:
        lines += ["", f"{policy['checkpoint']}: {policy['policy']}"]
        rows = [("estimator", "value", "interval", "")]
        for estimate in policy["estimates"]:
            value = "undefined" if estimate["value"] is None else f"{estimate['value']:.2f}"
            if estimate["uncut"] is not None:
                value += f" (it says {estimate['uncut']:.2f})"
            if estimate["lower"] is None:
                rows.append((estimate["estimator"], value, "none", estimate["interval"]))
            else:
                ends = f"{estimate['lower']:.2f} to {estimate['upper']:.2f}"
                rows.append((estimate["estimator"], value, ends, f"{estimate['level']:.0%} {estimate['interval']}"))
        lines += _aligned(rows)
        share = policy["largest_weight_share"]
        lines.append(
            f"  in effect {policy['effective_sample_size']:.1f} of {judgement['episodes']} episodes"
            + (f", the largest with {share:.0%} of all weight" if share is not None else "")
        )
        lines += [f"  note: {note}" for note in policy["notes"]]
    if (comparison := judgement["comparison"]) is not None:
        lines += ["", f"Ranked by {comparison['rank_by']}, the best first"]
        chances = comparison["probability_best"]
        ranked = [("checkpoint", "best in")]
        ranked += [
            (name, f"{chances[name]:.0%} of resamples" if name in chances else "") for name in comparison["ranking"]
        ]
        lines += _aligned(ranked)
        if comparison["undecided"]:
            lines.append(f"  the log cannot tell these from the first: {', '.join(comparison['undecided'])}")
        if comparison["regret"]:
            correlation = comparison["rank_correlation"]
            shown = "undefined" if correlation is None else f"{correlation:.2f}"
            regrets = ", ".join(f"{regret:.2f} at {k}" for k, regret in comparison["regret"].items())
            lines.append(f"  rank correlation with the truth {shown}; regret {regrets}")
    if (gate := judgement["gate"]) is not None:
        lines += ["", "Gate passed" if gate["passed"] else "Gate not passed"]
        lines += _aligned([(policy["checkpoint"], policy["why"]) for policy in gate["policies"]])
    return "\n".join(lines)


def _shown_behavior(behavior: Mapping[str, float] | None) -> str:
    if behavior is None:
        return "."
    ends = f"{behavior['lower']:.2f} to {behavior['upper']:.2f}"
    return f"; by the rule of FQE it is worth {behavior['value']:.2f} ({ends})."


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
