"""The routes: each change is an intent, written in a transaction of the service's own."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

import outbox
from service import outcomes
from service.access import may, readable
from service.app import AgentId, Backend, Backends, Name, User, make_app
from service.live import describe
from service.outcomes import How, answer
from service.problems import forbidden, not_found
from service.tables import Asked

router = APIRouter()
_Wanted = outbox.CreateSchedule | outbox.UpdateSchedule | outbox.DeleteSchedule


@router.post("/schedules", status_code=202)
async def create(wanted: outbox.CreateSchedule, user: User, on: Backend, how: How) -> JSONResponse:
    """Ask for a schedule."""
    if not await may(on.spicedb, user, "update", "agent", wanted.agent_id):
        raise forbidden("update", f"agent {wanted.agent_id}")
    return await _ask(on, wanted, user, how)


@router.patch("/schedules", status_code=202)
async def update(wanted: outbox.UpdateSchedule, user: User, on: Backend, how: How) -> JSONResponse:
    """Ask for a schedule to be changed."""
    if not await may(on.spicedb, user, "update", "agent_schedule", wanted.schedule_id):
        raise forbidden("update", f"schedule {wanted.schedule_id}")
    return await _ask(on, wanted, user, how)


@router.delete("/schedules/{agent_id:path}/{name}", status_code=202)
async def delete(agent_id: AgentId, name: Name, user: User, on: Backend, how: How) -> JSONResponse:
    """Ask for a schedule to be removed."""
    wanted = outbox.DeleteSchedule(agent_id=agent_id, name=name)
    if not await may(on.spicedb, user, "delete", "agent_schedule", wanted.schedule_id):
        raise forbidden("delete", f"schedule {wanted.schedule_id}")
    return await _ask(on, wanted, user, how)


@router.get("/schedules")
async def list_(user: User, on: Backend) -> list[str]:
    """The schedules that you may read."""
    return await readable(on.spicedb, user)


@router.get("/schedules/{agent_id:path}/{name}")
async def read(agent_id: AgentId, name: Name, user: User, on: Backend) -> dict[str, Any]:
    """One schedule, as Temporal has it."""
    schedule_id = f"{agent_id}--{name}"
    # Not the newest answer, which costs more: one that is no older than the schedule's own registration.
    async with on.engine.connect() as connection:
        seen = await connection.scalar(_REGISTERED, {"schedule_id": schedule_id})
    if not await may(on.spicedb, user, "read", "agent_schedule", schedule_id, seen=seen):
        raise not_found(schedule_id)
    return await describe(on.temporal, schedule_id)


async def _ask(on: Backends, wanted: _Wanted, user: str, how: How) -> JSONResponse:
    principal = outbox.Principal(user_id=user)
    # Keys are one set for the whole database: so each user gets keys of its own.
    key = how.idempotency_key and f"{user} {how.idempotency_key}"
    async with AsyncSession(on.engine) as session, session.begin():
        (intent,) = await outbox.enqueue_many(session, [(wanted, principal, key)])
        asked = insert(Asked).values(
            intent_id=intent.id, schedule_id=intent.schedule_id, kind=intent.kind, asked_by=user
        )
        await session.execute(asked.on_conflict_do_nothing())
    return await answer(on.engine, intent, how.wait)


_REGISTERED = text("""
    SELECT result.zed_token FROM requests CROSS JOIN LATERAL outbox.intent_result(intent_id) AS result
     WHERE schedule_id = :schedule_id AND kind = 'create' ORDER BY intent_id DESC LIMIT 1
""")

app = make_app(router, outcomes.router)
