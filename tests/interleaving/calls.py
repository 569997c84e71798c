"""What is called: by workers, relays, producers and operators; and what was there before."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import outbox
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Unknown
from outbox.flow.settlement import RetryPolicy, Settlement, decide, park
from outbox.flow.table import Consumer, Live
from outbox.store.halts import HaltStore
from outbox.store.operate import OperateStore
from outbox.store.relay import Dispatched, Flow, RelayStore
from outbox.store.retention import RetentionStore
from outbox.store.work import Timing, WorkStore
from tests.interleaving.instrument import SNAPSHOT
from tests.interleaving.stage import Call

TIMING = Timing(lease=300.0, step_timeout=100.0, late_write=75.0)
LIMITS = dict.fromkeys(Consumer, 10)
LANE, OTHER_LANE = "a--s", "b--s"
# Those that are called from outside, each in a transaction of its own, and that change what others read.
CALLED = (
    *("claim", "dispatch", "take", "recall", "settle", "enqueue", "enqueue_many"),
    *("replay_by", "discard_by", "repair_by", "reclaim_by", "hold_by", "release_by"),
    *("begin_prune", "prune_batch", "prune_lanes"),
)
POLICY = RetryPolicy()
DONE = Done("token")
REFUSED = Refused(ErrorCode.REFUSED, "no")
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")
LOST = Unknown(ErrorCode.CONNECTION_LOST, "lost")
LOST_STAMP = UUID(int=1)
READ_COMMITTED: LiteralString = "READ COMMITTED"
REPEATABLE_READ: LiteralString = "REPEATABLE READ"
SERIALIZABLE: LiteralString = "SERIALIZABLE"
_STOP = text("SELECT stepper.at(:place)")
_OPERATOR = "ada"
_WHO = outbox.Principal(user_id="u1")

Request = outbox.CreateSchedule | outbox.UpdateSchedule | outbox.DeleteSchedule


class Before:
    """What was there: makes it, by calls that nobody comes in between."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.store = WorkStore(engine, TIMING)

    async def enqueue(self, *kinds: str, lane: str = LANE, key: str | None = None) -> list[UUID]:
        return [await enqueues(kind, lane=lane, key=key)(self.engine) for kind in kinds]

    async def claim(self) -> list[Dispatch]:
        taken = await self.store.claim(LIMITS)
        if not taken:
            raise RuntimeError("nothing was due")
        return taken

    async def settle(self, *outcomes: Outcome) -> None:
        """Claim all that is due, and have it come out so; once more for each."""
        for outcome in outcomes:
            await self.store.settle(settlements(await self.claim(), outcome))

    async def park(self) -> None:
        await parks(await self.claim())(self.engine)

    async def dispatch(self, *, seconds: float = 30.0) -> list[Dispatched]:
        """Dispatch all that is due, to be taken within so many seconds."""
        dispatched: list[Dispatched] = await dispatches(seconds=seconds)(self.engine)
        return dispatched

    async def have_live(self) -> None:
        """Have the lane's schedule created."""
        await self.enqueue("create")
        await self.settle(DONE, DONE)

    async def pass_time(self) -> None:
        """Whatever waits for its time is due."""
        async with self.engine.connect() as connection:
            await connection.execute(
                text("UPDATE outbox.queue SET due_at = clock_timestamp() WHERE place <> 'incoming'")
            )


def settlements(taken: Sequence[Dispatch], outcome: Outcome = DONE) -> list[Settlement]:
    def of(one: Dispatch) -> Outcome:
        return replace(outcome, live=Live.RECLAIM) if one.reclaims and outcome == DONE else outcome

    return [decide(one, of(one), POLICY, random.Random(1)) for one in taken]


def request(kind: str, lane: str, note: str) -> Request:
    agent, _, name = lane.partition("--")
    match kind:
        case "create":
            return outbox.CreateSchedule(
                agent_id=agent, name=name, workflow_name="W", task_queue="q", interval_seconds=60
            )
        case "update":
            return outbox.UpdateSchedule(agent_id=agent, name=name, note=note)
        case _:
            return outbox.DeleteSchedule(agent_id=agent, name=name)


# Workers and relays.


def claims(limits: Mapping[Consumer, int] = LIMITS) -> Call:
    async def call(engine: AsyncEngine) -> list[Dispatch]:
        return await WorkStore(engine, TIMING).claim(limits)

    return call


def settles(taken: Sequence[Dispatch], outcome: Outcome = DONE, room: int = 0) -> Call:
    async def call(engine: AsyncEngine) -> list[Dispatch]:
        rooms = dict.fromkeys(Consumer, room)
        settled = await WorkStore(engine, TIMING).settle(settlements(taken, outcome), room=rooms)
        return list(settled.handed)

    return call


def parks(taken: Sequence[Dispatch]) -> Call:
    async def call(engine: AsyncEngine) -> None:
        await WorkStore(engine, TIMING).settle([park(one, Cause(ErrorCode.UNEXPECTED, "?")) for one in taken])

    return call


def dispatches(*, bound: int = 5, seconds: float = 30.0) -> Call:
    async def call(engine: AsyncEngine) -> list[Dispatched]:
        flow = Flow(dict.fromkeys(Consumer, bound), 10, seconds, TIMING.late_write)
        return await RelayStore(engine, flow).dispatch()

    return call


def takes(dispatched: Sequence[Dispatched]) -> Call:
    async def call(engine: AsyncEngine) -> list[Dispatch]:
        named = [(one.intent_id, one.lease_number) for one in dispatched]
        return await WorkStore(engine, TIMING).take(named)

    return call


def recalls(dispatched: Sequence[Dispatched]) -> Call:
    async def call(engine: AsyncEngine) -> None:
        flow = Flow(dict.fromkeys(Consumer, 5), 10, 30.0, TIMING.late_write)
        await RelayStore(engine, flow).recall(dispatched)

    return call


# Producers.


def enqueues(
    kind: str = "create",
    *,
    lane: str = LANE,
    key: str | None = None,
    note: str = "n",
    isolation: LiteralString = READ_COMMITTED,
) -> Call:
    async def call(engine: AsyncEngine) -> UUID:
        async with _transaction(engine, isolation) as connection:
            return await _enqueue(connection, request(kind, lane, note), key)

    return call


@asynccontextmanager
async def _transaction(engine: AsyncEngine, isolation: LiteralString) -> AsyncIterator[AsyncConnection]:
    """A producer's own; one that takes a snapshot takes it when the session goes on."""
    if isolation != READ_COMMITTED:
        async with engine.connect() as connection:
            await connection.execute(_STOP, {"place": SNAPSHOT})
    async with engine.connect() as autocommit:
        connection = await autocommit.execution_options(isolation_level=isolation)
        async with connection.begin():
            yield connection


async def _enqueue(connection: AsyncConnection, asked: Request, key: str | None) -> UUID:
    match asked:
        case outbox.CreateSchedule():
            made = await outbox.enqueue_create(connection, asked, principal=_WHO, idempotency_key=key)
        case outbox.UpdateSchedule():
            made = await outbox.enqueue_update(connection, asked, principal=_WHO, idempotency_key=key)
        case _:
            made = await outbox.enqueue_delete(connection, asked, principal=_WHO, idempotency_key=key)
    return made.id


def enqueues_many(*kinds: str, lane: str = LANE, isolation: LiteralString = READ_COMMITTED) -> Call:
    async def call(engine: AsyncEngine) -> list[UUID]:
        items = [(request(kind, lane, "n"), _WHO) for kind in kinds]
        async with _transaction(engine, isolation) as connection:
            return [one.id for one in await outbox.enqueue_many(connection, items)]

    return call


# Operators.


def replays(intent: UUID, *, forced: bool = True) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await OperateStore(engine, _OPERATOR).replay(intent, forced=forced, rehearsed=False)).action

    return call


def discards(intent: UUID) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await OperateStore(engine, _OPERATOR).discard(intent, "given up")).action

    return call


def asks_for_repair() -> Call:
    async def call(engine: AsyncEngine) -> None:
        await OperateStore(engine, _OPERATOR).request_repair(LANE)

    return call


def reclaims() -> Call:
    """Ask for what carries a stamp that the ledger does not know to become the lane's."""

    async def call(engine: AsyncEngine) -> None:
        definition = {"workflow_name": "W", "task_queue": "q", "interval_seconds": 60}
        await OperateStore(engine, _OPERATOR).request_reclaim(
            LANE, LOST_STAMP, definition=definition, creator=Creator(user_id="u1")
        )

    return call


def holds(what: str, *, until: datetime | None = None) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await HaltStore(engine, _OPERATOR).hold(what, until=until, why="look")).action

    return call


def releases(what: str) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await HaltStore(engine, _OPERATOR).release(what)).action

    return call


def prunes(intents: Sequence[UUID], *, lanes: bool = False) -> Call:
    async def call(engine: AsyncEngine) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        store = RetentionStore(engine, tomorrow, batch=10, operator=_OPERATOR)
        await store.prune(intents)
        if lanes:
            async for _ in store.prune_lanes():
                pass

    return call
