"""The errors of the outbox: exceptions for callers, and the closed list of codes that intents carry."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a step did not go through, as stored with events and attempts and shown to operators.

    The list is closed; ``docs/errors.md`` documents each code, and a test holds the two together.
    """

    CONFLICT_FOREIGN = "conflict_foreign"
    """The name is held by something that the outbox did not make; it was left as it is."""
    CONFLICT_LIVE = "conflict_live"
    """The name is held by the live schedule of the same lane; delete it first."""
    NOT_LIVE = "not_live"
    """There is no schedule to be updated."""
    REFUSED = "refused"
    """Temporal refuses the schedule for what it is (a bad cron, an unknown time zone, too large)."""
    REGISTRATION_REFUSED = "registration_refused"
    """SpiceDB refuses the registration for what it is."""
    MISCONFIGURED = "misconfigured"
    """The store answers, but not to us: wrong token, unknown namespace, missing definition."""
    UNREACHABLE = "unreachable"
    """No connection to the store, so that the call was not sent; or the store has none to its database."""
    OVERLOADED = "overloaded"
    """The store asks for patience; the call was not applied."""
    RACED = "raced"
    """The store changed between the effect and the look at it; not applied."""
    TIMED_OUT = "timed_out"
    """No answer within the deadline; the call may have been applied."""
    CONNECTION_LOST = "connection_lost"
    """The connection broke after the call was sent; it may have been applied."""
    LEASE_EXPIRED = "lease_expired"
    """The worker that held the step died or stalled; its call may have been applied."""
    RELEASED = "released"
    """The worker was told to stop while the step was under way; its call may have been applied."""
    UNEXPECTED = "unexpected"
    """An answer or exception that no rule covers; taken as unknown."""
    REGISTRATION_EXPIRED = "registration_expired"
    """SpiceDB answered for as long as a registration may take, and never let it through."""
    DISCARDED = "discarded"
    """An operator ended the intent."""


class OutboxError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidRequest(OutboxError, ValueError):  # noqa: N818 - the public name
    """A request that can't be enqueued; nothing was written.

    Attributes:
        field: the offending field, dotted (``principal.user_id``), or ``request`` for the whole.
        reason: what is wrong with it, in words.
        index: the place in the batch, from 0, or None for a single request.
    """

    def __init__(self, field: str, reason: str, *, index: int | None = None) -> None:
        place = "" if index is None else f"request {index}: "
        super().__init__(f"{place}{field}: {reason}")
        self.field = field
        self.reason = reason
        self.index = index


class IdempotencyConflict(OutboxError):  # noqa: N818 - the public name
    """The idempotency key was used before, for a different request.

    Attributes:
        index: the place in the batch, from 0, or None for a single request.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        place = "" if index is None else f"request {index}: "
        super().__init__(f"{place}{message}")
        self.index = index


class StoreUnusable(OutboxError):  # noqa: N818 - named for what the store is
    """A store can't be reached, or is not set up as it must be; the message names the fix.

    Attributes:
        reachable: whether it answered at all.
    """

    def __init__(self, message: str, *, reachable: bool) -> None:
        super().__init__(message)
        self.reachable = reachable
