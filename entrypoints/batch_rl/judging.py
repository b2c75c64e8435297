"""Judging learned policies by logged episodes, without training: ``python -m batch_rl.judging`` for a launcher.

It reads ``{"dataset": ..., "checkpoints": [...], ...}``, the arguments of ``judge``, from standard input and
writes ``report``'s answer as JSON; a refusal is exit code 2 and its reason on standard error.
"""

import dataclasses
import json
import math
import re
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch_rl import ope
from batch_rl.acting.policies import greedy_policy
from batch_rl.data.episodes import Episodes, split_numbers
from batch_rl.data.fingerprints import fingerprints
from batch_rl.errors import BatchRLError, DatasetError
from batch_rl.formats.loading import load_episodes, raise_small_propensities
from batch_rl.learning.behavior_estimate import estimate_behavior
from batch_rl.learning.checkpoint import FILE_PATTERN, SavedPolicy, how_logs_are_read, open_policy
from batch_rl.learning.preparation import dataset_digest, split_generator
from batch_rl.networks import softmax, use_threads
from batch_rl.ope.refitting import REFITS, UPDATES
from batch_rl.presets.schema import needs_model

REFUSED = 2
ESTIMATORS = (ope.FQE, *ope.ESTIMATORS)
BEHAVIOR_REFITS = 5  # models of the policy that acted, where its probabilities are not logged
BEHAVIOR_UPDATES = 3000  # at most; they end where held-out rows get no likelier
BEHAVIOR_SIZES = (32, 32)
_GATE = re.compile(r"\s*(lower|value|upper)\s*(>=?)\s*(behavior|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Verdict:
    """Whether a policy passed a gate.

    Args:
        left, right: the numbers that were compared; NaN where there is none.
        why: in words.
    """

    passed: bool
    left: float
    right: float
    why: str


@dataclass(frozen=True)
class Judgement:
    """What a log says of some policies.

    Args:
        evaluations: by the names that the policies were given by.
        episodes: what judged them.
        how: which episodes those are, in words.
        left_out: episodes of the dataset that one of the policies has learned from.
        behavior: value of the policy that logged, and its interval by the method of FQE, with what would have followed
            truncated episodes; None where FQE was not asked for.
        comparison: of several policies.
        verdicts: by name, where there is a gate.
    """

    evaluations: Mapping[str, ope.PolicyEvaluation]
    episodes: Episodes
    how: str
    left_out: int
    behavior: ope.EstimatedValue | None
    comparison: ope.Comparison | None
    verdicts: Mapping[str, Verdict]

    @property
    def passed(self) -> bool:
        """Whether the best policy of the ranking, or the only one, passed the gate."""
        first = self.comparison.ranking[0] if self.comparison else next(iter(self.evaluations))
        return self.verdicts[first].passed


def judge(
    dataset: Path,
    checkpoints: Sequence[Path],
    *,
    policy: str = "softmax",
    temperature: float | None = None,
    estimators: Collection[str] = ESTIMATORS,
    discount: float | None = None,
    interval: str = "bootstrap",
    level: float = 0.95,
    resamples: int = 1000,
    fqe_updates: int = UPDATES,
    fqe_refits: int = REFITS,
    seed: int = 0,
    rank_by: str = ope.FQE,
    truths: Sequence[float] = (),
    behavior_policy: str = "logged",
    gate: str | None = None,
) -> Judgement:
    """Evaluate policies on logged episodes that they have not learned from.

    Episodes that any of the policies was fitted to are left out, in whatever file and order they come. The values
    behind FQE, DM and the doubly robust estimators are fitted to resamples of the other episodes, and those of an
    episode that the doubly robust ones read come from the resamples without it.

    Args:
        dataset: a file, or the folder of one.
        checkpoints: folders of train.py, or files in them, at least one.
        policy: ``softmax`` of the values, or ``greedy``.
        temperature: of the softmax; None: each checkpoint's own.
        estimators: names in ``ESTIMATORS``.
        discount: per step; None: that of the training, which must be the same for all.
        interval, level, resamples, seed: as ``ope.evaluate``.
        fqe_updates: gradient updates of every network that is fitted to a policy's values.
        fqe_refits: networks; at least two.
        rank_by: the estimator that ranks several policies, and that a gate reads.
        truths: the policies' real values, in the order of the checkpoints, where they are known.
        behavior_policy: ``logged``: the dataset says how likely its actions were; ``estimate``: models of other
            episodes say so, as often as ``BEHAVIOR_REFITS``, and intervals hold what these differ in.
        gate: such as ``lower > behavior``, ``value >= 20``.
    Raises:
        BatchRLError: the dataset or a checkpoint is refused, or they cannot be judged together.
    """
    use_threads(1)
    condition = _gate(gate) if gate is not None else None
    if behavior_policy not in ("logged", "estimate"):
        raise DatasetError(f"behavior_policy is '{behavior_policy}'; it is logged or estimate.")
    if fqe_refits < 2 or fqe_updates < 1:
        raise DatasetError("fqe_refits must be at least 2, and fqe_updates at least 1.")
    names = _names(checkpoints)
    _, episodes = load_episodes(
        dataset, require_propensities=behavior_policy == "logged", **how_logs_are_read(checkpoints)
    )
    saved = {
        name: open_policy(path, observation_size=episodes.observations.shape[1], n_actions=episodes.n_actions)
        for name, path in zip(names, checkpoints, strict=True)
    }
    discount = _one_discount(saved) if discount is None else discount
    if (len(saved) > 1 or condition) and rank_by not in estimators:
        raise DatasetError(f"the policies are ranked by '{rank_by}', which is not among the estimators.")
    if truths and len(truths) != len(saved):
        raise DatasetError(f"there are {len(truths)} truths for {len(saved)} policies.")
    if condition and len(saved) > 1:
        level = 1 - (1 - level) / len(saved)  # the best of many looks better than it is
    usable, notes = _usable(saved, episodes)
    judged = episodes if usable.all() else episodes.select(np.flatnonzero(usable))
    logs, assumption = _logs(judged, behavior_policy, seed)
    options = _Options(
        discount, tuple(estimators), interval, level, resamples, seed, fqe_updates, fqe_refits,
    )  # fmt: skip
    evaluations = {}
    for name, policy_on_disk in saved.items():
        own = policy_on_disk.policy.temperature
        scored = _Scored(policy_on_disk, policy, own if temperature is None else temperature)
        evaluation = _evaluate(scored, judged, logs, options)
        said = (*notes.get(name, ()), *([assumption] if assumption else ()))
        evaluations[name] = dataclasses.replace(evaluation, notes=(*said, *evaluation.notes))
    behavior = _behavior(judged, options) if ope.FQE in estimators else None
    comparison = None
    if len(saved) > 1:
        known_truths = dict(zip(names, truths, strict=True)) if truths else None
        comparison = ope.compare(evaluations, rank_by, truths=known_truths)
    verdicts = {}
    if condition:
        verdicts = {
            name: _verdict(condition, evaluation, rank_by, behavior) for name, evaluation in evaluations.items()
        }
    left_out = len(episodes) - len(judged)
    how = (
        f"the {len(judged)} of {len(episodes)} episodes that no policy has learned from"
        if left_out
        else f"all {len(judged)} episodes, of which no policy has learned from any"
    )
    return Judgement(evaluations, judged, how, left_out, behavior, comparison, verdicts)


@dataclass(frozen=True)
class _Options:
    discount: float
    estimators: tuple[str, ...]
    interval: str
    level: float
    resamples: int
    seed: int
    updates: int
    refits: int


def _logs(judged: Episodes, behavior_policy: str, seed: int) -> tuple[list[ope.LoggedRows], str]:
    """Return the log, once for every opinion on how likely its actions were, and what that supposes."""
    if behavior_policy == "logged":
        return [ope.LoggedRows.of(judged)], ""
    logs, likelihoods, frequencies = [], [], []
    for number in range(BEHAVIOR_REFITS):
        estimated, estimate = estimate_behavior(
            judged, seed + number, hidden_sizes=BEHAVIOR_SIZES, updates=BEHAVIOR_UPDATES
        )
        if estimate.log_likelihood < estimate.frequency_log_likelihood:
            estimated = _by_frequency(judged, seed + number)
        logs.append(ope.LoggedRows.of(estimated))
        likelihoods.append(estimate.log_likelihood)
        frequencies.append(estimate.frequency_log_likelihood)
    said = (
        f"propensities are estimated, not logged, by {BEHAVIOR_REFITS} models of other episodes; the estimates by "
        "weights are means over these, and their intervals hold what these differ in. Mean log-likelihood of the "
        f"logged actions {np.mean(likelihoods):.4f}, of their frequencies alone {np.mean(frequencies):.4f}"
    )
    return logs, said


def _by_frequency(judged: Episodes, seed: int) -> Episodes:
    """Give every row the actions' frequencies in a resample: where a model foretells them no better, it is noise."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(judged), np.full(len(judged), 1 / len(judged)))
    weights = np.repeat(drawn, judged.lengths).astype(np.float64)
    counts = np.bincount(judged.actions, weights=weights, minlength=judged.n_actions) + 1.0
    return dataclasses.replace(judged, probabilities=np.tile(counts / counts.sum(), (len(judged.actions), 1)))


def _evaluate(
    scored: "_Scored", judged: Episodes, logs: Sequence[ope.LoggedRows], options: _Options
) -> ope.PolicyEvaluation:
    """Evaluate a policy, with every opinion on the policy that logged; their resamples are put together."""
    target = scored.probabilities(judged.observations)
    refits = None
    if ope.FQE in options.estimators or needs_model(options.estimators):
        refits = ope.refit_values(
            judged, scored.probabilities, discount=options.discount, seed=options.seed,
            refits=options.refits, updates=options.updates,
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they stand in the notes
        evaluations = [
            ope.evaluate(
                log,
                target,
                refits.q_hat if refits else None,
                discount=options.discount,
                policy=scored.description,
                estimators=options.estimators,
                interval=options.interval,
                level=options.level,
                resamples=options.resamples,
                seed=options.seed,
                values_after_truncation=refits.values_after if refits else None,
                refits=refits,
            )
            for log in logs
        ]
    return evaluations[0] if len(evaluations) == 1 else _pooled(evaluations, options.level)


def _pooled(evaluations: Sequence[ope.PolicyEvaluation], level: float) -> ope.PolicyEvaluation:
    """Return the mean estimates, with intervals over the resamples of all, so that these hold what they differ in."""
    values = {}
    for name, first in evaluations[0].values.items():
        together = [evaluation[name] for evaluation in evaluations]
        value = float(np.mean([estimate.value for estimate in together]))
        interval, note = first.interval, first.note
        if name != ope.FQE and any(estimate.interval is None for estimate in together):
            interval, note = None, next(estimate.note for estimate in together if estimate.interval is None)
        elif name != ope.FQE and interval is not None and len(first.replicates):
            interval, note = _pooled_interval(evaluations, name, level)
        elif name != ope.FQE and interval is not None:
            interval = dataclasses.replace(
                interval,
                lower=min(estimate.interval.lower for estimate in together if estimate.interval),
                upper=max(estimate.interval.upper for estimate in together if estimate.interval),
            )
        values[name] = dataclasses.replace(first, value=value, interval=interval, note=note)
    return dataclasses.replace(evaluations[0], values=values)


def _pooled_interval(
    evaluations: Sequence[ope.PolicyEvaluation], name: str, level: float
) -> tuple[ope.Interval | None, str]:
    replicates = np.concatenate([evaluation[name].replicates for evaluation in evaluations])
    size = min(evaluation.weights.effective_sample_size for evaluation in evaluations)
    try:
        interval = ope.percentile_interval(replicates, level=level, effective_size=size)
    except DatasetError as refusal:
        return None, str(refusal)
    least, most = evaluations[0].bounds
    lower, upper = (min(max(end, least), most) for end in (interval.lower, interval.upper))
    return dataclasses.replace(interval, lower=lower, upper=upper), ""


def _behavior(judged: Episodes, options: _Options) -> ope.EstimatedValue:
    """Evaluate the policy that logged by the rule of FQE: the same resamples, and what follows truncated episodes."""
    if judged.truncated.any():
        refits = ope.refit_logged_value(
            judged, discount=options.discount, seed=options.seed, refits=options.refits, updates=options.updates
        )
        replicates, value, bounds = refits.replicates, float(refits.replicates.mean()), refits.bounds
    else:
        returns = judged.returns(options.discount)
        replicates = ope.resampled_means(returns, refits=options.refits, seed=options.seed)
        value, bounds = float(returns.mean()), (float(returns.min()), float(returns.max()))
    ends = ope.refitted_interval(replicates, level=options.level, bounds=bounds)
    return ope.EstimatedValue("behavior", value, ends, "", replicates)


def _gate(text: str) -> tuple[str, str, str]:
    parts = _GATE.fullmatch(text)
    if parts is None:
        raise DatasetError(
            f"the gate '{text}' is not understood. It is lower, value or upper, then > or >=, then behavior or a "
            "number, as in 'lower > behavior'."
        )
    return parts[1], parts[2], parts[3]


def _verdict(
    condition: tuple[str, str, str],
    evaluation: ope.PolicyEvaluation,
    rank_by: str,
    behavior: ope.EstimatedValue | None,
) -> Verdict:
    """Compare; with the policy that logged by the difference on the same resamples, where there is one."""
    which, sign, against = condition
    estimate = evaluation[rank_by]
    if estimate.interval is None:
        return Verdict(False, math.nan, math.nan, f"{rank_by} states no interval: {estimate.note}")
    left = {"lower": estimate.interval.lower, "value": estimate.value, "upper": estimate.interval.upper}[which]
    if against != "behavior":
        right = float(against)
    elif rank_by == ope.FQE and behavior is not None:
        # Of the difference: a log of lucky episodes flatters both.
        gain = ope.refitted_interval(estimate.replicates - behavior.replicates, level=estimate.interval.level)
        right = behavior.value
        left = right + {"lower": gain.lower, "value": estimate.value - right, "upper": gain.upper}[which]
    else:
        right = evaluation.logged_return
    passed = left > right if sign == ">" else left >= right
    return Verdict(passed, left, right, f"{which} {left:.4g} {'' if passed else 'not '}{sign} {against} {right:.4g}")


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
    discounts = {float(policy.preset["agent"]["discount"]) for policy in saved.values()}
    if len(discounts) > 1:
        shown = ", ".join(f"{discount:g}" for discount in sorted(discounts))
        raise DatasetError(f"the policies were trained with different discounts ({shown}); say which one counts.")
    return discounts.pop()


def _usable(
    saved: Mapping[str, SavedPolicy], episodes: Episodes
) -> tuple[NDArray[np.bool_], dict[str, tuple[str, ...]]]:
    """Return which episodes no policy has learned from, (episodes,), and notes on some policies."""
    usable, notes = np.ones(len(episodes), dtype=np.bool_), dict[str, tuple[str, ...]]()
    numbers = fingerprints(episodes)
    chosen_by = {}
    for name, policy in saved.items():
        if policy.seen is None:
            usable[_learned_from_by_digest(policy, episodes)] = False
            continue
        usable &= ~np.isin(numbers, policy.seen.fitted)
        if policy.final:
            usable &= ~np.isin(numbers, policy.seen.held_out)
        elif policy.best:
            chosen_by[name] = np.isin(numbers, policy.seen.held_out)
    if not usable.any():
        raise DatasetError(
            "every episode is one that some of the policies learned from. Judge them by other data, or apart."
        )
    for name, held_out in chosen_by.items():
        if count := int((held_out & usable).sum()):
            notes[name] = (
                f"this policy is the best of its run by {count} of the very episodes that judge it here, so that its "
                "estimates are optimistic; other episodes would tell",
            )
    return usable, notes


def _learned_from_by_digest(saved: SavedPolicy, episodes: Episodes) -> NDArray[np.int64]:
    """Return the episodes that a policy of version 0.1.0 has learned from, if they are exactly those of its run."""
    data = saved.preset["data"]
    treated = episodes
    if data["least_propensity"]:
        treated, _ = raise_small_propensities(episodes, data["least_propensity"])
    if dataset_digest(treated) != saved.dataset_sha256:
        return np.empty(0, dtype=np.int64)
    numbers = np.flatnonzero(episodes.lengths > 1) if data["drop_last_rows"] else np.arange(len(episodes))
    if saved.final:
        return numbers
    fitting, _ = split_numbers(len(numbers), data["train_fraction"], split_generator(saved.preset["seed"]))
    return numbers[fitting]


def report(judgement: Judgement) -> dict[str, Any]:
    """Return all of a judgement in plain containers; undefined numbers are None."""
    policies = []
    for name, evaluation in judgement.evaluations.items():
        policies.append(
            {
                "checkpoint": name,
                "policy": evaluation.policy,
                "estimates": [
                    {
                        "estimator": estimate.name,
                        "value": _plain(estimate.value),
                        "lower": estimate.interval.lower if estimate.interval else None,
                        "upper": estimate.interval.upper if estimate.interval else None,
                        "level": estimate.interval.level if estimate.interval else None,
                        "interval": estimate.interval.method if estimate.interval else estimate.note,
                        "uncut": estimate.uncut,
                    }
                    for estimate in evaluation.values.values()
                ],
                "effective_sample_size": evaluation.weights.effective_sample_size,
                "mean_weight": _plain(evaluation.weights.mean_weight),
                "largest_weight_share": _plain(evaluation.weights.largest_share),
                "support": dataclasses.asdict(evaluation.support) if evaluation.support else None,
                "supported": evaluation.support.enough if evaluation.support else None,
                "notes": list(evaluation.notes),
            }
        )
    first = next(iter(judgement.evaluations.values()))
    answer = {
        "judged_by": judgement.how,
        "episodes": first.episodes,
        "rows": first.rows,
        "discount": first.discount,
        "left_out": judgement.left_out,
        "logged_return": first.logged_return,
        "behavior": _behavior_report(judgement.behavior),
        "bounds": [_plain(end) for end in first.bounds],
        "action_names": list(judgement.episodes.action_names),
        "assumptions": list(judgement.episodes.assumptions),
        "policies": policies,
        "comparison": None,
        "gate": None,
    }
    if judgement.verdicts:
        answer["gate"] = {
            "passed": judgement.passed,
            "policies": [
                {
                    "checkpoint": name,
                    "passed": verdict.passed,
                    "left": _plain(verdict.left),
                    "right": _plain(verdict.right),
                    "why": verdict.why,
                }
                for name, verdict in judgement.verdicts.items()
            ],
        }
    if (comparison := judgement.comparison) is not None:
        answer["comparison"] = {
            "rank_by": comparison.estimator,
            "ranking": list(comparison.ranking),
            "probability_best": dict(comparison.probability_best),
            "undecided": None if comparison.undecided is None else list(comparison.undecided),
            "rank_correlation": _plain(comparison.rank_correlation),
            "regret": {str(k): value for k, value in comparison.regret.items()},
            "mean_squared_error": _plain(comparison.mean_squared_error),
        }
    return answer


def _behavior_report(behavior: ope.EstimatedValue | None) -> dict[str, float] | None:
    if behavior is None or behavior.interval is None:
        return None
    return {"value": behavior.value, "lower": behavior.interval.lower, "upper": behavior.interval.upper}


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
