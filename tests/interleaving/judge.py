"""Tells what is wrong with an ending: what must hold at once, and what must have come of it all."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.dispatch import Dispatch
from outbox.store.history import HistoryStore
from outbox.store.relay import Dispatched
from outbox.store.work import WorkStore
from outbox.testing.history import History
from outbox.verify.checker import check
from outbox.verify.invariants import Invariant
from outbox.verify.records import Stores
from tests.interleaving.calls import LIMITS, TIMING, releases, settlements
from tests.interleaving.scenario import Scenario

Outcome = tuple[Any, ...]
"""What came of a scenario: of each intent, in order, what it was and how it ended; what is live."""

_MOST_ROUNDS = 30
_OF_THE_LOG = frozenset(
    {Invariant.NOT_LOST, Invariant.ENDS_ONCE, Invariant.FLOW, Invariant.LANE_ORDER, Invariant.LIVE_STAMP}
)
_HEADS = """
    SELECT schedule_id, count(*) FILTER (WHERE place = 'head') AS heads,
           count(*) FILTER (WHERE place = 'behind') AS behind
      FROM outbox.queue GROUP BY schedule_id
"""
_LEASED = "SELECT intent_id, lease_number, place FROM outbox.queue WHERE state = 'leased'"
# The head of a halted schedule is marked, and no other.
_MISMARKED = """
    SELECT q.schedule_id, q.halted FROM outbox.queue q LEFT JOIN outbox.halts h ON h.what = q.schedule_id
     WHERE q.halted <> (q.place = 'head' AND h.what IS NOT NULL)
"""
_HALTS = "SELECT what FROM outbox.halts"
# Time passes: what holds or waits is due, and what is on its way to a worker got lost.
_DUE = """
    UPDATE outbox.queue SET due_at = clock_timestamp()
     WHERE state IN ('holding', 'waiting', 'dispatched') OR place = 'deferred'
"""
_NOTHING_HOLDS = "UPDATE outbox.lanes SET hold_until = NULL WHERE hold_until IS NOT NULL"
_GOES_ON = "SELECT EXISTS (SELECT FROM outbox.queue WHERE state <> 'parked')"
_ENDS = """
    SELECT i.kind, s.status, s.event_type, s.error_code, i.replay_number,
           (SELECT array_agg(e.type ORDER BY e.id) FROM outbox.events e WHERE e.intent_id = i.id) AS log
      FROM outbox.intents i JOIN outbox.intent_status s USING (id)
     WHERE i.kind <> 'repair' ORDER BY i.position
"""
_LIVE = """
    SELECT l.schedule_id, l.definition::text,
           (SELECT count(*) FROM outbox.intents p WHERE p.position < i.position AND p.kind <> 'repair'),
           (SELECT count(*) FROM outbox.intents p WHERE p.position < r.position AND p.kind <> 'repair')
      FROM outbox.lanes l JOIN outbox.intents i ON i.id = l.live_intent
      LEFT JOIN outbox.intents r ON r.id = l.revision ORDER BY l.schedule_id
"""


async def wrong_at_once(engine: AsyncEngine, results: Sequence[Any], scenario: Scenario) -> list[str]:
    """What is wrong as soon as all calls have returned."""
    found = [
        f"call {number} failed: {type(result).__name__}: {str(result).splitlines()[0]}"
        for number, result in enumerate(results, start=1)
        if isinstance(result, BaseException) and _state(result) not in scenario.may_fail
    ]
    async with engine.connect() as connection:
        for name, heads, behind in (await connection.execute(text(_HEADS))).all():
            if heads > 1:
                found.append(f"{name} has {heads} heads")
            elif behind and not heads:
                found.append(f"{name} has no head, and {behind} behind it that nobody will promote")
        for name, halted in (await connection.execute(text(_MISMARKED))).all():
            found.append(f"{name} is {'not ' * halted}halted, and what it has in the queue says otherwise")
        leased = {
            (row.intent_id, row.lease_number): row.place for row in await connection.execute(text(_LEASED))
        }
    if any(place != "head" for place in leased.values()):
        found.append("a step is leased that is not at the head of its lane")
    taken, dispatched = _given(results, Dispatch), _given(results, Dispatched)
    found += [
        f"a step was given to two at once: {given}"
        for given in (taken, dispatched)
        if len(set(given)) < len(given)
    ]
    if scenario.bound is not None and len(dispatched) > scenario.bound:
        found.append(f"{len(dispatched)} steps are on their way at once")
    # Nobody settles what is claimed meanwhile.
    found += [
        f"the lease {number} of {intent} was taken away"
        for intent, number in taken
        if (intent, number) not in leased
    ]
    return found


def _given(results: Sequence[Any], kind: type[Dispatch | Dispatched]) -> list[tuple[UUID, int]]:
    return [
        (one.intent_id, one.lease_number)
        for result in results
        if isinstance(result, list)
        for one in result
        if isinstance(one, kind)
    ]


async def wrong_in_the_end(
    engine: AsyncEngine, results: Sequence[Any], scenario: Scenario
) -> tuple[list[str], Outcome]:
    """Do what is left to do, and judge the log; with what came of it."""
    store = WorkStore(engine, TIMING)
    left = [
        one for result in results if isinstance(result, list) for one in result if isinstance(one, Dispatch)
    ]
    async with engine.connect() as connection:
        halted = list((await connection.execute(text(_HALTS))).scalars())
    for what in halted:
        await releases(what)(engine)
    for _ in range(_MOST_ROUNDS):
        if left:
            await store.settle(settlements(left))
        async with engine.connect() as connection:
            await connection.execute(text(_DUE))
            await connection.execute(text(_NOTHING_HOLDS))
        left = await store.claim(LIMITS)
        if not left and not await _goes_on(engine):
            break
    history = History(**await HistoryStore(engine).read())
    ledger = history.ledger({} if scenario.any_order else None)
    found = [str(one) for one in check(ledger, Stores(ended=())) if one.invariant in _OF_THE_LOG]
    if found:
        found += [history.story(name) for name in sorted({row["schedule_id"] for row in history.intents})]
    async with engine.connect() as connection:
        ends = [tuple(map(str, row)) for row in (await connection.execute(text(_ENDS))).all()]
        live = [tuple(row) for row in (await connection.execute(text(_LIVE))).all()]
    return found, (
        tuple(sorted(ends) if scenario.any_order else ends),
        tuple(live) if not scenario.any_order else (),
    )


async def _goes_on(engine: AsyncEngine) -> bool:
    """Whether anything is left that a person need not see to."""
    async with engine.connect() as connection:
        return bool(await connection.scalar(text(_GOES_ON)))


def _state(error: BaseException) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""
