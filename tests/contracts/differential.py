"""The same random operations on the real SQL functions and on the ledger in memory; rows must come out alike.

Time is made to pass by shifting every timestamp of the database back, and the other's clock forward. All
times are multiples of five seconds, so that a slow machine changes nothing.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Done, Misconfigured, Outcome, Transient, Unknown
from outbox.flow.settlement import RetryPolicy, Settlement, decide, park
from outbox.flow.table import Consumer, Kind, Live, Status
from outbox.store.engine import async_engine
from outbox.store.work import Timing, WorkStore
from tests.contracts.scenes import (
    AWAY,
    CLEAR,
    DONE,
    EVERY_5,
    LOST,
    REFUSED,
    SCENES,
    SET,
    TAKEN,
    Act,
    Handing,
    Scene,
)
from tests.simulation.ledger.postgres import MemoryPostgres
from tests.simulation.ledger.tables import FOREVER, Entry, Intent, Row
from tests.store.floors import long_look

TIMING = Timing(lease=305.0, step_timeout=105.0, late_write=75.0, verify_again=1005.0)
_POLICY = RetryPolicy(max_strikes=3)
_LANES = ["a--0", "a--1", "a--2"]
# Of two lanes, when their schedules end: before either clock began, and when neither will go any more.
_ENDS = {"a--0": "1970-01-01T00:00:00Z", "a--1": "2999-01-01T00:00:00Z"}
# Stamps that a lost ledger had given.
_LOST = [UUID(int=number) for number in (1, 2, 3)]
_KINDS = [Kind.CREATE, Kind.CREATE, Kind.DELETE, Kind.UPDATE, Kind.UPDATE]
_CHANGES: list[Mapping[str, Any]] = [
    {"cron_expression": "0 9 * * *", "timezone": "Europe/Berlin"},
    EVERY_5,
    {"workflow_params": {"a": None}},
    {"workflow_args": ["x", {"b": 1}]},
    {"paused": True, "note": "out of office"},
    {"end_at": None},
]
_PASSES = (10.0,) * 4 + (20.0,) * 4 + (50.0, 140.0, 410.0)
_SLACK = 4.0
_OUTCOMES: list[Outcome] = [
    DONE,
    SET,
    CLEAR,
    Done(skipped=True),
    Transient(ErrorCode.RACED, "raced"),
    Transient(ErrorCode.RACED, "debris was removed", waits=True),
    AWAY,
    LOST,
    Unknown(ErrorCode.TIMED_OUT, "silent", waits=True),
    REFUSED,
    TAKEN,
    Misconfigured(ErrorCode.MISCONFIGURED, "denied"),
]


@dataclass(frozen=True)
class Mix:
    """What a sequence is full of.

    Attributes:
        operates: how much of it operators do; of that, how much is halting, and how much of the rest pruning.
        parks: how many of the steps are parked.
        trouble: how many of them fail, or may have.
    """

    operates: float = 0.12
    halts: float = 0.25
    prunes: float = 0.2
    parks: float = 0.05
    trouble: float = 0.7


_MIXES = (Mix(), Mix(operates=0.3, parks=0.25), Mix(operates=0.3, prunes=0.7, trouble=0.1))
_SHIFT = """
    UPDATE outbox.queue SET due_at = due_at - {by}, deadline = deadline - {by},
           unknown_until = unknown_until - {by}, failing_since = failing_since - {by};
    UPDATE outbox.lanes SET hold_until = hold_until - {by}, updated_at = updated_at - {by};
    UPDATE outbox.breakers SET since = since - {by}, probe_at = probe_at - {by};
    UPDATE outbox.budgets SET at = at - {by};
    UPDATE outbox.halts SET until = until - {by};
    UPDATE outbox.events SET at = at - {by};
    UPDATE outbox.intents SET created_at = created_at - {by};
    SELECT setval(f, greatest(0, pg_sequence_last_value(f) - (extract(epoch FROM {by}) * 1000000)::bigint))
      FROM unnest('{{outbox.last_look,outbox.next_look,outbox.floor_authz,outbox.floor_temporal,
                    outbox.floor_both,outbox.placed_due}}'::regclass[]) AS f;
"""
_SHIFT_OWN = """
    UPDATE outbox.queue SET due_at = due_at - {by} WHERE intent_id = ANY ('{{{own}}}');
    UPDATE outbox.events SET at = at - {by} WHERE intent_id = ANY ('{{{own}}}');
    UPDATE outbox.intents SET created_at = created_at - {by} WHERE id = ANY ('{{{own}}}');
"""
_QUEUE = """
    SELECT intent_id, position, schedule_id, place, state, event_type, consumer, lease_number, attempts,
           strikes, looking, halted, alone, cause_code, cause_message, error_code, error_message, patience,
           CASE WHEN due_at = 'infinity' THEN 'infinity'
                ELSE extract(epoch FROM due_at - clock_timestamp())::float8 END AS due_at,
           extract(epoch FROM deadline - clock_timestamp())::float8 AS deadline,
           extract(epoch FROM unknown_until - clock_timestamp())::float8 AS unknown_until,
           extract(epoch FROM failing_since - clock_timestamp())::float8 AS failing_since
      FROM outbox.queue ORDER BY position
"""
_LANE_ROWS = """
    SELECT schedule_id, live_intent, definition, revision,
           extract(epoch FROM hold_until - clock_timestamp())::float8 AS hold_until
      FROM outbox.lanes ORDER BY schedule_id
"""
_BREAKERS = """
    SELECT consumer, failures, error_code,
           extract(epoch FROM probe_at - clock_timestamp())::float8 AS probe_at
      FROM outbox.breakers ORDER BY consumer
"""
_HALTS = """
    SELECT what, CASE WHEN until = 'infinity' THEN 'infinity'
                      ELSE extract(epoch FROM until - clock_timestamp())::float8 END AS until
      FROM outbox.halts ORDER BY what
"""
_FAILURES = "SELECT intent_id, status FROM outbox.failures ORDER BY intent_id"
_INTENTS = (
    "SELECT id, position, schedule_id, kind, replays, replay_number FROM outbox.intents ORDER BY position, id"
)
_EVENTS = """
    SELECT intent_id, type, lease_number, error_code, superseded_by FROM outbox.events ORDER BY intent_id, id
"""
_ATTEMPTS = (
    "SELECT intent_id, event_type, lease_number, error_code FROM outbox.attempts ORDER BY intent_id, id"
)
_LAST_LOOK = "SELECT pg_sequence_last_value('outbox.last_look') AS at"
_TABLES = (_QUEUE, _LANE_ROWS, _BREAKERS, _HALTS, _INTENTS, _EVENTS, _ATTEMPTS)
_EMPTY = """
    TRUNCATE outbox.intents, outbox.events, outbox.attempts, outbox.queue, outbox.lanes, outbox.breakers,
             outbox.budgets, outbox.halts, outbox.failures RESTART IDENTITY;
    SELECT setval('outbox.last_look', 0), setval('outbox.next_look', 0), setval('outbox.placed_due', 0);
"""
# Why claims look where they do: the last look from the start took long, just now or some time ago. Or it was
# none that this clock can have timed: its floors are above all that is there, and must not be believed.
_LOOKS = {
    "long": (0.0, long_look()),
    "long ago": (30.0, long_look(ago=30.0)),
    "set back": (-3600.0, long_look(ago=-3600.0, incoming="1000000", above_all=True)),
    "slept": (400.0, long_look(ago=400.0, lasts=7200.0, incoming="1000000", above_all=True)),
}
_LOOKS_OF = {Act.LONG: "long", Act.SET_BACK: "set back", Act.SLEPT: "slept"}
# What is halted, and for how many seconds; None: until it is released.
_HALTS_OF = {
    Act.HELD: (_LANES[0], None),
    Act.HELD_FOR_A_WHILE: (_LANES[0], 45.0),
    Act.AUTHZ_HELD: (Consumer.AUTHZ.value, None),
}
_ALL = dict.fromkeys(Consumer, 100)


class Differ(AssertionError):  # noqa: N818 - a finding
    """The two do not agree."""


class Pair:
    """The real ledger and the one in memory, side by side.

    Args:
        url: of the database.
        connection: of the owner of the schema there; every call commits by itself.
        store: there, too.
        scene: what is played before the operations.
        seed: of the operations.
    """

    def __init__(
        self,
        url: str,
        connection: psycopg.Connection[dict[str, Any]],
        store: WorkStore,
        scene: Scene,
        seed: int,
    ) -> None:
        self._url = url
        self._sql = connection
        self._store = store
        self._scene = scene
        self._dice = random.Random(seed)
        self._mix = _MIXES[seed % len(_MIXES)]
        self._shift = 0.0
        self.memory = MemoryPostgres(TIMING, self._now, random.Random(seed), rates=RATES)
        self._leased: list[Dispatch] = []
        # Of what is settled, how much is settled again when its lease is over.
        self._stays = 0.0
        self._open: list[tuple[psycopg.Connection[dict[str, Any]], list[Intent]]] = []
        self.did: list[str] = []

    def _now(self) -> float:
        return time.monotonic() + self._shift

    async def run(self, operations: int) -> None:
        """Do so many operations, comparing after each.

        Raises:
            Differ: what is not alike, after which operations.
        """
        self._sql.execute(_EMPTY)
        try:
            for act in self._scene:
                await self._play(act)
                self._adopt()
                await self._compare()
            self._stays = 0.2
            for _ in range(operations):
                self._pass(self._dice.choice(_PASSES))
                await self._do()
                self._adopt()
                await self._compare()
        except Exception as error:
            raise Differ("\n".join((*self.did, str(error)))) from error
        finally:
            for connection, _ in self._open:
                connection.close()

    async def _play(self, act: float | Kind | Mapping[str, Any] | Outcome | Handing | Act) -> None:
        match act:
            case Act():
                await self._play_named(act)
            case float():
                self._pass(act)
            case Kind():
                self._enqueue_all([_entry(_LANES[0], act)])
            case Mapping():
                self._enqueue_all([_entry(_LANES[0], Kind.UPDATE, act)])
            case Handing():
                steps = await self._claim_all(_ALL) or self._leased[-1:]
                await self._settle_all([_settled(one, act.outcome) for one in steps], _ALL)
            case _:
                claimed = await self._claim_all(_ALL)
                await self._settle_all([_settled(one, act) for one in claimed])

    async def _play_named(self, act: Act) -> None:
        match act:
            case Act.CLAIMED:
                await self._claim_all(_ALL)
            case Act.PLACED:
                await self._claim_all({Consumer.TEMPORAL: 1})
            case Act.ONE:
                await self._claim_all({Consumer.AUTHZ: 1})
            case Act.PARKED:
                await self._settle_all([_parked(one) for one in await self._claim_all(_ALL)])
            case Act.LATE | Act.LATE_END:
                await self._settle_all([_settled(self._leased[-1], DONE if act is Act.LATE else SET)])
            case Act.STALE:
                await self._settle_all([_settled(self._leased[0], DONE)])
            case Act.LONG | Act.SET_BACK | Act.SLEPT:
                self._look(_LOOKS_OF[act])
            case _:
                self._play_outside(act)

    def _play_outside(self, act: Act) -> None:
        """What producers and operators do."""
        match act:
            case Act.EARLY:
                self._enqueue_all([_entry(lane, Kind.CREATE) for lane in _LANES[:2]])
            case Act.LATE_COMMIT:
                self._enqueue_all([_entry(_LANES[2], Kind.CREATE)], late=True)
            case Act.COMMITTED:
                self._commit_late(rolled_back=False)
            case Act.REPLAYED:
                self._replay(max(self.memory.intents), forced=False)
            case Act.DISCARDED:
                self._discard(max(self.memory.intents))
            case Act.PRUNED:
                self._prune(sorted(self.memory.intents), older_than=15.0)
            case Act.REPAIR:
                self._repair(_LANES[0], adopting=False)
            case Act.RECLAIM | Act.RECLAIM_ELSEWHERE:
                self._reclaim(_LANES[0 if act is Act.RECLAIM else 1], _LOST[0])
            case Act.RELEASED:
                self._release(_LANES[0])
            case _:
                self._hold(*_HALTS_OF[act])

    def _pass(self, seconds: float) -> None:
        self.did.append(f"{seconds:.0f} s pass")
        self._shift += seconds
        by = f"interval '{seconds} seconds'"
        self._sql.execute(_SHIFT.format(by=by).encode())
        for connection, intents in self._open:
            own = ",".join(str(intent.id) for intent in intents)
            connection.execute(_SHIFT_OWN.format(by=by, own=own).encode())

    async def _do(self) -> None:
        if self._dice.random() < self._mix.operates:
            self._operate()
            return
        choice = self._dice.random()
        if choice < 0.2:
            self._enqueue()
        elif choice < 0.25:
            self._commit_late(rolled_back=self._dice.random() < 0.3)
        elif choice < 0.3:
            await self._claim()
        elif choice < 0.4:
            await self._settle(self._dice.choice([1, 2, 3]))
        else:
            steps = await self._claim()
            while steps:
                steps = await self._settle_all([self._settlement(one) for one in steps], self._room())
                steps = steps if self._dice.random() < 0.7 else []

    # Producers.

    def _enqueue(self) -> None:
        entries = [
            _entry(self._dice.choice(_LANES), self._dice.choice(_KINDS), self._dice.choice(_CHANGES))
            for _ in range(self._dice.choice([1, 1, 2, 3]))
        ]
        self._enqueue_all(entries, late=len(self._open) < 2 and self._dice.random() < 0.2)

    def _enqueue_all(self, entries: list[Entry], *, late: bool = False) -> None:
        self.did.append(f"enqueue {[(one.schedule_id, one.kind.value) for one in entries]}{' late' * late}")
        connection = psycopg.connect(self._url, row_factory=dict_row) if late else self._sql
        requests = orjson.dumps([_request(one) for one in entries]).decode()
        rows = connection.execute(
            "SELECT id FROM outbox.enqueue_many(%s) ORDER BY ordinal", (requests,)
        ).fetchall()
        intents = [
            replace(self.memory.enqueue(one), id=row["id"]) for one, row in zip(entries, rows, strict=True)
        ]
        if late:
            self._open.append((connection, intents))
        else:
            self.memory.commit(intents)

    def _commit_late(self, *, rolled_back: bool) -> None:
        if not self._open:
            return
        connection, intents = self._open.pop(0)
        self.did.append("roll back" if rolled_back else "commit late")
        if rolled_back:
            connection.rollback()
        else:
            connection.commit()
            self.memory.commit(intents)
        connection.close()

    # Workers.

    async def _claim(self) -> list[Dispatch]:
        serves = self._dice.choice([list(Consumer), list(Consumer), [Consumer.AUTHZ], [Consumer.TEMPORAL]])
        most = self._dice.choice([1, 2, 100])
        limits = dict.fromkeys(serves, most)
        if any(self._is_a_toss(consumer, most) for consumer in serves):
            return []
        if self._dice.random() < 0.3:
            self._look(self._dice.choice(list(_LOOKS)))
        return await self._claim_all(limits)

    def _look(self, how: str) -> None:
        self.did.append(f"look: {how}")
        ago, statement = _LOOKS[how]
        self._sql.execute(statement.encode())
        self.memory.look_took_long(self._now() - ago)

    async def _claim_all(self, limits: dict[Consumer, int]) -> list[Dispatch]:
        self.did.append(f"claim {[(one.value, most) for one, most in limits.items()]}")
        before = self._call(_LAST_LOOK)
        real = await self._store.claim(limits)
        if self._call(_LAST_LOOK) != before:
            self.memory.look_took_long(self._now())  # as it may on a busy machine
        memory = self.memory.claim(limits, 0.0)
        self._adopt()
        _equal("claimed", _by_id(real), _by_id(memory))
        self._leased += real
        return real

    def _is_a_toss(self, consumer: Consumer, most: int) -> bool:
        """Whether several are due at the same moment and not all may go: which do is up to the database."""
        due = [
            row.due_at
            for row in self.memory.queue.values()
            if row.place == "head"
            and row.consumer is consumer
            and row.due_at <= self._now()
            and not row.halted
        ]
        room = min(most, 1 if consumer in self.memory.breakers else most, int(RATES.get(consumer, most)))
        return len(due) > room and len(set(due)) < len(due)

    async def _settle(self, most: int) -> None:
        """Settle some of what was leased, now or long ago."""
        if self._leased:
            chosen = self._dice.sample(self._leased, min(len(self._leased), most))
            await self._settle_all([self._settlement(one) for one in chosen], self._room())

    def _room(self) -> dict[Consumer, int]:
        return {consumer: self._dice.choice([0, 1, 100]) for consumer in Consumer}

    async def _settle_all(
        self, batch: list[Settlement], room: Mapping[Consumer, int] = MappingProxyType({})
    ) -> list[Dispatch]:
        """Settle, and tell what was handed over."""
        self.did.append(
            f"settle {[(one.event_type.value, one.lease_number, one.action.value) for one in batch]}"
        )
        real = await self._store.settle(batch, room=room)
        memory = self.memory.settle(batch, room, 0.0)
        self._adopt()
        _equal("matched", real.matched, memory.matched)
        _equal("handed over", _by_id(real.handed), _by_id(memory.handed))
        ended = {one.intent_id for one in batch}
        self._leased = [
            one for one in self._leased if one.intent_id not in ended or self._dice.random() < self._stays
        ]
        self._leased += real.handed
        return [*real.handed]

    def _settlement(self, dispatch: Dispatch) -> Settlement:
        if self._dice.random() < self._mix.parks * (1 + 2 * dispatch.unknown):
            return _parked(dispatch)
        if self._dice.random() < self._mix.trouble:
            # Mostly what makes holds: an attempt without an answer, and then a decision.
            likely: list[Outcome] = [DONE, REFUSED, REFUSED] if dispatch.unknown else [DONE, LOST]
            outcome = self._dice.choice(likely if self._dice.random() < 0.7 else _OUTCOMES)
        else:
            outcome = self._done(dispatch)
        return _settled(dispatch, outcome)

    def _done(self, dispatch: Dispatch) -> Done:
        if dispatch.kind is Kind.UPDATE:
            return Done(through=self._dice.choice([None, *dispatch.run]))
        learnt = {"workflow_name": "There"} if dispatch.adopts else None
        lives = Live.CLEAR if dispatch.kind is Kind.DELETE else Live.SET
        revision = self._dice.choice([None, _LOST[2]]) if dispatch.reclaims else None
        live = Live.RECLAIM if dispatch.reclaims else lives
        return Done("token", live=live, definition=learnt, revision=revision)

    # Operators.

    def _operate(self) -> None:
        intents = sorted(self.memory.intents)
        if self._dice.random() < self._mix.halts:
            what = self._dice.choice([*_LANES, "authz", "temporal"])
            if what in self.memory.halts and self._dice.random() < 0.8:
                self._release(what)
            else:
                self._hold(what, self._dice.choice([None, 45.0, 145.0]))
        elif self._dice.random() < self._mix.prunes:
            some = [intent for intent in intents if self._dice.random() < 0.7]
            self._prune(some, older_than=self._dice.choice([15.0, 205.0, 2005.0]))
        elif self._dice.random() < 0.25:
            lane = self._dice.choice(_LANES)
            if self._dice.random() < 0.3:
                self._reclaim(lane, self._dice.choice([*intents, *_LOST, *_LOST]))
                return
            self._repair(lane, adopting=self._dice.random() < 0.3)
        elif intents:
            self._attend(self._dice.choice(intents))

    def _repair(self, lane: str, *, adopting: bool) -> None:
        self.did.append(f"{'adopt' if adopting else 'repair'} {lane}")
        self._call("SELECT outbox.request_repair(%s, %s)", lane, adopting)
        self.memory.request_repair(lane, adopting=adopting)

    def _reclaim(self, lane: str, stamp: UUID) -> None:
        self.did.append(f"reclaim {lane} as {stamp}")
        definition, creator = {"workflow_name": "Lost"}, {"user_id": "alice"}
        self._call(
            "SELECT outbox.request_reclaim(%s, %s, %s, %s)", lane, stamp, Jsonb(definition), Jsonb(creator)
        )
        self.memory.request_reclaim(lane, stamp, definition, creator)

    def _hold(self, what: str, seconds: float | None) -> None:
        self.did.append(f"hold {what} for {seconds} s")
        statement = """
            SELECT action FROM outbox.hold(%s, clock_timestamp() + make_interval(secs => %s), 'alice', 'why')
        """
        told = self._call(statement, what, seconds)[0]["action"]
        until = FOREVER if seconds is None else self._now() + seconds
        _equal("held", told, _action(self.memory.hold(what, until=until)))

    def _release(self, what: str) -> None:
        self.did.append(f"release {what}")
        told = self._call("SELECT action FROM outbox.release(%s)", what)[0]["action"]
        _equal("released", told, _action(self.memory.release(what)))

    def _prune(self, intents: list[UUID], older_than: float) -> None:
        self.did.append(f"prune what is older than {older_than}")
        statement = "SELECT outbox.prune(clock_timestamp() - make_interval(secs => %s), %s) AS gone"
        gone = self._call(statement, older_than, intents)[0]["gone"]
        _equal("pruned", gone, self.memory.prune(self._now() - older_than, intents))
        statement = (
            "SELECT gone FROM outbox.prune_lanes(clock_timestamp() - make_interval(secs => %s), '', 100)"
        )
        gone = self._call(statement, older_than)[0]["gone"]
        _equal("pruned lanes", gone, self.memory.prune_lanes(self._now() - older_than))

    def _attend(self, intent: UUID) -> None:
        parked = [row.intent_id for row in self.memory.queue.values() if row.state == "parked"]
        if parked and self._dice.random() < 0.7:
            intent = self._dice.choice(sorted(parked))
        if self._dice.random() < 0.4:
            self._discard(intent)
        else:
            self._replay(intent, forced=self._dice.random() < 0.3)

    def _discard(self, intent: UUID) -> None:
        self.did.append(f"discard {intent}")
        told = self._call("SELECT action FROM outbox.discard(%s, 'why')", intent)[0]["action"]
        _equal("discarded", told, _action(self.memory.discard(intent, "why")))

    def _replay(self, intent: UUID, *, forced: bool) -> None:
        self.did.append(f"replay {intent}")
        told = self._call("SELECT action FROM outbox.replay(%s, %s, false)", intent, forced)[0]["action"]
        _equal("replayed", told, _action(self.memory.replay(intent, forced=forced)))

    def _call(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        return self._sql.execute(statement.encode(), parameters or None).fetchall()

    # Comparing.

    def _adopt(self) -> None:
        """Give intents that both made by themselves, repairs and replays, the ids of the real ones."""
        real = {row["id"]: row for row in self._call(_INTENTS)}
        fresh = [row for row in real.values() if row["id"] not in self.memory.intents]
        own = [one for one in self.memory.intents.values() if one.id not in real]
        fresh.sort(key=lambda row: (row["schedule_id"], row["position"]))
        own.sort(key=lambda one: (one.schedule_id, one.position))
        for row, mine in zip(fresh, own, strict=False):
            self._rename(mine, row["id"], row["position"])

    def _rename(self, mine: Intent, real: UUID, position: int) -> None:
        memory = self.memory
        before = mine.id
        memory.intents = {(real if key == before else key): value for key, value in memory.intents.items()}
        mine.id, mine.position = real, position
        row = memory.queue.pop(before, None)
        if row is not None:
            row.intent_id, row.position = real, position
            memory.queue[real] = row
        for event in (*memory.events, *memory.attempts):
            if event.intent_id == before:
                event.intent_id = real

    async def _compare(self) -> None:
        now = self._now()
        memory = self.memory
        rows = sorted(memory.queue.values(), key=lambda row: row.position)
        with self._sql.pipeline():
            cursors = [self._sql.execute(one.encode()) for one in _TABLES]
        queue, lane_rows, breaker_rows, halt_rows, intent_rows, event_rows, attempt_rows = (
            cursor.fetchall() for cursor in cursors
        )
        _equal("queue", queue, [_row(row, now) for row in rows])
        lanes = [
            {
                "schedule_id": name,
                "live_intent": lane.live_intent,
                "hold_until": _offset(lane.hold_until, now),
                "definition": lane.definition,
                "revision": lane.revision,
            }
            for name, lane in sorted(memory.lanes.items())
        ]
        _equal("lanes", lane_rows, lanes)
        breakers = [
            {
                "consumer": consumer.value,
                "failures": one.failures,
                "error_code": one.error_code,
                "probe_at": _offset(one.probe_at, now),
            }
            for consumer, one in sorted(memory.breakers.items())
        ]
        _equal("breakers", breaker_rows, breakers)
        halts = [{"what": what, "until": _offset(until, now)} for what, until in sorted(memory.halts.items())]
        _equal("halts", halt_rows, halts)
        intents = [
            {
                "id": one.id,
                "position": one.position,
                "schedule_id": one.schedule_id,
                "kind": one.kind.value,
                "replays": one.replays,
                "replay_number": one.replay_number,
            }
            for one in sorted(memory.intents.values(), key=lambda one: (one.position, one.id))
        ]
        _equal("intents", intent_rows, intents)
        _equal("events", event_rows, _log(memory.events, "type", "superseded_by"))
        _equal("attempts", attempt_rows, _log(memory.attempts, "event_type"))
        _equal("failures", self._call(_FAILURES), self._undealt_with())
        await self._ask()

    def _undealt_with(self) -> list[dict[str, Any]]:
        """What is parked; and what has failed, unless a person discarded it, or it was replayed since."""
        memory = self.memory
        discarded = {one.intent_id for one in memory.events if one.error_code == ErrorCode.DISCARDED}
        replayed = {
            (one.replays, number)
            for one in memory.intents.values()
            for number in range(one.replay_number or 0)
        }
        found = [
            {"intent_id": one.id, "status": status.value}
            for one in memory.intents.values()
            if (status := memory.status(one.id)) is Status.PARKED
            or (
                status is Status.FAILED
                and one.id not in discarded
                and (one.replays or one.id, one.replay_number or 0) not in replayed
            )
        ]
        return sorted(found, key=lambda one: one["intent_id"])

    async def _ask(self) -> None:
        for repairs in (True, False):
            _equal(
                "pending", await self._store.pending(repairs=repairs), self.memory.pending(repairs=repairs)
            )
        stamps = [str(one) for one in self.memory.intents]
        for stamp in (*self._dice.sample(stamps, min(2, len(stamps))), "not an id"):
            lane = self._dice.choice(_LANES)
            _equal("standing", await self._store.standing(lane, stamp), self.memory.standing(lane, stamp))


RATES = {Consumer.TEMPORAL: 3.0}


async def compare(database: str, *, seeds: Sequence[int], operations: int) -> None:
    """Run sequences of operations on a migrated database of their own, each after a scene.

    Args:
        database: its URL.
        seeds: of the sequences; they take turns with the scenes.
        operations: how many each has; none: only the scenes are played.

    Raises:
        Differ: the SQL and the ledger in memory do not do the same.
    """
    engine = async_engine(database)
    store = WorkStore(engine, TIMING, RATES)
    try:
        with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
            connection.execute(
                f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off".encode()
            )
            for seed in seeds:
                scene = SCENES[seed % len(SCENES)]
                await Pair(database, connection, store, scene, seed).run(operations)
    finally:
        await engine.dispose()


def _parked(dispatch: Dispatch) -> Settlement:
    return park(dispatch, Cause(ErrorCode.LEASE_EXPIRED, "worn out"))


def _settled(dispatch: Dispatch, outcome: Outcome) -> Settlement:
    if dispatch.kind is Kind.UPDATE and isinstance(outcome, Done):
        outcome = replace(outcome, live=None)  # what only a repair finds out
    settled = decide(dispatch, outcome, _POLICY, random.Random(1))
    return replace(settled, delay_seconds=15.0 if settled.delay_seconds else 0.0)


def _entry(lane: str, kind: Kind, changes: Mapping[str, Any] = MappingProxyType({"paused": True})) -> Entry:
    agent, _, name = lane.partition("--")
    request: dict[str, Any] = {"agent_id": agent, "name": name}
    if kind is Kind.UPDATE:
        request |= changes
    if kind is Kind.CREATE:
        request |= {"workflow_name": "W", "task_queue": "q", "interval_seconds": 60}
        request |= {"end_at": _ENDS[lane]} if lane in _ENDS else {}
    return Entry(lane, kind, request)


def _request(entry: Entry) -> dict[str, Any]:
    return {"kind": entry.kind.value, **entry.request}


def _by_id(dispatches: Sequence[Dispatch]) -> dict[UUID, dict[str, Any]]:
    return {
        one.intent_id: {
            "schedule_id": one.schedule_id,
            "kind": one.kind,
            "event_type": one.event_type,
            "lease_number": one.lease_number,
            "attempt": one.attempt,
            "strikes": one.strikes,
            "unknown": one.unknown,
            "cause": one.cause,
            "look": one.look,
            "patience": one.patience,
            "live_intent": one.live_intent,
            "live_adopted": one.live_adopted,
            "ran_out": one.ran_out,
            "adopts": one.adopts,
            "reclaims": one.reclaims,
            "request": dict(one.request),
            "creator": one.creator,
            "run": one.run,
            "changes": one.changes,
            "revision": one.revision,
        }
        for one in dispatches
    }


def _row(row: Row, now: float) -> dict[str, Any]:
    return {
        "intent_id": row.intent_id,
        "position": row.position,
        "schedule_id": row.schedule_id,
        "place": row.place,
        "state": row.state,
        "event_type": row.event_type.value,
        "consumer": row.consumer.value,
        "lease_number": row.lease_number,
        "attempts": row.attempts,
        "strikes": row.strikes,
        "looking": row.looking,
        "halted": row.halted,
        "alone": row.alone,
        "cause_code": row.cause_code,
        "cause_message": row.cause_message,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "patience": row.patience,
        "due_at": _offset(row.due_at, now),
        "deadline": _offset(row.deadline, now),
        "unknown_until": _offset(row.unknown_until, now),
        "failing_since": _offset(row.failing_since, now),
    }


def _log(events: Sequence[Any], name: str, *more: str) -> list[dict[str, Any]]:
    return [
        {
            "intent_id": one.intent_id,
            name: one.type.value,
            "lease_number": one.lease_number,
            "error_code": one.error_code,
        }
        | {column: getattr(one, column) for column in more}
        for one in sorted(events, key=lambda one: one.intent_id)
    ]


def _offset(at: float | None, now: float) -> float | None:
    return None if at is None else at - now


def _action(told: str) -> str:
    """What was done, of an answer that also says why nothing was."""
    return told.partition(":")[0]


def _equal(what: str, real: Any, memory: Any) -> None:
    if isinstance(real, list) and isinstance(memory, list) and len(real) == len(memory):
        for one, other in zip(real, memory, strict=True):
            _equal(what, one, other)
    elif not _alike(real, memory):
        raise AssertionError(f"{what} differ:\n  the database  {real}\n  in memory     {memory}")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) < _SLACK
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
