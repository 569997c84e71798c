"""``outbox mcp``: the console's reads, previews and actions as tools for assistants."""

from typing import Annotated

import typer

from outbox.cli import signals
from outbox.cli.configuration import acting, load_settings
from outbox.cli.running import Code, CommandError, command, explain
from outbox.documentation import Problem
from outbox.extras import install


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mcp")(mcp)


@command
async def mcp(
    *,
    allow_actions: Annotated[
        bool,
        typer.Option(
            "--allow-actions", help="Also offer to replay, discard, repair and adopt, as previewed."
        ),
    ] = False,
) -> None:
    """Serve the console's reads and previews to an assistant, as MCP tools over stdin and stdout.

    An assistant's program starts it. It ends when stdin does. What an assistant does by --allow-actions is
    written down as done by OUTBOX_OPERATOR, or else by the user who runs this. What requests hold is shown
    unless OUTBOX_CONSOLE_PAYLOADS is false.
    """
    try:
        from outbox.mcp.server import serve  # noqa: PLC0415 - help and completion serve nothing
    except ModuleNotFoundError as error:
        message = f"`outbox mcp` needs {error.name}: {install('mcp')}"
        raise CommandError(message, Code.BAD_INPUT, Problem.MISSING_PACKAGE) from error
    # A thread waits for the next line of stdin, and nothing else is under way: there is nothing to clean up.
    signals.end_at_once()
    settings = load_settings()
    await serve(
        settings,
        operator=acting(settings),
        may_act=allow_actions,
        explain=lambda error: explain(error).line,
    )
