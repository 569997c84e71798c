"""``outbox audit``: compares ledger, SpiceDB and Temporal, and asks for repairs and adoptions."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.text import Text

from outbox import compose
from outbox.audit.brake import Seen
from outbox.audit.drift import Drift, DriftKind, Fix
from outbox.audit.sweep import Tally
from outbox.cli import ledger
from outbox.cli.configuration import acting, load_settings
from outbox.cli.running import (
    Code,
    CommandError,
    Json,
    Reason,
    aside,
    command,
    err,
    out,
    print_json,
)
from outbox.cli.tables import cell, show_parts
from outbox.cli.telling import telling

if TYPE_CHECKING:
    from outbox.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


@command
async def audit(
    *,
    schedule: Annotated[
        list[str] | None,
        typer.Option(help="Only this schedule id, read afresh; may be repeated."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Ask for a repair of each schedule that one can mend.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take legacy schedules into the ledger; needs --yes.")
    ] = False,
    reclaim: Annotated[
        bool,
        typer.Option("--reclaim", help="Enter this outbox's forgotten schedules in the ledger; needs --yes."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="With --adopt, --reclaim: do it. With --repair: however much is missing at once."
        ),
    ] = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Compare ledger, SpiceDB and Temporal; exit 1 if something of ours is not as the ledger says.

    Schedules whose intents are under way are left out. What somebody else made is listed and never touched.
    A repair is an intent like any other: it waits its turn, and a worker carries it out. So is an adoption:
    it stamps a schedule from before the outbox in SpiceDB, and leaves its owner as it is. So is a reclaim: it
    enters a schedule again that a lost ledger had made, and changes neither store.
    Where more than a tenth of the live schedules lack the same thing, and more than 20, repairs need --yes.
    """
    if yes and not (adopt or reclaim or repair):
        raise CommandError("--yes goes with --repair, --adopt or --reclaim", Code.BAD_INPUT)
    settings = load_settings()
    tally, chosen = Tally(), _Chosen(repair=repair, adopt=adopt, reclaim=reclaim, named=bool(schedule))
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        async with telling("reading", lambda: _so_far(tally)):
            async for finding in compose.audit.findings(settings, tally, ids=schedule):
                if isinstance(finding, Drift):
                    _show(finding, as_json=as_json)
                    chosen.take(finding)
        seen = Seen(tally.by_kind, tally.live)
        # Whoever names a schedule, or says yes, has decided.
        braked = seen.braked() if not (yes or schedule) else frozenset()
        store = ledger.OperateStore(engine, acting(settings), reason)
        await chosen.ask_for_repairs(store, braked)
        if yes:
            await chosen.take_in(store, settings)
    if not as_json:
        _sum_up(tally)
    if braked:
        _tell_braked(seen, repair=repair)
    left = "" if yes else chosen.waits_for_yes
    if left:
        err.print(left)
    if tally.ours or left:
        raise typer.Exit(Code.FOUND_WRONG)


class _Chosen:
    """What is to be asked for once all is compared: how much of it there is decides whether it may be."""

    def __init__(self, *, repair: bool, adopt: bool, reclaim: bool, named: bool) -> None:
        self._repair = repair
        # What says nothing of its outbox is reclaimed by its name alone.
        by_name = {Fix.RECLAIM_BY_NAME} if named else set()
        self._adopted = {Fix.ADOPT} if adopt else set()
        self._reclaimed = {Fix.RECLAIM, *by_name} if reclaim else set()
        self._repairs: dict[str, set[DriftKind]] = {}
        self._adoptions: list[str] = []
        self._reclaims: list[str] = []

    def take(self, drift: Drift) -> None:
        if self._repair and drift.is_repaired:
            self._repairs.setdefault(drift.schedule_id, set()).add(drift.kind)
        if drift.fix in self._adopted:
            self._adoptions.append(drift.schedule_id)
        if drift.fix in self._reclaimed:
            self._reclaims.append(drift.schedule_id)

    @property
    def waits_for_yes(self) -> str:
        """What is not done without a yes, in a line; empty: nothing."""
        counts = {"adopt": len(self._adoptions), "reclaim": len(self._reclaims)}
        return "; ".join(
            f"nothing {what}ed: --yes {what}s these {count}" for what, count in counts.items() if count
        )

    async def ask_for_repairs(self, store: "ledger.OperateStore", braked: frozenset[DriftKind]) -> None:
        for schedule_id, kinds in self._repairs.items():
            if braked.isdisjoint(kinds):
                _told(schedule_id, "repair", await store.request_repair(schedule_id))

    async def take_in(self, store: "ledger.OperateStore", settings: "Settings") -> None:
        for schedule_id in self._adoptions:
            _told(schedule_id, "adoption", await store.request_repair(schedule_id, adopting=True))
        async for found in compose.reclaim.read_forgotten(settings, self._reclaims):
            intent = await store.request_reclaim(
                found.schedule_id, found.stamp, definition=found.definition, creator=found.creator
            )
            _told(found.schedule_id, "reclaim", intent)


def _told(schedule_id: str, what: str, intent: UUID) -> None:
    aside().print(cell(f"{schedule_id}: {what} asked for, intent {intent}"))


def _tell_braked(seen: Seen, *, repair: bool) -> None:
    refused = "; nothing of it is repaired: --yes does it all the same" if repair else ""
    for line in seen.told():
        err.print(cell(f"{line}{refused}"))


def _so_far(tally: Tally) -> str:
    return f"SpiceDB {tally.holdings}, Temporal {tally.schedules}; compared {tally.lanes}"


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
