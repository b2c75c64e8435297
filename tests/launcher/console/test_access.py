"""Who sees the console: somebody on this machine with the token, and no page of another site."""

import http.client
from urllib.parse import urlsplit

import pytest

from launcher.console import access
from launcher.s3_server import service
from launcher.settings import LOCAL_AWS_MODULE


@pytest.fixture(scope="module")
def own_home(tmp_path_factory):
    path = tmp_path_factory.mktemp("console") / "home"
    yield path
    service.stop(path)


@pytest.fixture(scope="module")
def server(own_home):
    url = service.ensure(own_home, module=LOCAL_AWS_MODULE)
    return urlsplit(url).netloc, access.token_of(own_home), access.cookie_name(own_home)


def ask(netloc, target="/_console/", method="GET", **headers):
    connection = http.client.HTTPConnection(netloc, timeout=30)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_the_token_in_the_address_becomes_a_cookie_and_goes_from_the_address(server):
    netloc, token, cookie = server
    status, headers, text = ask(netloc, f"/_console/jobs/a?token={token}&at=3")
    assert status == 200
    assert 'url=/_console/jobs/a?at=3"' in text
    assert token not in text
    assert headers["Set-Cookie"] == f"{cookie}={token}; Path=/_console; HttpOnly; SameSite=Strict"
    status, _, text = ask(netloc, Cookie=f"other=1; {cookie}={token}")
    assert status == 200
    assert "There is no job yet" in text


def test_without_the_token_nothing_is_shown(server):
    netloc, token, cookie = server
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    for target, cookies in (
        ("/_console/", ""),
        (f"/_console/?token={wrong}", ""),
        ("/_console/?token=%C3%A9", f"{cookie}={wrong}"),
        ("/_console/style.css", f"x{cookie}={token}"),
        ("/_console/events", ""),
    ):
        status, _, text = ask(netloc, target, Cookie=cookies)
        assert (status, "launcher ui" in text) == (403, True)


def test_no_other_site_can_use_it(server):
    netloc, token, cookie = server
    cookies = {"Cookie": f"{cookie}={token}"}
    assert ask(netloc, Host="console.example.com:80", **cookies)[0] == 403
    assert ask(netloc, Origin="http://example.com", **cookies)[0] == 403
    assert ask(netloc, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", **cookies)[0] == 403
    # Another port of this machine is another site as well.
    assert ask(netloc, Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors", **cookies)[0] == 403
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(netloc, **followed, **cookies)[0] == 200
    assert ask(netloc, **{**followed, "Sec_Fetch_Dest": "iframe"}, **cookies)[0] == 403


def test_every_answer_forbids_what_a_page_does_not_need(server):
    netloc, token, cookie = server
    for cookies in ("", f"{cookie}={token}"):
        _, headers, _ = ask(netloc, Cookie=cookies)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_it_only_reads(server):
    netloc, token, cookie = server
    for method in ("POST", "PUT", "DELETE"):
        status, headers, _ = ask(netloc, method=method, Cookie=f"{cookie}={token}")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert ask(netloc, method="HEAD", Cookie=f"{cookie}={token}")[::2] == (200, "")


def test_no_name_leads_out_of_the_home(server):
    netloc, token, cookie = server
    for name in ("..", "%2e%2e", "..%2f..%2fetc", ".lock", "a%00b"):
        assert ask(netloc, f"/_console/jobs/{name}", Cookie=f"{cookie}={token}")[0] == 404


def test_elsewhere_than_on_a_loopback_address_it_is_not_served(home):
    """The container's engine, or other machines, reach the S3 there; the console is for who sits at this one."""
    from launcher.aws.server import OnDemand
    from launcher.s3_server.wire import Head, Headers

    cookie = f"{access.cookie_name(home)}={access.token_of(home)}"
    headers = Headers({"Host": "127.0.0.1:80", "Cookie": cookie})
    head = Head("GET", "/_console/", headers, True, None, False, False)
    local_aws = OnDemand(home)
    service_name = local_aws.service_of(head)
    assert local_aws.answer(service_name, head, None, None, "127.0.0.1").status == 200
    assert local_aws.answer(service_name, head, None, None, "172.17.0.1").status == 403


def test_a_bucket_of_that_host_is_still_a_bucket(server):
    """``/_console/`` below a bucket's own name is a key of it."""
    netloc, token, cookie = server
    status, headers, text = ask(netloc, Host=f"logs.localhost:{netloc.split(':')[1]}", Cookie=f"{cookie}={token}")
    assert (status, headers["Content-Type"]) == (404, "application/xml")
    assert "NoSuchBucket" in text


def test_the_command_prints_an_address_that_opens_it(server, own_home, capfd, monkeypatch):
    from launcher.cli import entry

    monkeypatch.setenv("LAUNCHER_HOME", str(own_home))
    assert entry._ui()
    address = urlsplit(capfd.readouterr().out.strip())
    assert ask(address.netloc, f"{address.path}?{address.query}")[0] == 200


def test_who_only_looks_holds_up_no_end(home):
    """A stream goes on for as long as somebody reads; a server that is to end does not wait for it."""
    netloc = urlsplit(service.ensure(home, module=LOCAL_AWS_MODULE)).netloc
    connection = http.client.HTTPConnection(netloc, timeout=60)
    cookie = f"{access.cookie_name(home)}={access.token_of(home)}"
    connection.request("GET", "/_console/events", headers={"Cookie": cookie})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.readline() == b"event: part\n"
    service.stop(home)  # waits until it has ended
    rest = answer.read()  # whole: the chunk that ends it came
    assert rest.endswith(b"\n\n")
    connection.close()
