"""Waiting: a result for what has ended or is parked, an error that says where the intent stands otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import outbox
from outbox import DeleteSchedule, Intent, IntentError, IntentResult, Principal, Status

KINDS = ["postgresql", "postgresql+psycopg", "engine psycopg", "engine asyncpg"]
LOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7304564 AND objid = 2"
END = """
WITH gone AS (DELETE FROM outbox.queue WHERE intent_id = %(id)s)
INSERT INTO outbox.events (intent_id, schedule_id, type, consumer, error_code, error_message, zed_token)
VALUES (%(id)s, %(lane)s, %(type)s, 'authz', %(code)s, %(message)s, %(token)s)
"""


@asynccontextmanager
async def waitable(kind: str, url: str) -> AsyncIterator[AsyncEngine | str]:
    if kind.startswith("postgresql"):
        yield make_url(url).set(drivername=kind).render_as_string(hide_password=False)
        return
    engine = create_async_engine(make_url(url).set(drivername=f"postgresql+{kind.split()[1]}"))
    yield engine
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()


@pytest.fixture
async def intent(aconn: psycopg.AsyncConnection, agent: str) -> Intent:
    intent = await outbox.enqueue_delete(
        aconn, DeleteSchedule(agent_id=agent, name="n"), principal=Principal()
    )
    await aconn.commit()
    return intent


async def end(url: str, intent: Intent, event: str, **more: str) -> None:
    values = {"code": None, "message": None, "token": None, **more}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(END, {"id": intent.id, "lane": intent.schedule_id, "type": event, **values})
        await connection.execute("NOTIFY outbox_settled")


async def somebody_waits(url: str) -> None:
    """Return once a waiter holds its lock."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while await (await connection.execute(LOCKED)).fetchone() != (1,):
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_a_settle_ends_the_wait(shared: str, intent: Intent, kind: str) -> None:
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=60))
        await somebody_waits(shared)
        await end(shared, intent, "schedule.deleted", token="zed")
        assert await waiting == IntentResult(Status.SUCCEEDED, "schedule.deleted", None, "zed")


@pytest.mark.parametrize("kind", ["postgresql", "engine asyncpg"])
async def test_a_notification_cuts_the_nap_short(
    shared: str, intent: Intent, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.producer.waiting._FIRST_NAP_SECONDS", 600.0)
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=60))
        await somebody_waits(shared)
        await end(shared, intent, "schedule.deleted")
        assert (await waiting).status == "succeeded"


async def test_polling_is_enough(shared: str, intent: Intent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox.producer.waiting._SUBSCRIBE", "SELECT pg_advisory_lock_shared(7304564, 2)")
    waiting = asyncio.create_task(outbox.wait(shared, intent.id, timeout=60))
    await somebody_waits(shared)
    await end(shared, intent, "schedule.deleted")
    assert (await waiting).status == "succeeded"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_intent_is_a_result(shared: str, intent: Intent, kind: str) -> None:
    await end(shared, intent, "schedule.delete_failed", code="refused", message="no")
    async with waitable(kind, shared) as where:
        assert await outbox.wait(where, intent.id) == IntentResult(
            Status.FAILED, "schedule.delete_failed", IntentError("refused", "no")
        )


async def test_a_parked_intent_is_a_result(
    aconn: psycopg.AsyncConnection, shared: str, intent: Intent
) -> None:
    await aconn.execute(
        "UPDATE outbox.queue SET place = 'head', state = 'parked',"
        " error_code = 'unexpected', error_message = 'x'"
        " WHERE intent_id = %s",
        (intent.id,),
    )
    await aconn.commit()
    result = await outbox.wait(shared, intent.id)
    assert result == IntentResult(
        Status.PARKED, "schedule.delete.requested", IntentError(outbox.ErrorCode.UNEXPECTED, "x")
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_running_out_of_time_says_where_it_stands(shared: str, intent: Intent, kind: str) -> None:
    async with waitable(kind, shared) as where:
        with pytest.raises(TimeoutError) as caught:
            await outbox.wait(where, intent.id, timeout=0.5)
    assert str(caught.value) == (
        f"intent {intent.id} has not ended within 0.5 s: its pending event is schedule.delete.requested"
    )


async def test_an_unknown_intent(shared: str) -> None:
    with pytest.raises(outbox.UnknownIntent, match="after the commit") as caught:
        await outbox.wait(shared, uuid4())
    assert isinstance(caught.value, outbox.OutboxError | LookupError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_wait_leaves_nothing_behind(shared: str, intent: Intent, kind: str) -> None:
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=60))
        await somebody_waits(shared)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await nobody_waits(shared)


async def nobody_waits(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while await (await connection.execute(LOCKED)).fetchone() != (0,):
            pass


async def test_only_engines_and_urls(intent: Intent) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="an AsyncEngine or a URL, not int"):
        await outbox.wait(wrong, intent.id)


async def test_a_driver_s_own_timeout_passes_through(
    shared: str, intent: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> None:
        raise TimeoutError("of the driver")

    monkeypatch.setattr("outbox.producer.waiting._look", slow)
    with pytest.raises(TimeoutError, match="of the driver"):
        await outbox.wait(shared, intent.id)
