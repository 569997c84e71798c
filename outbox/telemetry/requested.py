"""When an intent was requested, as its id tells."""

from uuid import UUID


def requested_at(intent_id: UUID) -> float:
    """Seconds since 1970: a UUIDv7 begins with the time at which it was drawn."""
    return (intent_id.int >> 80) / 1000
