"""The invariants, checked: from a ledger and a snapshot of both stores to a list of what is broken. Pure.

For a moment at which nothing is under way: every intent has ended or stands behind a parked one, and the
repairs that were due have run. The log alone says what must be in the stores; what others hold must be as it
was.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby, pairwise

from outbox.flow.table import REQUESTED, STEPS, TERMINALS, EventType, Kind, Live
from outbox.testing.records import (
    NOT_LOOKED_AT,
    STAMP,
    Event,
    Intent,
    Ledger,
    Pending,
    Scheduled,
    Stores,
    registration,
)


class Invariant(StrEnum):
    """What must hold; a violation names one."""

    NOT_LOST = "not_lost"
    """What a producer knows to be committed is in the ledger, and every intent begins with its request."""
    ENDS_ONCE = "ends_once"
    """Every intent has ended with one terminal event, is parked with a reason, or waits behind a parked
    one."""
    FLOW = "flow"
    """An intent's events follow each other as the flow says, under lease numbers that grow."""
    LANE_ORDER = "lane_order"
    """A lane's intents were applied one at a time. If A was committed before B was enqueued, A was applied
    first."""
    LIVE_STAMP = "live_stamp"
    """The intent that the lane's row calls live is the one that its log says is live."""
    SCHEDULE = "schedule"
    """Temporal has the live intent's schedule under its stamp, and no other of ours."""
    REVISION = "revision"
    """The update that changed what is live last is the one that the log, the lane's row and Temporal tell."""
    TUPLES = "tuples"
    """SpiceDB has the live intent's registration and what was granted since, and nothing else."""
    ENDED_MARK = "ended_mark"
    """Every intent whose registration was removed is marked as ended, so that it can't take effect late. No
    live intent is marked."""
    FOREIGN = "foreign"
    """What others hold is as it was; a delete takes it only if it carries no stamp."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, in which lane, and what was found instead."""

    invariant: Invariant
    schedule_id: str
    detail: str

    def __str__(self) -> str:
        return f"{self.schedule_id or 'ledger'}: {self.invariant}: {self.detail}"


def check(
    ledger: Ledger,
    stores: Stores,
    *,
    before: Stores | None = None,
    granted: Mapping[str, Collection[str]] | None = None,
    committed: Iterable[str] = (),
) -> list[Violation]:
    """List everything that is not as it must be, lane by lane.

    Args:
        ledger: with nothing under way.
        stores: as they are now; only names of the ledger and of ``before`` are judged.
        before: what others had put into the stores under such names, before any intent of ours.
        granted: relationships that others gave a schedule while it was live, by the intent that was live.
        committed: intents whose commit a producer was told of.
    """
    lanes = _lanes(ledger, frozenset(stores.ended or ()))
    known = {intent.id for intent in ledger.intents}
    found = [
        Violation(Invariant.NOT_LOST, "", f"intent {one} was committed and is not there")
        for one in sorted(set(committed) - known)
    ]
    held = before or Stores()
    for name in sorted({*lanes, *held.relationships, *held.schedules}):
        lane = lanes.get(name) or _Lane(name, frozenset())
        found += lane.log_violations()
        # A parked head may have left half of its work in the stores, and keeps the rest of its lane waiting.
        if not lane.is_parked:
            found += lane.store_violations(stores, held, granted or {})
    return found


def _lanes(ledger: Ledger, ended: frozenset[str]) -> dict[str, "_Lane"]:
    lanes: dict[str, _Lane] = {}

    def lane(schedule_id: str) -> _Lane:
        return lanes.setdefault(schedule_id, _Lane(schedule_id, ended))

    for intent in ledger.intents:
        lane(intent.schedule_id).intents[intent.id] = intent
    for event in ledger.events:
        lane(event.schedule_id).add(event)
    for row in ledger.pending:
        lane(row.schedule_id).pending[row.intent_id] = row
    for schedule_id, stamp in ledger.live.items():
        lane(schedule_id).remembered = stamp
    for schedule_id, revision in ledger.revisions.items():
        lane(schedule_id).revision = revision
    return lanes


@dataclass(slots=True)
class _Lane:
    """All that is known of one schedule id.

    Attributes:
        ended: the intents that SpiceDB has marked as ended.
        stands: the intents that may be live, by the log (None: nothing). More than one where a repair may
            have changed that, which the log doesn't say: it adopts what is there, or clears up what ran out
            or was marked as ended by a ledger newer than this one.
        revised: the update that changed what is live last, by the log; of what was reclaimed, it doesn't say.
        runs_else: an update has changed what the live schedule starts.
        revision: the same, by the lane's row.
        took_unstamped: a delete ended as deleted while nothing of ours was live: it took what has no stamp.
    """

    schedule_id: str
    ended: frozenset[str]
    intents: dict[str, Intent] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    lives: dict[str, list[Event]] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    remembered: str | None = None
    stands: set[str | None] = field(default_factory=lambda: {None})
    took_unstamped: bool = False
    revised: str | None = None
    runs_else: bool = False
    revision: str | None = None

    def add(self, event: Event) -> None:
        """Take up the next line of the log; the intents are there already."""
        self.events.append(event)
        self.lives.setdefault(event.intent_id, []).append(event)
        terminal = TERMINALS.get(event.type)
        match terminal.live if terminal else None:
            case Live.SET:
                self.stands = {event.intent_id}
                self.revised = None if event.lease_number is not None else NOT_LOOKED_AT
                self.runs_else = False
            case Live.REVISE:
                self.revised = event.intent_id
                self.runs_else |= self.intents[event.intent_id].runs is not None
            case Live.CLEAR:
                self.took_unstamped |= any(one is None or self._is_adopted(one) for one in self.stands)
                self.stands = {None}
                self.revised = None
            case Live.KEEP if event.type is EventType.REPAIRED:
                self._repaired(event.intent_id)
            case Live.KEEP | None:
                pass

    def _repaired(self, intent_id: str) -> None:
        repair = self.intents.get(intent_id)
        if repair and repair.adopts and None in self.stands:
            self.stands.add(intent_id)
            self.revised = None
        over = {one.id for one in self.intents.values() if one.ran_out} | self.ended
        if not over.isdisjoint(one for one in self.stands if one):
            self.stands.add(None)

    def _is_adopted(self, intent_id: str) -> bool:
        return intent_id in self.intents and self.intents[intent_id].adopts

    @property
    def live(self) -> Intent | None:
        """The intent that is live, by the log."""
        live = self.remembered if self.remembered in self.stands else min(self.stands, key=str)
        return self.intents.get(live or "")

    @property
    def is_parked(self) -> bool:
        return any(row.state == "parked" for row in self.pending.values())

    def types(self, intent_id: str) -> list[EventType]:
        return [event.type for event in self.lives.get(intent_id, ())]

    # The log.

    def log_violations(self) -> Iterator[Violation]:
        for intent in self.intents.values():
            yield from self._begins_and_ends(intent)
            yield from self._follows_the_flow(intent)
        strangers = self.lives.keys() - self.intents.keys()
        if strangers:
            yield self._violation(Invariant.NOT_LOST, f"events of {_list(strangers)}, but no such intents")
        yield from self._order()
        if self.remembered not in self.stands:
            by_log = _list(sorted(map(str, self.stands)))
            yield self._violation(
                Invariant.LIVE_STAMP, f"the lane has {self.remembered}, by its log it is {by_log}"
            )

    def _begins_and_ends(self, intent: Intent) -> Iterator[Violation]:
        types, row = self.types(intent.id), self.pending.get(intent.id)
        if types[:1] != [REQUESTED[intent.kind]]:
            yield self._violation(
                Invariant.NOT_LOST, f"{intent.id} does not begin with its request: {_list(types)}"
            )
        terminals = sum(one in TERMINALS for one in types)
        if terminals != (row is None):
            where = f"{row.place} and {row.state}" if row else "not in the queue"
            yield self._violation(
                Invariant.ENDS_ONCE,
                f"{intent.id} has {terminals} terminal events and is {where}: {_list(types)}",
            )
        if row is None or row.place == "deferred":
            return
        if row.state == "parked" and row.error_code is None:
            yield self._violation(Invariant.ENDS_ONCE, f"{row.intent_id} is parked without a reason")
        elif row.state != "parked" and not (row.place == "behind" and self.is_parked):
            yield self._violation(
                Invariant.ENDS_ONCE,
                f"{row.intent_id} has not ended: {row.event_type} is {row.place} and {row.state} "
                f"({row.error_code}: {row.error_message})",
            )

    def _follows_the_flow(self, intent: Intent) -> Iterator[Violation]:
        types = self.types(intent.id)
        if any(following not in _after(event) for event, following in pairwise(types)):
            yield self._violation(Invariant.FLOW, f"{intent.id} went {_list(types)}")
        leases = [
            event.lease_number for event in self.lives.get(intent.id, ()) if event.lease_number is not None
        ]
        if any(later <= earlier for earlier, later in pairwise(leases)):
            yield self._violation(Invariant.FLOW, f"{intent.id} was settled under the leases {leases}")

    def _order(self) -> Iterator[Violation]:
        steps = (event.intent_id for event in self.events if event.type not in REQUESTED.values())
        applied = [intent_id for intent_id, _ in groupby(steps)]
        if len(applied) != len(set(applied)):
            yield self._violation(
                Invariant.LANE_ORDER, f"an intent was let in between another's steps: {_list(applied)}"
            )
        begun = float("-inf")
        for intent_id in dict.fromkeys(applied):
            intent = self.intents.get(intent_id)
            if intent is None or intent.kind is Kind.REPAIR:
                continue
            if intent.span[1] < begun:
                yield self._violation(
                    Invariant.LANE_ORDER, f"{intent_id} was applied after a later one: {_list(applied)}"
                )
            begun = max(begun, intent.span[0])

        if self.remembered is not None and self.revised not in {NOT_LOOKED_AT, self.revision}:
            yield self._violation(
                Invariant.REVISION, f"the lane has {self.revision}, by its log it is {self.revised}"
            )

    # The stores.

    def store_violations(
        self, stores: Stores, before: Stores, granted: Mapping[str, Collection[str]]
    ) -> Iterator[Violation]:
        name, live = self.schedule_id, self.live
        their_schedule, their_tuples = self._theirs(before)
        yield from self._schedule(live, stores.schedules.get(name), their_schedule)
        yield from self._tuples(
            live,
            stores.relationships.get(name, frozenset()),
            their_tuples,
            frozenset(granted.get(live.id, ()) if live else ()),
        )
        if stores.ended is not None:
            yield from self._marks(live, stores.ended)

    def _theirs(self, before: Stores) -> tuple[Scheduled | None, frozenset[str]]:
        """What others had; what carries a stamp of the lane is the outbox's own: it was reclaimed."""
        schedule = before.schedules.get(self.schedule_id)
        tuples = before.relationships.get(self.schedule_id, frozenset())
        if schedule is not None and schedule.stamp in self.intents:
            schedule = None
        if any(word.removeprefix(STAMP) in self.intents for word in tuples):
            tuples = frozenset()
        return schedule, tuples

    def _schedule(
        self, live: Intent | None, found: Scheduled | None, theirs: Scheduled | None
    ) -> Iterator[Violation]:
        if theirs is not None and not (theirs.stamp is None and self.took_unstamped):
            if found != theirs:
                yield self._violation(Invariant.FOREIGN, f"Temporal had {theirs}, and has {found}")
        elif live is None:
            if found is not None:
                yield self._violation(Invariant.SCHEDULE, f"nothing is live, and Temporal has {found}")
        elif found is None:
            if not live.ran_out:
                yield self._violation(Invariant.SCHEDULE, f"{live.id} is live, and Temporal has nothing")
        elif found.stamp != live.id and not (live.adopts and found.stamp is None):
            yield self._violation(Invariant.SCHEDULE, f"{live.id} is live, and Temporal has {found}")
        elif found.revision not in {NOT_LOOKED_AT, self.revision}:
            told = f"Temporal tells {found.revision} as the revision, the lane {self.revision}"
            yield self._violation(Invariant.REVISION, told)
        elif None not in {live.runs, found.runs} and live.runs != found.runs and not self.runs_else:
            yield self._violation(Invariant.SCHEDULE, f"{live.id} starts {found.runs}, not {live.runs}")

    def _tuples(
        self, live: Intent | None, found: frozenset[str], theirs: frozenset[str], granted: frozenset[str]
    ) -> Iterator[Violation]:
        unstamped = not any(word.startswith(STAMP) for word in theirs)
        is_theirs = bool(theirs) and not (unstamped and self.took_unstamped)
        wanted = theirs if is_theirs else frozenset()
        if live is not None:
            skipped = EventType.REGISTRATION_SKIPPED in self.types(live.id)
            wanted |= granted | (frozenset() if skipped else registration(live))
            if live.adopts and not is_theirs:
                # Whose it was before is not known.
                wanted |= {word for word in found if not word.startswith(STAMP)}
        if found != wanted:
            invariant = Invariant.FOREIGN if is_theirs else Invariant.TUPLES
            yield self._violation(invariant, f"SpiceDB has {_list(found)}, it should have {_list(wanted)}")

    def _marks(self, live: Intent | None, ended: Collection[str]) -> Iterator[Violation]:
        for intent in self.intents.values():
            if intent.kind is not Kind.CREATE:
                continue
            types = self.types(intent.id)
            was_undone = EventType.COMPENSATION_REQUESTED in types or EventType.CREATED in types
            if intent == live:
                if intent.id in ended:
                    yield self._violation(Invariant.ENDED_MARK, f"the live {intent.id} is marked as ended")
            elif was_undone and intent.id not in ended:
                yield self._violation(
                    Invariant.ENDED_MARK, f"{intent.id} was undone without being marked as ended"
                )

    def _violation(self, invariant: Invariant, detail: str) -> Violation:
        return Violation(invariant, self.schedule_id, detail)


def _after(event: EventType) -> set[EventType | None]:
    step = STEPS.get(event)
    if step is None:
        return set()
    return {step.done, step.skipped, step.rejected, step.rejected_after_unknown}


def _list(items: Collection[str]) -> str:
    return ", ".join(items if isinstance(items, Sequence) else sorted(items)) or "nothing"
