"""Every order of the steps of some calls that may matter: depth first, each played from the start.

Of orders that differ by steps alone which have nothing to do with each other, one is played. Where two steps
of an order have, and nothing says already which of them comes first, the other way round is played, too:
source sets with sleep sets (Abdulla, Aronis, Jonsson, Sagonas: Optimal Dynamic Partial Order Reduction, 2014;
the first algorithm).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.interleaving.footprint import Footprint
from tests.interleaving.stage import Call, Scene, Step

Prepare = Callable[[], Awaitable[Sequence[Call]]]


class Sessions(Protocol):
    """Who begins calls, and goes on with them one step at a time; a ``Stage``, mostly."""

    async def begin(self, calls: Sequence[Call]) -> Scene:
        """Begin them; nobody takes a step."""

    async def go_on(self, step: Step) -> Scene:
        """Take a step."""

    async def end(self) -> list[Any]:
        """What the calls returned, or raised."""


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
        return " ".join(map(str, self.order))


@dataclass(slots=True)
class _Choice:
    """Who goes on.

    Attributes:
        session: the one that is being tried.
        asleep: those who lead only to orders that were played already, by what they do.
        wanted: those who are to be tried.
        tried: those who were, by what they did.
    """

    session: int
    asleep: Mapping[int, Footprint]
    wanted: set[int]
    tried: dict[int, Footprint] = field(default_factory=dict)

    def following(self, step: Step) -> dict[int, Footprint]:
        """Who is asleep after this step."""
        if step.freed:
            return {}
        passed = {**self.asleep, **self.tried}
        return {one: theirs for one, theirs in passed.items() if not theirs.meets(step.footprint)}

    def try_another(self) -> bool:
        """Go on to the next one; False: all were tried."""
        rest = self.wanted - self.tried.keys() - self.asleep.keys()
        self.session = min(rest, default=self.session)
        return bool(rest)


async def orders(stage: Sessions, prepare: Prepare) -> AsyncIterator[Ending]:
    """Play each order that may matter.

    Args:
        stage: with as many sessions as there are calls, or more.
        prepare: brings the database to where it all begins, alike each time, and returns the calls.
    """
    path: list[_Choice] = []
    while True:
        steps, is_whole = await _played(stage, await stage.begin(await prepare()), path)
        results = await stage.end()
        if is_whole:
            yield Ending(steps, results)
        for sooner, session in _reversals(steps):
            if path[sooner].wanted.isdisjoint(session):
                path[sooner].wanted.add(session[0])
        path[-1].tried[path[-1].session] = steps[len(path) - 1].footprint
        while not path[-1].try_another():
            path.pop()
            if not path:
                return
            path[-1].tried[path[-1].session] = steps[len(path) - 1].footprint


async def _played(stage: Sessions, scene: Scene, path: list[_Choice]) -> tuple[list[Step], bool]:
    """Repeat what was chosen, then choose.

    Returns:
        The steps, and whether they are all; else the rest leads only to orders that were played already.
    """
    steps: list[Step] = []
    asleep: Mapping[int, Footprint] = {}
    while scene.steps:
        could = {step.session: step for step in scene.steps}
        if len(steps) == len(path):
            awake = [session for session in could if session not in asleep]
            if not awake:
                break
            last = steps[-1].session if steps else awake[0]
            session = last if last in awake else awake[0]
            path.append(_Choice(session, asleep, {session}))
        choice = path[len(steps)]
        if choice.session not in could:
            raise RuntimeError(f"{choice.session} can't go on after {steps}: there is {scene.steps}")
        steps.append(could[choice.session])
        scene = await stage.go_on(steps[-1])
        asleep = choice.following(steps[-1])
    is_whole = not scene.steps
    while scene.steps:
        scene = await stage.go_on(scene.steps[0])
    return steps, is_whole


def _reversals(steps: Sequence[Step]) -> Iterator[tuple[int, list[int]]]:
    """Where another session might have gone on, so that two steps that meet come the other way round.

    Yields:
        Before which step, and which sessions would do.
    """
    before: list[frozenset[int]] = []
    for later, step in enumerate(steps):
        known: frozenset[int] = frozenset()
        for sooner in reversed(range(later)):
            if sooner in known:
                continue
            other = steps[sooner]
            is_freed = step.session in other.freed and _is_next(steps, sooner, later)
            if other.session != step.session and not is_freed:
                if not other.footprint.meets(step.footprint):
                    continue
                apart = [one for one in range(sooner + 1, later) if sooner not in before[one]]
                yield sooner, _beginnings(steps, [*apart, later], [*before, known])
            known |= {sooner} | before[sooner]
        before.append(known)


def _is_next(steps: Sequence[Step], sooner: int, later: int) -> bool:
    """Whether a step is the first of its session after another one."""
    return all(one.session != steps[later].session for one in steps[sooner + 1 : later])


def _beginnings(steps: Sequence[Step], these: Sequence[int], before: Sequence[frozenset[int]]) -> list[int]:
    """The sessions with which an order of these steps may begin; the last one's first, if it may."""
    found = []
    seen: set[int] = set()
    for number in these:
        session = steps[number].session
        if session not in seen and before[number].isdisjoint(these):
            found.append(session)
        seen.add(session)
    last = steps[these[-1]].session
    return [last, *found] if last in found else found
