"""The effects on SpiceDB, on the real engine: what they write, whom they spare, and what a fault leaves."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import grpc
import pytest
from authzed.api.v1 import DeleteRelationshipsRequest
from structlog.testing import capture_logs

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.effects import AuthzEffects
from consumers.calls import Call
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch, Standing
from outbox.flow.outcome import Conflict, Done, Misconfigured, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind
from outbox.testing import FaultProxy

Make = Callable[..., Dispatch]
REGISTER = EventType.CREATE_REQUESTED
COMPENSATE = EventType.COMPENSATION_REQUESTED
DEREGISTER = EventType.UNSCHEDULED
WRITE, DELETE, READ = "WriteRelationships", "DeleteRelationships", "ReadRelationships"
NOBODY = Creator()


def owner(schedule_id: str, user: str = "alice") -> Tuple:
    return Tuple("agent_schedule", schedule_id, "owner", "user", user)


def reader(schedule_id: str, user: str = "rita") -> Tuple:
    return Tuple("agent_schedule", schedule_id, "reader", "user", user)


def parent(schedule_id: str) -> Tuple:
    return Tuple("agent_schedule", schedule_id, "parent_agent", "agent", schedule_id.partition("--")[0])


def stamp(schedule_id: str, intent: UUID) -> Tuple:
    return Tuple("agent_schedule", schedule_id, "registered_by", "outbox_intent", str(intent))


def registered(schedule_id: str, intent: UUID, user: str = "alice") -> set[Tuple]:
    return {owner(schedule_id, user), parent(schedule_id), stamp(schedule_id, intent)}


def raced(outcome: object, *, at_once: bool = True) -> bool:
    wait = 0.0 if at_once else None
    return isinstance(outcome, Transient) and (outcome.code, outcome.retry_after) == (ErrorCode.RACED, wait)


class Object:
    """The test's schedule in SpiceDB, seen past the proxy."""

    def __init__(self, client: AuthzClient, schedule_id: str) -> None:
        self._client = client
        self._schedule_id = schedule_id

    async def put(self, *tuples: Tuple) -> None:
        await self._client.touch(tuples, Call.within(30))

    async def drop(self, found: Tuple) -> None:
        match = Match(
            found.resource_type, found.resource_id, found.relation, found.subject_type, found.subject_id
        )
        await self._client.delete(match, (), Call.within(30))

    async def tuples(self) -> set[Tuple]:
        return set(
            (await self._client.read(Match("agent_schedule", self._schedule_id), Call.within(30))).tuples
        )

    async def ended(self, intent: UUID) -> bool:
        found = await self._client.read(Match("outbox_intent", str(intent), "ended"), Call.within(30))
        return bool(found.tuples)


@pytest.fixture
def held(relationships: AuthzClient, schedule_id: str) -> Object:
    return Object(relationships, schedule_id)


class TestRegister:
    async def test_writes_owner_parent_and_stamp_at_once(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, spicedb: FaultProxy
    ) -> None:
        step = dispatch(REGISTER)
        outcome = await authz_effects.apply(step)
        assert isinstance(outcome, Done)
        assert outcome.zed_token
        assert not outcome.skipped
        assert await held.tuples() == registered(schedule_id, step.intent_id)
        assert len(spicedb.calls()) == 1

    async def test_takes_a_service_account_as_owner(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        assert isinstance(
            await authz_effects.apply(dispatch(REGISTER, creator=Creator(service_account_id="robot"))), Done
        )
        assert (
            Tuple("agent_schedule", schedule_id, "owner", "service_account", "robot") in await held.tuples()
        )

    async def test_again_is_done_and_later_grantees_stay(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        step = dispatch(REGISTER)
        await authz_effects.apply(step)
        await held.put(reader(schedule_id))
        outcome = await authz_effects.apply(step)
        assert isinstance(outcome, Done)
        assert outcome.zed_token
        assert reader(schedule_id) in await held.tuples()

    async def test_of_two_at_once_one_wins(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object
    ) -> None:
        outcomes = await asyncio.gather(*(authz_effects.apply(dispatch(REGISTER)) for _ in range(8)))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 7 + ["Done"]
        assert len(await held.tuples()) == 3

    async def test_an_ended_intent_never_registers(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object
    ) -> None:
        step = dispatch(REGISTER)
        await held.put(
            Tuple("outbox_intent", str(step.intent_id), "ended", "outbox_intent", str(step.intent_id))
        )
        assert raced(await authz_effects.apply(step), at_once=False)
        assert await held.tuples() == set()

    @pytest.mark.parametrize("creator", [Creator(user_id="alice"), NOBODY])
    async def test_a_name_with_foreign_relationships_is_a_conflict(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, creator: Creator
    ) -> None:
        await held.put(owner(schedule_id, "mallory"))
        outcome = await authz_effects.apply(dispatch(REGISTER, creator=creator))
        assert isinstance(outcome, Conflict)
        assert outcome.code is ErrorCode.CONFLICT_FOREIGN
        assert await held.tuples() == {owner(schedule_id, "mallory")}

    @pytest.mark.parametrize("creator", [Creator(user_id="alice"), NOBODY])
    @pytest.mark.parametrize(
        ("standing", "code"),
        [(Standing.FOREIGN, ErrorCode.CONFLICT_FOREIGN), (Standing.LIVE, ErrorCode.CONFLICT_LIVE)],
    )
    async def test_a_name_with_anothers_stamp_is_a_conflict(
        self,
        *,
        authz_effects: AuthzEffects,
        dispatch: Make,
        held: Object,
        schedule_id: str,
        standings: dict[str, Standing],
        creator: Creator,
        standing: Standing,
        code: ErrorCode,
    ) -> None:
        other = uuid4()
        standings[str(other)] = standing
        before = registered(schedule_id, other, "mallory")
        await held.put(*before)
        outcome = await authz_effects.apply(dispatch(REGISTER, creator=creator))
        assert isinstance(outcome, Conflict)
        assert outcome.code is code
        assert await held.tuples() == before
        assert not await held.ended(other)

    @pytest.mark.parametrize("creator", [Creator(user_id="alice"), NOBODY])
    async def test_debris_is_removed_and_the_step_tried_again(
        self,
        *,
        authz_effects: AuthzEffects,
        dispatch: Make,
        held: Object,
        schedule_id: str,
        standings: dict[str, Standing],
        creator: Creator,
    ) -> None:
        other = uuid4()
        standings[str(other)] = Standing.ENDED
        await held.put(*registered(schedule_id, other, "mallory"), reader(schedule_id))
        step = dispatch(REGISTER, creator=creator)
        assert raced(await authz_effects.apply(step))
        assert await held.tuples() == set()
        assert await held.ended(other)
        assert isinstance(await authz_effects.apply(step), Done)
        assert owner(schedule_id, "mallory") not in await held.tuples()

    async def test_a_broken_registration_of_its_own_starts_over(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        step = dispatch(REGISTER)
        await held.put(stamp(schedule_id, step.intent_id), reader(schedule_id))
        assert raced(await authz_effects.apply(step))
        assert await held.tuples() == set()
        assert isinstance(await authz_effects.apply(step), Done)
        assert await held.tuples() == registered(schedule_id, step.intent_id)

    @pytest.mark.parametrize("creator", [Creator(user_id="alice"), NOBODY])
    async def test_a_live_schedule_without_registration_is_a_conflict_too(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy, creator: Creator
    ) -> None:
        outcome = await authz_effects.apply(dispatch(REGISTER, creator=creator, live_intent=uuid4()))
        assert isinstance(outcome, Conflict)
        assert outcome.code is ErrorCode.CONFLICT_LIVE
        assert spicedb.calls() == []

    async def test_without_a_creator_it_is_skipped_with_a_warning(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        step = dispatch(REGISTER, creator=Creator(account_id="acme"))
        with capture_logs() as logs:
            assert await authz_effects.apply(step) == Done(skipped=True)
        assert [(log["event"], log["log_level"], log["schedule_id"]) for log in logs] == [
            ("registration_skipped", "warning", schedule_id)
        ]
        assert await held.tuples() == set()


class TestCompensate:
    async def test_removes_all_relationships_and_marks_the_intent_first(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, spicedb: FaultProxy
    ) -> None:
        intent = uuid4()
        await held.put(*registered(schedule_id, intent), reader(schedule_id))
        outcome = await authz_effects.apply(dispatch(COMPENSATE, intent=intent))
        assert isinstance(outcome, Done)
        assert outcome.zed_token
        assert await held.tuples() == set()
        assert await held.ended(intent)
        assert [c.method.rpartition("/")[2] for c in spicedb.calls()] == [WRITE, DELETE]

    async def test_leaves_alone_what_another_registered(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        before = registered(schedule_id, uuid4(), "mallory")
        await held.put(*before)
        assert isinstance(await authz_effects.apply(dispatch(COMPENSATE)), Done)
        assert await held.tuples() == before

    async def test_of_nothing_is_done(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        step = dispatch(COMPENSATE)
        assert await authz_effects.apply(step) == Done()
        assert await authz_effects.apply(step) == Done()
        await held.put(owner(schedule_id, "mallory"))
        assert await authz_effects.apply(step) == Done()
        assert await held.tuples() == {owner(schedule_id, "mallory")}

    async def test_keeps_a_late_registration_from_landing(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, spicedb: FaultProxy
    ) -> None:
        intent = uuid4()
        late = spicedb.apply_late(WRITE, times=1)
        outcome = await authz_effects.apply(dispatch(REGISTER, intent=intent))
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.TIMED_OUT
        assert isinstance(await authz_effects.apply(dispatch(COMPENSATE, intent=intent)), Done)
        assert (await late.release()).status is grpc.StatusCode.FAILED_PRECONDITION
        assert await held.tuples() == set()

    async def test_without_the_mark_nothing_is_deleted(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, spicedb: FaultProxy
    ) -> None:
        intent = uuid4()
        await held.put(*registered(schedule_id, intent))
        spicedb.fail(WRITE, status=grpc.StatusCode.ABORTED)
        outcome = await authz_effects.apply(dispatch(COMPENSATE, intent=intent))
        assert isinstance(outcome, Transient)
        assert spicedb.calls(DELETE) == []


class TestDeregister:
    async def test_removes_what_the_live_intent_registered_and_all_grantees(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        live = uuid4()
        await held.put(*registered(schedule_id, live), reader(schedule_id))
        step = dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=live)
        outcome = await authz_effects.apply(step)
        assert isinstance(outcome, Done)
        assert outcome.zed_token
        assert await held.tuples() == set()
        assert await held.ended(live)
        assert await authz_effects.apply(step) == Done()

    async def test_keeps_a_late_registration_of_the_victim_from_landing(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, spicedb: FaultProxy
    ) -> None:
        live = uuid4()
        late = spicedb.apply_late(WRITE, times=1)
        await authz_effects.apply(dispatch(REGISTER, intent=live))
        step = dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=live)
        assert isinstance(await authz_effects.apply(step), Done)
        assert (await late.release()).status is grpc.StatusCode.FAILED_PRECONDITION
        assert await held.tuples() == set()

    async def test_removes_a_legacy_registration(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        await held.put(owner(schedule_id), parent(schedule_id), reader(schedule_id))
        assert isinstance(await authz_effects.apply(dispatch(DEREGISTER, kind=Kind.DELETE)), Done)
        assert await held.tuples() == set()

    @pytest.mark.parametrize("live", [None, uuid4()])
    async def test_leaves_a_foreign_registration_alone_and_says_so(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, live: UUID | None
    ) -> None:
        before = registered(schedule_id, uuid4(), "mallory")
        await held.put(*before)
        with capture_logs() as logs:
            outcome = await authz_effects.apply(dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=live))
        assert isinstance(outcome, Done)
        assert [log["event"] for log in logs] == ["foreign_relationships_left"]
        assert await held.tuples() == before

    async def test_of_a_stamped_victim_leaves_unstamped_relationships_alone(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        await held.put(owner(schedule_id, "mallory"))
        step = dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=uuid4())
        assert isinstance(await authz_effects.apply(step), Done)
        assert await held.tuples() == {owner(schedule_id, "mallory")}

    @pytest.mark.parametrize("live", [None, uuid4()])
    async def test_removes_debris(
        self,
        *,
        authz_effects: AuthzEffects,
        dispatch: Make,
        held: Object,
        schedule_id: str,
        standings: dict[str, Standing],
        live: UUID | None,
    ) -> None:
        other = uuid4()
        standings[str(other)] = Standing.ENDED
        await held.put(*registered(schedule_id, other))
        step = dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=live)
        assert isinstance(await authz_effects.apply(step), Done)
        assert await held.tuples() == set()
        assert await held.ended(other)

    async def test_a_registration_that_came_between_is_looked_at_again(
        self,
        *,
        authz_effects: AuthzEffects,
        dispatch: Make,
        held: Object,
        schedule_id: str,
        standings: dict[str, Standing],
    ) -> None:
        other = uuid4()
        standings[str(other)] = Standing.LIVE
        await held.put(*registered(schedule_id, other))
        assert raced(await authz_effects.apply(dispatch(DEREGISTER, kind=Kind.DELETE)), at_once=False)
        assert len(await held.tuples()) == 3


class TestLook:
    CAUSE = Cause(ErrorCode.REGISTRATION_REFUSED, "no such relation")

    async def test_a_registration_that_stands_is_done(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        step = dispatch(REGISTER, look=True, unknown=True, cause=self.CAUSE)
        await held.put(*registered(schedule_id, step.intent_id))
        outcome = await authz_effects.look(step)
        assert isinstance(outcome, Done)
        assert outcome.zed_token

    @pytest.mark.parametrize("creator", [Creator(user_id="alice"), NOBODY])
    async def test_else_the_cause_stands_and_nothing_changes(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, creator: Creator
    ) -> None:
        step = dispatch(REGISTER, look=True, unknown=True, cause=self.CAUSE, creator=creator)
        assert await authz_effects.look(step) == Refused(self.CAUSE.code, self.CAUSE.message)
        await held.put(owner(schedule_id), stamp(schedule_id, step.intent_id))
        assert await authz_effects.look(step) == Refused(self.CAUSE.code, self.CAUSE.message)
        assert len(await held.tuples()) == 2

    async def test_an_undo_is_done_again(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str
    ) -> None:
        intent = uuid4()
        await held.put(*registered(schedule_id, intent))
        assert isinstance(await authz_effects.look(dispatch(COMPENSATE, intent=intent, look=True)), Done)
        assert await held.tuples() == set()

    async def test_a_look_that_fails_is_taken_again(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        step = dispatch(REGISTER, look=True, unknown=True, cause=self.CAUSE)
        spicedb.lose_reply(DELETE)
        outcome = await authz_effects.look(step)
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.CONNECTION_LOST
        spicedb.fail(DELETE, status=grpc.StatusCode.INVALID_ARGUMENT)
        assert isinstance(await authz_effects.look(step), Transient)


class TestFaults:
    async def test_a_lost_reply_is_unknown_and_the_next_attempt_finds_it_done(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy, held: Object
    ) -> None:
        step = dispatch(REGISTER)
        spicedb.cut(WRITE, after_effect=True, times=1)
        outcome = await authz_effects.apply(step)
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.CONNECTION_LOST
        assert len(await held.tuples()) == 3
        assert isinstance(await authz_effects.apply(step), Done)

    async def test_a_write_without_an_answer_is_unknown(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        spicedb.swallow(WRITE)
        outcome = await authz_effects.apply(dispatch(REGISTER, seconds=0.3))
        assert isinstance(outcome, Unknown)
        assert outcome.code is ErrorCode.TIMED_OUT

    async def test_a_read_without_an_answer_is_transient(
        self, authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, spicedb: FaultProxy
    ) -> None:
        await held.put(owner(schedule_id))
        spicedb.swallow(READ)
        outcome = await authz_effects.apply(dispatch(REGISTER, seconds=0.5))
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.TIMED_OUT

    async def test_no_connection_is_transient(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        async with spicedb.outage():
            outcome = await authz_effects.apply(dispatch(REGISTER))
        assert isinstance(outcome, Transient)
        assert outcome.code is ErrorCode.UNREACHABLE
        assert "\n" not in outcome.message

    async def test_past_the_deadline_nothing_is_sent(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        for event_type in (REGISTER, COMPENSATE, DEREGISTER):
            outcome = await authz_effects.apply(dispatch(event_type, seconds=-1))
            assert isinstance(outcome, Transient)
            assert outcome.code is ErrorCode.TIMED_OUT
        assert spicedb.calls() == []

    async def test_a_cancelled_step_is_the_workers_to_judge(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        gate = spicedb.gate(WRITE)
        task = asyncio.create_task(authz_effects.apply(dispatch(REGISTER)))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_wrong_token_is_a_misconfiguration_and_stays_a_secret(
        self, spicedb: FaultProxy, dispatch: Make, relationships: AuthzClient
    ) -> None:
        del relationships
        client = AuthzClient.connect(spicedb.address, "s3cret-guess", tls=False)
        spicedb.fail(
            DELETE, status=grpc.StatusCode.UNAUTHENTICATED, details="no Bearer s3cret-guess, no s3cret-guess"
        )
        effects = AuthzEffects(client, NoLedger())
        for step in (dispatch(REGISTER), dispatch(DEREGISTER)):
            outcome = await effects.apply(step)
            assert isinstance(outcome, Misconfigured)
            assert "s3cret" not in outcome.message
        await client.close()

    async def test_each_call_carries_account_and_trace(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy, held: Object, schedule_id: str
    ) -> None:
        other = uuid4()
        await held.put(*registered(schedule_id, other))
        trace = {"traceparent": "00-1-2-01", "tracestate": "line\nbreak", "other": "x"}
        creator = Creator(user_id="alice", account_id="acme")
        await authz_effects.apply(dispatch(REGISTER, creator=creator, trace=trace))
        await authz_effects.apply(dispatch(DEREGISTER, creator=creator, trace=trace))
        await authz_effects.apply(dispatch(COMPENSATE, creator=creator, trace=trace))
        assert {c.method.rpartition("/")[2] for c in spicedb.calls()} == {WRITE, READ, DELETE}
        for sent in spicedb.calls():
            metadata = dict(sent.metadata)
            assert metadata["x-account-id"] == "acme"
            assert metadata["traceparent"] == "00-1-2-01"
            assert "tracestate" not in metadata
            assert "other" not in metadata

    async def test_no_delete_leaves_the_object_open(
        self, authz_effects: AuthzEffects, dispatch: Make, spicedb: FaultProxy
    ) -> None:
        for event_type in (REGISTER, COMPENSATE, DEREGISTER):
            for bad in ("", " ", "a b--c"):
                with pytest.raises(ValueError, match="not a"):
                    await authz_effects.apply(dispatch(event_type, schedule_id=bad, live_intent=None))
        assert spicedb.calls(DELETE) == []
        await authz_effects.apply(dispatch(DEREGISTER))
        [sent] = spicedb.calls(DELETE)
        assert DeleteRelationshipsRequest.FromString(sent.request).relationship_filter.optional_resource_id

    async def test_a_step_of_temporals_is_refused(self, authz_effects: AuthzEffects, dispatch: Make) -> None:
        with pytest.raises(ValueError, match="no effect on SpiceDB"):
            await authz_effects.apply(dispatch(EventType.REGISTERED))


class NoLedger:
    """Is not asked."""

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        raise AssertionError(schedule_id, stamp)
