"""The disk that Kafka writes to is full: nothing that was asked for or has happened is lost by it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import orjson
import pytest

from outbox.compose.database import migrate
from outbox.compose.kafka import publishing
from outbox.compose.telemetry import Unwatched
from outbox.stack import Stack
from outbox.stack.kafka import failure
from tests.kafka.brokers import broker
from tests.kafka.conftest import Broker
from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import until
from tests.stack.lazy import LazyStack
from tests.stack.small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.nemesis, pytest.mark.kafka_wire]

_SIZE = 128 << 20


@dataclass(frozen=True)
class Server:
    """A broker whose data lies on a small disk."""

    disk: SmallDisk
    port: int


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Of the module's own."""
    kind, why = broker()
    if kind != "apache":
        pytest.skip(f"only Apache Kafka writes to a disk: {why}")
    with small_disk(_SIZE) as disk, LazyStack(disk.home) as lazy:
        yield Server(disk, lazy.start("kafka", kind).ports["kafka"])


@pytest.fixture(scope="module")
def kafka(server: Server) -> str:
    """Instead of the shared broker's."""
    return f"127.0.0.1:{server.port}"


async def test_producers_go_on_and_what_was_to_be_sent_is_sent_once_there_is_room(
    pipeline: Pipeline, server: Server
) -> None:
    """A broker that can't write ends itself, and is started again."""
    await asyncio.to_thread(migrate, pipeline.settings)
    promised = [await pipeline.create("before")]
    async with pipeline.working(), publishing(pipeline.settings, Unwatched()):
        await pipeline.ledger.await_event(promised[0].id, "created")
        with server.disk.full(left=0):

            async def has_ended() -> bool:
                promised.append(await pipeline.create(f"n-{len(promised)}"))
                return await asyncio.to_thread(failure, server.port) is not None

            await until("the broker to end", has_ended)
        await asyncio.to_thread(start_again, server.disk)
        for intent in promised:
            await pipeline.ledger.await_event(intent.id, "created")

        async def all_is_told() -> bool:
            return await pipeline.ledger.rows("SELECT FROM outbox.publications") == []

        await until("all to be published", all_is_told)
    written = await pipeline.ledger.rows("SELECT intent_id, type FROM outbox.events")
    told = await asyncio.to_thread(Broker(pipeline.settings).read, "events")
    assert {(row["intent_id"], row["type"]) for row in written} <= {event(record.value) for record in told}
    await pipeline.agree()


def event(record: bytes) -> tuple[UUID, str]:
    told = orjson.loads(record)
    return UUID(told["intent_id"]), told["type"]


def start_again(disk: SmallDisk) -> None:
    """What a supervisor does with a broker that has ended; it may be just about to."""
    stack = Stack(disk.home)
    stack.stop("kafka")
    stack.start("kafka")
