"""Where claims start to look when what is gone can't be vacuumed: nothing is lost, no lane out of order."""

import psycopg
import pytest

from outbox.flow.table import Consumer
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query
from tests.store.floors import long_look

LIMITS = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}
ONE = {Consumer.AUTHZ: 1}
NO_ROOM = {Consumer.TEMPORAL: 1}  # for what needs SpiceDB first: it is placed, and not leased
YOUNGEST = "(SELECT last_value FROM outbox.intents_position_seq)"
FIRST_INCOMING = "(SELECT min(i.position) FROM outbox.queue i WHERE i.place = 'incoming')"
MAKE_HEAD = "UPDATE outbox.queue SET place = 'head', state = 'ready' WHERE intent_id = %s"
AGE = "UPDATE outbox.queue SET due_at = due_at - interval '1 minute' WHERE intent_id = ANY (%s)"
NEXT_LOOK_IS_DUE = "SELECT setval('outbox.next_look', 0)"


async def test_a_claim_looks_from_the_floor_until_the_next_look_from_the_start(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    below = [await enqueue("a"), await enqueue("b")]
    await query(MAKE_HEAD, below[0])
    await enqueue("c")  # its position is the floor: a position is at or above, or it is below
    await query(long_look(incoming=YOUNGEST, above_all=True))
    above = await enqueue("d")
    taken = {one.intent_id for one in await store.claim(LIMITS)}
    assert above in taken
    assert not taken & set(below)
    await query(NEXT_LOOK_IS_DUE)
    assert {one.intent_id for one in await store.claim(LIMITS)} == set(below)


async def test_what_was_committed_late_below_the_floor_keeps_its_place_in_its_lane(
    store: WorkStore, enqueue: Enqueue, query: Query, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as slow:
        late = await enqueue("lane", on=slow)
        other = await enqueue("other")
        await query(long_look(incoming=YOUNGEST))
        await slow.commit()
    after = await enqueue("lane", kind="delete")
    assert {one.intent_id for one in await store.claim(LIMITS)} == {other}
    await query(NEXT_LOOK_IS_DUE)
    assert {one.intent_id for one in await store.claim(LIMITS)} == {late}
    (row,) = await query("SELECT place FROM outbox.queue WHERE intent_id = %s", after)
    assert row == {"place": "behind"}


@pytest.mark.parametrize(
    ("ago", "lasts"),
    [(-3600.0, 60.0), (310.0, 7200.0)],
    ids=["by a clock that was set back", "by a look that the machine slept through"],
)
async def test_floors_that_no_look_of_this_clock_can_have_left_are_not_believed(
    store: WorkStore, enqueue: Enqueue, query: Query, ago: float, lasts: float
) -> None:
    due = [await enqueue("a"), await enqueue("b")]
    await query(MAKE_HEAD, due[0])
    await query(long_look(ago=ago, lasts=lasts, incoming=f"{YOUNGEST} + 1", above_all=True))
    assert {one.intent_id for one in await store.claim(LIMITS)} == set(due)


# What is placed while there is no room for it.


async def test_heads_that_are_placed_without_room_above_a_floor_go_oldest_first(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    waited = [await enqueue("a"), await enqueue("b"), await enqueue("c")]
    await query(AGE, waited)
    await query(long_look())
    taken = [one.intent_id for one in await store.claim(ONE)]
    waited += [await enqueue("d"), await enqueue("e")]
    for _ in waited:
        taken += [one.intent_id for one in await store.claim(ONE)]
    assert taken == waited


@pytest.mark.parametrize("after", ["another long look", "a short look", "the clock was set back"])
async def test_heads_that_are_placed_later_go_later_whatever_the_floor_is_then(
    store: WorkStore, enqueue: Enqueue, query: Query, database: str, after: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as slow:
        first = [await enqueue("a"), await enqueue("b"), await enqueue("c")]
        # They have waited as long, and are committed when the others have been placed.
        second = [await enqueue("d", on=slow), await enqueue("e", on=slow)]
        await query(AGE, first)
        await slow.execute(AGE, (second,))
        await query(long_look(ago=1.0))
        assert await store.claim(NO_ROOM) == []
        await slow.commit()
    match after:
        case "another long look":
            await query(long_look(incoming=FIRST_INCOMING))
        case "a short look":
            await query(NEXT_LOOK_IS_DUE)
        case _:
            await query(long_look(ago=-3600.0))
    assert await store.claim(NO_ROOM) == []
    taken = [one.intent_id for _ in first + second for one in await store.claim(ONE)]
    assert taken == first + second
