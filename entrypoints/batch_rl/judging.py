"""Judging learned policies by logged episodes, without training: ``python -m batch_rl.judging`` for a launcher.

It reads ``{"dataset": ..., "checkpoints": [...], ...}``, the arguments of ``judge``, from standard input and
writes ``report``'s answer as JSON; a refusal is exit code 2 and its reason on standard error.
"""

import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl import ope
from batch_rl.acting.policies import greedy_policy
from batch_rl.data.episodes import Episodes, split_numbers
from batch_rl.errors import BatchRLError, DatasetError
from batch_rl.formats.loading import load_episodes, raise_small_propensities
from batch_rl.learning.checkpoint import FILE_PATTERN, SavedPolicy, open_policy
from batch_rl.learning.estimates import EVALUATION
from batch_rl.learning.preparation import dataset_digest, split_generator
from batch_rl.networks import mean_and_scale, seeded_generator, softmax, use_threads
from batch_rl.presets.schema import needs_model

HIDDEN_SIZES = (64, 64)  # of the network that fits a policy's values
REFUSED = 2


@dataclass(frozen=True)
class Judgement:
    """What a log says of some policies.

    Args:
        evaluations: by the names that the policies were given by.
        episodes: what judged them.
        how: which episodes those are, in words.
        comparison: of several policies.
    """

    evaluations: Mapping[str, ope.PolicyEvaluation]
    episodes: Episodes
    how: str
    comparison: ope.Comparison | None


def judge(
    dataset: Path,
    checkpoints: Sequence[Path],
    *,
    policy: str = "softmax",
    temperature: float | None = None,
    estimators: Collection[str] = ope.ESTIMATORS,
    discount: float | None = None,
    interval: str = "bootstrap",
    level: float = 0.95,
    resamples: int = 1000,
    fqe_updates: int = 1000,
    seed: int = 0,
    rank_by: str = "WDR",
    truths: Sequence[float] = (),
) -> Judgement:
    """Evaluate policies on logged episodes that they have not learned from.

    A checkpoint whose training used this very dataset is judged by the episodes that its run held out, and several
    ones by those that all of their runs did; any other checkpoint by all episodes. The values behind DM and the
    doubly robust estimators are fitted to other episodes than those they are read at: to the training episodes,
    or, where all are judged, to either half for the other one.

    Args:
        dataset: a file, or the folder of one.
        checkpoints: folders of train.py, or files in them, at least one.
        policy: ``softmax`` of the values, or ``greedy``.
        temperature: of the softmax; None: each checkpoint's own.
        estimators: names in ``ope.ESTIMATORS``.
        discount: per step; None: that of the training, which must be the same for all.
        interval, level, resamples, seed: as ``ope.evaluate``.
        fqe_updates: gradient updates that fit a policy's values.
        rank_by: the estimator that ranks several policies.
        truths: the policies' real values, in the order of the checkpoints, where they are known.
    Raises:
        BatchRLError: the dataset or a checkpoint is refused, or they cannot be judged together.
    """
    use_threads(1)
    _, episodes = load_episodes(dataset)
    names = _names(checkpoints)
    saved = {
        name: open_policy(path, observation_size=episodes.observations.shape[1], n_actions=episodes.n_actions)
        for name, path in zip(names, checkpoints, strict=True)
    }
    discount = _one_discount(saved) if discount is None else discount
    if len(saved) > 1 and rank_by not in estimators:
        raise DatasetError(f"the policies are ranked by '{rank_by}', which is not among the estimators.")
    if truths and len(truths) != len(saved):
        raise DatasetError(f"there are {len(truths)} truths for {len(saved)} policies.")
    held_out, notes = _held_out(saved, episodes)
    judged = episodes if held_out is None else episodes.select(np.flatnonzero(held_out))
    fitting = None if held_out is None else episodes.select(np.flatnonzero(~held_out))
    log = ope.LoggedRows.of(judged)
    evaluations = {}
    for name, one in saved.items():
        scored = _Scored(one, policy, one.policy.temperature if temperature is None else temperature)
        target = scored.probabilities(judged.observations)
        q_hat, after = None, None
        if needs_model(estimators):
            q_hat, after = _values(scored, fitting, judged, discount, fqe_updates, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they stand in the notes
            found = ope.evaluate(
                log, target, q_hat, discount=discount, policy=scored.description, estimators=estimators,
                interval=interval, level=level, resamples=resamples, seed=seed, values_after_truncation=after,
            )  # fmt: skip
        evaluations[name] = found if name not in notes else _with_note(found, notes[name])
    comparison = None
    if len(saved) > 1:
        known = dict(zip(names, truths, strict=True)) if truths else None
        comparison = ope.compare(evaluations, rank_by, truths=known)
    how = (
        f"all {len(judged)} episodes of another dataset than the policies learned from"
        if held_out is None
        else f"the {len(judged)} of {len(episodes)} episodes that the training held out"
    )
    return Judgement(evaluations, judged, how, comparison)


class _Scored:
    """A saved policy, acted out in one way."""

    def __init__(self, saved: SavedPolicy, policy: str, temperature: float) -> None:
        self._values, self._policy, self._temperature = saved.policy.q_array, policy, temperature
        self.description = "greedy" if policy == "greedy" else f"softmax(Q / {temperature:g})"

    def probabilities(self, observations: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._policy == "greedy":
            return greedy_policy(self._values)(observations)
        return softmax(self._values(observations), self._temperature)


def _names(checkpoints: Sequence[Path]) -> list[str]:
    names = [str(path) for path in checkpoints]
    if len(set(names)) < len(names):
        raise DatasetError("a checkpoint is given twice.")
    return names


def _one_discount(saved: Mapping[str, SavedPolicy]) -> float:
    found = {float(one.preset["agent"]["discount"]) for one in saved.values()}
    if len(found) > 1:
        shown = ", ".join(f"{discount:g}" for discount in sorted(found))
        raise DatasetError(f"the policies were trained with different discounts ({shown}); say which one counts.")
    return found.pop()


def _held_out(saved: Mapping[str, SavedPolicy], episodes: Episodes) -> tuple[NDArray[np.bool_] | None, dict[str, str]]:
    """Return which episodes no policy has learned from, (episodes,); None where none learned from any."""
    held_out, notes = np.ones(len(episodes), dtype=np.bool_), {}
    for name, one in saved.items():
        data = one.preset["data"]
        treated = episodes
        if data["least_propensity"]:
            treated, _ = raise_small_propensities(episodes, data["least_propensity"])
        if dataset_digest(treated) != one.dataset_sha256:
            continue
        numbers = np.flatnonzero(episodes.lengths > 1) if data["drop_last_rows"] else np.arange(len(episodes))
        fitting, _ = split_numbers(len(numbers), data["train_fraction"], split_generator(one.preset["seed"]))
        held_out[numbers[fitting]] = False
        if one.final:
            notes[name] = "this policy was fitted to all episodes of the dataset, those that judge it too"
    if not held_out.any():
        raise DatasetError(
            "every episode is one that some of the policies learned from. Judge them by other data, or apart."
        )
    return (None if held_out.all() else held_out), notes


def _with_note(evaluation: ope.PolicyEvaluation, note: str) -> ope.PolicyEvaluation:
    return dataclasses.replace(evaluation, notes=(note, *evaluation.notes))


def _values(
    scored: _Scored, fitting: Episodes | None, judged: Episodes, discount: float, updates: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return a policy's action values at the judged rows, and its values after truncated ones, if known."""
    if fitting is not None:
        return _fit_values(scored, fitting, judged, discount, updates, seed)
    if len(judged) == 1:
        raise DatasetError(
            "a single episode cannot both be judged and have the values fitted that some estimators need. "
            "Leave DM, sequential DR, WDR and MAGIC out."
        )
    halves = split_numbers(len(judged), 0.5, split_generator(seed))
    q_hat = np.empty((len(judged.actions), judged.n_actions))
    after: NDArray[np.float64] | None = np.zeros(len(judged.actions))
    for other, own in (halves, halves[::-1]):
        q, tails = _fit_values(scored, judged.select(other), judged.select(own), discount, updates, seed)
        rows = np.concatenate([np.arange(judged.starts[i], judged.starts[i] + judged.lengths[i]) for i in own])
        q_hat[rows] = q
        if tails is None:
            after = None
        elif after is not None:
            after[rows] = tails
    return q_hat, after


def _fit_values(
    scored: _Scored, fitting: Episodes, judged: Episodes, discount: float, updates: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    next_rows, led_to, learned = fitting.next_rows()
    observations = np.concatenate([fitting.observations, led_to])
    mean, scale = mean_and_scale(observations)

    def inputs(values: NDArray[np.float32]) -> Tensor:
        return (torch.from_numpy(values) - mean) / scale

    probabilities = torch.from_numpy(scored.probabilities(observations)).float()
    fitted = ope.FittedQ(
        inputs(observations),
        torch.from_numpy(fitting.actions),
        torch.from_numpy(fitting.rewards).float(),
        torch.from_numpy(fitting.ends & np.repeat(fitting.terminated, fitting.lengths)).float(),
        torch.from_numpy(next_rows),
        torch.from_numpy(learned),
        n_actions=fitting.n_actions,
        discount=discount,
        hidden_sizes=HIDDEN_SIZES,
        generator=seeded_generator(seed, EVALUATION),
    )
    fitted.fit(lambda rows: probabilities[rows], updates)

    def value(finals: NDArray[np.float32]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (scored.probabilities(finals) * fitted.values(inputs(finals))).sum(axis=1)
        return values

    return fitted.values(inputs(judged.observations)), judged.values_after_truncation(value)


def report(judgement: Judgement) -> dict[str, Any]:
    """Return all of a judgement in plain containers; what is not defined is None."""
    policies = []
    for name, found in judgement.evaluations.items():
        policies.append(
            {
                "checkpoint": name,
                "policy": found.policy,
                "estimates": [
                    {
                        "estimator": one.name,
                        "value": _plain(one.value),
                        "lower": one.interval.lower if one.interval else None,
                        "upper": one.interval.upper if one.interval else None,
                        "level": one.interval.level if one.interval else None,
                        "interval": one.interval.method if one.interval else one.note,
                    }
                    for one in found.values.values()
                ],
                "effective_sample_size": found.weights.effective_sample_size,
                "mean_weight": _plain(found.weights.mean_weight),
                "largest_weight_share": _plain(found.weights.largest_share),
                "notes": list(found.notes),
            }
        )
    first = next(iter(judgement.evaluations.values()))
    answer = {
        "judged_by": judgement.how,
        "episodes": first.episodes,
        "rows": first.rows,
        "discount": first.discount,
        "logged_return": first.logged_return,
        "assumptions": list(judgement.episodes.assumptions),
        "policies": policies,
        "comparison": None,
    }
    if (found_best := judgement.comparison) is not None:
        answer["comparison"] = {
            "rank_by": found_best.estimator,
            "ranking": list(found_best.ranking),
            "probability_best": dict(found_best.probability_best),
            "rank_correlation": _plain(found_best.rank_correlation),
            "regret": {str(k): value for k, value in found_best.regret.items()},
            "mean_squared_error": _plain(found_best.mean_squared_error),
        }
    return answer


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _places(places: Sequence[str], *, every: bool) -> list[Path]:
    paths = [Path(place) for place in places]
    if every:
        paths = [file for path in paths for file in (sorted(path.glob(FILE_PATTERN)) if path.is_dir() else [path])]
    return paths


def main() -> int:
    """Answer the request on standard input; return the exit code."""
    request = json.load(sys.stdin)
    try:
        checkpoints = _places(request.pop("checkpoints"), every=request.pop("every", False))
        print(json.dumps(report(judge(Path(request.pop("dataset")), checkpoints, **request))))
    except BatchRLError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
