"""The Kafka wire seen from its topics: what a test puts there, and reads there."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from outbox.compose.kafka import flow, running
from outbox.kafka.connection import Cluster
from outbox.kafka.producer import Producer
from outbox.kafka.publisher import Publisher
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.relay import RelayStore
from tests.kafka.patience import PATIENCE_SECONDS, patiently
from tests.store.conftest import Query, enqueue, query
from tests.worker.conftest import Bench

__all__ = ["enqueue", "query"]

Work = Callable[[], Awaitable[None]]
_AGAIN = 300


class Broker:
    """The topics of one test, past the relay and the workers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cluster = Cluster.of(settings)
        self._producer: Any = None

    def topic(self, name: str) -> str:
        return f"{self.cluster.prefix}.{name}"

    def put(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes = b"k",
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Add a record, whatever it holds."""
        if self._producer is None:
            # Doubles do no harm here, so a broker that has just lost what it knew of us needs no sequence.
            options = {**self.cluster.options, "enable_idempotence": False}
            self._producer = patiently(lambda: KafkaProducer(**options))
        record = {"value": value, "key": key, "partition": partition, "headers": list(headers)}
        self._producer.send(self.topic(topic), **record).get(timeout=PATIENCE_SECONDS)

    def read(self, topic: str) -> list[Any]:
        """All records of a topic, each partition's in order."""
        return patiently(lambda: self._read(topic))

    def _read(self, topic: str) -> list[Any]:
        consumer = KafkaConsumer(**self.cluster.options, enable_auto_commit=False)
        try:
            numbers = consumer.partitions_for_topic(self.topic(topic)) or ()
            partitions = [TopicPartition(self.topic(topic), number) for number in numbers]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            found: list[Any] = []
            while any(consumer.position(one) < ends[one] for one in partitions):
                for records in consumer.poll(timeout_ms=200).values():
                    found += records
            return found
        finally:
            consumer.close()

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()


def deliver_again(settings: Settings, rng: random.Random) -> None:
    """Add every dispatch that the topics still hold once more, in any order, to any partition."""
    broker = Broker(settings)
    try:
        for topic in ("dispatch.authz", "dispatch.temporal", "dispatch.both"):
            records = broker.read(topic)
            rng.shuffle(records)
            for record in records[:_AGAIN]:
                broker.put(topic, record.value, key=rng.randbytes(4))
    finally:
        broker.close()


@pytest.fixture
def settings(database: str, topics: dict[str, object]) -> Settings:
    return Settings.model_validate(topics | {"database_url": database, "poll_interval_seconds": 0.02})


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    found = Broker(settings)
    yield found
    found.close()


@pytest.fixture
def bench(database: str, topics: dict[str, object]) -> Bench:
    return Bench(database, topics)


@pytest.fixture
async def relay_store(settings: Settings) -> AsyncIterator[RelayStore]:
    async with open_relay_store(settings) as store:
        yield store


@asynccontextmanager
async def open_relay_store(settings: Settings) -> AsyncIterator[RelayStore]:
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        yield RelayStore(engine, flow(settings))


@pytest.fixture
async def work(bench: Bench, query: Query) -> Work:
    """Publishing is on; a worker works until nothing is left."""
    await query("UPDATE outbox.instance SET publishes = true")

    async def run() -> None:
        async with bench.worker() as worker:
            await worker.run()

    return run


@asynccontextmanager
async def publishing(settings: Settings, producer: Producer | None = None) -> AsyncIterator[Publisher]:
    async with (
        open_engine(settings.database_url.get_secret_value()) as engine,
        producer or Producer(Broker(settings).cluster.options) as found,
    ):
        publisher = Publisher(
            RelayStore(engine, flow(settings)), found, prefix=settings.kafka_prefix, poll_seconds=0.02
        )
        async with running(publisher):
            yield publisher


async def drained(query: Query) -> None:
    async with asyncio.timeout(240):
        while await query("SELECT FROM outbox.publications"):  # noqa: ASYNC110 - the event is in Postgres
            await asyncio.sleep(0.02)
