"""What follows a settled step in its lane is leased to the one who settles, as far as that one has room."""

import pytest

from outbox.errors import ErrorCode
from outbox.flow.outcome import Done, Transient
from outbox.flow.table import Consumer, EventType
from outbox.store.engine import open_engine
from outbox.store.work import WorkStore
from tests.store.conftest import TIMING, Enqueue, Query
from tests.store.test_settle import LIMITS, LOST, REFUSED, claim_one, hurry, to

ROOM = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}


async def test_the_next_step_of_an_intent(store: WorkStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    register = await claim_one(store)
    settled = await store.settle([to(register, Done())], room=ROOM)
    assert settled.matched == {(register.intent_id, 1)}
    (create,) = settled.handed
    assert (create.event_type, create.lease_number, create.attempt) == (EventType.REGISTERED, 2, 1)
    assert create.request == register.request
    assert 0 < create.remaining() <= TIMING.step_timeout
    assert await store.claim(LIMITS) == [], "it is leased"
    (left,) = await query(
        "SELECT state, due_at - clock_timestamp() > interval '20 s' AS later FROM outbox.queue"
    )
    assert left == {"state": "leased", "later": True}
    assert (await store.settle([to(create, Done())])).matched == {(create.intent_id, 2)}
    assert await query("SELECT FROM outbox.queue") == []


async def test_the_first_step_of_the_lanes_next_intent(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    first, second = await enqueue(), await enqueue(kind="delete")
    await query("UPDATE outbox.instance SET publishes = true")
    register = await claim_one(store)
    assert register.intent_id == first
    (create,) = (await store.settle([to(register, Done())], room=ROOM)).handed
    (delete,) = (await store.settle([to(create, Done())], room=ROOM)).handed
    assert (delete.intent_id, delete.event_type) == (second, EventType.DELETE_REQUESTED)
    assert delete.live_intent == first, "it was handed over as the ledger is by now"
    published = await query(
        "SELECT e.type FROM outbox.publications p JOIN outbox.events e ON e.id = p.event_id ORDER BY p.id"
    )
    assert [row["type"] for row in published] == [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
        EventType.CREATED,
        EventType.DELETE_REQUESTED,
    ]


async def test_what_follows_updates_that_end_as_one_is_told_after_them(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    (create,) = (await store.settle([to(await claim_one(store), Done())], room=ROOM)).handed
    await store.settle([to(create, Done())])
    await query("UPDATE outbox.instance SET publishes = true")
    first, second, last = (
        await enqueue(kind="update"),
        await enqueue(kind="update"),
        await enqueue(kind="delete"),
    )
    (delete,) = (await store.settle([to(await claim_one(store), Done())], room=ROOM)).handed
    assert delete.intent_id == last
    told = await query(
        "SELECT e.intent_id, e.type FROM outbox.publications p JOIN outbox.events e ON e.id = p.event_id"
        " ORDER BY p.id"
    )
    assert [tuple(row.values()) for row in told] == [
        (first, EventType.UPDATE_REQUESTED),
        (first, EventType.UPDATED),
        (second, EventType.UPDATE_REQUESTED),
        (second, EventType.UPDATED),
        (last, EventType.DELETE_REQUESTED),
    ]


async def test_no_more_than_there_is_room_for(store: WorkStore, enqueue: Enqueue) -> None:
    for place in range(3):
        await enqueue(f"s{place}")
        await enqueue(f"s{place}")
    taken = await store.claim(LIMITS)
    # Two go on, to Temporal, and one ends: what follows that one is SpiceDB's.
    batch = [to(taken[0], Done()), to(taken[1], Done()), to(taken[2], REFUSED)]
    settled = await store.settle(batch, room={Consumer.TEMPORAL: 1})
    assert [one.consumer for one in settled.handed] == [Consumer.TEMPORAL]
    due = await store.claim(LIMITS)
    assert {one.consumer for one in due} == {Consumer.TEMPORAL, Consumer.AUTHZ}, "the others are everybody's"


async def test_both_ways_of_following_share_the_room(store: WorkStore, enqueue: Enqueue) -> None:
    await enqueue("a")
    await enqueue("b", kind="delete")
    await enqueue("b", kind="delete")
    create, delete = sorted(await store.claim(LIMITS), key=lambda one: one.kind)
    # A create goes on to Temporal, and a delete that ends is followed by another: Temporal's, too.
    settled = await store.settle([to(create, Done()), to(delete, REFUSED)], room={Consumer.TEMPORAL: 1})
    assert [one.schedule_id.split("--")[1] for one in settled.handed] == ["a"]


async def test_nothing_that_holds(store: WorkStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    await enqueue()
    await store.settle([to(await claim_one(store), LOST)])
    await hurry(query)
    register = await claim_one(store)
    (create,) = (await store.settle([to(register, Done())], room=ROOM)).handed
    assert create.unknown
    # Ended, while the attempt that got no answer may land still: the lane's next intent waits that out.
    assert (await store.settle([to(create, Done())], room=ROOM)).handed == []
    (head,) = await query("SELECT state FROM outbox.queue WHERE place = 'head'")
    assert head == {"state": "holding"}


async def test_no_compensation_that_waits_for_an_attempt_without_an_answer(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    (create,) = (await store.settle([to(await claim_one(store), Done())], room=ROOM)).handed
    await store.settle([to(create, LOST)])
    await hurry(query)
    again = await claim_one(store)
    assert (await store.settle([to(again, REFUSED)], room=ROOM)).handed == [], "it holds, and is looked at"
    await hurry(query)
    look = await claim_one(store)
    assert look.look
    assert (await store.settle([to(look, REFUSED)], room=ROOM)).handed == []
    (row,) = await query("SELECT event_type, state FROM outbox.queue WHERE place = 'head'")
    assert row == {"event_type": "schedule.compensation_requested", "state": "holding"}


async def test_nothing_for_a_store_that_can_not_be_used(store: WorkStore, enqueue: Enqueue) -> None:
    await enqueue("up")
    await enqueue("down", kind="delete")
    down, up = sorted(await store.claim(LIMITS), key=lambda one: one.schedule_id)
    away = Transient(ErrorCode.UNREACHABLE, "refused")
    # In one batch: the breaker opens before what follows is handed over.
    assert (await store.settle([to(up, Done()), to(down, away)], room=ROOM)).handed == []


@pytest.mark.parametrize("what", ["temporal", "schedule"])
async def test_nothing_that_a_person_has_halted(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str, what: str
) -> None:
    await enqueue()
    await enqueue()
    register = await claim_one(store)
    halted = what if what == "temporal" else f"{agent}--s"
    await query("SELECT outbox.hold(%s, 'infinity', 'alice', 'looks at it')", halted)
    assert (await store.settle([to(register, Done())], room=ROOM)).handed == []
    await query("SELECT outbox.release(%s)", halted)
    create = await claim_one(store)
    await query("SELECT outbox.hold(%s, 'infinity', 'alice', 'looks at it')", halted)
    followed = (await store.settle([to(create, Done())], room=ROOM)).handed
    assert [one.consumer for one in followed] == ([Consumer.AUTHZ] if what == "temporal" else [])


async def test_nothing_for_a_store_with_a_rate(database: str, enqueue: Enqueue) -> None:
    """A rate is spent by claims alone, which exclude each other anyway."""
    await enqueue()
    async with open_engine(database) as engine:
        store = WorkStore(engine, TIMING, {Consumer.TEMPORAL: 5.0})
        assert (await store.settle([to(await claim_one(store), Done())], room=ROOM)).handed == []
        assert [one.event_type for one in await store.claim(LIMITS)] == [EventType.REGISTERED]


async def test_whoever_dies_with_it_is_taken_over_from(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    """As where the settle's answer was lost: the lease ends, and what became of the step is unknown."""
    await enqueue()
    await store.settle([to(await claim_one(store), Done())], room=ROOM)
    await hurry(query)
    heir = await claim_one(store)
    assert (heir.event_type, heir.lease_number, heir.unknown) == (EventType.REGISTERED, 3, True)


async def test_nothing_to_who_settles_a_lease_that_is_over(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    former = await claim_one(store)
    await hurry(query)
    heir = await claim_one(store)
    assert (await store.settle([to(former, Done())], room=ROOM)).handed == []
    assert len((await store.settle([to(heir, Done()), to(former, Done())], room=ROOM)).handed) == 1
