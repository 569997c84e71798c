"""What came of one attempt at a step: a closed sum type; every answer of a store is exactly one of these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from outbox.errors import ErrorCode
from outbox.flow.table import Live


@dataclass(frozen=True, slots=True)
class Done:
    """The effect stands in the store, whoever's attempt brought it about.

    Attributes:
        zed_token: SpiceDB's consistency token of the write or the read that proved it.
        skipped: there was nothing to register, as the intent's principal has no identity.
        live: what a repair found out about the lane's live stamp; None: the flow says what becomes of it.
        through: of an update, the last intent of its run that has taken effect; None: all have.
        definition: what the schedule was defined as, where the ledger doesn't know: nobody asked for it.
        revision: of a reclaim, the update that the schedule tells to have changed it last.
    """

    zed_token: str | None = None
    skipped: bool = False
    live: Live | None = None
    through: UUID | None = None
    definition: Mapping[str, Any] | None = None
    revision: UUID | None = None


@dataclass(frozen=True, slots=True)
class Transient:
    """Provably not applied; the same step again, later.

    Attributes:
        retry_after: the seconds that the store asks for, or None for the usual backoff.
        waits: the next attempt begins when no earlier one can land any more, which could take away what that
            one makes.
    """

    code: ErrorCode
    message: str
    retry_after: float | None = None
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """May have been applied, or may yet be; the same step again, and nothing is undone until that is over.

    Attributes:
        waits: so does the next attempt: this one was taking something away on the step's way, and could take
            what that one makes.
    """

    code: ErrorCode
    message: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The store will never take this request as it is."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else's object, or the lane's own live one, holds the name."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The store can't be used as we are set up; a person must mend the settings or the store."""

    code: ErrorCode
    message: str


Failure = Transient | Unknown | Refused | Conflict | Misconfigured
Outcome = Done | Failure
