"""What endpoints captured, joined with rewards: rows with the probability that each action was drawn with."""

import base64
import csv
import io
import json

import numpy as np
import pytest

from launcher.endpoints.capture import Capture, CaptureSettings, Event
from launcher.endpoints.dataset import build_rows, read_lines, write_csv
from launcher.endpoints.payloads import decisions_of, observations_of
from launcher.errors import CaptureError
from launcher.storage import FileStorage


def event(identity="a", *, action=1, probabilities=(0.25, 0.75), observation=(1.0, 2.0), attributes=None, output=None):
    document = {"predictions": [list(probabilities)]} | ({} if action is None else {"actions": [action]})
    return Event(
        event_id=f"event-{identity}",
        inference_id=identity,
        custom_attributes=attributes,
        variant="AllTraffic",
        input=json.dumps({"instances": [list(observation)]}).encode(),
        input_type="application/json",
        output=output or json.dumps(document).encode(),
        output_type="application/json",
    )


@pytest.fixture
def log(tmp_path):
    """Return a log that events and rewards are written to, and its rows."""
    capture = Capture("e", CaptureSettings(f"file://{tmp_path}/log"), tmp_path / "spool", FileStorage())

    class Log:
        folder = tmp_path / "log" / "e"

        def event(self, *arguments, **options):
            capture.write(event(*arguments, **options))

        def reward(self, identity="a", reward=1.0, **values):
            capture.reward({"Reward": reward, **values}, identity)

        def rows(self, **options):
            return build_rows(read_lines(self.folder), **options)

    return Log()


def test_a_row_has_the_probabilities_and_the_action_of_the_answer(log):
    log.event("a", action=0, probabilities=(0.125, 0.875))
    log.reward("a", 3)
    [row], report = log.rows()
    assert (row.step.probabilities, row.step.action, row.reward) == ([0.125, 0.875], 0, 3.0)
    assert (row.step.observation, row.terminated, row.truncated) == ([1.0, 2.0], 1, 0)
    assert (report.requests, report.rewards, report.rows) == (1, 1, 1)


def test_rewards_are_joined_by_the_events_id_as_well(log):
    log.event("a")
    log.reward("event-a", 2)
    assert log.rows()[0][0].reward == 2.0


def test_steps_of_an_episode_stand_in_their_order_and_end_as_reported(log):
    for step in (1, 0, 2):
        log.event(f"s{step}", observation=[step], attributes=f"episode_id=7,step={step}")
    for step in range(3):
        log.reward(f"s{step}", step, **({"Terminated": True} if step == 2 else {}))
    rows, _ = log.rows()
    assert [(row.number, row.reward, row.terminated, row.truncated) for row in rows] == [
        (0, 0.0, 0, 0),
        (1, 1.0, 0, 0),
        (2, 2.0, 1, 0),
    ]


def test_an_episode_that_goes_on_is_truncated_with_the_observation_that_came_next(log):
    for step in range(3):
        log.event(f"s{step}", observation=[step], attributes=f"episode_id=7;step={step}")
    log.reward("s0")
    log.reward("s1")
    rows, report = log.rows()
    assert [(row.terminated, row.truncated, row.next_observation) for row in rows] == [(0, 0, None), (0, 1, [2.0])]
    assert sum(report.left_out.values()) == 1


def test_requests_without_a_reward_are_left_out_and_counted(log):
    log.event("a")
    log.event("b")
    log.reward("b")
    rows, report = log.rows()
    assert [row.step.identity for row in rows] == ["b"]
    assert dict(report.left_out) == {"no reward was reported": 1}
    assert [row.reward for row in log.rows(default_reward=0.0)[0]] == [0.0, 1.0]


@pytest.mark.parametrize("missing", [0, 1])
def test_an_episode_with_a_missing_step_or_reward_is_left_out_whole(log, missing):
    """A log without it would show a transition that never was."""
    for step in range(3):
        if missing or step != 1:
            log.event(f"s{step}", attributes=f"episode_id=7,step={step}")
        if not missing or step != 1:
            log.reward(f"s{step}")
    assert log.rows()[0] == []


def test_of_two_answers_with_one_inference_id_the_last_counts(log):
    """A client that got no answer asks again; nobody has seen the first one."""
    log.event("a", action=0)
    log.event("a", action=1)
    log.reward("a")
    [row], report = log.rows()
    assert row.step.action == 1
    assert sum(report.left_out.values()) == 1


def test_an_episode_that_goes_on_after_its_end_is_refused(log):
    for step in range(2):
        log.event(f"s{step}", attributes=f"episode_id=7,step={step}")
        log.reward(f"s{step}", Terminated=True)
    with pytest.raises(CaptureError, match="goes on after request s0 had ended it"):
        log.rows()


def test_an_action_that_was_not_drawn_with_the_answer_is_refused(log):
    log.event("a", action=1)
    log.reward("a", Action=0)
    with pytest.raises(CaptureError, match="answered with action 1, and action 0 was reported"):
        log.rows()


def test_an_application_that_draws_by_itself_reports_its_action(log):
    log.event("a", action=None)
    log.event("b", action=None)
    log.reward("a", Action=0)
    log.reward("b")
    rows, report = log.rows()
    assert [row.step.action for row in rows] == [0]
    assert dict(report.left_out) == {"no action: neither the answer nor a report names it": 1}


def test_an_answer_without_probabilities_is_named(log):
    log.event("a", output=b'{"answer": "yes"}')
    with pytest.raises(CaptureError, match="event event-a: the answer holds no probabilities"):
        log.rows()


def test_half_a_line_at_the_end_of_a_file_is_left_out(log):
    log.event("a")
    log.reward("a")
    [path] = (log.folder / "AllTraffic").rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"captureData": {"endpointInp')
    assert len(log.rows()[0]) == 1


def test_the_csv_is_read_by_training_as_it_stands(log, tmp_path):
    """The checks of ``batch_rl`` find nothing, and its episodes have the same numbers."""
    import pandas as pd

    from batch_rl.data.tables import CSV_LINES, check_frame

    for episode in range(2):
        for step in range(2):
            log.event(f"{episode}.{step}", observation=[episode, step], attributes=f"episode_id={episode},step={step}")
            log.reward(f"{episode}.{step}", step, **({"Terminated": True} if step == 1 else {}))
    write_csv(log.rows()[0], tmp_path / "log.csv")
    report, episodes = check_frame(pd.read_csv(tmp_path / "log.csv"), source="log.csv", labels=CSV_LINES)
    assert not report.problems
    assert [episode.rewards.tolist() for episode in episodes] == [[0.0, 1.0], [0.0, 1.0]]
    first = next(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert first["all_action_probabilities"] == "[0.25, 0.75]"


def payload(data, kind, encoding="CSV"):
    return {"data": data, "observedContentType": kind, "encoding": encoding}


def npy(values):
    file = io.BytesIO()
    np.save(file, np.array(values))
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("data", "kind", "encoding"),
    [
        ("1,2\n3,4\n", "text/csv", "CSV"),
        ("[[1, 2], [3, 4]]", "application/json; charset=utf-8", "JSON"),
        ('{"instances": [{"features": [1, 2]}, {"features": [3, 4]}]}', "application/json", "JSON"),
        ('{"features": [1, 2]}\n[3, 4]\n', "application/jsonlines", "JSON"),
        (npy([[1.0, 2.0], [3.0, 4.0]]), "application/x-npy", "BASE64"),
        (base64.b64encode(b"1,2\n3,4\n").decode(), "text/csv", "BASE64"),
    ],
)
def test_observations_are_read_in_every_format_that_the_bundled_server_takes(data, kind, encoding):
    assert observations_of(payload(data, kind, encoding)) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("data", "kind", "actions"),
    [
        ("0.25,0.75,1\n1.0,0.0,0\n", "text/csv", [1, 0]),
        ("0.25,0.75\n1.0,0.0\n", "text/csv", [None, None]),
        (
            '{"predictions": [[0.25, 0.75]], "actions": [1]}\n{"predictions": [[1.0, 0.0]], "actions": [0]}\n',
            "",
            [1, 0],
        ),
    ],
)
def test_probabilities_and_actions_are_read_in_every_format(data, kind, actions):
    decisions = decisions_of(payload(data, kind or "application/jsonlines"))
    assert [decision.probabilities for decision in decisions] == [[0.25, 0.75], [1.0, 0.0]]
    assert [decision.action for decision in decisions] == actions


def test_whole_numbers_alone_name_no_action():
    """ "1,0,0" may be three probabilities, so it is not taken for two and an action."""
    assert decisions_of(payload("1,0,0\n", "text/csv"))[0] == ([1.0, 0.0, 0.0], None)
