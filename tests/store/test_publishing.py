"""Publishing as Postgres sees it: one publisher at a time, in nobody's way while it waits for its broker."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.table import Consumer
from outbox.store.engine import is_passing, open_engine
from outbox.store.relay import Flow, Publication, RelayStore
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query

# More than it takes until a statement is prepared, which is executed otherwise from then on.
ROUNDS = 8
OF_THE_PUBLISHER = "datname = current_database() AND state = 'idle in transaction'"

Request = Callable[..., Awaitable[None]]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database) as engine:
        yield engine


@pytest.fixture
def relay(engine: AsyncEngine) -> RelayStore:
    return RelayStore(engine, Flow({}, 10, 30.0, 1.0))


@pytest.fixture
async def request_of(store: WorkStore, enqueue: Enqueue, query: Query) -> Request:
    """Have an event to publish for each of these lanes."""
    await query("UPDATE outbox.instance SET publishes = true")

    async def run(*lanes: str) -> None:
        for lane in lanes:
            await enqueue(lane)
        assert len(await store.claim({Consumer.AUTHZ: 10})) == len(lanes)

    return run


async def held(query: Query) -> list[dict[str, Any]]:
    """What the waiting publisher's transaction holds, of what others could be in need of."""
    return await query(
        f"""SELECT a.backend_xid, a.backend_xmin,
                   ARRAY(SELECT DISTINCT coalesce(l.relation::regclass::text, l.locktype) FROM pg_locks l
                          WHERE l.pid = a.pid ORDER BY 1) AS locks
              FROM pg_stat_activity a WHERE {OF_THE_PUBLISHER}"""
    )


async def test_while_the_broker_is_waited_for_a_publisher_holds_its_turn_and_nothing_else(
    relay: RelayStore, request_of: Request, query: Query
) -> None:
    nothing_else = [
        {"backend_xid": None, "backend_xmin": None, "locks": ["outbox.turn_to_publish", "virtualxid"]}
    ]
    for place in range(ROUNDS):
        await request_of(f"{place}a", f"{place}b")
        async with relay.publishing() as batch:
            assert await held(query) == nothing_else
            for event in batch.events:
                await batch.mark_published([event])
                assert await held(query) == nothing_else
    assert await query("SELECT FROM outbox.publications") == []


async def test_a_table_can_be_altered_while_the_broker_is_waited_for(
    relay: RelayStore, request_of: Request, query: Query
) -> None:
    await request_of("a")
    async with relay.publishing() as batch:
        assert len(batch.events) == 1
        await query("SET lock_timeout = '5s'")
        for table in ("publications", "events", "intents"):
            await query(f"ALTER TABLE outbox.{table} ADD COLUMN more int")


async def test_one_publisher_has_its_turn_at_a_time(relay: RelayStore, request_of: Request) -> None:
    await request_of("a")
    async with relay.publishing() as first, relay.publishing() as second:
        assert (len(first.events), second.events) == (1, [])
    async with relay.publishing() as second:
        assert second.events == first.events, "nobody has marked it"


async def test_a_publisher_that_was_cut_off_keeps_what_arrived_and_stops_while_another_goes_on(
    relay: RelayStore, request_of: Request, query: Query
) -> None:
    cut_off = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {OF_THE_PUBLISHER}"
    await request_of("a", "b")

    async def stall() -> None:
        async with relay.publishing() as stalled:
            await query(cut_off)
            # As long as the first has not said what arrived, another sends it again: it is the same event.
            async with relay.publishing() as other:
                taken.append((stalled.events, other.events))
                await stalled.mark_published(stalled.events[:1])

    taken: list[tuple[list[Publication], list[Publication]]] = []
    with pytest.raises(DBAPIError) as raised:
        await stall()
    assert is_passing(raised.value)
    ((before, again),) = taken
    assert before == again
    async with relay.publishing() as left:
        assert left.events == before[1:]
