"""What commands that ask for something by hand share: options, and how one request is enqueued."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

import outbox
from outbox.cli import ledger
from outbox.cli.configuration import load_settings
from outbox.cli.json_lines import NotJson, loads
from outbox.cli.running import Code, CommandError, err, out, print_json
from outbox.documentation import Problem, of_code
from outbox.store.shapes import error_json

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from outbox import Entry, Intent, IntentResult

Agent = Annotated[str | None, typer.Argument(help="The agent's id.")]
Name = Annotated[str | None, typer.Argument(help="The schedule's name: 1 to 64 of a-z 0-9 -.")]
Workflow = Annotated[str | None, typer.Option(help="The workflow type to run.")]
TaskQueue = Annotated[str | None, typer.Option(help="The task queue of its workers.")]
Cron = Annotated[str | None, typer.Option(help="When to run, as a cron expression.")]
Interval = Annotated[int | None, typer.Option(help="When to run: every so many seconds.")]
Params = Annotated[str | None, typer.Option(help="The workflow's argument, a JSON object.")]
Timezone = Annotated[str | None, typer.Option(help="Of the cron expression: an IANA name.")]
StartAt = Annotated[str | None, typer.Option(help="No run before, like 2026-03-01T09:00:00Z.")]
EndAt = Annotated[str | None, typer.Option(help="No run after, like 2026-03-01T09:00:00Z.")]
ExecutionTimeout = Annotated[int | None, typer.Option(help="Seconds that one run may take.")]
Overlap = Annotated[
    str | None,
    typer.Option(
        help="While the run before goes on: skip, buffer_one, buffer_all, cancel_other, terminate_other or"
        " allow_all."
    ),
]
Jitter = Annotated[int | None, typer.Option(help="Start each run up to so many seconds later, by chance.")]
Note = Annotated[str | None, typer.Option(help="What people read beside the schedule.")]
User = Annotated[str | None, typer.Option("--user", help="The user who asks, and owns what is created.")]
ServiceAccount = Annotated[
    str | None, typer.Option("--service-account", help="The service account that asks, instead of a user.")
]
Account = Annotated[str | None, typer.Option("--account", help="The account that the calls are made for.")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="The same key again gives the first intent again.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for the outcome; exit 1 if it failed, 4 if too late.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="How long --wait waits, in seconds.")]


def read_params(text: str | None) -> Any:
    """Read an argument that is JSON."""
    if text is None:
        return None
    try:
        return loads(text)
    except NotJson as error:
        raise CommandError(f"--params: {error}", Code.BAD_INPUT) from error


def envelope(
    user: str | None, service_account: str | None, account: str | None, idempotency_key: str | None
) -> dict[str, Any]:
    """Who asks, and under which key."""
    principal = {"user_id": user, "service_account_id": service_account, "account_id": account}
    return {"principal": principal, "idempotency_key": idempotency_key}


async def enqueue_one(request: dict[str, Any], *, wait: float | None, as_json: bool) -> None:
    """Enqueue one request and, if asked, wait so many seconds for its outcome."""
    entry = outbox.parse(request)
    url = load_settings().database_url.get_secret_value()
    async with ledger.open_engine(url) as engine:
        async with ledger.transaction(engine) as connection:
            intent = await _enqueue(connection, entry)
        if wait is None:
            _show(intent, None, as_json=as_json)
            return
        try:
            result = await outbox.wait(engine, intent.id, timeout=wait)
        except TimeoutError as error:
            _show(intent, None, as_json=as_json)
            told = f"{error}: `outbox show {intent.id}` says why"
            raise CommandError(told, Code.TIMED_OUT, Problem.STILL_PENDING) from error
    _show(intent, result, as_json=as_json)
    if result.error:
        raise typer.Exit(Code.FOUND_WRONG)


async def _enqueue(connection: "AsyncConnection", entry: "Entry") -> "Intent":
    principal, key = entry.principal, entry.idempotency_key
    match entry.request:
        case outbox.CreateSchedule() as request:
            return await outbox.enqueue_create(connection, request, principal=principal, idempotency_key=key)
        case outbox.UpdateSchedule() as request:
            return await outbox.enqueue_update(connection, request, principal=principal, idempotency_key=key)
        case outbox.DeleteSchedule() as request:
            return await outbox.enqueue_delete(connection, request, principal=principal, idempotency_key=key)


def _show(intent: "Intent", result: "IntentResult | None", *, as_json: bool) -> None:
    error = result.error if result else None
    if as_json:
        print_json(
            {
                "intent_id": intent.id,
                "schedule_id": intent.schedule_id,
                "kind": intent.kind,
                "status": result.status if result else "pending",
                "event_type": result.event_type if result else f"schedule.{intent.kind}.requested",
                "error": error_json(error.code, error.message) if error else None,
            }
        )
        return
    state = f"{result.status} ({result.event_type})" if result else "enqueued"
    out.print(f"{intent.kind} {intent.schedule_id}: {state}  intent {intent.id}")
    if error:
        err.print(f"{error.code}: {error.message}", markup=False)
        err.print(f"help: {of_code(error.code)}")
