"""One seed's world: the stores, the weather, and how hard everything is."""

import random
from dataclasses import dataclass, field
from uuid import UUID

from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo

from consumers.authz.client import Tuple
from outbox.flow.table import Kind
from outbox.verify.records import Stores
from tests.simulation import swarm
from tests.simulation.ledger.tables import Event, Intent
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Fault, Weather
from tests.simulation.reach.ledger import WatchedPostgres
from tests.simulation.reach.witness import Witness
from tests.simulation.spicedb import MemorySpiceDB
from tests.simulation.swarm import Feature, Swarm
from tests.simulation.temporal import MemoryTemporal

BUSY_SECONDS = 40.0
"""How long everybody does something; afterwards the weather is calm, and all has to come to rest."""

THEIRS = Schedule(
    spec=ScheduleSpec(cron_string=["0 6 * * *"]),
    action=ScheduleAction(
        start_workflow=NewWorkflowExecutionInfo(
            workflow_type=WorkflowType(name="Theirs"), task_queue=TaskQueue(name="theirs")
        )
    ),
)
"""How every schedule is defined that was there before, or is brought back by others."""

_STEPS_TIME = 4.0
"""How long a step has, in seconds, where a call may travel for half a second; with less, calls take less."""

_OUTAGES = [Fault.UNREACHABLE, Fault.SILENT_BEFORE, Fault.OVERLOADED, Fault.DENIED, Fault.RESET_BEFORE]


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
        swarm: what happens in the seed at all.
        witness: sees what happens.
        halted: what operators have halted, until when.
        grounds: of each lane, what stood there before.
        grants: what others added to live schedules, as long as it has to stand.
        enqueued_at: and committed_at: when producers did so, for the order of lanes.
        asked: what was asked of each lane last.
        leases: of each intent, the highest lease number that was given out.
        taken: what lease each worker took of an intent last, and its deadline.
        meddling: a stranger does what happens now.
        touched: when a stranger last changed something of a lane.
        made: when the call was made that takes effect now.
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
    swarm: Swarm
    witness: Witness
    postgres: WatchedPostgres
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
    touched: dict[str, float] = field(default_factory=dict)
    made: float = 0.0
    halted: dict[str, float] = field(default_factory=dict)
    asked: dict[str, Kind] = field(default_factory=dict)
    before: Stores | None = None
    log: dict[int, Event] = field(default_factory=dict)
    known: dict[UUID, Intent] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    noted: set[str] = field(default_factory=set)
    hands: random.Random = field(default_factory=random.Random)

    def has(self, feature: Feature) -> bool:
        """Whether this happens in the seed."""
        return feature in self.swarm.features

    @property
    def tampered(self) -> bool:
        """Strangers undo and redo what the outbox made, which a repair has to mend."""
        return self.has(Feature.TAMPER)

    @property
    def beyond_bound(self) -> bool:
        """Calls may arrive beyond the late-write bound, which no rule but the repairs' covers."""
        return self.has(Feature.BEYOND_BOUND)

    def was_touched(self, name: str) -> bool:
        """Whether a stranger came to a lane while the call was under way that takes effect now."""
        return self.made <= self.touched.get(name, -1.0)

    def arrive(self, made: float) -> None:
        """A call takes effect that was made then."""
        self.made = made

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
    drawn = swarm.draw(seed)
    witness = Witness(loop.time, drawn.timing.step_timeout)
    return World(
        seed=seed,
        loop=loop,
        dice=dice,
        swarm=drawn,
        witness=witness,
        hands=random.Random(seed),
        postgres=WatchedPostgres(drawn.timing, loop.time, random.Random(seed), drawn.rates, witness),
        spicedb=MemorySpiceDB(loop.time),
        temporal=MemoryTemporal(),
        weathers={
            "postgres": _weather(dice, drawn, "postgres", hard=0.2),
            "spicedb": _weather(dice, drawn, "spicedb"),
            "temporal": _weather(dice, drawn, "temporal"),
        },
        trace=[] if traced else None,
    )


def _weather(dice: random.Random, drawn: Swarm, store: str, *, hard: float = 0.6) -> Weather:
    faults = list(drawn.faults[store])
    beyond_bound = Feature.BEYOND_BOUND in drawn.features and store != "postgres"
    outages = dice.choice([1, 1, 2]) if Feature.OUTAGE in drawn.features else 0
    return Weather(
        rate=dice.choice([hard / 4, hard / 2, hard]) if faults else 0.0,
        # Spared mostly, attempts get further.
        reads=dice.choice([0.25, 1.0]),
        faults=faults,
        outages=[_outage(dice, store) for _ in range(outages)],
        calm_at=BUSY_SECONDS,
        longest_delay=dice.choice([0.01, 0.1, 0.5]) * drawn.timing.step_timeout / _STEPS_TIME,
        late_write=drawn.timing.late_write,
        beyond_bound=0.9 * drawn.timing.verify_again if beyond_bound else 0.0,
    )


def _outage(dice: random.Random, store: str) -> tuple[float, float, Fault]:
    start = dice.uniform(0.0, BUSY_SECONDS)
    fault = dice.choice([fault for fault in _OUTAGES if fault in swarm.FAULTS[store]])
    return start, start + dice.uniform(1.0, 10.0), fault


def brief(intent: UUID) -> str:
    """The end of an id, which tells intents of one seed apart."""
    return str(intent)[-4:]
