"""``launcher plan``: what a job would do on a runtime, or why it cannot run there; nothing is written."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.documents import placed, read_document
from launcher.cli.jobs import AsJson
from launcher.cli.printing import print_json
from launcher.terminal import say_error


def plan(
    source: Annotated[
        str,
        typer.Argument(metavar="JOB|REQUEST", help="A job, or 'latest'; a JSON file, or '-' for the standard input."),
    ],
    runtime: Annotated[
        str | None, typer.Option("--runtime", "-r", help="Any runtime; the request's own, or the job's, by default.")
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="local (folders) or s3; as with launcher run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a training job would do on a runtime: containers, mounts, variables, files, limits, results.

    What the runtime cannot do is refused by name, exit code 2; what it does otherwise is a warning.

    launcher plan latest --runtime docker
    """
    from launcher.cli.arguments import exists
    from launcher.comparing.replaying import replay_request
    from launcher.jobs.store import JobStore
    from launcher.requests.names import make_job_name
    from launcher.running.accepting import accept, plan_job
    from launcher.sdk.job_results import find_job
    from launcher.settings import home_path

    store = JobStore(home_path())
    notes: list[str] = []
    if source == "-" or exists(source):
        request = placed(read_document(source), runtime=runtime, mode=mode)
    else:
        job = find_job(source)
        name = make_job_name(f"replay-{job.name}")
        request, notes = replay_request(store.load(job.name), name, runtime or "")
    accepted = accept(request)
    made = plan_job(accepted, store)
    warnings = [*notes, *accepted.warnings]
    if as_json:
        print_json({"runtime": made.runtime, "image": made.image, "warnings": warnings, "plan": str(made).splitlines()})
        return
    for line in warnings:
        say_error(f"warning: {line}")
    print(made)
