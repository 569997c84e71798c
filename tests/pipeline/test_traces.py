"""Traces that break simpler designs, each by name, on the real stores."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode as Status

from tests.pipeline.harness import BAD_CRON, NOBODY, PATIENT, Pipeline, ends_as
from tests.pipeline.ledger import until
from tests.pipeline.stores import legacy, owner, registered
from tests.spicedb_calls import removals

WRITE, REMOVE, READ = "WriteRelationships", "DeleteRelationships", "ReadRelationships"
CREATE, DELETE, DESCRIBE = "CreateSchedule", "DeleteSchedule", "DescribeSchedule"
REFUSAL = {"status": Status.INVALID_ARGUMENT, "details": "no such time zone"}
# For who looks while a step holds: a machine with other work may come to look late.
HOLDS_LONGER: dict[str, Any] = {"late_write_seconds": 4.0}


class TestSomebodyElsesName:
    """A create for a name that somebody holds adds no owner, and wipes nothing of theirs."""

    @pytest.mark.parametrize("by", ["mallory", NOBODY], ids=["mallory", "nobody"])
    async def test_with_schedule_and_tuples(self, pipeline: Pipeline, by: str) -> None:
        theirs = legacy(pipeline.lane(), "holder")
        await pipeline.stores.put(*theirs)
        schedule = await pipeline.stores.plant_schedule(pipeline.lane())
        intent = await pipeline.create(by=by)
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        assert pipeline.temporal.calls(CREATE) == []
        await pipeline.intact(schedule=schedule, tuples=theirs)
        assert not await pipeline.stores.may("read", pipeline.lane(), "mallory")

    @pytest.mark.parametrize("bare", [False, True], ids=["owner-and-parent", "owner-alone"])
    async def test_with_tuples_and_no_schedule(self, pipeline: Pipeline, *, bare: bool) -> None:
        holder = owner(pipeline.lane(), "holder")
        theirs = {holder} if bare else legacy(pipeline.lane(), "holder")
        await pipeline.stores.put(*theirs)
        intent = await pipeline.create(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        await pipeline.intact(schedule=None, tuples=theirs)

    async def test_with_a_schedule_and_no_tuple(self, pipeline: Pipeline) -> None:
        schedule = await pipeline.stores.plant_schedule(pipeline.lane())
        intent = await pipeline.create(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        assert "compensation_requested" in await pipeline.ledger.events(intent.id)
        await pipeline.intact(schedule=schedule, tuples=set())

    async def test_with_a_stamp_of_another_database(self, pipeline: Pipeline) -> None:
        theirs = registered(pipeline.lane(), uuid4(), "holder")
        await pipeline.stores.put(*theirs)
        intent = await pipeline.create(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        await pipeline.intact(schedule=None, tuples=theirs)

    async def test_with_a_stamp_of_another_lane(self, pipeline: Pipeline) -> None:
        elsewhere = await pipeline.create("elsewhere", cron=BAD_CRON)
        await pipeline.work()
        theirs = registered(pipeline.lane(), elsewhere.id, "holder")
        await pipeline.stores.put(*theirs)
        intent = await pipeline.create(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        await pipeline.intact(schedule=None, tuples=theirs)

    async def test_a_skipped_registration_meets_foreign_tuples(self, pipeline: Pipeline) -> None:
        theirs = legacy(pipeline.lane(), "holder")
        await pipeline.stores.put(*theirs)
        intent = await pipeline.create(by=NOBODY)
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "conflict_foreign")
        assert pipeline.temporal.calls(CREATE) == []
        await pipeline.intact(schedule=None, tuples=theirs)

    @pytest.mark.parametrize("second", ["bob", NOBODY], ids=["bob", "nobody"])
    @pytest.mark.parametrize("first", ["alice", NOBODY], ids=["owned", "unowned"])
    async def test_a_create_on_the_lanes_own_live_schedule(
        self, pipeline: Pipeline, first: str, second: str
    ) -> None:
        live = await pipeline.create(by=first)
        again = await pipeline.create(by=second, workflow_name="Other")
        await pipeline.work()
        await ends_as(pipeline, live.id, "created")
        await ends_as(pipeline, again.id, "create_failed", "conflict_live")
        assert len(pipeline.temporal.calls(CREATE)) == 1
        await pipeline.agree()


class TestLostReplies:
    """What took effect ends as done, whatever the client was told."""

    @pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.INTERNAL, None])
    async def test_of_a_create_that_took_effect(self, pipeline: Pipeline, status: Status | None) -> None:
        pipeline.temporal.lose_reply(CREATE, status=status)
        intent = await pipeline.create()
        await pipeline.work()
        await ends_as(pipeline, intent.id, "created")
        # Going forward may happen at once: nothing had to be held for it.
        assert {row["action"] for row in await pipeline.ledger.attempts(intent.id)} == {"retry"}
        assert removals(pipeline.spicedb) == []
        await pipeline.agree()

    @pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.INTERNAL, None])
    async def test_of_a_register_that_took_effect(self, pipeline: Pipeline, status: Status | None) -> None:
        pipeline.spicedb.lose_reply(WRITE, status=status)
        intent = await pipeline.create()
        await pipeline.work()
        await ends_as(pipeline, intent.id, "created")
        # Going forward may happen at once: nothing had to be held for it.
        assert {row["action"] for row in await pipeline.ledger.attempts(intent.id)} == {"retry"}
        assert removals(pipeline.spicedb) == []
        await pipeline.agree()

    async def test_an_ok_that_is_only_the_servers_memory_is_not_taken_for_a_schedule(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.temporal.lose_reply(CREATE)
        again = pipeline.temporal.gate(CREATE)
        intent = await pipeline.create()
        async with pipeline.working():
            await again.reached.wait()
            # Somebody deletes it; the server goes on to answer OK to the request id, and creates nothing.
            await pipeline.stores.drop_schedule(pipeline.lane())
            again.open()
            await pipeline.ledger.await_event(intent.id, "created")
        answers = [call.server.status for call in pipeline.temporal.calls(CREATE) if call.server]
        assert answers[:2] == [Status.OK, Status.OK]
        await pipeline.agree()


class TestLateWrites:
    """A request that reaches its store after its intent was given up on, or after the lane has moved on."""

    async def test_a_register_after_its_intent_failed_gives_nobody_access(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(WRITE)
        pipeline.spicedb.fail(WRITE, status=Status.INVALID_ARGUMENT)
        intent = await pipeline.create()
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "registration_refused")
        assert (await late.release()).status is Status.FAILED_PRECONDITION
        await pipeline.intact(schedule=None, tuples=set())
        await pipeline.agree()

    async def test_a_register_within_the_hold_is_found_and_goes_forward(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(WRITE)
        pipeline.spicedb.fail(WRITE, status=Status.INVALID_ARGUMENT)
        intent = await pipeline.create()
        async with pipeline.working(**HOLDS_LONGER):
            await pipeline.ledger.await_state(intent.id, "holding")
            assert (await late.release()).status is Status.OK
            await pipeline.ledger.await_event(intent.id, "created")
        await pipeline.agree()

    async def test_a_register_after_the_create_was_compensated(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(WRITE)
        intent = await pipeline.create(cron=BAD_CRON)
        await pipeline.work()
        await ends_as(pipeline, intent.id, "create_failed", "refused")
        assert (await late.release()).status is Status.FAILED_PRECONDITION
        await pipeline.agree()

    async def test_a_register_after_create_delete_and_re_create(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(WRITE)
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.create(by="bob")
        await pipeline.work()
        await pipeline.agree()
        assert (await late.release()).status is not Status.OK
        await pipeline.agree()
        await pipeline.delete(by="bob")
        await pipeline.work()
        assert (await late.release()).status is Status.FAILED_PRECONDITION
        await pipeline.agree()

    async def test_a_register_after_its_schedule_was_deleted(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(WRITE)
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.work()
        assert (await late.release()).status is Status.FAILED_PRECONDITION
        await pipeline.agree()

    async def test_a_deregister_of_a_delete_meets_the_re_created_one(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(REMOVE)
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.create(by="alice")
        await pipeline.work()
        await late.release()
        await pipeline.agree()

    async def test_a_compensation_meets_the_next_create(self, pipeline: Pipeline) -> None:
        late = pipeline.spicedb.apply_late(REMOVE)
        await pipeline.create(cron=BAD_CRON)
        await pipeline.create()
        await pipeline.work()
        await late.release()
        await pipeline.agree()

    async def test_a_temporal_delete_can_only_land_before_the_re_created_one(
        self, pipeline: Pipeline
    ) -> None:
        await pipeline.create(by="alice")
        await pipeline.work()
        late = pipeline.temporal.apply_late(DELETE)
        gone = await pipeline.delete()
        again = await pipeline.create(by="bob")
        async with pipeline.working(**HOLDS_LONGER):
            await late.held.wait()
            # The second attempt deletes; what undoes the registration waits for the first one all the same.
            held = await pipeline.ledger.await_state(gone.id, "holding")
            assert held["event_type"] == "schedule.unscheduled"
            assert held["due_at"] == held["unknown_until"]
            assert await pipeline.ledger.events(again.id) == ["create.requested"]
            await late.release()
            await pipeline.ledger.await_event(again.id, "created")
        await pipeline.agree()

    async def test_the_next_intent_holds_for_a_delete_that_may_still_land(self, pipeline: Pipeline) -> None:
        await pipeline.create(by="alice")
        await pipeline.work()
        late = pipeline.temporal.apply_late(DELETE)
        pipeline.temporal.fail(DELETE, **REFUSAL)
        gone = await pipeline.delete()
        again = await pipeline.create(by="bob")
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(gone.id, "holding")
            assert held["looking"]
            await late.release()
            await pipeline.ledger.await_event(again.id, "created")
        # The refusal came after an attempt that took effect: the delete was done.
        await ends_as(pipeline, gone.id, "deleted")
        await pipeline.agree()

    async def test_a_temporal_create_after_not_there_is_found_by_the_hold(self, pipeline: Pipeline) -> None:
        late = pipeline.temporal.apply_late(CREATE)
        pipeline.temporal.fail(CREATE, **REFUSAL)
        intent = await pipeline.create()
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(intent.id, "holding")
            assert held["looking"]
            assert held["cause_code"] == "refused"
            assert await pipeline.stores.schedule(pipeline.lane()) is None
            await late.release()
            await pipeline.ledger.await_event(intent.id, "created")
        assert removals(pipeline.spicedb) == []
        await pipeline.agree()

    async def test_a_temporal_create_of_an_intent_whose_schedule_lives(self, pipeline: Pipeline) -> None:
        late = pipeline.temporal.apply_late(CREATE)
        await pipeline.create()
        await pipeline.work()
        await late.release()
        await pipeline.agree()
        await pipeline.delete()
        await pipeline.work()
        await pipeline.agree()
        # The server remembers the request id of the last create: its replay creates nothing.
        await late.release()
        await pipeline.agree()

    @pytest.mark.parametrize("method", [WRITE, CREATE])
    async def test_the_lanes_next_intent_waits_for_an_attempt_without_an_answer(
        self, pipeline: Pipeline, method: str
    ) -> None:
        proxy = pipeline.temporal if method == CREATE else pipeline.spicedb
        proxy.apply_late(method)
        made = await pipeline.create()
        gone = await pipeline.delete()
        async with pipeline.working(**HOLDS_LONGER):
            await pipeline.ledger.await_event(made.id, "created")
            held = await pipeline.ledger.await_state(gone.id, "holding")
            assert pipeline.temporal.calls(DESCRIBE)[1:] == []
            later = await pipeline.create(by="bob")
            await pipeline.ledger.await_event(later.id, "created")
        lane = await pipeline.ledger.one("SELECT * FROM outbox.lanes")
        assert lane["hold_until"] == held["due_at"]
        unscheduled = await pipeline.ledger.one(
            "SELECT at FROM outbox.events WHERE intent_id = %s AND type = 'schedule.unscheduled'", gone.id
        )
        assert unscheduled["at"] >= lane["hold_until"]
        await pipeline.agree()

    async def test_an_intent_that_comes_later_waits_for_it_too(self, pipeline: Pipeline) -> None:
        pipeline.temporal.apply_late(CREATE)
        await pipeline.create()
        await pipeline.work(late_write_seconds=600.0)
        # Brought forward rather than short: a busy machine may come to the delete when a short one is over.
        lane = await pipeline.ledger.one(
            """UPDATE outbox.lanes SET hold_until = clock_timestamp() + interval '1.5 s'
                WHERE hold_until > clock_timestamp() + interval '5 min' RETURNING hold_until"""
        )
        gone = await pipeline.delete()
        async with pipeline.working():
            await pipeline.ledger.await_event(gone.id, "deleted")
        unscheduled = await pipeline.ledger.one(
            "SELECT at FROM outbox.events WHERE intent_id = %s AND type = 'schedule.unscheduled'", gone.id
        )
        assert unscheduled["at"] >= lane["hold_until"]
        await pipeline.agree()


class TestDebris:
    """What carries a stamp of our own lane that has ended is ours to clear away; nothing else is."""

    async def test_of_an_ended_registration_makes_room_for_a_create(self, pipeline: Pipeline) -> None:
        failed = await pipeline.create(by="alice", cron=BAD_CRON)
        await pipeline.work()
        await pipeline.stores.put(*registered(pipeline.lane(), failed.id, "alice"))
        await pipeline.create(by="bob")
        await pipeline.work()
        await pipeline.agree()

    async def test_of_an_ended_create_makes_room_for_a_create(self, pipeline: Pipeline) -> None:
        late = pipeline.temporal.apply_late(CREATE)
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.work()
        await pipeline.agree()
        # Far beyond the bound, and of another request id than the last: it exists again.
        await late.release()
        assert await pipeline.stores.schedule(pipeline.lane())
        last = await pipeline.create(by="bob")
        await pipeline.work()
        await ends_as(pipeline, last.id, "created")
        await pipeline.agree()

    async def test_whose_removal_got_no_answer_keeps_the_create_waiting(self, pipeline: Pipeline) -> None:
        far_too_late = pipeline.temporal.apply_late(CREATE)
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.work()
        await far_too_late.release()
        removal = pipeline.temporal.apply_late(DELETE)
        made = await pipeline.create(by="bob")
        async with pipeline.working():
            await removal.held.wait()
            await pipeline.ledger.await_attempt(made.id, "timed_out")
            waiting = await pipeline.ledger.head(made.id)
            assert waiting
            assert waiting["due_at"] >= waiting["unknown_until"]
            # It has no condition: whatever has the name by then is what it removes.
            await removal.release()
            await pipeline.ledger.await_event(made.id, "created")
        await pipeline.agree()

    async def test_is_removed_by_a_delete_too(self, pipeline: Pipeline) -> None:
        late = pipeline.temporal.apply_late(CREATE)
        first = await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.create(by="alice")
        await pipeline.delete()
        await pipeline.work()
        await late.release()
        await pipeline.stores.put(*registered(pipeline.lane(), first.id, "alice"))
        await pipeline.delete()
        await pipeline.work()
        await pipeline.intact(schedule=None, tuples=set())
        await pipeline.agree()


class TestLegacy:
    """A schedule from before the outbox has no stamp: it can be deleted, and nothing else is done to it."""

    @pytest.mark.parametrize(("scheduled", "registered_before"), [(True, True), (True, False), (False, True)])
    async def test_can_be_deleted(
        self, pipeline: Pipeline, *, scheduled: bool, registered_before: bool
    ) -> None:
        schedule = await pipeline.stores.plant_schedule(pipeline.lane()) if scheduled else None
        theirs = legacy(pipeline.lane(), "holder") if registered_before else set()
        if theirs:
            await pipeline.stores.put(*theirs)
        refused = await pipeline.create(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, refused.id, "create_failed", "conflict_foreign")
        await pipeline.intact(schedule=schedule, tuples=theirs)
        gone = await pipeline.delete(by="holder")
        await pipeline.create(by="alice")
        await pipeline.work()
        await ends_as(pipeline, gone.id, "deleted")
        await pipeline.agree()
        assert not await pipeline.stores.may("read", pipeline.lane(), "holder")

    async def test_a_delete_spares_what_another_outbox_made(self, pipeline: Pipeline) -> None:
        theirs = registered(pipeline.lane(), uuid4(), "holder")
        await pipeline.stores.put(*theirs)
        gone = await pipeline.delete(by="mallory")
        await pipeline.work()
        await ends_as(pipeline, gone.id, "deleted")
        await pipeline.intact(schedule=None, tuples=theirs)

    async def test_a_delete_of_a_live_schedule_spares_one_that_took_its_place(
        self, pipeline: Pipeline
    ) -> None:
        live = await pipeline.create()
        await pipeline.work()
        await pipeline.stores.drop_schedule(pipeline.lane())
        schedule = await pipeline.stores.plant_schedule(pipeline.lane())
        gone = await pipeline.delete()
        await pipeline.work()
        await ends_as(pipeline, gone.id, "delete_failed", "conflict_foreign")
        assert pipeline.temporal.calls(DELETE) == []
        await pipeline.intact(schedule=schedule, tuples=registered(pipeline.lane(), live.id, "alice"))


class TestRefusalsAfterUnknownAttempts:
    """A refusal says nothing of an earlier attempt: hold, and look."""

    @pytest.mark.parametrize("by", ["alice", NOBODY], ids=["owned", "unowned"])
    async def test_that_took_effect_end_as_created(self, pipeline: Pipeline, by: str) -> None:
        pipeline.temporal.lose_reply(CREATE)
        pipeline.temporal.fail(CREATE, **REFUSAL)
        intent = await pipeline.create(by=by)
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(intent.id, "holding")
            assert held["due_at"] == held["unknown_until"]
            await pipeline.ledger.await_event(intent.id, "created")
        assert removals(pipeline.spicedb) == []
        await pipeline.agree()

    async def test_that_took_no_effect_are_compensated_after_the_hold(self, pipeline: Pipeline) -> None:
        pipeline.temporal.fail(CREATE)
        pipeline.temporal.fail(CREATE, **REFUSAL)
        intent = await pipeline.create()
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(intent.id, "holding")
            await pipeline.ledger.await_event(intent.id, "create_failed")
        await ends_as(pipeline, intent.id, "create_failed", "refused")
        undone = await pipeline.ledger.one(
            "SELECT at FROM outbox.events WHERE intent_id = %s AND type = 'schedule.compensation_requested'",
            intent.id,
        )
        assert undone["at"] >= held["unknown_until"]
        assert len(pipeline.temporal.calls(DESCRIBE)) == 1
        await pipeline.agree()

    async def test_of_an_unregistered_create_fail_after_the_hold(self, pipeline: Pipeline) -> None:
        pipeline.temporal.fail(CREATE)
        pipeline.temporal.fail(CREATE, **REFUSAL)
        intent = await pipeline.create(by=NOBODY)
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(intent.id, "holding")
            assert held["looking"]
            await pipeline.ledger.await_event(intent.id, "create_failed")
        await ends_as(pipeline, intent.id, "create_failed", "refused")
        assert pipeline.spicedb.calls(WRITE) == removals(pipeline.spicedb) == []
        await pipeline.agree()

    async def test_of_a_register_that_took_effect_go_forward(self, pipeline: Pipeline) -> None:
        pipeline.spicedb.lose_reply(WRITE)
        pipeline.spicedb.fail(WRITE, status=Status.INVALID_ARGUMENT)
        intent = await pipeline.create()
        await pipeline.work()
        await ends_as(pipeline, intent.id, "created")
        await pipeline.agree()

    async def test_an_unanswered_register_makes_a_later_refusal_wait(self, pipeline: Pipeline) -> None:
        pipeline.spicedb.lose_reply(WRITE)
        intent = await pipeline.create(cron=BAD_CRON)
        async with pipeline.working(**HOLDS_LONGER):
            held = await pipeline.ledger.await_state(intent.id, "holding")
            await pipeline.ledger.await_event(intent.id, "create_failed")
        mark = pipeline.spicedb.calls(WRITE)[-1]
        assert str(intent.id).encode() in mark.request
        undone = await pipeline.ledger.one(
            "SELECT at FROM outbox.events WHERE intent_id = %s AND type = 'schedule.create_failed'", intent.id
        )
        assert undone["at"] >= held["unknown_until"]
        await pipeline.agree()


class TestLanes:
    """One intent of a lane after another, whatever producers do; lanes are independent."""

    async def test_a_late_commit_with_a_smaller_position_is_not_let_in_between(
        self, pipeline: Pipeline
    ) -> None:
        gate = pipeline.temporal.gate(CREATE)
        async with pipeline.producer() as slow:
            gone = await pipeline.delete(within=slow)
            made = await pipeline.create()
            async with pipeline.working(**PATIENT):
                await gate.reached.wait()
                await slow.commit()
                other = await pipeline.create("other")
                await pipeline.ledger.await_event(other.id, "registered")
                assert await pipeline.ledger.events(gone.id) == ["delete.requested"]
                gate.open()
                await pipeline.ledger.await_event(gone.id, "deleted")
        positions = await pipeline.ledger.rows("SELECT id FROM outbox.intents ORDER BY position LIMIT 2")
        assert [row["id"] for row in positions] == [gone.id, made.id]
        await ends_as(pipeline, made.id, "created")
        await pipeline.agree(any_order=True)

    async def test_a_producers_open_transaction_delays_no_other_intent(self, pipeline: Pipeline) -> None:
        await pipeline.create()
        await pipeline.work()
        async with pipeline.producer() as slow:
            await pipeline.delete(within=slow)
            others = [await pipeline.create(f"other-{number}") for number in range(5)]
            same_lane = await pipeline.delete()
            again = await pipeline.create(by="bob")
            await pipeline.work()
            for intent in (*others, again):
                await ends_as(pipeline, intent.id, "created")
            await ends_as(pipeline, same_lane.id, "deleted")
            await pipeline.agree(any_order=True)
        await pipeline.work()
        await pipeline.agree(any_order=True)
        assert await pipeline.stores.schedule(pipeline.lane()) is None

    async def test_two_intents_by_concurrent_transactions_go_one_at_a_time(self, pipeline: Pipeline) -> None:
        async with pipeline.producer() as one, pipeline.producer() as two:
            first = await pipeline.create(by="alice", within=one)
            second = await pipeline.create(by="bob", within=two)
            await asyncio.gather(one.commit(), two.commit())
        async with pipeline.working(), pipeline.working():
            await pipeline.ledger.await_event(first.id, "created")
            await pipeline.ledger.await_event(second.id, "create_failed")
        await ends_as(pipeline, second.id, "create_failed", "conflict_live")
        await pipeline.agree(any_order=True)

    async def test_within_a_transaction_calls_apply_in_order(self, pipeline: Pipeline) -> None:
        async with pipeline.producer() as producer:
            for who in ("alice", "bob", "carol"):
                await pipeline.create(by=who, within=producer)
                await pipeline.delete(by=who, within=producer)
            last = await pipeline.create(by="dave", within=producer)
        await pipeline.work()
        await ends_as(pipeline, last.id, "created")
        await pipeline.agree()

    async def test_a_transaction_that_rolls_back_leaves_nothing(self, pipeline: Pipeline) -> None:
        async with pipeline.producer() as producer:
            await pipeline.create(within=producer)
            await producer.rollback()
        await pipeline.work()
        assert pipeline.spicedb.calls() == pipeline.temporal.calls() == []
        assert await pipeline.ledger.rows("SELECT FROM outbox.events") == []

    async def test_a_delete_right_behind_its_create(self, pipeline: Pipeline) -> None:
        async with pipeline.working(), pipeline.working():
            gone = []
            for number in range(4):
                await pipeline.create(f"brief-{number}")
                gone.append(await pipeline.delete(f"brief-{number}"))
            for intent in gone:
                await pipeline.ledger.await_event(intent.id, "deleted")
        await pipeline.agree()

    async def test_a_former_owner_has_no_access(self, pipeline: Pipeline) -> None:
        await pipeline.create(by="alice")
        await pipeline.delete(by="alice")
        await pipeline.create(by="bob")
        await pipeline.work()
        assert not await pipeline.stores.may("read", pipeline.lane(), "alice")
        assert await pipeline.stores.may("delete", pipeline.lane(), "bob")
        await pipeline.agree()

    async def test_a_delete_of_what_never_existed(self, pipeline: Pipeline) -> None:
        intent = await pipeline.delete()
        await pipeline.work()
        assert await pipeline.ledger.events(intent.id) == ["delete.requested", "unscheduled", "deleted"]
        assert pipeline.temporal.calls(DELETE) == []
        await pipeline.agree()

    async def test_a_long_lane_holds_up_no_other(self, pipeline: Pipeline) -> None:
        """What it costs the others' claims is counted by ``tests/store/test_plans.py``."""
        held = pipeline.spicedb.gate(WRITE, when=pipeline.about(pipeline.lane("long")), times=None)
        await pipeline.create("long")
        await pipeline.ledger.execute(
            """SELECT count(*) FROM outbox.enqueue_many((
                   SELECT jsonb_agg(jsonb_build_object('kind', 'delete', 'agent_id', %s::text,
                                                       'name', 'long'))
                     FROM generate_series(1, 20000)))""",
            pipeline.agent,
        )
        others = [await pipeline.create(f"beside-{number}") for number in range(20)]
        async with pipeline.working():
            for intent in others:
                await pipeline.ledger.await_event(intent.id, "created")
        held.open()
        depths = await pipeline.ledger.one(
            "SELECT count(*) FILTER (WHERE place = 'behind') AS behind, count(*) AS all"
            " FROM outbox.queue WHERE schedule_id = %s",
            pipeline.lane("long"),
        )
        assert depths == {"behind": 20_000, "all": 20_001}


class TestStoresThatCantBeUsed:
    """Unreachable or misconfigured stores cost time: no strikes, and no intent."""

    async def test_temporal_down_keeps_authz_going_and_spends_no_strikes(self, pipeline: Pipeline) -> None:
        async with pipeline.working():
            async with pipeline.temporal.outage():
                intents = [await pipeline.create(f"n-{number}") for number in range(12)]
                for intent in intents:
                    await pipeline.ledger.await_event(intent.id, "registered")
                await until("the breaker to stay open", self._probes(pipeline, 3))
                heads = await pipeline.ledger.rows("SELECT * FROM outbox.queue")
                assert len(heads) == 12
                assert {head["strikes"] for head in heads} == {0}
                assert {head["state"] for head in heads} <= {"ready", "waiting", "leased"}
                # One step at a time probes the store; the others wait, and try nothing.
                assert sum(head["attempts"] for head in heads) < 40
            for intent in intents:
                await pipeline.ledger.await_event(intent.id, "created")
        assert await pipeline.ledger.rows("SELECT FROM outbox.breakers") == []
        await pipeline.agree()

    def _probes(self, pipeline: Pipeline, count: int) -> Callable[[], Awaitable[bool]]:
        async def enough() -> bool:
            rows = await pipeline.ledger.rows("SELECT failures FROM outbox.breakers")
            return any(row["failures"] >= count for row in rows)

        return enough

    @pytest.mark.parametrize(
        "wrong",
        [{"temporal_namespace": "no-such-namespace"}, {"spicedb_token": "wrong"}],
        ids=["namespace", "token"],
    )
    async def test_wrong_settings_end_no_intent_and_right_ones_go_on(
        self, pipeline: Pipeline, wrong: dict[str, str]
    ) -> None:
        live = await pipeline.create("live")
        await pipeline.work()
        changed = pipeline.settings.model_validate(pipeline.settings.model_dump() | wrong)
        intents = [
            await pipeline.create(),
            await pipeline.create("broken", cron=BAD_CRON),
            await pipeline.delete("live"),
        ]
        first = intents[0] if "spicedb_token" in wrong else intents[2]
        async with pipeline.working(**{key: getattr(changed, key) for key in wrong}):
            await pipeline.ledger.await_attempt(first.id, "misconfigured")
        heads = await pipeline.ledger.rows("SELECT * FROM outbox.queue")
        assert {head["intent_id"] for head in heads} == {intent.id for intent in intents}
        assert {head["strikes"] for head in heads} == {0}
        await pipeline.work()
        await ends_as(pipeline, live.id, "created")
        await ends_as(pipeline, intents[0].id, "created")
        await ends_as(pipeline, intents[1].id, "create_failed", "refused")
        await ends_as(pipeline, intents[2].id, "deleted")
        await pipeline.agree()
