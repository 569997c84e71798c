"""Where claims start to look when what is gone can't be vacuumed: nothing is lost, no lane out of order."""

import psycopg

from outbox.flow.table import Consumer
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}


async def raise_floors(query: Query, *, for_seconds: int) -> None:
    """As a look from the start leaves them that took long: above all that is there."""
    await query(
        "SELECT setval('outbox.floor_incoming', (SELECT last_value FROM outbox.intents_position_seq)),"
        " setval(f::regclass, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),"
        " setval('outbox.next_look', (extract(epoch FROM clock_timestamp() + make_interval(secs => %s))"
        " * 1000000)::bigint)"
        " FROM unnest(ARRAY['outbox.floor_authz', 'outbox.floor_temporal', 'outbox.floor_both']) AS f",
        for_seconds,
    )


async def test_a_claim_looks_from_the_floor_until_the_next_look_from_the_start(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    below = [await enqueue("a"), await enqueue("b")]
    await query("UPDATE outbox.queue SET place = 'head', state = 'ready' WHERE intent_id = %s", below[0])
    await enqueue("c")  # its position is the floor: a position is at or above, or it is below
    await raise_floors(query, for_seconds=3600)
    above = await enqueue("d")
    taken = {one.intent_id for one in await store.claim(LIMITS)}
    assert above in taken
    assert not taken & set(below)
    await raise_floors(query, for_seconds=-1)
    assert {one.intent_id for one in await store.claim(LIMITS)} == set(below)


async def test_what_was_committed_late_below_the_floor_keeps_its_place_in_its_lane(
    store: WorkStore, enqueue: Enqueue, query: Query, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as slow:
        late = await enqueue("lane", on=slow)
        other = await enqueue("other")
        await raise_floors(query, for_seconds=3600)
        await slow.commit()
    after = await enqueue("lane", kind="delete")
    assert {one.intent_id for one in await store.claim(LIMITS)} == {other}
    await raise_floors(query, for_seconds=-1)
    assert {one.intent_id for one in await store.claim(LIMITS)} == {late}
    (row,) = await query("SELECT place FROM outbox.queue WHERE intent_id = %s", after)
    assert row == {"place": "behind"}
