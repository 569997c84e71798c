"""How the outbox's own objects look in SpiceDB: relationships that it writes, and how to find them."""

from dataclasses import dataclass

from consumers.authz.client import Match, Tuple
from consumers.authz.names import ENDED, INTENT, REGISTERED_BY, SCHEDULE


@dataclass(frozen=True, slots=True)
class Holding:
    """What a schedule's object holds."""

    tuples: frozenset[Tuple]
    zed_token: str | None

    @property
    def stamps(self) -> list[str]:
        """The intents that it was registered by: none, or one, unless somebody else wrote there."""
        return sorted(t.subject_id for t in self.tuples if t.relation == REGISTERED_BY)


def stamp_of(schedule_id: str, intent_id: str) -> Tuple:
    """Write down that an intent registered the schedule."""
    return Tuple(SCHEDULE, schedule_id, REGISTERED_BY, INTENT, intent_id)


def mark_of(intent_id: str) -> Tuple:
    """Write down that an intent has ended: nothing of it is registered any more."""
    return Tuple(INTENT, intent_id, ENDED, INTENT, intent_id)


def object_of(schedule_id: str) -> Match:
    """Find all relationships of a schedule."""
    return Match(SCHEDULE, schedule_id)


def any_stamp(schedule_id: str) -> Match:
    """Find a schedule's stamps."""
    return Match(SCHEDULE, schedule_id, REGISTERED_BY)


def stamped(schedule_id: str, intent_id: str) -> Match:
    """Find one stamp of a schedule."""
    return Match(SCHEDULE, schedule_id, REGISTERED_BY, INTENT, intent_id)


def ended(intent_id: str) -> Match:
    """Find the mark of an intent that has ended."""
    return Match(INTENT, intent_id, ENDED)


def nothing_of(intent_id: str) -> Match:
    """Find what nobody ever writes: a mark of the intent in another's name."""
    return Match(INTENT, intent_id, ENDED, INTENT, "nobody")


def only(one: Tuple) -> Match:
    """Find this one relationship."""
    return Match(one.resource_type, one.resource_id, one.relation, one.subject_type, one.subject_id)
