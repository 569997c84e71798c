"""Random calls on the real SQL, verified after each: whatever is under way, the log keeps its invariants.

Each run is drawn from a seed, which its name tells; a violation is told with all that was done before it.
"""

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

import outbox
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome, Transient
from outbox.flow.settlement import Settlement, park
from outbox.flow.table import Consumer, Effect, Live
from outbox.store.engine import open_engine
from outbox.store.retention import RetentionStore
from outbox.store.verifying import VerifyStore
from outbox.store.work import WorkStore
from outbox.verify.sweep import Verifier
from outbox.verify.tally import Tally
from tests.store.conftest import TIMING
from tests.store.test_operate import LOST, RACED, REFUSED, to

OPERATIONS = 40
LANES = ("a", "b", "c")
# Of 20 rounds each; two are enough.
_DRAINS = 10
ALICE = outbox.Principal(user_id="alice")
UNREACHABLE = Transient(ErrorCode.UNREACHABLE, "away")
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")
# Of some, time passes: leases end, waits and holds are over, repairs are due.
TIME_PASSES = """
    UPDATE outbox.queue SET due_at = least(due_at, clock_timestamp()),
           unknown_until = CASE WHEN unknown_until > clock_timestamp() THEN clock_timestamp()
                                ELSE unknown_until END
     WHERE state <> 'parked' AND random() < 0.7;
    UPDATE outbox.lanes SET hold_until = clock_timestamp() WHERE hold_until > clock_timestamp();
"""


class Run:
    """One run: a ledger, who calls it, and what they did so far."""

    def __init__(
        self, connection: psycopg.AsyncConnection[dict[str, Any]], engine: Any, agent: str, seed: int
    ) -> None:
        self._sql = connection
        self._engine = engine
        self._store = WorkStore(engine, TIMING)
        self._agent = agent
        self._dice = random.Random(seed)
        self._leased: list[Dispatch] = []
        self.did: list[str] = []
        self.pruned = 0

    async def go(self) -> None:
        """Do one thing, and verify."""
        likely: dict[Callable[[], Any], int] = {
            self._enqueue: 5,
            self._claim: 6,
            self._settle: 9,
            self._pass: 3,
            self._operate: 3,
            self._drain: 1,
            self._prune: 1,
        }
        (act,) = self._dice.choices([*likely], [*likely.values()])
        self.did.append(act.__name__)
        await act()
        await self.verify()

    async def finish(self) -> None:
        """It came to something: all has ended, and was pruned but for what is live: one create at least."""
        for _ in range(2):
            create = outbox.CreateSchedule(
                agent_id=self._agent, name="last", workflow_name="W", task_queue="q", interval_seconds=60
            )
            await outbox.enqueue_create(self._sql, create, principal=ALICE)
        for _ in range(_DRAINS):
            await self._drain()
            cursor = await self._sql.execute("SELECT count(*) AS left FROM outbox.queue")
            if await cursor.fetchone() == {"left": 0}:
                break
        else:
            raise AssertionError("what can be done does not come to an end")
        await self._pass()
        await self._prune()
        assert self.pruned > 0

    async def verify(self) -> None:
        verifier = Verifier(VerifyStore(self._engine, newest=self._dice.choice([2, 500])), None, 1e9)
        found = [str(one) async for one in verifier.all(Tally())]
        assert found == [], "\n".join([*self.did, *found])

    async def _enqueue(self) -> None:
        for _ in range(self._dice.choice([1, 1, 3])):
            named: dict[str, Any] = {"agent_id": self._agent, "name": self._dice.choice(LANES)}
            match self._dice.choice("ccuud"):
                case "c":
                    create = outbox.CreateSchedule(
                        **named, workflow_name="W", task_queue="q", interval_seconds=60
                    )
                    await outbox.enqueue_create(self._sql, create, principal=ALICE)
                case "u":
                    update = outbox.UpdateSchedule(**named, paused=self._dice.random() < 0.5)
                    await outbox.enqueue_update(self._sql, update, principal=ALICE)
                case _:
                    await outbox.enqueue_delete(self._sql, outbox.DeleteSchedule(**named), principal=ALICE)

    async def _claim(self) -> None:
        serves = self._dice.choice([list(Consumer), list(Consumer), [Consumer.AUTHZ], [Consumer.TEMPORAL]])
        self._leased += await self._store.claim(dict.fromkeys(serves, self._dice.choice([1, 100])))

    async def _settle(self) -> None:
        """Some of what is leased, now and then under an old lease, too; what follows may be handed over."""
        chosen = self._dice.sample(self._leased, min(len(self._leased), self._dice.choice([1, 3])))
        room = dict.fromkeys(Consumer, self._dice.choice([0, 1, 100]))
        settled = await self._store.settle([self._settlement(one) for one in chosen], room=room)
        self._leased = [one for one in self._leased if one not in chosen or self._dice.random() < 0.2]
        self._leased += settled.handed

    def _settlement(self, step: Dispatch) -> Settlement:
        if self._dice.random() < 0.05:
            return park(step, Cause(ErrorCode.RACED, "again and again"))
        if self._dice.random() < 0.3:
            trouble: list[Outcome] = [LOST, LOST, RACED, UNREACHABLE]
            return to(step, self._dice.choice(trouble))
        return to(step, self._outcome(step))

    def _outcome(self, step: Dispatch) -> Outcome:
        """What a store would have said, given what is live."""
        chance, live = self._dice.random(), step.live_intent is not None
        match step.step.effect:
            case Effect.REGISTER if live:
                return Conflict(ErrorCode.CONFLICT_LIVE, "it lives")
            case Effect.REGISTER:
                return TAKEN if chance < 0.15 else Done(skipped=chance < 0.3)
            case Effect.UPDATE if not live:
                return Conflict(ErrorCode.NOT_LIVE, "nothing is live")
            case Effect.UPDATE:
                return REFUSED if chance < 0.2 else Done(through=self._dice.choice(step.run))
            case Effect.CREATE | Effect.DELETE:
                return REFUSED if chance < 0.2 else Done()
            case Effect.REPAIR if step.reclaims:
                return Done(live=Live.RECLAIM) if chance < 0.8 else Done()
            case Effect.REPAIR if step.adopts and not live:
                return Done(live=Live.SET, definition={"workflow_name": "There"}) if chance < 0.8 else Done()
            case Effect.REPAIR if live and not step.adopts:
                return Done(live=Live.CLEAR) if chance < 0.2 else Done()
            case _:
                return Done()

    async def _drain(self) -> None:
        """All that can be done is, as it goes well; then a prune finds something."""
        again = "SELECT outbox.replay(q.intent_id, true, false) FROM outbox.queue q WHERE q.state = 'parked'"
        for _ in range(20):
            await self._pass()
            await self._sql.execute(again)
            self._leased += await self._store.claim(dict.fromkeys(Consumer, 100))
            settled = await self._store.settle([to(one, self._outcome(one)) for one in self._leased])
            self._leased = [*settled.handed]
        await self.verify()
        await self._prune()

    async def _pass(self) -> None:
        for statement in TIME_PASSES.split(";"):
            if statement.strip():
                await self._sql.execute(statement.encode())

    async def _operate(self) -> None:
        cursor = await self._sql.execute(
            "SELECT i.id, q.state FROM outbox.intents i LEFT JOIN outbox.queue q ON q.intent_id = i.id"
            " ORDER BY i.position, i.id"
        )
        rows = await cursor.fetchall()
        lane = f"{self._agent}--{self._dice.choice(LANES)}"
        parked: list[UUID] = [row["id"] for row in rows if row["state"] == "parked"]
        match self._dice.choice(["replay", "replay", "discard", "repair", "reclaim"]):
            case "replay" if rows:
                one = self._dice.choice(parked or [row["id"] for row in rows])
                await self._sql.execute("SELECT outbox.replay(%s, true, false)", (one,))
            case "discard" if parked:
                await self._sql.execute(
                    "SELECT outbox.discard(%s, 'nobody wants it')", (self._dice.choice(parked),)
                )
            case "reclaim":
                lost = "SELECT outbox.request_reclaim(%s, outbox.uuid7(), %s, %s)"
                by = Jsonb({"user_id": "alice"})
                await self._sql.execute(lost, (lane, Jsonb({"workflow_name": "Lost"}), by))
            case _:
                adopting = self._dice.random() < 0.4
                await self._sql.execute("SELECT outbox.request_repair(%s, %s)", (lane, adopting))

    async def _prune(self) -> None:
        """All that has ended, in batches; verified between them."""
        cursor = await self._sql.execute("SELECT clock_timestamp() AS now")
        (row,) = await cursor.fetchall()
        moment: datetime = row["now"]
        retention = RetentionStore(self._engine, moment, batch=2, operator="tester")
        await retention.begin()
        async for intents in retention.prunable():
            self.pruned += await retention.prune(intents)
            await self.verify()
        async for _ in retention.prune_lanes():
            await self.verify()
        await retention.prune_operations()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_under_way_the_log_keeps_its_invariants(
    database: str, agent: str, seed: int
) -> None:
    async with (
        open_engine(database) as engine,
        await psycopg.AsyncConnection.connect(database, autocommit=True, row_factory=dict_row) as connection,
    ):
        # Postgres' own dice, too.
        await connection.execute("SELECT setseed(%s)", (seed / 100,))
        run = Run(connection, engine, agent, seed)
        for _ in range(OPERATIONS):
            await run.go()
        await run.finish()
