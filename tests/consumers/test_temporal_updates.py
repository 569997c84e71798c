"""Updates of schedules that exist, on the real server: what they write, and what they leave alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from temporalio.api.schedule.v1 import Schedule
from temporalio.client import Client, ScheduleUpdate, ScheduleUpdateInput

from consumers.calls import Call
from consumers.temporal.client import TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.consumers.conftest import INSTANCE, REQUEST
from tests.consumers.test_temporal_effects import sent

Make = Callable[..., Dispatch]
UPDATED, DESCRIBED = "UpdateSchedule", "DescribeSchedule"
LIVE = uuid4()
_OF_THE_STEP = {"unknown", "look", "cause", "revision", "live_adopted", "lease_number"}
DISCARDED = Cause(ErrorCode.DISCARDED, "not wanted")


class Live:
    """The test's live schedule in Temporal, seen past the proxy, and updates of it."""

    def __init__(self, schedules: TemporalClient, hands: Client, make: Make, schedule_id: str) -> None:
        self._schedules = schedules
        self._hands = hands
        self._make = make
        self._id = schedule_id

    async def put(self, intent: UUID = LIVE, **fields: Any) -> None:
        created = self._make(EventType.REGISTERED, intent=intent, request=REQUEST | fields)
        await self._schedules.create(created, INSTANCE, Call.within(30))

    async def drop(self) -> None:
        await self._schedules.delete(self._id, Call.within(30))

    def update(self, *run: UUID, live: UUID | None = LIVE, **changes: Any) -> Dispatch:
        """An update to what was created, with these changes."""
        run = run or (uuid4(),)
        more = {name: changes.pop(name) for name in _OF_THE_STEP & changes.keys()}
        return self._make(
            EventType.UPDATE_REQUESTED,
            intent=run[0],
            kind=Kind.UPDATE,
            request=REQUEST | changes,
            changes=frozenset(changes),
            run=run,
            live_intent=live,
            **more,
        )

    async def revision(self) -> str | None:
        found = await self._schedules.describe(self._id, Call.within(30))
        assert found
        return found.revision

    async def now(self) -> Schedule:
        described = await self._schedules.read(self._id, Call.within(30))
        assert described
        return described.schedule

    async def write_by_hand(self, note: str) -> None:
        """What a person does in Temporal's own console."""

        async def noted(found: ScheduleUpdateInput) -> ScheduleUpdate:
            found.description.schedule.state.note = note
            return ScheduleUpdate(found.description.schedule)

        await self._hands.get_schedule_handle(self._id).update(noted)

    async def pause_by_hand(self) -> None:
        await self._hands.get_schedule_handle(self._id).pause(note="by hand")

    async def resume_by_hand(self) -> None:
        await self._hands.get_schedule_handle(self._id).unpause(note="by hand")


@pytest.fixture(scope="module")
async def hands(stack: StackInfo) -> Client:
    return await Client.connect(stack.temporal_address)


@pytest.fixture
def live(schedules: TemporalClient, hands: Client, dispatch: Make, schedule_id: str) -> Live:
    return Live(schedules, hands, dispatch, schedule_id)


async def test_an_update_writes_the_whole_definition_and_its_revision(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    step = live.update(
        workflow_name="Other", workflow_params={"a": 1}, interval_seconds=60, cron_expression=None
    )
    assert await temporal_effects.apply(step) == Done()
    assert await live.revision() == str(step.intent_id)
    now = await live.now()
    assert now.action.start_workflow.workflow_type.name == "Other"
    assert [one.data for one in now.action.start_workflow.input.payloads] == [b'{"a":1}']
    assert [one.interval.seconds for one in now.spec.interval] == [60]
    assert not now.spec.structured_calendar
    assert sent(temporal) == [DESCRIBED, UPDATED, DESCRIBED]


async def test_again_it_is_recognized_and_nothing_is_written(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    first, second = uuid4(), uuid4()
    assert await temporal_effects.apply(live.update(first, paused=True)) == Done()
    longer = live.update(first, second, paused=True, unknown=True)
    # The store tells how far an earlier attempt got.
    assert await temporal_effects.apply(longer) == Done(through=first)
    assert sent(temporal) == [DESCRIBED, UPDATED, DESCRIBED, DESCRIBED]


async def test_a_run_is_written_again_as_another_may_have_come_in_between(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()
    first, late, last = uuid4(), uuid4(), uuid4()
    assert await temporal_effects.apply(live.update(first, last, timezone="Europe/Berlin")) == Done()
    whole: dict[str, Any] = {"timezone": "Europe/Berlin", "paused": True}
    grown = live.update(first, late, last, **whole, unknown=True, lease_number=2)
    assert await temporal_effects.apply(grown) == Done()
    assert (await live.now()).state.paused


async def test_a_look_at_one_of_a_run_brings_back_what_was_before(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    before, first, last = uuid4(), uuid4(), uuid4()
    assert await temporal_effects.apply(live.update(before, timezone="Europe/Berlin")) == Done()
    whole: dict[str, Any] = {"timezone": "Europe/Paris", "paused": True}
    assert await temporal_effects.apply(live.update(first, last, **whole, revision=before)) == Done()
    looking = live.update(
        first, last, timezone="Europe/Berlin", paused=False, look=True, revision=before, lease_number=2
    )
    # Each is tried by itself.
    assert isinstance(await temporal_effects.look(looking), Refused)
    assert await live.revision() == str(before)
    now = await live.now()
    assert (now.spec.timezone_name, now.state.paused) == ("Europe/Berlin", False)
    assert isinstance(await temporal_effects.look(looking), Refused)
    assert sent(temporal).count(UPDATED) == 3


async def test_what_people_changed_by_hand_stays_unless_it_is_named(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()
    await live.pause_by_hand()
    await temporal_effects.apply(live.update(timezone="Europe/Berlin"))
    state = (await live.now()).state
    assert (state.paused, state.notes) == (True, "by hand")
    await temporal_effects.apply(live.update(timezone="Europe/Berlin", paused=False, note=None))
    state = (await live.now()).state
    assert (state.paused, state.notes) == (False, "")


async def test_a_backups_state_is_not_taken_for_what_people_changed(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()  # as it was before the update that paused it
    step = live.update(timezone="Europe/Berlin", revision=uuid4())
    paused = replace(step, request={**step.request, "paused": True, "note": "out of office"})
    assert await temporal_effects.apply(paused) == Done()
    state = (await live.now()).state
    assert (state.paused, state.notes) == (True, "out of office")
    # From here on people may resume it, and no update undoes that.
    await live.resume_by_hand()
    later = uuid4()
    follower = replace(paused, intent_id=later, run=(later,), revision=step.intent_id)
    assert await temporal_effects.apply(follower) == Done()
    assert not (await live.now()).state.paused


async def test_one_who_writes_at_the_same_moment_is_not_overwritten(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    gate = temporal.gate(UPDATED)
    step = live.update(timezone="Europe/Berlin")
    task = asyncio.create_task(temporal_effects.apply(step))
    await gate.reached.wait()
    await live.write_by_hand("mine")
    assert (await live.now()).state.notes == "mine"  # worked off: of two that come at once, the last one wins
    gate.open()
    outcome = await task
    # The server said OK, and wrote nothing.
    assert isinstance(outcome, Transient)
    assert outcome.code is ErrorCode.RACED
    assert await live.revision() is None
    assert (
        await temporal_effects.apply(live.update(step.intent_id, timezone="Europe/Berlin", lease_number=2))
        == Done()
    )
    assert (await live.now()).state.notes == "mine"


async def test_a_refused_update_leaves_the_schedule_as_it_was(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()
    before = await live.now()
    outcome = await temporal_effects.apply(live.update(cron_expression="not a cron"))
    assert isinstance(outcome, Refused)
    assert outcome.code is ErrorCode.REFUSED
    assert await live.now() == before


@pytest.mark.parametrize("stands", [True, False], ids=["nothing live", "nothing there"])
async def test_what_is_not_live_is_not_updated(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy, *, stands: bool
) -> None:
    outcome = await temporal_effects.apply(live.update(live=None if stands else LIVE, paused=True))
    assert isinstance(outcome, Refused)
    assert outcome.code is ErrorCode.NOT_LIVE
    assert UPDATED not in sent(temporal)


async def test_a_schedule_of_somebody_else_is_left_alone(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put(uuid4())
    outcome = await temporal_effects.apply(live.update(paused=True))
    assert isinstance(outcome, Conflict)
    assert outcome.code is ErrorCode.CONFLICT_FOREIGN
    assert UPDATED not in sent(temporal)


async def test_one_that_is_deleted_meanwhile_is_looked_at_again(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    gate = temporal.gate(UPDATED)
    step = live.update(paused=True)
    task = asyncio.create_task(temporal_effects.apply(step))
    await gate.reached.wait()
    await live.drop()
    gate.open()
    assert isinstance(await task, Transient)
    assert isinstance(await temporal_effects.apply(step), Refused)


@pytest.mark.parametrize("skipped", [0, 1], ids=["the update", "the look after it"])
async def test_an_answer_that_is_lost_leaves_it_unknown(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy, *, skipped: int
) -> None:
    await live.put()
    if skipped:
        temporal.lose_reply(DESCRIBED, skip=1)
    else:
        temporal.lose_reply(UPDATED)
    step = live.update(paused=True)
    assert isinstance(await temporal_effects.apply(step), Unknown)
    looking = live.update(step.intent_id, paused=True, look=True, unknown=True)
    assert await temporal_effects.look(looking) == Done(through=step.intent_id)


async def test_a_look_that_finds_nothing_lets_the_cause_stand(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()
    cause = Cause(ErrorCode.REFUSED, "no")
    assert await temporal_effects.look(live.update(paused=True, look=True, cause=cause)) == Refused(
        cause.code, cause.message
    )


async def test_a_discarded_update_is_undone_where_it_took_effect(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    await live.put()
    before = uuid4()
    await temporal_effects.apply(live.update(before, timezone="Europe/Berlin"))
    wrong = uuid4()
    await temporal_effects.apply(live.update(wrong, timezone="Asia/Tokyo", paused=True))
    discarding = live.update(
        wrong,
        timezone="Europe/Berlin",
        paused=False,
        look=True,
        cause=DISCARDED,
        revision=before,
        lease_number=2,
    )
    assert await temporal_effects.look(discarding) == Refused(DISCARDED.code, DISCARDED.message)
    assert await live.revision() == str(before)
    now = await live.now()
    assert (now.spec.timezone_name, now.state.paused) == ("Europe/Berlin", False)
    # What is undone is not undone twice.
    assert await temporal_effects.look(discarding) == Refused(DISCARDED.code, DISCARDED.message)
    assert sent(temporal).count(UPDATED) == 3


async def test_an_adopted_schedule_keeps_what_no_update_names(
    temporal_effects: TemporalEffects, live: Live
) -> None:
    await live.put()  # with a payload and a cron of its own
    described = await live.now()
    adopted = live.update(timezone="Europe/Berlin", live_adopted=True)
    request = {"adopt": True, "timezone": "Europe/Berlin"}
    step = Dispatch(**{**_fields(adopted), "request": request})
    outcome = await temporal_effects.apply(step)
    assert isinstance(outcome, Done)
    assert outcome.definition is not None
    assert {"described", "workflow_name", "task_queue"} <= outcome.definition.keys()
    now = await live.now()
    assert now.action.start_workflow.input == described.action.start_workflow.input
    assert now.spec.structured_calendar == described.spec.structured_calendar
    assert now.spec.timezone_name == "Europe/Berlin"


async def test_a_late_update_of_one_that_was_deleted_lands_on_its_successor(
    temporal_effects: TemporalEffects, live: Live, temporal: FaultProxy
) -> None:
    """Tokens count from 1 for each that is created, so they fence nothing off: holds and repairs do."""
    await live.put()
    late = temporal.apply_late(UPDATED)
    assert isinstance(await temporal_effects.apply(live.update(workflow_name="Of-A")), Unknown)
    await live.drop()
    successor = uuid4()
    await live.put(successor)
    assert (await late.release()).status is grpc.StatusCode.OK
    now = await live.now()
    assert now.action.start_workflow.workflow_type.name == "Of-A", "under the successor's ownership"
    # As a repair finds it: of the right stamp, and of a revision that is not the lane's.
    repair = live.update(live=successor, revision=None)
    assert await temporal_effects.restore(repair) == Done()
    assert (await live.now()).action.start_workflow.workflow_type.name == "Run"
    assert await live.revision() is None


def _fields(dispatch: Dispatch) -> dict[str, Any]:
    return {name: getattr(dispatch, name) for name in Dispatch.__dataclass_fields__}
