"""The client for containers: answers in every form that servers give them, and connections that end."""

import socket
import threading

import pytest

from launcher.errors import BadInputError
from launcher.serving.http_client import BrokenAnswerError, Invoker, Parser

FORMS = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a length in small letters": b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunks and trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    "an answer to come before it": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
}


@pytest.mark.parametrize("message", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_an_answer_is_whole_whatever_pieces_it_comes_in(message, piece):
    parser = Parser()
    answers = [parser.feed(message[at : at + piece]) for at in range(0, len(message), piece)]
    assert [answer for answer in answers if answer] == [(200, b"hello", "", 1)]
    assert answers[-1] is not None
    assert parser.keeps_alive


def test_an_answer_without_a_length_ends_with_the_connection():
    parser = Parser()
    assert parser.feed(b"HTTP/1.0 200 OK\r\n\r\nhel") is None
    assert parser.feed(b"lo") is None
    assert parser.feed(b"").body == b"hello"
    assert not parser.keeps_alive


def test_an_answer_that_stops_in_the_middle_is_none():
    parser = Parser()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    with pytest.raises(BrokenAnswerError, match="before its answer was whole"):
        parser.feed(b"")


@pytest.mark.parametrize("message", [b"220 smtp\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n"])
def test_what_is_no_http_is_said(message):
    with pytest.raises(BrokenAnswerError):
        Parser().feed(message)


@pytest.mark.parametrize(
    ("fields", "keeps"), [(b"", True), (b"Connection: close\r\n", False), (b"connection: Keep-Alive\r\n", True)]
)
def test_a_server_says_whether_it_keeps_the_connection(fields, keeps):
    parser = Parser()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields + b"\r\n")
    assert parser.keeps_alive is keeps


@pytest.fixture
def server():
    """Return a function that starts a server: each connection is handled by the next function."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections = []

    def start(*handlers):
        def serve():
            for handler in handlers:
                connection, _ = listener.accept()
                connections.append(connection)
                handler(connection)

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()

    yield start
    for connection in connections:
        connection.close()
    listener.close()


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return body


def reply(connection, body=b"ok", status=b"200 OK"):
    connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


def ask(address, *bodies, retries=0, timeout_seconds=10, connections=1):
    invoker = Invoker(
        address, connections=connections, timeout_seconds=timeout_seconds, retries=retries, headers={"X": "1"}
    )
    answers = {}
    invoker.run(iter(enumerate(bodies)), answers.__setitem__)
    invoker.close()
    return [answers[number] for number in range(len(bodies))]


def test_a_connection_is_used_again(server):
    def twice(connection):
        for _ in range(2):
            reply(connection, read_request(connection).upper())

    assert [answer.body for answer in ask(server(twice), b"a", b"b")] == [b"A", b"B"]


def test_a_connection_that_the_server_had_just_ended_costs_no_attempt(server):
    def once(connection):
        reply(connection, read_request(connection))
        read_request(connection)
        connection.shutdown(socket.SHUT_RDWR)

    answers = ask(server(once, lambda connection: reply(connection, read_request(connection))), b"a", b"b")
    assert [(answer.body, answer.attempts) for answer in answers] == [(b"a", 1), (b"b", 1)]


def test_a_server_that_refuses_a_body_before_it_has_read_it_is_heard(server):
    """17 MiB do not fit into any buffer: the client is still sending when the answer comes."""
    closing = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"

    def refuse(connection):
        connection.recv(1000)
        connection.sendall(closing)

    (answer,) = ask(server(refuse), b"x" * (17 << 20))
    assert (answer.status, answer.body) == (413, b"big")


def test_nothing_that_listens_is_an_error_after_the_last_retry():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    (answer,) = ask(address, b"a", retries=1)
    assert (answer.status, answer.attempts) == (0, 2)
    assert "no connection to the container" in answer.error


def test_a_header_cannot_hold_another():
    with pytest.raises(BadInputError, match="cannot be a header"):
        Invoker(("127.0.0.1", 1), connections=1, timeout_seconds=1, retries=0, headers={"Accept": "a\r\nX: b"})
