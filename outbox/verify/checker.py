"""The invariants, checked: from a ledger and a snapshot of both stores to a list of what is broken. Pure.

For a moment at which nothing is under way: every intent has ended or stands behind a parked one, and the
repairs that were due have run. The log alone says what must be in the stores; what others hold must be as it
was.
"""

from collections.abc import Collection, Iterable, Mapping

from outbox.verify.invariants import Invariant, Violation
from outbox.verify.lane import Lane, lanes_of
from outbox.verify.records import STAMP, Held, Ledger, Stores
from outbox.verify.stores import store_violations


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
    lanes = lanes_of(ledger, stores.ended)
    known = {intent.id for intent in ledger.intents}
    found = [
        Violation(Invariant.NOT_LOST, "", f"intent {one} was committed and is not there")
        for one in sorted(set(committed) - known)
    ]
    held = before or Stores()
    for name in sorted({*lanes, *held.relationships, *held.schedules}):
        lane = lanes.get(name) or Lane(name)
        found += lane.log_violations()
        found += lane.unsettled()
        # A parked head may have left half of its work in the stores, and keeps the rest of its lane waiting.
        if not lane.is_parked:
            given = (granted or {}).get(lane.live.id, ()) if lane.live else ()
            found += store_violations(
                lane, _of(stores, name), kept=_kept(lane, _of(held, name)), granted=frozenset(given)
            )
    return found


def _of(stores: Stores, name: str) -> Held:
    return Held(stores.relationships.get(name, frozenset()), stores.schedules.get(name))


def _kept(lane: Lane, before: Held) -> Held:
    """What others had and must have still.

    What carries a stamp of the lane is the outbox's own: it was reclaimed. What carries none goes with a
    delete, and the schedule of an adopted one is changed by updates.
    """
    schedule, tuples = before.schedule, before.tuples
    is_adopted = lane.live is not None and lane.live.adopts
    if schedule is not None and (
        is_adopted or schedule.stamp in lane.intents or _was_taken(lane, schedule.stamp is None)
    ):
        schedule = None
    stamps = {word.removeprefix(STAMP) for word in tuples if word.startswith(STAMP)}
    if not stamps.isdisjoint(lane.intents) or _was_taken(lane, not stamps):
        tuples = frozenset()
    return Held(tuples, schedule)


def _was_taken(lane: Lane, unstamped: bool) -> bool:  # noqa: FBT001 - a word for what it asks
    return unstamped and lane.took_unstamped
