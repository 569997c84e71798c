"""The ledger in memory: what migrations/sql does, function by function.

A comparison of random operations holds the two together, row by row. Every public function is one transaction
at one moment. Operators' functions are here, as in
migrations/sql/0001_operating.sql and 0001_retention.sql.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from outbox.errors import ErrorCode
from outbox.flow.table import TERMINALS, Consumer, EventType, Kind, Status
from tests.simulation.ledger.settling import Settling
from tests.simulation.ledger.tables import FOREVER, Event, Intent, Row, latest


class MemoryPostgres(Settling):
    """The whole ledger, with what operators call."""

    def replay(self, intent_id: UUID, *, forced: bool = False) -> str:
        """Re-arm a parked step, or enqueue a failed intent anew; answers what was done, or why nothing."""
        entry = self.intents.get(intent_id)
        if entry is None:
            return "refused: no such intent"
        status = self.status(intent_id)
        if status is Status.PARKED:
            row = self.queue[intent_id]
            self._rearm(row)
            return "rearmed"
        if status is not Status.FAILED:
            return "refused: neither failed nor parked"
        root = entry.replays or entry.id
        chain = [one for one in self.intents.values() if one.replays == root]
        latest = max(chain, key=lambda one: one.replay_number or 0, default=None)
        if (latest.id if latest else root) != intent_id:
            return "refused: replayed already"
        later = [
            one
            for one in self.lane(entry.schedule_id)
            if one.position > entry.position and (one.kind is not Kind.REPAIR or one.request)
        ]
        if later and not forced:
            return "refused: overtaken"
        again = replace(
            entry,
            id=self.new_id(),
            position=self._next_position(),
            created_at=self._clock(),
            replays=root,
            replay_number=(latest.replay_number or 0 if latest else 0) + 1,
        )
        self._request(again)
        self.on_work()
        return "reenqueued"

    def _rearm(self, row: Row) -> None:
        moment = self._clock()
        holds = row.unknown_until is not None and row.unknown_until > moment
        row.state = "holding" if holds else "ready"
        row.due_at = latest(moment, row.unknown_until)
        row.strikes = row.attempts = 0
        row.patience = 0.0
        self.on_work()

    def discard(self, intent_id: UUID, why: str) -> str:
        """End a parked intent, undoing what is ours; answers what happens, or why nothing does."""
        row = self.queue.get(intent_id)
        if row is None or row.state != "parked":
            return "refused: not parked"
        if row.event_type in {EventType.UNSCHEDULED, EventType.COMPENSATION_REQUESTED}:
            return "refused: undoing already"
        row.looking = row.event_type is not EventType.CREATE_REQUESTED
        if row.event_type is EventType.CREATE_REQUESTED:
            row.event_type = EventType.COMPENSATION_REQUESTED
            self.events.append(
                Event(
                    intent_id,
                    row.schedule_id,
                    row.event_type,
                    self._clock(),
                    error_code=ErrorCode.DISCARDED,
                    error_message=why,
                )
            )
        row.cause_code, row.cause_message = ErrorCode.DISCARDED, why
        self._rearm(row)
        return "discarding"

    def hold(self, what: str, *, until: float = FOREVER) -> str:
        """Halt a store or a schedule."""
        if what not in set(Consumer) and not self.lane(what):
            return "refused: no such schedule"
        moment = self._clock()
        self._end_halts(moment)
        if what in self.halts:
            return "refused: halted already"
        self.halts[what] = until
        self._mark_head(what, halted=True, moment=moment)
        return "held"

    def release(self, what: str) -> str:
        """Let a store or a schedule go on."""
        if self.halts.pop(what, None) is None:
            return "refused: not halted"
        self._mark_head(what, halted=False, moment=self._clock())
        self.on_work()
        return "released"

    def request_repair(self, schedule_id: str, *, adopting: bool = False) -> UUID:
        """Ask for a lane to be brought to what its live stamp says, or for a legacy to become it."""
        return self._ask_for_repair(schedule_id, {"adopt": True} if adopting else {}, {})

    def request_reclaim(
        self, schedule_id: str, stamp: UUID, definition: Mapping[str, Any], creator: Mapping[str, Any]
    ) -> UUID:
        """Ask for what carries this stamp in both stores to become the lane's live one again."""
        return self._ask_for_repair(schedule_id, {**definition, "reclaim": str(stamp)}, creator)

    def _ask_for_repair(self, schedule_id: str, entry: Mapping[str, Any], creator: Mapping[str, Any]) -> UUID:
        moment = self._clock()
        for row in self.queue.values():
            waits = row.place in {"incoming", "behind"} or (row.place == "deferred" and row.due_at <= moment)
            intent = self.intents[row.intent_id]
            is_same = intent.kind is Kind.REPAIR and intent.request == entry
            if row.schedule_id == schedule_id and is_same and waits:
                return row.intent_id
        repair = self._append_repair(schedule_id, moment, entry, creator)
        self.on_work()
        return repair.id

    def prune(self, older_than: float, intents: Collection[UUID]) -> int:
        """Delete those of the intents that ended before and that nothing needs; returns how many."""
        moment = self._clock()
        waiting = {row.schedule_id for row in self.queue.values()}
        ended = {one.intent_id: one.at for one in self.events if one.type in TERMINALS}
        gone = {
            intent.id
            for intent in self.intents.values()
            if intent.id in intents
            and ended.get(intent.id, FOREVER) < older_than
            and intent.schedule_id not in waiting
            and not self._is_kept(intent, moment)
        }
        for intent_id in gone:
            del self.intents[intent_id]
        self.events = [one for one in self.events if one.intent_id not in gone]
        self.attempts = [one for one in self.attempts if one.intent_id not in gone]
        return len(gone)

    def _is_kept(self, intent: Intent, moment: float) -> bool:
        lane = self.lanes.get(intent.schedule_id)
        return lane is not None and (
            lane.live_intent == intent.id or (lane.hold_until is not None and lane.hold_until > moment)
        )

    def prune_lanes(self, older_than: float) -> int:
        """Delete the lanes that say nothing any more; returns how many."""
        moment = self._clock()
        waiting = {row.schedule_id for row in self.queue.values()}
        gone = [
            schedule_id
            for schedule_id, lane in self.lanes.items()
            if lane.live_intent is None
            and lane.updated_at < older_than
            and (lane.hold_until is None or lane.hold_until < moment)
            and schedule_id not in waiting
        ]
        for schedule_id in gone:
            del self.lanes[schedule_id]
        return len(gone)
