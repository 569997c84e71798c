"""The subscribers of the events topic, on the real broker: crashes and repetitions change nothing."""

import asyncio
import importlib.util
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import psycopg
import pytest

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Refused
from outbox.settings import Settings
from tests.docs.pages import Page
from tests.examples.conftest import EXAMPLES, SECONDS, started
from tests.kafka.conftest import Broker, Work, drained, publishing
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench

Publish = Callable[[], Awaitable[None]]


@pytest.fixture
def bench(database: str) -> Bench:
    """On the direct wire, on which workers publish, too; schedules named ``bad`` are refused."""

    def refuse_the_bad(dispatch: Dispatch) -> Outcome:
        return Refused(ErrorCode.REFUSED, "no") if dispatch.schedule_id.endswith("--bad") else Done()

    bench = Bench(database)
    bench.effects.behaviour = refuse_the_bad
    return bench


@pytest.fixture
def publish(work: Work, settings: Settings, query: Query) -> Publish:
    """Settle all that was enqueued, and publish its events."""

    async def run() -> None:
        await work()
        async with publishing(settings):
            await drained(query)

    return run


@pytest.fixture
def environment(settings: Settings, database: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database,
        "OUTBOX_KAFKA_BOOTSTRAP": str(settings.kafka_bootstrap),
        "OUTBOX_KAFKA_PREFIX": settings.kafka_prefix,
    }


def deliver_all_again(broker: Broker) -> None:
    for one in broker.read("events"):
        broker.put("events", one.value, key=one.key, partition=one.partition, headers=one.headers)


def module(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / script)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# live_schedules.py


async def test_the_subscriber_keeps_a_table_of_what_stands(
    publish: Publish,
    broker: Broker,
    enqueue: Enqueue,
    environment: dict[str, str],
    *,
    agent: str,
    tmp_path: Path,
) -> None:
    table = tmp_path / "schedules.db"

    def standing() -> list[tuple[str, str | None]]:
        with closing(sqlite3.connect(table)) as rows:
            return rows.execute("SELECT schedule_id, intent_id FROM schedules").fetchall()

    await enqueue("s")
    await enqueue("s", "delete")
    stands = await enqueue("s")
    await publish()
    async with started("subscriber/live_schedules.py", table, **environment) as program:
        assert await program.lines(3) == [f"{agent}--s {what}" for what in ("created", "deleted", "created")]
        await program.interrupt()
    assert standing() == [(f"{agent}--s", str(stands))]
    deliver_all_again(broker)
    await enqueue("s", "delete")
    await publish()
    async with started("subscriber/live_schedules.py", table, **environment) as program:
        assert await program.lines(1) == [f"{agent}--s deleted"]
    assert standing() == [(f"{agent}--s", None)]


# projection.py


def published(broker: Broker) -> list[tuple[int, int, str, bool]]:
    """Partition, offset, event id, and whether it is terminal, of each record."""
    return [
        (
            one.partition,
            one.offset,
            dict(one.headers)["ce_id"].decode(),
            bool(orjson.loads(one.value)["terminal"]),
        )
        for one in broker.read("events")
    ]


async def kept(query: Query) -> tuple[dict[int, int], set[str]]:
    """Where the projection is in each partition, and the events that it holds."""
    places = await query("SELECT partition, next_offset FROM projection_offsets")
    events = await query("SELECT event_id FROM schedule_history")
    return {one["partition"]: one["next_offset"] for one in places}, {one["event_id"] for one in events}


async def caught_up(broker: Broker, query: Query) -> None:
    ends: dict[int, int] = {}
    for partition, offset, *_ in published(broker):
        ends[partition] = offset + 1
    await made(query, "projection_offsets")
    async with asyncio.timeout(SECONDS):
        while not ends.items() <= (await kept(query))[0].items():  # noqa: ASYNC110 - the place is in Postgres
            await asyncio.sleep(0.02)


async def made(query: Query, table: str) -> None:
    """Wait for a table of the program's own."""
    async with asyncio.timeout(SECONDS):
        while not (await query("SELECT to_regclass(%s) AS made", table))[0]["made"]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def states(query: Query) -> dict[str, tuple[str | None, int]]:
    rows = await query("SELECT * FROM schedule_states")
    return {
        one["schedule_id"].split("--")[1]: (one["live_intent"] and str(one["live_intent"]), one["failures"])
        for one in rows
    }


async def test_the_projection_counts_each_event_once_whatever_is_repeated(
    publish: Publish, broker: Broker, enqueue: Enqueue, query: Query, *, environment: dict[str, str]
) -> None:
    daily = await enqueue("daily")
    await enqueue("bad")
    await enqueue("gone")
    await enqueue("gone", "delete")
    await publish()
    async with started("projection/projection.py", **environment):
        await caught_up(broker, query)
    stood = {"daily": (str(daily), 0), "bad": (None, 1), "gone": (None, 0)}
    assert await states(query) == stood

    deliver_all_again(broker)
    async with started("projection/projection.py", **environment):
        await caught_up(broker, query)
    assert await states(query) == stood

    # Even of its place in the topic it may lose sight.
    await query("TRUNCATE projection_offsets")
    await enqueue("bad")
    await publish()
    async with started("projection/projection.py", **environment) as program:
        assert (await program.lines(1))[0].endswith("--bad create_failed")
        await caught_up(broker, query)
    assert await states(query) == stood | {"bad": (None, 2)}
    told = await query("SELECT what, error FROM schedule_history ORDER BY at")
    assert [(one["what"], one["error"]) for one in told if one["error"]] == [("create_failed", "refused")] * 2


async def test_a_crash_within_a_batch_leaves_rows_and_place_together(
    publish: Publish, broker: Broker, enqueue: Enqueue, query: Query, *, environment: dict[str, str]
) -> None:
    await enqueue("s")
    await enqueue("s", "delete")
    await enqueue("s")
    await publish()
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as owner:
        owner.execute(module("projection/projection.py").TABLES)
    await query(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
    )
    await query(
        "CREATE TRIGGER dies BEFORE INSERT ON schedule_history FOR EACH ROW"
        " WHEN (NEW.what = 'deleted') EXECUTE FUNCTION die()"
    )
    async with started("projection/projection.py", **environment) as program:
        code, said = await program.ended()
    assert code == 1
    assert "die()" in said
    places, events = await kept(query)
    taken = {event for part, offset, event, last in published(broker) if last and offset < places[part]}
    assert events == taken

    await query("DROP TRIGGER dies ON schedule_history")
    async with started("projection/projection.py", **environment):
        await caught_up(broker, query)
    told = await query("SELECT what FROM schedule_history ORDER BY at")
    assert [one["what"] for one in told] == ["created", "deleted", "created"]


async def test_of_two_processes_one_keeps_the_projection(
    publish: Publish, broker: Broker, enqueue: Enqueue, query: Query, database: str
) -> None:
    await enqueue("bad")
    await publish()
    records: list[Any] = broker.read("events")
    example = module("projection/projection.py")
    with (
        psycopg.connect(database, autocommit=True) as one,
        psycopg.connect(database, autocommit=True) as two,
    ):
        first, second = example.Projection(one, "events"), example.Projection(two, "events")
        assert first.begin(0) == second.begin(0) == 0
        (told,) = first.take_in(0, records)
        assert told.endswith("--bad create_failed")
        with pytest.raises(example.OvertakenError):
            second.take_in(0, records)
    assert [failures for _, failures in (await states(query)).values()] == [1]


# without_kafka.py


async def test_without_kafka_a_producer_learns_what_became_of_its_own_requests(
    bench: Bench, query: Query, producer: str, agent: str
) -> None:
    (ask,) = Page("docs/examples/projection/README.md").blocks("sql")
    refused = ask.replace("order-17", "order-18").replace("weekly", "bad")
    async with started("projection/without_kafka.py", DATABASE_URL=producer) as program:
        await made(query, "reports")
        with psycopg.connect(producer) as application:
            application.execute((ask + refused).replace("agent-7", agent).encode())
        async with bench.worker() as worker:
            await worker.run()
        assert sorted(await program.lines(2)) == ["order-17 succeeded", "order-18 failed refused"]
    rows = await query("SELECT number, status, failure FROM reports ORDER BY number")
    assert [tuple(one.values()) for one in rows] == [
        ("order-17", "succeeded", None),
        ("order-18", "failed", "refused"),
    ]
