"""Who does something in a seed, save operators: producers, workers that die and stall, strangers."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import Memo

from consumers.authz.client import Tuple
from consumers.authz.names import AGENT, ENDED, INTENT, OWNER, PARENT_AGENT, REGISTERED_BY, SCHEDULE, USER
from consumers.temporal.request import stamp_memo
from outbox.failpoints import reach
from outbox.flow.table import Consumer, Kind
from outbox.supervision import keep_running
from outbox.testing import FailpointError, armed
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.source import DirectSource
from tests.simulation.client_side import (
    OURS,
    SimulatedStore,
    effects,
    postgres_failure,
    spicedb_failure,
    temporal_failure,
)
from tests.simulation.ledger.tables import Entry, Intent
from tests.simulation.loop import Process, current_process
from tests.simulation.network import Fault, Network
from tests.simulation.rules import LeaseRules, keep_as_it_is
from tests.simulation.swarm import Feature
from tests.simulation.temporal import Standing
from tests.simulation.world import BUSY_SECONDS, THEIRS, Ground, World, brief

_USERS = ["alice", "bob", "carol"]
_THEIRS = str(UUID(int=2))
_GOOD = {"workflow_name": "Run", "task_queue": "agents", "interval_seconds": 60}
_BROKEN = {"workflow_name": "Run", "task_queue": "agents", "cron_expression": "not a cron"}
_CHANGES: list[dict[str, Any]] = [
    {"interval_seconds": 5},
    {"cron_expression": "0 9 * * *", "timezone": "Europe/Berlin"},
    {"paused": True, "note": "out of office"},
    {"paused": False},
    {"workflow_params": {"day": 1}},
    {"workflow_args": ["a", 1]},
    {"timezone": None, "note": None},
]
_TROUBLES = (Feature.KILL, Feature.PAUSE, Feature.DRAIN)
_BAD_CHANGES: list[dict[str, Any]] = [{"cron_expression": "not a cron"}]


# Strangers.


def settle_grounds(world: World) -> None:
    """Let some names be taken before the outbox comes: by strangers, or by schedules from before it."""
    for number, kind in enumerate(world.swarm.grounds):
        name = f"a{number}--s"
        ground = Ground(legacy=kind == "legacy")
        if kind.startswith("stamped"):
            ground.stamp = str(UUID(int=world.dice.getrandbits(128)))
        if kind in {"tuples", "both", "stamped", "stamped tuples", "legacy"}:
            ground.tuples = {Tuple(SCHEDULE, name, OWNER, USER, "mallory")}
            if ground.stamp or world.dice.random() < 0.7:
                ground.tuples.add(Tuple(SCHEDULE, name, PARENT_AGENT, AGENT, f"a{number}"))
            if ground.stamp:
                ground.tuples.add(Tuple(SCHEDULE, name, REGISTERED_BY, INTENT, ground.stamp))
            if ground.stamp and world.dice.random() < 0.3:
                world.spicedb.change({Tuple(INTENT, ground.stamp, ENDED, INTENT, ground.stamp)})
            elif kind == "stamped":
                ground.reclaimable = True
            world.spicedb.change(ground.tuples)
        if kind in {"schedule", "both", "stamped", "legacy"}:
            ground.scheduled = True
            memo = stamp_memo(ground.stamp, _THEIRS) if ground.stamp else Memo()
            world.temporal.put(name, Standing(f"stranger-{number}", memo, THEIRS))
        world.grounds[name] = ground
        world.record(f"{name} is {kind}")


async def grant(world: World) -> None:
    """Others get access to schedules that live, as the platform's users give it."""
    while world.has(Feature.GRANT) and world.loop.time() < BUSY_SECONDS:
        await asyncio.sleep(world.dice.expovariate(0.1))
        name = world.dice.choice(sorted(world.grounds))
        live = world.postgres.live_intent(name)
        stamp = Tuple(SCHEDULE, name, REGISTERED_BY, INTENT, str(live))
        if live is not None and stamp in world.spicedb.tuples:
            reader = Tuple(SCHEDULE, name, "reader", USER, world.dice.choice(["rita", "rob"]))
            world.grants.add(reader)
            world.spicedb.change({reader})
            world.record(f"somebody lets {reader.subject_id} read {name}")


async def meddle(world: World) -> None:
    """Undo what lives, and bring back what had ended, as restored backups and hands at the stores do."""
    while world.tampered and world.loop.time() < BUSY_SECONDS:
        await asyncio.sleep(world.dice.expovariate(1.0))
        name = world.dice.choice(sorted(world.grounds))
        replaced = _meddle_with(world, name)
        if replaced and world.has(Feature.UPDATE) and world.hands.random() < 0.5:
            # Of which nobody knows who changes it now.
            await _ask_for_updates(world, name, world.hands)


def meddle_at_rest(world: World) -> None:
    """The same once more with every lane, as nothing is under way."""
    for name in sorted(world.grounds):
        _meddle_with(world, name)


def _meddle_with(world: World, name: str) -> bool:
    """Whether another one stands where one lived.

    Only while nothing of the lane is under way: nobody could tell such hands from the outbox's own.
    """
    rows = [row for row in world.postgres.queue.values() if row.schedule_id == name]
    ground = world.grounds[name]
    if ground.tuples or ground.scheduled or any(row.place != "deferred" for row in rows):
        return False
    live = world.postgres.live_intent(name)
    ended = [one.id for one in world.postgres.lane(name) if one.kind is Kind.CREATE and one.id != live]
    choice = world.dice.random()
    replaced = False
    world.meddling = True
    if live is not None and choice < 0.7:
        _undo(world, name, choice)
        replaced = choice < 0.3 and _replace(world, name, live, ended)
    elif live is None and ended and name not in world.temporal.schedules:
        _bring_back(world, name, world.dice.choice(ended))
    world.meddling = False
    return replaced


def _undo(world: World, name: str, choice: float) -> None:
    world.record(f"somebody undoes {name}")
    if choice < 0.45 and name in world.temporal.schedules:
        world.temporal.put(name, None)
    if choice > 0.3:
        world.spicedb.change(removed=world.spicedb.of(SCHEDULE, name))
    if 0.4 < choice < 0.5:
        # As a newer ledger has it, which was lost; with it, perhaps, what Temporal had.
        live = str(world.postgres.live_intent(name))
        world.spicedb.change({Tuple(INTENT, live, ENDED, INTENT, live)})


def _replace(world: World, name: str, live: UUID, ended: list[UUID]) -> bool:
    """Put something else where a live schedule was, mostly; whether it carries another stamp."""
    ways = ["nothing"]
    if ended:
        ways.append("an ended one")
    if world.postgres.lanes[name].revision is not None:
        ways.append("an older one")
    if not world.beyond_bound:
        ways.append("a stranger's")  # which a late call would hit
    way = world.hands.choice(ways)
    if way == "an ended one":
        _bring_back(world, name, world.hands.choice(ended))
    elif way == "an older one":
        _bring_back(world, name, live)
    elif way == "a stranger's":
        _take(world, name)
    return way in {"an ended one", "a stranger's"}


def _bring_back(world: World, name: str, stamp: UUID) -> None:
    """As Temporal's backup has it: what has ended, or what no update had changed yet."""
    world.record(f"somebody brings {brief(stamp)} back to {name}")
    world.temporal.put(name, Standing(f"{stamp}:1", stamp_memo(str(stamp), str(OURS)), THEIRS))


def _take(world: World, name: str) -> None:
    """Let another platform have the name."""
    ground = world.grounds[name]
    ground.stamp, ground.scheduled = str(UUID(int=world.hands.getrandbits(128))), True
    world.record(f"somebody takes {name}")
    world.temporal.put(name, Standing("stranger", stamp_memo(ground.stamp, _THEIRS), THEIRS))
    keep_as_it_is(world, name)


# Producers.


async def produce(world: World) -> None:
    """Transactions that begin, ask for something, and commit or not, side by side."""
    many = world.dice.randint(6, 24)
    await asyncio.gather(*(_transaction(world) for _ in range(many)))


async def _transaction(world: World) -> None:
    dice = world.dice
    await asyncio.sleep(dice.uniform(0.0, BUSY_SECONDS * 0.5))
    intents: list[Intent] = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        entry = _entry(world)
        if entry is None:
            continue
        intent = world.postgres.enqueue(entry)
        world.enqueued_at[intent.id] = world.loop.time()
        intents.append(intent)
        world.record(f"a producer asks: {intent.kind.value} {intent.schedule_id} {brief(intent.id)}")
        if world.has(Feature.LINGER) and dice.random() < 0.5:
            await asyncio.sleep(dice.uniform(0.0, 3.0))
    if world.has(Feature.ROLL_BACK) and dice.random() < 0.2:
        world.record(f"rolled back: {', '.join(brief(intent.id) for intent in intents)}")
        return
    for intent in intents:
        world.committed_at[intent.id] = world.loop.time()
    world.postgres.commit(intents)
    world.record(f"committed: {', '.join(brief(intent.id) for intent in intents)}")


def _entry(world: World) -> Entry | None:
    dice = world.dice
    name = dice.choice(sorted(world.grounds))
    ground = world.grounds[name]
    # Without a stamp, what a stranger made is a legacy to a delete: such names are only asked for.
    may_delete = ground.legacy or ground.stamp or not (ground.tuples or ground.scheduled)
    # Mostly in turns, so that schedules live and go; what is held, or stays, is seldom asked for again.
    lives = world.postgres.live_intent(name) is not None
    is_asked = lives or (world.asked.get(name) is Kind.CREATE and not ground.legacy)
    is_held = not (lives or ground.legacy) and bool(ground.tuples or ground.scheduled)
    if (is_held or (is_asked and not world.has(Feature.DELETE))) and dice.random() < 0.7:
        return None
    if world.has(Feature.DELETE) and may_delete and dice.random() < (0.85 if is_asked else 0.1):
        world.asked[name] = Kind.DELETE
        return Entry(name, Kind.DELETE)
    world.asked[name] = Kind.CREATE
    nobody = world.has(Feature.NOBODY) and dice.random() < 0.35
    creator = {} if nobody else {"user_id": dice.choice(_USERS)}
    request = _BROKEN if world.has(Feature.BROKEN) and dice.random() < 0.2 else _GOOD
    agent, _, own = name.partition("--")
    return Entry(name, Kind.CREATE, {"agent_id": agent, "name": own, **request}, creator)


async def update(world: World) -> None:
    """What is live (or soon will be, or was) is changed, also by several updates in a row."""
    dice = random.Random(world.seed)
    if world.has(Feature.NOTE):
        world.temporal.on_describe = lambda name: _write_by_hand(world, name)
    while world.has(Feature.UPDATE) and world.loop.time() < BUSY_SECONDS * 0.5:
        await asyncio.sleep(dice.expovariate(0.4))
        lives = [name for name in sorted(world.grounds) if world.postgres.live_intent(name)]
        name = dice.choice(lives if lives and dice.random() < 0.7 else sorted(world.grounds))
        await _ask_for_updates(world, name, dice)


async def _ask_for_updates(world: World, name: str, dice: random.Random) -> None:
    intents = []
    for _ in range(dice.choice([1, 1, 2, 4])):
        agent, _, own = name.partition("--")
        broken = world.has(Feature.BROKEN) and dice.random() < 0.2
        changes = dice.choice(_BAD_CHANGES if broken else _CHANGES)
        request = {"agent_id": agent, "name": own, **changes}
        intent = world.postgres.enqueue(Entry(name, Kind.UPDATE, request, {"user_id": dice.choice(_USERS)}))
        world.enqueued_at[intent.id] = world.loop.time()
        intents.append(intent)
    if world.has(Feature.LINGER):
        await asyncio.sleep(dice.choice([0.0, dice.uniform(0.0, 3.0)]))
    for intent in intents:
        world.committed_at[intent.id] = world.loop.time()
    world.postgres.commit(intents)
    world.record(f"committed: updates of {name} {', '.join(brief(intent.id) for intent in intents)}")


def _write_by_hand(world: World, name: str) -> None:
    """Now and then a person notes something on a schedule, just when somebody has read it."""
    if world.loop.time() < 2 * BUSY_SECONDS and world.hands.random() < 0.3:
        world.record(f"somebody notes something on {name}")
        world.noted.add(name)
        world.loop.later(0.001, lambda: world.temporal.note(name, "by hand"))


# Workers.


class _Notifier:
    def __init__(self) -> None:
        self.on_wake: Callable[[], None] = lambda: None

    def ring(self) -> None:
        """Tell whoever listens by then."""
        self.on_wake()


async def _take_turns() -> None:
    """Stands for what runs beside a loop, turn after turn: the audit, the publisher, the notifier."""
    while True:
        await reach("audit.before")
        await asyncio.sleep(1.0)


class Workers:
    """A few worker processes, each started again when it ended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._notifiers: dict[Process, _Notifier] = {}
        self._processes: dict[Process, tuple[Worker, asyncio.Task[None]]] = {}
        self._started = 0
        self._stopping = False
        self._failed: set[Process] = set()
        self._beside: dict[Process, asyncio.Task[None]] = {}
        world.postgres.on_work = self._ring

    async def run(self, place: int) -> None:
        """Keep one worker running, whatever happens to it."""
        while not self._stopping:
            process = Process(self._world.loop, f"worker{place}.{self._started}")
            self._started += 1
            worker = self._worker(process, random.Random(self._world.dice.random()))
            task = process.run(worker.run())
            self._processes[process] = worker, task
            self._beside[process] = process.run(keep_running("audit", _take_turns))
            await asyncio.wait([task])
            del self._processes[process], self._notifiers[process]
            self._beside.pop(process).cancel()
            if process.alive and task.exception() is not None and process not in self._failed:
                self._world.violate(f"{process.name} ended by itself: {task.exception()!r}")
                return
            await asyncio.sleep(self._world.dice.uniform(0.1, 3.0))

    async def trouble(self) -> None:
        """Kill, pause and stop workers while the weather is bad."""
        dice = self._world.dice
        pace = dice.choice([0.1, 0.3, 0.8])
        troubles = [one for one in _TROUBLES if self._world.has(one)]
        while troubles:
            await asyncio.sleep(dice.expovariate(pace))
            if self._world.loop.time() >= BUSY_SECONDS:
                return
            if not self._processes:
                continue
            process = dice.choice(list(self._processes))
            if process.paused:
                continue
            match dice.choice(troubles):
                case Feature.KILL:
                    self._world.record(f"{process.name} is killed")
                    process.kill()
                case Feature.PAUSE:
                    seconds = dice.choice([0.5, 3.0, 8.0])
                    self._world.record(f"{process.name} is stopped for {seconds} s")
                    process.pause()
                    self._world.loop.later(seconds, process.resume)
                case _:
                    self._world.record(f"{process.name} is told to end")
                    self._processes[process][0].stop()

    def defect(self) -> AbstractContextManager[object]:
        """Let the handling of a step raise now and then, inside, and what runs beside the worker."""
        if not self._world.has(Feature.DEFECT):
            return nullcontext()
        dice = random.Random(self._world.seed)

        def has_one(process: Process | None) -> bool:
            busy = process is not None and process.alive and self._world.loop.time() < BUSY_SECONDS
            return busy and dice.random() < 0.05

        async def end_the_worker() -> None:
            if (process := current_process()) and has_one(process):
                self._world.record(f"{process.name} has a defect")
                self._failed.add(process)
                raise FailpointError("a defect")

        async def fail_beside_it() -> None:
            if (process := current_process()) and has_one(process):
                self._world.record(f"what runs beside {process.name} has a defect")
                raise FailpointError("a defect")

        stack = ExitStack()
        stack.enter_context(armed("decide.before", end_the_worker))
        stack.enter_context(armed("audit.before", fail_beside_it))
        return stack

    async def stop(self) -> None:
        """End all of them, and start none again."""
        self._stopping = True
        for process in self._failed & self._processes.keys():
            self._world.violate(f"{process.name} goes on, though the handling of a step had died in it")
        for process, beside in self._beside.items():
            if beside.done():
                self._world.violate(f"what runs beside {process.name} has ended, and nobody noticed")
        for worker, _ in self._processes.values():
            worker.stop()
        await asyncio.gather(*(task for _, task in self._processes.values()), return_exceptions=True)

    def _worker(self, process: Process, jitter: random.Random) -> Worker:
        world, drawn = self._world, self._world.swarm
        watcher = LeaseRules(world, process.name)
        postgres = self._network("postgres", postgres_failure)
        store = SimulatedStore(world.postgres, postgres, drawn.timing, watcher)
        notifier = self._notifiers[process] = _Notifier()
        serves = effects(
            store,
            (world.spicedb, self._network("spicedb", spicedb_failure, watcher.sends)),
            (world.temporal, self._network("temporal", temporal_failure, watcher.sends)),
        )
        options = WorkerOptions(
            concurrency=dict.fromkeys(Consumer, drawn.slots),
            policy=drawn.policy,
            poll_seconds=2.0,
            drain_seconds=drawn.drain_seconds,
        )
        source = DirectSource(store, notifier)
        return Worker(source, store, serves, options, jitter=jitter, observer=world.witness.of(process))

    def _network(
        self, store: str, failure: Callable[[Fault], Exception], on_send: Callable[[], None] = lambda: None
    ) -> Network:
        world = self._world
        return Network(
            world.loop,
            store,
            world.weathers[store],
            world.dice,
            world.record,
            failure,
            on_send,
            on_fault=world.witness.failed,
            on_arrive=world.arrive,
        )

    def _ring(self) -> None:
        """Notifications come soon, or not at all: they are only there to make things faster."""
        if self._world.has(Feature.DEAF):
            return
        for notifier in self._notifiers.values():
            if self._world.dice.random() < 0.8:
                self._world.loop.later(self._world.dice.uniform(0.0, 0.05), notifier.ring)
