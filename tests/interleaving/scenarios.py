"""What meets in Postgres: calls of the outbox that are under way at once, and what was there before."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

import outbox
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome, Refused
from outbox.flow.settlement import RetryPolicy, Settlement, decide, park
from outbox.flow.table import Consumer
from outbox.store.operate import OperateStore
from outbox.store.retention import RetentionStore
from outbox.store.work import Timing, WorkStore
from tests.interleaving.stage import Call

TIMING = Timing(lease=300.0, step_timeout=100.0, late_write=75.0)
LIMITS = dict.fromkeys(Consumer, 10)
LANE = "a--s"
# Those that are called from outside, each in a transaction of its own.
CALLED = (
    *("claim", "dispatch", "take", "settle", "enqueue", "enqueue_many"),
    *("replay_by", "discard_by", "repair_by", "begin_prune", "prune_batch"),
)
POLICY = RetryPolicy()
DONE = Done("token")
REFUSED = Refused(ErrorCode.REFUSED, "no")
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")


class Before:
    """What was there: makes it, by calls that nobody comes in between."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.store = WorkStore(engine, TIMING)

    async def enqueue(self, *kinds: str, lane: str = LANE) -> list[UUID]:
        return [await enqueue(self.engine, kind, lane) for kind in kinds]

    async def claim(self) -> list[Dispatch]:
        taken = await self.store.claim(LIMITS)
        if not taken:
            raise RuntimeError("nothing was due")
        return taken

    async def settle(self, outcome: Outcome = DONE) -> None:
        """Claim all that is due, and have it come out so."""
        await self.store.settle(settlements(await self.claim(), outcome))

    async def park(self) -> None:
        await self.store.settle([park(one, Cause(ErrorCode.UNEXPECTED, "?")) for one in await self.claim()])


def settlements(taken: Sequence[Dispatch], outcome: Outcome = DONE) -> list[Settlement]:
    return [decide(one, outcome, POLICY, random.Random(1)) for one in taken]


async def enqueue(
    engine: AsyncEngine,
    kind: str = "create",
    lane: str = LANE,
    *,
    key: str | None = None,
    isolation: LiteralString = "READ COMMITTED",
) -> UUID:
    """Enqueue in a transaction of this isolation."""
    agent, _, name = lane.partition("--")
    who = outbox.Principal(user_id="u1")
    async with engine.connect() as autocommit:
        connection = await autocommit.execution_options(isolation_level=isolation)
        async with connection.begin():
            match kind:
                case "create":
                    create = outbox.CreateSchedule(
                        agent_id=agent, name=name, workflow_name="W", task_queue="q", interval_seconds=60
                    )
                    return (
                        await outbox.enqueue_create(connection, create, principal=who, idempotency_key=key)
                    ).id
                case "update":
                    update = outbox.UpdateSchedule(agent_id=agent, name=name, paused=True)
                    return (
                        await outbox.enqueue_update(connection, update, principal=who, idempotency_key=key)
                    ).id
                case _:
                    delete = outbox.DeleteSchedule(agent_id=agent, name=name)
                    return (
                        await outbox.enqueue_delete(connection, delete, principal=who, idempotency_key=key)
                    ).id


# The calls.


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


def enqueues(
    kind: str = "create", *, key: str | None = None, isolation: LiteralString = "READ COMMITTED"
) -> Call:
    async def call(engine: AsyncEngine) -> UUID:
        return await enqueue(engine, kind, key=key, isolation=isolation)

    return call


def replays(intent: UUID, *, forced: bool = True) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await OperateStore(engine, "ada").replay(intent, forced=forced, rehearsed=False)).action

    return call


def discards(intent: UUID) -> Call:
    async def call(engine: AsyncEngine) -> str:
        return (await OperateStore(engine, "ada").discard(intent, "given up")).action

    return call


def asks_for_repair() -> Call:
    async def call(engine: AsyncEngine) -> None:
        await OperateStore(engine, "ada").request_repair(LANE)

    return call


def prunes(intents: Sequence[UUID]) -> Call:
    async def call(engine: AsyncEngine) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await RetentionStore(engine, tomorrow, batch=10, operator="ada").prune(intents)

    return call


@dataclass(frozen=True)
class Scenario:
    """What meets.

    Attributes:
        prepare: what was there; returns the calls that are under way at once.
        serial: each ending must be one that the calls come to one after another, too.
        may_fail: the SQL states that a caller is to expect, and to answer by trying again.
        any_order: producers that commit at once have no order between them.
    """

    name: str
    prepare: Callable[[Before], Awaitable[Sequence[Call]]]
    serial: bool = True
    may_fail: frozenset[str] = field(default_factory=frozenset)
    any_order: bool = False


async def _a_follower_while_its_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle()
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last), claims()]


async def _the_same_handed_over(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle()
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last, room=5), claims()]


async def _two_claims_of_one_lane(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "delete")
    return [claims(), claims()]


async def _two_settles_of_one_lease(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "delete")
    await before.settle()
    last = await before.claim()
    return [settles(last), settles(last, REFUSED)]


async def _a_producer_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle()
    last = await before.claim()
    return [settles(last), enqueues("delete"), claims()]


async def _two_producers_and_a_claim(_: Before) -> Sequence[Call]:
    return [enqueues("create"), enqueues("delete"), claims()]


async def _one_key_twice(_: Before) -> Sequence[Call]:
    return [enqueues(key="k"), enqueues(key="k")]


async def _two_replays_of_one(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [replays(intent), replays(intent)]


async def _a_replay_of_what_is_parked_and_a_discard(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle()
    await before.park()
    return [replays(intent), discards(intent)]


async def _two_replays_and_a_claim(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle()
    await before.park()
    return [replays(intent), replays(intent), claims()]


async def _a_discard_and_a_claim(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle()
    await before.park()
    await before.enqueue("delete")
    return [discards(intent), claims()]


async def _a_replay_and_a_claim_with_followers(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    await before.enqueue("create")
    return [replays(intent), claims()]


async def _pruning_what_is_replayed(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [prunes([intent]), replays(intent)]


async def _pruning_a_key_that_is_used_again(before: Before) -> Sequence[Call]:
    await enqueue(before.engine, key="k")
    await before.settle(TAKEN)
    rows = await _rows(before.engine, "SELECT id FROM outbox.intents")
    return [prunes([rows[0]["id"]]), enqueues(key="k")]


async def _two_repairs_are_asked_for(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle()
    await before.settle()
    return [asks_for_repair(), asks_for_repair(), claims()]


async def _a_repair_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle()
    last = await before.claim()
    return [settles(last), asks_for_repair(), claims()]


async def _a_run_of_updates_while_one_more_comes(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "update", "update")
    await before.settle()
    await before.settle()
    run = await before.claim()
    await before.enqueue("update")
    return [settles(run), claims()]


async def _rows(engine: AsyncEngine, statement: str) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(text(statement))).mappings()]


async def _producers_that_are_serializable(_: Before) -> Sequence[Call]:
    return [enqueues("create", isolation="SERIALIZABLE"), enqueues("delete", isolation="SERIALIZABLE")]


async def _a_serializable_producer_and_a_claim(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [enqueues("delete", isolation="SERIALIZABLE"), claims()]


async def _producers_that_read_repeatably(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [enqueues("delete", isolation="REPEATABLE READ"), claims()]


_TRY_AGAIN = frozenset({"40001"})

SCENARIOS = (
    Scenario("a follower is placed while its head ends", _a_follower_while_its_head_ends),
    Scenario("a follower is placed while its head ends, and handed over", _the_same_handed_over),
    Scenario("two claims of one lane", _two_claims_of_one_lane),
    Scenario("two settles of one lease", _two_settles_of_one_lease),
    Scenario("a producer commits while the head ends", _a_producer_while_the_head_ends),
    Scenario("two producers and a claim", _two_producers_and_a_claim, any_order=True),
    Scenario("one idempotency key, twice", _one_key_twice, any_order=True),
    Scenario("two replays of one intent", _two_replays_of_one),
    Scenario("a replay and a discard of one parked intent", _a_replay_of_what_is_parked_and_a_discard),
    Scenario("two replays of a parked intent, and a claim", _two_replays_and_a_claim),
    Scenario("a discard and a claim", _a_discard_and_a_claim),
    Scenario("a replay and a claim", _a_replay_and_a_claim_with_followers),
    # Both may happen: it is replayed, and gone.
    Scenario("what is replayed is pruned", _pruning_what_is_replayed, serial=False),
    Scenario(
        "an idempotency key is used while its intent is pruned",
        _pruning_a_key_that_is_used_again,
        may_fail=_TRY_AGAIN,
    ),
    Scenario("repairs are asked for, twice, and claimed", _two_repairs_are_asked_for),
    Scenario("a repair is asked for while the head ends", _a_repair_while_the_head_ends),
    Scenario("a run of updates ends while one more comes", _a_run_of_updates_while_one_more_comes),
    Scenario("a producer at REPEATABLE READ and a claim", _producers_that_read_repeatably),
    Scenario("a producer at SERIALIZABLE and a claim", _a_serializable_producer_and_a_claim),
    Scenario(
        "two producers at SERIALIZABLE",
        _producers_that_are_serializable,
        serial=False,
        may_fail=_TRY_AGAIN,
        any_order=True,
    ),
)
