"""What the pages show, from records that jobs left and from hostile names and logs."""

import base64
import hashlib
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from launcher.cli.main import app
from launcher.console import charts, frame, live, pages, places
from launcher.console.charts import Curve, Interval
from launcher.console.html import duration, log_line, markup, number, size, static_text
from launcher.console.reading import job_view, listed_jobs, read_log, shown_document, text_begin
from launcher.console.serving import Console
from launcher.jobs.spec import job_keys
from launcher.s3_server.wire import Head, Headers
from tests.shell import launcher_environment

HOSTILE = "<script>alert(1)</script>&\"'"
RECORD = {
    "version": 2,
    "spec": {
        "job_name": "a", "source_uri": "", "entry_point": "train.py", "image_uri": None, "runtime": "process",
        "output_uri": "file:///tmp/out",
    },
    "request": {
        "TrainingJobName": "a",
        "HyperParameters": {"note": HOSTILE, "api_token": "s3cr3t", "sagemaker_program": "train.py"},
        "Environment": {"DB_PASSWORD": "s3cr3t"},
        "InputDataConfig": [
            {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://logs/cart pole/&x"}}}
        ],
    },
    "status": "Completed", "created": 1000.0, "started": 1001.0, "ended": 1012.5, "modified": 1012.5,
    "final_metrics": [["loss", 0.25, 1010.0]],
}  # fmt: skip


class Outline(HTMLParser):
    """Collects the elements of a page, and refuses one that is not closed in order."""

    VOID = frozenset({"meta", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def make_job(home):
    def make(name, log="", **changes):
        folder = home / "jobs" / name
        folder.mkdir(parents=True)
        spec = {**RECORD["spec"], "job_name": name}
        (folder / "job.json").write_text(json.dumps({**RECORD, "spec": spec, **changes}))
        (folder / "job.log").write_bytes(log if isinstance(log, bytes) else log.encode())
        return folder

    return make


@pytest.fixture
def get(home):
    """A function that returns a page of the console, by its path below the root."""
    console = Console(home)
    from launcher.console import access

    cookie = f"{access.cookie_name(home)}={access.token_of(home)}"

    def get(path=""):
        headers = Headers({"Host": "127.0.0.1:80", "Cookie": cookie})
        answer = console.answer(Head("GET", f"/_console/{path}", headers, True, None, False, False), is_local=True)
        return answer.status, answer.body.decode()

    return get


def job_text(home, name="a"):
    view = job_view(home, "jobs", name)
    return frame.page(name, pages.job_page(view, read_log(view.folder, 1 << 16))).decode()


def test_what_jobs_wrote_is_text_wherever_it_stands(home, make_job):
    """Log lines, hyperparameters and reasons come from programs that may hold anything."""
    folder = make_job("a", log=f"\x1b[31m{HOSTILE}\x1b[0m\x07\nhalf", failure_reason=HOSTILE, warnings=[HOSTILE])
    (folder / "metrics.jsonl").write_text(json.dumps([1.0, HOSTILE, 0.5]) + "\n")
    outline = Outline(job_text(home))
    scripts = outline.named("script")
    assert [script["src"].split("?")[0] for script in scripts] == ["/_console/script.js"]
    assert sum(HOSTILE in text for text in outline.texts) >= 4
    assert "\x07" not in "".join(outline.texts)
    assert not any(
        name.startswith("on") or name == "style" for _, attributes in outline.elements for name in attributes
    )


def test_secrets_are_masked(home, make_job):
    make_job("a")
    text = job_text(home)
    assert "s3cr3t" not in text
    assert "***" in text
    assert shown_document({"TrainingJobDefinition": {"StaticHyperParameters": {"password": "x"}}}) == {
        "TrainingJobDefinition": {"StaticHyperParameters": {"password": "***"}}
    }


def test_a_place_in_the_built_in_s3_is_a_link(home, make_job):
    make_job("a")
    links = [attributes["href"] for attributes in Outline(job_text(home)).named("a")]
    assert "/_console/storage/logs?prefix=cart+pole%2F%26x" in links


def test_the_list_is_filtered_and_paged_the_newest_first(home, make_job, get):
    for number_ in range(120):
        make_job(f"job-{number_:03}", created=1000.0 + number_, status="Failed" if number_ % 2 else "Completed")
    lines, total = listed_jobs(home, status="Failed", text="job-1", begin=0, limit=3)
    assert ([line.name for line in lines], total) == (["job-119", "job-117", "job-115"], 10)
    assert lines[0].result == ("loss", 0.25)
    status, text = get("?status=Failed&begin=50")
    assert status == 200
    assert "51 to 60 of 60" in text
    assert 'rel="prev"' in text
    assert 'rel="next"' not in text
    assert Outline(text).named("option")


def test_a_first_page_and_all_it_loads_weigh_less_than_60_kib(home, make_job, get):
    for number_ in range(pages.PAGE_LINES + 1):
        make_job(f"preset-cartpole-ddqnbcq-2026-11-22-01-35-00-{number_:03}")
    weight = sum(len(get(path)[1].encode()) for path in ("", "style.css", "script.js"))
    assert weight < 60 << 10


def test_the_first_page_waits_for_no_module_that_only_others_need(home, make_job):
    """Somebody waits for it: the list of jobs reads no archive, asks no storage and draws no other page."""
    make_job("job-1")
    program = (
        "import sys\nfrom pathlib import Path\nfrom launcher.console import serving\n"
        "console = serving.Console(Path(sys.argv[1]))\n"
        "assert b'job-1' in console._pages().answer([], {}, None).body\n"
        "print(*(name for name in sys.modules if name.startswith('launcher.')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(home)],
        env=launcher_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(answer.stdout.split())
    assert "launcher.console.pages" in loaded
    assert not loaded & {
        "launcher.storage",
        "launcher.running.artifacts",
        "launcher.console.places",
        "launcher.console.live",
    }


def test_a_job_that_is_not_there_or_cannot_be_read_is_said(home, make_job, get):
    assert get("jobs/nobody")[0] == 404
    assert get("nowhere")[0] == 404
    assert get("jobs/a/files/x")[0] == 404
    make_job("broken")
    (home / "jobs/broken/job.json").write_text("{")
    status, text = get("jobs/broken")
    assert status == 500
    assert "no record that this version can read" in text
    assert get()[0] == 200


def test_two_jobs_are_compared(home, make_job, get):
    for name, loss in (("a", 0.5), ("b", 0.25)):
        request = {**RECORD["request"], "HyperParameters": {"lr": str(loss), "same": "1"}, "InputDataConfig": []}
        folder = make_job(name, request=request)
        (folder / "metrics.jsonl").write_text(json.dumps([1.0, "loss", loss]) + "\n")
    status, text = get("compare?job=jobs/a&job=jobs/b")
    assert status == 200
    words = Outline(text).texts
    place = words.index("HyperParameters.lr")
    assert words[place : place + 3] == ["HyperParameters.lr", "0.5", "0.25"]
    assert "HyperParameters.same" not in words
    assert "last 0.25, count 1" in words
    assert get("compare?job=jobs/a")[0] == 404


def test_a_report_needs_nothing_beside_it(home, make_job, tmp_path, capsys, monkeypatch):
    """It is a file for somebody else: no script, no link, and a policy that lets nothing be loaded."""
    folder = make_job("a", log=f"{HOSTILE}\n", failure_reason=HOSTILE)
    (folder / "metrics.jsonl").write_text(json.dumps([1.0, "loss", 0.5]) + "\n")
    monkeypatch.chdir(tmp_path)
    app(["report", "latest"], standalone_mode=False)
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "a.html"
    text = path.read_text()
    outline = Outline(text)
    names = {name for name, _ in outline.elements}
    assert not names & {"script", "link", "img", "iframe", "form"}
    assert [attributes["href"] for attributes in outline.named("a")] == ["#content"]
    [policy] = [entry["content"] for entry in outline.named("meta") if "http-equiv" in entry]
    digest = base64.b64encode(hashlib.sha256(static_text("style.css").encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert "s3cr3t" not in text
    assert "<figure>" in text
    assert sum(HOSTILE in data for data in outline.texts) >= 3


def test_a_report_that_cannot_be_written_says_so(make_job, tmp_path, capsys):
    make_job("a")
    code = app(["report", "a", "-o", str(tmp_path / "no/where.html")], standalone_mode=False)
    assert code == 2
    assert "Name another file" in capsys.readouterr().err


def test_estimates_have_their_bands(home, make_job, tmp_path):
    spec = {**RECORD["spec"], "job_name": "a", "output_uri": tmp_path.as_uri()}
    make_job("a", spec=spec)
    folder = Path(job_keys(job_view(home, "jobs", "a").record.training_spec).intermediate.removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv").write_text(
        "Epoch,Loss/Mean,Logged Discounted Return,WIS (trajectory),WIS (trajectory) Low,WIS (trajectory) High,"
        "FQE,FQE Low,FQE High\n1,0.5,20,21,19,23,,,\n2,0.25,20,25,22,28,24,20,28\n3,0.1,20,nan"
    )
    estimates = job_view(home, "jobs", "a").estimates
    assert estimates.baseline == 20
    [wis, fqe] = estimates.values
    assert (wis.name, wis.y, wis.lower, wis.upper) == ("WIS", [21, 25], [19, 22], [23, 28])
    assert fqe.y == [24]
    text = str(pages.estimates_part(estimates))
    assert text.count('class="band') == 1
    assert "WIS 25 from 22 to 28; FQE 24 from 20 to 28" in text


def test_what_the_hosts_used_is_drawn_where_it_was_measured(home, make_job):
    folder = make_job("a")
    assert "Resources" not in job_text(home)
    sample = {"time": 1000.0, "host": "algo-1", "cpu_percent": 150.0, "memory_bytes": 3 << 20, "disk_bytes": 0,
              "memory_percent": 1.0, "disk_percent": 0.0, "cpu_seconds": 1.0, "memory_peak_bytes": 3 << 20}  # fmt: skip
    lines = [json.dumps({**sample, "time": 1000.0 + second, "host": f"algo-{second % 2 + 1}"}) for second in range(6)]
    (folder / "usage.jsonl").write_text("\n".join([*lines, "{}", '{"time": 1']))
    usage = job_view(home, "jobs", "a").usage
    assert [(curve.name, curve.x, curve.y[0]) for curve in usage["Memory, MiB"]] == [
        ("algo-1", [0, 2, 4], 3),
        ("algo-2", [1, 3, 5], 3),
    ]
    assert "CPU, % of one" in job_text(home)


@pytest.mark.parametrize(
    "curve",
    [
        Curve("flat", [0, 1], [3, 3]),
        Curve("a point", [5], [0]),
        Curve("tiny", [0, 1, 2], [1e-300, 0, -1e-300]),
        Curve("long", list(range(100_000)), [number_ % 17 for number_ in range(100_000)]),
    ],
    ids=lambda curve: curve.name,
)
def test_any_curve_is_drawn_inside_its_picture(curve):
    text = str(charts.chart("title", [curve], baseline=("level", 1.0)))
    Outline(text)
    assert len(text) < 20_000
    path = text.partition('class="curve')[2].partition('d="M')[2].partition('"')[0]
    for point in path.split("L"):
        x, y = map(float, point.split())
        assert 0 <= x <= 520
        assert 0 <= y <= 200


def test_the_style_has_no_rule_that_ends_another():
    depth = 0
    for letter in static_text("style.css"):
        depth += (letter == "{") - (letter == "}")
        assert 0 <= depth <= 2
    assert depth == 0


def test_nothing_is_drawn_of_nothing():
    assert charts.chart("title", []) == charts.chart("title", [Curve("a", [], [])]) == ""
    assert "circle" in charts.intervals_chart("t", [Interval("WIS", 2.0)], None)


def test_a_long_log_begins_at_a_line_and_says_that_there_is_more_before(home, make_job):
    make_job("a", log="".join(f"line {number_}\n" for number_ in range(10_000)))
    log = read_log(job_view(home, "jobs", "a").folder, 1000)
    assert log.cut
    assert log.lines["algo-1"][-1] == "line 9999"
    assert all(line.startswith("line ") for line in log.lines["algo-1"])


def test_events_carry_what_came_after_the_page_and_then_the_end(home, make_job):
    folder = make_job("a", log="before\n")
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**record, "status": "InProgress", "ended": None}))
    place = live.place_of(read_log(job_view(home, "jobs", "a").folder, 1000).offsets)
    events = live.job_events(home, "jobs", "a", place)
    assert b"event: part" in next(events)
    with (folder / "job.log").open("a") as log:
        log.write("<b>after</b>\nhalf\r")
    text = b""
    while b"event: log" not in text:
        text += next(events)
    assert b'data: ["log-algo-1", "&lt;b&gt;after&lt;/b&gt;\\n"]' in text
    assert b"id: algo-1:20\n" in text
    (folder / "job.json").write_text(json.dumps(record))
    assert (rest := b"".join(events)).endswith(b'event: end\ndata: ["", ""]\n\n')
    assert b"half" in rest
    assert b"Completed" in rest


def test_events_of_the_list_say_which_line_is_another(home, make_job):
    folder = make_job("a", status="InProgress", ended=None)
    asked = {"text": "", "kind": "", "status": ""}
    events = live.list_events(home, asked, 0)
    next(events)
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**record, "status": "Failed", "ended": 1050.0}))
    text = b""
    while b"Failed" not in text:
        text += next(events)
    assert b'["jobs/a", "<tr id=' in text
    make_job("b")
    while b'["lines"' not in text:
        text += next(events)


def test_events_end_with_the_job_that_is_removed(home, make_job):
    folder = make_job("a", status="InProgress", ended=None)
    events = live.job_events(home, "jobs", "a", "")
    next(events)
    folder.rename(home / "elsewhere")
    assert b"event: end" in b"".join(events)


@pytest.mark.parametrize("word", ["", "x", "a:b", "algo-1:99999999999999999999", ":::", "é:1"])
def test_a_place_that_is_none_is_no_harm(word):
    assert all(isinstance(offset, int) for offset in live.read_place(word).values())


def test_every_place_has_a_page_where_there_is_nothing(get):
    for path in ("", "queue", "endpoints", "models", "storage"):
        status, text = get(path)
        assert status == 200
        assert len(Outline(text).named("h1")) == 1


def test_objects_are_shown_as_text(home, get):
    from launcher.s3_server.store import ObjectStore
    from launcher.storage import embedded_path

    with ObjectStore(embedded_path(home)) as objects:
        objects.create_bucket("logs")
        source = home / "file"
        source.write_text(f"{HOSTILE}\n" * 3)
        objects.put_file("logs", "a/<b>.csv", source, move=True)
    assert "logs" in get("storage")[1]
    assert "a/" in get("storage/logs")[1]
    assert "&lt;b&gt;.csv" in get("storage/logs?prefix=a/")[1]
    status, text = get("storage/logs/object?key=a/%3Cb%3E.csv")
    assert status == 200
    assert any(HOSTILE in data for data in Outline(text).texts)
    assert get("storage/logs/object?key=none")[0] == 500
    assert get("storage/nobody")[0] == 500


def test_what_is_no_text_is_not_shown(tmp_path):
    path = tmp_path / "file"
    path.write_bytes("é".encode() * 10)
    assert text_begin(path, 5) == "éé"
    path.write_bytes(b"\xff\xfe" * 10)
    assert text_begin(path, 100) is None
    path.write_bytes(b"a\0b")
    assert text_begin(path, 100) is None


def test_words_for_people():
    assert [duration(seconds) for seconds in (0.04, 59.4, 61, 3700, 200_000)] == [
        "0.0 s", "59.4 s", "1 min 01 s", "1 h 01 min", "2.3 days",
    ]  # fmt: skip
    assert [size(count) for count in (0, 1023, 1536, 1 << 40)] == ["0 B", "1023 B", "1.5 KiB", "1.0 TiB"]
    assert [number(value) for value in (None, 3.0, 12345.0, 0.123456, 1e-9)] == ["–", "3", "12,345", "0.12346", "1e-09"]
    assert log_line("\x1b[1;31mred\x1b[0m 10%\r100%") == "100%"
    assert markup("<b>{}</b>", "<i>") == "<b>&lt;i&gt;</b>"


def test_a_queue_shows_first_what_has_not_ended(home):
    from launcher.jobs.batch import Attempt, ServiceJobRecord
    from launcher.jobs.record import Record

    jobs = [
        (name, ServiceJobRecord({"jobName": name, "jobQueue": "arn:x/fast"}, created, status=status,
                                attempts=[Attempt(f"{name}-train", "local", 1.0)] if status != "RUNNABLE" else []))
        for name, created, status in (("old", 1.0, "SUCCEEDED"), ("later", 2.0, "RUNNABLE"), ("runs", 3.0, "RUNNING"))
    ]  # fmt: skip
    text = str(places.queue_page([("fast", Record({"state": "ENABLED", "priority": 7}))], jobs))
    words = Outline(text).texts
    assert [word for word in words if word in ("old", "later", "runs")] == ["runs", "later", "old"]
    assert "waits" in words
