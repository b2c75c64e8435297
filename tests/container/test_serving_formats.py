"""What the model server reads and writes, and the reason it gives for what it does not."""

import io
import json

import numpy as np
import pytest

from model_server.formats import decode_observations
from tests.container.asking import ask, code_application, policy_application

JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
TWO = [[-1.0, 2.0], [3.0, 4.5]]


def npy(values) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b"[[-1, 2], [3, 4.5]]"),
        (JSON, b'\xef\xbb\xbf {"instances": [[-1, 2], [3, 4.5]]}'),
        (JSON, b'{"inputs": [[-1, 2], [3, 4.5]], "note": "not read"}'),
        (JSON, b'{"observations": [[-1, 2], [3, 4.5]]}'),
        (JSON, b'{"instances": [{"features": [-1, 2]}, {"features": [3, 4.5]}]}'),
        ("application/json; charset=utf-8", b"[[-1, 2], [3, 4.5]]"),
        ("", b"[[-1, 2], [3, 4.5]]"),
        (JSON_LINES, b"[-1, 2]\n[3, 4.5]"),
        (JSON_LINES, b'[-1, 2]\r\n\n{"features": [3, 4.5], "id": 7}\n\n'),
        ("application/x-jsonlines", b'{"observation": [-1, 2]}\n{"inputs": [3, 4.5]}\n'),
        (CSV, b"-1,2\n3,4.5\n"),
        ("text/csv; header=absent", b'"-1", 2\r\n3,4.5'),
        (NPY, npy(np.array(TWO))),
        (NPY, npy(np.array(TWO, dtype=">f4"))),
    ],
)
def test_records_are_read_from_every_format_and_answered_in_their_order(content_type, body):
    reply = ask(policy_application(), body, content_type=content_type)
    assert reply.status == 200, reply.body
    assert reply.json()["predictions"] == [[0.25, 0.75], [0.75, 0.25]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [(JSON, b"[-1, 2]"), (JSON, b'{"features": [-1, 2]}'), (NPY, npy(np.array([-1, 2]))), (CSV, b"-1,2")],
)
def test_one_record_may_come_by_itself(content_type, body):
    reply = ask(policy_application(), body, content_type=content_type)
    assert reply.json()["predictions"] == [[0.25, 0.75]]


BAD_BODIES = [
    (JSON, b"", 400, "the body is empty"),
    (JSON, b"   ", 400, "the body is not JSON"),
    (JSON, b"{", 400, "the body is not JSON"),
    (JSON, b"[[1, 2]", 400, "the body is not JSON"),
    (JSON, b"\xff\xfe[", 400, "byte 1 of the body is not UTF-8"),
    (JSON, b"[" * 100_000, 400, "nested too deeply"),
    (JSON, b"[]", 400, "no record"),
    (JSON, b"null", 400, "the body is null, not a list of records"),
    (JSON, b'"text"', 400, 'the body is "text", not a list of records'),
    (JSON, b"{}", 400, "none of the keys instances, inputs, observations, features"),
    (JSON, b'{"instances": []}', 400, "no record"),
    (JSON, b'{"instances": 3}', 400, "the body is 3, not a list of records"),
    (JSON, b"[1, 2, 3]", 400, "record 1 has 3 values; the model takes 2"),
    (JSON, b"[[1, 2], [3]]", 400, "record 2 has 1 values; the model takes 2"),
    (JSON, b"[[1, 2], 3]", 400, "record 2 is 3, not a list of numbers"),
    (JSON, b'[[1, 2], {"x": 1}]', 400, 'record 2 is {"x": 1}, not a list'),
    (JSON, b'[[1, 2], [1, "2"]]', 400, 'record 2, value 2 is "2", which is no number'),
    (JSON, b"[[1, true], [[1], 2]]", 400, "record 1, value 2 is true, which is no number"),
    (JSON, b"[[1, [2]]]", 400, "record 1, value 2 is [2], which is no number"),
    (JSON, b"[[1, 2], [1, null]]", 400, "record 2: the model gives no probabilities"),
    (JSON, b"[[1, 1e300]]", 400, "record 1: the model gives no probabilities"),
    (JSON, b"[[1, 1" + b"0" * 400 + b"]]", 400, "record 1, value 2 is larger than any float"),
    (JSON_LINES, b"\n\n", 400, "no record"),
    (JSON_LINES, b"[1, 2]\n[1, 2\n", 400, "record 2 is not JSON"),
    (JSON_LINES, b"[1, 2]\n[1, 2], [3, 4]\n", 400, "record 2 is not JSON"),
    (JSON_LINES, b"[1, 2]\n[[1, 2], [3, 4]]\n", 400, "record 2, value 1 is [1, 2], which is no number"),
    (CSV, b"a,b\n1,2\n", 400, 'record 1, value 1 is "a", which is no number'),
    (CSV, b"1,2\n1,2,3\n", 400, "record 2 has 3 values"),
    (CSV, b"1,2\n1,\n", 400, "record 2: the model gives no probabilities"),
    (CSV, b"1,2 3,4\n", 400, "record 1"),
    (CSV, b"1,2\n1 2,3\n", 400, 'record 2, value 1 is "1 2", which is no number'),
    (CSV, b"1,2,3\n1\n", 400, "record 1 has 3 values"),
    (CSV, b"1,-\n", 400, 'record 1, value 2 is "-", which is no number'),
    (JSON_LINES, b"[1, 2]\n[1 2, 3]\n", 400, "record 2 is not JSON"),
    (JSON_LINES, b"[1, 2]]\n[[1, 2]\n", 400, "record 1 is not JSON"),
    (JSON_LINES, b"[1, 2, 3]\n[1]\n", 400, "record 1 has 3 values"),
    (CSV, b"1;2\n", 400, 'record 1, value 1 is "1;2", which is no number'),
    (NPY, b"no array", 400, "no array of the NPY format"),
    (NPY, npy(np.zeros((2, 3))), 400, "shape is (2, 3); the model takes (records, 2)"),
    (NPY, npy(np.zeros((0, 2))), 400, "no record"),
    (NPY, npy(np.array([["a", "b"]])), 400, "which is no number"),
    (NPY, npy(np.array([{}], dtype=object)), 400, "no array of the NPY format"),
    ("image/png", b"\x89PNG", 415, "Content-Type 'image/png' is not read here"),
]


@pytest.mark.parametrize(("content_type", "body", "status", "reason"), BAD_BODIES)
def test_a_bad_body_is_answered_with_the_record_and_the_reason(content_type, body, status, reason):
    reply = ask(policy_application(), body, content_type=content_type)
    assert (reply.status, reply.headers["content-type"]) == (status, JSON)
    assert reason in reply.json()["error"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/*", CSV),
        ("text/html, application/xml;q=0.9, */*;q=0.8", JSON),
        ("application/json;q=0.1, text/csv", CSV),
        ("application/jsonlines", JSON_LINES),
        ("Application/X-NPY", NPY),
    ],
)
def test_the_accept_header_chooses_the_format_of_the_answer(accept, expected):
    reply = ask(policy_application(), b"[1, 2]", accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (200, expected)


def test_a_variable_chooses_the_format_where_the_request_leaves_it_open():
    application = policy_application(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT=CSV)
    assert ask(application, b"[1, 2]", accept="*/*").headers["content-type"] == CSV
    assert ask(application, b"[1, 2]").headers["content-type"] == CSV
    assert ask(application, b"[1, 2]", accept=JSON).headers["content-type"] == JSON


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;q=much"])
def test_an_answer_in_no_format_that_is_accepted_is_406(accept):
    reply = ask(policy_application(), b"[1, 2]", accept=accept)
    assert reply.status == 406
    assert "text/csv" in reply.json()["error"]


def test_lines_of_an_answer_are_one_to_one_with_the_records():
    records = "".join(f"[{index % 3 - 1}, 0]\n" for index in range(1000))
    expected = [[0.25, 0.75] if index % 3 == 0 else [0.75, 0.25] for index in range(1000)]
    greedy = {"x_amzn_sagemaker_custom_attributes": "policy=greedy"}
    lines = ask(policy_application(), records, content_type=JSON_LINES, accept=JSON_LINES).body.decode().splitlines()
    assert [json.loads(line)["predictions"] for line in lines] == [[row] for row in expected]
    rows = ask(policy_application(), records, content_type=JSON_LINES, accept=CSV, **greedy).body.decode().splitlines()
    assert rows == ["0.0,1.0,1" if row[0] == 0.25 else "1.0,0.0,0" for row in expected]


@pytest.mark.parametrize("content_type", [JSON, JSON_LINES, CSV])
def test_numbers_arrive_as_they_were_written_in_whatever_way(content_type):
    """Lines of nothing but numbers are read another way than those of an object, and must mean the same."""
    numbers = np.random.default_rng(0).normal(size=(500, 3)) * 10.0 ** np.random.default_rng(1).integers(-300, 300)
    rows = [[*row[:2], int(number)] for number, row in enumerate(numbers.tolist())]
    if content_type == CSV:
        plain = "".join(f"{a!r} , {b:.17E},{c}\r\n" for a, b, c in rows)
        other = "".join(f'"{a!r}",{b!r},{c}\n' for a, b, c in rows)
    elif content_type == JSON_LINES:
        plain = "".join(f" [{a!r},  {b:.17e}, {c} ]\n\n" for a, b, c in rows)
        other = "".join(f'{{"features": {row}}}\n' for row in rows)
    else:
        plain, other = str(rows), json.dumps({"instances": [{"features": row} for row in rows]})
    for text in (plain, other):
        assert decode_observations(text.encode(), content_type, 3).tolist() == rows


def test_npy_answers_hold_the_probabilities():
    reply = ask(policy_application(), b"[[-1, 2], [3, 4.5]]", accept=NPY)
    assert np.load(io.BytesIO(reply.body)).tolist() == [[0.25, 0.75], [0.75, 0.25]]


@pytest.mark.parametrize(
    ("returned", "accept", "expected"),
    [
        ("numpy.arange(3)", JSON, b"[0, 1, 2]"),
        ("{'score': numpy.float32(0.5), 'rows': numpy.eye(1)}", JSON, b'{"score": 0.5, "rows": [[1.0]]}'),
        ("[{'a': 1}, numpy.arange(2)]", JSON_LINES, b'{"a": 1}\n[0, 1]\n'),
        ("numpy.eye(2)", CSV, b"1.0,0.0\n0.0,1.0\n"),
        ("['a', 'b,\"c\"']", CSV, b'a\n"b,""c"""\n'),
        ("0.5", CSV, b"0.5\n"),
    ],
)  # fmt: skip
def test_what_a_users_predict_fn_returns_is_written_in_every_format(returned, accept, expected, tree):
    code = f"import numpy\ndef model_fn(folder): return None\ndef predict_fn(inputs, model): return {returned}\n"
    reply = ask(code_application(tree, code), b"[1]", accept=accept)
    assert (reply.status, reply.body) == (200, expected)


def test_a_prediction_that_no_format_holds_is_500_with_the_type(tree):
    code = "def model_fn(folder): return None\ndef predict_fn(inputs, model): return object()\n"
    reply = ask(code_application(tree, code), b"[1]")
    assert reply.status == 500
    assert "object is nothing that JSON" in reply.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (JSON, b"[[1, 2], [3, 4]]", "ndarray (2, 2)"),
        (JSON, b'{"instances": [1.5, 2]}', "ndarray (2,)"),
        (JSON, b'{"text": "good"}', "dict"),
        (JSON, b'["good", "bad"]', "list"),
        (JSON_LINES, b"[1]\n[2]\n", "ndarray (2, 1)"),
        (JSON_LINES, b'{"text": "good"}\n', "list"),
        (CSV, b"1,2\n3,\n", "ndarray (2, 2)"),
        (NPY, npy(np.zeros((2, 3, 4))), "ndarray (2, 3, 4)"),
    ],
)
def test_a_users_predict_fn_gets_an_array_where_all_is_numbers_else_the_values(content_type, body, expected, tree):
    code = (
        "def model_fn(folder): return None\n"
        "def predict_fn(inputs, model): return ' '.join([type(inputs).__name__, *([str(inputs.shape)] "
        "if hasattr(inputs, 'shape') else [])])\n"
    )
    assert ask(code_application(tree, code), body, content_type=content_type).json() == expected
