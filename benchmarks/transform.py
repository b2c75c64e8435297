"""Batch transform: records a second, beside the SDK's way and the model itself; the memory of a big input."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import MIB, Aim, Row
from serving import export_sample_policy, served_by_us

from launcher.runtimes.image import image_tag
from launcher.runtimes.probe import engine_answers
from launcher.settings import data_path

_RECORDS = int(os.environ.get("TRANSFORM_RECORDS", "100000"))
_SDK_SECONDS = 8.0  # of one request after another; its speed does not depend on how many there are
_BIG_MIB = int(os.environ.get("TRANSFORM_BIG_MIB", "1024"))
_RUNS = 3  # at most: each takes a minute or two
_SERVER_WORKERS = "2"


def transform_rows(scratch: Path, runs: int) -> list[Row]:
    """Return records per second of SingleRecord and MultiRecord, and the memory that a big input takes."""
    missing = [name for name in ("urllib3", "uvicorn", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        return [Row("transform", "records per second", skipped=f"{', '.join(missing)} not installed")]
    model, states = scratch / "transform" / "model", scratch / "states.jsonl"
    export_sample_policy(model)
    _write_states(states, _RECORDS)
    rows, runs = [], min(runs, _RUNS)
    runtime = "docker" if engine_answers() else "process"
    for concurrency in (1, 32):
        row = Row("transform", f"{_RECORDS:,} JSON Lines, SingleRecord, concurrency {concurrency}, on {runtime}", "1/s")
        row.aims = (Aim("ratio", 8.0, at_least=True),)
        row.note = "the floor asks one request after another through a published port, as the SDK's local mode does"
        for _ in range(runs):
            # In this order: the job builds the image that both use.
            row.ours.append(_transformed(scratch, model, states, runtime, "SingleRecord", concurrency))
            row.floor.append(_sdks_way(model, states, runtime))
        rows.append(row)
    row = Row("transform", f"{_RECORDS:,} JSON Lines, MultiRecord, against the model called in one process", "1/s")
    row.aims = (Aim("ratio", 0.5, at_least=True),)
    row.note = "the floor reads, predicts and writes by the server's own functions, without a server"
    for _ in range(runs):
        row.floor.append(_called(model, states))
        row.ours.append(_transformed(scratch, model, states, runtime, "MultiRecord", 4))
    return [*rows, row, _memory(scratch, model)]


def _write_states(path: Path, count: int) -> None:
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(json.dumps([round(chance.uniform(-1, 1), 5) for _ in range(4)]) + "\n")


# In a process of its own: what it prints is the job's own progress, and its memory is its own.
_JOB = """
import json, resource, sys, launcher
model, data, runtime, strategy, concurrency, workers = sys.argv[1:]
serving = launcher.Model(model_data=model, runtime=runtime, env={"SAGEMAKER_MODEL_SERVER_WORKERS": workers})
transformer = serving.transformer(
    1, "local", strategy=strategy, assemble_with="Line", accept="application/jsonlines",
    max_concurrent_transforms=int(concurrency))
job = transformer.transform(data, content_type="application/jsonlines", split_type="Line", logs=False)
usage = resource.getrusage(resource.RUSAGE_SELF)
facts = {**job.progress, "max_rss_kib": usage.ru_maxrss, "status": job.status, "counts": job.counts}
print(json.dumps(facts))
"""


def _job(scratch: Path, *arguments: str) -> dict[str, float]:
    environment = {**os.environ, "LAUNCHER_HOME": str(scratch / "transform-home")}
    answer = subprocess.run(
        [sys.executable, "-c", _JOB, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    facts: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    if facts["status"] != "Completed":
        raise RuntimeError(f"the transform job ended as {facts}")
    return facts


def _transformed(scratch: Path, model: Path, states: Path, runtime: str, strategy: str, concurrency: int) -> float:
    """Return the records per second of a job, without the start of its container, which the floor has not either."""
    facts = _job(scratch, str(model), str(states), runtime, strategy, str(concurrency), _SERVER_WORKERS)
    return facts["records"] / facts["seconds"]


def _sdks_way(model: Path, states: Path, runtime: str) -> float:
    """Return the requests per second of what the SDK's local mode does, at a container of the same image."""
    import urllib3

    pool = urllib3.PoolManager()
    headers = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}
    with _served(model, runtime) as url, states.open("rb") as file:
        count, began = 0, time.perf_counter()
        for line in file:
            answer = pool.request("POST", f"{url}/invocations", body=line, headers=headers, preload_content=False)
            if answer.status != 200:
                raise RuntimeError(f"the server answered {answer.status}")
            answer.read()
            count += 1
            if time.perf_counter() - began > _SDK_SECONDS:
                break
        return count / (time.perf_counter() - began)


@contextlib.contextmanager
def _served(model: Path, runtime: str) -> Iterator[str]:
    if runtime == "process":
        with served_by_us(model.parent) as port:
            yield f"http://127.0.0.1:{port}"
        return
    command = ["docker", "run", "--detach", "--volume", f"{model}:/opt/ml/model:ro", "--publish", "127.0.0.1::8080"]
    command += ["--env", f"SAGEMAKER_MODEL_SERVER_WORKERS={_SERVER_WORKERS}", "--env", "SAGEMAKER_BATCH=true"]
    name = subprocess.run([*command, image_tag(), "serve"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        said = subprocess.run(["docker", "port", name, "8080"], capture_output=True, text=True, check=True).stdout
        url = f"http://{said.splitlines()[0]}"
        _wait_for(url)
        yield url
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _wait_for(url: str) -> None:
    import urllib3

    pool, deadline = urllib3.PoolManager(retries=False), time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", f"{url}/ping").status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} never answered")


def _called(model: Path, states: Path) -> float:
    """Return the records per second of the server's own functions in one process, 6 MiB at a time."""
    script = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from model_server.handlers import Handlers, RequestContext; from model_server.settings import read_settings\n"
        "import os; os.environ['SAGEMAKER_BASE_DIR'] = sys.argv[2]\n"
        "handlers = Handlers(read_settings(), None); handlers.load()\n"
        "context = RequestContext({}, Path(sys.argv[3])); kind = 'application/jsonlines'\n"
        "data = Path(sys.argv[4]).read_bytes(); began = time.perf_counter(); at = records = 0\n"
        "while at < len(data):\n"
        "    end = data.rfind(b'\\n', at, at + (6 << 20)) + 1; body = data[at:end]; at = end\n"
        "    outputs = handlers.finish(handlers.predict(handlers.read_input(body, kind, context), context), context)\n"
        "    records += handlers.write_output(outputs, kind, context).body.count(b'\\n')\n"
        "print(records / (time.perf_counter() - began))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(data_path("container")), str(model.parent)]
    answer = subprocess.run([*command, str(model), str(states)], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(answer.stderr)
    return float(answer.stdout.splitlines()[-1])


def _memory(scratch: Path, model: Path) -> Row:
    """Return the memory that a driver takes for a big input; the container answers with the body that it got."""
    row = Row("transform", f"memory of the driver for {_BIG_MIB:,} MiB of input", "MiB")
    row.aims = (Aim("ours", 300.0),)
    row.note = "one file, cut into requests of 6 MB, 4 under way; more input takes no more memory"
    echo = scratch / "echo-model"
    (echo / "code").mkdir(parents=True, exist_ok=True)
    (echo / "code" / "inference.py").write_text(
        "def model_fn(folder): return None\ndef transform_fn(model, body, content_type, accept): return body\n"
    )
    big = scratch / "big.jsonl"
    block = b"".join(b'{"id": %06d, "text": "%b"}\n' % (number, b"x" * 100) for number in range(8000))
    with big.open("wb") as file:
        for _ in range(_BIG_MIB * MIB // len(block)):
            file.write(block)
    try:
        facts = _job(scratch, str(echo), str(big), "process", "MultiRecord", "4", "1")
    finally:
        big.unlink()
    row.ours = [facts["max_rss_kib"] / 1024]
    row.note += f"; {facts['counts']['bytes_in'] / MIB:,.0f} MiB in {facts['seconds']:.0f} s"  # type: ignore[index]
    return row
