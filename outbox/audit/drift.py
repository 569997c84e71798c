"""What a comparison of the stores finds: drifts, each with what brings it right."""

from dataclasses import dataclass, field
from enum import StrEnum


class DriftKind(StrEnum):
    """How a store differs from the ledger."""

    ORPHAN_TUPLE = "orphan_tuple"
    """Relationships of ours without a schedule of ours."""
    MISSING_TUPLE = "missing_tuple"
    """A live schedule that lacks part of its registration."""
    MISSING_SCHEDULE = "missing_schedule"
    """A live schedule that Temporal doesn't have."""
    ORPHAN_SCHEDULE = "orphan_schedule"
    """A schedule of ours that should be gone."""
    WRONG_STAMP = "wrong_stamp"
    """In Temporal, somebody else's schedule has the name of a live one."""
    WRONG_REVISION = "wrong_revision"
    """A live schedule is defined by another update than the one that changed it last."""
    WRONG_OWNER = "wrong_owner"
    """An owner that the ledger doesn't know as the present one."""
    FINISHED = "finished"
    """A live schedule that ran out by itself; Temporal removed it, and its registration is left."""
    LEGACY = "legacy"
    """A schedule and its relationships from before the outbox; deleting or adopting it works."""
    FORGOTTEN = "forgotten"
    """A schedule of this outbox, whole in both stores, that the ledger doesn't know: it was lost, or is older
    than they are."""
    DELETED = "deleted"
    """A schedule that is live in the ledger and was deleted, as SpiceDB tells: the ledger is older."""
    FOREIGN = "foreign"
    """Something that the outbox did not make."""


class Fix(StrEnum):
    """What brings a drift right."""

    REPAIR = "outbox audit --repair, with a worker running"
    CLEAN_UP = "outbox audit --repair frees the name and ends its owner's access; so does a delete"
    DELETE = (
        "delete the schedule: it was adopted before the outbox kept what it adopts, so it can't make it again"
    )
    ADOPT = "outbox audit --adopt --yes takes it into the ledger; a delete removes it, adopted or not"
    RECLAIM = "outbox audit --reclaim --yes takes it into the ledger again"
    RECLAIM_BY_NAME = (
        "if it is this outbox's, which nothing tells: outbox audit --reclaim --yes --schedule with its id"
    )
    FREE_SCHEDULE = "delete the schedule in Temporal by hand, then outbox audit --repair"
    FREE_TUPLES = "delete the relationships in SpiceDB by hand, then outbox audit --repair"
    REMOVE_OWNER = "remove the owner in SpiceDB by hand: the outbox can't tell who added it"
    ADD_OWNER = (
        "add an owner in SpiceDB by hand: the outbox did not register it, and doesn't know whose it is"
    )
    NONE = "none by the outbox: it never touches what it did not make"


_REPAIRED = frozenset({Fix.REPAIR, Fix.CLEAN_UP})
_BY_ACTION = dict.fromkeys(_REPAIRED, "repair") | {Fix.ADOPT: "adopt"}
_TAKEN_IN_AGAIN = frozenset({Fix.RECLAIM, Fix.RECLAIM_BY_NAME})
_NO_FAILURES = frozenset({DriftKind.FINISHED, DriftKind.LEGACY, DriftKind.FOREIGN})


def mended_by(fix: str) -> str | None:
    """What a person asks for to have it: ``repair`` or ``adopt``; None: neither does it."""
    return _BY_ACTION.get(Fix(fix)) if fix in set(Fix) else None


def is_ours(kind: str) -> bool:
    """Whether a drift of that kind is a failure of ours, rather than its natural end or somebody else's."""
    return kind not in _NO_FAILURES


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference.

    Attributes:
        detail: what is there or not, in words.
    """

    schedule_id: str
    kind: DriftKind
    detail: str
    fix: Fix

    @property
    def is_ours(self) -> bool:
        """Whether it is a failure of ours, rather than its natural end or something of somebody else's."""
        return is_ours(self.kind)

    @property
    def is_repaired(self) -> bool:
        """Whether a repair mends it."""
        return self.fix in _REPAIRED

    @property
    def is_reclaimed(self) -> bool:
        """Whether a reclaim takes it into the ledger again."""
        return self.fix in _TAKEN_IN_AGAIN


@dataclass(frozen=True, slots=True)
class Busy:
    """A lane that can't be judged yet: it has intents that have not ended."""

    schedule_id: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison found, all at once.

    Attributes:
        busy: schedule ids of lanes that could not be judged yet.
        lanes: how many lanes were compared, the busy ones included.
        live: in how many of them a create (or adoption) stands.
    """

    drifts: list[Drift] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    lanes: int = 0
    live: int = 0

    @property
    def agrees(self) -> bool:
        """Whether nothing of ours is wrong, in the lanes that could be judged."""
        return not any(drift.is_ours for drift in self.drifts)
