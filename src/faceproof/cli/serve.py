"""`faceproof serve`, `worker`, `keys`, `audit`, `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from faceproof.service.settings import Settings
    from faceproof.service.site import Site
    from faceproof.service.store import Store

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder for the database and files.", show_default="faceproof-data"),
]

_keys = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate, revoke.")
_audit = typer.Typer(no_args_is_help=True, help="The audit log.")


def register(app: typer.Typer) -> None:
    app.command(name="serve")(serve)
    app.command(name="worker")(worker)
    app.command(name="migrate")(migrate)
    app.add_typer(_keys, name="keys")
    app.add_typer(_audit, name="audit")


def _settings(**given: Any) -> Settings:
    from faceproof.errors import MissingExtraError

    try:
        import fastapi
        import sqlalchemy
        import structlog
        import uvicorn
    except ImportError as error:
        raise MissingExtraError.of("The service", "serve") from error
    del fastapi, sqlalchemy, structlog, uvicorn
    from faceproof.service.settings import Settings

    return Settings.read(**given)


def open_site(data: Path | None) -> Site:
    """The service of a data folder, or of the FACEPROOF_… variables."""
    settings = _settings(data=data)
    from faceproof.service.site import Site

    return Site.open(settings)


def _store(data: Path | None) -> Store:
    return open_site(data).store


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port.", show_default="8000")] = None,
    data: DataOption = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes.", show_default="1")] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="TIME", help="Erase results after, e.g. 12h or 30d.", show_default="7d")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option("--detector", "-d", metavar="NAME", help="The default detector.", show_default="faceproof-small"),
    ] = None,
) -> None:
    """Run the web page and the REST API, with worker processes of their own unless FACEPROOF_BROKER is set.

    Every setting also has a FACEPROOF_… variable; docs/service.md lists them. Listening beyond this machine needs keys.
    """
    settings = _settings(host=host, port=port, data=data, workers=workers, keep=keep, detector=detector)
    import uvicorn

    from faceproof.errors import OptionError
    from faceproof.service import keys, logs
    from faceproof.service.app import make_app
    from faceproof.service.heads import BoundedHeads
    from faceproof.service.settings import is_loopback
    from faceproof.service.site import Site
    from faceproof.service.watch import Watch

    logs.configure(settings.log_format)
    if not is_loopback(settings.host) and settings.auth == "off":
        raise OptionError(
            "a server that other machines reach cannot be without keys",
            remedy="Unset FACEPROOF_AUTH, or listen on 127.0.0.1 behind a proxy that asks who is calling.",
        )
    # What is wrong is said now, in one line, and not by every page.
    site = Site.open(settings)
    Watch(site)
    if site.detectors.specs():
        site.detectors.fingerprint(site.detectors.default)
    known = keys.everyone(site.store)
    site.close()
    if not is_loopback(settings.host) and not any(key.revoked_at is None for key in known):
        # It starts all the same: in a container the command that makes one needs the container to run.
        typer.echo("There is no API key yet, so nobody can sign in: run `faceproof keys create NAME`.", err=True)
    _check_free(settings.host, settings.port)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    typer.echo(f"Faceproof: http://{shown}:{settings.port}   data in {settings.data}   Ctrl-C stops", err=True)
    web = make_app(settings)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            # Whoever follows a job would hold the server up until its patience ends; browsers connect again by themselves.
            web.state.closing = True
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        web,
        http=BoundedHeads,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        # Longer than proxies keep a connection they may use again; closing first would break a request on its way.
        timeout_keep_alive=75,
    )
    Server(config).run()


def _check_free(host: str, port: int) -> None:
    """Raises :class:`OptionError` where nobody can listen, before an address is announced that another program answers."""
    import socket

    from faceproof.errors import OptionError

    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise OptionError(
            f"cannot listen on port {port} of {host}: {error.strerror}",
            remedy="Choose another with --port, or end the program that has it; --host says on which address.",
        ) from error


def worker(
    data: DataOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="1")] = None,
) -> None:
    """Run worker processes only: from the broker where FACEPROOF_BROKER is set, otherwise from the job table."""
    import signal
    import threading

    settings = _settings(data=data, workers=workers)
    from faceproof.service import logs

    logs.configure(settings.log_format)
    if settings.broker:
        from faceproof.service.broker import serve_queue

        serve_queue(settings)
        return
    from faceproof.service.housekeeping import Housekeeping
    from faceproof.service.site import Site
    from faceproof.service.worker import Crew

    site = Site.open(settings)
    crew, housekeeping, stop = Crew(site, max(1, settings.workers)), Housekeeping(site), threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: stop.set())
    housekeeping.start()
    crew.start()
    stop.wait()
    crew.stop()
    housekeeping.stop()
    site.close()


def migrate(data: DataOption = None) -> None:
    """Bring the database up to this version. `serve` and `worker` do it by themselves."""
    _store(data)
    typer.echo("The database is up to date.")


@_keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; for people only.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="scan, read, label, delete, metrics, admin; repeatable.", show_default=False),
    ] = None,
    jobs_per_day: Annotated[int | None, typer.Option(min=1, help="Quota.", show_default=False)] = None,
    size_per_day: Annotated[str | None, typer.Option(help="Quota, e.g. 20GB.", show_default=False)] = None,
    data: DataOption = None,
) -> None:
    """Make a key and show it once."""
    from faceproof.errors import OptionError
    from faceproof.service import keys
    from faceproof.service.settings import parse_size

    try:
        size = parse_size(size_per_day) if size_per_day else None
    except ValueError as error:
        raise OptionError(f"--size-per-day: {error}") from error
    _, key = keys.create(
        _store(data), name, scopes=scope or keys.DEFAULT_SCOPES, jobs_per_day=jobs_per_day, bytes_per_day=size
    )
    typer.echo(key)
    typer.echo("Keep it safe: it is shown this once and cannot be read back.", err=True)


@_keys.command("list")
def list_keys(data: DataOption = None) -> None:
    """Show all keys, never their secrets."""
    from faceproof.service import keys
    from faceproof.service.views import ago

    for key in keys.everyone(_store(data)):
        state = "revoked" if key.revoked_at else "active"
        typer.echo(f"{key.id}  {state:8}{key.name:24}  {key.scopes}  made {ago(key.created_at)}")


@_keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    grace: Annotated[str, typer.Option(metavar="TIME", help="How long the old secret still works.")] = "1d",
    data: DataOption = None,
) -> None:
    """Give a key a new secret."""
    from faceproof.errors import OptionError
    from faceproof.service import keys
    from faceproof.service.settings import parse_span

    try:
        seconds = float(parse_span(grace))
    except ValueError as error:
        raise OptionError(f"--grace: {error}") from error
    typer.echo(keys.rotate(_store(data), key_id, grace=seconds))


@_keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID")], data: DataOption = None) -> None:
    """End a key and its sessions at once."""
    from faceproof.service import keys

    keys.revoke(_store(data), key_id)
    typer.echo(f"{key_id} is revoked.")


@_keys.command("webhook-secret")
def show_webhook_secret(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="A key's id, or local.")] = "local",
    data: DataOption = None,
) -> None:
    """Show the secret with which receivers check webhook signatures."""
    from faceproof.service.site import Site
    from faceproof.service.webhooks import webhook_secret

    typer.echo(webhook_secret(Site.open(_settings(data=data)).secret, key_id))


@_audit.command("verify")
def verify_audit(
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="A hash noted earlier that must still be in the log.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Check the whole chain. Exit code 1 when it is broken."""
    from faceproof.service import audit

    found = audit.verify(_store(data), head=head)
    if not found.whole:
        typer.echo(f"Broken at entry {found.broken_at}: {found.reason}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{found.entries} entries, unbroken. Note the last hash elsewhere: {found.head}")


@_audit.command("show")
def show_audit(
    last: Annotated[int, typer.Option(min=1, help="How many entries.")] = 50, data: DataOption = None
) -> None:
    """Print the newest entries, oldest first."""
    import sqlalchemy as sa

    from faceproof.service.tables import AuditEntry
    from faceproof.service.views import moment

    with _store(data).read() as session:
        rows = session.scalars(sa.select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(last)).all()
    for row in reversed(rows):
        typer.echo(f"{row.seq:>7}  {moment(row.at):%Y-%m-%d %H:%M:%S}  {row.actor:10}  {row.action:12}  {row.target}")
