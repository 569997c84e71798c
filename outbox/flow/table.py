"""The flow: which event asks which effect of whom, and which event follows. The code runs from this table.

The database's CHECK constraints and ``docs/states.md`` say the same; a test holds the three together.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an intent asks for."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    REPAIR = "repair"


class EventType(StrEnum):
    """The lines of the event log."""

    CREATE_REQUESTED = "schedule.create.requested"
    UPDATE_REQUESTED = "schedule.update.requested"
    DELETE_REQUESTED = "schedule.delete.requested"
    REPAIR_REQUESTED = "schedule.repair.requested"
    REGISTERED = "schedule.registered"
    REGISTRATION_SKIPPED = "schedule.registration_skipped"
    COMPENSATION_REQUESTED = "schedule.compensation_requested"
    UNSCHEDULED = "schedule.unscheduled"
    CREATED = "schedule.created"
    CREATE_FAILED = "schedule.create_failed"
    UPDATED = "schedule.updated"
    UPDATE_FAILED = "schedule.update_failed"
    DELETED = "schedule.deleted"
    DELETE_FAILED = "schedule.delete_failed"
    REPAIRED = "schedule.repaired"


class Consumer(StrEnum):
    """Who applies a step."""

    AUTHZ = "authz"
    TEMPORAL = "temporal"
    BOTH = "both"


class Effect(StrEnum):
    """What a step does to its store."""

    REGISTER = "register"
    CREATE = "create"
    UPDATE = "update"
    COMPENSATE = "compensate"
    DELETE = "delete"
    DEREGISTER = "deregister"
    REPAIR = "repair"


class Status(StrEnum):
    """Where an intent stands, as its producer sees it."""

    PENDING = "pending"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Live(StrEnum):
    """What a terminal event does to the lane's live stamp, and to the definition of what is live."""

    KEEP = "keep"
    SET = "set"
    CLEAR = "clear"
    REVISE = "revise"
    """The stamp stays; its definition is changed by what the intent asked for, which is its revision now."""
    RECLAIM = "reclaim"
    """The stamp that the intent names stands again; only a repair that was asked to reclaim it says so."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the flow: the effect that an event asks for, and what follows from its outcome.

    Attributes:
        rejected: the event after a refusal or conflict; None: it can't fail, only converge or park.
        rejected_after_unknown: the same where an earlier attempt of the intent may have taken effect.
    """

    consumer: Consumer
    effect: Effect
    done: EventType
    skipped: EventType | None = None
    rejected: EventType | None = None
    rejected_after_unknown: EventType | None = None

    @property
    def undoes(self) -> bool:
        """Whether the effect takes something away: it waits until no unknown attempt can land any more."""
        return self.effect in {Effect.COMPENSATE, Effect.DELETE, Effect.DEREGISTER}


@dataclass(frozen=True, slots=True)
class Terminal:
    """How an intent ends."""

    status: Status
    live: Live = Live.KEEP


STEPS: dict[EventType, Step] = {
    EventType.CREATE_REQUESTED: Step(
        Consumer.AUTHZ,
        Effect.REGISTER,
        done=EventType.REGISTERED,
        skipped=EventType.REGISTRATION_SKIPPED,
        rejected=EventType.CREATE_FAILED,
        rejected_after_unknown=EventType.COMPENSATION_REQUESTED,
    ),
    EventType.REGISTERED: Step(
        Consumer.TEMPORAL,
        Effect.CREATE,
        done=EventType.CREATED,
        rejected=EventType.COMPENSATION_REQUESTED,
        rejected_after_unknown=EventType.COMPENSATION_REQUESTED,
    ),
    EventType.REGISTRATION_SKIPPED: Step(
        Consumer.TEMPORAL,
        Effect.CREATE,
        done=EventType.CREATED,
        rejected=EventType.CREATE_FAILED,
        rejected_after_unknown=EventType.CREATE_FAILED,
    ),
    EventType.COMPENSATION_REQUESTED: Step(Consumer.AUTHZ, Effect.COMPENSATE, done=EventType.CREATE_FAILED),
    EventType.UPDATE_REQUESTED: Step(
        Consumer.TEMPORAL,
        Effect.UPDATE,
        done=EventType.UPDATED,
        rejected=EventType.UPDATE_FAILED,
        rejected_after_unknown=EventType.UPDATE_FAILED,
    ),
    EventType.DELETE_REQUESTED: Step(
        Consumer.TEMPORAL,
        Effect.DELETE,
        done=EventType.UNSCHEDULED,
        rejected=EventType.DELETE_FAILED,
        rejected_after_unknown=EventType.DELETE_FAILED,
    ),
    EventType.UNSCHEDULED: Step(Consumer.AUTHZ, Effect.DEREGISTER, done=EventType.DELETED),
    EventType.REPAIR_REQUESTED: Step(Consumer.BOTH, Effect.REPAIR, done=EventType.REPAIRED),
}

TERMINALS: dict[EventType, Terminal] = {
    EventType.CREATED: Terminal(Status.SUCCEEDED, Live.SET),
    EventType.CREATE_FAILED: Terminal(Status.FAILED),
    EventType.UPDATED: Terminal(Status.SUCCEEDED, Live.REVISE),
    EventType.UPDATE_FAILED: Terminal(Status.FAILED),
    EventType.DELETED: Terminal(Status.SUCCEEDED, Live.CLEAR),
    EventType.DELETE_FAILED: Terminal(Status.FAILED),
    EventType.REPAIRED: Terminal(Status.SUCCEEDED),
}

REQUESTED: dict[Kind, EventType] = {
    Kind.CREATE: EventType.CREATE_REQUESTED,
    Kind.UPDATE: EventType.UPDATE_REQUESTED,
    Kind.DELETE: EventType.DELETE_REQUESTED,
    Kind.REPAIR: EventType.REPAIR_REQUESTED,
}
