"""Settling: fenced, together, with holds, breakers and the lane's next turn."""

import random
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch, Standing
from outbox.flow.outcome import Conflict, Done, Misconfigured, Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, EventType
from outbox.store.engine import async_engine
from outbox.store.work import Timing, WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}
POLICY = RetryPolicy(base_seconds=0.001, cap_seconds=0.001, max_strikes=3)
REFUSED = Refused(ErrorCode.REFUSED, "no")
LOST = Unknown(ErrorCode.CONNECTION_LOST, "?")


def to(dispatch: Dispatch, outcome: Outcome) -> Settlement:
    return decide(dispatch, outcome, POLICY, random.Random(1))


async def claim_one(store: WorkStore) -> Dispatch:
    (one,) = await store.claim(LIMITS)
    return one


async def hurry(query: Query) -> None:
    """Let every wait of the queue be over."""
    await query(
        "UPDATE outbox.queue SET due_at = clock_timestamp() WHERE state <> 'parked' AND place <> 'deferred'"
    )


async def test_an_outcome_is_settled_once(store: WorkStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    one = await claim_one(store)
    assert (await store.settle([to(one, Done())])).matched == {(one.intent_id, 1)}
    assert (await store.settle([to(one, Done())])).matched == set()
    assert (await store.settle([to(one, REFUSED)])).matched == set()
    events = await query("SELECT type FROM outbox.events ORDER BY id")
    assert [row["type"] for row in events] == [EventType.CREATE_REQUESTED, EventType.REGISTERED]


async def test_a_batch_that_names_a_step_twice_settles_it_once(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    one = await claim_one(store)
    await store.settle([to(one, Done()), to(one, Done())])
    assert len(await query("SELECT FROM outbox.events")) == 2


async def test_of_a_batch_with_a_lease_that_is_over_only_the_present_one_matches(
    store: WorkStore, enqueue: Enqueue
) -> None:
    await enqueue()
    before = await claim_one(store)
    await store.settle([to(before, Done())])
    present = await claim_one(store)
    batch = [to(before, Done()), to(present, LOST)]
    assert (await store.settle(batch)).matched == {(present.intent_id, present.lease_number)}


async def test_a_worker_that_lost_its_lease_changes_nothing(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    former = await claim_one(store)
    await hurry(query)
    heir = await claim_one(store)
    assert (heir.lease_number, heir.attempt, heir.strikes, heir.unknown) == (2, 2, 1, True)
    for outcome in (Done(), LOST, REFUSED, Transient(ErrorCode.OVERLOADED, "x")):
        assert (await store.settle([to(former, outcome)])).matched == set()
    assert (await store.settle([to(heir, Done())])).matched == {(heir.intent_id, 2)}


async def test_an_expired_lease_is_in_the_timeline(store: WorkStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    await claim_one(store)
    await hurry(query)
    await claim_one(store)
    (tried,) = await query("SELECT action, error_code, attempt FROM outbox.attempts")
    assert tried == {"action": "retry", "error_code": "lease_expired", "attempt": 1}


async def test_the_lease_number_only_grows_across_steps(store: WorkStore, enqueue: Enqueue) -> None:
    await enqueue()
    first = await claim_one(store)
    await store.settle([to(first, Done())])
    second = await claim_one(store)
    assert (second.event_type, second.lease_number, second.attempt) == (EventType.REGISTERED, 2, 1)
    stale = replace(first, event_type=EventType.REGISTERED)
    assert (await store.settle([to(stale, Done())])).matched == set()


async def test_a_settle_names_its_event_too(store: WorkStore, enqueue: Enqueue) -> None:
    await enqueue()
    one = await claim_one(store)
    other = replace(one, event_type=EventType.REGISTERED)
    assert (await store.settle([to(other, Done())])).matched == set()


async def test_an_unknown_attempt_holds_what_would_undo_it_and_not_what_goes_forward(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await store.settle([to(await claim_one(store), LOST)])
    await hurry(query)
    register = await claim_one(store)
    assert register.unknown
    await store.settle([to(register, Done())])
    create = await claim_one(store)
    assert (create.event_type, create.unknown) == (EventType.REGISTERED, True), "going forward needs no wait"
    await store.settle([to(create, REFUSED)])
    (row,) = await query(
        "SELECT state, looking, cause_code, due_at = unknown_until AS held, "
        "unknown_until > clock_timestamp() + interval '5 seconds' AS long FROM outbox.queue"
    )
    assert row == {"state": "holding", "looking": True, "cause_code": "refused", "held": True, "long": True}
    assert await store.claim(LIMITS) == []
    await hurry(query)
    look = await claim_one(store)
    assert (look.look, look.event_type) == (True, EventType.REGISTERED)
    assert look.cause
    assert look.cause.code is ErrorCode.REFUSED


async def test_the_bound_counts_from_the_attempts_own_deadline(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await store.settle([to(await claim_one(store), LOST)])
    (row,) = await query("SELECT unknown_until - deadline AS bound FROM outbox.queue")
    assert row["bound"] == timedelta(seconds=5)


async def test_the_lanes_next_intent_waits_for_the_late_writes_of_the_one_before(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    follower = await enqueue(kind="delete")
    await store.settle([to(await claim_one(store), LOST)])
    await hurry(query)
    await store.settle([to(await claim_one(store), Done())])
    await store.settle([to(await claim_one(store), Done())])
    (row,) = await query(
        "SELECT intent_id, place, state, due_at > now() AS later FROM outbox.queue WHERE place <> 'deferred'"
    )
    assert row == {"intent_id": follower, "place": "head", "state": "holding", "later": True}
    assert await store.claim(LIMITS) == []


async def test_an_intent_that_comes_later_waits_for_them_too(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await store.settle([to(await claim_one(store), LOST)])
    await hurry(query)
    await store.settle([to(await claim_one(store), Done())])
    await store.settle([to(await claim_one(store), Done())])
    late = await enqueue(kind="delete")
    assert await store.claim(LIMITS) == []
    (row,) = await query("SELECT intent_id, state FROM outbox.queue WHERE place <> 'deferred'")
    assert row == {"intent_id": late, "state": "holding"}
    await query("UPDATE outbox.lanes SET hold_until = clock_timestamp()")
    await hurry(query)
    assert (await claim_one(store)).intent_id == late


async def test_a_failed_intent_leaves_the_live_stamp_alone(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    live = await enqueue()
    for _ in range(2):
        await store.settle([to(await claim_one(store), Done())])
    await enqueue()
    await store.settle([to(await claim_one(store), Conflict(ErrorCode.CONFLICT_LIVE, "there"))])
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": live}]
    assert await query("SELECT FROM outbox.queue") == []


async def test_the_database_allows_one_terminal_event_per_intent(enqueue: Enqueue, query: Query) -> None:
    intent = await enqueue()
    insert = "INSERT INTO outbox.events (intent_id, schedule_id, type) VALUES (%s, 'x', %s)"
    await query(insert, intent, "schedule.created")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await query(insert, intent, "schedule.create_failed")


async def test_the_database_allows_one_head_per_lane(enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    await enqueue()
    with pytest.raises(psycopg.errors.UniqueViolation):
        await query("UPDATE outbox.queue SET place = 'head', state = 'ready'")


async def test_a_parked_step_holds_its_lane_and_no_other(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("stuck")
    await enqueue("stuck", kind="delete")
    for _ in range(3):
        await store.settle([to(await claim_one(store), Transient(ErrorCode.RACED, "again"))])
        await hurry(query)
    assert await store.claim(LIMITS) == []
    assert not await store.pending(repairs=True), "what stands behind a parked head does not go on by itself"
    await enqueue("free")
    assert await store.pending(repairs=True)
    assert (await claim_one(store)).schedule_id.endswith("--free")


async def test_a_store_that_is_down_is_probed_by_one_step_and_the_other_store_goes_on(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    for place in range(4):
        await enqueue(f"c{place}")
    await enqueue("d", kind="delete")
    first, *_ = [one for one in await store.claim({Consumer.AUTHZ: 1}) if one.consumer is Consumer.AUTHZ]
    await store.settle([to(first, Transient(ErrorCode.UNREACHABLE, "refused"))])
    await hurry(query)
    assert [one.consumer for one in await store.claim(LIMITS)] == [Consumer.TEMPORAL]
    await query("UPDATE outbox.breakers SET probe_at = clock_timestamp()")
    assert await store.claim({Consumer.TEMPORAL: 5}) == []
    (probe,) = await store.claim(LIMITS)
    assert probe.consumer is Consumer.AUTHZ, "a claim that probed nothing left the probe to others"
    assert await store.claim(LIMITS) == [], "one probe at a time"
    await store.settle([to(probe, Done())])
    assert await query("SELECT FROM outbox.breakers") == []
    assert len([one for one in await store.claim(LIMITS) if one.consumer is Consumer.AUTHZ]) == 3


async def test_what_was_under_way_when_a_breaker_opened_does_not_count_as_probes(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    for place in range(5):
        await enqueue(f"c{place}")
    for one in await store.claim({Consumer.AUTHZ: 5}):
        await store.settle([to(one, Unknown(ErrorCode.TIMED_OUT, "silent"))])
    (row,) = await query(
        "SELECT failures, extract(epoch FROM probe_at - since)::float8 AS rest FROM outbox.breakers"
    )
    assert row == {"failures": 1, "rest": 1}


async def test_a_breaker_remembers_since_when_and_probes_ever_more_seldom(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    rests = []
    for _ in range(7):
        await hurry(query)
        await query("UPDATE outbox.breakers SET probe_at = clock_timestamp()")
        one = await claim_one(store)
        await store.settle([to(one, Misconfigured(ErrorCode.MISCONFIGURED, "wrong token"))])
        (row,) = await query(
            "SELECT since, error_code, "
            "extract(epoch FROM probe_at - (SELECT max(at) FROM outbox.attempts))::float8 AS rest "
            "FROM outbox.breakers"
        )
        rests.append(row["rest"])
    assert rests == [1, 2, 4, 8, 15, 15, 15]
    (row,) = await query("SELECT strikes, attempts, state FROM outbox.queue")
    assert row == {"strikes": 0, "attempts": 7, "state": "waiting"}, "no attempt is spent, and nothing parks"


async def test_what_a_stamp_is(store: WorkStore, enqueue: Enqueue, agent: str) -> None:
    schedule = f"{agent}--s"
    gone = await enqueue()
    await enqueue(kind="delete")
    live = await enqueue()
    for _ in range(6):
        await store.settle([to(await claim_one(store), Done())])
    waiting = await enqueue(kind="delete")
    elsewhere = await enqueue("other")
    assert await store.standing(schedule, str(live)) is Standing.LIVE
    assert await store.standing(schedule, str(gone)) is Standing.ENDED
    assert await store.standing(schedule, str(waiting)) is Standing.FOREIGN
    assert await store.standing(schedule, str(elsewhere)) is Standing.FOREIGN
    assert await store.standing(f"{agent}--other", str(gone)) is Standing.FOREIGN
    for text in ("", "x", "not-a-uuid", str(live).upper(), "'; DROP TABLE outbox.queue; --", "\u00e9"):
        assert await store.standing(schedule, text) is Standing.FOREIGN


async def test_a_settle_in_flight_does_not_stop_a_claim(
    store: WorkStore, enqueue: Enqueue, database: str
) -> None:
    """A claim skips the lane whose head is just being settled, and takes the others."""
    await enqueue("a")
    await claim_one(store)
    await enqueue("a", kind="delete")
    other = await enqueue("b")
    async with await psycopg.AsyncConnection.connect(database) as settling:
        await settling.execute("SELECT FROM outbox.queue WHERE place = 'head' FOR UPDATE")
        assert [one.intent_id for one in await store.claim(LIMITS)] == [other]
        await settling.rollback()


async def test_a_batch_settles_many_lanes_in_one_statement(
    enqueue: Enqueue, database: str, query: Query
) -> None:
    for place in range(50):
        await enqueue(f"s{place}")
    engine = async_engine(database)
    own = WorkStore(engine, Timing(30, 10, 5))
    taken = await own.claim({Consumer.AUTHZ: 100})
    assert len((await own.settle([to(one, Done()) for one in taken])).matched) == 50
    await engine.dispose()
    (row,) = await query(
        "SELECT count(DISTINCT at) AS n FROM outbox.events WHERE type = 'schedule.registered'"
    )
    assert row["n"] == 1


async def test_results_are_told_while_somebody_waits_and_else_to_nobody(
    store: WorkStore, enqueue: Enqueue, query: Query, database: str
) -> None:
    async def end() -> None:
        for _ in ("the schedule", "the registration"):
            await store.settle([to(await claim_one(store), Done())])

    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as listener:
        await listener.execute("LISTEN outbox_settled")
        await listener.execute("LISTEN told_to_nobody")
        await enqueue(kind="delete")
        await end()
        await query("NOTIFY told_to_nobody")
        intent = await enqueue(kind="delete")
        await query("SELECT FROM outbox.awaited_result(%s)", intent)
        await end()
        heard = [one.channel async for one in listener.notifies(stop_after=2)]
    assert heard == ["told_to_nobody", "outbox_settled"]


async def test_the_result_of_what_has_ended_is_awaited_by_nobody(enqueue: Enqueue, query: Query) -> None:
    intent = await enqueue(kind="delete")
    await query("DELETE FROM outbox.queue")
    await query(
        "INSERT INTO outbox.events (intent_id, schedule_id, type) VALUES (%s, 'x', 'schedule.deleted')",
        intent,
    )
    (result,) = await query("SELECT * FROM outbox.awaited_result(%s)", intent)
    assert result["status"] == "succeeded"
    assert await query("SELECT outbox.somebody_waits(clock_timestamp()) AS waits") == [{"waits": False}]
