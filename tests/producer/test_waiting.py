"""Waiting: a result for what has ended or is parked, an error that says where the intent stands otherwise."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import outbox
from outbox import DeleteSchedule, Intent, IntentError, IntentResult, Principal, Status
from outbox.producer import waiting as looks
from outbox.producer.waiting import _Asyncpg, _Psycopg

KINDS = ["postgresql", "postgresql+psycopg", "engine psycopg", "engine asyncpg"]
WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND query LIKE '%awaited_result%' AND pid <> pg_backend_pid()
"""
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


async def waiters(url: str, number: int) -> None:
    """Return once so many wait."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while await (await connection.execute(WAITING)).fetchone() != (number,):
            pass


@pytest.fixture
def napping(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a waiter has subscribed, and naps."""
    event = asyncio.Event()
    for line in (_Psycopg, _Asyncpg):
        monkeypatch.setattr(line, "nap", _told(line.nap, event))
    return event


def _told(nap: Callable[..., Awaitable[None]], event: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def told(line: object, seconds: float) -> None:
        event.set()
        await nap(line, seconds)

    return told


@pytest.mark.parametrize("kind", KINDS)
async def test_a_settle_ends_the_wait(shared: str, intent: Intent, kind: str) -> None:
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=240))
        await waiters(shared, 1)
        await end(shared, intent, "schedule.deleted", token="zed")
        assert await waiting == IntentResult(Status.SUCCEEDED, "schedule.deleted", None, "zed")


@pytest.mark.parametrize("kind", ["postgresql", "engine asyncpg"])
async def test_a_notification_cuts_the_nap_short(
    shared: str, intent: Intent, kind: str, napping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.producer.waiting._FIRST_NAP_SECONDS", 600.0)
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=240))
        await napping.wait()
        await end(shared, intent, "schedule.deleted")
        assert (await waiting).status == "succeeded"


async def test_polling_is_enough(
    shared: str, intent: Intent, napping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.producer.waiting.CHANNEL", "of_others")
    waiting = asyncio.create_task(outbox.wait(shared, intent.id, timeout=240))
    await napping.wait()
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
            await outbox.wait(where, intent.id, timeout=5)
    assert str(caught.value) == (
        f"intent {intent.id} has not ended within 5 s: its pending event is schedule.delete.requested"
    )


async def test_an_unknown_intent(shared: str) -> None:
    with pytest.raises(outbox.UnknownIntent, match="after the commit") as caught:
        await outbox.wait(shared, uuid4())
    assert isinstance(caught.value, outbox.OutboxError | LookupError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_wait_leaves_nothing_behind(shared: str, intent: Intent, kind: str) -> None:
    async with waitable(kind, shared) as where:
        waiting = asyncio.create_task(outbox.wait(where, intent.id, timeout=240))
        await waiters(shared, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await waiters(shared, 0)


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


async def test_a_pooler_that_lost_its_server_is_asked_again(
    shared: str, intent: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What psycopg made of PgBouncer's answer when Postgres was killed in the middle of a transaction."""
    look, lost = looks._look, asyncio.Event()

    async def lose_once(*arguments: Any) -> IntentResult:
        if not lost.is_set():
            lost.set()
            raise psycopg.InternalError("received 2 results from command 'COMMIT'")
        return await look(*arguments)

    monkeypatch.setattr(looks, "_look", lose_once)
    waiting = asyncio.create_task(outbox.wait(shared, intent.id, timeout=240))
    await lost.wait()
    await end(shared, intent, "schedule.deleted")
    assert (await waiting).status == "succeeded"
