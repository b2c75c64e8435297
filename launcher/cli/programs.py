"""``launcher exec``: a program that was written for real AWS, on the local one."""

from __future__ import annotations

from typing import Annotated

import typer


def execute(
    command: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="What to run, behind --.")],
    offline: Annotated[bool, typer.Option("--offline", help="Refuse every host, not only AWS's.")] = False,
) -> None:
    """Run a program that was written for real AWS, unchanged, on the AWS of this machine.

    launcher exec -- python train_on_sagemaker.py

    AWS's names lead to the local endpoint; nothing of the program's, or of its jobs', reaches the real one by name.
    """
    import os

    from launcher.proxy.running import local_aws, run_program
    from launcher.settings import home_path

    with local_aws(home_path(), os.environ, offline=offline) as environment:
        code = run_program(command, environment)
    raise typer.Exit(code)
