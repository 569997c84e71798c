"""What operators do: replay, discard, repair; and the repairs that follow an unknown attempt."""

import asyncio
import random
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy.exc import DBAPIError

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator, Dispatch, Standing
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, EventType, Kind, Live
from outbox.store.engine import async_engine
from outbox.store.work import WorkStore
from tests.store.conftest import TIMING, Enqueue, Query
from tests.store.test_settle import hurry

LIMITS = dict.fromkeys(Consumer, 10)
POLICY = RetryPolicy(base_seconds=0.001, cap_seconds=0.001, max_strikes=1)
REFUSED = Refused(ErrorCode.REFUSED, "no")
RACED = Transient(ErrorCode.RACED, "again")
LOST = Unknown(ErrorCode.CONNECTION_LOST, "?")


def to(dispatch: Dispatch, outcome: Outcome) -> Settlement:
    return decide(dispatch, outcome, POLICY, random.Random(1))


async def settle_next(store: WorkStore, outcome: Outcome) -> Dispatch:
    (one,) = await store.claim(LIMITS)
    await store.settle([to(one, outcome)])
    return one


async def fail(store: WorkStore) -> None:
    """Fail the only intent: its registration meets somebody else's."""
    await settle_next(store, Conflict(ErrorCode.CONFLICT_FOREIGN, "taken"))


async def replay(
    query: Query, intent: UUID, *, forced: bool = False, rehearsed: bool = False
) -> dict[str, Any]:
    (row,) = await query("SELECT * FROM outbox.replay(%s, %s, %s)", intent, forced, rehearsed)
    return row


async def discard(query: Query, intent: UUID) -> dict[str, Any]:
    (row,) = await query("SELECT * FROM outbox.discard(%s, 'given up')", intent)
    return row


async def test_a_failed_intent_is_enqueued_anew_and_linked(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    first = await enqueue()
    await fail(store)
    done = await replay(query, first)
    assert done["action"] == "reenqueued"
    (again,) = await store.claim(LIMITS)
    assert (again.intent_id, again.event_type) == (done["new_intent_id"], EventType.CREATE_REQUESTED)
    rows = await query(
        "SELECT request, creator, replays, replay_number FROM outbox.intents ORDER BY position"
    )
    assert rows[1] == rows[0] | {"replays": first, "replay_number": 1}


async def test_a_chain_is_replayed_at_its_newest_end_only(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    first = await enqueue()
    await fail(store)
    second = (await replay(query, first))["new_intent_id"]
    assert (await replay(query, second))["reason"].startswith("it is pending")
    await fail(store)
    old = await replay(query, first)
    assert (old["action"], str(second) in old["reason"]) == ("refused", True)
    third = await replay(query, second)
    assert third["action"] == "reenqueued"
    rows = await query(
        "SELECT replays, replay_number FROM outbox.intents WHERE id = %s", third["new_intent_id"]
    )
    assert rows == [{"replays": first, "replay_number": 2}]


async def test_of_two_operators_at_once_one_is_refused(
    store: WorkStore, enqueue: Enqueue, query: Query, database: str
) -> None:
    first = await enqueue()
    await fail(store)
    engines = [async_engine(database) for _ in range(5)]

    async def try_it(place: int) -> str:
        async with engines[place].begin() as connection:
            row = (
                await connection.exec_driver_sql("SELECT * FROM outbox.replay(%s, false, false)", (first,))
            ).one()
            return str(row.action)

    actions = await asyncio.gather(*(try_it(place) for place in range(5)))
    assert sorted(actions) == ["reenqueued"] + ["refused"] * 4
    for engine in engines:
        await engine.dispose()
    assert len(await query("SELECT 1 AS one FROM outbox.intents")) == 2


async def test_a_replay_that_was_overtaken_is_refused_unless_forced(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    first = await enqueue()
    await fail(store)
    await enqueue(kind="delete")
    assert "overtaken" in (await replay(query, first))["reason"]
    assert (await replay(query, first, forced=True))["action"] == "reenqueued"


async def test_a_rehearsal_writes_nothing(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    first = await enqueue("failed")
    await fail(store)
    parked = await enqueue("parked")
    await settle_next(store, RACED)
    whole = "SELECT q::text FROM outbox.queue q"
    before = await query(whole)
    assert (await replay(query, first, rehearsed=True)) == {
        "action": "reenqueued",
        "reason": f"create of {agent}--failed is asked for again",
        "new_intent_id": None,
    }
    assert (await replay(query, parked, rehearsed=True))["action"] == "rearmed"
    assert await query(whole) == before


async def test_only_what_failed_or_is_parked_is_replayed(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    assert (await replay(query, uuid4()))["reason"] == "there is no such intent"
    intent = await enqueue()
    assert (await replay(query, intent))["reason"].startswith("it is pending")
    for _ in range(2):
        await settle_next(store, Done())
    assert (await replay(query, intent))["reason"].startswith("it is succeeded")


async def test_a_parked_step_is_rearmed_and_its_lease_number_goes_on(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    intent = await enqueue()
    parked = await settle_next(store, RACED)
    assert await store.claim(LIMITS) == []
    assert (await replay(query, intent))["action"] == "rearmed"
    (again,) = await store.claim(LIMITS)
    assert (again.lease_number, again.attempt, again.strikes) == (2, 1, 0)
    assert (await store.settle([to(parked, Done())])).matched == set(), (
        "the lease from before the parking is over"
    )
    assert (await replay(query, intent))["action"] == "refused"


async def test_discarding_a_registration_undoes_it_first(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    intent = await enqueue()
    await settle_next(store, RACED)
    assert (await discard(query, intent))["action"] == "discarding"
    step = await settle_next(store, Done())
    assert (step.event_type, step.look) == (EventType.COMPENSATION_REQUESTED, False)
    events = await query("SELECT type, error_code, error_message FROM outbox.events ORDER BY id")
    assert events[-1] == {
        "type": "schedule.create_failed",
        "error_code": "discarded",
        "error_message": "given up",
    }


@pytest.mark.parametrize(
    ("found", "ends"),
    [
        (Done(), ["schedule.created"]),
        (REFUSED, ["schedule.compensation_requested", "schedule.create_failed"]),
    ],
)
async def test_discarding_a_create_looks_whether_it_took_effect(
    store: WorkStore, enqueue: Enqueue, query: Query, found: Outcome, ends: list[str]
) -> None:
    intent = await enqueue()
    await settle_next(store, Done())
    await settle_next(store, RACED)
    await discard(query, intent)
    looked = await settle_next(store, found)
    assert looked.look
    assert looked.cause
    assert looked.cause.code is ErrorCode.DISCARDED
    if found is REFUSED:
        await settle_next(store, Done())
    events = await query("SELECT type, error_code FROM outbox.events ORDER BY id")
    assert [row["type"] for row in events][2:] == ends
    assert events[-1]["error_code"] == (None if found == Done() else "discarded")


async def test_discarding_a_delete_lets_the_schedule_live(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    live = await enqueue()
    for _ in range(2):
        await settle_next(store, Done())
    intent = await enqueue(kind="delete")
    await settle_next(store, RACED)
    await discard(query, intent)
    assert (await settle_next(store, REFUSED)).look
    assert (await query("SELECT type, error_code FROM outbox.events ORDER BY id DESC LIMIT 1")) == [
        {"type": "schedule.delete_failed", "error_code": "discarded"}
    ]
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": live}]


async def test_what_undoes_already_can_not_be_discarded(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    intent = await enqueue(kind="delete")
    await settle_next(store, Done())
    assert (await discard(query, intent))["reason"].startswith("it is not parked")
    await settle_next(store, REFUSED)
    assert "must go through" in (await discard(query, intent))["reason"]
    assert (await discard(query, uuid4()))["action"] == "refused"


async def test_an_intent_with_an_unknown_attempt_is_followed_by_two_repairs_of_its_lane(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    live = await enqueue()
    await settle_next(store, LOST)
    await query("UPDATE outbox.queue SET due_at = clock_timestamp()")
    for _ in range(2):
        await settle_next(store, Done())
    waits = await query(
        "SELECT extract(epoch FROM due_at - (SELECT hold_until FROM outbox.lanes))::float8 AS wait "
        "FROM outbox.queue WHERE place = 'deferred' ORDER BY due_at"
    )
    assert [row["wait"] for row in waits] == [0, 600], "when the attempt can't land any more, then once more"
    assert await store.claim(LIMITS) == [], "not before its time"
    assert not await store.pending(repairs=True)
    await query("UPDATE outbox.lanes SET hold_until = clock_timestamp()")
    await query("UPDATE outbox.queue SET due_at = clock_timestamp() WHERE due_at < now() + interval '60 s'")
    repair = await settle_next(store, Done())
    assert (repair.kind, repair.consumer, repair.live_intent) == (Kind.REPAIR, Consumer.BOTH, live)
    assert repair.request["workflow_name"] == "W", "a repair brings about what the live intent asked for"
    assert repair.creator.user_id == "u1"
    events = await query("SELECT type FROM outbox.events WHERE intent_id = %s ORDER BY id", repair.intent_id)
    assert [row["type"] for row in events] == ["schedule.repair.requested", "schedule.repaired"]


async def test_repairs_do_not_breed(store: WorkStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    await settle_next(store, LOST)
    for _ in range(6):
        await query("UPDATE outbox.queue SET due_at = clock_timestamp()")
        await query("UPDATE outbox.lanes SET hold_until = clock_timestamp()")
        await settle_next(store, LOST)
        await query("UPDATE outbox.queue SET due_at = clock_timestamp()")
        await settle_next(store, Done())
    waiting = await query("SELECT FROM outbox.queue WHERE event_type = 'schedule.repair.requested'")
    assert len(waiting) == 2


async def test_a_deferred_repair_is_in_nobodys_way_and_then_in_the_lane(
    store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await settle_next(store, LOST)
    await query("UPDATE outbox.queue SET due_at = clock_timestamp()")
    for _ in range(2):
        await settle_next(store, Done())
    await query("UPDATE outbox.lanes SET hold_until = clock_timestamp()")
    delete = await enqueue(kind="delete")
    (unschedule,) = await store.claim(LIMITS)
    assert unschedule.intent_id == delete
    await query("UPDATE outbox.queue SET due_at = clock_timestamp() WHERE place = 'deferred'")
    assert await store.claim(LIMITS) == [], "never beside another intent of the lane"
    await store.settle([to(unschedule, Done())])
    await settle_next(store, Done())
    repair = await settle_next(store, Done())
    assert (repair.kind, repair.live_intent, repair.creator.user_id) == (Kind.REPAIR, None, "u1")


async def test_one_asked_for_repair_waits_in_a_lane_at_a_time(
    enqueue: Enqueue, query: Query, agent: str, store: WorkStore
) -> None:
    del enqueue
    ask = "SELECT outbox.request_repair(%s) AS id"
    first = await query(ask, f"{agent}--s")
    assert await query(ask, f"{agent}--s") == first
    (repair,) = await store.claim(LIMITS)
    assert repair.intent_id == first[0]["id"]
    assert await query(ask, f"{agent}--s") != first, "one that is under way may have looked already"


async def test_an_adoption_and_a_repair_are_asked_for_side_by_side(
    store: WorkStore, query: Query, agent: str
) -> None:
    repair, adoption, again = [
        (await query("SELECT outbox.request_repair(%s, %s) AS id", f"{agent}--s", adopting))[0]["id"]
        for adopting in (False, True, True)
    ]
    assert repair != adoption == again
    first = await settle_next(store, Done())
    second = await settle_next(store, Done(live=Live.SET))
    assert {first.adopts, second.adopts} == {False, True}
    assert (second.request, second.creator, second.live_intent) == ({"adopt": True}, Creator(), None)
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": adoption}]


async def test_an_adoption_that_is_given_up_in_doubt_holds_and_is_ended_by_a_look(
    store: WorkStore, query: Query, agent: str
) -> None:
    await query("SELECT outbox.request_repair(%s, true)", f"{agent}--s")
    await settle_next(store, LOST)
    await hurry(query)
    given_up = await settle_next(store, Conflict(ErrorCode.CONFLICT_FOREIGN, "no owner"))
    assert (given_up.adopts, given_up.unknown, given_up.look) == (True, True, False)
    assert await query("SELECT state, looking FROM outbox.queue WHERE place = 'head'") == [
        {"state": "holding", "looking": True}
    ]
    assert await store.claim(LIMITS) == []
    # One that gets no answer is followed by another, and by no attempt.
    for outcome in (LOST, Done()):
        await hurry(query)
        look = await settle_next(store, outcome)
        assert (look.intent_id, look.adopts, look.look) == (given_up.intent_id, True, True)
    ended = await query(
        "SELECT status, event_type, error_code FROM outbox.intent_status WHERE id = %s", look.intent_id
    )
    assert ended == [{"status": "succeeded", "event_type": "schedule.repaired", "error_code": None}]
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": None}]


async def test_a_claim_tells_that_the_live_intent_is_an_adoption(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    await query("SELECT outbox.request_repair(%s, true)", f"{agent}--s")
    adoption = await settle_next(store, Done(live=Live.SET))
    await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
    repair = await settle_next(store, Done())
    assert (repair.live_intent, repair.live_adopted) == (adoption.intent_id, True)
    await enqueue(kind="delete")
    delete = await settle_next(store, Done())
    assert (delete.live_intent, delete.live_adopted) == (adoption.intent_id, True)
    await settle_next(store, Done())
    await enqueue()
    create = await settle_next(store, Done())
    assert (create.live_intent, create.live_adopted) == (None, False)
    await settle_next(store, Done())
    await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
    later = await settle_next(store, Done())
    assert (later.live_intent, later.live_adopted) == (create.intent_id, False)


async def test_a_repair_that_cleans_up_frees_the_lane(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    await enqueue()
    for _ in range(2):
        await settle_next(store, Done())
    await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
    await settle_next(store, Done(live=Live.CLEAR))
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": None}]


async def test_a_replay_of_what_an_adoption_has_overtaken_is_refused(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    first = await enqueue()
    await fail(store)
    await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
    assert (await replay(query, first, rehearsed=True))["action"] == "reenqueued"
    await query("SELECT outbox.request_repair(%s, true)", f"{agent}--s")
    assert "overtaken" in (await replay(query, first))["reason"]


DEFINITION = {"agent_id": "a", "name": "s", "workflow_name": "W", "task_queue": "q", "described": "="}


async def ask_to_reclaim(query: Query, schedule: str, stamp: UUID) -> UUID:
    asked = (schedule, stamp, Jsonb(DEFINITION), Jsonb({"user_id": "alice"}))
    (row,) = await query("SELECT outbox.request_reclaim(%s, %s, %s, %s) AS id", *asked)
    return UUID(str(row["id"]))


async def lived(query: Query) -> list[object]:
    rows = await query("SELECT live_intent FROM outbox.lanes ORDER BY schedule_id")
    return [row["live_intent"] for row in rows]


async def test_a_reclaim_enters_the_intent_again_under_the_id_that_its_stamp_is(
    store: WorkStore, query: Query, agent: str
) -> None:
    lane, stamp = f"{agent}--s", uuid4()
    asked = await ask_to_reclaim(query, lane, stamp)
    assert await ask_to_reclaim(query, lane, stamp) == asked, "one waits at a time"
    reclaim = await settle_next(store, Done(live=Live.RECLAIM))
    assert (reclaim.intent_id, reclaim.reclaims, reclaim.adopts) == (asked, str(stamp), False)
    assert (reclaim.creator, reclaim.live_intent) == (Creator(user_id="alice"), None)
    assert await lived(query) == [stamp]
    assert await store.standing(lane, str(stamp)) is Standing.LIVE
    assert await query("SELECT id, kind, status, event_type FROM outbox.intent_status ORDER BY kind") == [
        {"id": stamp, "kind": "create", "status": "succeeded", "event_type": "schedule.created"},
        {"id": asked, "kind": "repair", "status": "succeeded", "event_type": "schedule.repaired"},
    ]
    await query("SELECT outbox.request_repair(%s)", lane)
    repair = await settle_next(store, Done())
    assert (repair.request, repair.creator) == (DEFINITION, Creator(user_id="alice"))
    assert (repair.live_intent, repair.live_adopted) == (stamp, False)


async def test_what_stands_behind_a_reclaim_finds_it_live(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    stamp = uuid4()
    await ask_to_reclaim(query, f"{agent}--s", stamp)
    await enqueue(kind="delete")
    (reclaim,) = await store.claim({Consumer.BOTH: 1})
    await store.settle([to(reclaim, Done(live=Live.RECLAIM))])
    delete = await settle_next(store, Done())
    assert (delete.kind, delete.live_intent) == (Kind.DELETE, stamp)
    await settle_next(store, Done())
    assert await lived(query) == [None]
    assert await store.standing(f"{agent}--s", str(stamp)) is Standing.ENDED


async def test_a_reclaim_that_finds_nothing_makes_no_stamp_ours(
    store: WorkStore, query: Query, agent: str
) -> None:
    stamp = uuid4()
    await ask_to_reclaim(query, f"{agent}--s", stamp)
    await settle_next(store, Done())
    assert await lived(query) == []
    assert await store.standing(f"{agent}--s", str(stamp)) is Standing.FOREIGN


async def test_what_the_ledger_knows_by_now_is_entered_once(
    store: WorkStore, query: Query, agent: str
) -> None:
    stamp = uuid4()
    for lane in (f"{agent}--a", f"{agent}--b", f"{agent}--a"):
        await ask_to_reclaim(query, lane, stamp)
        await settle_next(store, Done(live=Live.RECLAIM))
    assert await lived(query) == [stamp, None]
    assert len(await query("SELECT 1 FROM outbox.intents WHERE kind = 'create'")) == 1


async def test_a_stale_settle_reclaims_nothing(store: WorkStore, query: Query, agent: str) -> None:
    await ask_to_reclaim(query, f"{agent}--s", uuid4())
    (reclaim,) = await store.claim({Consumer.BOTH: 1})
    stale = replace(to(reclaim, Done(live=Live.RECLAIM)), lease_number=0)
    assert (await store.settle([stale, to(reclaim, Done())])).matched == {
        (reclaim.intent_id, reclaim.lease_number)
    }
    assert len(await query("SELECT 1 FROM outbox.intents")) == 1


async def test_a_rate_is_shared_by_all_workers(database: str, enqueue: Enqueue, query: Query) -> None:
    for place in range(20):
        await enqueue(f"s{place}")
    engines = [async_engine(database) for _ in range(2)]
    stores = [WorkStore(engine, TIMING, {Consumer.AUTHZ: 5}) for engine in engines]
    assert len(await stores[0].claim(LIMITS)) == 5
    # However long this test is held up: the clock is set back, and then 400 ms pass, or more.
    await query("UPDATE outbox.budgets SET at = at + interval '1 hour'")
    assert await stores[1].claim({Consumer.AUTHZ: 10}) == []
    await query("UPDATE outbox.budgets SET at = clock_timestamp() - interval '400 ms'")
    assert 2 <= len(await stores[1].claim(LIMITS)) <= 5
    await query("UPDATE outbox.budgets SET at = at - interval '1 hour'")
    assert len(await stores[1].claim(LIMITS)) == 5, "a bucket holds one second's worth"
    for engine in engines:
        await engine.dispose()


async def test_a_rate_below_one_is_no_setting(database: str) -> None:
    engine = async_engine(database)
    with pytest.raises(DBAPIError):
        await WorkStore(engine, TIMING, {Consumer.AUTHZ: -1}).claim(LIMITS)
    await engine.dispose()
