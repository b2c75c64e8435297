"""The server's three paths, its limits, its variables, and requests that are answered together."""

import asyncio
import collections

import numpy as np
import pytest

from model_server.errors import RequestError, ServingError
from model_server.policy import choose_actions
from model_server.settings import MIB, read_settings
from tests.container.asking import ask, code_application, exchange, policy_application


def test_ping_is_an_empty_200():
    reply = ask(policy_application(), method="GET", path="/ping")
    assert (reply.status, reply.body) == (200, b"")


def test_execution_parameters_are_those_that_batch_transform_reads():
    reply = ask(policy_application(SAGEMAKER_MODEL_SERVER_WORKERS="2"), method="GET", path="/execution-parameters")
    assert reply.json() == {"MaxConcurrentTransforms": 8, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("POST", "/ping", 405), ("DELETE", "/execution-parameters", 405), ("GET", "/", 404)],
)
def test_other_paths_and_methods_are_refused(method, path, status):
    assert ask(policy_application(), method=method, path=path).status == status


@pytest.mark.parametrize("parts", [[b"1" * (MIB + 1)], [b"1" * MIB, b"1"]])
def test_a_body_over_the_limit_is_413(parts):
    reply = ask(policy_application(SAGEMAKER_MAX_PAYLOAD_IN_MB="1"), parts)
    assert (reply.status, reply.json()) == (413, {"error": "the body is larger than 1048576 bytes."})


def test_a_body_that_says_it_is_over_the_limit_is_not_read():
    reply = ask(policy_application(), b"[1, 2]", content_length=str(6 * MIB + 1))
    assert reply.status == 413
    assert ask(policy_application(), b"[1, 2]", content_length=str(6 * MIB)).status == 200


def test_a_body_may_arrive_in_parts():
    assert ask(policy_application(), [b"[[-1, ", b"", b"2]]"]).json()["predictions"] == [[0.25, 0.75]]


def test_an_encoded_body_is_415():
    assert ask(policy_application(), b"[1, 2]", content_encoding="gzip").status == 415
    assert ask(policy_application(), b"[1, 2]", content_encoding="identity").status == 200


def test_each_failure_is_one_line_of_the_log_and_an_answer_none(capsys):
    application = policy_application()
    ask(application, b"[1, 2]")
    ask(application, b"[1]")
    line = "serve: 400 POST /invocations: record 1 has 1 values; the model takes 2.\n"
    assert capsys.readouterr().err == line


def test_actions_are_drawn_with_the_probabilities_that_the_answer_states():
    """By hand: 10,000 draws at 0.25 have a deviation of 43, so 2500 is missed by more than 260 one time in 1e9."""
    reply = ask(policy_application(), str([[-1, 0]] * 10_000))
    counts = collections.Counter(reply.json()["actions"])
    assert abs(counts[0] - 2500) < 260
    assert counts[0] + counts[1] == 10_000


def test_an_action_of_probability_0_is_never_drawn():
    class Ends(np.random.Generator):
        def random(self, size):
            return np.array([0.0, np.nextafter(1.0, 0.0)])[:size]

    probabilities = np.array([[0.0, 0.3, 0.7 - 1e-9, 0.0]] * 2)
    drawn = choose_actions(probabilities, "softmax", Ends(np.random.PCG64(0)))
    assert drawn.actions.tolist() == [1, 2]


@pytest.mark.parametrize("place", ["variable", "attribute"])
def test_the_greedy_action_is_answered_with_probability_1(place):
    """So the answer states the probabilities of the policy that acted, whichever it was."""
    application = policy_application(LAUNCHER_SERVE_POLICY="greedy" if place == "variable" else "")
    attributes = "" if place == "variable" else "trace=7; policy=greedy"
    reply = ask(application, b"[[-1, 0], [1, 0]]", x_amzn_sagemaker_custom_attributes=attributes)
    assert reply.json() == {"predictions": [[0.0, 1.0], [1.0, 0.0]], "actions": [1, 0]}


def test_a_request_may_ask_for_the_drawing_policy_of_a_greedy_server():
    application = policy_application(LAUNCHER_SERVE_POLICY="greedy")
    reply = ask(application, b"[-1, 0]", x_amzn_sagemaker_custom_attributes="policy=softmax")
    assert reply.json()["predictions"] == [[0.25, 0.75]]


def test_a_seed_in_the_request_decides_what_is_drawn():
    body = str([[1, 0]] * 200)
    replies = [
        ask(policy_application(), body, x_amzn_sagemaker_custom_attributes=f"seed={seed}").json()["actions"]
        for seed in (7, 7, 8)
    ]
    assert replies[0] == replies[1] != replies[2]


@pytest.mark.parametrize("attributes", ["policy=best", "seed=-1", "seed=x"])
def test_a_wrong_custom_attribute_is_400(attributes):
    reply = ask(policy_application(), b"[1, 2]", x_amzn_sagemaker_custom_attributes=attributes)
    assert reply.status == 400
    assert attributes in reply.json()["error"]


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "SAGEMAKER_MULTI_MODEL=true asks for a multi-model endpoint"),
        ({"SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT is 'http'"),
        ({"SAGEMAKER_BIND_TO_PORT": "65536"}, "SAGEMAKER_BIND_TO_PORT is '65536'"),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "0"}, "SAGEMAKER_MODEL_SERVER_WORKERS is '0'"),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "-1"}, "SAGEMAKER_MODEL_SERVER_TIMEOUT is '-1'"),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "nan"}, "SAGEMAKER_MODEL_SERVER_TIMEOUT is 'nan'"),
        ({"LAUNCHER_SERVE_BATCH_SIZE": "0"}, "LAUNCHER_SERVE_BATCH_SIZE is '0'"),
        ({"LAUNCHER_SERVE_POLICY": "best"}, "LAUNCHER_SERVE_POLICY is 'best'; use one of: softmax, greedy"),
    ],
)
def test_a_variable_without_a_usable_value_is_refused_by_name(variables, reason):
    with pytest.raises(ServingError, match=reason):
        read_settings(variables)


def test_the_limits_of_a_batch_transform_are_those_it_was_asked_with():
    assert read_settings({}).max_body_bytes == 6 * MIB
    assert read_settings({"SAGEMAKER_BATCH": "true"}).max_body_bytes == 100 * MIB
    batch = read_settings({"SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"})
    assert (batch.max_body_bytes, batch.timeout_seconds) == (0, 600)
    assert read_settings({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "7"}).timeout_seconds == 7


COUNTING = """
calls = []
def model_fn(folder): return None
def predict_fn(inputs, model):
    calls.append(len(inputs))
    if (inputs < 0).any():
        raise ValueError("negative")
    return inputs * 2
def output_fn(prediction, accept): return "%s of %s" % (prediction.tolist(), max(calls)), "text/plain"
"""


def asked_together(application, bodies):
    async def gather():
        return await asyncio.gather(*(exchange(application, body) for body in bodies))

    return asyncio.run(gather())


def test_requests_that_come_together_are_predicted_together_if_that_is_asked_for(tree):
    """The time they may wait is an hour: what ends the wait is that there are three records."""
    application = code_application(
        tree, COUNTING, LAUNCHER_SERVE_BATCH_SIZE="3", LAUNCHER_SERVE_BATCH_MILLISECONDS="3600000"
    )
    replies = asked_together(application, [b"[[1]]", b"[[2], [3]]"])
    assert [reply.body for reply in replies] == [b"[[2]] of 3", b"[[4], [6]] of 3"]


def test_a_request_waits_no_longer_than_was_asked_for(tree):
    application = code_application(
        tree, COUNTING, LAUNCHER_SERVE_BATCH_SIZE="100", LAUNCHER_SERVE_BATCH_MILLISECONDS="1"
    )
    assert ask(application, b"[[1]]").body == b"[[2]] of 1"


def test_requests_of_other_shapes_are_not_mixed(tree):
    application = code_application(tree, COUNTING, LAUNCHER_SERVE_BATCH_SIZE="2", LAUNCHER_SERVE_BATCH_MILLISECONDS="1")
    replies = asked_together(application, [b"[[1]]", b"[[2, 3]]"])
    assert [reply.body for reply in replies] == [b"[[2]] of 1", b"[[4, 6]] of 1"]


def test_one_bad_request_of_a_batch_fails_alone(tree):
    application = code_application(
        tree, COUNTING, LAUNCHER_SERVE_BATCH_SIZE="3", LAUNCHER_SERVE_BATCH_MILLISECONDS="3600000"
    )
    replies = asked_together(application, [b"[[1]]", b"[[-1]]", b"[[3]]"])
    assert [reply.status for reply in replies] == [200, 500, 200]


def test_a_policy_too_is_asked_for_several_requests_at_once():
    application = policy_application(LAUNCHER_SERVE_BATCH_SIZE="2", LAUNCHER_SERVE_BATCH_MILLISECONDS="3600000")
    replies = asked_together(application, [b"[-1, 0]", b"[1, 0]"])
    assert [reply.json()["predictions"] for reply in replies] == [[[0.25, 0.75]], [[0.75, 0.25]]]


def test_batches_and_a_transform_fn_exclude_one_another(tree):
    code = "def model_fn(f): pass\ndef transform_fn(m, b, c, a): pass\n"
    with pytest.raises(ServingError, match="LAUNCHER_SERVE_BATCH_SIZE"):
        code_application(tree, code, LAUNCHER_SERVE_BATCH_SIZE="2")


def test_a_request_over_the_timeout_is_504_and_the_next_one_is_answered(tree):
    code = """
import threading
release = threading.Event()
def model_fn(folder): return release
def predict_fn(inputs, model):
    if inputs[0]:
        model.wait()
    return 1
"""
    application = code_application(tree, code, SAGEMAKER_MODEL_SERVER_TIMEOUT="0.05")
    try:
        replies = asked_together(application, [b"[1]", b"[0]"])
        assert [reply.status for reply in replies] == [504, 200]
        assert "SAGEMAKER_MODEL_SERVER_TIMEOUT" in replies[0].json()["error"]
        assert application.is_stuck
    finally:
        application.handlers.model.set()


def test_the_functions_of_a_user_see_one_request_at_a_time(tree):
    code = """
import threading, time
inside = []
def model_fn(folder): return None
def predict_fn(inputs, model):
    inside.append(1)
    time.sleep(0.01)
    seen = len(inside)
    inside.pop()
    return seen
"""
    replies = asked_together(code_application(tree, code), [b"[1]"] * 5)
    assert [reply.json() for reply in replies] == [1] * 5


def test_a_slow_function_does_not_hold_up_ping(tree):
    code = """
import threading
def model_fn(folder): return threading.Event(), threading.Event()
def predict_fn(inputs, model):
    started, release = model
    started.set()
    return release.wait(30)
"""
    application = code_application(tree, code)
    started, release = application.handlers.model

    async def ping_meanwhile():
        slow = asyncio.ensure_future(exchange(application, b"[1]"))
        while not started.is_set():
            await asyncio.sleep(0.001)
        ping = await exchange(application, method="GET", path="/ping")
        answered_first = not slow.done()
        release.set()
        return ping.status, answered_first, (await slow).json()

    assert asyncio.run(ping_meanwhile()) == (200, True, True)


def test_an_observation_without_an_answer_names_its_record():
    with pytest.raises(RequestError, match="record 2: the model gives no probabilities"):
        choose_actions(np.array([[0.5, 0.5], [np.nan, np.nan]]), "softmax", np.random.default_rng(0))
