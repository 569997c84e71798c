"""What becomes of what was asked for: told at once, after a while, or when it is asked."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

import outbox
from service.app import Backend, User
from service.problems import Problem
from service.tables import Asked

router = APIRouter()


Wait = Annotated[float, Query(ge=0, le=300, description="how many seconds to wait for the outcome")]


@dataclass(frozen=True)
class _How:
    wait: Wait = 0
    idempotency_key: Annotated[
        str | None, Header(description="the same request under the same key is done once")
    ] = None


How = Annotated[_How, Depends()]


async def answer(engine: AsyncEngine, intent: outbox.Intent, wait: float) -> JSONResponse:
    """The outcome, if it is there in time; else where to ask for it. A ``Problem`` if it failed."""
    result = await _waited(engine, intent.id, wait)
    if result and result.status is outbox.Status.FAILED and result.error:
        raise Problem.of(intent.id, result.error)
    status = result.status if result else outbox.Status.PENDING
    about = {"intent_id": str(intent.id), "schedule_id": intent.schedule_id, "status": status}
    if status is outbox.Status.SUCCEEDED:
        return JSONResponse(about, 201 if intent.kind == "create" else 200)
    return JSONResponse(about, 202, headers={"Location": f"/intents/{intent.id}"})


@router.get("/intents/{intent_id}")
async def outcome(intent_id: UUID, user: User, on: Backend, wait: Wait = 0) -> dict[str, Any]:
    """What has become of what you asked for."""
    async with AsyncSession(on.engine) as session:
        asked = await session.scalar(select(Asked).filter_by(intent_id=intent_id, asked_by=user))
        if asked is None:
            raise Problem(404, "not_found", f"you have asked for no intent {intent_id}")
    await _waited(on.engine, intent_id, wait)
    async with on.engine.connect() as connection:
        result = (await connection.execute(_RESULT, {"intent": intent_id})).one_or_none()
    if result is None:
        raise Problem(410, "gone", f"intent {intent_id} ended so long ago that nothing of it is kept")
    found = {"intent_id": intent_id, "schedule_id": asked.schedule_id, "status": result.status}
    if result.error_code:
        error = outbox.IntentError(result.error_code, result.error_message)
        found["problem"] = Problem.of(intent_id, error).document
    return found


async def _waited(engine: AsyncEngine, intent_id: UUID, wait: float) -> outbox.IntentResult | None:
    if not wait:
        return None
    try:
        return await outbox.wait(engine, intent_id, timeout=wait)
    except (TimeoutError, outbox.UnknownIntent):  # it goes on all the same, or is long over
        return None


_RESULT = text("SELECT status, error_code, error_message FROM outbox.intent_result(:intent)")
