"""Commands that keep steps from going on, and let them go on again: hold, release."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from outbox.cli import ledger, tables
from outbox.cli.configuration import acting, load_settings
from outbox.cli.running import Code, CommandError, Json, Reason, command, out, print_json
from outbox.cli.tables import cell
from outbox.when import moment_ahead

if TYPE_CHECKING:
    from outbox.store.halts import HaltAnswer


class HaltedStore(StrEnum):
    """A store, by its consumer's name."""

    AUTHZ = "authz"
    TEMPORAL = "temporal"


Store = Annotated[HaltedStore | None, typer.Option(help="All steps of this store.")]
Schedule = Annotated[str | None, typer.Option(help="All steps of one schedule id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("hold")(hold)
    app.command("release")(release)


@command
async def hold(
    *,
    store: Store = None,
    schedule: Schedule = None,
    reason: Annotated[str, typer.Option(help="Why; shown to everybody who asks why it waits.")],
    until: Annotated[
        str | None, typer.Option(help="End it by itself: in 30m, 2h, 1d, or at an ISO 8601 time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Halt a store or a schedule: no step of it is begun until it is released.

    Producers go on. Nothing that waits so spends attempts or ends; what is under way already goes on to its
    end. `outbox status`, `show` and `doctor` say what is halted, by whom, since when and why.
    """
    if not reason.strip():
        raise CommandError("--reason is empty: whoever is on call wants to know", Code.BAD_INPUT)
    what = _one(store, schedule)
    ends = moment_ahead("--until", until) if until else None
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        answer = await ledger.HaltStore(engine, acting(settings)).hold(what, until=ends, why=reason)
    _show(answer, as_json=as_json)


@command
async def release(
    *,
    store: Store = None,
    schedule: Schedule = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Let a store or a schedule go on that was halted."""
    what = _one(store, schedule)
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        answer = await ledger.HaltStore(engine, acting(settings)).release(what, why=reason)
    _show(answer, as_json=as_json)


def _one(store: HaltedStore | None, schedule: str | None) -> str:
    what = [one for one in (store, schedule) if one]
    if len(what) != 1:
        raise CommandError("name --store authz, --store temporal, or --schedule ID", Code.BAD_INPUT)
    return what[0]


def _show(answer: "HaltAnswer", *, as_json: bool) -> None:
    refused = answer.action == "refused"
    if as_json:
        print_json(
            {
                "what": answer.what,
                "action": answer.action,
                "reason": answer.reason,
                "under_way": answer.under_way,
            }
        )
    else:
        what = Text.assemble(f"{answer.what} ", (answer.action, "red" if refused else "green"), ":")
        tables.show_parts(out, what, cell(answer.reason), gap=" ")
        if answer.under_way:
            out.print(f"{answer.under_way} of its steps are under way still, and go on to their end")
    if refused:
        raise typer.Exit(Code.FOUND_WRONG)
