"""Dispatched steps in Postgres: bounded, taken once, dispatched again when nobody took them."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from outbox.errors import ErrorCode
from outbox.flow.settlement import Action, Settlement, StoreHealth
from outbox.flow.table import Consumer
from outbox.kafka.connection import Cluster
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.relay import Dispatched, Flow, RelayStore
from outbox.store.work import Timing, WorkStore
from tests.store.conftest import Enqueue, Query

AUTHZ = Consumer.AUTHZ
STATE = "SELECT state, lease_number, attempts, strikes, unknown_until FROM outbox.queue"


def flow(bound: int = 100, dispatch_seconds: float = 30.0) -> Flow:
    return Flow(dict.fromkeys(Consumer, bound), 50, dispatch_seconds, 1.0)


@pytest.fixture
async def relay(database: str) -> AsyncIterator[RelayStore]:
    async with open_engine(database) as engine:
        yield RelayStore(engine, flow())


@pytest.fixture
async def worker(database: str) -> AsyncIterator[WorkStore]:
    async with open_engine(database) as engine:
        yield WorkStore(engine, Timing(lease=30.0, step_timeout=10.0, late_write=1.0))


def name(step: Dispatched) -> tuple[UUID, int]:
    return step.intent_id, step.lease_number


async def test_a_dispatched_step_is_no_attempt_until_it_is_taken(
    relay: RelayStore, worker: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    (step,) = await relay.dispatch()
    (row,) = await query(STATE)
    assert (row["state"], row["lease_number"], row["attempts"]) == ("dispatched", 1, 0)
    assert await relay.dispatch() == []
    (taken,) = await worker.take([name(step)])
    assert (taken.intent_id, taken.attempt, taken.lease_number) == (step.intent_id, 1, 1)
    assert taken.request["workflow_name"] == "W"
    (row,) = await query("SELECT state, deadline - clock_timestamp() AS left FROM outbox.queue")
    assert row["state"] == "leased"
    assert 0 < row["left"].total_seconds() <= 10


async def test_of_many_who_take_the_same_step_one_gets_it(
    relay: RelayStore, worker: WorkStore, enqueue: Enqueue
) -> None:
    for place in range(10):
        await enqueue(f"s{place}")
    steps = [name(one) for one in await relay.dispatch()]
    orders = [steps, steps[::-1], steps[5:] + steps[:5], steps]
    taken = await asyncio.gather(*(worker.take(order) for order in orders))
    assert sorted(one.schedule_id for batch in taken for one in batch) == sorted(
        {one.schedule_id for batch in taken for one in batch}
    )
    assert sum(map(len, taken)) == 10


async def test_a_step_that_nobody_took_is_dispatched_again_and_nothing_counts_against_it(
    database: str, worker: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    async with open_engine(database) as engine:
        relay = RelayStore(engine, flow(dispatch_seconds=0.0))
        (lost,) = await relay.dispatch()
        (again,) = await relay.dispatch()
    assert (lost.lease_number, again.lease_number) == (1, 2)
    (row,) = await query(STATE)
    assert row == {
        "state": "dispatched",
        "lease_number": 2,
        "attempts": 0,
        "strikes": 0,
        "unknown_until": None,
    }
    assert await query("SELECT FROM outbox.attempts") == []
    assert await worker.take([name(lost)]) == [], "late: the step was dispatched anew"
    assert len(await worker.take([name(again)])) == 1


async def test_no_more_are_out_than_the_bound_whoever_dispatches(
    database: str, worker: WorkStore, enqueue: Enqueue
) -> None:
    for place in range(12):
        await enqueue(f"s{place}")
    async with open_engine(database) as engine:
        relays = [RelayStore(engine, flow(bound=5)) for _ in range(3)]
        batches = await asyncio.gather(*(one.dispatch() for one in relays))
        out = [step for batch in batches for step in batch]
        assert len(out) == 5
        await worker.take([name(one) for one in out[:2]])
        assert len(await relays[0].dispatch()) == 2, "what was taken makes room"


async def test_what_the_broker_lost_does_not_use_up_the_bound(database: str, enqueue: Enqueue) -> None:
    for place in range(4):
        await enqueue(f"s{place}")
    async with open_engine(database) as engine:
        relay = RelayStore(engine, flow(bound=2, dispatch_seconds=0.0))
        first, second, third = [{one.intent_id for one in await relay.dispatch()} for _ in range(3)]
    assert len(first | second) == 4
    assert third == first, "it is their turn again"


async def test_what_could_not_be_published_is_due_again_at_once(
    relay: RelayStore, worker: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("a")
    await enqueue("b")
    steps = await relay.dispatch()
    arrived = next(one for one in steps if one.schedule_id.endswith("--a"))
    await worker.take([name(arrived)])
    await relay.recall(steps)
    rows = await query("SELECT schedule_id, state, due_at <= clock_timestamp() AS due FROM outbox.queue")
    assert {row["schedule_id"][-1]: row["state"] for row in rows} == {"a": "leased", "b": "ready"}
    (again,) = await relay.dispatch()
    assert again.lease_number == 2


async def test_a_breaker_that_opens_calls_back_what_is_on_its_way(
    relay: RelayStore, worker: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    for place in range(5):
        await enqueue(f"s{place}")
    steps = await relay.dispatch()
    (unlucky,) = await worker.take([name(steps[0])])
    down = Settlement(
        unlucky.intent_id,
        unlucky.schedule_id,
        unlucky.event_type,
        AUTHZ,
        unlucky.lease_number,
        1,
        Action.RETRY,
        delay_seconds=60.0,
        error_code=ErrorCode.UNREACHABLE,
        error_message="nobody there",
        store=StoreHealth.DOWN,
    )
    await worker.settle([down])
    states = await query("SELECT state, count(*) AS n FROM outbox.queue GROUP BY state ORDER BY state")
    assert states == [{"state": "ready", "n": 4}, {"state": "waiting", "n": 1}]
    assert await worker.take([name(one) for one in steps[1:]]) == []
    assert await relay.dispatch() == [], "until the probe is due"
    await query("UPDATE outbox.breakers SET probe_at = clock_timestamp()")
    assert len(await relay.dispatch()) == 1


async def test_the_direct_wire_takes_over_what_was_dispatched(
    database: str, worker: WorkStore, enqueue: Enqueue
) -> None:
    await enqueue()
    async with open_engine(database) as engine:
        await RelayStore(engine, flow(dispatch_seconds=0.0)).dispatch()
    (taken,) = await worker.claim({AUTHZ: 5})
    assert (taken.lease_number, taken.attempt, taken.unknown) == (2, 1, False)


async def test_a_lease_that_ended_is_an_unknown_attempt_on_this_wire_too(
    database: str, relay: RelayStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    (step,) = await relay.dispatch()
    async with open_engine(database) as engine:
        dies = WorkStore(engine, Timing(lease=0.0, step_timeout=0.0, late_write=1.0))
        await dies.take([name(step)])
    (again,) = await relay.dispatch()
    assert again.lease_number == 2
    (row,) = await query(STATE)
    assert (row["attempts"], row["strikes"]) == (1, 1)
    assert row["unknown_until"] is not None
    assert await query("SELECT error_code FROM outbox.attempts") == [{"error_code": "lease_expired"}]


def test_kafka_as_the_wire_needs_to_know_where_it_is() -> None:
    with pytest.raises(ValueError, match="OUTBOX_KAFKA_BOOTSTRAP"):
        Cluster.of(Settings.model_validate({"wire": "kafka"}))
    with pytest.raises(ValueError, match="set together"):
        Settings.model_validate({"kafka_bootstrap": "k:9092", "kafka_sasl_username": "me"})
