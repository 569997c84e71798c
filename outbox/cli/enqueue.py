"""Commands that enqueue by hand: create (one, or many from a file) and delete."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

import outbox
from outbox.cli import ledger
from outbox.cli.configuration import load_settings
from outbox.cli.json_lines import NotJson, loads
from outbox.cli.running import Code, CommandError, Json, command, err, out, print_json

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from outbox import Entry, Intent, IntentResult

Agent = Annotated[str | None, typer.Argument(help="The agent's id.")]
Name = Annotated[str | None, typer.Argument(help="The schedule's name: 1 to 64 of a-z 0-9 -.")]
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


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("create")(create)
    app.command("delete")(delete)


@command
async def create(
    agent: Agent = None,
    name: Name = None,
    *,
    workflow: Annotated[str | None, typer.Option(help="The workflow type to run.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="The task queue of its workers.")] = None,
    cron: Annotated[str | None, typer.Option(help="When to run, as a cron expression.")] = None,
    interval: Annotated[int | None, typer.Option(help="When to run: every so many seconds.")] = None,
    params: Annotated[str | None, typer.Option(help="The workflow's argument, a JSON object.")] = None,
    user: User = None,
    service_account: ServiceAccount = None,
    account: Account = None,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    idempotency_key: Key = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Enqueue one request a line, from a JSON Lines file or -."
        ),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="With --from: enqueue the good lines, list the bad ones.")
    ] = False,
    wait: Wait = False,
    timeout_seconds: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Enqueue the creation of a schedule, or of many.

    A line of --from is an object with the fields agent_id, name, workflow_name, task_queue, cron_expression
    or interval_seconds, workflow_params, execution_timeout_seconds, start_at, end_at, paused, timezone,
    overlap_policy, principal (an object of user_id or service_account_id, and account_id) and
    idempotency_key; with "kind": "delete" it needs agent_id and name alone. Nothing is enqueued unless every
    line is good.
    """
    if source is not None:
        if agent or name or wait:
            raise CommandError(
                "--from takes everything from the file: no AGENT, NAME or --wait", Code.BAD_INPUT
            )
        from outbox.cli.batch import enqueue_file  # noqa: PLC0415 - only where it is used

        await enqueue_file(source, keep_going=keep_going, as_json=as_json)
        return
    request: dict[str, Any] = {
        "kind": "create",
        "agent_id": agent,
        "name": name,
        "workflow_name": workflow,
        "task_queue": task_queue,
        "cron_expression": cron,
        "interval_seconds": interval,
        "workflow_params": _params(params),
        "paused": paused,
    }
    request |= _envelope(user, service_account, account, idempotency_key)
    await _enqueue_one(request, wait=timeout_seconds if wait else None, as_json=as_json)


@command
async def delete(
    agent: Agent = None,
    name: Name = None,
    *,
    user: User = None,
    service_account: ServiceAccount = None,
    account: Account = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout_seconds: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Enqueue the deletion of a schedule."""
    request: dict[str, Any] = {"kind": "delete", "agent_id": agent, "name": name}
    request |= _envelope(user, service_account, account, idempotency_key)
    await _enqueue_one(request, wait=timeout_seconds if wait else None, as_json=as_json)


def _params(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return loads(text)
    except NotJson as error:
        raise CommandError(f"--params: {error}", Code.BAD_INPUT) from error


def _envelope(
    user: str | None, service_account: str | None, account: str | None, idempotency_key: str | None
) -> dict[str, Any]:
    principal = {"user_id": user, "service_account_id": service_account, "account_id": account}
    return {"principal": principal, "idempotency_key": idempotency_key}


async def _enqueue(connection: "AsyncConnection", entry: "Entry") -> "Intent":
    principal, key = entry.principal, entry.idempotency_key
    if isinstance(entry.request, outbox.CreateSchedule):
        return await outbox.enqueue_create(
            connection, entry.request, principal=principal, idempotency_key=key
        )
    return await outbox.enqueue_delete(connection, entry.request, principal=principal, idempotency_key=key)


async def _enqueue_one(request: dict[str, Any], *, wait: float | None, as_json: bool) -> None:
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
            raise CommandError(f"{error}: `outbox show {intent.id}` says why", Code.TIMED_OUT) from error
    _show(intent, result, as_json=as_json)
    if result.error:
        raise typer.Exit(Code.FOUND_WRONG)


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
                "error": {"code": error.code, "message": error.message} if error else None,
            }
        )
        return
    state = f"{result.status} ({result.event_type})" if result else "enqueued"
    out.print(f"{intent.kind} {intent.schedule_id}: {state}  intent {intent.id}")
    if error:
        err.print(f"{error.code}: {error.message}", markup=False)
