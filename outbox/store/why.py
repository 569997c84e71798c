"""Why a lane waits, in one line, for whoever is on call."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outbox.store.blockers import Blocker
    from outbox.store.halts import Halt

STORES = {"authz": "SpiceDB", "temporal": "Temporal", "both": "SpiceDB or Temporal"}
_EFFECTS = {
    "schedule.create.requested": "the registration",
    "schedule.registered": "the Temporal create",
    "schedule.registration_skipped": "the Temporal create",
    "schedule.compensation_requested": "the compensation",
    "schedule.update.requested": "the Temporal update",
    "schedule.delete.requested": "the Temporal delete",
    "schedule.unscheduled": "the deregistration",
    "schedule.repair.requested": "the repair",
}


def waits_because(head: Mapping[str, Any], behind: int, blocker: "Blocker | None" = None) -> str:
    """Say why a lane's head (a row of ``ReadStore.head``) has not ended yet."""
    halt: Halt | None = head["halt"]
    if halt is not None and head["state"] not in {"leased", "parked"}:
        effect = _EFFECTS[head["event_type"]]
        reason = f"{halt.told}, then {effect}; to end that: {halt.way_out}"
    else:
        reason = _reason(head)
    if blocker is not None:
        # First, as what the row says may be so because nothing could be written since.
        reason = f"{blocker.what} ({blocker.fix}); {reason}"
    return f"{reason}; {behind} more behind it" if behind else reason


def _reason(head: Mapping[str, Any]) -> str:
    store = STORES[head["consumer"]]
    effect = _EFFECTS[head["event_type"]]
    attempt = f"attempt {head['attempts']}"
    now: datetime = head["now"]
    if head["place"] == "deferred":
        # Not the lane's head: whatever else comes goes first.
        due = _seconds(head["due_at"], now)
        return f"nothing holds it; a look for late writes of an attempt that got no answer is due in {due}"
    waits = head["due_at"] is not None and head["due_at"] > now
    match head["state"]:
        case "parked":
            reason = (
                f"{effect} is parked after {attempt} ({head['error_code']}: {head['error_message']}), "
                f"failing since {_clock(head['failing_since'])}, tried last at {_clock(head['tried_at'])}; "
                "it needs a person"
            )
        case "dispatched" if waits:
            reason = (
                f"{effect} is on its way to a worker over Kafka; dispatched again in "
                f"{_seconds(head['due_at'], now)} if none takes it: is one running?"
            )
        case "dispatched":
            reason = f"no worker took {effect} in time; the relay dispatches it again: is one running?"
        case "leased" if waits:
            reason = f"a worker is at {effect}, {attempt}, for {_seconds(head['due_at'], now)} more at most"
        case "leased":
            reason = f"the worker at {effect} died or stalled in {attempt}; another takes over"
        case "holding" if waits:
            reason = (
                f"holding {_seconds(head['due_at'], now)} more for a late write of an attempt "
                f"that got no answer, then {effect}"
            )
        case _ if head["breaker_code"] is not None:
            reason = (
                f"{store} {head['breaker_code']} since {_clock(head['breaker_since'])} "
                f"({head['breaker_message']}), next probe in {_seconds(head['probe_at'], now)}"
            )
        case "waiting" if waits:
            reason = (
                f"{store} {head['error_code']} since {_clock(head['failing_since'])} "
                f"({head['error_message']}), {attempt}, next try in {_seconds(head['due_at'], now)}"
            )
        case _:
            reason = f"ready for {effect} since {_clock(head['due_at'])}: is a worker running?"
    return reason


def _seconds(at: datetime, now: datetime) -> str:
    return f"{max(0.0, (at - now).total_seconds()):.0f} s"


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")
