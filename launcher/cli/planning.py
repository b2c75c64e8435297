"""``launcher plan``: what a job would do on a runtime, or why it cannot run there; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from launcher.cli.documents import placed, read_training_document
from launcher.cli.jobs import AsJson
from launcher.cli.printing import print_json, print_table
from launcher.errors import BadInputError
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
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="local aws", help="Say what differs between this machine and AWS itself."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a training job would do on a runtime: containers, mounts, variables, files, limits, results.

    What the runtime cannot do is refused by name, exit code 2; what it does otherwise is a warning.

    launcher plan latest --runtime docker

    launcher plan request.json --diff local aws
    """
    from launcher.comparing.replaying import replay_request
    from launcher.jobs.store import JobStore
    from launcher.paths import exists
    from launcher.requests.names import make_job_name
    from launcher.running.accepting import accept, plan_job
    from launcher.sdk.job_results import find_job
    from launcher.settings import home_path

    store = JobStore(home_path())
    notes: list[str] = []
    if source == "-" or exists(source):
        request = placed(read_training_document(source), runtime=runtime, mode=mode)
    else:
        job = find_job(source)
        name = make_job_name(f"replay-{job.name}")
        request, notes = replay_request(store.load(job.name), name, runtime or "")
    if diff is not None:
        _print_differences(request, diff, as_json=as_json)
        return
    accepted = accept(request)
    made = plan_job(accepted, store)
    warnings = [*notes, *accepted.warnings]
    if as_json:
        print_json({"runtime": made.runtime, "image": made.image, "warnings": warnings, "plan": str(made).splitlines()})
        return
    for line in warnings:
        say_error(f"warning: {line}")
    print(made)


def _print_differences(request: Mapping[str, Any], sides: tuple[str, str], *, as_json: bool) -> None:
    from launcher.comparing.with_aws import differences_on_aws, refusal_of_aws
    from launcher.requests.training import check_training_request
    from launcher.settings import AWS_MODE

    if sides != ("local", AWS_MODE):
        raise BadInputError(f"--diff {' '.join(sides)}: there is no such comparison.", "Write --diff local aws.")
    check_training_request(request)
    differences, refusal = differences_on_aws(request), refusal_of_aws(request)
    if as_json:
        print_json({"differences": [entry._asdict() for entry in differences], "refused": refusal})
        return
    print_table([("WHAT", "HERE", "ON AWS"), *differences])
    if refusal:
        say_error(f"As it stands, AWS would refuse it: {refusal}")
