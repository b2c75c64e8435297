"""``launcher diff`` and ``launcher replay``: what two jobs do not share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.jobs import AsJson, JobName, complete_job
from launcher.cli.printing import print_json
from launcher.errors import BadInputError, JobFailedError
from launcher.terminal import say, say_error

if TYPE_CHECKING:
    from launcher.comparing.differences import Difference, JobComparison

DIFFERENT = 3
_LONGEST = 200
Ignored = Annotated[
    list[str] | None,
    typer.Option("--ignore", help="Differences to leave out, such as 'results/output/*.png'; may be repeated."),
]


def diff(
    first: JobName,
    second: Annotated[str, typer.Argument(metavar="JOB", help="Another job.", autocompletion=complete_job)],
    sections: Annotated[
        list[str] | None,
        typer.Option(
            "--section", "-s", help="outcome, request, source, data, environment, metrics or results; may be repeated."
        ),
    ] = None,
    ignore: Ignored = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help=f"Exit with {DIFFERENT} where anything differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what differs between two training jobs: request, source, data, environment, metrics, results.

    launcher diff cartpole-1 latest -s request -s metrics
    """
    from launcher.comparing.jobs import SECTIONS
    from launcher.sdk.comparisons import compare_jobs

    comparison = compare_jobs(first, second, sections=sections or SECTIONS, ignore=ignore or ())
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison)
    if exit_code and not comparison.same:
        raise typer.Exit(DIFFERENT)


def replay(
    job: JobName,
    verify: Annotated[
        bool, typer.Option("--verify", help=f"Compare what comes out; exit with {DIFFERENT} where it differs.")
    ] = False,
    runtime: Annotated[
        str | None, typer.Option("--runtime", "-r", help="auto, docker or process; the recorded job's by default.")
    ] = None,
    job_name: Annotated[str | None, typer.Option(help="Of the new job; made from the time by default.")] = None,
    ignore: Ignored = None,
    as_json: AsJson = False,
) -> None:
    """Run a recorded training job again: its source, channels and values, under a new name.

    With --verify every file that both jobs left is compared, and each value of their metrics.
    """
    from launcher.sdk.comparisons import compare_replay, replay_job
    from launcher.sdk.job_results import find_job

    recorded = find_job(job)
    if verify and recorded.status in ("InProgress", "Stopping"):
        raise BadInputError(f"job '{recorded.name}' has not ended.", f"Wait for it: launcher logs -f {recorded.name}")
    again = replay_job(recorded, job_name=job_name, runtime=runtime)
    if not as_json:
        say(f"Training job {again.name} in {again.path}")
        for warning in again.warnings:
            say_error(f"warning: {warning}")
    try:
        again.wait(logs="None" if as_json else "All")
    except JobFailedError:
        if not verify:
            raise
    if not verify:
        if as_json:
            print_json({"job": again.name, "status": again.status})
        else:
            say(f"{again.name}: {again.status}. Compare: launcher diff {recorded.name} {again.name}")
        raise typer.Exit(0 if again.status == "Completed" else 1)
    comparison = compare_replay(recorded, again, ignore=ignore or ())
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison)
        counted = sum(comparison.section(name).compared for name in ("metrics", "results"))
        say(
            f"{recorded.name} and {again.name}: the same {counted} files and metrics came out."
            if comparison.same_results
            else f"{recorded.name} and {again.name}: what came out is not the same."
        )
    raise typer.Exit(0 if comparison.same_results else DIFFERENT)


def print_comparison(comparison: JobComparison) -> None:
    """Print the sections of a comparison, those without a difference in one line each."""
    say(f"- {comparison.first}\n+ {comparison.second}")
    for section in comparison.sections:
        count = len(section.differences)
        verdict = f"{count} of {section.compared} differ" if count else f"the same ({section.compared} compared)"
        say(f"{section.name}: {verdict if section.compared or count else 'nothing to compare'}")
        for difference in section.differences:
            _print_difference(difference)
        for note in section.notes:
            say(f"  note: {note}")


def _print_difference(difference: Difference) -> None:
    say(f"  {difference.subject}")
    if not difference.lines or isinstance(difference.first, dict) or None in (difference.first, difference.second):
        for sign, value in (("-", difference.first), ("+", difference.second)):
            say(f"    {sign} {_text(value)}")
    for line in difference.lines:
        say(f"    {line}")


def _text(value: Any) -> str:
    if value is None:
        return "(nothing)"
    if isinstance(value, dict):
        return ", ".join(f"{name} {member}" for name, member in value.items())
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
