"""Idempotency keys, order and wake-ups, between transactions that are open at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

import outbox
from outbox import CreateSchedule, DeleteSchedule, Intent, Principal

NOBODY = Principal()
Connection = psycopg.AsyncConnection[Any]


def a_delete(agent: str, name: str = "daily") -> DeleteSchedule:
    return DeleteSchedule(agent_id=agent, name=name)


def a_create(agent: str) -> CreateSchedule:
    return CreateSchedule(agent_id=agent, name="daily", workflow_name="w", task_queue="q", interval_seconds=1)


@asynccontextmanager
async def connected(url: str, *, autocommit: bool = False) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=autocommit) as connection:
        yield connection
        await connection.rollback()


async def waits_for(url: str, blocked: Connection, holder: Connection) -> None:
    """Return once one backend waits for the other, as Postgres sees it."""
    async with connected(url, autocommit=True) as observer:
        pids = (blocked.info.backend_pid, [holder.info.backend_pid])
        while True:
            row = await (
                await observer.execute("SELECT pg_blocking_pids(%s) = %s::integer[]", pids)
            ).fetchone()
            if row == (True,):
                return


async def test_the_same_key_gives_the_first_intent(aconn: Connection, agent: str) -> None:
    first = await outbox.enqueue_create(aconn, a_create(agent), principal=NOBODY, idempotency_key=agent)
    again = await outbox.enqueue_create(aconn, a_create(agent), principal=NOBODY, idempotency_key=agent)
    assert again == first
    assert await counts(aconn, agent) == (1, 1, 1)


@pytest.mark.parametrize("other", ["request", "kind", "creator"])
async def test_the_same_key_for_another_request_is_refused(aconn: Connection, agent: str, other: str) -> None:
    await outbox.enqueue_delete(aconn, a_delete(agent), principal=NOBODY, idempotency_key=agent)
    requests: dict[str, CreateSchedule | DeleteSchedule] = {
        "request": a_delete(agent, "other"),
        "kind": a_create(agent),
        "creator": a_delete(agent),
    }
    principal = Principal(account_id="acc") if other == "creator" else NOBODY
    with pytest.raises(outbox.IdempotencyConflict, match=agent):
        await outbox.enqueue_many(aconn, [(requests[other], principal, agent)])


async def test_null_and_absent_are_the_same_request(aconn: Connection, agent: str) -> None:
    await outbox.enqueue_create(aconn, a_create(agent), principal=NOBODY, idempotency_key=agent)
    nulls = f"""{{"kind": null, "agent_id": "{agent}", "name": "daily", "workflow_name": "w",
        "task_queue": "q", "interval_seconds": 1, "timezone": null, "workflow_params": null,
        "principal": {{"user_id": null}}, "idempotency_key": "{agent}", "traceparent": null}}"""
    await aconn.execute("SELECT * FROM outbox.enqueue(%s::jsonb)", (nulls,))
    assert await counts(aconn, agent) == (1, 1, 1)


async def test_one_key_twice_in_a_batch(aconn: Connection, agent: str) -> None:
    one, two, three = await outbox.enqueue_many(
        aconn,
        [(a_delete(agent), NOBODY, agent), (a_delete(agent), NOBODY), (a_delete(agent), NOBODY, agent)],
    )
    assert (one == three, one == two) == (True, False)
    assert await counts(aconn, agent) == (2, 2, 2)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_key_in_use_is_waited_for(shared: str, agent: str, end: str) -> None:
    # The holder is left first, so that a failure doesn't leave the other waiting.
    async with connected(shared) as two, connected(shared) as one:
        first = await outbox.enqueue_delete(one, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        pending = asyncio.create_task(
            outbox.enqueue_delete(two, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        )
        await waits_for(shared, two, one)
        assert not pending.done()
        await getattr(one, end)()
        assert (await pending == first) == (end == "commit")
        await two.commit()
        assert await counts(two, agent) == (1, 1, 1)


async def test_under_repeatable_read_a_key_used_at_once_is_a_serialization_failure(
    shared: str, agent: str
) -> None:
    async with connected(shared) as one, connected(shared) as two:
        await two.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await two.execute("SELECT 1")
        await outbox.enqueue_delete(one, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        await one.commit()
        with pytest.raises(psycopg.errors.SerializationFailure) as caught:
            await outbox.enqueue_delete(two, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        assert caught.value.sqlstate == "40001"


async def test_an_open_transaction_delays_no_other_producer(shared: str, agent: str) -> None:
    async with connected(shared) as slow, connected(shared) as quick:
        await quick.execute("SET lock_timeout = '1ms'")
        await outbox.enqueue_delete(slow, a_delete(agent), principal=NOBODY, idempotency_key=f"1-{agent}")
        second = await outbox.enqueue_delete(
            quick, a_delete(agent), principal=NOBODY, idempotency_key=f"2-{agent}"
        )
        await quick.commit()
        assert await counts(quick, agent) == (1, 1, 1)
        await slow.commit()
        assert await counts(quick, agent) == (2, 2, 2)
        row = await (
            await quick.execute(
                "SELECT intent_id FROM outbox.queue WHERE schedule_id = %s ORDER BY position DESC LIMIT 1",
                (second.schedule_id,),
            )
        ).fetchone()
        assert row == (second.id,)


async def test_positions_follow_the_calls(aconn: Connection, agent: str) -> None:
    called: list[Intent] = [await outbox.enqueue_create(aconn, a_create(agent), principal=NOBODY)]
    called += await outbox.enqueue_many(aconn, [(a_delete(agent), NOBODY), (a_create(agent), NOBODY)] * 3)
    called.append(await outbox.enqueue_delete(aconn, a_delete(agent), principal=NOBODY))
    rows = await (
        await aconn.execute(
            "SELECT intent_id FROM outbox.queue WHERE schedule_id = %s ORDER BY position",
            (f"{agent}--daily",),
        )
    ).fetchall()
    assert [row[0] for row in rows] == [intent.id for intent in called]


async def test_a_transaction_wakes_workers_once_and_only_when_they_may_be_idle(
    database: str, agent: str
) -> None:
    async with connected(database, autocommit=True) as listener, connected(database) as producer:
        await listener.execute("LISTEN outbox_work")
        for _ in range(3):
            await outbox.enqueue_delete(producer, a_delete(agent), principal=NOBODY)
        await producer.commit()
        assert await heard(listener) == 1
        await outbox.enqueue_delete(producer, a_delete(agent), principal=NOBODY)
        await producer.commit()
        assert await heard(listener) == 0, "there was work to be seen already"
        await producer.execute("DELETE FROM outbox.queue")
        await outbox.enqueue_delete(producer, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        await producer.rollback()
        assert await heard(listener) == 0
        await producer.execute("DELETE FROM outbox.queue")
        await outbox.enqueue_delete(producer, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        await producer.commit()
        assert await heard(listener) == 1
        await producer.execute("DELETE FROM outbox.queue")
        await outbox.enqueue_delete(producer, a_delete(agent), principal=NOBODY, idempotency_key=agent)
        await producer.commit()
        assert await heard(listener) == 0, "an intent that is there already is no new work"


async def heard(listener: Connection) -> int:
    """How many wake-ups came before a mark that is set now; notifications keep the order of the commits."""
    await listener.execute("LISTEN mark; NOTIFY mark")
    notifier = 0
    async for notification in listener.notifies():
        if notification.channel == "mark":
            break
        notifier += 1
    return notifier


async def counts(connection: Connection, agent: str) -> tuple[int, int, int]:
    row = await (
        await connection.execute(
            "SELECT (SELECT count(*) FROM outbox.intents WHERE schedule_id LIKE %(agent)s),"
            " (SELECT count(*) FROM outbox.events WHERE schedule_id LIKE %(agent)s),"
            " (SELECT count(*) FROM outbox.queue WHERE schedule_id LIKE %(agent)s)",
            {"agent": f"{agent}--%"},
        )
    ).fetchone()
    assert row
    return row[0], row[1], row[2]
