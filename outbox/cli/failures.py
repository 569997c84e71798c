"""``outbox failures``: what has failed or is parked, in groups of what is alike in it."""

from typing import Annotated, Any

import typer

from outbox.cli import ledger, tables
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, Json, command, out, print_json
from outbox.cli.tables import Column

_GROUPS = (
    Column("group"),
    Column("count"),
    Column("status", styles={"failed": "red", "parked": "yellow"}),
    Column("step", goes=3),
    Column("error"),
    Column("message", below=True),
    Column("last"),
    Column("first", goes=2),
    Column("example", goes=1),
)
_MEMBERS = (Column("intent"), Column("schedule", below=True), Column("since"), Column("message", below=True))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("failures")(failures)


@command
async def failures(
    group: Annotated[
        str | None, typer.Argument(help="Show the intents of this group, the last first.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Of a group: at most so many intents.")] = 50,
    as_json: Json = False,
) -> None:
    """Group what has failed or is parked by store, step, error code and message; the youngest first.

    What was replayed, discarded or pruned since is left out. `outbox replay --group` replays a whole group.
    """
    async with ledger.open_engine(load_settings().database_url.get_secret_value()) as engine:
        store = ledger.FailureStore(engine)
        rows = await store.groups() if group is None else await store.page(group, limit=limit)
    if group is not None and not rows:
        raise CommandError(f"no group {group}: `outbox failures` lists them", Code.BAD_INPUT)
    if as_json:
        for row in rows:
            print_json(row)
        return
    if group is None:
        tables.show(out, _GROUPS, [_group(row) for row in rows])
    else:
        tables.show(out, _MEMBERS, [_member(row) for row in rows])


def _group(row: dict[str, Any]) -> list[str]:
    return [
        row["group_id"],
        str(row["count"]),
        row["status"],
        f"{row['consumer']} {row['step'].removeprefix('schedule.')}",
        row["error_code"],
        row["pattern"],
        f"{row['last_at'].astimezone():%m-%d %H:%M:%S}",
        f"{row['first_at'].astimezone():%m-%d %H:%M:%S}",
        str(row["example_id"]),
    ]


def _member(row: dict[str, Any]) -> list[str]:
    return [
        str(row["id"]),
        row["schedule_id"],
        f"{row['failed_at'].astimezone():%m-%d %H:%M:%S}",
        row["error_message"] or "",
    ]
