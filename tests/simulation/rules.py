"""What must hold: at every change of a store, and once all has come to rest."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any
from uuid import UUID

from temporalio.api.schedule.v1 import Schedule
from temporalio.converter import DataConverter

from consumers.authz.client import Tuple
from consumers.authz.names import ENDED, INTENT, OWNER, PARENT_AGENT, REGISTERED_BY, SCHEDULE
from consumers.temporal.definition import schedule_of
from consumers.temporal.described import request_of
from consumers.temporal.request import revision_in, stamp_in
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.settlement import Settlement
from outbox.flow.table import TERMINALS, Consumer, EventType, Kind, Status
from outbox.verify.checker import check
from outbox.verify.records import Event, Intent, Ledger, Pending, Scheduled, Stores
from tests.simulation.ledger.tables import Event as Logged
from tests.simulation.ledger.tables import Row, revised
from tests.simulation.temporal import NAMESPACE, Standing
from tests.simulation.world import THEIRS, Ground, World

_DECISIONS = {
    ErrorCode.CONFLICT_FOREIGN,
    ErrorCode.CONFLICT_LIVE,
    ErrorCode.NOT_LIVE,
    ErrorCode.REFUSED,
    ErrorCode.REGISTRATION_REFUSED,
    ErrorCode.REGISTRATION_EXPIRED,
    ErrorCode.DISCARDED,
}
"""What an intent may fail for: the stores' word, or a person's."""


_EVER = float("inf")


def watch(world: World) -> None:
    """Judge every change of the two stores while it happens."""
    world.before = take_stores(world)
    world.spicedb.on_change = lambda added, removed: _relationships_changed(world, added, removed)
    world.temporal.on_update = lambda name: _schedule_updated(world, name)
    world.temporal.on_change = lambda name, before, after: _schedule_changed(world, name, before, after)


def keep_as_it_is(world: World, name: str) -> None:
    """What stands under the name is somebody else's from now on; or nothing, if there is nothing."""
    before, now = world.before or Stores(), take_stores(world)
    theirs = {other: one for other, one in before.schedules.items() if other != name}
    if name in now.schedules:
        theirs[name] = now.schedules[name]
    world.before = replace(before, schedules=theirs)


class LeaseRules:
    """Rule 4, of one worker: what it may settle, and until when it may call."""

    def __init__(self, world: World, worker: str) -> None:
        self._world = world
        self._worker = worker

    def claimed(self, leased: Sequence[Dispatch]) -> None:
        """Lease numbers only grow, and nothing that a person halted is begun."""
        now = self._world.loop.time()
        halted = {what for what, until in self._world.halted.items() if until > now}
        if {Consumer.AUTHZ, Consumer.TEMPORAL} & halted:
            halted.add(Consumer.BOTH)
        for one in leased:
            if halted & {one.schedule_id, one.consumer}:
                self._world.violate(f"{one.event_type.value} of {one.schedule_id} was begun though halted")
            if one.lease_number <= self._world.leases.get(one.intent_id, 0):
                self._world.violate(f"{one.intent_id} was leased as number {one.lease_number} again")
            self._world.leases[one.intent_id] = one.lease_number
            self._world.taken[self._worker, one.intent_id] = one.lease_number, one.deadline

    def settles(self, batch: Sequence[Settlement]) -> None:
        """A look that doesn't take an update for done leaves in Temporal what the ledger has."""
        if self._world.beyond_bound or self._world.tampered:
            return
        for one in batch:
            row = self._world.postgres.queue.get(one.intent_id)
            if row is None or not row.looking or row.lease_number != one.lease_number:
                continue
            is_split = one.redefines is not None and one.redefines.split
            if is_split or one.next_event is EventType.UPDATE_FAILED:
                self._world.keep_log()
                _judge_definition(self._world, row.schedule_id)

    def settled(self, matched: AbstractSet[tuple[UUID, int]]) -> None:
        """What matches is the latest lease, and this worker's."""
        for intent, number in sorted(matched):
            mine, _ = self._world.taken.get((self._worker, intent), (0, 0.0))
            if not mine == number == self._world.leases[intent]:
                self._world.violate(f"{self._worker} settled {intent} without its lease")

    def sends(self) -> None:
        """No call starts after the deadline of its step."""
        task = asyncio.current_task()
        intent = UUID(task.get_name().removeprefix("outbox-")) if task else None
        _, deadline = self._world.taken.get((self._worker, intent), (0, 0.0))  # type: ignore[arg-type]
        if self._world.loop.time() > deadline:
            self._world.violate(f"{self._worker} made a call for {intent} after its deadline")


# At every change.


def _relationships_changed(world: World, added: set[Tuple], removed: set[Tuple]) -> None:
    if world.trace is not None:
        for sign, tuples in (("+", added), ("-", removed)):
            for one in sorted(tuples):
                world.record(f"    {sign} {one.resource_id[-8:]}#{one.relation}@{one.subject_id[-8:]}")
    for name in sorted({one.resource_id for one in added | removed if one.resource_type == SCHEDULE}):
        fresh = {one for one in added if one.resource_id == name}
        gone = {one for one in removed if one.resource_id == name}
        world.grants -= gone
        if world.meddling:
            world.touched[name] = world.loop.time()
            continue
        if gone:
            _taken_away(world, name, gone)
        if fresh - world.grants:
            _registered(world, name, fresh)


def _taken_away(world: World, name: str, gone: set[Tuple]) -> None:
    ground = world.grounds[name]
    if gone & ground.tuples:
        if not _was_reclaimed(world, ground) and not (
            ground.legacy and _is_at(world, name, EventType.UNSCHEDULED)
        ):
            world.violate(f"{name}: relationships of a stranger were removed")
        ground.tuples -= gone
    left = world.spicedb.of(SCHEDULE, name)
    if left and not _is_adoption(world, gone):
        world.violate(f"{name}: not all relationships went at once, {sorted(left)} stayed")
    standing = world.temporal.schedules.get(name)
    for stamp in sorted(one.subject_id for one in gone if one.relation == REGISTERED_BY):
        if standing and _stamp(standing) == stamp and not (world.beyond_bound or world.tampered):
            world.violate(f"{name}: {stamp} was deregistered while its schedule stands")
        if _was_given_up(world, name, stamp, gone):
            world.violate(f"{name}: {stamp} was given up though its registration stood")
        if Tuple(INTENT, stamp, ENDED, INTENT, stamp) not in world.spicedb.tuples:
            head = _head(world, name)
            if head is None or str(head.intent_id) != stamp:
                world.violate(f"{name}: {stamp} was deregistered without being marked as ended")


def _was_given_up(world: World, name: str, stamp: str, gone: set[Tuple]) -> bool:
    """Whether a store's refusal ended a create whose registration stood: a look would have found it."""
    head = _head(world, name)
    if world.beyond_bound or world.tampered or head is None or str(head.intent_id) != stamp:
        return False
    registered = any(
        event.intent_id == head.intent_id and event.type is EventType.REGISTERED
        for event in world.postgres.events
    )
    is_refused = head.event_type is EventType.COMPENSATION_REQUESTED and head.cause_code != "discarded"
    return is_refused and not registered and {OWNER, PARENT_AGENT} <= {one.relation for one in gone}


def _was_reclaimed(world: World, ground: Ground) -> bool:
    """Whether what stood there before is the outbox's own by now."""
    return ground.reclaimable and UUID(ground.stamp or "") in world.known | world.postgres.intents


def _is_adoption(world: World, tuples: set[Tuple]) -> bool:
    """An adoption adds its stamp to what is there, and takes it away where there is nothing to adopt."""
    if {one.relation for one in tuples} != {REGISTERED_BY} or len(tuples) != 1:
        return False
    (stamp,) = tuples
    intent = world.postgres.intents.get(UUID(stamp.subject_id))
    return intent is not None and "adopt" in intent.request


def _registered(world: World, name: str, fresh: set[Tuple]) -> None:
    if _is_adoption(world, fresh):
        return
    stamps = [one.subject_id for one in fresh if one.relation == REGISTERED_BY]
    owners = [one for one in fresh if one.relation == OWNER]
    if len(stamps) != 1 or len(owners) != 1:
        world.violate(f"{name}: registered with the stamps {stamps} and the owners {owners}")
        return
    others = world.spicedb.of(SCHEDULE, name) - fresh
    if others:
        world.violate(f"{name}: registered beside {sorted(others)}")
    intent = UUID(stamps[0])
    live = world.postgres.live_intent(name)
    if live not in {None, intent}:
        world.violate(f"{name}: {intent} was registered while {live} lives")
    if intent not in world.postgres.queue and live != intent:
        world.violate(f"{name}: {intent} was registered after it had ended")


def _schedule_changed(world: World, name: str, before: Standing | None, after: Standing | None) -> None:
    was, now = _stamp(before), _stamp(after)
    world.record(f"    {name}: {was if before else 'nothing'} -> {now if after else 'nothing'}")
    if world.meddling:
        world.touched[name] = world.loop.time()
        return
    if after is not None:
        _created(world, name, now)
    else:
        _deleted(world, name, was)


def _schedule_updated(world: World, name: str) -> None:
    """Only what carries the live stamp is updated; an adopted one has none."""
    stamp, live = _stamp(world.temporal.schedules[name]), world.postgres.live_intent(name)
    world.record(f"    {name}: {stamp} is updated to {revision_in(world.temporal.schedules[name].schedule)}")
    adopted = live is not None and world.postgres.intents[live].kind is Kind.REPAIR and stamp is None
    is_meant = adopted or stamp == str(live)
    if world.was_touched(name):
        if _is_theirs(world, name, stamp):
            keep_as_it_is(world, name)
    elif not (is_meant or world.beyond_bound):
        world.violate(f"{name}: the schedule of {stamp} was updated, while {live} lives")


def _created(world: World, name: str, stamp: str | None) -> None:
    """S1 and S2: no schedule without its registration, or without the decision to have none."""
    if stamp is None or world.was_touched(name) or world.beyond_bound:
        return
    if Tuple(SCHEDULE, name, REGISTERED_BY, INTENT, stamp) in world.spicedb.tuples:
        return
    skipped = any(
        str(event.intent_id) == stamp and event.type is EventType.REGISTRATION_SKIPPED
        for event in world.postgres.events
    )
    if not skipped:
        world.violate(f"{name}: created for {stamp}, which is not registered")
    elif world.spicedb.of(SCHEDULE, name) and not world.tampered:
        world.violate(f"{name}: created for {stamp} without an owner, but somebody has access")
    elif UUID(stamp) not in world.postgres.queue and str(world.postgres.live_intent(name)) != stamp:
        world.violate(f"{name}: created for {stamp}, which has ended")


def _waits(row: Row) -> bool:
    """Whether its next attempt begins when none without an answer can land any more, and meets what is left.

    An earlier one's create may land meanwhile where an earlier one's removal of debris takes it away again.
    """
    return (
        row.state in {"waiting", "holding"}
        and row.unknown_until is not None
        and row.due_at >= row.unknown_until
    )


def _deleted(world: World, name: str, stamp: str | None) -> None:
    ground = world.grounds[name]
    if _is_theirs(world, name, stamp):
        asked = _is_at(world, name, EventType.DELETE_REQUESTED) or _comes_too_late(world, name)
        if world.was_touched(name):
            keep_as_it_is(world, name)
        elif not _was_reclaimed(world, ground) and not (ground.legacy and asked):
            world.violate(f"{name}: a stranger's schedule was deleted")
        ground.scheduled = False
    if stamp is None or world.was_touched(name) or world.beyond_bound:
        return
    head = _head(world, name)
    is_marked = Tuple(INTENT, stamp, ENDED, INTENT, stamp) in world.spicedb.tuples
    lives = stamp == str(world.postgres.live_intent(name)) and not is_marked
    comes = head is not None and stamp == str(head.intent_id) and not _waits(head)
    if comes or (lives and not _is_at(world, name, EventType.DELETE_REQUESTED)):
        world.violate(f"{name}: the schedule of {stamp} was deleted, and nobody asked for it")


def _is_theirs(world: World, name: str, stamp: str | None) -> bool:
    """A stranger's. No condition of Temporal's stops what was under way when he put it there."""
    ground = world.grounds[name]
    return ground.scheduled and stamp == ground.stamp


def _comes_too_late(world: World, name: str) -> bool:
    """Beyond the bound a delete arrives after its intent has failed, and a legacy can't be brought back."""
    world.keep_log()
    asked = {one.kind for one in world.known.values() if one.schedule_id == name}
    return world.beyond_bound and Kind.DELETE in asked


def _is_at(world: World, name: str, event: EventType) -> bool:
    head = _head(world, name)
    return head is not None and head.event_type is event


def _head(world: World, name: str) -> Row | None:
    heads = (row for row in world.postgres.queue.values() if row.schedule_id == name and row.place == "head")
    return next(heads, None)


def _stamp(standing: Standing | None) -> str | None:
    return None if standing is None else stamp_in(standing.memo)


# At rest.


def judge(world: World) -> None:
    """Judge the whole once nothing is left to do, as a campaign on the real servers is judged."""
    world.keep_log()
    granted: dict[str, set[str]] = {}
    for one in world.grants:
        granted.setdefault(str(world.postgres.live_intent(one.resource_id)), set()).add(_words(one))
    found = check(
        _ledger(world),
        _stores(world),
        before=_before(world),
        granted=granted,
        committed=[str(intent) for intent in world.committed_at],
    )
    for violation in found:
        world.violate(str(violation))
    for name, lane in world.postgres.lanes.items():
        if lane.live_intent is not None and lane.live_intent not in world.postgres.intents:
            world.violate(f"{name}: the live intent {lane.live_intent} was pruned")
        elif not any(row.schedule_id == name for row in world.postgres.queue.values()):
            _judge_remembered(world, name)
            _judge_definition(world, name)
    for event in world.log.values():
        terminal = TERMINALS.get(event.type)
        if terminal and terminal.status is Status.FAILED and event.error_code not in _DECISIONS:
            world.violate(f"{event.intent_id} failed for {event.error_code}, which is no decision of a store")


def _judge_remembered(world: World, name: str) -> None:
    """What the ledger has is what a create asked for or an adoption met, and the updates that were done."""
    made, found = _made(world, name), world.postgres.definition(name)
    if made is not None and found != (by_log := _by_the_log(world, made)):
        world.violate(f"{name}: the ledger has {found}, by the updates it is {by_log}")


def _judge_definition(world: World, name: str) -> None:
    """Temporal has that, too."""
    standing, made = world.temporal.schedules.get(name), _made(world, name)
    if standing is None or made is None or _stamp(standing) not in {None, str(made.intent_id)}:
        return  # gone or taken by a hand, or not known
    expected = _at_once(
        schedule_of(
            _by_the_log(world, made),
            name,
            revision=world.postgres.lanes[name].revision,
            namespace=NAMESPACE,
            converter=DataConverter.default,
        )
    )
    found = Schedule()
    found.CopyFrom(standing.schedule)
    for one in (found, expected):
        one.state.SetInParent()  # one that says nothing is as good as none
        if name in world.noted:
            one.state.notes = ""
    if found != expected:
        world.violate(f"{name}: Temporal has {standing.schedule}, by the updates it is {expected}")


def _made(world: World, name: str) -> Logged | None:
    """By which event a schedule is live; None: none is, or a person noted something on what was adopted."""
    live = world.postgres.live_intent(name)
    made = {EventType.CREATED} if name in world.noted else {EventType.CREATED, EventType.REPAIRED}
    return next((one for one in world.log.values() if one.intent_id == live and one.type in made), None)


def _by_the_log(world: World, made: Logged) -> Mapping[str, Any]:
    log = [event for event in world.log.values() if event.schedule_id == made.schedule_id]
    is_adopted = made.type is EventType.REPAIRED
    definition: Mapping[str, Any] = (
        request_of(made.schedule_id, THEIRS) if is_adopted else world.known[made.intent_id].request
    )
    for event in log[log.index(made) :]:
        if event.type is EventType.UPDATED:
            definition = revised(definition, world.known[event.intent_id].request)
    return definition


def _at_once(building: Coroutine[Any, Any, Schedule]) -> Schedule:
    """What a coroutine comes to that waits for nothing."""
    try:
        building.send(None)
    except StopIteration as end:
        found: Schedule = end.value
        return found
    raise AssertionError("it waits")


def _before(world: World) -> Stores | None:
    """What others had, without the legacies that a call beyond the bound took away after all."""
    if world.before is None or not world.beyond_bound:
        return world.before
    lost = {name for name, ground in world.grounds.items() if ground.legacy and not ground.scheduled}
    kept = {name: one for name, one in world.before.schedules.items() if name not in lost}
    return replace(world.before, schedules=kept)


def take_stores(world: World) -> Stores:
    """What the two stores hold now, as the checker reads it."""
    return _stores(world)


def _ledger(world: World) -> Ledger:
    memory = world.postgres
    return Ledger(
        intents=[
            Intent(
                id=str(one.id),
                schedule_id=one.schedule_id,
                kind=one.kind,
                span=(world.enqueued_at.get(one.id, -_EVER), world.committed_at.get(one.id, _EVER)),
                owner=f"user:{one.creator['user_id']}" if "user_id" in one.creator else None,
                adopts="adopt" in one.request,
            )
            for one in sorted(world.known.values(), key=lambda one: one.position)
        ],
        events=[
            Event(str(one.intent_id), one.schedule_id, one.type, one.lease_number, one.error_code)
            for one in world.log.values()
        ],
        pending=[
            Pending(
                str(row.intent_id),
                row.schedule_id,
                row.event_type,
                row.place,
                row.state,
                row.error_code,
                row.error_message,
            )
            for row in memory.queue.values()
        ],
        live={name: str(lane.live_intent) for name, lane in memory.lanes.items() if lane.live_intent},
        revisions={name: str(lane.revision) for name, lane in memory.lanes.items() if lane.revision},
    )


def _stores(world: World) -> Stores:
    tuples = [one for one in world.spicedb.tuples if one.resource_type == SCHEDULE]
    return Stores(
        relationships={
            name: frozenset(_words(one) for one in tuples if one.resource_id == name)
            for name in {one.resource_id for one in tuples}
        },
        schedules={
            name: Scheduled(_stamp(one), revision=revision_in(one.schedule))
            for name, one in world.temporal.schedules.items()
        },
        ended={one.resource_id for one in world.spicedb.tuples if one.resource_type == INTENT},
    )


def _words(one: Tuple) -> str:
    return f"{one.relation}@{one.subject_type}:{one.subject_id}"
