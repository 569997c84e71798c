"""What a producer gets back: the intent that it enqueued, and what became of it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from outbox.flow.table import Status


@dataclass(frozen=True, slots=True)
class Intent:
    """One request, as enqueued.

    Attributes:
        id: a UUIDv7; the stamp that the intent's effects carry in SpiceDB and Temporal.
        schedule_id: ``{agent_id}--{name}``: the schedule's id, its authz object's id and its lane.
        kind: ``create`` or ``delete``.
        created_at: when it was first enqueued, by the database's clock.
    """

    id: UUID
    schedule_id: str
    kind: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IntentError:
    """Why an intent failed or is parked.

    Attributes:
        code: a value of ``outbox.ErrorCode``.
        message: the store's answer, in words.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class IntentResult:
    """Where an intent stands.

    Attributes:
        status: ``succeeded`` and ``failed`` are final; ``parked`` needs an operator.
        event_type: the terminal event, or the event whose step is pending.
        error: for a failed or parked intent.
        zed_token: SpiceDB's consistency token of the latest write, so that a reader can see it.
    """

    status: Status
    event_type: str
    error: IntentError | None = None
    zed_token: str | None = None
