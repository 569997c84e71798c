"""Plays a scenario in every order that may matter, and judges each ending."""

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.store.engine import open_engine
from tests.interleaving.calls import CALLED, Before
from tests.interleaving.explore import Prepare, orders
from tests.interleaving.judge import Outcome, wrong_at_once, wrong_in_the_end
from tests.interleaving.scenario import Scenario
from tests.interleaving.stage import Call, Stage, open_stage

_VACUUM_EVERY = 100
_EMPTY = """
    DELETE FROM outbox.queue; DELETE FROM outbox.publications; DELETE FROM outbox.events;
    DELETE FROM outbox.attempts; DELETE FROM outbox.failures; DELETE FROM outbox.lanes;
    DELETE FROM outbox.breakers; DELETE FROM outbox.operations; DELETE FROM outbox.intents;
    DELETE FROM outbox.halts;
    SELECT setval('outbox.last_look', 0), setval('outbox.next_look', 0), setval('outbox.placed_due', 0);
"""


@dataclass(slots=True)
class Report:
    """What came of a scenario.

    Attributes:
        orders: how many were played.
        wrong: of each order with something wrong: what, and the order.
        outcomes: how often each was come to.
        to_try_again: in how many of them some call has to be tried again.
        called: the functions that were called, of those that are called from outside.
    """

    name: str
    orders: int = 0
    wrong: list[str] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    to_try_again: int = 0
    called: set[str] = field(default_factory=set)


async def play(
    url: str, scenarios: Sequence[Scenario], *, patient: bool = True
) -> AsyncGenerator[Report, None]:
    """Play scenarios, one by one, on a database of one's own, whose functions are changed for good.

    Args:
        url: of the database.
        scenarios: what is to be played.
        patient: go on after something wrong was found.
    """
    async with open_stage(url, CALLED) as stage, open_engine(url) as engine:
        for one in scenarios:
            yield await _play(stage, engine, one, patient=patient)


async def _play(stage: Stage, engine: AsyncEngine, scenario: Scenario, *, patient: bool) -> Report:
    report = Report(scenario.name)

    begun = itertools.count()

    async def prepare() -> Sequence[Call]:
        if next(begun) % _VACUUM_EVERY == 0:
            await stage.line.execute("VACUUM outbox.queue, outbox.intents, outbox.events, outbox.lanes")
        await stage.line.execute(_EMPTY)
        return await scenario.prepare(Before(engine))

    serial = await _serial(engine, scenario, prepare)
    async for ending in orders(stage, prepare):
        report.orders += 1
        report.to_try_again += any(isinstance(one, Exception) for one in ending.results)
        report.called |= {step.place.partition(":")[0] for step in ending.order}.intersection(CALLED)
        wrong = await wrong_at_once(engine, ending.results, scenario)
        if not wrong:
            wrong, outcome = await wrong_in_the_end(engine, ending.results, scenario)
            report.outcomes[outcome] += 1
            if not wrong and scenario.serial and outcome not in serial:
                wrong = [f"one after another, it never comes to {outcome}, but to {serial}"]
        if wrong:
            report.wrong.append("\n".join([*wrong, f"in the order {ending}"]))
            if not patient:
                break
    return report


async def _serial(engine: AsyncEngine, scenario: Scenario, prepare: Prepare) -> set[Outcome]:
    """What the calls come to one after another, in any order."""
    outcomes: set[Outcome] = set()
    count = len(await prepare())
    for places in itertools.permutations(range(count)):
        calls = await prepare()
        results = []
        for place in places:
            try:
                results.append(await calls[place](engine))
            except DBAPIError as error:
                results.append(error)
        assert not await wrong_at_once(engine, results, scenario)
        wrong, outcome = await wrong_in_the_end(engine, results, scenario)
        assert not wrong, wrong
        outcomes.add(outcome)
    return outcomes
