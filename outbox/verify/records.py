"""What is judged: the ledger and both stores at one moment, as plain records. No I/O."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from outbox.flow.table import EventType, Kind

STAMP = "registered_by@outbox_intent:"
"""How a relationship that is a stamp begins, as ``relation@type:id``."""


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent as the ledger has it.

    Attributes:
        owner: whom its registration makes owner, as ``type:id``; None: it has no creator.
        span: when its enqueueing began and when its commit was known, on any clock; by default its position,
            twice. A lane applies one intent before another only if it need not be the other way round:
            ``(-inf, inf)`` says nothing of the order. Of a repair it is not looked at: its time decides.
        runs: what its schedule starts, in the words of ``Scheduled.runs``; None: not compared. Of an update:
            not None if it changes that.
        ran_out: its schedule's own end has passed, as it was last updated; Temporal may have removed it, and
            a repair its tuples. Of an update: the end that it asked for has passed.
        adopts: it is a repair that takes what others made, without a stamp, into the ledger.
    """

    id: str
    schedule_id: str
    kind: Kind
    span: tuple[float, float]
    owner: str | None = None
    runs: str | None = None
    ran_out: bool = False
    adopts: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the log."""

    intent_id: str
    schedule_id: str
    type: EventType
    lease_number: int | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """An intent's row in the queue; ``place``, ``state`` and the error as docs/states.md has them.

    Attributes:
        lease_number: of its latest lease; None: not looked at.
    """

    intent_id: str
    schedule_id: str
    event_type: EventType
    place: str
    state: str
    error_code: str | None = None
    error_message: str | None = None
    lease_number: int | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that Postgres has of some lanes.

    Attributes:
        events: in the order of the log.
        live: the live stamp that each lane remembers, by schedule id; lanes without one may be left out.
        revisions: the update that changed what is live last, in the same way.
        pruned_before: intents that ended, and whose ids are smaller, may be missing with their events, save
            what is live; empty: none are. Ids are in the order of their time.
    """

    intents: Sequence[Intent]
    events: Sequence[Event]
    pending: Sequence[Pending] = ()
    live: Mapping[str, str] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)
    pruned_before: str = ""


NOT_LOOKED_AT = ""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule in Temporal.

    Attributes:
        stamp: None: it has none.
        runs: what it starts; None: not looked at.
        revision: the update that it tells to have changed it last; None: none.
    """

    stamp: str | None
    runs: str | None = None
    revision: str | None = NOT_LOOKED_AT


@dataclass(frozen=True, slots=True)
class Stores:
    """What SpiceDB and Temporal hold.

    Attributes:
        relationships: of each ``agent_schedule`` that has any, as ``relation@type:id``, by schedule id.
        schedules: Temporal's, by id.
        ended: the intents that SpiceDB has marked as ended; None: not looked at.
    """

    relationships: Mapping[str, frozenset[str]] = field(default_factory=dict)
    schedules: Mapping[str, Scheduled] = field(default_factory=dict)
    ended: Collection[str] | None = None


def registration(intent: Intent) -> frozenset[str]:
    """The relationships by which an intent registers its schedule; none, if it has no creator.

    An adoption adds its stamp alone.
    """
    stamp = f"{STAMP}{intent.id}"
    if intent.adopts:
        return frozenset({stamp})
    if intent.owner is None:
        return frozenset()
    agent = intent.schedule_id.partition("--")[0]
    return frozenset({f"owner@{intent.owner}", f"parent_agent@agent:{agent}", stamp})


@dataclass(frozen=True, slots=True)
class Held:
    """What both stores hold under one name."""

    tuples: frozenset[str] = frozenset()
    schedule: Scheduled | None = None
