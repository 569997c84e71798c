"""Commands that change a live schedule by hand: update, pause and resume."""

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

Clear = Annotated[
    list[str] | None,
    typer.Option(
        "--clear", metavar="FIELD", help="A field that is to have no value, like end_at; repeatable."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("update")(update)
    app.command("pause")(pause)
    app.command("resume")(resume)


@command
async def update(
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
    clear: Clear = None,
    user: User = None,
    service_account: ServiceAccount = None,
    account: Account = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout_seconds: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Enqueue a change of a live schedule: what is named is changed, all else stays.

    --cron takes the place of an interval, and --interval that of a cron expression. Whether it is paused, and
    its note, stay as somebody set them in Temporal, unless they are named.
    """
    given = {
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
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for field in clear or ():
        if changes.get(field) is not None:
            raise CommandError(f"--clear {field}: it is given a value, too", Code.BAD_INPUT)
        changes[field] = None
    asked = envelope(user, service_account, account, idempotency_key)
    await _change(agent, name, changes | asked, wait=timeout_seconds if wait else None, as_json=as_json)


@command
async def pause(
    agent: Agent = None,
    name: Name = None,
    *,
    note: Note = None,
    user: User = None,
    service_account: ServiceAccount = None,
    account: Account = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout_seconds: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Enqueue that a live schedule starts nothing until it is resumed."""
    changes = _switched(note, paused=True)
    asked = envelope(user, service_account, account, idempotency_key)
    await _change(agent, name, changes | asked, wait=timeout_seconds if wait else None, as_json=as_json)


@command
async def resume(
    agent: Agent = None,
    name: Name = None,
    *,
    note: Note = None,
    user: User = None,
    service_account: ServiceAccount = None,
    account: Account = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout_seconds: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Enqueue that a paused schedule starts its runs again."""
    changes = _switched(note, paused=False)
    asked = envelope(user, service_account, account, idempotency_key)
    await _change(agent, name, changes | asked, wait=timeout_seconds if wait else None, as_json=as_json)


def _switched(note: str | None, *, paused: bool) -> dict[str, Any]:
    return {"paused": paused} | ({} if note is None else {"note": note})


async def _change(
    agent: str | None, name: str | None, changes: dict[str, Any], *, wait: float | None, as_json: bool
) -> None:
    request = {"kind": "update", "agent_id": agent, "name": name, **changes}
    await enqueue_one(request, wait=wait, as_json=as_json)
