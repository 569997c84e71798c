"""What the service promises, on real stores."""

from uuid import UUID

import pytest
import service
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client

import outbox
from outbox.testing import Converge, Faults

pytestmark = pytest.mark.asyncio


async def outcome(engine: AsyncEngine, intent: UUID) -> outbox.IntentResult:
    return await outbox.wait(engine, intent, timeout=120)


async def test_an_order_becomes_a_schedule(
    engine: AsyncEngine, outbox_converge: Converge, temporal: Client
) -> None:
    await service.order(engine, "daily", "alice", cron="0 9 * * *")
    await outbox_converge()
    found = await temporal.get_schedule_handle("agent-7--daily").describe()
    assert found.schedule.action.workflow == "Report"


async def test_an_order_that_fails_leaves_nothing(engine: AsyncEngine, outbox_converge: Converge) -> None:
    await service.order(engine, "daily", "alice")
    with pytest.raises(IntegrityError):
        await service.order(engine, "daily", "bob")
    await outbox_converge()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM outbox.intent_status")) == 1


async def test_a_report_can_be_moved(engine: AsyncEngine, outbox_converge: Converge) -> None:
    await service.order(engine, "daily", "alice")
    moved = await service.move(engine, "daily", "alice", cron="0 17 * * *")
    await outbox_converge()
    assert (await outcome(engine, moved)).event_type == "schedule.updated"


async def test_what_is_cancelled_at_once_never_stays(engine: AsyncEngine, outbox_converge: Converge) -> None:
    await service.order(engine, "daily", "alice")
    gone = await service.cancel(engine, "daily", "alice")
    await outbox_converge()
    assert (await outcome(engine, gone)).event_type == "schedule.deleted"


async def test_a_bad_time_is_refused_and_leaves_no_owner(
    engine: AsyncEngine, outbox_converge: Converge
) -> None:
    ordered = await service.order(engine, "daily", "alice", cron="at noon")
    await outbox_converge()
    result = await outcome(engine, ordered)
    assert result.status is outbox.Status.FAILED
    assert result.error is not None
    assert result.error.code == outbox.ErrorCode.REFUSED


@pytest.mark.usefixtures("outbox_worker")
async def test_whoever_waits_sees_the_outcome(engine: AsyncEngine) -> None:
    ordered = await service.order(engine, "daily", "alice")
    assert (await outcome(engine, ordered)).status is outbox.Status.SUCCEEDED


async def test_a_lost_answer_makes_no_second_schedule(
    engine: AsyncEngine, outbox_converge: Converge, outbox_faults: Faults
) -> None:
    outbox_faults.temporal.lose_reply("CreateSchedule")
    ordered = await service.order(engine, "daily", "alice")
    await outbox_converge()
    assert (await outcome(engine, ordered)).status is outbox.Status.SUCCEEDED
    assert len(outbox_faults.temporal.calls("CreateSchedule")) > 1


@pytest.mark.usefixtures("outbox_worker")
async def test_orders_are_taken_while_spicedb_is_away(
    engine: AsyncEngine, outbox_converge: Converge, outbox_faults: Faults
) -> None:
    with outbox_faults.spicedb.outage():
        ordered = await service.order(engine, "daily", "alice")
        with pytest.raises(TimeoutError):
            await outbox.wait(engine, ordered, timeout=0.2)
    await outbox_converge()
    assert (await outcome(engine, ordered)).status is outbox.Status.SUCCEEDED
