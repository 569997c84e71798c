"""The behaviour that the outbox is for, S1 to S10, on the real stores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from authzed.api.v1 import (
    DeleteRelationshipsRequest,
    Precondition,
    RelationshipUpdate,
    WriteRelationshipsRequest,
)
from grpc import StatusCode as Status
from structlog.testing import capture_logs

from consumers.authz.names import definition_of
from outbox import Principal
from outbox.compose import schema
from outbox.compose.checks import require_ready
from outbox.errors import StoreUnusable
from outbox.settings import Settings
from outbox.stack import ports
from outbox.stack.spicedb import SpiceDB
from outbox.stack.state import State
from outbox.testing import Answer
from tests.pipeline.harness import BAD_CRON, NOBODY, PATIENT, Pipeline
from tests.pipeline.ledger import until
from tests.pipeline.stores import reader, registered
from tests.spicedb_calls import questions, removals

WRITE, REMOVE = "WriteRelationships", "DeleteRelationships"
CREATE, DELETE, DESCRIBE = "CreateSchedule", "DeleteSchedule", "DescribeSchedule"


def written(request: bytes) -> set[str]:
    updates = WriteRelationshipsRequest.FromString(request).updates
    return {
        f"{update.relationship.resource.object_type}:{update.relationship.resource.object_id}"
        f"#{update.relationship.relation}"
        f"@{update.relationship.subject.object.object_type}:{update.relationship.subject.object.object_id}"
        for update in updates
    }


def marks(intent_id: UUID) -> set[str]:
    return {f"outbox_intent:{intent_id}#ended@outbox_intent:{intent_id}"}


async def test_s1_owner_and_parent_agent_are_registered_before_the_schedule_is_created(
    pipeline: Pipeline,
) -> None:
    gate = pipeline.spicedb.gate(WRITE)
    intent = await pipeline.create()
    async with pipeline.working(**PATIENT):
        await gate.reached.wait()
        assert pipeline.temporal.calls(CREATE) == []
        gate.open()
        call = await pipeline.temporal.wait_for_call(CREATE)
        (registering,) = pipeline.spicedb.calls(WRITE)
        assert registering.server
        assert registering.server.status is Status.OK
        assert not call.answered.is_set() or registering.answered.is_set()
        await pipeline.ledger.await_event(intent.id, "created")
    assert written(registering.request) == {
        f"agent_schedule:{pipeline.lane()}#owner@user:alice",
        f"agent_schedule:{pipeline.lane()}#parent_agent@agent:{pipeline.agent}",
        f"agent_schedule:{pipeline.lane()}#registered_by@outbox_intent:{intent.id}",
    }
    updates = WriteRelationshipsRequest.FromString(registering.request).updates
    assert {update.operation for update in updates} == {RelationshipUpdate.OPERATION_CREATE}
    assert await pipeline.ledger.events(intent.id) == ["create.requested", "registered", "created"]
    await pipeline.agree()


async def test_s1_a_service_account_owns_its_schedule(pipeline: Pipeline) -> None:
    intent = await pipeline.create(by=Principal(service_account_id="robot"))
    await pipeline.work()
    assert (await pipeline.ledger.ended_as(intent.id))[0] == "created"
    await pipeline.agree()


async def test_s2_a_refused_registration_never_reaches_temporal(pipeline: Pipeline) -> None:
    pipeline.spicedb.fail(WRITE, status=Status.INVALID_ARGUMENT, details="no such subject")
    intent = await pipeline.create()
    await pipeline.work()
    assert await pipeline.ledger.events(intent.id) == ["create.requested", "create_failed"]
    assert await pipeline.ledger.ended_as(intent.id) == ("create_failed", "registration_refused")
    assert pipeline.temporal.calls(CREATE) == []
    await pipeline.agree()


@pytest.mark.parametrize("status", [Status.UNAUTHENTICATED, Status.PERMISSION_DENIED])
async def test_s2_a_misconfigured_registration_waits_and_never_reaches_temporal(
    pipeline: Pipeline, status: Status
) -> None:
    fault = pipeline.spicedb.fail(WRITE, status=status, times=None)
    intent = await pipeline.create()
    async with pipeline.working():
        await pipeline.ledger.await_attempt(intent.id, "misconfigured", 2)
        assert pipeline.temporal.calls(CREATE) == []
        assert await pipeline.ledger.events(intent.id) == ["create.requested"]
        fault.disarm()
        await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_s2_an_unreachable_spicedb_keeps_temporal_from_being_called(pipeline: Pipeline) -> None:
    async with pipeline.working():
        async with pipeline.spicedb.outage():
            intent = await pipeline.create()
            await pipeline.ledger.await_attempt(intent.id, "unreachable", 2)
            assert pipeline.temporal.calls(CREATE) == []
            assert await pipeline.ledger.events(intent.id) == ["create.requested"]
        await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_s3_a_refused_create_is_compensated_and_leaves_no_tuple(pipeline: Pipeline) -> None:
    intent = await pipeline.create(cron=BAD_CRON)
    await pipeline.work()
    assert await pipeline.ledger.events(intent.id) == [
        "create.requested",
        "registered",
        "compensation_requested",
        "create_failed",
    ]
    causes = await pipeline.ledger.rows(
        "SELECT error_code, error_message FROM outbox.events WHERE intent_id = %s AND error_code IS NOT NULL",
        intent.id,
    )
    assert [cause["error_code"] for cause in causes] == ["refused", "refused"]
    assert all("INVALID_ARGUMENT" in cause["error_message"] for cause in causes)
    await pipeline.intact(schedule=None, tuples=set())
    await pipeline.agree()


async def test_s3_the_mark_comes_before_the_removal(pipeline: Pipeline) -> None:
    intent = await pipeline.create(cron=BAD_CRON)
    await pipeline.work()
    methods = [call.method.rpartition("/")[2] for call in pipeline.spicedb.calls()]
    assert methods == [WRITE, WRITE, REMOVE]
    assert written(pipeline.spicedb.calls()[1].request) == marks(intent.id)


@pytest.mark.parametrize(
    "status", [Status.INTERNAL, Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED, Status.INVALID_ARGUMENT]
)
async def test_s4_a_failing_read_back_of_a_create_that_took_effect_compensates_nothing(
    pipeline: Pipeline, status: Status
) -> None:
    pipeline.temporal.lose_reply(CREATE)
    failing = pipeline.temporal.fail(DESCRIBE, status=status, times=4)
    intent = await pipeline.create()
    await pipeline.work()
    assert len(failing.calls) == 4
    assert await pipeline.ledger.events(intent.id) == ["create.requested", "registered", "created"]
    assert removals(pipeline.spicedb) == []
    await pipeline.agree()


async def test_s4_a_create_that_was_answered_is_not_read_back(pipeline: Pipeline) -> None:
    pipeline.temporal.fail(DESCRIBE, times=None)
    intent = await pipeline.create()
    await pipeline.work()
    assert (await pipeline.ledger.ended_as(intent.id))[0] == "created"
    assert pipeline.temporal.calls(DESCRIBE) == []
    await pipeline.agree()


async def test_s5_a_delete_removes_the_schedule_first_and_then_deregisters(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.work()
    gate = pipeline.temporal.gate(DELETE)
    before = len(pipeline.spicedb.calls())
    intent = await pipeline.delete()
    async with pipeline.working(**PATIENT):
        await gate.reached.wait()
        assert len(pipeline.spicedb.calls()) == before
        gate.open()
        await pipeline.ledger.await_event(intent.id, "deleted")
    assert await pipeline.ledger.events(intent.id) == ["delete.requested", "unscheduled", "deleted"]
    await pipeline.intact(schedule=None, tuples=set())
    await pipeline.agree()


@pytest.mark.parametrize(
    ("method", "status"),
    [
        (WRITE, Status.UNAVAILABLE),
        (REMOVE, Status.INTERNAL),
        (REMOVE, Status.UNAVAILABLE),
        (REMOVE, Status.RESOURCE_EXHAUSTED),
        (REMOVE, Status.INVALID_ARGUMENT),
    ],
)
async def test_s5_a_failing_deregister_neither_blocks_nor_undoes_the_delete(
    pipeline: Pipeline, method: str, status: Status
) -> None:
    await pipeline.create()
    await pipeline.work()
    failing = pipeline.spicedb.fail(method, status=status, times=3)
    intent = await pipeline.delete()
    async with pipeline.working():
        await pipeline.ledger.await_event(intent.id, "unscheduled")
        assert await pipeline.stores.schedule(pipeline.lane()) is None
        await pipeline.ledger.await_event(intent.id, "deleted")
    assert len(failing.calls) == 3
    assert (await pipeline.ledger.ended_as(intent.id))[1] is None
    await pipeline.agree()


async def test_s6_without_an_identity_the_schedule_is_created_unregistered_with_a_warning(
    pipeline: Pipeline,
) -> None:
    intent = await pipeline.create(by=NOBODY)
    with capture_logs() as logs:
        await pipeline.work()
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["event"], line["schedule_id"]) for line in warnings] == [
        ("registration_skipped", pipeline.lane())
    ]
    assert await pipeline.ledger.events(intent.id) == ["create.requested", "registration_skipped", "created"]
    assert pipeline.spicedb.calls(WRITE) == []
    await pipeline.agree()
    await pipeline.delete()
    await pipeline.work()
    await pipeline.agree()


async def test_s6_its_later_failure_compensates_nothing(pipeline: Pipeline) -> None:
    intent = await pipeline.create(by=Principal(account_id="acme"), cron=BAD_CRON)
    await pipeline.work()
    assert await pipeline.ledger.events(intent.id) == [
        "create.requested",
        "registration_skipped",
        "create_failed",
    ]
    assert pipeline.spicedb.calls(WRITE) == removals(pipeline.spicedb) == []
    await pipeline.agree()


async def test_s7_one_id_for_schedule_object_and_lane(pipeline: Pipeline) -> None:
    intent = await pipeline.create(name="every-night")
    expected = f"{pipeline.agent}--every-night"
    assert intent.schedule_id == expected
    lanes = await pipeline.ledger.rows("SELECT schedule_id FROM outbox.queue")
    assert [row["schedule_id"] for row in lanes] == [expected]
    await pipeline.work()
    schedule = await pipeline.stores.schedule(expected)
    assert schedule
    assert schedule.workflow_id == f"{expected}-run"
    assert await pipeline.stores.tuples(expected) == registered(expected, intent.id, "alice")
    await pipeline.agree()


async def test_s8_the_public_type_maps_to_the_definition_that_is_written(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.work()
    (call,) = pipeline.spicedb.calls(WRITE)
    assert {one.partition(":")[0] for one in written(call.request)} == {definition_of("schedule")}
    assert definition_of("schedule") == "agent_schedule"


@pytest.fixture
async def bare_spicedb(tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings for a SpiceDB that has no schema yet."""
    state = State.new()
    state.ports["spicedb"] = ports.pick(set())
    server = SpiceDB()
    await asyncio.to_thread(server.prepare, tmp_path, state, lambda _: None)
    command = server.command(tmp_path, state)
    process = await asyncio.create_subprocess_exec(*command.argv, env=command.env, cwd=tmp_path / "spicedb")

    async def answers() -> bool:
        return await asyncio.to_thread(server.failure, state) is None

    try:
        await until("SpiceDB to answer", answers)
        yield Settings.model_validate(
            {
                "spicedb_endpoint": f"127.0.0.1:{state.ports['spicedb']}",
                "spicedb_token": state.token,
                "spicedb_tls": False,
            }
        )
    finally:
        process.terminate()
        await process.wait()


async def test_s8_workers_refuse_to_start_without_the_schema_and_a_command_mends_it(
    pipeline: Pipeline, bare_spicedb: Settings, tmp_path: Path
) -> None:
    bare = bare_spicedb.model_dump(include={"spicedb_endpoint", "spicedb_token", "spicedb_tls"})
    settings = pipeline.settings.model_copy(update=bare)
    intent = await pipeline.create()
    async with pipeline.process(tmp_path / "worker.log", **bare) as process:
        assert await process.wait() == 1
    said = (tmp_path / "worker.log").read_text()
    assert "definition is missing" in said
    assert "outbox authz-schema apply" in said
    assert await pipeline.ledger.events(intent.id) == ["create.requested"]

    # A worker that was running when the schema went away fails nothing for it.
    async with pipeline.working(**bare):
        await pipeline.ledger.await_attempt(intent.id, "misconfigured")
        assert await pipeline.ledger.events(intent.id) == ["create.requested"]
        assert pipeline.temporal.calls(CREATE) == []
        assert (await schema.apply(settings, lambda _: True)).written
        await pipeline.ledger.await_event(intent.id, "created")
    await require_ready(settings, None)


async def test_s8_a_schema_that_lacks_a_relation_is_named(pipeline: Pipeline) -> None:
    # What a server says whose schema was replaced while workers ran.
    details = "relation/permission `registered_by` not found under definition `agent_schedule`"
    missing = pipeline.spicedb.fail(WRITE, status=Status.FAILED_PRECONDITION, details=details, times=2)
    intent = await pipeline.create()
    await pipeline.work()
    assert len(missing.calls) == 2
    codes = [row["error_code"] for row in await pipeline.ledger.attempts(intent.id)]
    assert codes == ["misconfigured", "misconfigured"]
    assert (await pipeline.ledger.ended_as(intent.id))[0] == "created"
    empty = Answer(status=Status.NOT_FOUND, details="No schema has been defined; please call WriteSchema")
    pipeline.spicedb.answer("ReadSchema", empty, times=None)
    with pytest.raises(StoreUnusable, match="outbox authz-schema apply") as refusal:
        await require_ready(pipeline.settings, None)
    assert refusal.value.reachable


async def test_s9_each_call_to_spicedb_names_the_account(pipeline: Pipeline) -> None:
    by = Principal(user_id="alice", account_id="acme")
    pipeline.spicedb.lose_reply(WRITE)
    pipeline.spicedb.lose_reply(REMOVE)
    await pipeline.create(by=by)
    await pipeline.create("broken", by=by, cron=BAD_CRON)
    await pipeline.work()
    await pipeline.delete(by=by)
    await pipeline.work()
    calls = pipeline.spicedb.calls()
    assert {call.method.rpartition("/")[2] for call in calls} == {WRITE, REMOVE}
    assert questions(pipeline.spicedb)
    assert all(("x-account-id", "acme") in call.metadata for call in calls)
    await pipeline.agree()


async def test_s9_without_an_account_registration_happens_all_the_same(pipeline: Pipeline) -> None:
    await pipeline.create()
    await pipeline.work()
    (call,) = pipeline.spicedb.calls()
    assert "x-account-id" not in dict(call.metadata)
    await pipeline.agree()


async def test_s10_deregistering_removes_later_grantees_too_in_one_call(pipeline: Pipeline) -> None:
    created = await pipeline.create()
    await pipeline.work()
    await pipeline.stores.put(reader(pipeline.lane(), "rita"), reader(pipeline.lane(), "rob"))
    await pipeline.agree(more={pipeline.lane(): {reader(pipeline.lane(), who) for who in ("rita", "rob")}})
    await pipeline.delete()
    await pipeline.work()
    (call,) = pipeline.spicedb.calls(REMOVE)
    request = DeleteRelationshipsRequest.FromString(call.request)
    assert request.relationship_filter.optional_resource_id == pipeline.lane()
    assert request.relationship_filter.optional_relation == ""
    (condition,) = request.optional_preconditions
    assert condition.operation == Precondition.OPERATION_MUST_MATCH
    assert condition.filter.optional_subject_filter.optional_subject_id == str(created.id)
    await pipeline.intact(schedule=None, tuples=set())
    await pipeline.agree()
