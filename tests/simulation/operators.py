"""Operators of a seed: they replay, discard, repair, adopt, reclaim, prune, halt, at any time."""

import asyncio
import random
from collections.abc import Callable
from uuid import UUID

from consumers.temporal.described import request_of
from outbox.flow.table import Consumer, Kind, Status
from tests.simulation.swarm import Feature
from tests.simulation.world import BUSY_SECONDS, THEIRS, World, brief

_ASTRAY = 0.2
"""How often an operator takes any intent, whatever became of it."""


async def operate(world: World) -> None:
    """Do one thing after the other, of those that this seed has."""
    acts = [act for feature, act in _ACTS.items() if world.has(feature)]
    while acts and world.loop.time() < BUSY_SECONDS:
        await asyncio.sleep(world.dice.expovariate(world.swarm.pace))
        world.dice.choice(acts)(world)


async def take_over(world: World) -> None:
    """What is from before the outbox, or of a lost ledger, is mostly taken into this one, sooner or later."""
    for name, ground in sorted(world.grounds.items()):
        await asyncio.sleep(world.dice.uniform(0.0, BUSY_SECONDS / 2 / len(world.grounds)))
        if world.has(Feature.ADOPT) and ground.legacy:
            _adopt_one(world, name)
        elif world.has(Feature.RECLAIM) and ground.stamp:
            _reclaim_one(world, name, ground.stamp)


def attend(world: World) -> None:
    """Deal with one intent that is parked, so that the rest of its lane goes on."""
    if parked := _those(world, Status.PARKED):
        gives_up, intent = world.dice.random() < 0.3, world.dice.choice(parked)
        # What others have undone is mended by repairs alone: whoever gives one up leaves it undone.
        mends = world.tampered and world.postgres.intents[intent].kind is Kind.REPAIR
        (_discard if gives_up and not mends else _replay)(world, intent)


def _those(world: World, *wanted: Status) -> list[UUID]:
    return [intent for intent, status in world.postgres.statuses().items() if status in wanted]


def _choose(world: World, *wanted: Status) -> UUID | None:
    """Mostly one that asks for it; now and then any."""
    everything = list(world.postgres.intents)
    astray = world.dice.random() < _ASTRAY
    chosen = everything if astray else _those(world, *wanted)
    return world.dice.choice(chosen) if chosen else None


def _replay_one(world: World) -> None:
    if intent := _choose(world, Status.PARKED, Status.FAILED):
        _replay(world, intent)


def _force_one(world: World) -> None:
    if intent := _choose(world, Status.PARKED, Status.FAILED):
        _replay(world, intent, forced=True)


def _discard_one(world: World) -> None:
    if intent := _choose(world, Status.PARKED):
        _discard(world, intent)


def _replay(world: World, intent: UUID, *, forced: bool = False) -> None:
    told = world.postgres.replay(intent, forced=forced)
    world.record(f"an operator replays {brief(intent)}{' by force' if forced else ''}: {told}")


def _discard(world: World, intent: UUID) -> None:
    told = world.postgres.discard(intent, "no longer wanted")
    world.record(f"an operator discards {brief(intent)}: {told}")


def _repair(world: World) -> None:
    name = world.dice.choice(sorted(world.grounds))
    world.record(f"an operator has {name} repaired")
    world.postgres.request_repair(name)


def _adopt(world: World) -> None:
    """What is nobody's to adopt is asked for, too, save what a stranger goes on to hold."""
    names = [
        name
        for name, ground in sorted(world.grounds.items())
        if ground.legacy or not (ground.tuples or ground.scheduled)
    ]
    if names:
        _adopt_one(world, world.dice.choice(names))


def _adopt_one(world: World, name: str) -> None:
    world.record(f"an operator has {name} adopted")
    world.postgres.request_repair(name, adopting=True)


def _prune(world: World) -> None:
    if world.beyond_bound or world.tampered:
        # What comes back after its intent was pruned is nobody's any more.
        return
    world.keep_log()
    older_than = world.loop.time() - world.dice.uniform(0.0, 10.0)
    gone = world.postgres.prune(older_than, set(world.postgres.intents))
    world.postgres.prune_lanes(older_than)
    world.record(f"an operator prunes {gone}")


def _reclaim(world: World) -> None:
    stamped = [(name, ground.stamp) for name, ground in sorted(world.grounds.items()) if ground.stamp]
    if stamped:
        _reclaim_one(world, *world.dice.choice(stamped))


def _reclaim_one(world: World, name: str, stamp: str) -> None:
    """What carries a stamp that nobody knows is taken for a lost ledger's, whole or not."""
    world.record(f"an operator has {name} reclaimed")
    world.postgres.request_reclaim(name, UUID(stamp), request_of(name, THEIRS), {"user_id": "mallory"})


_ACTS: dict[Feature, Callable[[World], None]] = {
    Feature.REPLAY: _replay_one,
    Feature.FORCE: _force_one,
    Feature.DISCARD: _discard_one,
    Feature.REPAIR: _repair,
    Feature.ADOPT: _adopt,
    Feature.PRUNE: _prune,
    Feature.RECLAIM: _reclaim,
}


async def halt(world: World) -> None:
    """Stores and schedules are halted and released again, or for a while; or told to be so when they are."""
    dice = random.Random(world.seed)
    stores = [Consumer.AUTHZ.value, Consumer.TEMPORAL.value] if world.has(Feature.HALT_STORE) else []
    lanes = sorted(world.grounds) if world.has(Feature.HALT_LANE) else []
    targets = stores + lanes
    while targets and world.loop.time() < BUSY_SECONDS:
        await asyncio.sleep(dice.expovariate(0.4))
        what = dice.choice(targets)
        if (what in world.postgres.halts) != (dice.random() < _ASTRAY):
            _release(world, what)
            continue
        until = world.loop.time() + dice.uniform(1.0, 10.0) if dice.random() < 0.5 else float("inf")
        told = world.postgres.hold(what, until=until)
        world.record(f"an operator halts {what} until {until:.3f}: {told}")
        if told == "held":
            world.halted[what] = until
    for what in list(world.postgres.halts):
        _release(world, what)


def _release(world: World, what: str) -> None:
    world.halted.pop(what, None)
    world.record(f"an operator releases {what}: {world.postgres.release(what)}")
