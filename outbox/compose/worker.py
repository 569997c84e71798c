"""A worker, put together from the settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.authz.effects import AuthzEffects
from consumers.repair import RepairEffects
from consumers.temporal.effects import TemporalEffects
from outbox.compose.clients import authz_client, temporal_client
from outbox.compose.telemetry import Unwatched, Watch, show_notifier, show_worker
from outbox.flow.dispatch import Effects
from outbox.flow.table import Consumer
from outbox.settings import Settings, Wire
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from outbox.store.notifier import Notifier
from outbox.store.work import Timing, WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.source import DirectSource, Source


@asynccontextmanager
async def open_worker(
    settings: Settings,
    *,
    only: Consumer | None = None,
    until_idle: bool = False,
    watch: Watch | None = None,
) -> AsyncIterator[Worker]:
    """A worker on the wire that is set, with the clients that its consumers need."""
    watch = watch or Unwatched()
    room = settings.room
    serves = {only} if only else set(room)
    url = settings.database_url.get_secret_value()
    timing = Timing(
        settings.lease_seconds,
        settings.step_timeout_seconds,
        settings.late_write_seconds,
        settings.verify_again_seconds,
    )
    options = WorkerOptions(
        concurrency={name: room[name] for name in serves},
        policy=settings.retry_policy,
        poll_seconds=settings.poll_interval_seconds,
        drain_seconds=settings.drain_seconds,
        settle_batch_max=settings.settle_batch_max,
        until_idle=until_idle,
    )
    async with open_engine(url, bounded=True) as engine:
        store = WorkStore(engine, timing, settings.rates)
        async with (
            _effects(settings, engine, serves, store) as effects,
            _source(settings, engine, store, options.concurrency, watch) as source,
        ):
            worker = Worker(source, store, effects, options, observer=watch.observer)
            show_worker(watch, worker, options.concurrency)
            yield worker


@asynccontextmanager
async def _source(
    settings: Settings,
    engine: AsyncEngine,
    store: WorkStore,
    concurrency: Mapping[Consumer, int],
    watch: Watch,
) -> AsyncIterator[Source]:
    if settings.wire is Wire.KAFKA:
        # Who is on the direct wire needs no Kafka client.
        from outbox.compose.kafka import open_source  # noqa: PLC0415

        async with open_source(settings, engine, store, concurrency) as source:
            yield source
        return
    async with AsyncExitStack() as around:
        if settings.kafka_bootstrap:
            # On the Kafka wire the relay publishes events.
            from outbox.compose.kafka import publishing  # noqa: PLC0415

            await around.enter_async_context(publishing(settings, watch))
        notifier = Notifier(settings.session_url)
        show_notifier(watch, notifier)
        yield DirectSource(store, await around.enter_async_context(notifier))


@asynccontextmanager
async def _effects(
    settings: Settings, engine: AsyncEngine, serves: set[Consumer], store: WorkStore
) -> AsyncIterator[dict[Consumer, Effects]]:
    """The effects that a worker applies; a client that it does not need is not made."""
    client = authz_client(settings) if Consumer.AUTHZ in serves else None
    effects: dict[Consumer, Effects] = {}
    try:
        authz = AuthzEffects(client, store) if client else None
        temporal = None
        if authz:
            effects[Consumer.AUTHZ] = authz
        if Consumer.TEMPORAL in serves:
            schedules = await temporal_client(settings)
            effects[Consumer.TEMPORAL] = temporal = TemporalEffects(schedules, store, await instance(engine))
        if authz and temporal and Consumer.BOTH in serves:
            effects[Consumer.BOTH] = RepairEffects(authz, temporal)
        yield effects
    finally:
        if client:
            await client.close()
