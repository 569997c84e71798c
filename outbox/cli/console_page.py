"""``outbox console``: the operator's web page and its JSON API."""

from typing import Annotated

import typer

from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, Json, command
from outbox.documentation import Problem
from outbox.extras import install


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("console")(console)


@command
async def console(
    *,
    host: Annotated[str | None, typer.Option(help="Listen on this address (OUTBOX_CONSOLE_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="On this port; 0: any (OUTBOX_CONSOLE_PORT).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the operator's web page and its JSON API, and print its address.

    It listens on 127.0.0.1, and whoever works on this machine may act. On any other address it asks for
    OUTBOX_CONSOLE_TOKEN, or for a proxy that names visitors in OUTBOX_CONSOLE_IDENTITY_HEADER. SIGTERM or
    Ctrl-C ends it.
    """
    from outbox.cli.serving import serve_console  # noqa: PLC0415 - help and completion serve nothing

    settings = load_settings()
    place = settings.console_host if host is None else host
    try:
        await serve_console(settings, place, settings.console_port if port is None else port, as_json=as_json)
    except ModuleNotFoundError as error:
        message = f"the console needs {error.name}: {install('console')}"
        raise CommandError(message, Code.BAD_INPUT, Problem.MISSING_PACKAGE) from error
