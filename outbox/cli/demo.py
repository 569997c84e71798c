"""``outbox demo``: the shop window; what it shows is in ``outbox.demo``."""

import typer

from outbox.cli.running import Json, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


@command
def demo(*, as_json: Json = False) -> None:
    """Show it all: real servers, two hundred intents, failures of every kind, and all stores agreed.

    Starts the embedded stack (in .outbox/, or OUTBOX_HOME) and leaves it running for the commands that it
    prints at the end; `outbox down` stops it. About a minute. Exits 1 if the stores disagree in the end, or
    an intent did not end as it must. Ctrl-C leaves the stack as it was found.
    """
    from outbox.cli.playing import play  # noqa: PLC0415 - help and completion play nothing

    play(as_json=as_json)
