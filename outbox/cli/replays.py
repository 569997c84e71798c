"""``outbox replays``: replays in waves, and what came of them."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.text import Text

from outbox.cli import ledger, tables
from outbox.cli.configuration import acting, load_settings
from outbox.cli.running import Code, CommandError, Json, Reason, command, out, print_json
from outbox.cli.tables import Column, cell

_STATES = {"stopped": "red", "aborted": "yellow", "running": "blue", "done": "green"}
_REPLAYS = (
    Column("replay"),
    Column("state", styles=_STATES),
    Column("who", goes=2),
    Column("planned"),
    Column("replayed"),
    Column("succeeded"),
    Column("again"),
    Column("wave", goes=3),
    Column("because", below=True),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replays")(replays)


@command
async def replays(
    replay: Annotated[int | None, typer.Argument(help="Show this one, with each of its intents.")] = None,
    *,
    start: Annotated[bool, typer.Option("--start", help="Have workers carry out what is planned.")] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="End it before its time; what was replayed goes on.")
    ] = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """List replays in waves, the newest first; show, start or abort one.

    `outbox replay --in-waves` plans one. Workers carry it on, wave by wave, and stop it by themselves where
    too many of a wave fail again.
    """
    if start and abort:
        raise CommandError("--start and --abort: only one of them", Code.BAD_INPUT)
    if replay is None and (start or abort):
        raise CommandError("name the replay: `outbox replays` lists them", Code.BAD_INPUT)
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        store = ledger.ReplayStore(engine, acting(settings), reason)
        found = await store.found(replay=replay)
        if replay is None:
            _show_all(found, as_json=as_json)
            return
        if not found:
            raise CommandError(f"no replay {replay}: `outbox replays` lists them", Code.BAD_INPUT)
        if start or abort:
            moved = await (store.start(replay) if start else store.abort(replay))
            if not moved:
                state = "planned" if start else "planned or running"
                raise CommandError(
                    f"replay {replay} is not {state}, but {found[0]['state']}", Code.FOUND_WRONG
                )
            found = await store.found(replay=replay)
        await _show_one(store, found[0], as_json=as_json)


async def planned(store: "ledger.ReplayStore", replay: int, *, as_json: bool) -> None:
    """Show what was just planned or started."""
    (found,) = await store.found(replay=replay)
    if as_json:
        print_json(found)
        return
    _show_all([found], as_json=False)
    refusals: Counter[str] = Counter()
    after = 0
    while items := await store.items(replay, after=after):
        after = items[-1]["number"]
        refusals.update(item["reason"] for item in items if item["action"] == "refused")
    for reason, count in refusals.most_common():
        out.print(Text.assemble((f"{count} refused: ", "red"), cell(reason)))
    if found["state"] == "planned":
        out.print(f"nothing is replayed yet: outbox replays {replay} --start")


def _show_all(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in found:
            print_json(row)
        return
    tables.show(out, _REPLAYS, [_cells(row) for row in found])


async def _show_one(store: "ledger.ReplayStore", found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _show_all([found], as_json=False)
    after = 0
    while items := await store.items(found["id"], after=after):
        after = items[-1]["number"]
        for item in items:
            if as_json:
                print_json(item)
                continue
            wave = f"wave {item['wave']} " if item["wave"] else ""
            outcome = f", {item['outcome']}" if item["outcome"] else ""
            out.print(cell(f"{wave}{item['intent_id']} {item['action']}{outcome}: {item['reason']}"))


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["id"]),
        row["state"],
        row["who"],
        str(row["planned"]),
        str(row["replayed"]),
        str(row["succeeded"]),
        str(row["failed_again"]),
        str(row["wave"]),
        row["ended_as"] or "",
    ]
