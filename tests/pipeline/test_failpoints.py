"""Workers that wait, die or fail at each named point; and the kit's own judge of what came of it."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from outbox import failpoints
from outbox.failpoints import STEP_POINTS
from outbox.testing import Invariant, Stop, arm_from, armed, judge, read_stores
from tests.pipeline.harness import BAD_CRON, Pipeline
from tests.pipeline.ledger import until
from tests.pipeline.stores import legacy

ROUND = "SELECT 1 FROM outbox.audit WHERE last_ended_at IS NOT NULL"
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


@pytest.mark.parametrize("point", STEP_POINTS)
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


async def test_a_worker_whose_step_dies_says_so_and_another_goes_on(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    intent = await pipeline.create()
    log = tmp_path / "log"
    async with pipeline.process(log, failpoints="decide.before=fail@2", **QUICK) as process:
        assert await process.wait() == 1
    assert '"event": "step.died"' in log.read_text()
    assert "outbox: FailpointError: a failpoint" in log.read_text()
    await pipeline.work(**QUICK)
    assert await pipeline.ledger.ended_as(intent.id) == ("created", None)
    await pipeline.agree()


async def test_what_fails_beside_the_loop_is_started_again_and_named(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    points = "notifier.before=fail-once,audit.before=fail-once"
    async with pipeline.process(log, failpoints=points, audit_rate_per_second=50.0) as process:
        intent = await pipeline.create()
        await pipeline.ledger.await_event(intent.id, "created")
        # The audit goes on after it failed: a whole round ends.
        await until("a whole round of the audit", lambda: pipeline.ledger.rows(ROUND))
        process.terminate()
        assert await process.wait() == 0
    failed = [orjson.loads(line) for line in log.read_text().splitlines() if "task.failed" in line]
    assert {line["task"] for line in failed} == {"notifier", "audit"}
    assert "FailpointError" in str(failed)
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
