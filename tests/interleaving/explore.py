"""Every order of the steps of some calls that may matter: depth first, each played from the start.

Of orders that differ by steps alone which have nothing to do with each other, one is played (sleep sets:
Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.interleaving.stage import Call, Stage, Step

Prepare = Callable[[], Awaitable[Sequence[Call]]]


@dataclass(frozen=True, slots=True)
class Ending:
    """One order, played to its end.

    Attributes:
        order: the steps.
        results: what each call returned, or raised.
    """

    order: Sequence[Step]
    results: Sequence[Any]

    def __str__(self) -> str:
        return " ".join(f"{step.session}.{step.place}" for step in self.order)


@dataclass(slots=True)
class _Choice:
    """Who goes on.

    Attributes:
        open: what could be done next.
        asleep: of that, what leads only to orders that were played already.
        tried: what was done here; the last of it is under way.
        wakes: somebody waits for a lock, who may go on by what is done here.
    """

    open: Sequence[Step]
    asleep: Sequence[Step]
    tried: list[Step]
    wakes: bool

    def others(self) -> list[Step]:
        """What is still to be tried."""
        return [one for one in self.open if one not in self.asleep and one not in self.tried]

    def following(self) -> list[Step]:
        """What is asleep after what is under way."""
        if self.wakes:
            return []
        step = self.tried[-1]
        return [one for one in (*self.asleep, *self.tried[:-1]) if not one.meets(step)]


async def orders(stage: Stage, prepare: Prepare) -> AsyncIterator[Ending]:
    """Play each order that may matter.

    Args:
        stage: with as many sessions as there are calls, or more.
        prepare: brings the database to where it all begins, alike each time, and returns the calls.
    """
    path: list[_Choice] = []
    while True:
        ending = await _played(stage, await prepare(), path)
        if ending is not None:
            yield ending
        while path and not path[-1].others():
            path.pop()
        if not path:
            return
        path[-1].tried.append(path[-1].others()[0])


async def _played(stage: Stage, calls: Sequence[Call], path: list[_Choice]) -> Ending | None:
    """Repeat what was chosen, then choose; None: that leads only to orders that were played already."""
    await stage.begin(calls)
    order: list[Step] = []
    asleep: list[Step] = []
    fresh = True
    while (scene := await stage.stopped()).steps:
        if len(order) == len(path) and fresh:
            awake = [one for one in scene.steps if one not in asleep]
            fresh = bool(awake)
            if fresh:
                path.append(_Choice(scene.steps, asleep, awake[:1], wakes=scene.waiting))
        # What was played already is only brought to its end.
        step = path[len(order)].tried[-1] if len(order) < len(path) else scene.steps[0]
        if step not in scene.steps:
            raise RuntimeError(f"{step} can't be repeated: there is {scene.steps}")
        if len(order) < len(path):
            asleep = path[len(order)].following()
        order.append(step)
        await stage.go_on(step)
    results = await stage.end()
    return Ending(order, results) if fresh else None
