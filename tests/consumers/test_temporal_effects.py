"""The effects on Temporal, on the real server: what they create, whom they spare, and what a fault leaves."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import grpc
import pytest
from temporalio.api.workflowservice.v1 import CreateScheduleRequest

from consumers.calls import Call
from consumers.temporal.client import Found, TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch, Standing
from outbox.flow.outcome import Conflict, Done, Misconfigured, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.consumers.conftest import INSTANCE

Make = Callable[..., Dispatch]
CREATE = EventType.REGISTERED
DELETE = EventType.DELETE_REQUESTED
CREATED, DESCRIBED, DELETED = "CreateSchedule", "DescribeSchedule", "DeleteSchedule"


def raced(outcome: object) -> bool:
    return isinstance(outcome, Transient) and (outcome.code, outcome.retry_after) == (ErrorCode.RACED, 0.0)


class Lane:
    """The test's schedule in Temporal, seen past the proxy."""

    def __init__(self, client: TemporalClient, make: Make, schedule_id: str) -> None:
        self._client = client
        self._make = make
        self._schedule_id = schedule_id

    async def put(self, intent: UUID) -> None:
        await self._client.create(self._make(CREATE, intent=intent), INSTANCE, Call.within(30))

    async def put_unstamped(self) -> None:
        """A schedule from before the outbox, or of somebody who never heard of it."""
        client = self._client._client
        request = CreateScheduleRequest(
            namespace="default", schedule_id=self._schedule_id, request_id=str(uuid4())
        )
        request.schedule.action.start_workflow.workflow_id = "legacy"
        request.schedule.action.start_workflow.workflow_type.name = "Run"
        request.schedule.action.start_workflow.task_queue.name = "agents"
        await client.workflow_service.create_schedule(request)

    async def drop(self) -> None:
        await self._client.delete(self._schedule_id, Call.within(30))

    async def found(self) -> Found | None:
        return await self._client.describe(self._schedule_id, Call.within(30))


@pytest.fixture
def lane(schedules: TemporalClient, dispatch: Make, schedule_id: str) -> Lane:
    return Lane(schedules, dispatch, schedule_id)


def sent(proxy: FaultProxy) -> list[str]:
    return [call.method.rpartition("/")[2] for call in proxy.calls() if call.named("GetSystemInfo") is False]


class TestCreate:
    async def test_creates_a_stamped_schedule_with_one_call(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        step = dispatch(CREATE)
        assert await temporal_effects.apply(step) == Done()
        assert await lane.found() == Found(str(step.intent_id))
        assert sent(temporal) == [CREATED]

    async def test_again_is_done(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        intent = uuid4()
        await temporal_effects.apply(dispatch(CREATE, intent=intent))
        # With another request id, as after a repair: the stamp tells.
        assert await temporal_effects.apply(dispatch(CREATE, intent=intent, generation="2")) == Done()
        assert await temporal_effects.apply(dispatch(CREATE, intent=intent, unknown=True)) == Done()
        assert await lane.found() == Found(str(intent))
        assert sent(temporal) == [CREATED, CREATED, DESCRIBED, CREATED, DESCRIBED]

    async def test_an_ok_from_memory_does_not_pass_for_a_schedule(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        intent = uuid4()
        await temporal_effects.apply(dispatch(CREATE, intent=intent))
        for lease in (2, 3):
            await lane.drop()
            again = dispatch(CREATE, intent=intent, unknown=True, lease_number=lease)
            assert await temporal_effects.apply(again) == Done()
            assert await lane.found() == Found(str(intent))
        ids = [CreateScheduleRequest.FromString(call.request).request_id for call in temporal.calls(CREATED)]
        # The last request id is the only one that the server remembers, so the third attempt needed but one.
        assert ids == [f"{intent}:1", f"{intent}:1", f"{intent}:1-2", f"{intent}:1"]

    async def test_a_name_taken_while_it_is_created_anew_is_looked_at(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        intent, other = uuid4(), uuid4()
        await temporal_effects.apply(dispatch(CREATE, intent=intent))
        await lane.drop()
        gate = temporal.gate(CREATED, skip=1)
        task = asyncio.create_task(temporal_effects.apply(dispatch(CREATE, intent=intent, unknown=True)))
        await gate.reached.wait()
        await lane.put(other)
        gate.open()
        assert isinstance(await task, Conflict)
        assert await lane.found() == Found(str(other))

    @pytest.mark.parametrize(
        ("standing", "code"),
        [(Standing.FOREIGN, ErrorCode.CONFLICT_FOREIGN), (Standing.LIVE, ErrorCode.CONFLICT_LIVE)],
    )
    async def test_a_name_with_anothers_stamp_is_a_conflict(
        self,
        *,
        temporal_effects: TemporalEffects,
        dispatch: Make,
        lane: Lane,
        standings: dict[str, Standing],
        standing: Standing,
        code: ErrorCode,
    ) -> None:
        other = uuid4()
        standings[str(other)] = standing
        await lane.put(other)
        outcome = await temporal_effects.apply(dispatch(CREATE))
        assert isinstance(outcome, Conflict)
        assert outcome.code is code
        assert await lane.found() == Found(str(other))

    async def test_a_name_without_stamp_is_a_conflict(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        await lane.put_unstamped()
        outcome = await temporal_effects.apply(dispatch(CREATE))
        assert isinstance(outcome, Conflict)
        assert outcome.code is ErrorCode.CONFLICT_FOREIGN
        assert await lane.found() == Found(None)

    async def test_debris_is_removed_and_the_step_tried_again(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, standings: dict[str, Standing]
    ) -> None:
        other = uuid4()
        standings[str(other)] = Standing.ENDED
        await lane.put(other)
        step = dispatch(CREATE)
        assert raced(await temporal_effects.apply(step))
        assert await lane.found() is None
        assert await temporal_effects.apply(step) == Done()
        assert await lane.found() == Found(str(step.intent_id))

    async def test_a_name_that_was_taken_and_is_free_again_is_tried_again(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        await lane.put(uuid4())
        gate = temporal.gate(DESCRIBED)
        step = dispatch(CREATE)
        task = asyncio.create_task(temporal_effects.apply(step))
        await gate.reached.wait()
        await lane.drop()
        gate.open()
        assert raced(await task)
        assert await temporal_effects.apply(step) == Done()

    @pytest.mark.parametrize(
        "fields",
        [{"cron_expression": "every so often"}, {"timezone": "Mars/Olympus"}, {"task_queue": ""}],
    )
    async def test_what_temporal_will_not_take_is_refused(
        self, temporal_effects: TemporalEffects, dispatch: Make, fields: dict[str, object]
    ) -> None:
        step = dispatch(CREATE)
        outcome = await temporal_effects.apply(dispatch(CREATE, request={**step.request, **fields}))
        assert isinstance(outcome, Refused)
        assert outcome.code is ErrorCode.REFUSED

    @pytest.mark.parametrize("megabytes", [3, 5])
    async def test_what_is_too_large_is_refused(
        self, temporal_effects: TemporalEffects, dispatch: Make, megabytes: int
    ) -> None:
        step = dispatch(CREATE)
        params = {"text": "x" * megabytes * 1024 * 1024}
        outcome = await temporal_effects.apply(
            dispatch(CREATE, request={**step.request, "workflow_params": params})
        )
        assert isinstance(outcome, Refused)
        assert len(outcome.message) < 500


class TestDelete:
    async def test_deletes_the_live_schedule(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        live = uuid4()
        await lane.put(live)
        step = dispatch(DELETE, kind=Kind.DELETE, live_intent=live)
        assert await temporal_effects.apply(step) == Done()
        assert await lane.found() is None
        assert await temporal_effects.apply(step) == Done()

    async def test_of_nothing_is_done_without_a_delete(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        assert await temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE)) == Done()
        assert sent(temporal) == [DESCRIBED]

    async def test_deletes_a_legacy_schedule(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        await lane.put_unstamped()
        assert await temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE)) == Done()
        assert await lane.found() is None

    async def test_deletes_debris(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, standings: dict[str, Standing]
    ) -> None:
        other = uuid4()
        standings[str(other)] = Standing.ENDED
        await lane.put(other)
        assert await temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE, live_intent=uuid4())) == Done()
        assert await lane.found() is None

    @pytest.mark.parametrize("live", [None, uuid4()])
    async def test_a_foreign_stamp_is_a_conflict_and_stays(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, live: UUID | None
    ) -> None:
        other = uuid4()
        await lane.put(other)
        outcome = await temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE, live_intent=live))
        assert isinstance(outcome, Conflict)
        assert outcome.code is ErrorCode.CONFLICT_FOREIGN
        assert await lane.found() == Found(str(other))

    async def test_no_stamp_where_one_should_be_is_a_conflict_and_stays(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        await lane.put_unstamped()
        outcome = await temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE, live_intent=uuid4()))
        assert isinstance(outcome, Conflict)
        assert await lane.found() == Found(None)

    async def test_gone_between_look_and_delete_is_done(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        live = uuid4()
        await lane.put(live)
        gate = temporal.gate(DELETED)
        task = asyncio.create_task(
            temporal_effects.apply(dispatch(DELETE, kind=Kind.DELETE, live_intent=live))
        )
        await gate.reached.wait()
        await lane.drop()
        gate.open()
        assert await task == Done()


class TestLook:
    CAUSE = Cause(ErrorCode.REFUSED, "no such time zone")

    async def test_a_schedule_of_ours_is_done(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        intent = uuid4()
        await lane.put(intent)
        step = dispatch(CREATE, intent=intent, look=True, unknown=True, cause=self.CAUSE)
        assert await temporal_effects.look(step) == Done()

    async def test_else_the_cause_stands_and_nothing_changes(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane, temporal: FaultProxy
    ) -> None:
        step = dispatch(CREATE, look=True, unknown=True, cause=self.CAUSE)
        refused = Refused(self.CAUSE.code, self.CAUSE.message)
        assert await temporal_effects.look(step) == refused
        await lane.put(uuid4())
        assert await temporal_effects.look(step) == refused
        assert sent(temporal) == [DESCRIBED, DESCRIBED]

    async def test_a_look_that_fails_is_taken_again(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        temporal.swallow(DESCRIBED)
        outcome = await temporal_effects.look(dispatch(CREATE, look=True, cause=self.CAUSE, seconds=0.3))
        assert isinstance(outcome, Transient)
        temporal.fail(DESCRIBED, status=grpc.StatusCode.INVALID_ARGUMENT)
        assert isinstance(
            await temporal_effects.look(dispatch(CREATE, look=True, cause=self.CAUSE)), Transient
        )

    async def test_a_delete_that_took_effect_is_done_and_otherwise_its_cause_stands(
        self, temporal_effects: TemporalEffects, dispatch: Make, lane: Lane
    ) -> None:
        live = uuid4()
        await lane.put(live)
        cause = Cause(ErrorCode.CONFLICT_FOREIGN, "somebody's")
        step = dispatch(DELETE, kind=Kind.DELETE, live_intent=live, look=True, cause=cause)
        assert await temporal_effects.look(step) == Refused(cause.code, cause.message)
        assert await lane.found() == Found(str(live)), "a look changes nothing"
        await lane.drop()
        assert await temporal_effects.look(step) == Done()
        await lane.put_unstamped()
        assert await temporal_effects.look(step) == Refused(cause.code, cause.message)


class TestFaults:
    async def test_a_lost_reply_is_unknown_and_the_next_attempt_finds_it_done(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy, lane: Lane
    ) -> None:
        intent = uuid4()
        temporal.cut(CREATED, after_effect=True)
        outcome = await temporal_effects.apply(dispatch(CREATE, intent=intent))
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.CONNECTION_LOST
        assert await lane.found() == Found(str(intent))
        assert await temporal_effects.apply(dispatch(CREATE, intent=intent, unknown=True)) == Done()

    async def test_a_look_that_fails_after_the_create_rejects_nothing(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy, lane: Lane
    ) -> None:
        for fault in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT):
            temporal.fail(DESCRIBED, status=fault)
            outcome = await temporal_effects.apply(dispatch(CREATE, intent=FIXED, unknown=True))
            assert isinstance(outcome, Unknown)
        assert await lane.found() == Found(str(FIXED))

    async def test_nor_does_a_look_that_fails_at_a_name_that_is_taken(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy, lane: Lane
    ) -> None:
        intent = uuid4()
        await lane.put(intent)
        temporal.fail(DESCRIBED, status=grpc.StatusCode.INVALID_ARGUMENT)
        outcome = await temporal_effects.apply(dispatch(CREATE, intent=intent, generation="2"))
        assert isinstance(outcome, Unknown)

    async def test_without_doubt_nothing_is_looked_at(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        temporal.fail(DESCRIBED, times=None)
        assert await temporal_effects.apply(dispatch(CREATE)) == Done()

    @pytest.mark.parametrize(("event_type", "method"), [(CREATE, CREATED), (DELETE, DELETED)])
    async def test_no_answer_is_unknown(
        self,
        *,
        temporal_effects: TemporalEffects,
        dispatch: Make,
        temporal: FaultProxy,
        lane: Lane,
        event_type: EventType,
        method: str,
    ) -> None:
        live = uuid4()
        if event_type is DELETE:
            await lane.put(live)
        temporal.swallow(method)
        outcome = await temporal_effects.apply(dispatch(event_type, seconds=0.5, live_intent=live))
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.TIMED_OUT

    async def test_a_describe_without_an_answer_is_transient(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        temporal.swallow(DESCRIBED)
        outcome = await temporal_effects.apply(dispatch(DELETE, seconds=0.3))
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.TIMED_OUT

    async def test_a_connection_that_is_never_made_does_not_outlast_the_deadline(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        async with temporal.black_hole(), asyncio.timeout(240):
            outcome = await temporal_effects.apply(dispatch(CREATE, seconds=0.3))
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.TIMED_OUT

    @pytest.mark.parametrize("connected", [False, True])
    async def test_no_connection_is_transient(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy, *, connected: bool
    ) -> None:
        if connected:
            await temporal_effects.apply(dispatch(DELETE))
        async with temporal.outage():
            outcome = await temporal_effects.apply(dispatch(CREATE))
            while connected and isinstance(outcome, Unknown):
                # It went to the connection that was lost, and nobody had noticed: in doubt, as it must be.
                assert outcome.code is ErrorCode.CONNECTION_LOST
                outcome = await temporal_effects.apply(dispatch(CREATE))
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.UNREACHABLE

    async def test_past_the_deadline_nothing_is_sent(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        for event_type in (CREATE, DELETE):
            outcome = await temporal_effects.apply(dispatch(event_type, seconds=-1))
            assert isinstance(outcome, Transient)
            assert outcome.code is ErrorCode.TIMED_OUT
        assert temporal.calls() == []

    async def test_a_failed_call_is_not_repeated(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        temporal.fail(CREATED, status=grpc.StatusCode.RESOURCE_EXHAUSTED, times=None)
        outcome = await temporal_effects.apply(dispatch(CREATE))
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.OVERLOADED
        assert sent(temporal) == [CREATED]

    @pytest.mark.parametrize("event_type", [CREATE, DELETE])
    async def test_an_unknown_namespace_is_a_misconfiguration(
        self, stack: StackInfo, dispatch: Make, event_type: EventType
    ) -> None:
        client = await TemporalClient.connect(stack.temporal_address, "nowhere")
        outcome = await TemporalEffects(client, NoLedger(), INSTANCE).apply(dispatch(event_type))
        assert isinstance(outcome, Misconfigured)
        assert "nowhere" in outcome.message

    async def test_a_cancelled_step_is_the_workers_to_judge(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        gate = temporal.gate(CREATED)
        task = asyncio.create_task(temporal_effects.apply(dispatch(CREATE)))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_each_call_carries_the_trace_and_no_account(
        self, temporal_effects: TemporalEffects, dispatch: Make, temporal: FaultProxy
    ) -> None:
        trace = {"Traceparent": "00-1-2-01"}
        creator = Creator(user_id="alice", account_id="acme")
        live = uuid4()
        await temporal_effects.apply(
            dispatch(CREATE, intent=live, creator=creator, trace=trace, unknown=True)
        )
        await temporal_effects.apply(dispatch(DELETE, live_intent=live, creator=creator, trace=trace))
        ours = [call for call in temporal.calls() if not call.named("GetSystemInfo")]
        assert len(ours) == 4
        for call in ours:
            assert dict(call.metadata)["traceparent"] == "00-1-2-01"
            assert "x-account-id" not in dict(call.metadata)

    async def test_a_step_of_spicedbs_is_refused(
        self, temporal_effects: TemporalEffects, dispatch: Make
    ) -> None:
        with pytest.raises(ValueError, match="no effect on Temporal"):
            await temporal_effects.apply(dispatch(EventType.CREATE_REQUESTED))


FIXED = uuid4()


class NoLedger:
    """Is not asked."""

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        raise AssertionError(schedule_id, stamp)
