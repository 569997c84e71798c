"""What chance brings about seldom, or never: situations that rules of the SQL are for, each played once.

They are what catches a mutant of the SQL (`make mutants`); random operations go on from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from outbox.errors import ErrorCode
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Transient, Unknown
from outbox.flow.table import Kind, Live


class Act(StrEnum):
    """What somebody does, to the first lane where no other is named.

    A worker that claims takes all that is due. What is done late is the step that was claimed last. Of
    Temporal nothing is handed over, as it has a rate.
    """

    CLAIMED = "claimed"
    PARKED = "what is due is claimed and parked"
    LATE = "what was claimed before is done late"
    LATE_END = "what was claimed before is done late, and lives"
    STALE = "what is leased for longest is done"
    PLACED = "one of Temporal is claimed"
    ONE = "one of authz is claimed"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    PRUNED = "what is old is pruned"
    REPAIR = "repair"
    RECLAIM = "reclaim"
    RECLAIM_ELSEWHERE = "reclaim in the second lane"
    HELD = "held"
    HELD_FOR_A_WHILE = "held for a while"
    RELEASED = "released"
    AUTHZ_HELD = "authz is held"
    EARLY = "creates of the first two lanes"
    LATE_COMMIT = "a create of the third lane, committed late"
    COMMITTED = "that one commits"
    LONG = "a look took long"
    SET_BACK = "the clock was set back after a look"
    SLEPT = "the machine slept in a look"


@dataclass(frozen=True)
class Handing:
    """A step that is claimed, or was, comes out so; what follows it may be handed over."""

    outcome: Outcome


# Seconds pass; somebody enqueues (fields are those of an update); what is due is claimed and comes out so.
Scene = tuple[float | Kind | Mapping[str, Any] | Outcome | Handing | Act, ...]

DONE, SET, CLEAR = Done("token"), Done("token", live=Live.SET), Done("token", live=Live.CLEAR)
RECLAIMED = Done(live=Live.RECLAIM)
LOST = Unknown(ErrorCode.CONNECTION_LOST, "lost")
AWAY = Transient(ErrorCode.UNREACHABLE, "away")
REFUSED = Refused(ErrorCode.REFUSED, "no")
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")
_CREATE, _UPDATE, _DELETE = Kind.CREATE, Kind.UPDATE, Kind.DELETE
EVERY_5 = MappingProxyType({"interval_seconds": 5, "timezone": None})
_AT_9 = MappingProxyType({"cron_expression": "0 9 * * *"})

SCENES: tuple[Scene, ...] = (
    # What fails, or gets no answer, holds.
    (_CREATE, LOST, 20.0, REFUSED, 20.0, DONE, 200.0, DONE),
    (_CREATE, LOST, 20.0, Act.PARKED, Act.REPLAYED, 20.0, DONE, 200.0, DONE),
    (_CREATE, LOST, 20.0, Act.PARKED, Act.DISCARDED, 20.0, DONE, 200.0, DONE),
    (_CREATE, DONE, Act.PARKED, Act.DISCARDED, 20.0, SET),
    (_CREATE, DONE, SET, _DELETE, CLEAR, LOST, 20.0, Act.PARKED, Act.REPLAYED, 200.0, DONE),
    (_CREATE, DONE, LOST, 20.0, SET, _DELETE, 20.0, CLEAR, 200.0, CLEAR, DONE),
    (_CREATE, TAKEN, Act.REPLAYED, DONE, SET),
    # Leases, and breakers.
    (_CREATE, Act.CLAIMED, 320.0, Act.CLAIMED, Act.LATE),
    (_CREATE, Act.CLAIMED, 320.0, Act.CLAIMED, Act.STALE),
    (_CREATE, AWAY, 20.0, DONE, SET),
    (_CREATE, DONE, SET, _DELETE, Act.CLAIMED, Act.EARLY, AWAY, Handing(CLEAR), 20.0, DONE),
    # Reclaims, repairs, and what retention leaves.
    (Act.RECLAIM, RECLAIMED, Act.RECLAIM_ELSEWHERE, RECLAIMED, 20.0, _DELETE, CLEAR, DONE),
    (_CREATE, DONE, SET, Act.RECLAIM, LOST, 200.0, RECLAIMED, _DELETE, 200.0, CLEAR),
    (_CREATE, DONE, SET, Act.REPAIR, Act.AUTHZ_HELD),
    (_CREATE, DONE, SET, 50.0, Act.PRUNED, _DELETE, CLEAR, DONE, 50.0, Act.PRUNED),
    # Halts.
    (_CREATE, Act.HELD, DONE, Act.RELEASED, 20.0, DONE, Act.HELD_FOR_A_WHILE, SET, 50.0, SET),
    (
        *(_CREATE, Act.CLAIMED, Act.HELD, _DELETE, Act.LATE, DONE, Act.RELEASED),
        *(SET, Act.HELD, Act.RELEASED, CLEAR),
    ),
    (
        *(_CREATE, DONE, Act.CLAIMED, Act.HELD, _DELETE, Act.PLACED),
        *(Act.LATE_END, CLEAR, Act.RELEASED, CLEAR),
    ),
    # What follows is handed over.
    (_CREATE, DONE, SET, _DELETE, Handing(CLEAR), 320.0, DONE),
    (_CREATE, DONE, LOST, _CREATE, 20.0, Handing(SET), 200.0, DONE),
    (_CREATE, DONE, SET, _DELETE, LOST, 20.0, Handing(DONE), 200.0, CLEAR),
    (
        *(_CREATE, DONE, SET, _DELETE, _CREATE, Act.CLAIMED, Act.HELD, Handing(DONE)),
        *(Act.RELEASED, Act.CLAIMED, Act.HELD, Handing(CLEAR), Act.RELEASED),
    ),
    # A look takes long, heads are placed without room, early and late ones, and claimed one by one.
    (Act.EARLY, Act.LATE_COMMIT, 20.0, Act.LONG, Act.PLACED, Act.COMMITTED, Act.PLACED, *(Act.ONE,) * 3),
    (
        *(Act.EARLY, Act.LATE_COMMIT, 20.0, Act.SET_BACK, Act.PLACED, Act.COMMITTED, Act.PLACED),
        *(Act.ONE, Act.SLEPT, Act.ONE, Act.ONE),
    ),
    # Updates.
    (_CREATE, _UPDATE, _UPDATE, DONE, SET, LOST, 20.0, REFUSED, 200.0, REFUSED, REFUSED, SET),
    (_CREATE, _UPDATE, _UPDATE, _DELETE, DONE, SET, REFUSED, _UPDATE, SET, SET, CLEAR),
    (_CREATE, DONE, SET, _UPDATE, LOST, 20.0, Act.PARKED, Act.DISCARDED, 200.0, REFUSED, _UPDATE, SET),
    (_CREATE, _AT_9, EVERY_5, _DELETE, DONE, SET, SET, CLEAR),
    (_CREATE, DONE, SET, _AT_9, SET, Act.REPAIR, DONE, _DELETE, CLEAR, DONE, _CREATE, DONE, SET),
)
