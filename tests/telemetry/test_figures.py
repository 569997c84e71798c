"""The figures of the whole outbox are what its tables hold; and what they cost those who collect them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from random import Random

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store.engine import open_engine
from outbox.store.watching import Figures, gauges
from outbox.store.work import Timing, WorkStore
from outbox.telemetry import catalogue
from outbox.telemetry.aside import Aside
from outbox.telemetry.cached import Cached
from tests.store.conftest import Enqueue, Query, enqueue, query
from tests.store.roles import connected_as

__all__ = ["enqueue", "query"]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database) as engine:
        yield engine


def by_labels(figures: Figures, metric: catalogue.Metric) -> dict[tuple[str, ...], float]:
    return dict(figures.get(metric.name, []))


async def test_an_outbox_with_nothing_in_it_has_no_ages(engine: AsyncEngine) -> None:
    figures = await gauges(engine)
    for metric in (catalogue.OLDEST_HEAD_AGE, catalogue.OLDEST_REVOCATION_AGE, catalogue.AUDIT_AGE):
        assert metric.name not in figures
    assert by_labels(figures, catalogue.PARKED) == {(): 0}
    assert by_labels(figures, catalogue.BREAKER_OPEN) == {("authz",): 0, ("temporal",): 0, ("both",): 0}


async def test_what_waits_is_told_by_its_place_its_state_and_its_store(
    engine: AsyncEngine, enqueue: Enqueue, query: Query
) -> None:
    for name in ("a", "b", "c", "parked", "new"):
        await enqueue(name)
    await enqueue("a", "delete")
    await query("UPDATE outbox.queue SET place = 'behind' WHERE event_type ~ 'delete'")
    await query(
        "UPDATE outbox.queue SET place = 'head', state = 'ready'"
        " WHERE place = 'incoming' AND schedule_id !~ 'new$'"
    )
    await query("UPDATE outbox.queue SET state = 'parked', due_at = 'infinity' WHERE schedule_id ~ 'parked$'")
    await query("UPDATE outbox.queue SET state = 'waiting', consumer = 'temporal' WHERE schedule_id ~ 'c$'")
    figures = await gauges(engine)
    assert by_labels(figures, catalogue.HEADS) == {("authz", "ready"): 2, ("temporal", "waiting"): 1}
    assert by_labels(figures, catalogue.WAITING) == {("incoming",): 1, ("behind",): 1, ("deferred",): 0}
    assert by_labels(figures, catalogue.PARKED) == {(): 1}


async def test_parked_heads_and_deletes_that_wait_have_ages_of_their_own(
    engine: AsyncEngine, enqueue: Enqueue, query: Query
) -> None:
    for name, hours in (("parked", 3), ("revoked", 2), ("plain", 1)):
        intent = await enqueue(name, "delete" if name == "revoked" else "create")
        await query(
            "UPDATE outbox.queue SET place = 'head', state = 'ready', intent_id = outbox.first_id("
            "clock_timestamp() - make_interval(hours => %s)) WHERE intent_id = %s",
            hours,
            intent,
        )
    await query("UPDATE outbox.queue SET state = 'parked' WHERE schedule_id ~ 'parked$'")
    figures = await gauges(engine)
    ages = {
        metric: round(by_labels(figures, metric)[()] / 3600, 2)
        for metric in (
            catalogue.OLDEST_HEAD_AGE,
            catalogue.OLDEST_PARKED_AGE,
            catalogue.OLDEST_UNPARKED_HEAD_AGE,
            catalogue.OLDEST_REVOCATION_AGE,
        )
    }
    assert list(ages.values()) == [3, 3, 2, 2]


async def test_breakers_budgets_and_drift_are_told(engine: AsyncEngine, query: Query) -> None:
    await query("""
        INSERT INTO outbox.breakers (consumer, since, probe_at, error_code, error_message)
        VALUES ('temporal', clock_timestamp() - interval '10 minutes', now(), 'unreachable', 'away')""")
    await query("INSERT INTO outbox.budgets VALUES ('temporal', 7.5, now())")
    await query("""
        UPDATE outbox.audit SET last_ended_at = clock_timestamp() - interval '1 hour',
                                last_found = '{"orphan_tuple": 3, "foreign": 1}'""")
    figures = await gauges(engine)
    assert by_labels(figures, catalogue.BREAKER_OPEN)["temporal",] == 1
    assert by_labels(figures, catalogue.BREAKER_AGE) == {("temporal",): pytest.approx(600, abs=60)}
    assert by_labels(figures, catalogue.BUDGET_LEFT) == {("temporal",): 7.5}
    assert by_labels(figures, catalogue.DRIFT) == {("orphan_tuple",): 3, ("foreign",): 1}
    assert by_labels(figures, catalogue.AUDIT_AGE) == {(): pytest.approx(3600, abs=60)}


async def test_leases_that_expired_are_counted_whatever_is_pruned(
    engine: AsyncEngine, enqueue: Enqueue, query: Query
) -> None:
    for name in ("a", "b"):
        await enqueue(name, "delete")
    dies = WorkStore(engine, Timing(lease=0.0, step_timeout=0.0, late_write=0.0, verify_again=0.0))
    for _ in range(3):
        taken = await dies.claim({Consumer.TEMPORAL: 5})
    settled = await dies.settle([decide(one, Done(), RetryPolicy(), Random(1)) for one in taken])
    assert len(settled.matched) == 2
    expected = {("authz",): 0, ("temporal",): 4, ("both",): 0}
    assert by_labels(await gauges(engine), catalogue.LEASES_EXPIRED) == expected
    await query("DELETE FROM outbox.attempts")
    assert by_labels(await gauges(engine), catalogue.LEASES_EXPIRED) == expected


async def test_live_schedules_are_counted_and_beyond_the_bound_estimated(
    engine: AsyncEngine, query: Query
) -> None:
    await query("""
        INSERT INTO outbox.lanes (schedule_id, live_intent)
        SELECT 'a--' || n, CASE WHEN n % 4 > 0 THEN gen_random_uuid() END
          FROM generate_series(1, 4000) AS n""")
    await query("ANALYZE outbox.lanes")
    ((_, live),) = (await gauges(engine))[catalogue.LIVE_SCHEDULES.name]
    assert live == pytest.approx(3000, rel=0.1)
    await query("DELETE FROM outbox.lanes WHERE schedule_id NOT LIKE 'a--1__'")
    assert by_labels(await gauges(engine), catalogue.LIVE_SCHEDULES) == {(): 75}


async def test_the_oldest_transaction_that_holds_vacuum_back_has_an_age(
    engine: AsyncEngine, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT txid_current(), extract(epoch FROM now())::float8")
        _, began = await cursor.fetchone() or (0, 0.0)
        ((_, age),) = (await gauges(engine))[catalogue.OLDEST_TRANSACTION_AGE.name]
        later = await (
            await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        ).fetchone()
        assert later
        assert 0 <= age <= later[0] - began


async def test_every_figure_is_in_the_catalogue_with_its_labels(
    engine: AsyncEngine, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await query("UPDATE outbox.audit SET last_found = '{\"foreign\": 1}', last_ended_at = now()")
    known = {metric.name: len(metric.labels) for metric in catalogue.OF_THE_OUTBOX}
    figures = await gauges(engine)
    assert {(name, len(labels)) for name, values in figures.items() for labels, _ in values} <= known.items()


def test_a_workers_role_may_read_the_figures_and_a_producers_may_not(database: str) -> None:
    with connected_as(database, "outbox_worker") as worker:
        assert worker.execute("SELECT count(*) FROM outbox.gauges(10)").fetchone() != (0,)
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with connected_as(database, "outbox_producer") as producer, refused:
        producer.execute("SELECT outbox.gauges(10)")


@pytest.fixture
def aside() -> Iterator[Aside]:
    with Aside() as aside:
        yield aside


def test_however_many_collect_the_question_is_asked_once(aside: Aside) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    cached = Cached("x", aside, ask, seconds=3600)
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(cached.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8
    assert [Cached("x", aside, ask, seconds=0).get() for _ in range(2)] == [2, 3]


def test_what_is_not_answered_in_time_is_left_out_and_waited_for_once(aside: Aside) -> None:
    release = threading.Event()

    async def ask() -> int:
        await asyncio.to_thread(release.wait)
        return 1

    cached = Cached("x", aside, ask, seconds=3600)
    with capture_logs() as logs:
        # A hundred metrics of one question: were each waited for, this would take minutes.
        assert [cached.get() for _ in range(100)] == [None] * 100
    release.set()
    assert [line["event"] for line in logs] == ["figures.not_read"]


def test_a_question_that_fails_is_left_out_and_told_of_once_an_outage(aside: Aside) -> None:
    answers: list[int | Exception] = [OSError("away"), OSError("away"), 5, OSError("away")]

    async def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cached = Cached("Postgres", aside, ask, seconds=0)
    with capture_logs() as logs:
        assert [cached.get() for _ in range(4)] == [None, None, 5, None]
    assert [(line["event"], line["of"]) for line in logs] == [("figures.not_read", "Postgres")] * 2
