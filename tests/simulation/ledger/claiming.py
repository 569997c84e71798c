"""The ledger in memory: ``outbox.claim``, as in migrations/sql/0002_claiming.sql."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch
from outbox.flow.table import Consumer, Kind
from tests.simulation.ledger.tables import FOREVER, Event, Intent, Row, Tables, latest, revised


class Claiming(Tables):
    """What leases steps to workers."""

    def claim(self, limits: Mapping[Consumer, int], deadline: float) -> list[Dispatch]:
        """Lease due heads; ``deadline`` is the worker's own, taken before it called."""
        moment = self._clock()
        self._end_halts(moment)
        rooms = self._rooms(limits, moment)
        if Consumer.BOTH in limits:
            for row in self.queue.values():
                if row.place == "deferred" and row.due_at <= moment:
                    row.place = "incoming"
        claimed = self._due_heads(rooms, moment)
        if sum(rooms.values()) > 0:
            claimed += self._incoming(rooms, moment)
        for consumer in {row.consumer: None for row in claimed}:
            if consumer in self.breakers:
                self.breakers[consumer].probe_at = moment + self._timing.step_timeout
                self.breakers[consumer].probing = True
        for row in claimed:
            if row.consumer in self._rates:
                tokens, at = self.budgets[row.consumer]
                self.budgets[row.consumer] = (tokens - 1, at)
        return [self._dispatch(row, deadline) for row in claimed]

    def _end_halts(self, moment: float) -> None:
        for over in [what for what, until in self.halts.items() if until <= moment]:
            del self.halts[over]
            self._mark_head(over, halted=False, moment=moment)

    def _mark_head(self, schedule_id: str, *, halted: bool, moment: float) -> None:
        for row in self.queue.values():
            if row.schedule_id == schedule_id and row.place == "head" and row.halted != halted:
                row.halted = halted
                row.due_at = row.due_at if halted else max(row.due_at, moment)

    def _rooms(self, limits: Mapping[Consumer, int], moment: float) -> dict[Consumer, int]:
        """How many steps may go out: by credit, halt, breaker and rate."""
        rooms = {}
        for consumer, credit in limits.items():
            room = 0 if self.is_halted(consumer) else credit
            breaker = self.breakers.get(consumer)
            probes = 0 if breaker and breaker.probe_at > moment else 1
            rooms[consumer] = min(room, probes) if breaker else room
        for consumer, rate in self._rates.items():
            tokens, at = self.budgets.get(consumer, (rate, moment))
            tokens = min(rate, tokens + rate * (moment - at))
            self.budgets[consumer] = (tokens, moment)
            if consumer in rooms:
                rooms[consumer] = min(rooms[consumer], int(tokens))
        return rooms

    def _due_heads(self, rooms: dict[Consumer, int], moment: float) -> list[Row]:
        heads = [
            row
            for row in self.queue.values()
            if row.place == "head" and not row.halted and row.due_at <= moment
        ]
        claimed = []
        for row in sorted(heads, key=lambda row: row.due_at):
            if rooms.get(row.consumer, 0) > 0:
                rooms[row.consumer] -= 1
                claimed.append(row)
        for row in claimed:
            if row.state == "leased":
                self._expire(row, moment)
            self._lease(row, moment)
        return claimed

    def _expire(self, row: Row, moment: float) -> None:
        """The worker that held the step died or stalled; its call may have been applied."""
        self.attempts.append(
            Event.of_attempt(row, moment, ErrorCode.LEASE_EXPIRED, "the worker died or stalled")
        )
        row.strikes += 1
        row.unknown_until = latest(row.unknown_until, (row.deadline or 0.0) + self._timing.late_write)

    def _lease(self, row: Row, moment: float) -> None:
        row.state = "leased"
        row.lease_number += 1
        row.attempts += 1
        row.deadline = moment + self._timing.step_timeout
        row.due_at = moment + self._timing.lease

    def _incoming(self, rooms: dict[Consumer, int], moment: float) -> list[Row]:
        """Place what has come in: heads of free lanes, which may be leased at once, or behind their heads."""
        busy = {row.schedule_id for row in self.queue.values() if row.place == "head"}
        incoming = [row for row in self.queue.values() if row.place == "incoming"]
        claimed = []
        last_due = min(moment, self.placed_due)
        for row in sorted(incoming, key=lambda row: row.position):
            if row.schedule_id in busy:
                row.place = "behind"
                continue
            busy.add(row.schedule_id)
            row.place = "head"
            row.halted = row.schedule_id in self.halts
            hold_until = self._hold_until(row.schedule_id)
            goes = not row.halted and (hold_until is None or hold_until <= moment)
            if goes and rooms.get(row.consumer, 0) > 0:
                rooms[row.consumer] -= 1
                self._lease(row, moment)
                claimed.append(row)
                continue
            row.state = "holding" if hold_until is not None and hold_until > moment else "ready"
            if row.due_at < last_due + 1e-6:
                # Not before what was lifted before it.
                row.due_at = self.placed_due = last_due = last_due + 1e-6
            row.due_at = latest(row.due_at, hold_until)
        return claimed

    def look_took_long(self, moment: float) -> None:
        """What is placed without room from now on is due a second before that look, or later."""
        is_past = self.placed_due <= self._clock()
        self.placed_due = max(moment - 1.0, self.placed_due if is_past else -FOREVER)

    def _hold_until(self, schedule_id: str) -> float | None:
        lane = self.lanes.get(schedule_id)
        return lane.hold_until if lane else None

    def _dispatch(self, row: Row, deadline: float) -> Dispatch:
        intent = self.intents[row.intent_id]
        entry = self._entry_of(intent)
        updates = self.run_of(row) if intent.kind is Kind.UPDATE else []
        cause = None
        if row.cause_code is not None:
            cause = Cause(ErrorCode(row.cause_code), row.cause_message or "")
        return Dispatch(
            intent_id=row.intent_id,
            schedule_id=row.schedule_id,
            kind=intent.kind,
            event_type=row.event_type,
            lease_number=row.lease_number,
            attempt=row.attempts,
            deadline=deadline,
            strikes=row.strikes,
            unknown=row.unknown_until is not None,
            cause=cause,
            look=row.looking,
            patience=row.patience,
            request=self._request_of(row, entry, updates),
            creator=Creator(**(intent if updates else entry).creator),
            live_intent=self.live_intent(row.schedule_id),
            live_adopted=self._is_repair(self.live_intent(row.schedule_id)),
            ran_out=intent.kind is Kind.REPAIR
            and self._has_passed(self._request_of(row, entry, []).get("end_at")),
            run=tuple(one.id for one in updates),
            changes=frozenset(name for one in updates for name in one.request) - {"agent_id", "name"},
            revision=self._revision(row.schedule_id) if intent.kind in {Kind.UPDATE, Kind.REPAIR} else None,
        )

    def _request_of(self, row: Row, entry: Intent, updates: list[Intent]) -> Mapping[str, Any]:
        """What is to stand: of an update the definition by then, of its look or a repair what is live."""
        live = entry.id == self.live_intent(row.schedule_id)
        definition = (self.definition(row.schedule_id) if live else None) or entry.request
        if row.looking:
            return definition
        for one in updates:
            definition = revised(definition, one.request)
        return definition

    def _revision(self, schedule_id: str) -> UUID | None:
        lane = self.lanes.get(schedule_id)
        return lane.revision if lane else None

    def _has_passed(self, instant: str | None) -> bool:
        return instant is not None and datetime.fromisoformat(instant).timestamp() <= self._clock()

    def _is_repair(self, intent_id: UUID | None) -> bool:
        intent = self.intents.get(intent_id) if intent_id else None
        return intent is not None and intent.kind is Kind.REPAIR

    def _entry_of(self, intent: Intent) -> Intent:
        """Whose request it is about: of updates and repairs the live one's, or else the lane's last."""
        if intent.kind is Kind.UPDATE:
            live = self.live_intent(intent.schedule_id)
            return intent if live is None else self.intents[live]
        if intent.kind is not Kind.REPAIR or intent.request:
            return intent
        live = self.live_intent(intent.schedule_id)
        if live is not None:
            return self.intents[live]
        others = [one for one in self.lane(intent.schedule_id) if one.kind in {Kind.CREATE, Kind.DELETE}]
        return others[-1] if others else intent
