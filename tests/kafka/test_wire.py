"""What a broker may do to dispatches: double them, hold them back, mix them up, lose them, die."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import orjson
import pytest
from structlog.testing import capture_logs

from outbox.compose.kafka import create_topics, open_relay, running
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.table import Consumer, EventType
from outbox.kafka import names
from outbox.kafka.envelope import Envelope, encode
from outbox.kafka.relay import Relay
from outbox.kafka.source import KafkaSource
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from outbox.store.relay import Dispatched, RelayStore
from outbox.store.work import Timing, WorkStore
from tests.kafka.brokers import broker as chosen_broker
from tests.kafka.conftest import Broker
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench

CREATED = "SELECT count(*)::integer AS n FROM outbox.events WHERE type = 'schedule.created'"
CREDIT = dict.fromkeys(Consumer, 50)


@pytest.fixture
async def outbox_id(settings: Settings) -> UUID:
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        return await instance(engine)


@pytest.fixture
async def source(settings: Settings, broker: Broker, outbox_id: UUID) -> AsyncIterator[KafkaSource]:
    async with open_source(settings, broker, outbox_id) as source:
        yield source


@asynccontextmanager
async def open_source(settings: Settings, broker: Broker, outbox_id: UUID) -> AsyncIterator[KafkaSource]:
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        store = WorkStore(engine, Timing(lease=30.0, step_timeout=10.0, late_write=0.2))
        async with KafkaSource(broker.cluster, outbox_id, store, dict.fromkeys(Consumer, 1)) as source:
            yield source


async def soon(what: Callable[[], bool], *, seconds: float = 240) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110 - it is another thread that brings it about
            await asyncio.sleep(0.02)


async def taken_by(source: KafkaSource, until: Callable[[Sequence[Dispatch]], bool]) -> list[Dispatch]:
    """What a source takes, until that is enough."""
    found: list[Dispatch] = []
    async with asyncio.timeout(240):
        while not until(found):
            found += await source.take(CREDIT)
            await source.wait_for_work(0.05)
    return found


def records(outbox_id: UUID, steps: Sequence[Dispatched]) -> list[bytes]:
    return [encode(Envelope(outbox_id, one.intent_id, one.event_type, one.lease_number)) for one in steps]


async def test_a_step_delivered_many_times_is_taken_once(
    source: KafkaSource, broker: Broker, relay_store: RelayStore, enqueue: Enqueue, outbox_id: UUID
) -> None:
    await enqueue()
    (value,) = records(outbox_id, await relay_store.dispatch())
    for partition in (0, 1, 1, 2):
        broker.put("dispatch.authz", value, partition=partition)
    taken = await taken_by(source, lambda found: bool(found) and source.dropped["stale"] >= 3)
    assert len(taken) == 1


async def test_late_and_mixed_up_deliveries_drop_out_before_any_effect(
    source: KafkaSource,
    broker: Broker,
    relay_store: RelayStore,
    enqueue: Enqueue,
    query: Query,
    outbox_id: UUID,
) -> None:
    for place in range(3):
        await enqueue(f"s{place}")
    late = await relay_store.dispatch()
    await query("UPDATE outbox.queue SET due_at = clock_timestamp() WHERE state = 'dispatched'")
    now = await relay_store.dispatch()
    assert {one.lease_number for one in now} == {2}
    for value in [*records(outbox_id, now[::-1]), *records(outbox_id, late)]:
        broker.put("dispatch.authz", value)
    taken = await taken_by(source, lambda found: len(found) >= 3 and source.dropped["stale"] >= 3)
    assert sorted(one.lease_number for one in taken) == [2, 2, 2]


async def test_a_record_that_is_no_dispatch_is_set_aside_and_holds_nothing_up(
    source: KafkaSource, broker: Broker, relay_store: RelayStore, enqueue: Enqueue, outbox_id: UUID
) -> None:
    await enqueue()
    (good,) = records(outbox_id, await relay_store.dispatch())
    poison = [None, b"\xff\x00", b"x" * 5000, good.replace(b'"v":1', b'"v":9'), b'{"v":1}']
    with capture_logs() as logs:
        for value in [*poison, good]:
            broker.put("dispatch.authz", value, partition=2)
        broker.put("dispatch.temporal", good, partition=0)
        taken = await taken_by(source, lambda found: bool(found) and source.dropped["bad"] == 6)
    assert [one.event_type for one in taken] == [EventType.CREATE_REQUESTED]
    lines = [line for line in logs if line["event"] == "kafka.bad_record"]
    assert [
        line["why"].split(":")[0] for line in lines if line["topic"] == broker.topic("dispatch.authz")
    ] == [
        "it has no value",
        "it is not JSON",
        "it has 5000 bytes; a dispatch has at most 1024",
        "it is of version 9; this program knows version 1 alone",
        "a field is missing or of the wrong type",
    ]
    assert all({"topic", "partition", "offset"} <= set(line) for line in lines)


async def test_another_outbox_under_the_same_prefix_is_told_of_once_and_left_alone(
    source: KafkaSource, broker: Broker, relay_store: RelayStore, enqueue: Enqueue, outbox_id: UUID
) -> None:
    await enqueue()
    steps = await relay_store.dispatch()
    with capture_logs() as logs:
        for value in [*records(uuid4(), steps), *records(uuid4(), steps), *records(outbox_id, steps)]:
            broker.put("dispatch.authz", value, partition=1)
        taken = await taken_by(source, bool)
    assert len(taken) == 1
    assert source.dropped == {"foreign": 2}
    assert [line["event"] for line in logs] == ["kafka.foreign_record"]


async def test_two_members_share_the_partitions_and_one_that_leaves_gives_back_what_it_did_not_take(
    settings: Settings, broker: Broker, relay_store: RelayStore, enqueue: Enqueue, outbox_id: UUID
) -> None:
    for place in range(20):
        await enqueue(f"s{place}")
    steps = await relay_store.dispatch()
    for number, value in enumerate(records(outbox_id, steps)):
        broker.put("dispatch.authz", value, partition=number % 4)
    async with open_source(settings, broker, outbox_id) as stays:
        async with open_source(settings, broker, outbox_id) as leaves:
            # Each takes a little, so that both have more waiting.
            some = await one_each(leaves, stays)
            leaves.close()
        rest = await taken_by(stays, lambda found: len(found) + len(some) >= 20)
    assert sorted(one.intent_id for one in [*some, *rest]) == sorted(one.intent_id for one in steps)


async def one_each(*sources: KafkaSource) -> list[Dispatch]:
    found: list[Dispatch] = []
    async with asyncio.timeout(240):
        for source in sources:
            while not (taken := await source.take({Consumer.AUTHZ: 1})):
                for other in sources:
                    await other.wait_for_work(0.05)
            found += taken
            if len(found) >= 20:
                break
    return found


async def test_slow_steps_hold_up_neither_their_partition_nor_the_membership(
    bench: Bench, enqueue: Enqueue, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A member that does not poll for so long is put out of its group.
    monkeypatch.setattr("outbox.kafka.source._INBOX_LEAST", 2)
    slow, release = await enqueue("slow"), asyncio.Event()
    for place in range(15):
        await enqueue(f"quick{place}")

    async def behave(dispatch: Dispatch) -> Outcome:
        if dispatch.intent_id == slow:
            await release.wait()
        return Done()

    bench.effects.behaviour = behave
    async with bench.worker(concurrency=2, step_timeout=60.0, lease=60.0) as worker:
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(240):
            while (await query(CREATED))[0]["n"] < 15:  # noqa: ASYNC110 - the event is a row in Postgres
                await asyncio.sleep(0.02)
        release.set()
        await running
    assert (await query(CREATED))[0]["n"] == 16
    assert (await query("SELECT count(*)::integer AS n FROM outbox.attempts"))[0]["n"] == 0


async def test_partitions_that_were_full_go_on_while_others_are_read(
    settings: Settings, broker: Broker, outbox_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.kafka.source._INBOX_LEAST", 50)
    monkeypatch.setattr("outbox.kafka.consumer._POLL_RECORDS", 20)
    for number in range(400):
        broker.put("dispatch.authz", b"{}", partition=number % 4)
    async with open_source(settings, broker, outbox_id) as source:
        await soon(lambda: source.dropped["bad"] >= 50)
        for more in range(5):
            before = source.dropped["bad"]
            broker.put("dispatch.temporal", b"{}", partition=more % 4)
            await soon(lambda before=before: source.dropped["bad"] > before)  # type: ignore[misc]
            await source.take({Consumer.TEMPORAL: 50})
        async with asyncio.timeout(240):
            while source.dropped["bad"] < 405:
                await source.take(CREDIT)
                await source.wait_for_work(0.05)


async def test_many_stale_records_are_set_aside_at_once_whatever_room_there_is(
    source: KafkaSource, broker: Broker, relay_store: RelayStore, enqueue: Enqueue, outbox_id: UUID
) -> None:
    await enqueue()
    (step,) = await relay_store.dispatch()
    (value,) = records(outbox_id, [step])
    for number in range(300):
        stale = Envelope(outbox_id, uuid4(), EventType.CREATE_REQUESTED, number + 1)
        broker.put("dispatch.authz", encode(stale), partition=0)
    broker.put("dispatch.authz", value, partition=0)
    asked = 0
    async with asyncio.timeout(240):
        while not (taken := await source.take({Consumer.AUTHZ: 1})):
            asked += 1
            await source.wait_for_work(0.05)
    assert [one.intent_id for one in taken] == [step.intent_id]
    assert source.dropped["stale"] == 300
    assert asked < 100


async def test_records_carry_no_word_of_the_request(
    settings: Settings, broker: Broker, enqueue: Enqueue, outbox_id: UUID
) -> None:
    intent = await enqueue()
    async with relaying(settings) as relay:
        await soon(lambda: relay.dispatched == 1)
    (record,) = broker.read("dispatch.authz")
    assert record.key.decode().endswith("--s")
    assert orjson.loads(record.value) == {
        "v": 1,
        "outbox": str(outbox_id),
        "intent": str(intent),
        "event": "schedule.create.requested",
        "lease": 1,
    }


async def test_two_relays_dispatch_each_step_once(
    settings: Settings, broker: Broker, enqueue: Enqueue
) -> None:
    for place in range(30):
        await enqueue(f"s{place}")
    async with relaying(settings) as one, relaying(settings) as other:
        await soon(lambda: one.dispatched + other.dispatched == 30)
    found = broker.read("dispatch.authz")
    assert len({record.key for record in found}) == len(found) == 30


async def test_a_relay_that_can_not_publish_gives_the_steps_back(
    settings: Settings, enqueue: Enqueue, query: Query
) -> None:
    """As on a cluster that has lost its topics: nobody makes them by the way."""
    if chosen_broker()[0] != "apache":
        pytest.skip("tansu makes topics when they are asked for")
    await enqueue()
    lost = settings.model_copy(update={"kafka_prefix": f"lost{uuid4().hex[:8]}"})
    async with relaying(lost) as relay:
        await soon(lambda: relay.recalled >= 1, seconds=60)
        assert relay.dispatched == 0
        create_topics(lost)
        await soon(lambda: relay.dispatched == 1, seconds=60)
    (row,) = await query("SELECT state, attempts FROM outbox.queue")
    assert row == {"state": "dispatched", "attempts": 0}


async def test_a_relay_without_a_broker_dispatches_nothing(
    settings: Settings, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    nowhere = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"})
    with capture_logs() as logs:
        async with relaying(nowhere):
            await soon(lambda: any(line["event"] == "kafka.away" for line in logs), seconds=60)
    (row,) = await query("SELECT place, state FROM outbox.queue")
    assert row == {"place": "incoming", "state": "queued"}


@asynccontextmanager
async def relaying(settings: Settings) -> AsyncIterator[Relay]:
    async with open_relay(settings) as relay, running(relay):
        yield relay


def test_names_of_topics_and_groups() -> None:
    outbox_id = UUID("11111111-1111-4111-8111-111111111111")
    assert names.dispatch_topics("agent-schedules") == {
        "agent-schedules.dispatch.authz": Consumer.AUTHZ,
        "agent-schedules.dispatch.temporal": Consumer.TEMPORAL,
        "agent-schedules.dispatch.both": Consumer.BOTH,
    }
    assert names.events_topic("agent-schedules") == "agent-schedules.events"
    group = names.worker_group("agent-schedules", outbox_id)
    assert group == f"agent-schedules.workers.{outbox_id}"
