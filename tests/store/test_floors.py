"""Where claims start to look when what is gone can't be vacuumed: nothing is lost, no lane out of order."""

import psycopg

from outbox.flow.table import Consumer
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}


async def raise_floors(
    query: Query, *, for_seconds: int, incoming: str = "last_value", clock_ahead: int = 0
) -> None:
    """As a look from the start leaves them that took long: above all that is there.

    Args:
        query: asks the database.
        for_seconds: until the next look from the start.
        incoming: the position of the floor; ``last_value``: of the youngest intent.
        clock_ahead: by how much the database's clock was ahead then.
    """
    await query(
        f"""WITH clock AS (
                SELECT (extract(epoch FROM clock_timestamp()) + {clock_ahead}) * 1000000 AS now)
            SELECT setval('outbox.floor_incoming', {incoming}),
                   setval('outbox.floor_authz', now::bigint), setval('outbox.floor_temporal', now::bigint),
                   setval('outbox.floor_both', now::bigint),
                   setval('outbox.last_look', (now + least(0, {for_seconds}) * 1e6)::bigint),
                   setval('outbox.next_look', (now + {for_seconds} * 1e6)::bigint)
              FROM clock, outbox.intents_position_seq"""
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


async def test_floors_of_a_clock_that_was_set_back_are_not_believed(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    due = [await enqueue("a"), await enqueue("b")]
    await query("UPDATE outbox.queue SET place = 'head', state = 'ready' WHERE intent_id = %s", due[0])
    await raise_floors(query, for_seconds=60, clock_ahead=3600)
    assert {one.intent_id for one in await store.claim(LIMITS)} == set(due)


async def test_heads_that_are_placed_without_room_above_a_floor_go_oldest_first(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    one_room = {Consumer.AUTHZ: 1}
    asked = [await enqueue("a"), await enqueue("b"), await enqueue("c")]
    await raise_floors(query, for_seconds=3600, incoming="1")
    taken = [one.intent_id for one in await store.claim(one_room)]
    asked += [await enqueue("d"), await enqueue("e")]
    for _ in asked:
        taken += [one.intent_id for one in await store.claim(one_room)]
    assert taken == asked
