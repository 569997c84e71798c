"""One seed's world: the stores, the weather, and how hard everything is."""

import random
from dataclasses import dataclass, field
from uuid import UUID

from consumers.authz.client import Tuple
from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Kind
from outbox.store.work import Timing
from outbox.testing.records import Stores
from tests.simulation.ledger.postgres import MemoryPostgres
from tests.simulation.ledger.tables import Event, Intent
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import LATE, Fault, Weather
from tests.simulation.spicedb import MemorySpiceDB
from tests.simulation.temporal import MemoryTemporal

TIMING = Timing(lease=6.0, step_timeout=4.0, late_write=10.0, verify_again=12.0)
POLICY = RetryPolicy(base_seconds=0.2, cap_seconds=4.0, max_strikes=3, registration_seconds=15.0)
BUSY_SECONDS = 30.0
"""How long everybody does something; afterwards the weather is calm, and all has to come to rest."""

_STORE_FAULTS: list[Fault] = [fault for fault in Fault if fault is not Fault.NONE]
_POSTGRES_FAULTS = [Fault.UNREACHABLE, Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.RESET_LATE]

_OUTAGES = [Fault.UNREACHABLE, Fault.SILENT_BEFORE, Fault.DENIED, Fault.RESET_BEFORE]


@dataclass
class Ground:
    """What stood under a lane's name before the outbox came: none of it ever changes, save a legacy
    deleted, and what was reclaimed.

    Attributes:
        stamp: of another ledger; the outbox's own once it was reclaimed.
        reclaimable: that ledger's schedule is whole, and has not ended.
        legacy: it may be deleted, as a whole, by a delete of the lane.
    """

    tuples: set[Tuple] = field(default_factory=set)
    stamp: str | None = None
    scheduled: bool = False
    reclaimable: bool = False
    legacy: bool = False


@dataclass
class World:
    """What everybody shares.

    Attributes:
        defective: now and then the handling of a step raises; its worker has to end.
        tampered: strangers undo and redo what the outbox made, which a repair has to mend.
        beyond_bound: calls may arrive beyond the late-write bound, which no rule but the repairs' covers.
        halting: operators halt stores and schedules now and then; halted: until when.
        grounds: of each lane, what stood there before.
        grants: what others added to live schedules, as long as it has to stand.
        enqueued_at: and committed_at: when producers did so, for the order of lanes.
        asked: what was asked of each lane last.
        leases: of each intent, the highest lease number that was given out.
        taken: what lease each worker took of an intent last, and its deadline.
        meddling: a stranger does what happens now.
        before: what the stores held before the outbox came.
        log: all events, and known: all intents, whatever retention has dropped since.
        violations: what went against a rule.
        noted: on which schedules people noted something in Temporal itself.
        hands: the dice of such people.
        trace: gathers the readable history; None: nobody reads it.
    """

    seed: int
    loop: SimulatedLoop
    dice: random.Random
    beyond_bound: bool
    tampered: bool
    defective: bool
    halting: bool
    updating: bool
    postgres: MemoryPostgres
    spicedb: MemorySpiceDB
    temporal: MemoryTemporal
    weathers: dict[str, Weather]
    trace: list[str] | None = None
    grounds: dict[str, Ground] = field(default_factory=dict)
    grants: set[Tuple] = field(default_factory=set)
    enqueued_at: dict[UUID, float] = field(default_factory=dict)
    committed_at: dict[UUID, float] = field(default_factory=dict)
    leases: dict[UUID, int] = field(default_factory=dict)
    taken: dict[tuple[str, UUID], tuple[int, float]] = field(default_factory=dict)
    meddling: bool = False
    halted: dict[str, float] = field(default_factory=dict)
    asked: dict[str, Kind] = field(default_factory=dict)
    before: Stores | None = None
    log: dict[int, Event] = field(default_factory=dict)
    known: dict[UUID, Intent] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    noted: set[str] = field(default_factory=set)
    hands: random.Random = field(default_factory=random.Random)

    def record(self, line: str) -> None:
        """Write a line of the history, if somebody reads it."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.time():9.3f}  {line}")

    def keep_log(self) -> None:
        """Take up what the ledger has recorded, before retention drops any of it."""
        self.known |= self.postgres.intents
        self.log |= {id(event): event for event in self.postgres.events}

    def violate(self, line: str) -> None:
        """Note that a rule was broken."""
        self.record(f"VIOLATION {line}")
        self.violations.append(f"at {self.loop.time():.3f}: {line}")


def make(seed: int, loop: SimulatedLoop, *, traced: bool) -> World:
    """Draw a world from a seed."""
    dice = random.Random(seed)
    beyond_bound = dice.random() < 0.15
    return World(
        seed=seed,
        loop=loop,
        dice=dice,
        beyond_bound=beyond_bound,
        tampered=dice.random() < 0.3,
        # Not from the dice: the other seeds stay as they are.
        defective=seed % 5 == 0,
        halting=seed % 4 == 1,
        updating=seed % 3 == 2,
        hands=random.Random(seed),
        postgres=MemoryPostgres(TIMING, loop.time, random.Random(seed)),
        spicedb=MemorySpiceDB(),
        temporal=MemoryTemporal(),
        weathers={
            "postgres": _weather(dice, _POSTGRES_FAULTS, hard=0.05),
            "spicedb": _weather(dice, _STORE_FAULTS, beyond_bound=beyond_bound),
            "temporal": _weather(dice, _STORE_FAULTS, beyond_bound=beyond_bound),
        },
        trace=[] if traced else None,
    )


def _weather(
    dice: random.Random, faults: list[Fault], *, hard: float = 0.6, beyond_bound: bool = False
) -> Weather:
    """Most seeds know a few kinds of faults only, and much of them: each has its own way to break things."""
    few = dice.sample(faults, dice.choice([1, 2, 3, len(faults)]))
    late = [fault for fault in (*LATE, Fault.REFUSED) if fault in faults]
    return Weather(
        rate=dice.choice([0.0, hard / 4, hard / 2, hard]),
        faults=dice.choice([few, few + late * 2, late]),
        outages=[_outage(dice, faults) for _ in range(dice.choice([0, 0, 1, 1, 2]))],
        calm_at=BUSY_SECONDS,
        longest_delay=dice.choice([0.01, 0.1, 0.5]),
        late_write=TIMING.late_write,
        beyond_bound=0.9 * TIMING.verify_again if beyond_bound else 0.0,
    )


def _outage(dice: random.Random, faults: list[Fault]) -> tuple[float, float, Fault]:
    start = dice.uniform(0.0, BUSY_SECONDS)
    fault = dice.choice([fault for fault in _OUTAGES if fault in faults])
    return start, start + dice.uniform(1.0, 6.0), fault
