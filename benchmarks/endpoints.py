"""Endpoints: what they cost beside a bare request to the container, and what they lose while containers come and go."""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.deserializers import BytesDeserializer
from launcher.serializers import IdentitySerializer
from measuring import Aim, Row
from serving import export_sample_policy

from launcher import DataCaptureConfig, Model
from launcher.jobs.store import EndpointStore
from launcher.runtimes import get_runtime
from launcher.runtimes.probe import engine_answers
from launcher.sdk.runtime_client import RuntimeClient
from launcher.serving.model_host import plan_host
from launcher.settings import home_path

_BODY = b'{"instances": [[0.01, -0.02, 0.03, 0.04]]}'
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_REQUESTS = 200
_WARM_UP = 30
_CLIENTS = 4
_IDLE_SECONDS = 20.0


def endpoint_rows(scratch: Path, runs: int) -> list[Row]:
    """Return latencies against a bare request, the time of a deployment, losses, and the idle CPU."""
    export_sample_policy(scratch / "endpoint-policy")
    rows: list[Row] = []
    for runtime in ("process", "docker"):
        if runtime == "docker" and not engine_answers():
            rows.append(Row("endpoints", "the same in Docker", skipped="no Docker engine answers"))
            continue
        rows += _latency_rows(scratch, runtime, runs)
        rows += _loss_rows(scratch, runtime)
        rows.append(_deploy_row(scratch, runtime, max(2, runs // 4)))
    return rows


@contextmanager
def _deployed(scratch: Path, runtime: str, name: str, *, capture: bool, count: int = 1) -> Iterator[Any]:
    model = Model(model_data=str(scratch / "endpoint-policy"), runtime=runtime, name=f"model-{name}")
    config = DataCaptureConfig(True, 100, str(scratch / f"log-{name}")) if capture else None
    predictor = model.deploy(
        count,
        "local",
        IdentitySerializer("application/json"),
        BytesDeserializer("application/json"),
        endpoint_name=name,
        data_capture_config=config,
    )
    try:
        yield predictor
    finally:
        predictor.delete_model()
        predictor.delete_endpoint()


def _latency_rows(scratch: Path, runtime: str, runs: int) -> list[Row]:
    rows = []
    for capture in (False, True):
        name = f"bench-{runtime}-{'captured' if capture else 'plain'}"
        with _deployed(scratch, runtime, name, capture=capture) as predictor:
            bare = _bare(*_container_address(name, runtime))
            title = f"predict, {runtime}{', captured' if capture else ''}, against a bare request to the container"
            middle = Row("endpoints", f"{title}: p50", aims=(Aim("ratio", 1.2),))
            late = Row("endpoints", f"{title}: p99", aims=(Aim("ratio", 1.2),))
            for number in range(runs + 1):
                floor, ours = _timed(bare), _timed(lambda predictor=predictor: predictor.predict(_BODY))
                if number:
                    for row, share in ((middle, 0.5), (late, 0.99)):
                        row.floor.append(_quantile(floor, share))
                        row.ours.append(_quantile(ours, share))
            rows += [middle, late]
            if not capture:
                rows.append(_idle_row(name, runtime))
    return rows


def _loss_rows(scratch: Path, runtime: str) -> list[Row]:
    """Return how many requests got no answer, under load, while containers were exchanged and killed."""
    name = f"bench-{runtime}-loss"
    rows = []
    with _deployed(scratch, runtime, name, capture=True) as predictor:
        other = Model(model_data=str(scratch / "endpoint-policy"), runtime=runtime, name=f"{name}-other").create()
        for title, disturb in (
            ("an update", lambda: predictor.update_endpoint(model_name=other)),
            ("its container is killed", lambda: _kill_container(name, runtime)),
            ("its process is killed", lambda: _kill_process(name)),
        ):
            lost, answered = _lost_while(disturb)
            row = Row("endpoints", f"requests lost, {runtime}: {title}", "requests", aims=(Aim("ours", 0),))
            row.ours, row.note = [float(lost)], f"{answered} answered"
            rows.append(row)
    return rows


def _deploy_row(scratch: Path, runtime: str, runs: int) -> Row:
    """Compare ``deploy`` and a first answer with the container's own start, its imports, and a first answer."""
    row = Row("endpoints", f"deploy to the first answer, {runtime}, against the container alone", "s")
    row.aims = (Aim("ratio", 1.1),)
    for number in range(runs + 1):
        floor = _start_alone(scratch, runtime, number)
        began = time.perf_counter()
        with _deployed(scratch, runtime, f"bench-{runtime}-{number}", capture=False) as predictor:
            predictor.predict(_BODY)
            ours = time.perf_counter() - began
        if number:
            row.floor.append(floor)
            row.ours.append(ours)
    return row


def _start_alone(scratch: Path, runtime: str, number: int) -> float:
    """Start the same container by the runtime alone, and return the seconds to its first answer."""
    from launcher.jobs.folder import JobFolder
    from launcher.jobs.model_spec import ModelSpec
    from launcher.serving.model_host import ModelHost

    home = home_path()
    folder = JobFolder(home / "alone" / f"run-{runtime}-{number}")
    folder.path.mkdir(parents=True)
    folder.make_work_path()
    model = ModelSpec("alone", model_uri=f"file://{scratch / 'endpoint-policy'}", model_form="folder")
    plan = plan_host(model, folder, home=home, kind="alone")
    engine = get_runtime(runtime)
    engine.prepare(plan.container)
    host = ModelHost(engine, plan, home)
    began = time.perf_counter()
    try:
        host.start()
        _bare(*host.wait_until_healthy())()
        return time.perf_counter() - began
    finally:
        host.stop(0)


def _idle_row(name: str, runtime: str) -> Row:
    """Return the CPU time of an endpoint's process while nobody asks."""
    pid = _process_of(name)
    before = _cpu_seconds(pid)
    time.sleep(_IDLE_SECONDS)
    row = Row("endpoints", f"idle CPU of the endpoint's process, {runtime}", "% of a core", aims=(Aim("ours", 1.0),))
    row.ours = [100 * (_cpu_seconds(pid) - before) / _IDLE_SECONDS]
    return row


def _lost_while(disturb: Callable[[], object]) -> tuple[int, int]:
    """Return how many requests were lost and answered while something happened to the endpoint."""
    client, over = RuntimeClient(home_path()), threading.Event()
    answered, lost = [0] * _CLIENTS, [0] * _CLIENTS
    name = next(iter(EndpointStore(home_path()).names()))

    def ask(number: int) -> None:
        while not over.is_set():
            try:
                client.invoke_endpoint(EndpointName=name, Body=_BODY, ContentType="application/json")
                answered[number] += 1
            except Exception:  # noqa: BLE001 - whatever it is, the request got no answer
                lost[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    disturb()
    time.sleep(3)
    over.set()
    for thread in threads:
        thread.join()
    return sum(lost), sum(answered)


def _container_address(name: str, runtime: str) -> tuple[str, int]:
    execution = get_runtime(runtime).find(_container(name))
    assert execution is not None
    return execution.address()


def _container(name: str) -> Any:
    store = EndpointStore(home_path())
    record = store.load(name)
    deployment = record.current
    variant = deployment.config.variants[0]
    host = f"{variant.name}-1-1-{deployment.identity[:6]}"
    attempt = record.attempts.get(host, 0)
    model = deployment.models[variant.name]
    return plan_host(
        model,
        store.folder(name),
        home=store.home,
        kind="endpoints",
        host=f"{host}-{attempt}" if attempt else host,
    ).container


def _kill_container(name: str, runtime: str) -> None:
    execution = get_runtime(runtime).find(_container(name))
    if execution is not None:
        execution.kill()


def _kill_process(name: str) -> None:
    os.kill(_process_of(name), signal.SIGKILL)


def _process_of(name: str) -> int:
    answer = subprocess.run(
        ["pgrep", "-f", f"launcher.endpoints .* {name} "], capture_output=True, text=True, check=True
    )
    return int(answer.stdout.split()[0])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bare(host: str, port: int) -> Callable[[], bytes]:
    connection = http.client.HTTPConnection(host, port)

    def ask() -> bytes:
        connection.request("POST", "/invocations", _BODY, _HEADERS)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200
        assert json.loads(text)["actions"]
        return text

    return ask


def _timed(action: Callable[[], object]) -> list[float]:
    """Return the milliseconds of each of some requests, one after the other."""
    for _ in range(_WARM_UP):
        action()
    times = []
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1000)
    return times


def _quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]
