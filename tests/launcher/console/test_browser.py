"""The console in a real browser: what comes while somebody looks, keys, widths, colors, and pages of other sites."""

import http.server
import os
import threading
from functools import partial

import pytest

from launcher import Estimator
from launcher.console.access import address_of
from launcher.sdk.training_job import TrainingJob
from launcher.storage.own_s3 import ensure_server
from tests.browser import PROGRAM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None and os.environ.get("CI") != "true", reason="no Chromium is installed"),
]
HOSTILE = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"
LONG_NAME = "a-job-with-a-name-that-is-as-long-as-names-of-jobs-may-be-01234"
SCRIPT = f"""
import pathlib, time
print({HOSTILE!r})
print("x" * 80, flush=True)
gate = pathlib.Path("GATE")
while not gate.exists():
    time.sleep(0.02)
print("loss=0.25 " + {HOSTILE!r}, flush=True)
while gate.read_text() != "end":
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def whole_browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(whole_browser):
    """The browser, which leaves the page of a test before its server ends: a stream would be asked for again."""
    whole_browser.events.clear()
    yield whole_browser
    whole_browser.call("Page.navigate", url="about:blank")
    whole_browser.wait("location.href === 'about:blank'")


@pytest.fixture
def address(home):
    return address_of(home, ensure_server(home))


def test_what_a_job_prints_comes_to_the_screen(browser, address, make_source, tmp_path):
    gate = tmp_path / "gate"
    job = Estimator(
        entry_point="train.py", source_dir=make_source(SCRIPT.replace("GATE", str(gate))), runtime="process",
        hyperparameters={"note": HOSTILE}, metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
    ).submit(job_name="live")  # fmt: skip
    job.detach()
    browser.resize(1200)
    browser.open(address)
    browser.wait("location.search === '' && document.querySelector('h1')?.textContent === 'Jobs'")
    # The list begins with the job, and its keys lead to it.
    browser.wait("document.readyState === 'complete' && !!document.getElementById('jobs/live')")
    browser.press("/")
    browser.wait("document.activeElement.name === 'text'")
    browser.evaluate("document.activeElement.blur()")
    browser.press("j")
    browser.wait("document.activeElement.textContent === 'live'")
    browser.press("x")
    browser.wait("document.querySelector('[name=job]').checked")
    browser.evaluate("document.activeElement.click()")
    browser.wait("document.querySelector('#log-algo-1')?.textContent.includes('x'.repeat(80))")
    # 80 columns stand on one line, also where the rest of the page is narrow.
    lines = "Math.round((document.querySelector('#log-algo-1').scrollHeight - 24) / 18.75)"
    assert browser.evaluate(lines) <= 4
    assert "InProgress" in browser.evaluate("document.getElementById('state').textContent")
    browser.evaluate("window.same = true")
    gate.write_text("go on")
    browser.wait("document.querySelector('#log-algo-1').textContent.includes('loss=0.25 <img')")
    browser.wait("document.querySelector('#curves figure')?.textContent.includes('0.25')")
    gate.write_text("end")
    browser.wait("document.getElementById('state').dataset.status === 'Completed'")
    assert browser.evaluate("window.same"), "the page was loaded again"
    assert browser.evaluate("window.harmed === undefined")
    assert browser.complaints() == []
    # Without JavaScript it is the same page.
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address.partition("?")[0] + "jobs/live")
        text = browser.evaluate("document.body.innerText")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "Completed" in text
    assert HOSTILE in text
    assert TrainingJob("live").status == "Completed"


def test_every_page_fits_a_narrow_window_and_follows_the_systems_colors(browser, address, make_source):
    for name in (LONG_NAME, "b"):
        source = make_source(f"print('y' * 300)\nprint({HOSTILE!r})", name)
        metrics = [{"Name": "a-metric-with-a-long-name", "Regex": "(yyy)"}]
        Estimator(
            entry_point="train.py", source_dir=source, runtime="process", hyperparameters={"long": "z" * 300},
            metric_definitions=metrics,
        ).fit(job_name=name, logs=False)  # fmt: skip
    browser.open(address)
    base = address.partition("?")[0]
    backgrounds = set()
    for path in (
        "",
        f"jobs/{LONG_NAME}",
        f"jobs/{LONG_NAME}/files",
        f"compare?job=jobs/{LONG_NAME}&job=jobs/b",
        "storage",
    ):
        browser.resize(390, dark=True)
        browser.open(base + path)
        assert browser.evaluate("document.querySelectorAll('h1').length") == 1, path
        width = browser.evaluate("document.scrollingElement.scrollWidth")
        assert width <= 390, f"{path} is {width} wide"
        backgrounds.add(browser.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    browser.resize(1200)
    backgrounds.add(browser.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert backgrounds == {"rgb(21, 21, 19)", "rgb(251, 250, 248)"}
    assert browser.evaluate("window.harmed === undefined")
    assert browser.complaints() == []


def test_a_page_at_another_port_gets_nothing(browser, address, tmp_path):
    """Cookies go to every port of a host: what the browser says of the page that asks is what counts."""
    browser.open(address)
    browser.wait("document.querySelector('h1')?.textContent === 'Jobs'")
    (tmp_path / "index.html").write_text("<!doctype html><title>other</title><h1>other</h1>")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
        browser.wait("document.title === 'other'")
        base = address.partition("?")[0]
        read = f"fetch('{base}', {{credentials: 'include'}}).then(() => 'read', () => 'refused')"
        assert browser.evaluate(read) == "refused"
        frame = (
            "new Promise((done) => { const frame = document.createElement('iframe'); frame.src = %r;"
            " frame.onload = () => { try { done(frame.contentDocument ? 'open' : 'refused'); }"
            " catch { done('refused'); } }; document.body.append(frame); })"
        )
        assert browser.evaluate(frame % base) == "refused"
        loaded = (
            "new Promise((done) => { const script = document.createElement('script'); script.src = %r;"
            " script.onload = () => done('loaded'); script.onerror = () => done('refused');"
            " document.head.append(script); })"
        )
        assert browser.evaluate(loaded % f"{base}script.js") == "refused"
        server.shutdown()
