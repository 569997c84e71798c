"""``outbox verify``: judges a live outbox by the invariants, page by page."""

from typing import Annotated

import typer
from rich.text import Text

from outbox import compose
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, Json, command, err, out, print_json
from outbox.cli.tables import cell, show_parts
from outbox.cli.telling import telling
from outbox.documentation import of_invariant
from outbox.verify.invariants import Violation
from outbox.verify.tally import Tally
from outbox.when import moment

# What Temporal Cloud allows a namespace for everything is not much more.
_RATE = 10.0
_RATE_OF_THE_LEDGER = 1000.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


@command
async def verify(
    *,
    schedule: Annotated[
        list[str] | None, typer.Option(help="Only this schedule id; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only schedules in which something happened since: 30s, 15m, 2h, 7d, or an ISO 8601 time."
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Only schedules whose ids come after it: go on where one was interrupted."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Schedules a second, at most: 10, if not said otherwise; 1000 with --no-stores."
        ),
    ] = None,
    no_stores: Annotated[
        bool, typer.Option("--no-stores", help="Judge the ledger alone; ask neither store.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge a live outbox by its invariants, page by page; exit 1 if one is broken.

    The log of each schedule is judged whatever is under way, and the stores where nothing is. It locks
    nothing, writes nothing, and holds a page of a hundred schedules in memory. The role outbox_operator will
    do; with --no-stores a standby will, too.
    """
    if schedule and (since or after):
        raise CommandError("--schedule names what is verified: --since and --after choose", Code.BAD_INPUT)
    asked = compose.verify.Asked(
        schedules=schedule,
        since=moment("--since", since) if since else None,
        after=after or "",
        rate=rate or (_RATE_OF_THE_LEDGER if no_stores else _RATE),
        stores=not no_stores,
    )
    tally = Tally()
    whole = False
    try:
        async with telling("verifying", lambda: _so_far(tally)):
            async for violation in compose.verify.verify(load_settings(), asked, tally):
                _show(violation, as_json=as_json)
        whole = True
    finally:
        if whole or tally.lanes:
            _sum_up(tally, as_json=as_json, whole=whole)
        if not whole and not schedule and tally.reached:
            err.print(cell(f"to go on: outbox verify --after {tally.reached}"))
    if tally.violations:
        raise typer.Exit(Code.FOUND_WRONG)


def _so_far(tally: Tally) -> str:
    return f"verified {tally.lanes}, {tally.violations} violations"


def _show(violation: Violation, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schedule_id": violation.schedule_id,
                "invariant": violation.invariant,
                "detail": violation.detail,
                "help": of_invariant(violation.invariant),
            }
        )
        return
    what = Text.assemble((violation.invariant, "red"), " ", cell(f"{violation.schedule_id}:"))
    show_parts(out, what, cell(violation.detail), gap=" ")
    out.print(cell(f"  story: outbox show {violation.schedule_id}"))
    out.print(cell(f"  help: {of_invariant(violation.invariant)}"))


def _sum_up(tally: Tally, *, as_json: bool, whole: bool) -> None:
    if as_json:
        print_json(
            {
                "verified": tally.lanes,
                "with_stores": tally.with_stores,
                "violations": tally.violations,
                "by_invariant": {one.value: count for one, count in sorted(tally.found.items())},
                "whole": whole,
                "reached": tally.reached,
            }
        )
        return
    verdict = f"[red]{tally.violations} violations[/]" if tally.violations else "[green]no violation[/]"
    counts = f"{tally.lanes} schedules verified, {tally.with_stores} of them with their stores"
    out.print(f"{counts}{'' if whole else ', interrupted'}: {verdict}")
    kinds = ", ".join(f"{count} {one.value}" for one, count in sorted(tally.found.items()))
    if kinds:
        out.print(f"found: {kinds}")
