"""Workers that wait, die or fail at each named point; and the kit's own judge of what came of it."""

from pathlib import Path
from typing import Any

import pytest

from outbox import failpoints
from outbox.failpoints import POINTS
from outbox.testing import Invariant, Stop, arm_from, armed, judge, read_stores
from tests.pipeline.harness import BAD_CRON, Pipeline
from tests.pipeline.stores import legacy

QUICK: dict[str, Any] = {"step_timeout_seconds": 1.0, "lease_seconds": 1.0, "late_write_seconds": 0.3}


async def test_a_worker_waits_at_a_point_until_it_is_opened(pipeline: Pipeline) -> None:
    stop = Stop()
    intent = await pipeline.create()
    with armed("settle.before", stop):
        async with pipeline.working(step_timeout_seconds=20.0, lease_seconds=20.0):
            await stop.reached.wait()
            assert await pipeline.ledger.events(intent.id) == ["create.requested"]
            stop.open()
            await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_dies_at_any_point_and_another_goes_on(
    pipeline: Pipeline, tmp_path: Path, point: str
) -> None:
    intent = await pipeline.create()
    last = await pipeline.delete()
    async with pipeline.process(tmp_path / "log", failpoints=f"{point}=exit@2", **QUICK) as process:
        assert await process.wait() == -9
    await pipeline.work(**QUICK)
    assert await pipeline.ledger.ended_as(intent.id) == ("created", None)
    assert await pipeline.ledger.ended_as(last.id) == ("deleted", None)
    await pipeline.agree()


async def test_what_is_raised_at_a_step_is_an_attempt_without_an_answer(pipeline: Pipeline) -> None:
    intent = await pipeline.create()
    arm_from("apply.after=fail@2")
    async with pipeline.working():
        await pipeline.ledger.await_attempt(intent.id, "unexpected")
        failpoints.disarm("apply.after")
        await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_the_judge_finds_nothing_wrong_with_what_went_right(pipeline: Pipeline) -> None:
    await pipeline.create("lives")
    await pipeline.create("broken", cron=BAD_CRON)
    await pipeline.create("gone")
    await pipeline.delete("gone")
    await pipeline.stores.put(*legacy(pipeline.lane("theirs"), "mallory"))
    before = await read_stores(pipeline.settings, [pipeline.lane("theirs")])
    await pipeline.create("theirs")
    await pipeline.work()
    found, history = await judge(pipeline.settings, before=before)
    assert found == []
    assert "schedule.compensation_requested" in history.story(pipeline.lane("broken"))


async def test_the_judge_sees_what_went_wrong(pipeline: Pipeline) -> None:
    lost, orphan, theirs = pipeline.lane("lost"), pipeline.lane("orphan"), pipeline.lane("theirs")
    await pipeline.create("orphan")
    await pipeline.stores.put(*legacy(theirs, "mallory"))
    before = await read_stores(pipeline.settings, [theirs])
    await pipeline.work()
    await pipeline.create("lost")
    await pipeline.ledger.execute("DELETE FROM outbox.queue")
    await pipeline.stores.drop_schedule(orphan)
    await pipeline.stores.put(*legacy(theirs, "eve"))
    found, _ = await judge(pipeline.settings, before=before)
    assert {(one.invariant, one.schedule_id) for one in found} == {
        (Invariant.ENDS_ONCE, lost),
        (Invariant.SCHEDULE, orphan),
        (Invariant.FOREIGN, theirs),
    }
