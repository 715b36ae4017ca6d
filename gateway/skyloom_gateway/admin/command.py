"""``skyloom console``: the operator's end of the console."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.sync.client import ClientConnection

ADMIN_PORT: Final = 8018
"""Where `python3 dev.py run` has its admin port, and this command looks unless told otherwise."""

ANSWER_SECONDS: Final = 15.0
"""How long to wait for an answer; a service that does not give one is reported sooner."""

PROMPT: Final = "skyloom> "


def console(
    words: Annotated[
        list[str] | None, typer.Argument(help="a command, as `help` lists them; a prompt without", metavar="COMMAND...")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help=f"the server's admin port; else the setting gateway.admin_port, or {ADMIN_PORT}")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Look into a server on this machine, and at what its services do: `skyloom console help`.

    The status is 1 when the command failed, and 2 when no server was reached.
    """
    from websockets.exceptions import ConnectionClosed, WebSocketException

    try:
        with _connect(_port() if port is None else port) as connection:
            if words:
                raise typer.Exit(0 if _run(connection, words, as_json=as_json) else 1)
            _converse(connection, as_json=as_json)
    except ConnectionClosed as error:
        typer.echo(f"skyloom: the server closed the console: {error}", err=True)
        raise typer.Exit(2) from None
    except (OSError, WebSocketException) as error:
        # The server's words, when it refused us in some.
        response = getattr(error, "response", None)
        said = response.body.decode(errors="replace").strip() if response is not None and response.body else error
        where = f"127.0.0.1:{_port() if port is None else port}"
        typer.echo(f"skyloom: no console at {where}: {said}; the server needs gateway.admin_port", err=True)
        raise typer.Exit(2) from None


def _port() -> int:
    from skyloom_gateway.settings import Settings, SettingsError

    try:
        return Settings.load().gateway.admin_port or ADMIN_PORT
    except SettingsError as error:
        typer.echo(f"skyloom: {error}", err=True)
        raise typer.Exit(2) from None


def _connect(port: int) -> ClientConnection:
    from websockets.sync.client import connect

    from skyloom_gateway.admin.listener import (
        ADMIN_HOST,
        ANSWER_BYTES_MAX,
        CONSOLE_HEADER,
        CONSOLE_HEADER_VALUE,
        CONSOLE_PATH,
    )

    return connect(
        f"ws://{ADMIN_HOST}:{port}{CONSOLE_PATH}",
        additional_headers={CONSOLE_HEADER: CONSOLE_HEADER_VALUE},
        compression=None,
        proxy=None,
        max_size=ANSWER_BYTES_MAX,
    )


def _converse(connection: ClientConnection, *, as_json: bool) -> None:
    """Ask for commands until the input ends."""
    read = _reader()
    while True:
        try:
            words = shlex.split(read())
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        except ValueError as error:  # a quote that is not closed
            typer.echo(f"skyloom: {error}", err=True)
            continue
        if words in (["exit"], ["quit"]):
            return
        if words:
            _run(connection, words, as_json=as_json)


def _reader() -> Callable[[], str]:
    if not sys.stdin.isatty():
        return input
    try:
        import readline  # noqa: F401 - it gives `input` a history
    except ImportError:  # not on Windows
        pass
    return lambda: input(PROMPT)


def _run(connection: ClientConnection, words: list[str], *, as_json: bool) -> bool:
    """Send a command and show its answer; whether it was done."""
    from skyloom_gateway.admin.table import as_text

    connection.send(json.dumps({"words": words}))
    told = json.loads(connection.recv(ANSWER_SECONDS))
    if "error" in told:
        typer.echo(f"skyloom: {as_text(told['error'])}", err=True)
        return False
    typer.echo(json.dumps(told["result"], indent=2) if as_json else as_text(told["result"]))
    return True
