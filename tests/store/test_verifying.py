"""Snapshots of a live ledger, judged: what is broken is found, what is under way or pruned is not told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.ext.asyncio import AsyncEngine

import outbox
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done
from outbox.flow.settlement import park
from outbox.flow.table import Kind
from outbox.store.engine import open_engine
from outbox.store.retention import RetentionStore
from outbox.store.verifying import VerifyStore
from outbox.store.work import WorkStore
from outbox.verify.glimpse import glimpses
from outbox.verify.sweep import Verifier
from outbox.verify.tally import Tally
from tests.store.conftest import Enqueue, Query
from tests.store.roles import login_role
from tests.store.test_operate import LIMITS, LOST, REFUSED, settle_next, to

FAST = 1e9


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database) as opened:
        yield opened


async def broken(engine: AsyncEngine, *, newest: int = 500) -> list[tuple[str, str]]:
    """What the log breaks, as the name of the schedule and the invariant."""
    verifier = Verifier(VerifyStore(engine, newest=newest), None, FAST)
    return [(one.schedule_id.partition("--")[2], one.invariant.value) async for one in verifier.all(Tally())]


async def idle(engine: AsyncEngine, *, newest: int = 500) -> list[str]:
    """Of which lanes the stores could be judged."""
    found = glimpses(await VerifyStore(engine, newest=newest).page("", 100))
    return [one.schedule_id.partition("--")[2] for one in found if one.is_idle]


async def update(database: str, agent: str, name: str) -> UUID:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as line:
        request = outbox.UpdateSchedule(agent_id=agent, name=name, paused=True)
        return (await outbox.enqueue_update(line, request, principal=outbox.Principal(user_id="u1"))).id


async def work(store: WorkStore) -> None:
    """Do all that is due, as it goes well."""
    while taken := await store.claim(LIMITS):
        await store.settle([to(one, done(one)) for one in taken])


async def now(query: Query) -> datetime:
    """The time by the clock that says when intents ended."""
    (row,) = await query("SELECT clock_timestamp() AS now")
    found: datetime = row["now"]
    return found


def done(step: Dispatch) -> Done:
    return Done(through=step.run[-1]) if step.kind is Kind.UPDATE else Done()


BREAKS = {
    "a request that is gone": (
        "DELETE FROM outbox.events WHERE schedule_id LIKE '%--s' AND type = 'schedule.create.requested'",
        "not_lost",
    ),
    "an intent whose end is gone": (
        "DELETE FROM outbox.events WHERE schedule_id LIKE '%--s' AND type = 'schedule.created'",
        "ends_once",
    ),
    "a step that was skipped": (
        "DELETE FROM outbox.events WHERE schedule_id LIKE '%--s' AND type = 'schedule.registered'",
        "flow",
    ),
    "a settle under an old lease": (
        "UPDATE outbox.events SET lease_number = 1 WHERE schedule_id LIKE '%--s' AND lease_number = 2",
        "flow",
    ),
    "a live stamp that was swapped": (
        "UPDATE outbox.lanes SET live_intent = gen_random_uuid() WHERE schedule_id LIKE '%--s'",
        "live_stamp",
    ),
    "a live stamp that is gone": (
        "UPDATE outbox.lanes SET live_intent = NULL WHERE schedule_id LIKE '%--s'",
        "live_stamp",
    ),
    "a revision that nobody made": (
        "UPDATE outbox.lanes SET revision = gen_random_uuid() WHERE schedule_id LIKE '%--s'",
        "revision",
    ),
    "a row of work that is gone": ("DELETE FROM outbox.queue WHERE schedule_id LIKE '%--busy'", "ends_once"),
    "a head that is gone": (
        "DELETE FROM outbox.queue WHERE schedule_id LIKE '%--busy' AND place = 'head'",
        "one_head",
    ),
    "two heads": (
        "DROP INDEX outbox.queue_one_head; UPDATE outbox.queue SET place = 'head' WHERE place = 'behind'",
        "one_head",
    ),
    "another step than the log's": (
        "UPDATE outbox.queue SET event_type = 'schedule.registered' WHERE place = 'head'",
        "flow",
    ),
    "a lease that was taken back": (
        "UPDATE outbox.queue SET lease_number = 0 WHERE schedule_id LIKE '%--half'",
        "flow",
    ),
    "parked without a reason": (
        "UPDATE outbox.queue SET state = 'parked' WHERE schedule_id LIKE '%--busy' AND place = 'head'",
        "ends_once",
    ),
    "work of an intent that is gone": (
        "DELETE FROM outbox.intents i USING outbox.queue q WHERE q.intent_id = i.id AND q.place = 'head'",
        "not_lost",
    ),
    "one let in between another's steps": (
        "UPDATE outbox.events SET id = DEFAULT WHERE schedule_id LIKE '%again' AND type = 'schedule.created'",
        "lane_order",
    ),
}


@pytest.fixture
async def ledger(store: WorkStore, enqueue: Enqueue) -> None:
    """One that lives, one that came and went; of one half is done; one waits behind another's step."""
    for name in ("s", "again", "half"):
        await enqueue(name)
    await settle(store, "half")
    await enqueue("again", kind="delete")
    await settle(store)
    await enqueue("busy")
    await enqueue("busy", kind="delete")
    await store.claim(LIMITS)


async def settle(store: WorkStore, but: str | None = None) -> None:
    """Do all that is due; of one schedule, its first step alone."""
    while taken := [
        one
        for one in await store.claim(LIMITS)
        if one.event_type == "schedule.create.requested" or not one.schedule_id.endswith(f"--{but}")
    ]:
        await store.settle([to(one, Done()) for one in taken])


@pytest.mark.usefixtures("ledger")
async def test_a_sound_ledger_has_nothing_wrong_whatever_is_under_way(engine: AsyncEngine) -> None:
    assert await broken(engine) == []
    assert await idle(engine) == ["again", "s"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("how", BREAKS)
async def test_what_is_broken_is_found(engine: AsyncEngine, query: Query, how: str) -> None:
    statement, invariant = BREAKS[how]
    for one in statement.split(";"):
        await query(one)
    assert invariant in {found for _, found in await broken(engine)}


async def test_an_update_that_is_not_the_revision_is_found(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, database: str, agent: str
) -> None:
    await enqueue()
    await work(store)
    for _ in range(2):
        await update(database, agent, "s")
        await work(store)
    assert await broken(engine) == []
    await query("UPDATE outbox.lanes SET revision = NULL")
    assert await broken(engine) == [("s", "revision")]


async def test_what_stands_behind_no_head_goes_on_when_it_is_put_in_line_again(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
) -> None:
    """As docs/verify.md has it."""
    await enqueue("busy")
    second = await enqueue("busy", kind="delete")
    await store.claim(LIMITS)
    await query("DELETE FROM outbox.queue WHERE place = 'head'")
    assert ("busy", "one_head") in await broken(engine)
    assert await store.claim(LIMITS) == []
    lane = f"{agent}--busy"
    await query(
        "UPDATE outbox.queue SET place = 'incoming' WHERE schedule_id = %s AND place = 'behind'", lane
    )
    (step,) = await store.claim(LIMITS)
    assert step.intent_id == second
    assert await broken(engine) == [("busy", "ends_once")]


class TestPruned:
    async def prune(self, engine: AsyncEngine, older_than: datetime) -> None:
        """As the command does, without SpiceDB; verified before each batch of one, and after."""
        retention = RetentionStore(engine, older_than, batch=1, operator="tester")
        await retention.begin()
        async for intents in retention.prunable():
            assert await broken(engine) == []
            await retention.prune(intents)
        async for _ in retention.prune_lanes():
            pass
        await retention.prune_operations()
        assert await broken(engine) == []

    async def test_what_a_prune_took_is_not_missed_in_the_middle_of_it_either(
        self, store: WorkStore, enqueue: Enqueue, engine: AsyncEngine, database: str, agent: str, query: Query
    ) -> None:
        await enqueue("live")
        for name in ("gone", "gone-again"):
            await enqueue(name)
            await enqueue(name, kind="delete")
        await work(store)
        await update(database, agent, "live")
        await work(store)
        await self.prune(engine, await now(query))
        assert await query("SELECT kind FROM outbox.intents") == [{"kind": "create"}]
        # The live one's revision is gone; what comes now is judged as strictly as ever.
        await update(database, agent, "live")
        await enqueue("young")
        await work(store)
        assert await broken(engine) == []
        await query("UPDATE outbox.lanes SET live_intent = NULL WHERE schedule_id LIKE '%--young'")
        assert await broken(engine) == [("young", "live_stamp")]

    async def test_a_delete_that_went_before_its_create_is_not_missed(
        self, store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
    ) -> None:
        """Batches go by the order of ids, and a delete may have the smaller one."""
        await enqueue()
        gone = await enqueue(kind="delete")
        await work(store)
        retention = RetentionStore(engine, datetime.now(UTC) + timedelta(days=1), batch=9, operator="tester")
        await retention.begin()
        assert await retention.prune([gone]) == 1
        assert await query("SELECT kind FROM outbox.intents") == [{"kind": "create"}]
        assert await broken(engine) == []

    async def test_where_it_is_not_said_up_to_when_all_until_then_may_be_gone(
        self, store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, database: str, agent: str
    ) -> None:
        await enqueue()
        await work(store)
        await update(database, agent, "s")
        await work(store)
        await self.prune(engine, await now(query))
        await query("UPDATE outbox.operations SET detail = 'what ended before 30.11.2026 12:00:00 CET'")
        assert await broken(engine) == []

    async def test_a_prune_that_takes_nothing_keeps_what_the_one_before_had_said(
        self, store: WorkStore, enqueue: Enqueue, engine: AsyncEngine, query: Query, database: str, agent: str
    ) -> None:
        await enqueue()
        await work(store)
        await update(database, agent, "s")
        await work(store)
        before = await now(query)
        await self.prune(engine, before)
        assert len(await query("SELECT 1 AS one FROM outbox.intents")) == 1
        # So long ago by now that the next one takes what is written down of it along.
        await query("UPDATE outbox.operations SET at = at - interval '1 day'")
        await self.prune(engine, before)
        assert len(await query("SELECT 1 AS one FROM outbox.operations")) == 1


class TestLongLanes:
    async def test_the_newest_of_a_lane_are_judged_with_what_is_live_and_the_head(
        self, store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
    ) -> None:
        live = await enqueue()
        await work(store)
        for _ in range(5):
            await enqueue()
            await settle_next(store, Conflict(ErrorCode.CONFLICT_LIVE, "it lives"))
        snapshot = await VerifyStore(engine, newest=2).page("", 10)
        assert (len(snapshot.intents), len(snapshot.cut)) == (4, 1)
        assert live in {row["id"] for row in snapshot.intents}
        assert await broken(engine, newest=2) == []
        assert await idle(engine, newest=2) == ["s"]
        head = await enqueue()
        await settle_next(store, LOST)
        for _ in range(5):
            await enqueue(kind="delete")
        await store.claim(LIMITS)
        snapshot = await VerifyStore(engine, newest=2).page("", 10)
        assert head in {row["intent_id"] for row in snapshot.queue}
        assert await broken(engine, newest=2) == []
        assert await idle(engine, newest=2) == []
        await query("UPDATE outbox.lanes SET live_intent = gen_random_uuid()")
        assert ("s", "live_stamp") in await broken(engine, newest=2)

    async def test_what_waits_and_is_not_among_them_keeps_the_lane_from_being_idle(
        self, store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
    ) -> None:
        await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
        await query("UPDATE outbox.queue SET due_at = clock_timestamp() + interval '1 hour'")
        for _ in range(3):
            await enqueue(kind="delete")
            await settle_next(store, REFUSED)
        assert await idle(engine, newest=2) == []


async def test_a_parked_head_is_no_violation_and_is_not_idle(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    await enqueue()
    (step,) = await store.claim(LIMITS)
    await store.settle([park(step, Cause(ErrorCode.RACED, "again and again"))])
    await enqueue(kind="delete")
    await store.claim(LIMITS)
    assert (await broken(engine), await idle(engine)) == ([], [])


async def test_a_lane_that_holds_for_a_late_write_is_not_idle(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
) -> None:
    await enqueue()
    await settle_next(store, Done())
    await work(store)
    assert await idle(engine) == ["s"]
    await query("UPDATE outbox.lanes SET hold_until = clock_timestamp() + interval '1 minute'")
    assert await idle(engine) == []


async def test_what_has_moved_since_is_listed_from_where_it_is_asked(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
) -> None:
    for name in ("a", "b", "c"):
        await enqueue(name)
    await work(store)
    await query("UPDATE outbox.events SET at = at - interval '1 day' WHERE schedule_id LIKE '%--b'")
    verifying, since = VerifyStore(engine), datetime.now(UTC) - timedelta(hours=1)
    assert await verifying.moved(since, "") == [f"{agent}--a", f"{agent}--c"]
    assert await verifying.moved(since, f"{agent}--a") == [f"{agent}--c"]


@pytest.mark.usefixtures("ledger")
async def test_an_operators_role_will_do_and_nothing_is_written(database: str, agent: str) -> None:
    with login_role(database, "outbox_operator") as url:
        async with open_engine(url) as engine:
            assert await broken(engine) == []
            assert await VerifyStore(engine).moved(datetime.now(UTC) - timedelta(hours=1), "")
            assert not await VerifyStore(engine).is_standby()
    async with open_engine(database) as engine, VerifyStore(engine)._snapshot() as connection:
        with pytest.raises(Exception, match="read-only") as refused:
            await connection.exec_driver_sql("UPDATE outbox.lanes SET live_intent = NULL")
        assert isinstance(getattr(refused.value, "orig", None), errors.ReadOnlySqlTransaction)
    async with open_engine(database) as engine, engine.connect() as connection:
        # The connection is as it was for whoever has it next.
        assert (await connection.exec_driver_sql("SHOW transaction_read_only")).scalar() == "off"
        assert (await connection.exec_driver_sql("SHOW statement_timeout")).scalar() == "0"
    assert agent
