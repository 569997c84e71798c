"""Commands that look: intents, show, status."""

from collections import Counter
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from outbox import compose
from outbox.audit.brake import Rounds
from outbox.cli import ledger, tables
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, Json, command, out, print_json
from outbox.cli.tables import Column, cell
from outbox.flow.table import Status
from outbox.store.shapes import intent_json, timeline, told
from outbox.store.why import waits_because
from outbox.when import moment

_NAMED_AFTER_SECONDS = 60.0
_COLOURS = {"succeeded": "green", "failed": "red", "parked": "yellow", "pending": "blue"}
_INTENTS = (
    Column("intent"),
    Column("schedule", below=True),
    Column("status", styles=_COLOURS),
    Column("last event", goes=2),
    Column("attempts", goes=1),
    Column("created", goes=3),
    Column("error", goes=4),
)
_GROUP = (Column("topic"), Column("partitions", goes=1), Column("members", goes=2), Column("lag"))
_COUNTED = (
    "pending",
    "incoming",
    "behind",
    "ready",
    "dispatched",
    "leased",
    "waiting_retry",
    "holding",
    "parked",
    "halted",
    "deferred",
    "unpublished",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("intents")(intents)
    app.command("show")(show)
    app.command("status")(status)


@command
async def intents(
    *,
    status: Annotated[Status | None, typer.Option(help="Only those that stand so.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Only those of one schedule id.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only newer ones: 30s, 15m, 2h, 7d, or an ISO 8601 time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """List intents, the newest first."""
    after = moment("--since", since) if since else None
    async with ledger.open_engine(load_settings().database_url.get_secret_value()) as engine:
        rows = await ledger.ReadStore(engine).intents(
            status=status, schedule_id=schedule, since=after, limit=limit
        )
    if as_json:
        for row in rows:
            print_json(intent_json(row))
        return
    tables.show(out, _INTENTS, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["id"]),
        row["schedule_id"],
        row["status"],
        row["event_type"].removeprefix("schedule."),
        str(row["attempts"]),
        f"{row['created_at'].astimezone():%m-%d %H:%M:%S}",
        row["error_code"] or "",
    ]


@command
async def show(
    what: Annotated[str, typer.Argument(metavar="INTENT|SCHEDULE", help="An intent's id or a schedule id.")],
    *,
    limit: Annotated[int, typer.Option(min=1, help="Of a schedule: its newest intents.")] = 20,
    as_json: Json = False,
) -> None:
    """Show one timeline across all steps, attempts and errors, and why it waits."""
    async with ledger.open_engine(load_settings().database_url.get_secret_value()) as engine:
        reads = ledger.ReadStore(engine)
        found = await _find(reads, what, limit)
        schedule_id = found[0]["schedule_id"]
        events, attempts = await reads.history([row["id"] for row in found])
        head, behind = await reads.head(schedule_id)
        halts = [one for one in await reads.halts(schedule_id) if one.what == schedule_id]
        by_hand = (await reads.operations(target=schedule_id, limit=limit))[::-1]
        blocker = await reads.blocker()
    reason = waits_because(head, behind, blocker) if head and _concerns(found) else None
    intents = timeline(found, events, attempts)
    if as_json:
        lane = {"schedule_id": schedule_id, "waits_because": reason, "halts": halts}
        print_json(lane | {"intents": intents, "operations": by_hand})
        return
    out.print(cell(schedule_id, "bold"))
    if reason:
        out.print(Text.assemble(("waits: ", "yellow"), cell(reason)))
    for halt in halts if not reason else ():
        out.print(Text.assemble(("halted: ", "yellow"), cell(halt.told)))
    for operation in by_hand:
        if operation["intent_id"] is None:
            out.print(cell(f"  {_time(operation['at'])}  {_done_by_hand(operation)}"))
    for intent in intents:
        _print_timeline(intent, [one for one in by_hand if one["intent_id"] == intent["intent_id"]])


@command
async def status(
    *,
    max_age: Annotated[
        float | None,
        typer.Option("--max-age", min=0, help="Exit 1 if the oldest head is older, in seconds."),
    ] = None,
    ignore_parked: Annotated[
        bool,
        typer.Option(
            "--ignore-parked", help="Leave what waits for a person (parked, halted) out of --max-age."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how much waits and where, the oldest head, what ended lately, and which stores are down."""
    settings = load_settings()
    async with ledger.open_engine(settings.database_url.get_secret_value()) as engine:
        depths = await ledger.ReadStore(engine).depths()
        if settings.wire.value == "kafka":
            depths["kafka"] = await compose.kafka.group_state(settings, await ledger.instance(engine))
    age = depths["oldest_unparked_head_age_seconds" if ignore_parked else "oldest_head_age_seconds"]
    too_old = max_age is not None and age is not None and age > max_age
    if as_json:
        print_json(depths)
    else:
        _print_status(depths)
    if too_old:
        raise typer.Exit(Code.FOUND_WRONG)


def _print_status(depths: dict[str, Any]) -> None:
    for name in _COUNTED:
        about = "about " if name in depths["estimated"] else ""
        out.print(f"{name.replace('_', ' '):13}  {about}{depths[name]}")
    if depths["oldest_head"]:
        out.print(f"oldest head: {depths['oldest_head']}, {depths['oldest_head_age_seconds']:.1f} s")
    if depths["parked"] and depths["oldest_unparked_head_age_seconds"] is not None:
        out.print(f"oldest that waits for no person: {depths['oldest_unparked_head_age_seconds']:.1f} s")
    holder = depths["oldest_transaction"]
    if holder and (holder["seconds"] is None or holder["seconds"] >= _NAMED_AFTER_SECONDS):
        found = ledger.Holder(**holder)
        out.print(f"vacuum is held back by {found.what}: {found.fix}", markup=False)
    if depths["blocked_by"]:
        blocker = ledger.Blocker(**depths["blocked_by"])
        out.print(f"{blocker.what}: {blocker.fix}", markup=False)
    for halt in depths["halts"]:
        out.print(Text.assemble(("halted: ", "yellow"), cell(ledger.Halt(**halt).told)))
    for kind, count in depths["ended_last_minute"].items():
        out.print(f"in the last minute: {count} {kind}")
    _print_workers(depths["workers"])
    _print_audit(depths["audit"])
    if "kafka" in depths:
        _print_group(depths["kafka"])
    for breaker in depths["breakers"]:
        what = cell(f"{breaker['consumer']} {breaker['error_code']}", "red")
        since = f" since {_time(breaker['since'])}: "
        out.print(Text.assemble(what, since, cell(breaker["error_message"])))


def _print_workers(workers: list[dict[str, Any]]) -> None:
    """How many there are by what they serve, and each that is not seen any more."""
    serving = Counter(name for one in workers if one["present"] for name in one["serves"])
    told = ", ".join(f"{count} {name}" for name, count in sorted(serving.items()))
    out.print(f"workers      {sum(one['present'] for one in workers)}{f' (serve {told})' if told else ''}")
    for one in workers:
        if not one["present"]:
            gone = f"process {one['pid']} on {one['host']} was last seen {_time(one['seen_at'])}"
            out.print(Text.assemble(("gone: ", "yellow"), cell(gone)))


def _print_audit(audit: dict[str, Any]) -> None:
    """The last whole round of the audit that workers do by themselves, and how far this one is."""
    if audit["last_ended_at"]:
        took = audit["last_ended_at"] - audit["last_began_at"]
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(audit["last_found"].items()))
        out.print(
            f"last audit: ended {_time(audit['last_ended_at'])} after {took.total_seconds():.0f} s, "
            f"{audit['last_looked']} schedules, {found or 'no differences'}",
        )
    if audit["began_at"]:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(audit["found"].items()))
        out.print(
            f"this audit: since {_time(audit['began_at'])}, {audit['looked']} schedules so far, "
            f"{found or 'no differences'}",
        )

    for line in Rounds.of(audit).told():
        out.print(Text.assemble(("no repairs: ", "red"), cell(line)))


def _print_group(state: dict[str, Any]) -> None:
    if "error" in state:
        out.print(Text.assemble(("Kafka ", "red"), cell(state["error"])))
        return
    out.print(f"consumer group {state['group']}:")
    tables.show(out, _GROUP, [[str(topic[column.heading]) for column in _GROUP] for topic in state["topics"]])


async def _find(reads: "ledger.ReadStore", what: str, limit: int) -> list[dict[str, Any]]:
    try:
        one = await reads.intent(UUID(what))
    except ValueError:
        found = await reads.lane(what, limit=limit)
    else:
        found = [one] if one else []
    if not found:
        message = f"no intent and no schedule {what}: `outbox intents` lists what there is"
        raise CommandError(message, Code.BAD_INPUT)
    return found


def _concerns(found: list[dict[str, Any]]) -> bool:
    return any(row["status"] in {Status.PENDING, Status.PARKED} for row in found)


def _done_by_hand(operation: dict[str, Any]) -> str:
    why = f" ({operation['why']})" if operation["why"] else ""
    return f"{operation['who']}: {operation['action']}, {operation['outcome']}{why}"


def _print_timeline(intent: dict[str, Any], by_hand: list[dict[str, Any]]) -> None:
    colour = _COLOURS[intent["status"]]
    trace = f"  trace {intent['trace_id']}" if intent["trace_id"] else ""
    out.print(f"\n{intent['kind']} {intent['intent_id']} [{colour}]{intent['status']}[/]{trace}")
    lines = [(event["at"], told(event), event["attempt"], event["error"]) for event in intent["events"]]
    lines += [
        (tried["at"], f"  {tried['consumer']} {tried['then']}", tried["attempt"], tried["error"])
        for tried in intent["failed_attempts"]
    ]
    lines += [(one["at"], f"  {_done_by_hand(one)}", None, None) for one in by_hand]
    for at, what, attempt, error in sorted(lines, key=lambda line: line[0]):
        parts = [cell(f"  {_time(at)}  {what}" + (f"  attempt {attempt}" if attempt else ""))]
        if error:
            parts.append(Text.assemble((error["code"], "red"), " ", cell(error["message"])))
        tables.show_parts(out, *parts, indent="    ")
    if intent["error"]:
        out.print(f"  help: {intent['error']['help']}")


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
