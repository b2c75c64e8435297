"""A dataset from what an endpoint captured and the rewards that were reported: rows that training and estimates read.

The probabilities of a row are those that the answer holds, and its action is the one that was drawn by them: nothing is
drawn, scaled or filled in here. What cannot be a row is left out and counted.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launcher.endpoints.capture import EPISODE_ATTRIBUTE, STEP_ATTRIBUTE, attributes_of
from launcher.endpoints.files import SPOOL
from launcher.endpoints.payloads import decisions_of, observations_of
from launcher.errors import CaptureError
from launcher.jobs.store import EndpointStore
from launcher.storage import recorded_storage, to_uri


@dataclass
class Report:
    """What became of what was captured.

    Attributes:
        left_out: requests that are in no row, by the reason.
    """

    requests: int = 0
    rewards: int = 0
    rows: int = 0
    episodes: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __str__(self) -> str:
        text = f"{self.rows} rows in {self.episodes} episodes, from {self.requests} requests and {self.rewards} rewards"
        return "".join([text, *(f"\n  left out: {count} ({reason})" for reason, count in self.left_out.items())])


class _Step(NamedTuple):
    """One decision, with what was reported of it."""

    order: tuple[int, int]
    identity: str
    episode: str | None
    step: int | None
    variant: str
    observation: list[float]
    probabilities: list[float]
    action: int | None
    reward: float | None
    terminated: bool | None
    truncated: bool | None


class Row(NamedTuple):
    """A row of the dataset; ``next_observation`` where the log goes on after a truncated episode's last row."""

    step: _Step
    episode_id: str
    number: int
    reward: float
    terminated: int
    truncated: int
    next_observation: list[float] | None = None


def build_rows(
    lines: Iterable[tuple[str, Mapping[str, Any]]], default_reward: float | None = None
) -> tuple[list[Row], Report]:
    """Join captured answers with rewards.

    Args:
        lines: variant and line of each event, and of each reward, in the order of their files.
        default_reward: of requests that nobody reported a reward for; None leaves them out.
    Returns:
        The rows, episode by episode, and what was left out.
    Raises:
        CaptureError: a line is no decision of a policy, or two reports contradict one another.
    """
    report = Report()
    events: list[tuple[str, Mapping[str, Any]]] = []
    rewards: dict[str, Mapping[str, Any]] = {}
    for variant, line in lines:
        if "groundTruthData" in line:
            rewards[str(line["eventMetadata"]["eventId"])] = _parsed_reward(line)
        else:
            events.append((variant, line))
    events.sort(key=lambda event: int(event[1]["eventMetadata"].get("sequence", 0)))
    report.requests, report.rewards = len(events), len(rewards)
    steps, used = _steps(events, rewards, default_reward, report)
    if unknown := len(rewards.keys() - used):
        report.left_out["rewards whose id no request has"] = unknown
    rows = [row for steps_of in _episodes(steps) for row in _episode_rows(steps_of, report)]
    report.rows, report.episodes = len(rows), len({row.episode_id for row in rows})
    return rows, report


def write_csv(rows: list[Row], path: Path) -> None:
    """Write rows as CSV; the file is there whole, or not at all.

    Raises:
        CaptureError: rows have observations of different lengths, or there is no row.
    """
    if not rows:
        raise CaptureError("there is no row to write.", "Report rewards with: launcher endpoints reward NAME ID VALUE")
    size = len(rows[0].step.observation)
    for row in rows:
        if len(row.step.observation) != size:
            raise CaptureError(
                f"request {row.step.identity} has {len(row.step.observation)} numbers, others have {size}.",
                "Make a dataset of each model by itself.",
            )
    features = [f"state_feature_{index}" for index in range(size)]
    goes_on = any(row.next_observation is not None for row in rows)
    following = [f"next_{name}" for name in features] if goes_on else []
    columns = ["episode_id", "step", *features, "action", "all_action_probabilities", "reward", "terminated"]
    columns += ["truncated", *following, "inference_id", "variant"]
    blank: list[Any] = [""] * size
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in rows:
                after: list[Any] = list(row.next_observation or blank) if goes_on else []
                writer.writerow(
                    [
                        *(row.episode_id, row.number, *row.step.observation, row.step.action),
                        *(json.dumps(row.step.probabilities), row.reward, row.terminated, row.truncated),
                        *(*after, row.step.identity, row.step.variant),
                    ]
                )
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def read_lines(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield variant and line of what was captured below a folder; half a line at the end of a file is left out.

    Raises:
        CaptureError: a whole line is not JSON.
    """
    for path in sorted(folder.rglob("*.jsonl")):
        variant = path.relative_to(folder).parts[0]
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield variant, json.loads(line)
                except ValueError as error:
                    raise CaptureError(f"{path}, line {number} is not JSON: {error}.", "Move the file away.") from error


def _parsed_reward(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a line of ground truth says; a bare number of AWS's form is a reward."""
    data = line["groundTruthData"]["data"]
    try:
        value = json.loads(data)
        return value if isinstance(value, dict) else {"Reward": float(value)}
    except (TypeError, ValueError) as error:
        raise CaptureError(f"the reward {data!r:.60} of {line['eventMetadata']['eventId']} is no number.") from error


def _steps(
    events: list[tuple[str, Mapping[str, Any]]],
    rewards: Mapping[str, Mapping[str, Any]],
    default_reward: float | None,
    report: Report,
) -> tuple[list[_Step], set[str]]:
    """Return the decisions of all events, the last of those with one id; and the ids whose rewards were used."""
    steps: dict[str, _Step] = {}
    used: set[str] = set()
    for position, (variant, line) in enumerate(events):
        metadata = line["eventMetadata"]
        event_id, inference_id = str(metadata["eventId"]), metadata.get("inferenceId")
        try:
            observations = observations_of(line["captureData"]["endpointInput"])
            decisions = decisions_of(line["captureData"]["endpointOutput"])
        except KeyError as error:
            raise CaptureError(
                f"event {event_id} has no {error}.", "Capture requests and answers: capture_options of the config."
            ) from error
        except CaptureError as error:
            raise CaptureError(f"event {event_id}: {error.message}", error.hint) from error
        if len(observations) != len(decisions):
            raise CaptureError(f"event {event_id} has {len(observations)} observations and {len(decisions)} answers.")
        attributes = attributes_of(",".join(metadata.get("customAttributes", ())))
        episode = attributes.get(EPISODE_ATTRIBUTE)
        if episode is not None and len(observations) > 1:
            raise CaptureError(
                f"event {event_id} has {len(observations)} observations of one episode.",
                "Ask for one step of an episode at a time.",
            )
        for index, (observation, decision) in enumerate(zip(observations, decisions, strict=True)):
            suffix = f"/{index}" if len(observations) > 1 else ""
            identity = f"{inference_id or event_id}{suffix}"
            name = next((name for name in (identity, f"{event_id}{suffix}") if name in rewards), None)
            reported = rewards[name] if name else {}
            used |= {name} if name else set()
            if identity in steps:
                report.left_out["repeated with the same inference id: the last one counts"] += 1
            steps[identity] = _Step(
                order=(int(metadata.get("sequence", 0)), position),
                identity=identity,
                episode=episode,
                step=_step_number(attributes, event_id),
                variant=variant,
                observation=observation,
                probabilities=decision.probabilities,
                action=_action(decision.action, reported.get("Action"), identity, decision.probabilities),
                reward=reported.get("Reward", default_reward),
                terminated=reported.get("Terminated"),
                truncated=reported.get("Truncated"),
            )
    return sorted(steps.values()), used


def _step_number(attributes: Mapping[str, str], event_id: str) -> int | None:
    text = attributes.get(STEP_ATTRIBUTE)
    if text is None:
        return None
    if not text.isdecimal():
        raise CaptureError(f"event {event_id}: step={text!r:.40} is no whole number from 0.")
    return int(text)


def _action(drawn: int | None, reported: int | None, identity: str, probabilities: list[float]) -> int | None:
    """Return the action that was taken: the one that was drawn with the answer, else the one the application reports.

    Raises:
        CaptureError: the two differ: then the probabilities are not those that the action was drawn with.
    """
    if drawn is not None and reported is not None and drawn != reported:
        raise CaptureError(
            f"request {identity} was answered with action {drawn}, and action {reported} was reported.",
            "An action that the application chose by itself has another probability than the one captured.",
        )
    action = reported if drawn is None else drawn
    if action is not None and not action < len(probabilities):
        raise CaptureError(f"request {identity}: action {action} is none of {len(probabilities)}.")
    return action


def _episodes(steps: list[_Step]) -> list[list[_Step]]:
    """Return the steps of each episode, in the order of the first; a step that names no episode is one by itself."""
    episodes: dict[tuple[bool, str], list[_Step]] = defaultdict(list)
    for step in steps:
        episodes[step.episode is None, step.episode or step.identity].append(step)
    return list(episodes.values())


def _episode_rows(steps: list[_Step], report: Report) -> list[Row]:
    """Return the rows of an episode; none where it cannot be told what happened in it."""
    first = steps[0]
    alone = first.episode is None
    episode_id = first.identity if alone else str(first.episode)
    if any(step.action is None for step in steps):
        report.left_out["no action: neither the answer nor a report names it"] += len(steps)
        return []
    if not alone:
        ordered = _in_order(steps, episode_id, report)
        if ordered is None:
            report.left_out["of episodes with a gap in their steps"] += len(steps)
            return []
        steps = ordered
    following = None
    if not alone and len(steps) > 1 and steps[-1].reward is None:
        # The episode goes on: its last request says what came after the one before.
        following = steps.pop()
        report.left_out["the last of an episode that goes on, without a reward yet"] += 1
    if any(step.reward is None for step in steps):
        reason = "no reward was reported" if alone else "of episodes in which a reward is missing"
        report.left_out[reason] += len(steps)
        return []
    for step in steps[:-1]:
        if step.terminated or step.truncated:
            raise CaptureError(
                f"episode {episode_id!r:.60} goes on after request {step.identity} had ended it.",
                "Give every episode an id of its own.",
            )
    last = steps[-1]
    terminated = bool(last.terminated) if last.terminated is not None or not alone else not last.truncated
    if following is not None and (terminated or last.truncated):
        raise CaptureError(
            f"episode {episode_id!r:.60} goes on after request {last.identity} had ended it.",
            "Give every episode an id of its own.",
        )
    numbers = [step.step if step.step is not None else index for index, step in enumerate(steps)]
    rows = []
    for number, step in zip(numbers, steps, strict=True):
        is_last = step is last
        rows.append(
            Row(
                step=step,
                episode_id=episode_id,
                number=number,
                reward=float(step.reward or 0.0),
                terminated=int(is_last and terminated),
                truncated=int(is_last and not terminated),
                next_observation=following.observation if is_last and following is not None else None,
            )
        )
    return rows


def _in_order(steps: list[_Step], episode_id: str, report: Report) -> list[_Step] | None:
    """Return the steps of an episode by their numbers, else as they came; None where one is missing."""
    numbered = [step for step in steps if step.step is not None]
    if not numbered:
        return steps
    if len(numbered) < len(steps):
        raise CaptureError(
            f"episode {episode_id!r:.60} has requests with a step and without.", "Give all of them a step, or none."
        )
    by_number: dict[int, _Step] = {}
    for step in steps:
        number = int(step.step or 0)
        if number in by_number:
            report.left_out["repeated with the same step: the one with a reward counts, else the last"] += 1
            if by_number[number].reward is not None and step.reward is None:
                continue
        by_number[number] = step
    numbers = sorted(by_number)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] != 0:
        return None
    return [by_number[number] for number in numbers]


def captured_lines(
    store: EndpointStore, name: str, destination: str | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield variant and line of all that an endpoint captured: at its destination, and on the way there.

    Args:
        destination: where it captured to; None takes what its record says.
    Raises:
        NotFoundError: there is no such endpoint, and no destination is given.
        CaptureError: it captures nothing, or a line is damaged.
    """
    spool, s3 = store.folder(name).path / SPOOL, None
    if destination is None:
        config = store.load(name).current.config
        if not config.capture:
            raise CaptureError(f"endpoint '{name}' captures nothing.", "Deploy it with a DataCaptureConfig.")
        destination, s3 = str(config.capture["DestinationS3Uri"]), config.s3
    uri = f"{to_uri(destination).rstrip('/')}/{name}"
    with tempfile.TemporaryDirectory(prefix="launcher-") as scratch:
        folders = [folder / name for folder in sorted(spool.glob("*/"))]
        waiting = {path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*.jsonl")}
        folder = Path(uri.removeprefix("file://"))
        if uri.startswith("s3://"):
            folder = Path(scratch)
            storage = recorded_storage(uri, s3)
            uris = {path: place for path, place in storage.files_below(uri).items() if path.endswith(".jsonl")}
            storage.download_all({place: folder / path for path, place in uris.items() if path not in waiting})
        for source in (*folders, folder):
            yield from read_lines(source)
