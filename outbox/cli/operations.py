"""``outbox operations``: what operators did, and what came of it."""

from typing import Annotated, Any

import typer

from outbox.cli import ledger, tables
from outbox.cli.configuration import load_settings
from outbox.cli.running import Json, command, out, print_json
from outbox.cli.tables import Column
from outbox.when import moment

_OPERATIONS = (
    Column("at"),
    Column("who"),
    Column("action"),
    Column("what", below=True),
    Column("outcome", styles={"refused": "red"}),
    Column("why", goes=1),
    Column("detail", goes=2),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("operations")(operations)


@command
async def operations(
    *,
    of: Annotated[
        str | None, typer.Option(help="Only those of a schedule id, or of authz or temporal.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only newer ones: 30s, 15m, 2h, 7d, or an ISO 8601 time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List what operators did: who, when, why, and what came of it; the newest first."""
    after = moment("--since", since) if since else None
    async with ledger.open_engine(load_settings().database_url.get_secret_value()) as engine:
        rows = await ledger.ReadStore(engine).operations(target=of, since=after, limit=limit)
    if as_json:
        for row in rows:
            print_json(row)
        return
    tables.show(out, _OPERATIONS, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['at'].astimezone():%m-%d %H:%M:%S}",
        row["who"],
        row["action"] if row["items"] == 1 else f"{row['action']} {row['items']}",
        row["target"],
        row["outcome"],
        row["why"] or "",
        row["detail"],
    ]
