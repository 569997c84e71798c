"""Postgres' clock is set: what it held back, what it had leased, and what a person does about it."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from grpc import StatusCode as Status

from outbox.testing.databases import copied_outbox, prepare_template
from tests.database_clock import HOUR, DatabaseClock
from tests.debian import NotToBeHadError
from tests.docs.pages import Page
from tests.pipeline.harness import Pipeline, ends_as
from tests.pipeline.ledger import until
from tests.pipeline.scenes import CREATE
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack

pytestmark = pytest.mark.nemesis

# Far longer than a test takes on any machine, and far shorter than an hour.
SLOW: dict[str, Any] = {
    "step_timeout_seconds": 300.0,
    "lease_seconds": 300.0,
    "late_write_seconds": 60.0,
    "verify_again_seconds": float(HOUR),
    "repair_concurrency": 1,
}
AHEAD = "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 AS seconds FROM outbox.queue"


@pytest.fixture(scope="module")
def clocked() -> Iterator[tuple[LazyStack, str, DatabaseClock]]:
    """A Postgres of the module's own with a clock of its own, and a database there to copy."""
    with folder() as home:
        try:
            clock = DatabaseClock(home / "clock")
        except NotToBeHadError as error:
            pytest.skip(str(error))
        with clock.worn(), LazyStack(home / "stack") as lazy:
            yield lazy, prepare_template(lazy.info), clock


@pytest.fixture
def database(clocked: tuple[LazyStack, str, DatabaseClock]) -> Iterator[str]:
    """Instead of the shared server's."""
    lazy, template, _ = clocked
    with copied_outbox(lazy.info, template) as url:
        yield url


@pytest.fixture
def clock(clocked: tuple[LazyStack, str, DatabaseClock]) -> DatabaseClock:
    return clocked[2]


async def test_a_hold_that_a_step_forward_ends_lets_a_late_write_in_which_the_second_repair_undoes(
    pipeline: Pipeline, clock: DatabaseClock
) -> None:
    """Within its bound by any other clock. Nobody has access by what it made."""
    late = pipeline.temporal.apply_late(CREATE)
    pipeline.temporal.fail(CREATE, status=Status.INVALID_ARGUMENT)
    intent = await pipeline.create()
    async with pipeline.working(**SLOW):
        await pipeline.ledger.await_state(intent.id, "holding")
        clock.step(HOUR)
        await pipeline.ledger.await_event(intent.id, "create_failed")
        await until("the first repair", lambda: repairs(pipeline, 1))
        assert (await late.release()).status is Status.OK
        runs = await pipeline.stores.schedule(pipeline.lane())
        assert runs
        assert runs.stamp == str(intent.id)
        assert await pipeline.stores.tuples(pipeline.lane()) == set()
        clock.step(HOUR)
        await until("the second repair", lambda: repairs(pipeline, 2))
    assert await pipeline.stores.schedule(pipeline.lane()) is None
    await ends_as(pipeline, intent.id, "create_failed", "refused")
    await pipeline.agree()


async def test_a_late_registration_never_lands_whatever_the_clock_says(
    pipeline: Pipeline, clock: DatabaseClock
) -> None:
    late = pipeline.spicedb.apply_late("WriteRelationships")
    pipeline.spicedb.fail("WriteRelationships", status=Status.INVALID_ARGUMENT)
    intent = await pipeline.create()
    async with pipeline.working(**SLOW):
        await pipeline.ledger.await_state(intent.id, "holding")
        clock.step(HOUR)
        await pipeline.ledger.await_event(intent.id, "create_failed")
    assert (await late.release()).status is Status.FAILED_PRECONDITION
    await pipeline.agree()


async def test_a_lease_that_a_step_forward_ends_is_taken_over_and_its_worker_fenced(
    pipeline: Pipeline, clock: DatabaseClock
) -> None:
    gate = pipeline.temporal.gate(CREATE)
    intent = await pipeline.create()
    async with pipeline.working(**SLOW) as worker:
        await gate.reached.wait()
        clock.step(HOUR)
        await pipeline.ledger.await_event(intent.id, "created")
        gate.open()
        await until("the first one to be fenced", lambda: dropped(worker))
    assert [row["error_code"] for row in await pipeline.ledger.attempts(intent.id)] == ["lease_expired"]
    await pipeline.agree()


async def test_what_was_due_by_a_clock_that_was_set_back_waits_until_it_is_brought_along(
    pipeline: Pipeline, clock: DatabaseClock
) -> None:
    """What is leased settles all the same, and what comes later goes on meanwhile."""
    pipeline.temporal.apply_late(CREATE, when=pipeline.about(pipeline.lane("held")))
    pipeline.temporal.fail(CREATE, status=Status.INVALID_ARGUMENT, when=pipeline.about(pipeline.lane("held")))
    held = await pipeline.create("held")
    async with pipeline.working(**SLOW):
        await pipeline.ledger.await_state(held.id, "holding")
        gate = pipeline.temporal.gate(CREATE, when=pipeline.about(pipeline.lane("leased")))
        leased = await pipeline.create("leased")
        await gate.reached.wait()
        clock.step(-HOUR)
        gate.open()
        await pipeline.ledger.await_event(leased.id, "created")
        later = await pipeline.create("later")
        await pipeline.ledger.await_event(later.id, "created")
        assert await seconds_ahead(pipeline, held.id) > HOUR - 600
        (statements,) = Page("docs/postgres.md").blocks("sql", mark="clock")
        await pipeline.ledger.execute(statements)
        assert 0 < await seconds_ahead(pipeline, held.id) < 600, "it still holds, for as long as it should"
        clock.step(600)
        await pipeline.ledger.await_event(held.id, "create_failed")
    await pipeline.agree()


async def repairs(pipeline: Pipeline, many: int) -> bool:
    rows = await pipeline.ledger.rows("SELECT 1 FROM outbox.events WHERE type = 'schedule.repaired'")
    return len(rows) == many


async def dropped(worker: Any) -> bool:
    await asyncio.sleep(0)
    return bool(worker.summary()["dropped"])


async def seconds_ahead(pipeline: Pipeline, intent: UUID) -> float:
    row = await pipeline.ledger.one(f"{AHEAD} WHERE intent_id = %s", intent)
    seconds: float = row["seconds"]
    return seconds
