"""Commands that mend: replay, discard, prune."""

import asyncio
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.text import Text

from outbox import compose
from outbox.cli import ledger, tables
from outbox.cli.configuration import acting, load_settings
from outbox.cli.replays import planned as show_plan
from outbox.cli.running import Code, CommandError, Json, Reason, among, command, out, print_json, progress
from outbox.cli.tables import cell
from outbox.errors import ErrorCode
from outbox.flow.table import Status
from outbox.when import moment

if TYPE_CHECKING:
    from outbox.store.operate import Answer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("replay")(replay)
    app.command("discard")(discard)
    app.command("prune")(prune)


@command
async def replay(
    intents: Annotated[list[str] | None, typer.Argument(metavar="[INTENT]...", help="Intents by id.")] = None,
    *,
    status: Annotated[
        Status | None, typer.Option(help="All that are failed, or all that are parked.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="All failed and parked ones of one schedule.")] = None,
    error: Annotated[
        str | None, typer.Option(help="All with this error code.", autocompletion=among(ErrorCode))
    ] = None,
    group: Annotated[str | None, typer.Option(help="All of a group that `outbox failures` lists.")] = None,
    since: Annotated[str | None, typer.Option(help="All that ended or parked since: 15m, 2h, ISO.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen to each.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that a later intent of the lane has overtaken.")
    ] = False,
    rate: Annotated[float, typer.Option(min=0.1, help="At most so many a second.")] = 50.0,
    in_waves: Annotated[
        bool,
        typer.Option(
            "--in-waves",
            help="Plan it in waves of 1, 2, 5, 20, 50, 100, 200, then 500, which workers carry out.",
        ),
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="With --in-waves: start it at once.")] = False,
    tolerate: Annotated[
        float,
        typer.Option(min=0, max=1, help="With --in-waves: stop when more than this share of a wave fails."),
    ] = 0.2,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Try failed intents again, and re-arm parked steps.

    A failed intent is enqueued as a new one, linked to it and numbered; of a chain of replays only the newest
    is taken. One that a later intent of its schedule has overtaken is refused, as it could undo what came
    after. Exit 1 if any was refused.

    With --in-waves each intent is rehearsed, and that plan is kept: `outbox replays` starts, shows and aborts
    it. What has changed by the time of its wave is skipped.
    """
    chosen = bool(status or schedule or error or group or since)
    if bool(intents) == chosen:
        raise CommandError(
            "name intents, or choose by --status, --schedule, --error, --group or --since", Code.BAD_INPUT
        )
    if in_waves and dry_run:
        raise CommandError(
            "--in-waves replays nothing before it is started: leave out --dry-run", Code.BAD_INPUT
        )
    if status not in {None, Status.FAILED, Status.PARKED}:
        raise CommandError(f"--status {status}: only failed and parked intents are replayed", Code.BAD_INPUT)
    refused = 0
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        store = ledger.OperateStore(engine, acting(settings), reason)
        wanted = [_intent(one) for one in intents or []] or await store.replayable(
            statuses=[status] if status else [Status.FAILED, Status.PARKED],
            schedule_id=schedule,
            error=error,
            group=group,
            since=moment("--since", since) if since else None,
        )
        if in_waves:
            replays = ledger.ReplayStore(engine, acting(settings), reason)
            plan = await replays.plan(wanted, forced=force, tolerated=tolerate)
            if start:
                await replays.start(plan)
            await show_plan(replays, plan, as_json=as_json)
            return
        with progress() as bar:
            for intent in bar.track(wanted, description="replaying"):
                answer = await store.replay(intent, forced=force, rehearsed=dry_run)
                refused += answer.action == "refused"
                _show(answer, as_json=as_json, rehearsed=dry_run)
                if not dry_run and intent is not wanted[-1]:
                    await asyncio.sleep(1 / rate)
    if not as_json:
        would = "would be " if dry_run else ""
        out.print(f"{len(wanted) - refused} {would}replayed, {refused} refused")
    if refused:
        raise typer.Exit(Code.FOUND_WRONG)


@command
async def discard(
    intent: Annotated[str, typer.Argument(help="A parked intent's id.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the intent.")],
    as_json: Json = False,
) -> None:
    """End a parked intent, so that its schedule goes on; what is ours of it is undone first.

    A create that took effect after all stays created. A delete that is past its Temporal step must go
    through: replay it.
    """
    if not reason.strip():
        raise CommandError("--reason is empty: whoever reads the history wants to know", Code.BAD_INPUT)
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        answer = await ledger.OperateStore(engine, acting(settings)).discard(_intent(intent), reason)
    _show(answer, as_json=as_json, rehearsed=False)
    if answer.action == "refused":
        raise typer.Exit(Code.FOUND_WRONG)


@command
async def prune(
    *,
    older_than: Annotated[str, typer.Option("--older-than", help="30d, 12h, or an ISO 8601 time.")],
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Delete the history of intents that ended long ago, and their marks in SpiceDB, in batches.

    Kept, however old: what has not ended, the intent of every live schedule, and what late writes may need.
    """
    before = moment("--older-than", older_than)
    total = 0
    settings = load_settings()
    pruning = compose.retention.prune(settings, before, operator=acting(settings), why=reason)
    with progress() as bar:
        task = bar.add_task("pruning", total=None)
        async for gone in pruning:
            total += gone
            bar.update(task, advance=gone, description=f"pruned {total} intents")
    if as_json:
        print_json({"pruned": total, "older_than": before})
    else:
        out.print(f"pruned {total} intents that ended before {before:%Y-%m-%d %H:%M:%S %Z}")


def _intent(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text} is no intent's id: `outbox intents` lists them", Code.BAD_INPUT) from None


def _show(answer: "Answer", *, as_json: bool, rehearsed: bool) -> None:
    if as_json:
        print_json(
            {
                "intent_id": answer.intent,
                "action": answer.action,
                "reason": answer.reason,
                "new_intent_id": answer.new_intent,
                "dry_run": rehearsed,
            }
        )
        return
    colour = "red" if answer.action == "refused" else "green"
    became = f" as {answer.new_intent}" if answer.new_intent else ""
    what = Text.assemble(f"{answer.intent} ", (answer.action, colour), f"{became}:")
    tables.show_parts(out, what, cell(answer.reason), gap=" ")
