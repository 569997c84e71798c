"""P3, P4: what the outbox adds to the work of SpiceDB and Temporal, in all and for a single create."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg

import outbox
from consumers.authz.effects import AuthzEffects
from consumers.temporal.effects import TemporalEffects
from outbox.compose import schema
from outbox.compose.clients import authz_client, temporal_client
from outbox.flow.dispatch import Creator, Dispatch, Effects, Standing
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, Settlement
from outbox.flow.table import Consumer, EventType, Kind
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.notifier import Notifier
from outbox.store.work import WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.observer import Observer
from outbox.worker.source import DirectSource
from tests.bench.draining import TIMING
from tests.bench.intake import OWNER
from tests.bench.measure import Result, Side, check, in_turn, middle, percentile, ratios
from tests.bench.stage import Stage

CONCURRENCY = {Consumer.AUTHZ: 16, Consumer.TEMPORAL: 8}
"""The settings' defaults."""


class NoLedger:
    """Bare effects meet no stamps but their own."""

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        raise AssertionError(f"{schedule_id}: nobody else can have stamped it {stamp}")


@dataclass(frozen=True)
class Stores:
    """Both stores' effects, as a worker has them."""

    authz: Effects
    temporal: Effects

    async def create(self, dispatch: Dispatch) -> None:
        """What a request handler without an outbox would do: register, then create."""
        await self.register(dispatch)
        await self.schedule(dispatch)

    async def register(self, dispatch: Dispatch) -> None:
        """The bare registration."""
        done = await self.authz.apply(dispatch)
        check(isinstance(done, Done), f"{dispatch.schedule_id}: {done}")

    async def schedule(self, dispatch: Dispatch) -> None:
        """The bare creation in Temporal."""
        done = await self.temporal.apply(following(dispatch))
        check(isinstance(done, Done), f"{dispatch.schedule_id}: {done}")


def entries(count: int) -> list[outbox.CreateSchedule]:
    """Schedules of an agent that nobody else uses; none of them comes to run."""
    agent = f"agent-{uuid4().hex[:12]}"
    return [
        outbox.CreateSchedule(
            agent_id=agent,
            name=f"nightly-{place}",
            workflow_name="RunAgent",
            task_queue="agents",
            interval_seconds=86_400,
            paused=True,
        )
        for place in range(count)
    ]


def bare(entry: outbox.CreateSchedule) -> Dispatch:
    """The step that a worker would be handed for it."""
    return Dispatch(
        intent_id=uuid4(),
        schedule_id=entry.schedule_id,
        kind=Kind.CREATE,
        event_type=EventType.CREATE_REQUESTED,
        lease_number=1,
        attempt=1,
        deadline=asyncio.get_running_loop().time() + 3600,
        request=entry.to_json(),
        creator=Creator(user_id=OWNER.user_id, account_id=OWNER.account_id),
    )


def following(dispatch: Dispatch) -> Dispatch:
    """The next step of the same intent."""
    fields = {name: getattr(dispatch, name) for name in dispatch.__slots__}
    return Dispatch(**fields | {"event_type": EventType.REGISTERED, "lease_number": 2})


async def converge(stage: Stage) -> list[Result]:
    """P3: creates from end to end beside the same calls at the same concurrency."""
    async with real_stores(stage) as stores:
        return [
            *await _creates(stage, stores, "200", stage.scale.of(200, least=10), rounds=9),
            *await _creates(stage, stores, "2k", stage.scale.of(2000, least=10), rounds=3),
        ]


async def _creates(stage: Stage, stores: Stores, name: str, creates: int, *, rounds: int) -> list[Result]:
    mine, theirs = await in_turn(
        rounds if stage.scale.share else 1,
        lambda: through_the_outbox(stage, stores, entries(creates)),
        lambda: _without(stage, stores, entries(creates)),
    )
    detail = {"outbox": middle(mine), "bare_effects": middle(theirs), "creates": creates}
    cpu = [(my.client_cpu + my.server_cpu) / bare.client_cpu for my, bare in zip(mine, theirs, strict=True)]
    return [
        Result.of(f"P3/{name}", ratios(mine, theirs), at_least=0.95, detail=detail),
        Result.of(f"P3/{name}-cpu", cpu, at_most=1.5, detail=detail),
    ]


async def through_the_outbox(
    stage: Stage, stores: Stores, asked: list[outbox.CreateSchedule], *, observer: Observer | None = None
) -> Side:
    """Enqueue creates, and measure how a worker converges them."""
    with stage.database() as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
            for begin in range(0, len(asked), 500):
                await outbox.enqueue_many(line, [(entry, OWNER) for entry in asked[begin : begin + 500]])
            async with worker_on(url, stores, observer=observer) as (worker, _):
                with stage.meter() as reading:
                    await worker.run()
            row = await (
                await line.execute("SELECT count(*) FROM outbox.events WHERE type = 'schedule.created'")
            ).fetchone()
            check(row == (len(asked),), f"{row} of {len(asked)} were created")
    return reading.side(len(asked))


async def _without(stage: Stage, stores: Stores, asked: list[outbox.CreateSchedule]) -> Side:
    gates = {name: asyncio.Semaphore(most) for name, most in CONCURRENCY.items()}

    async def one(dispatch: Dispatch) -> None:
        async with gates[Consumer.AUTHZ]:
            await stores.register(dispatch)
        async with gates[Consumer.TEMPORAL]:
            await stores.schedule(dispatch)

    dispatches = [bare(entry) for entry in asked]
    with stage.meter() as reading:
        await asyncio.gather(*(one(dispatch) for dispatch in dispatches))
    return reading.side(len(asked))


async def latency(stage: Stage) -> list[Result]:
    """P4: one create on an idle system beside the calls made by the handler itself, one after the other."""
    creates = stage.scale.of(300, least=5)
    # Temporal goes on with a schedule for some time after it has answered.
    pause = 0.2 if stage.scale.share else 0.0
    asked, directly = entries(creates), entries(creates)
    mine: list[float] = []
    theirs: list[float] = []
    with stage.database() as url:
        async with (
            real_stores(stage) as stores,
            worker_on(url, stores, until_idle=False) as (worker, created),
        ):
            running = asyncio.create_task(worker.run())
            async with await psycopg.AsyncConnection.connect(url) as line:
                for entry, other in zip(asked, directly, strict=True):
                    created.clear()
                    await asyncio.sleep(pause)
                    await outbox.enqueue_create(line, entry, principal=OWNER)
                    await line.commit()
                    began = time.perf_counter()
                    await created.wait()
                    mine.append(time.perf_counter() - began)
                    dispatch = bare(other)
                    await asyncio.sleep(pause)
                    began = time.perf_counter()
                    await stores.create(dispatch)
                    theirs.append(time.perf_counter() - began)
            worker.stop()
            await running
    results = []
    for percent, most in ((50, 1.25), (99, 1.5)):
        ours, others = percentile(mine, percent), percentile(theirs, percent)
        detail = {
            "outbox_ms": round(ours * 1000, 2),
            "direct_ms": round(others * 1000, 2),
            "creates": creates,
        }
        ratio = ours / others
        results.append(Result(f"P4/p{percent}", ratio, at_most=most, spread=(ratio, ratio), detail=detail))
    return results


@asynccontextmanager
async def real_stores(stage: Stage) -> AsyncIterator[Stores]:
    settings = settings_of(stage)
    await schema.apply(settings, lambda _: True)
    client = authz_client(settings)
    try:
        temporal = await temporal_client(settings)
        yield Stores(AuthzEffects(client, NoLedger()), TemporalEffects(temporal, NoLedger(), uuid4()))
    finally:
        await client.close()


@asynccontextmanager
async def worker_on(
    url: str,
    stores: Stores,
    *,
    until_idle: bool = True,
    observer: Observer | None = None,
    rates: Mapping[Consumer, float] | None = None,
) -> AsyncIterator[tuple[Worker, asyncio.Event]]:
    """A worker with the settings' defaults; the event is set once a `schedule.created` is committed."""
    options = WorkerOptions(concurrency=CONCURRENCY, policy=RetryPolicy(), until_idle=until_idle)
    created = asyncio.Event()
    effects: dict[Consumer, Any] = {Consumer.AUTHZ: stores.authz, Consumer.TEMPORAL: stores.temporal}
    async with open_engine(url) as engine, Notifier(url) as notifier:
        store = WorkStore(engine, TIMING, rates)
        worker = Worker(DirectSource(store, notifier), store, effects, options, observer=observer)
        settled = worker._settler._on_settled

        def tell(batch: Sequence[Settlement], handed: Sequence[Dispatch]) -> None:
            if any(one.next_event is EventType.CREATED for one in batch):
                created.set()
            settled(batch, handed)

        worker._settler._on_settled = tell
        yield worker, created


def settings_of(stage: Stage, database_url: str | None = None) -> Settings:
    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in stage.stack.environment().items()}
    return Settings.model_validate(found | ({"database_url": database_url} if database_url else {}))
