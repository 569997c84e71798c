"""The ledger of one lane as a value: what a claim hands out, and what a settlement makes of it.

Times are reduced to what matters: whether an attempt that got no answer may still land. ``holding`` ends
when it can't any more.
"""

from dataclasses import dataclass, replace
from functools import cache
from uuid import UUID

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch
from outbox.flow.settlement import Action, Settlement
from outbox.flow.table import REQUESTED, TERMINALS, EventType, Kind, Live

SCHEDULE_ID = "agent--nightly"
_REQUEST = {"workflow_name": "Run", "task_queue": "agents", "interval_seconds": 60}
_FIRST_REPAIR = 100
LEGACY = (-1,)
"""How a schedule from before the outbox is defined."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An intent of the scenario; a repair is an adoption.

    Attributes:
        by: the user who owns what is created; none: a principal without identity.
        bad: Temporal refuses the create, or the update, for what it is.
    """

    kind: Kind
    by: str | None = "alice"
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The intent that is being applied; its number counts the scenario's entries, repairs from 100."""

    number: int
    event: EventType
    lease: int = 0
    leased: bool = False
    holding: bool = False
    unknown: bool = False
    looking: bool = False
    cause: Cause | None = None
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """Attributes:
    ended: how each entry has ended, in order.
    hold: an attempt of an ended intent may still land: the next one does not start.
    verify: how many repairs are still to come because of attempts without an answer: the first when
        they can't land any more by the bound, the second later.
    definition: the entries that what is live is made of: its create, and the updates since.
    """

    head: Head | None = None
    ended: tuple[EventType, ...] = ()
    live: int | None = None
    hold: bool = False
    verify: int = 0
    repaired: int = 0
    definition: tuple[int, ...] = ()

    @property
    def revision(self) -> int | None:
        """The update that changed what is live last."""
        return self.definition[-1] if len(self.definition) > 1 else None


def intent_id(number: int) -> UUID:
    return UUID(int=number + 1)


def begin(lane: Lane, entries: tuple[Entry, ...]) -> Lane | None:
    """The lane's next entry becomes its head."""
    if lane.head is not None or len(lane.ended) == len(entries) or lane.hold:
        return None
    number = len(lane.ended)
    return replace(lane, head=Head(number, REQUESTED[entries[number].kind]))


def begin_repair(lane: Lane) -> Lane | None:
    """A repair that is due becomes the lane's head."""
    if lane.head is not None or not lane.verify or lane.hold:
        return None
    head = Head(_FIRST_REPAIR + lane.repaired, EventType.REPAIR_REQUESTED)
    return replace(lane, head=head, verify=lane.verify - 1, repaired=lane.repaired + 1)


def claim(lane: Lane) -> Lane | None:
    head = lane.head
    if head is None or head.leased or head.holding or head.parked:
        return None
    return replace(lane, head=replace(head, leased=True, lease=head.lease + 1))


def expire(lane: Lane) -> Lane:
    """The lease ends without a settlement: the worker died or stalled, so the attempt is unknown."""
    assert lane.head is not None
    return replace(lane, head=replace(lane.head, leased=False, unknown=True))


def pass_bound(lane: Lane) -> Lane | None:
    """No attempt without an answer can land any more."""
    if lane.head is not None and lane.head.holding:
        return replace(lane, head=replace(lane.head, holding=False), hold=False)
    return replace(lane, hold=False) if lane.hold else None


@cache
def dispatch(lane: Lane, entries: tuple[Entry, ...]) -> Dispatch:
    head = lane.head
    assert head is not None
    repairs = head.number >= _FIRST_REPAIR
    entry = (
        entries[lane.live if lane.live is not None else len(lane.ended) - 1]
        if repairs
        else entries[head.number]
    )
    kind = Kind.REPAIR if repairs else entry.kind
    updates, adopts = kind is Kind.UPDATE, kind is Kind.REPAIR and not repairs
    adopted = lane.live is not None and entries[lane.live].kind is Kind.REPAIR
    described = {"described": "as it was"} if adopted and (repairs or updates) else {}
    as_is = repairs or (updates and head.looking)
    made_of = lane.definition if as_is else (*lane.definition, head.number) if updates else (head.number,)
    changed = None if lane.revision is None else intent_id(lane.revision)
    return Dispatch(
        intent_id=intent_id(head.number),
        schedule_id=SCHEDULE_ID,
        kind=kind,
        event_type=head.event,
        lease_number=head.lease,
        attempt=1,
        deadline=0.0,
        unknown=head.unknown,
        cause=head.cause,
        look=head.looking,
        request=_REQUEST
        | {"bad": entry.bad, "definition": made_of}
        | ({"adopt": True} if adopts else described),
        creator=Creator(user_id=entry.by),
        live_intent=None if lane.live is None else intent_id(lane.live),
        live_adopted=adopted,
        run=(intent_id(head.number),) if updates else (),
        revision=changed if repairs or updates else None,
    )


def settle(lane: Lane, one: Settlement) -> Lane:
    """Apply a settlement; one that names another event or lease matches nothing."""
    head = lane.head
    if (
        head is None
        or not head.leased
        or (intent_id(head.number), head.event, head.lease)
        != (one.intent_id, one.event_type, one.lease_number)
    ):
        return lane
    unknown = head.unknown or one.unknown
    cause = Cause(ErrorCode(one.error_code), one.error_message or "") if one.error_code else None
    free = replace(head, leased=False, unknown=unknown)
    match one.action:
        case Action.RETRY:
            return replace(lane, head=replace(free, holding=one.waits and unknown))
        case Action.PARK:
            return replace(lane, head=replace(free, parked=True))
        case Action.HOLD:
            return replace(lane, head=replace(free, holding=unknown, looking=True, cause=cause))
        case Action.ADVANCE if one.next_event in TERMINALS:
            return _end(lane, replace(free, event=one.next_event), one.live)
        case Action.ADVANCE:
            assert one.next_event is not None
            going = replace(
                free, event=one.next_event, holding=one.waits and unknown, looking=False, cause=cause
            )
            return replace(lane, head=going)


def hand_over(lane: Lane, entries: tuple[Entry, ...]) -> Lane | None:
    """What follows a settlement is leased at once: the intent's next step, or the lane's next intent."""
    return claim(lane) if lane.head is not None else claim(begin(lane, entries) or lane)


def _end(lane: Lane, head: Head, live: Live) -> Lane:
    stamps = {Live.SET: head.number, Live.CLEAR: None}
    # An adoption is a repair, too, and an entry of the scenario.
    is_entry, repaired = head.number < _FIRST_REPAIR, head.event is EventType.REPAIRED
    made_of = {
        Live.SET: LEGACY if repaired else (head.number,),
        Live.CLEAR: (),
        Live.REVISE: (*lane.definition, head.number),
    }
    return replace(
        lane,
        head=None,
        ended=(*lane.ended, head.event) if is_entry else lane.ended,
        live=stamps.get(live, lane.live),
        definition=made_of.get(live, lane.definition),
        hold=lane.hold or head.unknown,
        verify=max(lane.verify, 1 if repaired else 2) if head.unknown else lane.verify,
    )
