"""``launcher up | down | status | env | ui``: the local AWS, a port for SageMaker, S3, other services, the console."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.jobs import AsJson
from launcher.terminal import say_error

if TYPE_CHECKING:
    from launcher.s3_server.service import Server

LOOPBACK = "127.0.0.1"
_Address = Annotated[
    str, typer.Option(help="The address to listen on. One that other machines reach asks for the key.")
]


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the last one if it is free, else any free one.")
    ] = None,
    address: _Address = LOOPBACK,
    as_json: AsJson = False,
) -> None:
    """Start the local AWS, and keep it up until "launcher down"; without this it starts by itself, and ends when idle.

    eval "$(launcher env)" leads boto3, the AWS CLI and the SageMaker SDK to it.
    """
    from launcher.s3_server import service
    from launcher.s3_server.access import is_loopback
    from launcher.settings import home_path
    from launcher.storage.own_s3 import ensure_server

    url = ensure_server(home_path(), address, port)
    service.stay(home_path(), address)
    if not is_loopback(address):
        say_error(
            f"warning: {url} can be reached from other machines. It asks for the key that 'launcher env --address"
            f" {address}' prints; requests and answers are not encrypted."
        )
    if as_json:
        print(json.dumps({"url": url}))
    else:
        print(url)


def down() -> None:
    """End the local AWS, after the requests it is at; jobs, endpoints and objects stay, and go on."""
    from launcher.settings import home_path
    from launcher.storage.own_s3 import stop_servers

    stopped = stop_servers(home_path())
    for server in stopped:
        print(f"stopped: {server.url}")
    if not stopped:
        print("no server was up")


def status(as_json: AsJson = False) -> None:
    """Say where the local AWS is up."""
    from launcher.s3_server import service
    from launcher.settings import home_path

    servers = service.status(home_path())
    if as_json:
        print(json.dumps({"home": str(home_path()), "servers": [_described(server) for server in servers]}, indent=2))
        return
    print(f"home: {home_path()}")
    for server in servers:
        ending = "until launcher down" if server.stays else "until it is idle"
        asks = ", asks for its key" if server.needs_key else ""
        print(f"up: {server.url}, pid {server.pid}, {ending}{asks}")
    if not servers:
        print("down: it is started when it is needed, or by: launcher up")


def environment(address: _Address = LOOPBACK, as_json: AsJson = False) -> None:
    """Print what a shell needs to use the local AWS, which is started: eval "$(launcher env)"."""
    from launcher.settings import REGION, home_path
    from launcher.storage.own_s3 import ensure_server, server_credentials

    url = ensure_server(home_path(), address)
    variables = {
        "AWS_ENDPOINT_URL": url,
        **server_credentials(home_path(), address),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }
    if as_json:
        print(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    # Of another account, a session token or a profile would go before these.
    print("unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL_S3")


def show_console(
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the address of the console: jobs, logs, curves, endpoints and files in a browser of this machine.

    It is a part of the local AWS, which is started if it is not up. Whoever has the address can read everything.
    """
    from launcher.console.access import address_of
    from launcher.settings import home_path
    from launcher.storage.own_s3 import ensure_server, s3_errors

    url = ensure_server(home_path())
    with s3_errors():
        address = address_of(home_path(), url)
    print(json.dumps({"url": address}) if as_json else address, flush=True)
    if browser:
        import webbrowser

        webbrowser.open(address)


def _described(server: Server) -> dict[str, object]:
    return {"url": server.url, "pid": server.pid, "stays": server.stays, "needs_key": server.needs_key}
