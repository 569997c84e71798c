"""One lane as its log tells it, and the invariants of the log. Pure.

They hold at any moment: a settle writes all that follows from a step in one transaction, so that each
snapshot of the ledger is whole. What must have come of it once nothing is under way is judged on top.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from outbox.flow.table import REQUESTED, STEPS, TERMINALS, EventType, Kind, Live
from outbox.verify.invariants import Invariant, Violation
from outbox.verify.records import NOT_LOOKED_AT, Event, Intent, Ledger, Pending


@dataclass(slots=True)
class Lane:
    """All that is known of one schedule id.

    Attributes:
        ended: the intents that SpiceDB has marked as ended; None: not looked at.
        pruned_before: as the ledger's.
        remembered: the live stamp, by the lane's row.
        revision: the update that changed what is live last, by the lane's row.
        stands: the intents that may be live, by the log (None: nothing). More than one where a repair may
            have changed that, which the log doesn't say: it adopts what is there, or clears up what ran out
            or was marked as ended by a ledger newer than this one. Or where a delete may have been pruned.
        revised: the update that changed what is live last, by the log; of what was reclaimed, or is perhaps
            adopted for a second time, it doesn't say.
        runs_else: an update has changed what the live schedule starts.
        took_unstamped: a delete ended as deleted while nothing of ours was live: it took what has no stamp.
    """

    schedule_id: str
    ended: frozenset[str] | None = None
    pruned_before: str = ""
    intents: dict[str, Intent] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    lives: dict[str, list[Event]] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    remembered: str | None = None
    revision: str | None = None
    stands: set[str | None] = field(default_factory=lambda: {None})
    revised: str | None = None
    runs_else: bool = False
    took_unstamped: bool = False

    def add(self, event: Event) -> None:
        """Take up the next line of the log; the intents are there already."""
        self.events.append(event)
        self.lives.setdefault(event.intent_id, []).append(event)
        intent = self.intents.get(event.intent_id)
        terminal = TERMINALS.get(event.type)
        match terminal.live if terminal else None:
            case Live.SET:
                self.stands = {event.intent_id}
                if self.may_be_pruned(event.intent_id):
                    self.stands.add(None)
                self.revised = None if event.lease_number is not None else NOT_LOOKED_AT
                self.runs_else = False
            case Live.REVISE:
                self.revised = event.intent_id
                self.runs_else |= intent is not None and intent.runs is not None
            case Live.CLEAR:
                self.took_unstamped |= any(one is None or self._is_adopted(one) for one in self.stands)
                self.stands = {None}
                self.revised = None
            case Live.KEEP if event.type is EventType.REPAIRED:
                self._repaired(intent)
            case Live.KEEP | Live.RECLAIM | None:
                pass

    def _repaired(self, repair: Intent | None) -> None:
        if repair and repair.adopts and None in self.stands:
            self.stands.add(repair.id)
            # It adopted, or left alone what was live and may have been updated.
            self.revised = None if self.revised is None else NOT_LOOKED_AT
        over = {one.id for one in self.intents.values() if one.ran_out} | (self.ended or set())
        updated_to_end = any(one.ran_out and one.kind is Kind.UPDATE for one in self.intents.values())
        if self.ended is None or updated_to_end or not over.isdisjoint(one for one in self.stands if one):
            self.stands.add(None)

    def _is_adopted(self, intent_id: str) -> bool:
        return intent_id in self.intents and self.intents[intent_id].adopts

    def may_be_pruned(self, intent_id: str) -> bool:
        """Whether an intent of that id, and of that time, may have been pruned if it ended."""
        return intent_id < self.pruned_before

    @property
    def live(self) -> Intent | None:
        """The intent that is live, by the log."""
        live = self.remembered if self.remembered in self.stands else min(self.stands, key=str)
        return self.intents.get(live or "")

    @property
    def is_parked(self) -> bool:
        """Whether a step of it waits for a person."""
        return any(row.state == "parked" for row in self.pending.values())

    @property
    def undone(self) -> set[str]:
        """The creates whose registrations were removed, and whose marks no prune may have taken."""
        return {
            intent.id
            for intent in self.intents.values()
            if intent.kind is Kind.CREATE
            and intent != self.live
            and not self.may_be_pruned(intent.id)
            and not {EventType.COMPENSATION_REQUESTED, EventType.CREATED}.isdisjoint(self.types(intent.id))
        }

    def types(self, intent_id: str) -> list[EventType]:
        """An intent's events, in their order."""
        return [event.type for event in self.lives.get(intent_id, ())]

    # What is wrong.

    def log_violations(self) -> Iterator[Violation]:
        """What must hold of the log at any moment, and does not."""
        for intent in self.intents.values():
            yield from self._begins_and_ends(intent)
            yield from self._follows_the_flow(intent)
        for row in self.pending.values():
            yield from self._is_pending(row)
        strangers = (self.lives.keys() | self.pending.keys()) - self.intents.keys()
        if strangers:
            yield self.violation(Invariant.NOT_LOST, f"events of {told(strangers)}, but no such intents")
        yield from self._heads()
        yield from self._order()
        yield from self._live()

    def unsettled(self) -> Iterator[Violation]:
        """What has not ended, though nothing is under way."""
        for row in self.pending.values():
            waits = row.place == "behind" and self.is_parked
            if row.state != "parked" and row.place != "deferred" and not waits:
                yield self.violation(
                    Invariant.ENDS_ONCE,
                    f"{row.intent_id} has not ended: {row.event_type} is {row.place} and {row.state} "
                    f"({row.error_code}: {row.error_message})",
                )

    def _begins_and_ends(self, intent: Intent) -> Iterator[Violation]:
        types, row = self.types(intent.id), self.pending.get(intent.id)
        if types[:1] != [REQUESTED[intent.kind]]:
            yield self.violation(
                Invariant.NOT_LOST, f"{intent.id} does not begin with its request: {told(types)}"
            )
        terminals = sum(one in TERMINALS for one in types)
        if terminals != (row is None):
            where = f"{row.place} and {row.state}" if row else "not in the queue"
            yield self.violation(
                Invariant.ENDS_ONCE,
                f"{intent.id} has {terminals} terminal events and is {where}: {told(types)}",
            )

    def _follows_the_flow(self, intent: Intent) -> Iterator[Violation]:
        types = self.types(intent.id)
        if any(following not in _after(event) for event, following in pairwise(types)):
            yield self.violation(Invariant.FLOW, f"{intent.id} went {told(types)}")
        leases = self._leases(intent.id)
        if any(later <= earlier for earlier, later in pairwise(leases)):
            yield self.violation(Invariant.FLOW, f"{intent.id} was settled under the leases {leases}")

    def _is_pending(self, row: Pending) -> Iterator[Violation]:
        if row.state == "parked" and row.error_code is None:
            yield self.violation(Invariant.ENDS_ONCE, f"{row.intent_id} is parked without a reason")
        types, leases = self.types(row.intent_id), self._leases(row.intent_id)
        if types and types[-1] in STEPS and types[-1] != row.event_type:
            detail = f"{row.intent_id} is pending for {row.event_type}, and its log ends with {types[-1]}"
            yield self.violation(Invariant.FLOW, detail)
        if row.lease_number is not None and row.lease_number < max(leases, default=0):
            detail = f"{row.intent_id} is pending under lease {row.lease_number}, after the leases {leases}"
            yield self.violation(Invariant.FLOW, detail)

    def _leases(self, intent_id: str) -> list[int]:
        numbers = (event.lease_number for event in self.lives.get(intent_id, ()))
        return [number for number in numbers if number is not None]

    def _heads(self) -> Iterator[Violation]:
        heads = [row.intent_id for row in self.pending.values() if row.place == "head"]
        behind = [row.intent_id for row in self.pending.values() if row.place == "behind"]
        if len(heads) > 1:
            yield self.violation(Invariant.ONE_HEAD, f"its heads are {told(heads)}")
        if behind and not heads:
            yield self.violation(Invariant.ONE_HEAD, f"no head, and behind it {told(behind)}")

    def _order(self) -> Iterator[Violation]:
        steps = (event.intent_id for event in self.events if event.type not in REQUESTED.values())
        applied = [intent_id for intent_id, _ in groupby(steps)]
        if len(applied) != len(set(applied)):
            yield self.violation(
                Invariant.LANE_ORDER, f"an intent was let in between another's steps: {told(applied)}"
            )
        begun = float("-inf")
        for intent_id in dict.fromkeys(applied):
            intent = self.intents.get(intent_id)
            if intent is None or intent.kind is Kind.REPAIR:
                continue
            if intent.span[1] < begun:
                yield self.violation(
                    Invariant.LANE_ORDER, f"{intent_id} was applied after a later one: {told(applied)}"
                )
            begun = max(begun, intent.span[0])

    def _live(self) -> Iterator[Violation]:
        if self.remembered not in self.stands:
            by_log = told(sorted(map(str, self.stands)))
            yield self.violation(
                Invariant.LIVE_STAMP, f"the lane has {self.remembered}, by its log it is {by_log}"
            )
        told_by_log = {NOT_LOOKED_AT, self.revision}
        if self.remembered is not None and self.revised not in told_by_log and not self._revision_is_pruned():
            yield self.violation(
                Invariant.REVISION, f"the lane has {self.revision}, by its log it is {self.revised}"
            )

    def _revision_is_pruned(self) -> bool:
        revision = self.revision
        return revision is not None and revision not in self.intents and self.may_be_pruned(revision)

    def violation(self, invariant: Invariant, detail: str) -> Violation:
        """A violation in this lane."""
        return Violation(invariant, self.schedule_id, detail)


def lanes_of(ledger: Ledger, ended: Collection[str] | None) -> dict[str, Lane]:
    """The lanes of a ledger, by schedule id.

    Args:
        ledger: whose lanes.
        ended: the intents that SpiceDB has marked as ended; None: not looked at.
    """
    marked = None if ended is None else frozenset(ended)
    lanes: dict[str, Lane] = {}

    def lane(schedule_id: str) -> Lane:
        return lanes.setdefault(schedule_id, Lane(schedule_id, marked, ledger.pruned_before))

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


def told(items: Collection[str]) -> str:
    """Put them into a line: a sequence in its order."""
    return ", ".join(items if isinstance(items, Sequence) else sorted(items)) or "nothing"


def _after(event: EventType) -> set[EventType | None]:
    step = STEPS.get(event)
    if step is None:
        return set()
    return {step.done, step.skipped, step.rejected, step.rejected_after_unknown}
