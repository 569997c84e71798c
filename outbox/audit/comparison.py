"""Whether the three stores agree on one schedule: a pure comparison of ledger, SpiceDB and Temporal.

What is ours is told by stamp: a stamp of an intent of the lane. What carries no stamp of ours is listed and
left alone (rule 2); a lane that has unsettled intents can't be judged yet.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from outbox.audit.drift import Drift, DriftKind, Fix

# As ``outbox.producer.requests`` takes them: what else there is, no delete could name.
_STAMP = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SCHEDULE_ID = re.compile(r"[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*--[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Registration:
    """What the live intent wrote to SpiceDB.

    Attributes:
        required: its relationships, as ``relation@type:id``.
        owner: the one owner, as ``type:id``; None: not known (the intent is an adoption, or is gone).
    """

    required: frozenset[str]
    owner: str | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as the ledger has it.

    Attributes:
        live_intent: the stamp of the create (or adoption) that stands, if one does.
        adopted: it is an adoption's: the schedule in Temporal carries no stamp, unless it was made again.
        defined: the ledger can make it again.
        registration: None where nothing stands, or its registration was skipped.
        former_owners: whom ended intents of the lane had registered, as ``type:id``.
        revision: the update that changed what is live last, if one did.
        ran_out: the live schedule's own end has passed.
        busy: it has intents that have not ended.
    """

    schedule_id: str
    live_intent: str | None = None
    adopted: bool = False
    registration: Registration | None = None
    former_owners: frozenset[str] = frozenset()
    revision: str | None = None
    ran_out: bool = False
    busy: bool = False
    defined: bool = True

    def has(self, schedule: "Scheduled | None") -> bool:
        """Whether it is the lane's live schedule, by its stamp."""
        if schedule is None or self.live_intent is None:
            return False
        return schedule.stamp == self.live_intent or (self.adopted and schedule.stamp is None)


@dataclass(frozen=True)
class Holding:
    """What SpiceDB holds on one schedule: relationships, as ``relation@type:id``."""

    relationships: frozenset[str] = frozenset()

    @cached_property
    def owners(self) -> frozenset[str]:
        """The subjects of its owner relationships, as ``type:id``."""
        return self._subjects("owner@")

    @cached_property
    def stamps(self) -> frozenset[str]:
        """The intents that it was registered by."""
        return self._subjects("registered_by@outbox_intent:")

    def _subjects(self, prefix: str) -> frozenset[str]:
        return frozenset(one.removeprefix(prefix) for one in self.relationships if one.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule that Temporal has, its stamp, and the outbox that it names (None: it carries none).

    Attributes:
        revision: the update that it tells to have changed it last (None: none).
        looked_at: it was read by itself; lists don't tell the revision.
    """

    stamp: str | None
    instance: str | None = field(default=None, compare=False)
    revision: str | None = field(default=None, compare=False)
    looked_at: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the two stores hold under one name; nothing, by default."""

    holding: Holding = Holding()
    schedule: Scheduled | None = None

    @property
    def stamps(self) -> frozenset[str]:
        """Every stamp that either store has."""
        stamp = self.schedule.stamp if self.schedule else None
        return self.holding.stamps | ({stamp} if stamp is not None else set())


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the stamps that were observed.

    Attributes:
        instance: which outbox this is.
        lane_of: the schedule id of each that is one of our intents; the live one may lack.
        ended: those that SpiceDB has marked as ended, the live one included; empty: not looked at.
    """

    instance: str
    lane_of: Mapping[str, str] = field(default_factory=dict)
    ended: Collection[str] = frozenset()


def compare(lane: Lane, observed: Observed, known: Known) -> Iterator[Drift]:
    """Compare one lane that is not busy with what the stores hold under its name.

    Args:
        lane: as the ledger has it; of a name that the ledger doesn't know, an empty one.
        observed: what the stores hold.
        known: of the stamps.
    """
    forgotten = _forgotten(lane, observed, known)
    if forgotten is not None:
        yield forgotten
        return
    if lane.live_intent in known.ended:
        detail = f"intent {lane.live_intent} is live, and marked as ended in SpiceDB"
        yield Drift(lane.schedule_id, DriftKind.DELETED, detail, Fix.CLEAN_UP)
        return
    if _is_legacy(lane, observed):
        detail = "in SpiceDB and Temporal, without a stamp"
        yield Drift(lane.schedule_id, DriftKind.LEGACY, detail, Fix.ADOPT)
        return
    ours = {stamp for stamp in observed.stamps if known.lane_of.get(stamp) == lane.schedule_id}
    if lane.registration:
        yield from _registered(lane, lane.registration, observed.holding, ours)
    else:
        yield from _unregistered(lane, observed.holding)
    yield from _stamps(lane, observed.holding, ours)
    if lane.live_intent is not None:
        yield from _live(lane, lane.live_intent, observed.schedule, ours)
    elif observed.schedule is not None:
        yield _unexpected(lane, observed.schedule, ours)


def _forgotten(lane: Lane, observed: Observed, known: Known) -> Drift | None:
    """What is whole in both stores under one stamp that the ledger doesn't know, and no other outbox's."""
    schedule, holding = observed.schedule, observed.holding
    stamp = schedule.stamp if schedule else None
    if schedule is None or stamp is None or holding.stamps != {stamp} or len(holding.owners) != 1:
        return None
    if stamp in known.lane_of or stamp == lane.live_intent or stamp in known.ended:
        return None
    if not (_STAMP.fullmatch(stamp) and _SCHEDULE_ID.fullmatch(lane.schedule_id)):
        return None
    where = f"in SpiceDB and Temporal, with the stamp {stamp}"
    if schedule.instance == known.instance:
        detail = f"{where} of this outbox, which the ledger doesn't know"
        return Drift(lane.schedule_id, DriftKind.FORGOTTEN, detail, Fix.RECLAIM)
    if schedule.instance is None:
        detail = f"{where} of some outbox"
        return Drift(lane.schedule_id, DriftKind.FOREIGN, detail, Fix.RECLAIM_BY_NAME)
    return None


def _is_legacy(lane: Lane, observed: Observed) -> bool:
    holding = observed.holding
    return (
        lane.live_intent is None
        and observed.schedule == Scheduled(None)
        and bool(holding.owners)
        and not holding.stamps
        and not holding.owners & lane.former_owners
        and _SCHEDULE_ID.fullmatch(lane.schedule_id) is not None
    )


def _registered(lane: Lane, registration: Registration, holding: Holding, ours: set[str]) -> Iterator[Drift]:
    name = lane.schedule_id
    missing = registration.required - holding.relationships
    if missing:
        yield Drift(name, DriftKind.MISSING_TUPLE, f"lacks {_list(missing)}", _refill(lane, holding, ours))
    elif lane.adopted and not holding.owners:
        yield Drift(name, DriftKind.MISSING_TUPLE, "adopted, and lacks an owner", Fix.ADD_OWNER)
    others = holding.owners - {registration.owner}
    if registration.owner is not None and others:
        detail = f"owned by {_list(others)} instead of {registration.owner} alone"
        # What replaces the registration of an ended intent removes its owner, too.
        replaced = len(holding.stamps) == 1 and holding.stamps <= ours - {lane.live_intent}
        yield Drift(name, DriftKind.WRONG_OWNER, detail, Fix.REPAIR if replaced else Fix.REMOVE_OWNER)


def _refill(lane: Lane, holding: Holding, ours: set[str]) -> Fix:
    """What restores a registration: a repair, unless somebody else's relationships are in its way."""
    if lane.adopted and not holding.owners:
        return Fix.DELETE
    free = not holding.relationships or (lane.adopted and not holding.stamps)
    if free or (len(holding.stamps) == 1 and holding.stamps <= ours | {lane.live_intent}):
        return Fix.REPAIR
    return Fix.FREE_TUPLES


def _unregistered(lane: Lane, holding: Holding) -> Iterator[Drift]:
    if holding.stamps:
        return
    former = holding.owners & lane.former_owners
    if former:
        detail = f"the former owner {_list(former)} still owns it"
        yield Drift(lane.schedule_id, DriftKind.WRONG_OWNER, detail, Fix.REMOVE_OWNER)
    elif holding.relationships:
        detail = f"in SpiceDB, without a stamp: {_list(holding.relationships)}"
        yield Drift(lane.schedule_id, DriftKind.FOREIGN, detail, Fix.NONE)


def _stamps(lane: Lane, holding: Holding, ours: set[str]) -> Iterator[Drift]:
    for stamp in sorted(holding.stamps - {lane.live_intent}):
        if stamp in ours:
            detail = f"relationships of intent {stamp}, which is not live"
            fix = Fix.REPAIR if len(holding.stamps) == 1 else Fix.FREE_TUPLES
            yield Drift(lane.schedule_id, DriftKind.ORPHAN_TUPLE, detail, fix)
        else:
            detail = f"in SpiceDB, with the stamp {stamp}, not of this lane"
            yield Drift(lane.schedule_id, DriftKind.FOREIGN, detail, Fix.NONE)


def _live(lane: Lane, live: str, schedule: Scheduled | None, ours: set[str]) -> Iterator[Drift]:
    name = lane.schedule_id
    if schedule is not None and lane.has(schedule):
        yield from _revision(lane, schedule)
        return
    if lane.ran_out and (schedule is None or schedule.stamp not in ours):
        yield Drift(name, DriftKind.FINISHED, f"intent {live} has run out", Fix.CLEAN_UP)
    elif schedule is None or schedule.stamp in ours:
        detail = f"intent {live} is live; Temporal has no such schedule"
        yield Drift(name, DriftKind.MISSING_SCHEDULE, detail, Fix.REPAIR if lane.defined else Fix.DELETE)
    else:
        detail = f"intent {live} is live; in Temporal, a schedule {_whose(schedule)} has its name"
        yield Drift(name, DriftKind.WRONG_STAMP, detail, Fix.FREE_SCHEDULE)
        return
    if schedule is not None:
        yield _unexpected(lane, schedule, ours)


def _revision(lane: Lane, schedule: Scheduled) -> Iterator[Drift]:
    """A late update wrote another definition, or a hand took away what tells the revision."""
    if schedule.looked_at and schedule.revision != lane.revision:
        detail = f"it tells {schedule.revision or 'no update'} as its revision, not {lane.revision or 'none'}"
        yield Drift(
            lane.schedule_id, DriftKind.WRONG_REVISION, detail, Fix.REPAIR if lane.defined else Fix.NONE
        )


def _unexpected(lane: Lane, schedule: Scheduled, ours: set[str]) -> Drift:
    if schedule.stamp in ours:
        detail = f"in Temporal, of intent {schedule.stamp}, which has ended"
        return Drift(lane.schedule_id, DriftKind.ORPHAN_SCHEDULE, detail, Fix.REPAIR)
    return Drift(lane.schedule_id, DriftKind.FOREIGN, f"in Temporal, {_whose(schedule)}", Fix.NONE)


def _whose(schedule: Scheduled) -> str:
    if schedule.stamp is None:
        return "without a stamp"
    of = f" of outbox {schedule.instance}" if schedule.instance is not None else ""
    return f"with the stamp {schedule.stamp}{of}, not of this lane"


def _list(items: Iterable[str]) -> str:
    return ", ".join(sorted(items))
