"""The ledger in memory: ``outbox.settle``, as in migrations/sql/0002_settling.sql."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from outbox.flow.settlement import Action, Redefinition, Settlement, StoreHealth
from outbox.flow.table import Consumer, EventType, Kind, Live
from outbox.store.work import Settled
from tests.simulation.ledger.claiming import Claiming
from tests.simulation.ledger.tables import (
    FOREVER,
    Breaker,
    Event,
    Intent,
    Lane,
    Row,
    latest,
    latest_or_none,
    revised,
)

_LONGEST_PROBE_REST = 15.0
_NOTHING_NEW = Redefinition()


class Settling(Claiming):
    """What settles outcomes."""

    def settle(
        self, settlements: Sequence[Settlement], room: Mapping[Consumer, int], deadline: float
    ) -> Settled:
        """Settle a batch; what names a lease that is over matches nothing. Hand over what follows.

        ``deadline`` is the worker's own, taken before it called.
        """
        moment = self._clock()
        matched: dict[UUID, Settlement] = {}
        for one in settlements:
            if self._is_current(one):
                matched.setdefault(one.intent_id, one)
        if not matched:
            return Settled(set())
        self._settle_breakers(settlements, moment)
        following: list[Row] = []
        promoted: list[Row] = []
        for one in sorted(matched.values(), key=lambda one: self.queue[one.intent_id].position):
            row = self.queue[one.intent_id]
            if one.unknown:
                row.unknown_until = latest(row.unknown_until, (row.deadline or 0.0) + self._timing.late_write)
            if one.action is not Action.ADVANCE:
                self._postpone(row, one, moment)
                continue
            self._log(row, one, moment)
            if one.terminal:
                promoted += self._end(row, one, moment)
            else:
                self._advance(row, one, moment)
                following.append(row)
        promoted.sort(key=lambda row: row.position)
        handed = self._hand_over([*following, *promoted], room, moment)
        return Settled(
            {(one.intent_id, one.lease_number) for one in matched.values()},
            [self._dispatch(row, deadline) for row in handed],
        )

    def _hand_over(self, rows: Sequence[Row], room: Mapping[Consumer, int], moment: float) -> list[Row]:
        """Lease to the caller what is due, as far as there is room, and neither halt nor breaker."""
        rooms = {
            consumer: many
            for consumer, many in room.items()
            if consumer not in self._rates and consumer not in self.breakers and not self.is_halted(consumer)
        }
        handed = []
        for row in rows:
            if row.state == "ready" and not row.halted and rooms.get(row.consumer, 0) > 0:
                rooms[row.consumer] -= 1
                self._lease(row, moment)
                handed.append(row)
        return handed

    def _is_current(self, one: Settlement) -> bool:
        row = self.queue.get(one.intent_id)
        return (
            row is not None
            and row.state == "leased"
            and row.lease_number == one.lease_number
            and row.event_type == one.event_type
        )

    def _log(self, row: Row, one: Settlement, moment: float) -> None:
        assert one.next_event is not None
        new = one.redefines or _NOTHING_NEW
        self.events.append(
            Event(
                row.intent_id,
                row.schedule_id,
                one.next_event,
                moment,
                row.lease_number,
                one.error_code,
                one.error_message,
                superseded_by=None if new.through == row.intent_id else new.through,
            )
        )

    def _advance(self, row: Row, one: Settlement, moment: float) -> None:
        assert one.next_event is not None
        row.event_type = one.next_event
        holds = one.waits and row.unknown_until is not None and row.unknown_until > moment
        row.state = "holding" if holds else "ready"
        row.due_at = latest(moment, row.unknown_until) if one.waits else moment
        row.attempts = row.strikes = 0
        row.patience = 0.0
        row.looking = False
        row.cause_code, row.cause_message = one.error_code, one.error_message
        row.error_code = row.error_message = row.failing_since = None

    def _postpone(self, row: Row, one: Settlement, moment: float) -> None:
        self.attempts.append(Event.of_attempt(row, moment, one.error_code, one.error_message))
        row.strikes += one.strike
        row.patience += one.delay_seconds if one.patient else 0.0
        row.error_code, row.error_message = one.error_code, one.error_message
        row.failing_since = moment if row.failing_since is None else row.failing_since
        match one.action:
            case Action.RETRY:
                if one.redefines is not None:
                    self._split(row, one.redefines)
                row.state = "waiting"
                row.due_at = latest(moment + one.delay_seconds, row.unknown_until if one.waits else None)
            case Action.HOLD:
                row.state = "holding"
                row.due_at = latest(moment, row.unknown_until)
                row.looking = True
                row.cause_code, row.cause_message = one.error_code, one.error_message
            case _:
                row.state = "parked"
                row.due_at = FOREVER

    def _end(self, row: Row, one: Settlement, moment: float) -> list[Row]:
        """The intent ends: its stamp, its late writes' checks, and the lane's next turn."""
        del self.queue[row.intent_id]
        lane_id, unknown_until = row.schedule_id, row.unknown_until
        if unknown_until is not None:
            first = max(unknown_until, moment)
            if row.event_type is not EventType.REPAIR_REQUESTED:
                self._append_repair(lane_id, first)
            self._append_repair(lane_id, first + self._timing.verify_again)
        hold_until = unknown_until if unknown_until is not None and unknown_until > moment else None
        lane = self.lanes.get(lane_id)
        self._remember(row, one, hold_until, moment)
        behind = [one for one in self.queue.values() if one.place == "behind" and one.schedule_id == lane_id]
        if not behind:
            return []
        follower = min(behind, key=lambda one: one.position)
        self._promote(follower, hold_until, lane, moment)
        return [follower]

    def _remember(self, row: Row, one: Settlement, hold_until: float | None, moment: float) -> None:
        """What the lane's schedule is from now on: its stamp, its definition, and who changed that last."""
        lane = self.lanes.get(row.schedule_id)
        live = lane.live_intent if lane else None
        definition, revision = (lane.definition, lane.revision) if lane else (None, None)
        new = one.redefines or _NOTHING_NEW
        match one.live:
            case Live.SET:
                live, definition, revision = row.intent_id, new.definition, new.revision
            case Live.CLEAR:
                live, definition, revision = None, None, None
            case Live.RECLAIM:
                live = self._enter_reclaimed(self.intents[row.intent_id], moment) or live
                definition, revision = new.definition, new.revision
            case Live.REVISE:
                definition, revision = self._revise(row, one.lease_number, new, moment), new.through
            case Live.KEEP:
                definition = new.definition if definition is None else definition
        if one.live is not Live.KEEP or hold_until is not None or (lane and new.definition is not None):
            before = lane.hold_until if lane else None
            latest_hold = latest_or_none(before, hold_until)
            changed_at = (
                moment
                if one.live is not Live.KEEP or hold_until is not None or lane is None
                else lane.updated_at
            )
            self.lanes[row.schedule_id] = Lane(live, latest_hold, changed_at, definition, revision)

    def _split(self, row: Row, one: Redefinition) -> None:
        for other in [row, *(self.queue[covered] for covered in one.run)]:
            other.alone = True
        row.looking = False
        row.cause_code = row.cause_message = None

    def _revise(self, row: Row, lease: int, one: Redefinition, moment: float) -> Mapping[str, Any]:
        """End the updates that were applied with this one; what the definition is by all of them."""
        definition = one.definition or self.definition(row.schedule_id) or {}
        definition = revised(definition, self.intents[row.intent_id].request)
        for other in [self.queue[covered] for covered in one.run]:
            definition = revised(definition, self.intents[other.intent_id].request)
            del self.queue[other.intent_id]
            self.events.append(
                Event(
                    other.intent_id,
                    other.schedule_id,
                    EventType.UPDATED,
                    moment,
                    lease,
                    superseded_by=None if one.through == other.intent_id else one.through,
                )
            )
        return definition

    def _enter_reclaimed(self, repair: Intent, moment: float) -> UUID | None:
        """Enter the intent again whose schedule was reclaimed, unless the ledger knows it by now."""
        stamp = UUID(repair.request["reclaim"])
        if stamp in self.intents:
            return None
        request = {key: value for key, value in repair.request.items() if key != "reclaim"}
        self.intents[stamp] = replace(repair, id=stamp, kind=Kind.CREATE, request=request, created_at=moment)
        self.events += [
            Event(stamp, repair.schedule_id, type_, moment)
            for type_ in (EventType.CREATE_REQUESTED, EventType.REGISTERED, EventType.CREATED)
        ]
        return stamp

    def _promote(self, row: Row, hold_until: float | None, lane: Lane | None, moment: float) -> None:
        hold_until = latest_or_none(hold_until, lane.hold_until if lane else None)
        row.place = "head"
        row.halted = row.schedule_id in self.halts
        row.state = "holding" if hold_until is not None and hold_until > moment else "ready"
        row.due_at = latest(moment, hold_until)

    def _settle_breakers(self, settlements: Sequence[Settlement], moment: float) -> None:
        down = {one.consumer: one for one in reversed(settlements) if one.store is StoreHealth.DOWN}
        for consumer, one in down.items():
            breaker = self.breakers.setdefault(consumer, Breaker(moment + 1.0, one.error_code))
            breaker.error_code = one.error_code
            if breaker.probing:
                breaker.probe_at = moment + min(_LONGEST_PROBE_REST, 2.0 ** min(breaker.failures, 10))
                breaker.failures += 1
                breaker.probing = False
        for one in settlements:
            if one.store is StoreHealth.UP and one.consumer not in down:
                self.breakers.pop(one.consumer, None)
