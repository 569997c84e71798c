"""Repairs, on the real stores: the live schedule made whole, debris removed, others' things left alone."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CreateScheduleRequest

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.effects import AuthzEffects, registration
from consumers.authz.relationships import mark_of
from consumers.calls import Call
from consumers.repair import RepairEffects
from consumers.temporal.client import Found, TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator, Dispatch, Standing
from outbox.flow.outcome import Conflict, Done, Outcome, Transient, Unknown
from outbox.flow.table import EventType, Kind, Live
from outbox.testing import FaultProxy
from tests.consumers.conftest import INSTANCE
from tests.spicedb_calls import removals

Make = Callable[..., Dispatch]


async def plant(schedules: TemporalClient, schedule_id: str) -> None:
    """A schedule without a stamp."""
    request = CreateScheduleRequest(
        namespace="default",
        schedule_id=schedule_id,
        request_id=str(uuid4()),
        schedule=Schedule(
            spec=ScheduleSpec(cron_string=["0 4 * * *"]),
            action=ScheduleAction(
                start_workflow=NewWorkflowExecutionInfo(
                    workflow_id="legacy",
                    workflow_type=WorkflowType(name="Legacy"),
                    task_queue=TaskQueue(name="legacy"),
                )
            ),
        ),
    )
    await schedules._service.create_schedule(request)


@dataclass
class World:
    """A lane's two stores, seen past the proxies, and the repair under test."""

    effects: RepairEffects
    authz: AuthzEffects
    temporal: TemporalEffects
    make: Make
    schedule_id: str
    relationships: AuthzClient
    schedules: TemporalClient
    standings: dict[str, Standing]

    async def registered(self, intent: UUID, *, user: str = "alice") -> None:
        step = self.make(EventType.CREATE_REQUESTED, intent=intent, creator=Creator(user_id=user))
        await self.relationships.touch(sorted(registration(step)), Call.within(30))

    async def created(self, intent: UUID) -> None:
        await self.schedules.create(self.make(EventType.REGISTERED, intent=intent), INSTANCE, Call.within(30))

    async def repair(self, live: UUID | None, **fields: object) -> Outcome:
        if live is not None:
            self.standings[str(live)] = Standing.LIVE
        step = self.make(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR, live_intent=live, **fields)
        outcome = await self.effects.apply(step)
        while isinstance(outcome, Transient) and outcome.code is ErrorCode.RACED:
            outcome = await self.effects.apply(step)
        return outcome

    async def legacy(self, *, owner: str = "carol") -> set[Tuple]:
        """A schedule from before the outbox."""
        await plant(self.schedules, self.schedule_id)
        tuples = {
            Tuple("agent_schedule", self.schedule_id, "owner", "user", owner),
            Tuple("agent_schedule", self.schedule_id, "editor", "user", "dave"),
        }
        await self.relationships.touch(sorted(tuples), Call.within(30))
        return tuples

    def stamp(self, intent: UUID) -> Tuple:
        return Tuple("agent_schedule", self.schedule_id, "registered_by", "outbox_intent", str(intent))

    def adopting(self, intent: UUID, **fields: object) -> Dispatch:
        return self.make(
            EventType.REPAIR_REQUESTED,
            intent=intent,
            kind=Kind.REPAIR,
            request={"adopt": True},
            creator=Creator(),
            **fields,
        )

    async def adopt(self, intent: UUID, **fields: object) -> Outcome:
        return await self.effects.apply(self.adopting(intent, **fields))

    async def ended(self, intent: UUID) -> bool:
        match = Match("outbox_intent", str(intent), "ended")
        return bool((await self.relationships.read(match, Call.within(30))).tuples)

    async def tuples(self) -> set[Tuple]:
        match = Match("agent_schedule", self.schedule_id)
        return set((await self.relationships.read(match, Call.within(30))).tuples)

    async def schedule(self) -> Found | None:
        return await self.schedules.describe(self.schedule_id, Call.within(30))

    def whole(self, intent: UUID, user: str = "alice") -> set[Tuple]:
        step = self.make(EventType.CREATE_REQUESTED, intent=intent, creator=Creator(user_id=user))
        return set(registration(step))


@pytest.fixture
def world(
    authz_effects: AuthzEffects,
    temporal_effects: TemporalEffects,
    dispatch: Make,
    schedule_id: str,
    relationships: AuthzClient,
    schedules: TemporalClient,
    standings: dict[str, Standing],
) -> World:
    effects = RepairEffects(authz_effects, temporal_effects)
    return World(
        effects, authz_effects, temporal_effects, dispatch, schedule_id, relationships, schedules, standings
    )


async def test_what_is_whole_is_left_as_it_is(
    world: World, spicedb: FaultProxy, temporal: FaultProxy
) -> None:
    live = uuid4()
    await world.registered(live)
    await world.created(live)
    assert isinstance(await world.repair(live), Done)
    assert temporal.calls("CreateSchedule") == temporal.calls("DeleteSchedule") == []
    assert removals(spicedb) == []


async def test_a_live_schedule_that_is_gone_is_created_again_under_a_new_request_id(
    world: World, temporal: FaultProxy
) -> None:
    live = uuid4()
    await world.registered(live)
    await world.created(live)
    await world.schedules.delete(world.schedule_id, Call.within(30))
    assert await world.repair(live) == Done()
    assert await world.schedule() == Found(str(live))
    (call,) = temporal.calls("CreateSchedule")
    assert CreateScheduleRequest.FromString(call.request).request_id != f"{live}:1"


async def test_a_live_schedule_without_its_registration_is_registered_before_it_is_created(
    world: World, spicedb: FaultProxy, temporal: FaultProxy
) -> None:
    live = uuid4()
    assert await world.repair(live) == Done()
    assert await world.tuples() == world.whole(live)
    assert await world.schedule() == Found(str(live))
    assert spicedb.calls("WriteRelationships")
    assert temporal.calls("CreateSchedule")


async def test_a_live_schedule_without_an_owner_gets_no_registration(world: World) -> None:
    live = uuid4()
    assert isinstance(await world.repair(live, creator=Creator()), Done)
    assert await world.tuples() == set()
    assert await world.schedule() == Found(str(live))


def live_after(outcome: Outcome) -> Live | None:
    assert isinstance(outcome, Done)
    return outcome.live


async def test_a_schedule_that_ran_out_and_is_gone_leaves_no_registration_and_no_live_stamp(
    world: World,
) -> None:
    live = uuid4()
    await world.registered(live)
    assert live_after(await world.repair(live, ran_out=True)) is Live.CLEAR
    assert await world.tuples() == set()
    assert await world.schedule() is None
    assert await world.ended(live), "a registration of it that is under way can't land any more"
    assert live_after(await world.repair(live, ran_out=True)) is Live.CLEAR, "may be done again"


async def test_whether_a_schedule_has_run_out_is_not_for_a_workers_clock_to_say(
    world: World, temporal: FaultProxy
) -> None:
    live = uuid4()
    ended = {"end_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    whole = {"workflow_name": "Run", "task_queue": "agents", "interval_seconds": 60, **ended}
    assert live_after(await world.repair(live, request=whole, ran_out=False)) is None
    assert await world.tuples() == world.whole(live)
    assert len(temporal.calls("CreateSchedule")) == 1


async def test_a_schedule_that_ran_out_and_that_temporal_still_has_keeps_its_registration(
    world: World, temporal: FaultProxy
) -> None:
    live = uuid4()
    await world.registered(live)
    await world.created(live)
    assert live_after(await world.repair(live, ran_out=True)) is None
    assert await world.tuples() == world.whole(live)
    assert temporal.calls("DeleteSchedule") == []


async def test_while_temporal_can_not_tell_nothing_has_run_out(world: World, temporal: FaultProxy) -> None:
    live = uuid4()
    await world.registered(live)
    async with temporal.outage():
        assert not isinstance(await world.repair(live, ran_out=True), Done)
    assert await world.tuples() == world.whole(live)


async def test_whoever_took_the_name_of_what_ran_out_keeps_it(world: World) -> None:
    live, stranger = uuid4(), uuid4()
    await world.registered(live)
    await world.created(stranger)
    assert live_after(await world.repair(live, ran_out=True)) is Live.CLEAR
    assert await world.tuples() == set(), "or its owner would own the stranger's schedule"
    assert await world.schedule() == Found(str(stranger))


async def test_debris_of_a_former_intent_makes_room_for_the_live_one(world: World) -> None:
    live, former = uuid4(), uuid4()
    world.standings[str(former)] = Standing.ENDED
    await world.registered(former, user="mallory")
    await world.created(former)
    assert isinstance(await world.repair(live), Done)
    assert await world.tuples() == world.whole(live)
    assert await world.schedule() == Found(str(live))


async def test_where_nothing_is_live_debris_goes_and_the_schedule_goes_first(
    world: World, spicedb: FaultProxy, temporal: FaultProxy
) -> None:
    former = uuid4()
    world.standings[str(former)] = Standing.ENDED
    await world.registered(former)
    await world.created(former)
    deletes = temporal.gate("DeleteSchedule", after_effect=True)
    deletes.open()
    assert isinstance(await world.repair(None), Done)
    assert await world.tuples() == set()
    assert await world.schedule() is None
    assert deletes.reached.is_set()
    assert len(removals(spicedb)) == 1


async def test_debris_in_spicedb_goes_though_a_stranger_holds_the_name_in_temporal(world: World) -> None:
    former, stranger = uuid4(), uuid4()
    world.standings[str(former)] = Standing.ENDED
    await world.registered(former)
    await world.created(stranger)
    assert isinstance(await world.repair(None), Done)
    assert await world.tuples() == set()
    assert await world.schedule() == Found(str(stranger))


@pytest.mark.parametrize("live", [None, uuid4()])
async def test_what_others_put_there_is_left_alone(world: World, live: UUID | None) -> None:
    stranger = uuid4()
    await world.registered(stranger, user="stranger")
    await world.created(stranger)
    assert isinstance(await world.repair(live), Done)
    assert await world.tuples() == world.whole(stranger, user="stranger")
    assert await world.schedule() == Found(str(stranger))


async def test_nothing_is_done_while_a_store_can_not_be_read(world: World, temporal: FaultProxy) -> None:
    live = uuid4()
    async with temporal.outage():
        outcome = await world.repair(live)
    assert not isinstance(outcome, Done)
    assert await world.tuples() == set()


async def test_only_repairs_are_repaired(world: World) -> None:
    with pytest.raises(ValueError, match="no repair"):
        await world.effects.apply(world.make(EventType.REGISTERED))


class TestAdoption:
    async def test_stamps_what_is_there_and_leaves_its_owner(self, world: World) -> None:
        before, intent = await world.legacy(), uuid4()
        assert live_after(await world.adopt(intent)) is Live.SET
        assert await world.tuples() == before | {world.stamp(intent)}
        assert await world.schedule() == Found(None)
        assert live_after(await world.adopt(intent, unknown=True)) is Live.SET, "recognizes its own stamp"

    async def test_of_what_has_no_schedule_is_given_up(self, world: World) -> None:
        before, intent = await world.legacy(), uuid4()
        await world.schedules.delete(world.schedule_id, Call.within(30))
        assert await world.adopt(intent) == Done()
        assert await world.tuples() == before

    async def test_of_what_has_no_owner_is_given_up(self, world: World) -> None:
        await plant(world.schedules, world.schedule_id)
        assert await world.adopt(uuid4()) == Done()
        assert await world.tuples() == set()

    async def test_of_what_somebody_stamped_is_given_up(self, world: World) -> None:
        await plant(world.schedules, world.schedule_id)
        stranger = uuid4()
        await world.registered(stranger)
        assert await world.adopt(uuid4()) == Done()
        assert await world.tuples() == world.whole(stranger)

    async def test_where_a_create_is_live_by_now_is_given_up(self, world: World) -> None:
        live = uuid4()
        await world.registered(live)
        await world.created(live)
        assert await world.adopt(uuid4(), live_intent=live) == Done()
        assert await world.tuples() == world.whole(live)

    async def test_waits_for_a_store_that_can_not_tell(self, world: World, temporal: FaultProxy) -> None:
        before = await world.legacy()
        async with temporal.outage():
            assert not isinstance(await world.adopt(uuid4()), Done)
        assert await world.tuples() == before

    async def test_of_what_changed_meanwhile_starts_over(self, world: World, spicedb: FaultProxy) -> None:
        before, intent = await world.legacy(), uuid4()
        gate = spicedb.gate("WriteRelationships")
        adopting = asyncio.create_task(world.adopt(intent))
        await gate.reached.wait()
        owner = Match("agent_schedule", world.schedule_id, "owner")
        await world.relationships.delete(owner, [], Call.within(30))
        gate.open()
        outcome = await adopting
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.RACED
        assert await world.tuples() == {one for one in before if one.relation == "editor"}

    async def test_given_up_after_a_lost_answer_has_its_stamp_taken_back_alone_by_a_look(
        self, world: World, spicedb: FaultProxy
    ) -> None:
        before, intent = await world.legacy(), uuid4()
        spicedb.lose_reply("WriteRelationships")
        assert isinstance(await world.adopt(intent), Unknown)
        await world.schedules.delete(world.schedule_id, Call.within(30))
        given_up = await world.adopt(intent, unknown=True)
        assert isinstance(given_up, Conflict)
        assert given_up.code is ErrorCode.CONFLICT_FOREIGN
        assert not await world.ended(intent), "no attempt ends what the next one may go on with"
        assert isinstance(await world.effects.look(world.adopting(intent, look=True)), Done)
        assert await world.tuples() == before
        assert await world.ended(intent)

    async def test_given_up_can_not_land_late(self, world: World, spicedb: FaultProxy) -> None:
        before, intent = await world.legacy(), uuid4()
        late = spicedb.apply_late("WriteRelationships")
        assert isinstance(await world.adopt(intent), Unknown)
        await world.schedules.delete(world.schedule_id, Call.within(30))
        assert isinstance(await world.adopt(intent, unknown=True), Conflict)
        assert isinstance(await world.effects.look(world.adopting(intent, look=True)), Done)
        await late.release()
        assert await world.tuples() == before

    async def test_that_an_operator_discards_is_undone(self, world: World) -> None:
        before, intent = await world.legacy(), uuid4()
        assert live_after(await world.adopt(intent)) is Live.SET
        outcome = await world.effects.look(world.adopting(intent, look=True))
        assert live_after(outcome) is None
        assert await world.tuples() == before

    async def test_a_discarded_repair_changes_nothing(self, world: World, temporal: FaultProxy) -> None:
        step = world.make(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR, live_intent=uuid4(), look=True)
        assert await world.effects.look(step) == Done()
        assert temporal.calls("DescribeSchedule") == []
        assert await world.tuples() == set()


class TestReclaim:
    """What a lost ledger had made becomes the lane's live schedule again, and stays as it is."""

    async def reclaim(
        self, world: World, stamp: UUID, *, by: str = "alice", live: UUID | None = None, look: bool = False
    ) -> Outcome:
        step = world.make(
            EventType.REPAIR_REQUESTED,
            kind=Kind.REPAIR,
            request={"reclaim": str(stamp)},
            creator=Creator(user_id=by),
            live_intent=live,
            look=look,
        )
        return await (world.effects.look(step) if look else world.effects.apply(step))

    async def test_of_what_carries_the_stamp_in_both_stores_writes_to_neither(
        self, world: World, spicedb: FaultProxy, temporal: FaultProxy
    ) -> None:
        stamp = uuid4()
        await world.registered(stamp)
        await world.created(stamp)
        assert live_after(await self.reclaim(world, stamp)) is Live.RECLAIM
        assert live_after(await self.reclaim(world, stamp)) is Live.RECLAIM, "may be done again"
        assert await self.reclaim(world, stamp, live=stamp) == Done(), "it is live"
        assert await world.tuples() == world.whole(stamp)
        assert await world.schedule() == Found(str(stamp))
        assert spicedb.calls("WriteRelationships") == removals(spicedb) == []
        for write in ("CreateSchedule", "DeleteSchedule"):
            assert temporal.calls(write) == []

    @pytest.mark.parametrize(
        ("registered", "created", "marked"),
        [
            ("stamp", None, False),
            (None, "stamp", False),
            ("stamp", "other", False),
            ("other", "stamp", False),
            ("stamp", "stamp", True),
        ],
    )
    async def test_is_given_up_where_the_stores_do_not_agree_or_it_has_ended(
        self, world: World, *, registered: str | None, created: str | None, marked: bool
    ) -> None:
        ids = {"stamp": uuid4(), "other": uuid4()}
        stamp = ids["stamp"]
        if registered:
            await world.registered(ids[registered])
        if created:
            await world.created(ids[created])
        if marked:
            await world.relationships.touch([mark_of(str(stamp))], Call.within(30))
        before = await world.tuples(), await world.schedule()
        assert await self.reclaim(world, stamp) == Done()
        assert (await world.tuples(), await world.schedule()) == before

    async def test_is_given_up_where_somebody_else_owns_it_by_now(self, world: World) -> None:
        stamp = uuid4()
        await world.registered(stamp, user="bob")
        await world.created(stamp)
        assert await self.reclaim(world, stamp, by="alice") == Done()

    async def test_in_the_place_of_an_older_live_one_keeps_that_from_landing_late(self, world: World) -> None:
        stamp, older = uuid4(), uuid4()
        await world.registered(stamp)
        await world.created(stamp)
        assert live_after(await self.reclaim(world, stamp, live=older)) is Live.RECLAIM
        assert await world.ended(older)
        assert not await world.ended(stamp)

    @pytest.mark.parametrize("away", ["spicedb", "temporal"])
    async def test_waits_for_a_store_that_can_not_tell(
        self, world: World, away: str, spicedb: FaultProxy, temporal: FaultProxy
    ) -> None:
        stamp = uuid4()
        await world.registered(stamp)
        await world.created(stamp)
        async with {"spicedb": spicedb, "temporal": temporal}[away].outage():
            assert not isinstance(await self.reclaim(world, stamp), Done)

    async def test_that_an_operator_discards_changes_nothing(self, world: World) -> None:
        stamp = uuid4()
        await world.registered(stamp)
        await world.created(stamp)
        assert await self.reclaim(world, stamp, look=True) == Done()
        assert await world.tuples() == world.whole(stamp)

    async def test_what_it_asked_for_is_created_again_as_it_was(self, world: World) -> None:
        stamp = uuid4()
        await world.created(stamp)
        described = await world.schedules.definition(world.schedule_id, Call.within(30))
        assert described
        found, definition = described
        assert found == Found(str(stamp))
        await world.schedules.delete(world.schedule_id, Call.within(30))
        assert isinstance(await world.repair(stamp, request=definition), Done)
        again = await world.schedules.definition(world.schedule_id, Call.within(30))
        assert again == described
        assert (definition["workflow_name"], definition["task_queue"]) == ("Run", "agents")
        assert "end_at" not in definition


class TestOfALiveScheduleThatHasEnded:
    """The ledger has gone back in time: it was deleted since."""

    async def test_a_repair_brings_nothing_back_and_frees_the_name(self, world: World) -> None:
        live = uuid4()
        await world.relationships.touch([mark_of(str(live))], Call.within(30))
        assert live_after(await world.repair(live)) is Live.CLEAR
        assert await world.tuples() == set()
        assert await world.schedule() is None

    async def test_a_repair_leaves_whoever_has_the_name_by_now(self, world: World) -> None:
        live, theirs = uuid4(), uuid4()
        await world.relationships.touch([mark_of(str(live))], Call.within(30))
        await world.registered(theirs, user="bob")
        await world.created(theirs)
        assert live_after(await world.repair(live)) is Live.CLEAR
        assert await world.tuples() == world.whole(theirs, user="bob")
        assert await world.schedule() == Found(str(theirs))

    async def test_a_repair_of_an_adopted_one_frees_the_name(self, world: World) -> None:
        before, live = await world.legacy(), uuid4()
        await world.relationships.touch([mark_of(str(live))], Call.within(30))
        assert live_after(await world.repair(live, live_adopted=True)) is Live.CLEAR
        assert await world.tuples() == before


class TestOfAnAdoptedSchedule:
    """Effects in a lane whose live intent is an adoption."""

    async def test_a_repair_restores_the_stamp_and_nothing_else(self, world: World) -> None:
        before, live = await world.legacy(), uuid4()
        assert live_after(await world.repair(live, live_adopted=True)) is None
        assert await world.tuples() == before | {world.stamp(live)}
        assert await world.schedule() == Found(None)

    async def test_a_repair_does_not_create_it_again(self, world: World, temporal: FaultProxy) -> None:
        before, live = await world.legacy(), uuid4()
        await world.adopt(live)
        await world.schedules.delete(world.schedule_id, Call.within(30))
        assert isinstance(await world.repair(live, live_adopted=True, request={"adopt": True}), Done)
        assert await world.tuples() == before | {world.stamp(live)}
        assert temporal.calls("CreateSchedule") == []

    async def test_a_repair_leaves_a_stranger_in_its_place(self, world: World) -> None:
        live, stranger = uuid4(), uuid4()
        await world.created(stranger)
        assert isinstance(await world.repair(live, live_adopted=True), Done)
        assert await world.schedule() == Found(str(stranger))

    async def test_a_delete_takes_the_schedule_and_then_all_its_relationships(self, world: World) -> None:
        await world.legacy()
        live = uuid4()
        await world.adopt(live)
        lane = {"kind": Kind.DELETE, "live_intent": live, "live_adopted": True}
        assert await world.temporal.apply(world.make(EventType.DELETE_REQUESTED, **lane)) == Done()
        assert await world.schedule() is None
        assert isinstance(await world.authz.apply(world.make(EventType.UNSCHEDULED, **lane)), Done)
        assert await world.tuples() == set()
        assert await world.ended(live)

    async def test_a_delete_takes_the_relationships_of_one_that_lost_its_stamp(self, world: World) -> None:
        await world.legacy()
        lane = {"kind": Kind.DELETE, "live_intent": uuid4(), "live_adopted": True}
        assert isinstance(await world.authz.apply(world.make(EventType.UNSCHEDULED, **lane)), Done)
        assert await world.tuples() == set()

    async def test_a_delete_leaves_what_somebody_else_stamped(self, world: World) -> None:
        stranger = uuid4()
        await world.registered(stranger)
        await world.created(stranger)
        lane = {"kind": Kind.DELETE, "live_intent": uuid4(), "live_adopted": True}
        outcome = await world.temporal.apply(world.make(EventType.DELETE_REQUESTED, **lane))
        assert isinstance(outcome, Conflict)
        assert isinstance(await world.authz.apply(world.make(EventType.UNSCHEDULED, **lane)), Done)
        assert await world.tuples() == world.whole(stranger)
        assert await world.schedule() == Found(str(stranger))

    async def test_a_delete_of_what_the_outbox_created_leaves_an_unstamped_one(self, world: World) -> None:
        await world.legacy()
        step = world.make(EventType.DELETE_REQUESTED, kind=Kind.DELETE, live_intent=uuid4())
        assert isinstance(await world.temporal.apply(step), Conflict)
        assert await world.schedule() == Found(None)

    async def test_a_create_meets_a_live_schedule(self, world: World) -> None:
        before = await world.legacy()
        step = world.make(EventType.CREATE_REQUESTED, live_intent=uuid4(), live_adopted=True)
        outcome = await world.authz.apply(step)
        assert isinstance(outcome, Conflict)
        assert outcome.code is ErrorCode.CONFLICT_LIVE
        assert await world.tuples() == before
