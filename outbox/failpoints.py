"""Named points in a worker's work where a test can make things go wrong. Inert unless armed.

``outbox.testing`` arms them; what happens at a point is up to whoever armed it. Passing one that is not armed
costs a look into an empty dictionary.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

Trap = Callable[[], Awaitable[None]]

STEP_POINTS: Mapping[str, str] = MappingProxyType(
    {
        "take.after": "steps have been leased to the worker, and it has begun none of them",
        "apply.before": "a step is about to be applied",
        "apply.after": "a step has its outcome, which nobody knows of yet",
        "spicedb.before": "a call to SpiceDB is about to be sent",
        "spicedb.after": "SpiceDB has answered a call",
        "temporal.before": "a call to Temporal is about to be sent",
        "temporal.after": "Temporal has answered a call",
        "decide.before": "a step's outcome is about to be turned into its settlement",
        "settle.before": "a batch of outcomes is about to be settled",
        "settle.after": "a batch of outcomes has been settled, and the worker does not know yet",
    }
)
"""Those that a step passes, in that order, and what is so there."""

BESIDE_POINTS: Mapping[str, str] = MappingProxyType(
    {
        "notifier.before": "the notifier is about to listen",
        "audit.before": "the continuous audit is about to take a turn",
        "publisher.before": "the publisher is about to take a batch of events in hand",
    }
)
"""Those that what runs beside the loop passes again and again."""

POINTS: Mapping[str, str] = MappingProxyType({**STEP_POINTS, **BESIDE_POINTS})
"""All of them."""

_armed: dict[str, Trap] = {}


async def reach(point: str) -> None:
    """Pass a point; if it is armed, do what it is armed with first."""
    if _armed and (trap := _armed.get(point)) is not None:
        await trap()


def arm(point: str, trap: Trap) -> None:
    """Arm a point, in place of what it was armed with.

    Raises:
        ValueError: there is no such point.
    """
    if point not in POINTS:
        raise ValueError(f"there is no failpoint {point}: {', '.join(POINTS)}")
    _armed[point] = trap


def disarm(point: str) -> None:
    """Make a point inert again."""
    _armed.pop(point, None)
