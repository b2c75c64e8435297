"""``launcher images``: what runs in the place of AWS's images."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.printing import print_json, print_table
from launcher.terminal import say, say_error

app = typer.Typer(help="What runs in the place of AWS's images.", no_args_is_help=True)

_Key = Annotated[str, typer.Argument(help="A repository, REPOSITORY:TAG or a whole name; * stands for anything.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command("ls")
def list_images(
    image: Annotated[str | None, typer.Argument(help="Show what runs for this one alone.")] = None,
    as_json: _AsJson = False,
) -> None:
    """List the table: the first line that fits an image counts."""
    from launcher.runtimes.images import BUNDLED, local_image, own_lines, shipped_lines

    if image is not None:
        say(local_image(image) or BUNDLED)
        return
    rows = [(key, value, "yours") for key, value in own_lines().items()]
    rows += [(key, value, "shipped") for key, value in shipped_lines().items()]
    if as_json:
        print_json([dict(zip(("image", "runs", "line"), row, strict=True)) for row in rows])
    else:
        print_table([("IMAGE", "RUNS", "LINE"), *rows])


@app.command("set")
def set_image(
    key: _Key,
    image: Annotated[str, typer.Argument(help="bundled, 'bundled + PACKAGE ...', or an image of the engine.")],
) -> None:
    """Add a line of your own, which goes before all others: launcher images set sagemaker-tritonserver my-triton:1."""
    from launcher.runtimes.images import set_line

    set_line(key, image)


@app.command("rm")
def remove_image(key: _Key) -> None:
    """Take a line of your own out again."""
    from launcher.runtimes.images import remove_line

    remove_line(key)


def push(
    registry_uri: Annotated[
        str, typer.Argument(metavar="REGISTRY_URI", help="REGISTRY/REPOSITORY or REGISTRY/REPOSITORY:TAG.")
    ],
    image: Annotated[str, typer.Option("--image", help="An image of the engine; the bundled one by default.")] = "",
) -> None:
    """Push the bundled image, which is built if it has to be, to a registry; print the name for --image-uri.

    launcher push 111122223333.dkr.ecr.eu-west-1.amazonaws.com/launcher-job
    """
    from launcher.runtimes.pushing import architecture, push_image

    name = push_image(registry_uri, image)
    built_for = architecture(name)
    if built_for not in ("", "amd64"):
        say_error(f"warning: {name} is for {built_for}; most instance types of AWS need amd64.")
    print(name)
