"""Turns: one session at a time claims, or publishes; nobody without the right to can keep others from it."""

import asyncio
import random
from collections.abc import Iterator

import psycopg
import pytest

import outbox
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store import migrations
from outbox.store.engine import open_engine
from outbox.store.relay import Flow, RelayStore
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query
from tests.store.roles import ROLES, connected_as

ONE_OF_EACH = {Consumer.AUTHZ: 1, Consumer.TEMPORAL: 1}
TURNS = ("turn_to_claim", "turn_to_publish")
# Whatever number a lock of ours may ever have had.
EVERY_ADVISORY_LOCK = "SELECT pg_advisory_lock(7304564, n) FROM generate_series(0, 20) AS n"
LOCKS_OF_A_TURN = (
    "LOCK TABLE outbox.{} IN SHARE UPDATE EXCLUSIVE MODE",
    "LOCK TABLE outbox.{} IN ACCESS EXCLUSIVE MODE",
    "COMMENT ON VIEW outbox.{} IS 'mine'",
    "CREATE OR REPLACE VIEW outbox.{} AS SELECT 1 AS x",
    "CREATE RULE mine AS ON INSERT TO outbox.{} DO INSTEAD NOTHING",
    "DROP VIEW outbox.{}",
)


@pytest.fixture
def stranger(database: str) -> Iterator[psycopg.Connection]:
    with connected_as(database, None) as connection:
        yield connection


async def test_who_may_only_connect_holds_up_neither_claims_nor_settles_nor_waits_nor_publishers(
    stranger: psycopg.Connection, store: WorkStore, database: str, enqueue: Enqueue, query: Query
) -> None:
    stranger.execute(EVERY_ADVISORY_LOCK.encode())
    await query("UPDATE outbox.instance SET publishes = true")
    intent = await enqueue(kind="delete")
    waiting = asyncio.create_task(outbox.wait(database, intent, timeout=240))
    for _ in ("the schedule", "the registration"):
        (step,) = await store.claim(ONE_OF_EACH)
        await store.settle([decide(step, Done(), RetryPolicy(), random.Random(1))])
    assert (await waiting).status == "succeeded"
    async with open_engine(database) as engine:
        relay = RelayStore(engine, Flow({Consumer.AUTHZ: 1}, 10, 30.0, 1.0))
        assert await relay.dispatch() == []
        async with relay.publishing() as batch:
            assert len(batch.events) == 3


def test_who_may_only_connect_holds_up_no_migration(stranger: psycopg.Connection, database: str) -> None:
    stranger.execute(EVERY_ADVISORY_LOCK.encode())
    assert migrations.migrate(database, max_request_bytes=1000) == ("0004", "0004")


@pytest.mark.parametrize("role", [None, *ROLES])
async def test_nobody_without_the_right_to_can_take_a_turn_and_keep_it(
    role: str | None, database: str, store: WorkStore, enqueue: Enqueue
) -> None:
    await enqueue()
    with connected_as(database, role) as connection, connection.transaction():
        for statement in LOCKS_OF_A_TURN:
            for turn in TURNS:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(statement.format(turn).encode())
        assert len(await store.claim(ONE_OF_EACH)) == 1


async def test_claims_and_dispatches_exclude_each_other(
    database: str, query: Query, enqueue: Enqueue
) -> None:
    calls = (
        """SELECT outbox.claim('{"authz": 1}', '{}', 30, 10, 5)""",
        """SELECT outbox.dispatch('{"authz": 1}', 1, '{}', 30, 5)""",
    )
    await enqueue()
    await query("SET lock_timeout = '1ms'")
    for held in calls:
        async with await psycopg.AsyncConnection.connect(database) as other:
            await other.execute(held.encode())
            for call in calls:
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    await query(call)
