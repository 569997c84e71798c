"""Runs one seed: everybody does something for a while, then all has to come to rest, and is judged."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from tests.simulation import actors, operators, rules
from tests.simulation.lagging import lag
from tests.simulation.loop import Killed, SimulatedLoop, Stuck
from tests.simulation.reach.cells import Cell
from tests.simulation.world import BUSY_SECONDS, World, make

_REST_SECONDS = 2000.0
"""Where a repair's calls take about as long as a step has, most repairs are followed by another: 1459473."""


@dataclass(frozen=True)
class Result:
    """What came of a seed.

    Attributes:
        steps: how many callbacks ran; of the same seed, always as many.
        cells: what happened in it, and how often.
    """

    seed: int
    violations: list[str]
    trace: list[str]
    steps: int
    digest: int
    cells: Counter[Cell]


def run_seed(seed: int, *, traced: bool = False) -> Result:
    """Run one seed from start to end."""
    loop = SimulatedLoop(seed)
    world = make(seed, loop, traced=traced)
    loop.set_exception_handler(lambda _, context: _unexpected(world, context))
    with _quiet():
        try:
            loop.run_until_complete(_live(world))
        except Stuck as stuck:
            world.violate(str(stuck))
        finally:
            loop.close()
    digest = hash((loop.steps, round(loop.time(), 6), len(world.postgres.events)))
    return Result(seed, world.violations, world.trace or [], loop.steps, digest, world.witness.cells())


async def _live(world: World) -> None:
    for feature in sorted(world.swarm.features):
        world.record(f"this seed has: {feature}")
    actors.settle_grounds(world)
    rules.watch(world)
    workers = actors.Workers(world)
    with workers.defect():
        await _work(world, workers)
    rules.judge(world)


async def _work(world: World, workers: actors.Workers) -> None:
    running = [asyncio.create_task(workers.run(place)) for place in range(world.swarm.workers)]
    await asyncio.gather(
        actors.produce(world),
        actors.update(world),
        actors.grant(world),
        lag(world),
        actors.meddle(world),
        operators.take_over(world),
        operators.operate(world),
        operators.halt(world),
        workers.trouble(),
    )
    await _rest(world)
    if world.tampered:
        actors.meddle_at_rest(world)
        # What `outbox audit --repair` asks for.
        for name in sorted(world.grounds):
            world.postgres.request_repair(name)
        await _rest(world)
    await workers.stop()
    await asyncio.gather(*running)


async def _rest(world: World) -> None:
    """Wait until nothing is left to do, attending to what is parked; then all has to agree."""
    until = max(BUSY_SECONDS, world.loop.time()) + _REST_SECONDS
    while world.loop.time() < until:
        await asyncio.sleep(2.0)
        rows = list(world.postgres.queue.values())
        if not rows:
            return
        if all(row.state == "parked" or row.place == "behind" for row in rows):
            operators.attend(world)
    left = [f"{row.event_type.value} {row.place} {row.state}" for row in world.postgres.queue.values()]
    world.violate(f"does not come to rest: {left}")


def _unexpected(world: World, context: dict[str, object]) -> None:
    error = context.get("exception")
    if not isinstance(error, Killed):
        world.violate(f"{context['message']}: {error!r}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nobody reads the workers' log lines here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
