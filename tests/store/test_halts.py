"""Halts: what a person holds back is handed out to nobody, and costs nothing of what it had."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable

import orjson
import psycopg
import pytest
from psycopg.rows import dict_row

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Transient
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, EventType
from outbox.store.engine import async_engine
from outbox.store.halts import HaltStore
from outbox.store.reads import ReadStore
from outbox.store.relay import Flow, RelayStore
from outbox.store.why import waits_because
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = dict.fromkeys(Consumer, 10)
RACED = Transient(ErrorCode.RACED, "again")
SPENT = "SELECT lease_number, attempts, strikes, failing_since, patience FROM outbox.queue"


def settled(dispatches: Iterable[Dispatch], outcome: Outcome) -> list[Settlement]:
    return [decide(one, outcome, RetryPolicy(), random.Random(1)) for one in dispatches]


@pytest.fixture
async def halts(database: str) -> AsyncIterator[HaltStore]:
    engine = async_engine(database)
    yield HaltStore(engine, "alice")
    await engine.dispose()


async def hold(halts: HaltStore, what: str) -> None:
    assert (await halts.hold(what, until=None, why="upgrade")).action == "held"


async def release(halts: HaltStore, what: str) -> None:
    assert (await halts.release(what)).action == "released"


async def test_no_step_of_a_halted_store_is_handed_out_and_none_spends_anything(
    store: WorkStore, enqueue: Enqueue, query: Query, halts: HaltStore
) -> None:
    await enqueue()
    await store.settle(settled(await store.claim(LIMITS), Done()))
    before = await query(SPENT)
    await hold(halts, "temporal")
    assert await store.claim(LIMITS) == []
    await enqueue("other")
    (other,) = await store.claim(LIMITS)
    assert other.consumer is Consumer.AUTHZ, "the other store goes on"
    assert await query(f"{SPENT} WHERE consumer = 'temporal'") == before
    await release(halts, "temporal")
    (step,) = await store.claim(LIMITS)
    assert (step.event_type, step.lease_number, step.attempt) == (EventType.REGISTERED, 2, 1)


@pytest.mark.parametrize("halted", ["authz", "temporal"])
async def test_a_repair_needs_both_stores(
    store: WorkStore, query: Query, halts: HaltStore, halted: str
) -> None:
    await query("SELECT outbox.request_repair('a--b', false)")
    await hold(halts, halted)
    assert await store.claim(LIMITS) == []
    await release(halts, halted)
    assert len(await store.claim(LIMITS)) == 1


async def test_of_a_halted_schedule_nothing_is_handed_out_and_of_others_all(
    store: WorkStore, enqueue: Enqueue, query: Query, halts: HaltStore, agent: str
) -> None:
    await enqueue("a")
    await enqueue("b")
    await store.settle(settled(await store.claim(LIMITS), RACED))
    waiting = await query("SELECT state, due_at, attempts FROM outbox.queue ORDER BY position")
    await hold(halts, f"{agent}--a")
    await query("UPDATE outbox.queue SET due_at = clock_timestamp()")
    (other,) = await store.claim(LIMITS)
    assert other.schedule_id == f"{agent}--b"
    (row,) = await query("SELECT state, attempts FROM outbox.queue WHERE halted")
    assert row == {"state": waiting[0]["state"], "attempts": waiting[0]["attempts"]}
    await release(halts, f"{agent}--a")
    (step,) = await store.claim(LIMITS)
    assert (step.schedule_id, step.attempt, step.strikes) == (f"{agent}--a", 2, 1)


async def test_what_comes_in_for_a_halted_schedule_waits_in_its_order(
    store: WorkStore, enqueue: Enqueue, halts: HaltStore, agent: str
) -> None:
    await enqueue()
    (first,) = await store.claim(LIMITS)
    await hold(halts, f"{agent}--s")
    await enqueue(kind="delete")
    await store.settle(settled([first], Done()))
    assert await store.claim(LIMITS) == [], "neither the next step nor what came in"
    await release(halts, f"{agent}--s")
    (second,) = await store.claim(LIMITS)
    await hold(halts, f"{agent}--s")
    await store.settle(settled([second], Done()))
    assert await store.claim(LIMITS) == [], "nor what an ended intent made the head"
    await release(halts, f"{agent}--s")
    assert [one.event_type for one in await store.claim(LIMITS)] == [EventType.DELETE_REQUESTED]


async def test_what_is_under_way_goes_on_and_is_told_of(
    store: WorkStore, enqueue: Enqueue, halts: HaltStore
) -> None:
    await enqueue()
    (step,) = await store.claim(LIMITS)
    answer = await halts.hold("authz", until=None, why="upgrade")
    assert answer.under_way == 1
    assert len((await store.settle(settled([step], Done()))).matched) == 1


@pytest.mark.parametrize("releases", [False, True], ids=["hold", "release"])
async def test_a_schedule_whose_head_is_being_settled_is_halted_and_released_as_a_whole(
    store: WorkStore,
    enqueue: Enqueue,
    query: Query,
    halts: HaltStore,
    agent: str,
    database: str,
    *,
    releases: bool,
) -> None:
    lane = f"{agent}--s"
    await enqueue()
    await store.settle(settled(await store.claim(LIMITS), Done()))
    (last,) = await store.claim(LIMITS)
    await enqueue(kind="delete")
    await store.claim({Consumer.AUTHZ: 1})
    if releases:
        await hold(halts, lane)
    async with await psycopg.AsyncConnection.connect(database, row_factory=dict_row) as settling:
        batch = orjson.dumps(settled([last], Done())).decode()
        await settling.execute("SELECT FROM outbox.settle(%s, '{}', 30, 10, 5, 600, false)", (batch,))
        act = release if releases else hold
        acting = asyncio.create_task(act(halts, lane))
        while not await query("SELECT FROM pg_locks WHERE NOT granted"):
            pass  # it will wait for the settle
        await settling.commit()
        await acting
    (head,) = await query("SELECT event_type, halted FROM outbox.queue WHERE place = 'head'")
    assert head == {"event_type": "schedule.delete.requested", "halted": not releases}


async def test_a_halt_with_an_end_ends_by_itself(
    store: WorkStore, enqueue: Enqueue, query: Query, halts: HaltStore, agent: str
) -> None:
    await enqueue("a")
    for what in (f"{agent}--a", "authz"):
        await hold(halts, what)
    assert await store.claim(LIMITS) == []
    await query("UPDATE outbox.halts SET until = clock_timestamp()")
    assert [one.schedule_id for one in await store.claim(LIMITS)] == [f"{agent}--a"]
    assert await query("SELECT what FROM outbox.halts") == []


@pytest.mark.parametrize("what", ["authz", "{agent}--s"])
async def test_what_is_on_its_way_over_kafka_is_taken_by_nobody(
    store: WorkStore, enqueue: Enqueue, halts: HaltStore, database: str, agent: str, what: str
) -> None:
    engine = async_engine(database)
    relay = RelayStore(engine, Flow(LIMITS, 10, 30.0, 1.0))
    await enqueue()
    (out,) = await relay.dispatch()
    await hold(halts, what.format(agent=agent))
    assert await store.take([(out.intent_id, out.lease_number)]) == []
    assert await relay.dispatch() == []
    await release(halts, what.format(agent=agent))
    (again,) = await relay.dispatch()
    assert len(await store.take([(again.intent_id, again.lease_number)])) == 1
    await engine.dispose()


@pytest.mark.parametrize("what", ["authz", "{agent}--s"])
async def test_who_waits_until_nothing_goes_on_by_itself_does_not_wait_for_what_is_halted(
    store: WorkStore, enqueue: Enqueue, halts: HaltStore, agent: str, what: str
) -> None:
    await enqueue()
    await hold(halts, what.format(agent=agent))
    await store.claim(LIMITS)
    assert not await store.pending(repairs=True)
    await release(halts, what.format(agent=agent))
    assert await store.pending(repairs=True)


async def test_a_second_hold_an_unknown_schedule_and_a_release_of_nothing_are_refused(
    halts: HaltStore,
) -> None:
    await hold(halts, "authz")
    again = await halts.hold("authz", until=None, why="mine")
    assert (again.action, again.reason) == ("refused", "alice halted it already (upgrade): release it first")
    assert (await halts.hold("no--such", until=None, why="?")).action == "refused"
    assert (await halts.release("temporal")).action == "refused"


async def test_why_a_lane_waits_names_who_halts_it(
    enqueue: Enqueue, store: WorkStore, halts: HaltStore, agent: str, database: str
) -> None:
    engine = async_engine(database)
    await enqueue()
    await hold(halts, "authz")
    assert await store.claim(LIMITS) == []
    reads = ReadStore(engine)
    head, behind = await reads.head(f"{agent}--s")
    assert head
    told = waits_because(head, behind)
    assert told.startswith("SpiceDB is halted by alice since ")
    assert told.endswith("(upgrade), then the registration; to end that: outbox release --store authz")
    depths = await reads.depths()
    assert [one["what"] for one in depths["halts"]] == ["authz"]
    await engine.dispose()
