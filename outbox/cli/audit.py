"""``outbox audit``: compares ledger, SpiceDB and Temporal, and asks for repairs and adoptions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from outbox import compose
from outbox.audit.drift import Drift, Fix
from outbox.audit.sweep import Tally
from outbox.cli import ledger
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, Json, aside, command, err, out, print_json, progress
from outbox.cli.tables import cell, show_parts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REFRESH_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


@command
async def audit(
    *,
    schedule: Annotated[str | None, typer.Option(help="Only this schedule id, read afresh.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Ask for a repair of each schedule that one can mend.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take legacy schedules into the ledger; needs --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --adopt: do it, don't only show it.")] = False,
    as_json: Json = False,
) -> None:
    """Compare ledger, SpiceDB and Temporal; exit 1 if something of ours is not as the ledger says.

    Schedules whose intents are under way are left out. What somebody else made is listed and never touched.
    A repair is an intent like any other: it waits its turn, and a worker carries it out. So is an adoption:
    it stamps a schedule from before the outbox in SpiceDB, and leaves its owner as it is.
    """
    if yes and not adopt:
        raise CommandError("--yes goes with --adopt", Code.BAD_INPUT)
    settings = load_settings()
    tally = Tally()
    asked = 0
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine, _progress(tally):
        request = _Requests(ledger.OperateStore(engine), repairs=repair, adopts=adopt and yes)
        ids = [schedule] if schedule else None
        async for finding in compose.audit.findings(settings, tally, ids=ids):
            if isinstance(finding, Drift):
                _show(finding, as_json=as_json)
                asked += adopt and finding.fix is Fix.ADOPT
                await request.what_mends(finding)
    if not as_json:
        _sum_up(tally)
    if asked and not yes:
        err.print(f"nothing adopted: --yes adopts these {asked}")
    if tally.ours or (asked and not yes):
        raise typer.Exit(Code.FOUND_WRONG)


class _Requests:
    """Asks for what mends a drift, once for each schedule: its drifts come one after another."""

    def __init__(self, store: "ledger.OperateStore", *, repairs: bool, adopts: bool) -> None:
        self._store = store
        self._repairs = repairs
        self._adopts = adopts
        self._latest: str | None = None

    async def what_mends(self, drift: Drift) -> None:
        adopts = self._adopts and drift.fix is Fix.ADOPT
        if not adopts and not (self._repairs and drift.is_repaired and drift.schedule_id != self._latest):
            return
        self._latest = drift.schedule_id
        intent = await self._store.request_repair(drift.schedule_id, adopting=adopts)
        what = "adoption" if adopts else "repair"
        aside().print(cell(f"{drift.schedule_id}: {what} asked for, intent {intent}"))


@asynccontextmanager
async def _progress(tally: Tally) -> AsyncIterator[None]:
    """Show on a terminal how far it has come."""
    with progress() as bar:
        task = bar.add_task("reading", total=None)
        telling = asyncio.create_task(_tell(bar, task, tally))
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling


async def _tell(bar: "Progress", task: "TaskID", tally: Tally) -> None:
    while True:
        reading = f"SpiceDB {tally.holdings}, Temporal {tally.schedules}"
        bar.update(task, description=f"{reading}; compared {tally.lanes}")
        await asyncio.sleep(_REFRESH_SECONDS)


def _show(drift: Drift, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schedule_id": drift.schedule_id,
                "kind": drift.kind,
                "detail": drift.detail,
                "fix": drift.fix,
                "ours": drift.is_ours,
            }
        )
        return
    colour = "red" if drift.is_ours else "yellow"
    what = Text.assemble((drift.kind, colour), " ", cell(f"{drift.schedule_id}:"))
    show_parts(out, what, cell(drift.detail), gap=" ")
    out.print(cell(f"  fix: {drift.fix}"))


def _sum_up(tally: Tally) -> None:
    verdict = f"[red]{tally.ours} differences of ours[/]" if tally.ours else "[green]the stores agree[/]"
    counts = f"{tally.lanes} schedules compared, {tally.live} of them live, {tally.busy} under way"
    out.print(f"{counts}: {verdict}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.found.items()))
    if kinds:
        out.print(f"found: {kinds}")
