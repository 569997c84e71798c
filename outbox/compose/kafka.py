"""The Kafka wire, put together from the settings: topics, the relay, a worker's source."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.compose.telemetry import Unwatched, Watch, show_notifier, show_publisher
from outbox.errors import StoreUnusable
from outbox.flow.table import Consumer
from outbox.kafka import admin
from outbox.kafka.connection import Cluster
from outbox.kafka.names import dispatch_topic, events_topic, worker_group
from outbox.kafka.producer import Producer
from outbox.kafka.publisher import Publisher
from outbox.kafka.relay import Relay
from outbox.kafka.source import KafkaSource
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from outbox.store.notifier import Notifier
from outbox.store.relay import Flow, RelayStore
from outbox.store.watching import Figures
from outbox.store.work import WorkStore
from outbox.supervision import keep_running
from outbox.telemetry.catalogue import KAFKA_LAG

_HOUR_MS = 3_600_000
_BATCH = 500
_LAG_SECONDS = 15.0


def topic_plans(settings: Settings) -> list[admin.TopicPlan]:
    """The topics that the settings ask for."""
    hours = {
        dispatch_topic(settings.kafka_prefix, one): settings.kafka_dispatch_retention_hours
        for one in Consumer
    }
    hours[events_topic(settings.kafka_prefix)] = settings.kafka_events_retention_hours
    return [
        admin.TopicPlan(name, settings.kafka_partitions, settings.kafka_replication, most * _HOUR_MS)
        for name, most in hours.items()
    ]


def create_topics(settings: Settings) -> list[str]:
    """Make the topics that are missing; returns their names.

    Raises:
        StoreUnusable: Kafka can't be reached, or refuses.
    """
    try:
        return admin.create_topics(Cluster.of(settings).options, topic_plans(settings))
    except admin.KafkaAway as error:
        line = f"Kafka: {error}: start it, or mend OUTBOX_KAFKA_BOOTSTRAP and its credentials"
        raise StoreUnusable(line, reachable=False) from error


@asynccontextmanager
async def open_relay(settings: Settings, *, watch: Watch | None = None) -> AsyncIterator[Relay]:
    """A relay, with its connections."""
    watch = watch or Unwatched()
    cluster = Cluster.of(settings)
    url = settings.database_url.get_secret_value()
    async with (
        open_engine(url, bounded=True) as engine,
        Notifier(settings.session_url) as notifier,
        Producer(cluster.options) as producer,
    ):
        show_notifier(watch, notifier)
        store = RelayStore(engine, flow(settings), settings.rates)
        watch.ask("Kafka", [KAFKA_LAG], lambda: _lags(settings), seconds=_LAG_SECONDS)
        yield Relay(
            store,
            producer,
            notifier,
            prefix=cluster.prefix,
            poll_seconds=settings.poll_interval_seconds,
            sent=watch.sent,
        )


@asynccontextmanager
async def open_publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """A publisher of events, with its connections."""
    cluster = Cluster.of(settings)
    url = settings.database_url.get_secret_value()
    async with open_engine(url, bounded=True) as engine, Producer(cluster.options) as producer:
        store = RelayStore(engine, flow(settings))
        yield Publisher(store, producer, prefix=cluster.prefix, poll_seconds=settings.poll_interval_seconds)


@asynccontextmanager
async def publishing(settings: Settings, watch: Watch) -> AsyncIterator[None]:
    """Inside, events are published; at the end, what is there still is."""
    async with open_publisher(settings) as publisher, running(publisher):
        show_publisher(watch, publisher)
        yield


@asynccontextmanager
async def running(loop: Relay | Publisher) -> AsyncIterator[None]:
    """Inside, a relay or a publisher is kept running; at the end it finishes what it has begun."""
    name = type(loop).__name__.lower()
    stopping = asyncio.Event()
    task = asyncio.create_task(keep_running(name, loop.run, stopping=stopping), name=f"outbox-{name}")
    try:
        yield
    finally:
        stopping.set()
        loop.stop()
        await task


@asynccontextmanager
async def open_source(
    settings: Settings, engine: AsyncEngine, store: WorkStore, concurrency: Mapping[Consumer, int]
) -> AsyncIterator[KafkaSource]:
    """A member of the outbox's group of workers, for a worker that runs so many effects at once."""
    cluster = Cluster.of(settings)
    async with KafkaSource(cluster, await instance(engine), store, concurrency) as source:
        yield source


def flow(settings: Settings) -> Flow:
    """How much may be out at once."""
    bounds = dict.fromkeys(settings.room, settings.dispatch_max)
    return Flow(bounds, _BATCH, settings.dispatch_seconds, settings.late_write_seconds)


async def group_state(settings: Settings, outbox: UUID) -> dict[str, Any]:
    """How far the workers are behind on each topic, and how many share it; or why that can't be told."""
    topics = [dispatch_topic(settings.kafka_prefix, one) for one in Consumer]
    group = worker_group(settings.kafka_prefix, outbox)
    try:
        lags = await asyncio.to_thread(admin.group_lags, Cluster.of(settings).options, group, topics)
    except admin.KafkaAway as error:
        return {"group": group, "error": str(error)}
    return {"group": group, "topics": [asdict(one) for one in lags]}


async def _lags(settings: Settings) -> Figures:
    """How far the workers are behind on each topic, as a metric."""
    # Not the relay's engine: that belongs to its event loop, and this runs on another.
    async with open_engine(settings.database_url.get_secret_value(), bounded=True) as engine:
        state = await group_state(settings, await instance(engine))
    if "error" in state:
        raise StoreUnusable(f"Kafka: {state['error']}", reachable=False)
    return {KAFKA_LAG.name: [((topic["topic"],), topic["lag"]) for topic in state["topics"]]}


async def topic_problems(settings: Settings) -> dict[str, str]:
    """What is wrong with each topic, by its name.

    Raises:
        KafkaAway: Kafka can't be reached.
    """
    return await asyncio.to_thread(admin.topic_problems, Cluster.of(settings).options, topic_plans(settings))
