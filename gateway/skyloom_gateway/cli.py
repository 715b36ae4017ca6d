"""The command line: ``skyloom gateway``, ``node``, ``replay``, ``check``, ``schema``, ``ticket``, ``console``."""

from __future__ import annotations

import difflib
import json
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer

from skyloom import CannotStart
from skyloom_gateway.admin.command import console
from skyloom_gateway.app import App, AppError, load_app
from skyloom_gateway.app_node import AppNode
from skyloom_gateway.auth import AuthError, issue_ticket
from skyloom_gateway.auth.setup import ticket_keys
from skyloom_gateway.contract import contract_of, document_bytes
from skyloom_gateway.contract.compare import compare
from skyloom_gateway.contract.contract import ContractError
from skyloom_gateway.contract.python import python as as_python
from skyloom_gateway.contract.reading import read_contract
from skyloom_gateway.contract.typescript import typescript as as_typescript
from skyloom_gateway.load import LoadError, load
from skyloom_gateway.log import configure
from skyloom_gateway.serve import run, serve
from skyloom_gateway.settings import Settings, SettingsError
from skyloom_gateway.settings_text import describe, settings_fields

if TYPE_CHECKING:
    from collections.abc import Sized

    from skyloom import Service
    from skyloom_gateway.contract import Contract
    from skyloom_gateway.server import Server

main = typer.Typer(
    name="skyloom",
    help="A networked game-server framework: sessions, agents and services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

log = structlog.get_logger("skyloom.cli")

TICKET_TTL_SECONDS = 300.0
"""How long a ticket of `skyloom ticket` may lie about: time to paste it somewhere."""

Apps = Annotated[list[str], typer.Argument(help="apps to serve, each as module:app", metavar="APP...")]
Host = Annotated[str | None, typer.Option(help="address to listen on [127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="WebSocket and HTTP port [8000]; 0 picks a free one")]
TcpPort = Annotated[str | None, typer.Option(help="TCP port [8001]; 0 picks a free one, off turns it off")]
Database = Annotated[str | None, typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/NAME")]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings [skyloom.toml, if it is there]")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="any setting by its name, as in --set gateway.heartbeat_seconds=10", metavar="NAME=VALUE"
    ),
]
AllowGuests = Annotated[
    bool | None, typer.Option("--allow-guests", help="let guests in from other machines than this one too")
]
ReusePort = Annotated[
    bool | None,
    typer.Option("--reuse-port", help="listen beside another gateway on the same ports, started with this too"),
]
Nats = Annotated[
    str | None, typer.Option(help="join the cluster at this NATS server, as nats://HOST:4222", metavar="URL")
]
NodeName = Annotated[str | None, typer.Option(help="name of this node [node-1; in a cluster one is made up]")]
Record = Annotated[
    list[str] | None,
    typer.Option("--record", help="record what a service receives, for `skyloom replay`", metavar="SERVICE=FILE"),
]

Check = Annotated[
    Path | None,
    typer.Option(help="say what breaks clients since this older document; then the status is 1", metavar="OLD"),
]
TypeScript = Annotated[Path | None, typer.Option(help="write a typed client; - is the terminal", metavar="FILE")]
Python = Annotated[Path | None, typer.Option(help="write a typed client; - is the terminal", metavar="FILE")]
Verbose = Annotated[bool, typer.Option("--verbose", help="with --check: say what else changed, too")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skyloom {version('skyloom')}")
        raise typer.Exit


@main.callback()
def skyloom(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """A networked game-server framework: sessions, agents and services."""


@main.command()
def gateway(
    apps: Apps,
    host: Host = None,
    port: Port = None,
    tcp_port: TcpPort = None,
    database: Database = None,
    config: Config = None,
    set_: Set = None,
    allow_guests: AllowGuests = None,
    reuse_port: ReusePort = None,
    nats: Nats = None,
    name: NodeName = None,
    record: Record = None,
) -> None:
    """Serve apps to WebSocket and TCP clients, with their services in this process or, with --nats, in a cluster."""
    settings = _settings(host, port, tcp_port, database, config, set_, allow_guests, reuse_port, nats, name)
    recordings = _recordings(record)
    loaded = _load(apps)
    _refuse_unknown_services(recordings)
    flood = configure(settings.log)
    try:
        fault = run(lambda: serve(lambda: _server(loaded, settings), recordings, _announce))
    finally:
        flood.flush()
    _finish(fault)


@main.command()
def node(
    apps: Apps,
    nats: Nats = None,
    name: NodeName = None,
    database: Database = None,
    config: Config = None,
    set_: Set = None,
    record: Record = None,
) -> None:
    """Run the services of apps for the gateways of a cluster, without serving clients here."""
    settings = _load_settings({"database": database, "node": name, "cluster": {"nats": nats}}, config, set_)
    if settings.cluster.nats is None:
        raise _usage("a node by itself serves nobody: name the NATS server of its cluster by --nats nats://HOST:4222")
    if not settings.cluster.services:
        raise _usage("cluster.services is off, so that this node would do nothing")
    recordings = _recordings(record)
    loaded = _load(apps)
    _refuse_unknown_services(recordings)
    flood = configure(settings.log)
    try:
        fault = run(lambda: serve(lambda: AppNode(loaded, settings), recordings, _announce_node))
    finally:
        flood.flush()
    _finish(fault)


@main.command()
def replay(
    file: Annotated[Path, typer.Argument(help="what `skyloom gateway --record` wrote")],
    service: Annotated[str, typer.Argument(help="the service's class", metavar="MODULE:CLASS")],
    break_at: Annotated[int | None, typer.Option(help="open the debugger at the event of this number")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="write what the service logs meanwhile, with tracebacks")
    ] = False,
) -> None:
    """Replay what `skyloom gateway --record SERVICE=FILE` recorded into a fresh service, event by event."""
    from structlog.testing import capture_logs

    from skyloom.testing.replay import ReplayDiverged
    from skyloom.testing.replay import replay as run_again

    cls = _service_class(service)
    try:
        # A service that does not go on as recorded fails in all its parts, which says less than the one line below.
        with nullcontext() if verbose else capture_logs([_drop]):
            replayed = run_again(file, cls, break_at=break_at)
    except (OSError, ValueError, ReplayDiverged) as error:
        typer.echo(f"skyloom: {error}", err=True)
        raise typer.Exit(1) from None
    end = "" if replayed.ended is None else f", and {replayed.ended}"
    typer.echo(f"{cls.__name__} did the same in all {replayed.events} events{end}")


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


def _service_class(spec: str) -> type[Service]:
    from skyloom import Service

    _look_here()
    try:
        cls: type[Service] = load(
            spec, "a class of services", lambda found: isinstance(found, type) and issubclass(found, Service)
        )
    except LoadError as error:
        raise _usage(f"{spec}: {error}") from None
    return cls


def _look_here() -> None:
    """As `python -m` does: a module may lie in the folder where the command is given."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _recordings(given: list[str] | None) -> dict[str, str]:
    recordings = {}
    for item in given or ():
        name, equals, path = item.partition("=")
        if not equals or not name or not path:
            raise _usage(f"--record {item}: write it as SERVICE=FILE")
        recordings[name] = path
    return recordings


def _refuse_unknown_services(recordings: dict[str, str]) -> None:
    """Names of no service class that the apps' modules have; the apps' own services may start others later."""
    from skyloom import Service

    names: set[str] = set()
    found = [Service]
    while found:
        cls = found.pop()
        found += cls.__subclasses__()
        if cls.name is not None:
            names.add(cls.name)
    for name, path in recordings.items():
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
            raise _usage(f"--record {name}={path}: no service has this name; {remedy}")


@main.command()
def check(
    apps: Apps,
    host: Host = None,
    port: Port = None,
    tcp_port: TcpPort = None,
    database: Database = None,
    config: Config = None,
    set_: Set = None,
    allow_guests: AllowGuests = None,
) -> None:
    """Check that the apps load and that they could be served with the settings, and show them."""
    settings = _settings(host, port, tcp_port, database, config, set_, allow_guests)
    loaded = _load(apps)
    try:
        _server(loaded, settings).check()
    except (AppError, AuthError, CannotStart, ValueError) as error:
        raise _usage(str(error)) from None
    for app in loaded:
        counts = (_count(app.routes, "route"), _count(app.pushes, "push", "pushes"), _count(app.services, "service"))
        typer.echo(f"app {app.name}: {', '.join(counts)}")
    typer.echo(describe(settings))


def _count(things: Sized, one: str, many: str | None = None) -> str:
    return f"{len(things)} {one if len(things) == 1 else many or f'{one}s'}"


@main.command()
def schema(
    apps: Apps,
    check: Check = None,
    verbose: Verbose = False,
    typescript: TypeScript = None,
    python: Python = None,
) -> None:
    """Write the apps' contract with their clients: an AsyncAPI 3.0 document of routes, bodies, pushes and errors."""
    try:
        contract = contract_of(_load(apps))
        if typescript is not None:
            _write(typescript, as_typescript(contract))
        if python is not None:
            _write(python, as_python(contract))
        if check is not None:
            raise typer.Exit(_breaking(check, contract, verbose=verbose))
    except (AppError, ContractError) as error:
        raise _usage(str(error)) from None
    if typescript is None and python is None:
        _write(Path("-"), document_bytes(contract).decode())


def _write(file: Path, text: str) -> None:
    try:
        if file == Path("-"):
            sys.stdout.buffer.write(text.encode())
        else:
            file.write_bytes(text.encode())
    except OSError as error:
        raise _usage(f"{file}: cannot be written: {error.strerror}") from None


def _breaking(old: Path, contract: Contract, *, verbose: bool) -> int:
    """Say what changed since an old document; 1 when something breaks clients, else 0. Raises ContractError."""
    try:
        changes = compare(read_contract(old.read_bytes()), contract)
    except OSError as error:
        raise ContractError(f"--check {old}: cannot be read: {error.strerror}") from None
    except ContractError as error:
        raise ContractError(f"--check {old}: {error}") from None
    breaking = [change for change in changes if change.breaks]
    others = [change for change in changes if not change.breaks]
    if breaking:
        typer.echo(f"{len(breaking)} {'change breaks' if len(breaking) == 1 else 'changes break'} clients:")
    else:
        typer.echo("no change breaks clients")
    for change in breaking:
        typer.echo(f"  {change}")
    if verbose and others:
        typer.echo(f"{len(others)} {'change does not' if len(others) == 1 else 'changes do not'}:")
        for change in others:
            typer.echo(f"  {change}")
    return 1 if breaking else 0


@main.command()
def ticket(
    user: Annotated[str, typer.Argument(help="who the client will be")],
    ttl: Annotated[float, typer.Option(min=0.001, help="seconds until it expires")] = TICKET_TTL_SECONDS,
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", help="what agents find in self.claims; JSON, or else text", metavar="NAME=VALUE"),
    ] = None,
    audience: Annotated[str | None, typer.Option(help="who it is for [the setting ticket.audience]")] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print a ticket for one connection, signed with the first of ticket.keys: for trying out."""
    settings = _load_settings({}, config, set_).ticket
    claims: dict[str, object] = {}
    for item in claim or ():
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise _usage(f"--claim {item}: write it as NAME=VALUE")
        try:
            claims[name] = json.loads(text)
        except ValueError:
            claims[name] = text
    if ttl > settings.lifetime_seconds:
        raise _usage(
            f"--ttl {ttl:g}: above ticket.lifetime_seconds, {settings.lifetime_seconds:g}, so that it would be refused;"
            " lower it"
        )
    try:
        made = issue_ticket(
            ticket_keys(settings)[0],
            user,
            audience=audience or settings.audience,
            expires_at=time.time() + ttl,  # noqa: TID251 - a command outside any node has the system's clock alone
            claims=claims,
        )
    except ValueError as error:
        raise _usage(str(error)) from None
    typer.echo(made)


def _settings(
    host: str | None,
    port: int | None,
    tcp_port: str | None,
    database: str | None,
    config: Path | None,
    set_: list[str] | None,
    allow_guests: bool | None,
    reuse_port: bool | None = None,
    nats: str | None = None,
    name: str | None = None,
) -> Settings:
    gateway_values = {
        "host": host,
        "port": port,
        "tcp_port": tcp_port,
        "allow_guests": allow_guests,
        "reuse_port": reuse_port,
    }
    values: dict[str, object] = {
        "database": database,
        "node": name,
        "cluster": {"nats": nats},
        "gateway": gateway_values,
    }
    return _load_settings(values, config, set_)


def _load_settings(values: dict[str, object], config: Path | None, set_: list[str] | None) -> Settings:
    named: dict[str, object] = {}
    for item in set_ or ():
        name, equals, value = item.partition("=")
        if not equals:
            raise _usage(f"--set {item}: write it as NAME=VALUE")
        *section, last = name.split(".")
        target = named
        for place, part in enumerate(section, 1):
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict) or ".".join(section[:place]) in settings_fields():
                raise _usage(f"--set {item}: {part} is a setting, not a section of them")
            target = inner
        target[last] = value
    try:
        return Settings.load(values, config, named)
    except SettingsError as error:
        raise _usage(str(error)) from None


def _load(specs: list[str]) -> list[App]:
    _look_here()
    try:
        apps = [load_app(spec) for spec in specs]
    except AppError as error:
        raise _usage(str(error)) from None
    names = [app.name for app in apps]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _usage(f"two apps are named {', '.join(map(repr, twice))}: give each app a name of its own")
    return apps


def _usage(text: str) -> typer.Exit:
    typer.echo(f"skyloom: {text}", err=True)
    return typer.Exit(2)


def _server(apps: list[App], settings: Settings) -> Server:
    """A server that has not started yet. Raises AuthError."""
    from skyloom_gateway.server import Server

    return Server(apps, settings)


def _finish(fault: str | None) -> None:
    if fault is not None:  # after all that is logged, so that it is the last line
        typer.echo(f"skyloom: {fault}", err=True)
        raise typer.Exit(1)


def _announce_node(node: AppNode) -> None:
    apps = ", ".join(app.name for app in node.apps)
    typer.echo(f"skyloom node {node.node.name} runs {apps} in the cluster {node.settings.cluster.name}")
    sys.stdout.flush()


def _announce(server: Server) -> None:
    ways = [server.url]
    if server.tcp_port is not None:
        host = f"[{server.host}]" if ":" in server.host else server.host
        scheme = "tcp" if server.settings.gateway.tls_certificate is None else "tls"
        ways.append(f"{scheme}://{host}:{server.tcp_port}")
    typer.echo(f"skyloom listens on {' and '.join(ways)}")
    for app in server.apps:
        if app.pages is not None:
            typer.echo(f"  {app.title}: {server.url}/{app.name}/")
    if server.admin_port is not None:
        typer.echo(f"  metrics: {server.admin_url}/metrics; to look inside: skyloom console --port {server.admin_port}")
    sys.stdout.flush()


main.command(context_settings={"ignore_unknown_options": True})(console)


if __name__ == "__main__":
    main()
