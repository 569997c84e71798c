"""What a seed has at all: of all that may happen, about half, and each seed another half.

Swarm testing (Groce et al., ISSTA 2012): what a seed leaves out matters as much as what it has. Where all
of it happens everywhere, much is never seen, as something else gets in its way first.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer
from outbox.store.work import Timing
from tests.simulation.network import LATE, Fault


class Feature(StrEnum):
    """Something that happens in a seed, or doesn't."""

    KILL = "workers are killed"
    PAUSE = "workers are stopped for a while"
    DRAIN = "workers are told to end"
    DEFECT = "the handling of a step raises"
    OUTAGE = "a store is away for seconds"
    BEYOND_BOUND = "calls arrive beyond the late-write bound"
    DEAF = "no notification is heard"
    RATE = "stores have a rate"
    NOBODY = "principals without identity"
    BROKEN = "requests that are refused"
    ROLL_BACK = "transactions are rolled back"
    LINGER = "transactions stay open for seconds"
    DELETE = "deletes"
    UPDATE = "updates"
    REPLAY = "an operator replays"
    FORCE = "an operator replays by force"
    DISCARD = "an operator discards"
    REPAIR = "an operator asks for repairs"
    ADOPT = "an operator adopts"
    RECLAIM = "an operator reclaims"
    PRUNE = "an operator prunes"
    HALT_LANE = "an operator halts schedules"
    HALT_STORE = "an operator halts stores"
    STRANGERS = "names are held before"
    GRANT = "others get access to what lives"
    TAMPER = "strangers undo what lives, and bring back what had ended"
    NOTE = "people change schedules by hand"


_SHARE = {
    **dict.fromkeys((Feature.BEYOND_BOUND, Feature.TAMPER), 0.25),
    **dict.fromkeys((Feature.DEFECT, Feature.DEAF, Feature.RATE, Feature.HALT_STORE), 0.25),
    Feature.DELETE: 0.75,
}
"""Where rules have to look away, or less gets done in all, in fewer than half of the seeds."""

_KINDS = ("schedule", "tuples", "both", "stamped", "stamped tuples", "legacy")
"""What strangers may hold under a name: with another's stamp, or from before the outbox."""

_POSTGRES_FAULTS = (Fault.UNREACHABLE, Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.RESET_LATE)
_STORE_FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "postgres": _POSTGRES_FAULTS,
    "spicedb": _STORE_FAULTS,
    "temporal": _STORE_FAULTS,
}
"""What may go wrong on the way to each store."""


@dataclass(frozen=True)
class Swarm:
    """What one seed has.

    Attributes:
        features: what happens in it.
        faults: what goes wrong on the way to each store.
        grounds: what strangers hold under each lane's name; "free": nothing.
        workers: how many processes work at a time.
        slots: how many steps of a store each of them has under way.
        timing: of leases and late writes, in seconds.
        policy: of retries.
        rates: steps a second of each store that has a limit.
        drain_seconds: how long a worker that is told to end lets steps go on.
        pace: how often operators do something, a second.
    """

    features: frozenset[Feature]
    faults: Mapping[str, tuple[Fault, ...]]
    grounds: tuple[str, ...]
    workers: int
    slots: int
    timing: Timing
    policy: RetryPolicy
    rates: Mapping[Consumer, float]
    drain_seconds: float
    pace: float


def draw(seed: int) -> Swarm:
    """Draw what a seed has, by dice of its own."""
    dice = random.Random(f"swarm {seed}")
    features = frozenset(one for one in Feature if dice.random() < _SHARE.get(one, 0.5))
    timeout = dice.choice([1.5, 4.0, 4.0])
    limited = [Consumer.AUTHZ, Consumer.TEMPORAL] if Feature.RATE in features else []
    return Swarm(
        features=features,
        faults={store: _some(dice, faults) for store, faults in FAULTS.items()},
        grounds=tuple(_ground(dice, features) for _ in range(dice.choice([1, 2, 2, 3]))),
        workers=dice.choice([1, 2, 2, 3]),
        slots=dice.choice([1, 3]),
        timing=Timing(
            lease=timeout * dice.choice([1.0, 1.5]),
            step_timeout=timeout,
            late_write=dice.choice([3.0, 10.0, 10.0]),
            verify_again=12.0,
        ),
        policy=RetryPolicy(
            base_seconds=0.2,
            cap_seconds=dice.choice([1.0, 4.0]),
            max_strikes=dice.choice([1, 2, 5]),
            registration_seconds=dice.choice([4.0, 15.0]),
        ),
        rates={one: dice.choice([1.0, 5.0]) for one in limited},
        drain_seconds=dice.choice([0.5, 2.0]),
        pace=dice.choice([0.15, 0.6]),
    )


def _ground(dice: random.Random, features: frozenset[Feature]) -> str:
    """What there is to be adopted or reclaimed is there where somebody may do so."""
    kinds = [
        *(_KINDS if Feature.STRANGERS in features else ()),
        *(["legacy"] * 3 if Feature.ADOPT in features else ()),
        *(["stamped"] * 3 if Feature.RECLAIM in features else ()),
    ]
    return "free" if not kinds or dice.random() < 0.6 else dice.choice(kinds)


def _some(dice: random.Random, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """A few kinds mostly, each then often: each has its own way to break things.

    What arrives late, and what is refused meanwhile, breaks most: some seeds have that alone, or more often.
    """
    share = dice.choice([0.15, 0.3, 0.6])
    some = tuple(fault for fault in faults if dice.random() < share)
    late = tuple(fault for fault in (*LATE, Fault.REFUSED) if fault in faults)
    return dice.choice([some, some + late * 2, late])
