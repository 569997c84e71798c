"""The invariants of what both stores hold of one lane in which nothing is under way. Pure."""

from collections.abc import Iterator

from outbox.flow.table import EventType
from outbox.verify.invariants import Invariant, Violation
from outbox.verify.lane import Lane, told
from outbox.verify.records import NOT_LOOKED_AT, STAMP, Held, registration

_OWNER = "owner@"


def store_violations(lane: Lane, found: Held, *, kept: Held, granted: frozenset[str]) -> Iterator[Violation]:
    """What must hold of the stores, by the lane's log, and does not.

    Args:
        lane: with the marks of ended intents, if they are to be judged.
        found: what the stores hold under its name.
        kept: what others hold there, and must hold still.
        granted: relationships that others may have given what is live.
    """
    yield from _schedule(lane, found, kept)
    yield from _tuples(lane, found, kept, granted)
    yield from _marks(lane)


def of_others(lane: Lane, found: Held) -> tuple[Held, frozenset[str]]:
    """What of it is others', where nobody knows what they held before: ``kept`` and ``granted``.

    The outbox's own is told by its stamps and, as nobody else may own what it has registered, by the owners:
    of what is live, any; else those whom the lane's intents had registered, unless another stamp says that it
    is somebody else's.
    """
    schedule, live = found.schedule, lane.live
    is_theirs = schedule is not None and live is None and schedule.stamp not in lane.intents
    stamps = {word.removeprefix(STAMP) for word in found.tuples if word.startswith(STAMP)}
    ours = stamps & lane.intents.keys()
    if live is not None and live.owner is not None and not live.adopts:
        owners = {word for word in found.tuples if word.startswith(_OWNER)}
    elif stamps and not ours:
        owners = set()
    else:
        registered = (one for one in lane.intents.values() if EventType.REGISTERED in lane.types(one.id))
        owners = {f"{_OWNER}{one.owner}" for one in registered if one.owner is not None}
    own = owners | {f"{STAMP}{stamp}" for stamp in ours}
    if ours and live is None:
        # A registration stands whole, or not at all.
        own |= found.tuples
    return Held(schedule=schedule if is_theirs else None), found.tuples - own


def _schedule(lane: Lane, found: Held, kept: Held) -> Iterator[Violation]:
    live, schedule = lane.live, found.schedule
    if kept.schedule is not None:
        if schedule != kept.schedule:
            yield lane.violation(Invariant.FOREIGN, f"Temporal had {kept.schedule}, and has {schedule}")
    elif live is None:
        if schedule is not None:
            yield lane.violation(Invariant.SCHEDULE, f"nothing is live, and Temporal has {schedule}")
    elif schedule is None:
        if not live.ran_out:
            yield lane.violation(Invariant.SCHEDULE, f"{live.id} is live, and Temporal has nothing")
    elif schedule.stamp != live.id and not (live.adopts and schedule.stamp is None):
        yield lane.violation(Invariant.SCHEDULE, f"{live.id} is live, and Temporal has {schedule}")
    elif schedule.revision not in {NOT_LOOKED_AT, lane.revision}:
        detail = f"Temporal tells {schedule.revision} as the revision, the lane {lane.revision}"
        yield lane.violation(Invariant.REVISION, detail)
    elif None not in {live.runs, schedule.runs} and live.runs != schedule.runs and not lane.runs_else:
        yield lane.violation(Invariant.SCHEDULE, f"{live.id} starts {schedule.runs}, not {live.runs}")


def _tuples(lane: Lane, found: Held, kept: Held, granted: frozenset[str]) -> Iterator[Violation]:
    live, wanted = lane.live, kept.tuples | granted
    if live is not None:
        skipped = EventType.REGISTRATION_SKIPPED in lane.types(live.id)
        wanted |= frozenset() if skipped else registration(live)
        if live.adopts and not kept.tuples:
            # Whose it was before is not known.
            wanted |= {word for word in found.tuples if not word.startswith(STAMP)}
    if found.tuples != wanted:
        invariant = Invariant.FOREIGN if kept.tuples else Invariant.TUPLES
        detail = f"SpiceDB has {told(found.tuples)}, it should have {told(wanted)}"
        yield lane.violation(invariant, detail)


def _marks(lane: Lane) -> Iterator[Violation]:
    if lane.ended is None:
        return
    if lane.live is not None and lane.live.id in lane.ended:
        yield lane.violation(Invariant.ENDED_MARK, f"the live {lane.live.id} is marked as ended")
    for intent_id in sorted(lane.undone - lane.ended):
        yield lane.violation(Invariant.ENDED_MARK, f"{intent_id} was undone without being marked as ended")
