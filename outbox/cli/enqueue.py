"""Commands that enqueue by hand: create (one, or many from a file) and delete."""

from typing import Annotated, Any

import typer

from outbox.cli.asking import (
    Account,
    Agent,
    Cron,
    EndAt,
    ExecutionTimeout,
    Interval,
    Jitter,
    Key,
    Name,
    Note,
    Overlap,
    Params,
    ServiceAccount,
    StartAt,
    TaskQueue,
    Timeout,
    Timezone,
    User,
    Wait,
    Workflow,
    enqueue_one,
    envelope,
    read_params,
)
from outbox.cli.running import Code, CommandError, Json, command


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("create")(create)
    app.command("delete")(delete)


@command
async def create(
    agent: Agent = None,
    name: Name = None,
    *,
    workflow: Workflow = None,
    task_queue: TaskQueue = None,
    cron: Cron = None,
    interval: Interval = None,
    params: Params = None,
    timezone: Timezone = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    execution_timeout: ExecutionTimeout = None,
    overlap: Overlap = None,
    jitter: Jitter = None,
    note: Note = None,
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
    or interval_seconds, workflow_params or workflow_args, execution_timeout_seconds, start_at, end_at,
    paused, timezone, overlap_policy, jitter_seconds, catchup_window_seconds, pause_on_failure, note,
    retry_policy, memo, search_attributes, principal (an object of user_id or service_account_id, and
    account_id) and idempotency_key. With "kind": "update" it names agent_id, name and what changes; with
    "kind": "delete" agent_id and name alone. Nothing is enqueued unless every line is good.
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
        "workflow_params": read_params(params),
        "timezone": timezone,
        "start_at": start_at,
        "end_at": end_at,
        "execution_timeout_seconds": execution_timeout,
        "overlap_policy": overlap,
        "jitter_seconds": jitter,
        "note": note,
        "paused": paused,
    }
    request |= envelope(user, service_account, account, idempotency_key)
    await enqueue_one(request, wait=timeout_seconds if wait else None, as_json=as_json)


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
    request |= envelope(user, service_account, account, idempotency_key)
    await enqueue_one(request, wait=timeout_seconds if wait else None, as_json=as_json)
