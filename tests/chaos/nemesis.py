"""What goes wrong during a campaign: one trouble at a time, in an order from the seed."""

import asyncio
import contextlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from outbox.compose.kafka import create_topics
from outbox.failpoints import BESIDE_POINTS, STEP_POINTS
from outbox.settings import Settings
from outbox.stack import Stack
from outbox.stack.stack import Name
from outbox.stack.state import State
from outbox.testing import FaultProxy, Late
from outbox.testing.relay import Direction, Relay
from tests.chaos.fleet import Fleet
from tests.chaos.recorder import Recorder
from tests.chaos.way import Way
from tests.database_clock import HOUR, DatabaseClock
from tests.kafka.conftest import deliver_again
from tests.kafka.patience import patiently
from tests.lagging import READ, as_of, present
from tests.stack.pair import Pair

WRITES = {
    "spicedb": ("WriteRelationships", "DeleteRelationships"),
    "temporal": ("CreateSchedule", "UpdateSchedule", "DeleteSchedule"),
}
READS = {"spicedb": "ReadRelationships", "temporal": "DescribeSchedule"}
_FAULTS_A_STORM = 12
_HELD_SECONDS = 20.0
_DRAIN_SECONDS = 120.0


@dataclass
class Nemesis:
    """Makes trouble.

    Attributes:
        lease: of the workers, in seconds.
        late_write: the bound after which no call should take effect any more, in seconds.
        rounds: how often each kind is made.
        history: where it is written down.
        pair: Postgres, and the standby that can take over from it.
        way: of the fleet to Postgres.
        relationships: the stack whose Postgres has SpiceDB's relationships; None: they are in its memory.
        way_to_kafka: by which everybody reaches the broker that is in trouble too.
        kafka: settings of that broker.
        rolling: some of the fleet are of the version before.
        clock: Postgres'; None: nobody sets it.
        only: the kinds that are made; None: all.
        done: how often each kind was made so far.
        late: how many calls landed late, within the bound and beyond it, and how many never did.
    """

    rng: random.Random
    stack: Stack
    pair: Pair
    fleet: Fleet
    proxies: Mapping[str, FaultProxy]
    way: Way
    lease: float
    late_write: float
    rounds: int
    history: Recorder
    relationships: Stack | None = None
    way_to_kafka: Relay | None = None
    kafka: Settings | None = None
    rolling: bool = False
    clock: DatabaseClock | None = None
    only: Collection[str] | None = None
    done: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    _releasing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Each kind of trouble: made, lasted and over when the call returns."""
        kinds = {
            "worker SIGKILL": self._kill_worker,
            "worker SIGSTOP past its lease, SIGCONT": self._freeze_worker,
            "worker SIGTERM": self._end_worker,
            "worker dies at a failpoint": self._die,
            "worker has a defect at a failpoint": self._fail,
            "Postgres restarted": lambda: self._restart("postgres", Stack.stop),
            "Postgres killed": lambda: self._restart("postgres", Stack.kill),
            "Postgres hangs": lambda: self._hang("postgres"),
            "SpiceDB killed": lambda: self._restart("spicedb", Stack.kill),
            "Temporal killed": lambda: self._restart("temporal", Stack.kill),
            "SpiceDB hangs": lambda: self._hang("spicedb"),
            "Temporal hangs": lambda: self._hang("temporal"),
            "storm at SpiceDB": lambda: self._storm("spicedb"),
            "storm at Temporal": lambda: self._storm("temporal"),
            "SpiceDB's reads are behind": self._fall_behind,
            "one-way partition at Postgres": lambda: self._cut_off(self.way),
            "one-way partition at SpiceDB": lambda: self._cut_off(self.proxies["spicedb"]),
            "one-way partition at Temporal": lambda: self._cut_off(self.proxies["temporal"]),
            **(self._kinds_below_spicedb(self.relationships) if self.relationships else {}),
            **(self._broker_kinds(self.way_to_kafka) if self.way_to_kafka else {}),
            **self._kinds_on_the_way(),
        }
        if self.rolling:
            kinds["worker rolled to the other version"] = self._roll_worker
        if self.clock:
            kinds["Postgres' clock set forward by an hour"] = self._set_the_clock
        return {name: kind for name, kind in kinds.items() if self.only is None or name in self.only}

    def _kinds_below_spicedb(self, stack: Stack) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "SpiceDB's Postgres killed": lambda: self._restart("postgres", Stack.kill, stack),
            "SpiceDB's Postgres hangs": lambda: self._hang("postgres", stack),
        }

    def _broker_kinds(self, way: Relay) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "Kafka restarted": lambda: self._restart("kafka", Stack.stop),
            "Kafka killed": lambda: self._restart("kafka", Stack.kill),
            "Kafka hangs": lambda: self._hang("kafka"),
            "Kafka loses all its data": self._lose_kafka,
            "Kafka delivers everything again, mixed up": self._deliver_again,
            "one-way partition at Kafka": lambda: self._cut_off(way),
        }

    def _kinds_on_the_way(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """A pooler leads to one server: none takes over from it."""
        if pooler := self.way.pooler:
            return {
                "PgBouncer restarted": lambda: self._restart_pooler(pooler.stop),
                "PgBouncer killed": lambda: self._restart_pooler(pooler.kill),
            }
        return {
            "Postgres killed, its standby takes over": lambda: self._fail_over(killed=True),
            "Postgres demoted, its standby takes over": lambda: self._fail_over(killed=False),
        }

    @property
    def troubles(self) -> int:
        """How many it will make."""
        return len(self.kinds) * self.rounds

    async def work(self, tell: Callable[[int], None]) -> None:
        """Make every kind of trouble in each round, in an order of its own, and tell how many have begun."""
        try:
            for _ in range(self.rounds):
                for kind in self.rng.sample(sorted(self.kinds), len(self.kinds)):
                    tell(self.done.total() + 1)
                    made = self.history.ask("nemesis", "trouble", name=kind)
                    await self.kinds[kind]()
                    made.told()
                    self.done[kind] += 1
                    await self.fleet.fill()
                    await self._for_leases(0.1, 0.5)
            await asyncio.gather(*self._releasing)
        finally:
            for proxy in self.proxies.values():
                proxy.clear()

    async def _for_leases(self, least: float, most: float) -> None:
        """Go on like that for so many leases of a worker."""
        await asyncio.sleep(self.lease * self.rng.uniform(least, most))

    # Workers.

    async def _kill_worker(self) -> None:
        process = await self.fleet.pick(self.rng)
        process.kill()
        await process.wait()

    async def _end_worker(self) -> None:
        await self._drain(await self.fleet.pick(self.rng))

    async def _roll_worker(self) -> None:
        if process := self.fleet.roll(self.rng):
            await self._drain(process)

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                # One that has not begun yet has nothing to drain.
                assert await process.wait() in {0, -signal.SIGTERM}
        except TimeoutError:
            # Into the workers' log: what it was at.
            process.send_signal(signal.SIGABRT)
            raise

    async def _freeze_worker(self) -> None:
        process = await self.fleet.pick(self.rng)
        process.send_signal(signal.SIGSTOP)
        await self._for_leases(1.1, 2)
        process.send_signal(signal.SIGCONT)

    async def _die(self) -> None:
        await self._arm(f"{self.rng.choice(sorted(STEP_POINTS))}=exit@{self.rng.randint(1, 20)}")

    async def _fail(self) -> None:
        """What runs beside the loop has to be started again, and a worker whose step dies has to end."""
        beside = (f"{point}=fail-once@{self.rng.randint(1, 3)}" for point in sorted(BESIDE_POINTS))
        await self._arm(",".join([f"decide.before=fail@{self.rng.randint(5, 20)}", *beside]))

    async def _arm(self, points: str) -> None:
        await self._kill_worker()
        await self.fleet.fill(points)
        await self._for_leases(0.3, 1)

    # Servers.

    def _stack(self, name: Name) -> Stack:
        """Where the server is: of Postgres, the one that takes writes now."""
        return self.pair.primary if name == "postgres" else self.stack

    async def _restart(
        self, name: Name, end: Callable[[Stack, Name], None], stack: Stack | None = None
    ) -> None:
        stack = stack or self._stack(name)
        async with contextlib.AsyncExitStack() as outage:
            await asyncio.to_thread(end, stack, name)
            if name in self.proxies:
                # Clients are refused, as they are by a server that is away.
                await outage.enter_async_context(self.proxies[name].outage())
            await self._for_leases(0, 0.6)
            await asyncio.to_thread(stack.start, name)

    async def _hang(self, name: Name, stack: Stack | None = None) -> None:
        stack = stack or self._stack(name)
        await asyncio.to_thread(stack.pause, name)
        await self._for_leases(0.3, 1.3)
        await asyncio.to_thread(stack.resume, name)

    async def _fail_over(self, *, killed: bool) -> None:
        """Later the old primary is back, as the standby of the new one."""
        await asyncio.to_thread(self.pair.kill if killed else self.pair.demote)
        await self._for_leases(0, 0.6)
        await asyncio.to_thread(self.pair.promote)
        await self._for_leases(0.3, 1)
        await asyncio.to_thread(self.pair.follow)

    async def _restart_pooler(self, end: Callable[[], None]) -> None:
        assert self.way.pooler
        await asyncio.to_thread(end)
        await self._for_leases(0, 0.6)
        await asyncio.to_thread(self.way.pooler.start)

    async def _set_the_clock(self) -> None:
        """For good: what was written by a clock that is set back lies in the future, for as long."""
        assert self.clock
        self.clock.step(HOUR)
        await self._for_leases(0.3, 1)

    async def _cut_off(self, server: FaultProxy | Way | Relay) -> None:
        """Hold what is sent to a server, or what it sends; then let it arrive."""
        async with server.one_way(self.rng.choice(get_args(Direction))):
            await self._for_leases(0.3, 1.3)

    async def _lose_kafka(self) -> None:
        await asyncio.to_thread(self.stack.kill, "kafka")
        await asyncio.to_thread(shutil.rmtree, self.stack.home / "kafka")
        await asyncio.to_thread(self.stack.start, "kafka")
        settings = self.kafka
        assert settings
        await asyncio.to_thread(patiently, lambda: create_topics(settings))

    async def _deliver_again(self) -> None:
        assert self.kafka
        await asyncio.to_thread(deliver_again, self.kafka, self.rng)

    # Calls.

    async def _storm(self, name: str) -> None:
        proxy = self.proxies[name]
        for _ in range(_FAULTS_A_STORM):
            method = self.rng.choice(WRITES[name])
            which: Any = {"skip": self.rng.randint(0, 4)}
            match self.rng.randrange(8):
                case 0:
                    proxy.lose_reply(method, **which)
                case 1:
                    proxy.lose_reply(method, status=None, **which)
                case 2:
                    proxy.swallow(method, **which)
                case 3:
                    proxy.fail(method, **which)
                case 4:
                    proxy.cut(method, after_effect=self.rng.random() < 0.5, **which)
                case 5:
                    proxy.delay(method, self.rng.uniform(0.1, self.lease), **which)
                case 6:
                    proxy.fail(READS[name], **which)
                case _:
                    late = proxy.apply_late(method, **which)
                    self._releasing.add(asyncio.create_task(self._release(late, self.rng.random())))
        await self._for_leases(0.3, 1)
        # Else the probes of an open breaker, one in 15 s, would meet what is left of it for minutes.
        proxy.clear()

    async def _fall_behind(self) -> None:
        """Answer every read as it was at first, though it asks for full consistency."""
        state = State.load(self.stack.home)
        moment = await present(self.proxies["spicedb"].target, state.token)
        frozen = self.proxies["spicedb"].rewrite(READ, as_of(moment), times=None)
        await self._for_leases(0.3, 2)
        frozen.disarm()

    async def _release(self, late: Late, luck: float) -> None:
        """Let a late call land: mostly within the bound, sometimes beyond it, sometimes never."""
        try:
            async with asyncio.timeout(_HELD_SECONDS):
                await late.held.wait()
        except TimeoutError:
            return
        if luck < 0.1:
            self.late["never"] += 1
        elif luck < 0.9:
            await asyncio.sleep(self.late_write * 0.9 * luck)
            await late.release()
            self._landed("within the bound")
        else:
            await asyncio.sleep(self.late_write * 2)
            await late.release()
            self._landed("beyond the bound")

    def _landed(self, when: str) -> None:
        self.history.note("nemesis", "late call", landed=when)
        self.late[when] += 1
