"""Changes of live schedules, from the request to the stores."""

import asyncio
from typing import Any

import pytest
from grpc import StatusCode as Status
from temporalio.api.workflowservice.v1 import UpdateScheduleRequest

from outbox.audit.drift import DriftKind
from outbox.compose.audit import compare_stores
from outbox.testing import FaultProxy
from tests.pipeline.harness import BAD_CRON, Pipeline
from tests.pipeline.stores import legacy
from tests.pipeline.test_faults import FAULTS, QUICK
from tests.pipeline.test_repairs import REPAIRING, let_repairs_be_due

CREATE, UPDATE, DELETE = "CreateSchedule", "UpdateSchedule", "DeleteSchedule"


def workflows(proxy: FaultProxy) -> list[str]:
    """What each update that was sent would start."""
    sent = [UpdateScheduleRequest.FromString(call.request) for call in proxy.calls(UPDATE)]
    return [one.schedule.action.start_workflow.workflow_type.name for one in sent]


async def endings(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    """How the lane's intents ended, in its order, repairs apart."""
    found = await pipeline.ledger.rows(
        "SELECT id FROM outbox.intents WHERE kind <> 'repair' ORDER BY position"
    )
    return [await pipeline.ledger.ended_as(row["id"]) for row in found]


async def drifts(pipeline: Pipeline) -> list[DriftKind]:
    report = await compare_stores(pipeline.settings, ids=[pipeline.lane()])
    assert report.busy == []
    return [drift.kind for drift in report.drifts]


@pytest.mark.both_wires
async def test_a_whole_life_is_enqueued_in_one_go_and_applied_in_order(pipeline: Pipeline) -> None:
    async with pipeline.producer() as producer:
        await pipeline.create(within=producer)
        for number in range(5):
            await pipeline.update(within=producer, workflow_name=f"Run-{number}", cron_expression="0 4 * * *")
        await pipeline.update(within=producer, paused=True, note="out of office")
        await pipeline.delete(within=producer)
        again = await pipeline.create(within=producer, by="bob")
        last = await pipeline.update(within=producer, interval_seconds=3600)
    await pipeline.work()
    assert await endings(pipeline) == [
        ("created", None),
        *[("updated", None)] * 6,
        ("deleted", None),
        ("created", None),
        ("updated", None),
    ]
    found = await pipeline.stores.schedule(pipeline.lane())
    assert found
    assert (found.stamp, found.revision, found.workflow) == (str(again.id), str(last.id), "Run")
    now = await pipeline.stores.definition(pipeline.lane())
    assert [one.interval.seconds for one in now.spec.interval] == [3600]
    assert not now.state.paused
    await pipeline.agree()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_whole_life_survives_every_fault(pipeline: Pipeline, fault: str) -> None:
    for proxy, methods in {
        pipeline.temporal: (CREATE, UPDATE, DELETE, "DescribeSchedule"),
        pipeline.spicedb: ("WriteRelationships", "DeleteRelationships"),
    }.items():
        for method in methods:
            FAULTS[fault](proxy, method, lambda _: True)
    async with pipeline.producer() as producer:
        await pipeline.create(within=producer)
        for number in range(5):
            await pipeline.update(within=producer, workflow_name=f"Run-{number}")
        await pipeline.update(within=producer, paused=True)
        await pipeline.delete(within=producer)
        await pipeline.create(within=producer, by="bob")
        last = await pipeline.update(within=producer, interval_seconds=3600)
    await pipeline.work(**QUICK)
    assert await endings(pipeline) == [
        ("created", None),
        *[("updated", None)] * 6,
        ("deleted", None),
        ("created", None),
        ("updated", None),
    ]
    found = await pipeline.stores.schedule(pipeline.lane())
    assert found
    assert (found.workflow, found.revision) == ("Run", str(last.id))
    await pipeline.agree()


async def test_an_update_that_a_later_one_has_overtaken_is_not_replayed(pipeline: Pipeline) -> None:
    await pipeline.create()
    bad = await pipeline.update(cron_expression=BAD_CRON)
    await pipeline.work()
    again = "SELECT action, reason FROM outbox.replay(%s, false, true)"
    assert (await pipeline.ledger.one(again, bad.id))["action"] == "reenqueued"
    await pipeline.update(cron_expression="0 4 * * *")
    await pipeline.work()
    told = await pipeline.ledger.one(again, bad.id)
    assert told["action"] == "refused"
    assert "overtaken" in told["reason"]
    await pipeline.agree()


async def test_what_is_left_out_stays_and_null_clears(pipeline: Pipeline) -> None:
    await pipeline.create(timezone="Europe/Berlin", workflow_params={"a": 1}, note="first")
    await pipeline.update(note=None, jitter_seconds=30)
    await pipeline.update(workflow_args=["x", 2])
    await pipeline.work()
    now = await pipeline.stores.definition(pipeline.lane())
    assert (now.spec.timezone_name, now.spec.jitter.seconds, now.state.notes) == ("Europe/Berlin", 30, "")
    assert [one.data for one in now.action.start_workflow.input.payloads] == [b'"x"', b"2"]
    await pipeline.agree()


async def test_a_run_of_updates_is_one_call_and_each_says_by_which_it_was_superseded(
    pipeline: Pipeline,
) -> None:
    await pipeline.create()
    updates = [await pipeline.update(workflow_name=f"Run-{number}") for number in range(20)]
    await pipeline.work()
    assert workflows(pipeline.temporal) == ["Run-19"]
    told = await pipeline.ledger.rows(
        "SELECT intent_id, superseded_by FROM outbox.events WHERE type = 'schedule.updated' ORDER BY id"
    )
    assert [row["intent_id"] for row in told] == [update.id for update in updates]
    assert {row["superseded_by"] for row in told[:-1]} == {updates[-1].id}
    assert told[-1]["superseded_by"] is None
    await pipeline.agree()


async def test_of_a_run_that_is_refused_only_the_bad_one_fails(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.update(workflow_name="First")
    await pipeline.update(cron_expression=BAD_CRON)
    await pipeline.update(timezone="Europe/Berlin")
    await pipeline.work()
    assert await endings(pipeline) == [
        ("created", None),
        ("updated", None),
        ("update_failed", "refused"),
        ("updated", None),
    ]
    now = await pipeline.stores.definition(pipeline.lane())
    assert now.spec.timezone_name == "Europe/Berlin"
    assert now.action.start_workflow.workflow_type.name == "First"
    await pipeline.agree()


async def test_where_nothing_is_live_an_update_fails_and_what_follows_goes_on(pipeline: Pipeline) -> None:
    await pipeline.update(paused=True)
    await pipeline.create()
    await pipeline.delete()
    await pipeline.update(paused=True)
    await pipeline.work()
    assert await endings(pipeline) == [
        ("update_failed", "not_live"),
        ("created", None),
        ("deleted", None),
        ("update_failed", "not_live"),
    ]
    await pipeline.agree()


async def test_what_a_person_changed_by_hand_survives_an_update_of_something_else(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.work()
    await pipeline.stores.pause_by_hand(pipeline.lane(), "by hand")
    await pipeline.update(timezone="Europe/Berlin")
    await pipeline.work()
    state = (await pipeline.stores.definition(pipeline.lane())).state
    assert (state.paused, state.notes) == (True, "by hand")
    await pipeline.agree()


async def test_a_repair_makes_the_schedule_again_as_it_was_last_updated(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.update(workflow_name="Other", paused=True, note="for now")
    await pipeline.work()
    before = await pipeline.stores.definition(pipeline.lane())
    await pipeline.stores.drop_schedule(pipeline.lane())
    assert await drifts(pipeline) == [DriftKind.MISSING_SCHEDULE]
    await pipeline.ledger.one("SELECT outbox.request_repair(%s)", pipeline.lane())
    await pipeline.work(**REPAIRING)
    assert await pipeline.stores.definition(pipeline.lane()) == before
    await pipeline.agree()


async def test_an_update_of_a_that_lands_on_b_after_the_bound_is_found_and_b_is_brought_back(
    pipeline: Pipeline,
) -> None:
    """It runs A's workflow under B's ownership: within the bound a hold rules that out."""
    await pipeline.create(by="alice")
    await pipeline.work()
    late = pipeline.temporal.apply_late(UPDATE)
    pipeline.temporal.fail(UPDATE, status=Status.INVALID_ARGUMENT, details="no")
    await pipeline.update(workflow_name="Of-A")
    await pipeline.delete()
    await pipeline.create(by="bob")
    await pipeline.work()
    assert (await late.release()).status is Status.OK
    found = await pipeline.stores.schedule(pipeline.lane())
    assert found
    assert found.workflow == "Of-A"
    assert await drifts(pipeline) == [DriftKind.WRONG_REVISION]
    await let_repairs_be_due(pipeline)
    await pipeline.work(**REPAIRING)
    found = await pipeline.stores.schedule(pipeline.lane())
    assert found
    assert (found.workflow, found.revision) == ("Run", None)
    await pipeline.agree()


async def test_an_update_without_an_answer_holds_what_follows_it(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.work()
    pipeline.temporal.lose_reply(UPDATE)
    update = await pipeline.update(workflow_name="Other")
    await pipeline.delete()
    await pipeline.work()
    held = await pipeline.ledger.one("SELECT hold_until FROM outbox.lanes")
    ended = await pipeline.ledger.one(
        "SELECT at FROM outbox.events WHERE type = 'schedule.unscheduled' AND at >= %s", held["hold_until"]
    )
    assert ended
    assert await pipeline.ledger.ended_as(update.id) == ("updated", None)
    assert workflows(pipeline.temporal) == ["Other"], "the store told that it had taken effect"
    await pipeline.agree()


async def test_an_update_that_is_committed_late_is_not_lost_in_a_run_that_was_written_without_it(
    pipeline: Pipeline,
) -> None:
    await pipeline.create()
    await pipeline.work()
    await pipeline.update(timezone="Europe/Berlin")
    async with pipeline.producer() as slow:
        late = await pipeline.update(within=slow, paused=True)
        last = await pipeline.update(workflow_name="Last")
        pipeline.temporal.lose_reply(UPDATE, status=None)
        working = asyncio.create_task(pipeline.work(**QUICK))
        written = await pipeline.temporal.wait_for_call(UPDATE)
        await written.answered.wait()
    await working
    assert await pipeline.ledger.ended_as(late.id) == ("updated", None)
    found = await pipeline.stores.schedule(pipeline.lane())
    assert found
    assert (found.workflow, found.revision) == ("Last", str(last.id))
    now = await pipeline.stores.definition(pipeline.lane())
    assert (now.spec.timezone_name, now.state.paused) == ("Europe/Berlin", True)
    await pipeline.agree()


async def test_an_adopted_schedule_is_kept_as_it_is_described_and_changed_by_what_updates_name(
    pipeline: Pipeline,
) -> None:
    await pipeline.stores.put(*legacy(pipeline.lane(), "holder"))
    await pipeline.stores.plant_schedule(pipeline.lane())
    await pipeline.ledger.one("SELECT outbox.request_repair(%s, true)", pipeline.lane())
    await pipeline.work(**REPAIRING)
    planted = await pipeline.stores.definition(pipeline.lane())
    await pipeline.update(timezone="Europe/Berlin", by="holder")
    await pipeline.work()
    now = await pipeline.stores.definition(pipeline.lane())
    assert now.spec.interval == planted.spec.interval
    assert now.action.start_workflow.workflow_id == "legacy"
    assert now.spec.timezone_name == "Europe/Berlin"
    assert await drifts(pipeline) == []

    # From now on it can be made again.
    await pipeline.stores.drop_schedule(pipeline.lane())
    await pipeline.ledger.one("SELECT outbox.request_repair(%s)", pipeline.lane())
    await pipeline.work(**REPAIRING)
    assert await pipeline.stores.definition(pipeline.lane()) == now
    assert await drifts(pipeline) == []
    gone = await pipeline.delete(by="holder")
    await pipeline.work()
    assert await pipeline.ledger.ended_as(gone.id) == ("deleted", None)


async def test_a_parked_update_that_is_discarded_leaves_the_schedule_as_it_was_before(
    pipeline: Pipeline,
) -> None:
    await pipeline.create()
    await pipeline.work()
    before = await pipeline.stores.definition(pipeline.lane())
    pipeline.temporal.lose_reply(UPDATE)
    update = await pipeline.update(workflow_name="Wrong")
    settings: dict[str, Any] = {"retry_max_strikes": 1}
    pipeline.temporal.fail("DescribeSchedule", status=Status.INTERNAL, details="broken", skip=1, times=3)
    await pipeline.work(**settings)
    await pipeline.ledger.await_row("SELECT 1 FROM outbox.queue WHERE state = 'parked'")
    pipeline.temporal.clear()
    await pipeline.ledger.one("SELECT action FROM outbox.discard(%s, 'not wanted')", update.id)
    await pipeline.work()
    assert await pipeline.ledger.ended_as(update.id) == ("update_failed", "discarded")
    assert await pipeline.stores.definition(pipeline.lane()) == before
    await pipeline.agree()
