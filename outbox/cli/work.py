"""``outbox run`` and ``outbox relay``: the processes that work."""

from typing import TYPE_CHECKING, Annotated

import typer

from outbox.cli.configuration import load_settings
from outbox.cli.running import Json, among, command, print_json
from outbox.flow.table import Consumer

if TYPE_CHECKING:
    from outbox.settings import Settings

Port = Annotated[
    int | None,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        help="Serve /healthz, /readyz and /metrics there, on OUTBOX_HTTP_HOST; default: OUTBOX_HTTP_PORT.",
    ),
]
_ONLY = {"authz": Consumer.AUTHZ, "temporal": Consumer.TEMPORAL}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("relay")(relay)


@command
async def run(
    *,
    only: Annotated[
        str | None,
        typer.Option(help="Serve one store alone: authz (SpiceDB) or temporal.", autocompletion=among(_ONLY)),
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no intent is pending (parked ones don't count).")
    ] = False,
    http_port: Port = None,
    as_json: Json = False,
) -> None:
    """Run a worker: take steps, apply them to SpiceDB and Temporal, settle them.

    Any number of workers share one database. SIGTERM or Ctrl-C drains: no new steps, those under way finish
    or are released, within OUTBOX_DRAIN_SECONDS; a second signal exits at once.
    """
    if only is not None and only not in _ONLY:
        raise ValueError(f"--only {only}: it is authz or temporal")
    from outbox.cli.serving import serve_worker  # noqa: PLC0415 - help and completion run none

    serves = _ONLY[only] if only else None
    summary = await serve_worker(_settings(http_port), serves, until_idle=until_idle)
    if as_json:
        print_json(summary)


@command
async def relay(*, http_port: Port = None, as_json: Json = False) -> None:
    """Run a relay: publish due steps to Kafka for `outbox run` to take, and events for other systems.

    The Kafka wire needs one; a second takes over when the first dies. SIGTERM or Ctrl-C finishes the batch
    under way; a second signal exits at once.
    """
    from outbox.cli.serving import serve_relay  # noqa: PLC0415 - help and completion run none

    summary = await serve_relay(_settings(http_port))
    if as_json:
        print_json(summary)


def _settings(http_port: int | None) -> "Settings":
    settings = load_settings()
    return settings if http_port is None else settings.model_copy(update={"http_port": http_port})
