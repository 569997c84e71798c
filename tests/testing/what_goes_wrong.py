"""Tests that fail, each in its way, and one that never ends: ``test_plugin.py`` has pytest run them."""

import signal
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from authzed.api.v1 import (
    InsecureClient,
    ObjectReference,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

import outbox
from outbox.stack import StackInfo
from outbox.testing import Converge, Faults
from outbox.testing.handles import Backstage

DAILY = outbox.CreateSchedule(
    agent_id="agent-7", name="daily", workflow_name="W", task_queue="q", interval_seconds=86_400
)
ALICE = outbox.Principal(user_id="alice")


def order(database: str) -> UUID:
    with psycopg.connect(database) as connection:
        return outbox.sync.enqueue_create(connection, DAILY, principal=ALICE).id


async def test_behind_its_back(
    outbox_stack: StackInfo, outbox_database: str, outbox_converge: Converge
) -> None:
    order(outbox_database)
    await outbox_converge()
    temporal = await Client.connect(outbox_stack.temporal_address)
    await temporal.get_schedule_handle(DAILY.schedule_id).delete()
    await outbox_converge()


def test_goes_on(outbox_database: str, outbox_converge: Converge, outbox_faults: Faults) -> None:
    with outbox_faults.spicedb.outage():
        order(outbox_database)
        outbox_converge.sync(timeout=1)


@pytest.mark.outbox_settings(retry_max_strike=2)
def test_no_such_setting(outbox_database: str) -> None:
    raise AssertionError(outbox_database)


def test_no_such_status(outbox_faults: Faults) -> None:
    outbox_faults.temporal.fail("CreateSchedule", status="UNAVIALABLE")


def test_nobody_comes(outbox_faults: Faults) -> None:
    outbox_faults.temporal.gate("CreateSchedule").reached(timeout=0.1)


async def test_somebody_elses(
    outbox_stack: StackInfo, outbox_database: str, outbox_converge: Converge
) -> None:
    temporal = await Client.connect(outbox_stack.temporal_address)
    theirs = Schedule(
        ScheduleActionStartWorkflow("W", id="w", task_queue="q"),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))]),
    )
    await temporal.create_schedule(DAILY.schedule_id, theirs)
    outbox_converge.leave(DAILY.schedule_id)
    order(outbox_database)
    await outbox_converge()
    await temporal.get_schedule_handle(DAILY.schedule_id).delete()
    await outbox_converge()


def test_granted(outbox_stack: StackInfo, outbox_database: str, outbox_converge: Converge) -> None:
    intent = order(outbox_database)
    outbox_converge.sync()
    reader = Relationship(
        resource=ObjectReference(object_type="agent_schedule", object_id=DAILY.schedule_id),
        relation="reader",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id="bob")),
    )
    grant = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=reader)
    spicedb = InsecureClient(outbox_stack.spicedb_endpoint, outbox_stack.spicedb_token)
    spicedb.WriteRelationships(WriteRelationshipsRequest(updates=[grant]))
    outbox_converge.sync(granted={intent: ["reader@user:bob"]})
    outbox_converge.sync()


def test_the_names_are_free_again(outbox_database: str, outbox_converge: Converge) -> None:
    order(outbox_database)
    outbox_converge.sync()
    with psycopg.connect(outbox_database) as connection:
        assert connection.execute("SELECT status FROM outbox.intent_status").fetchall() == [("succeeded",)]


@pytest.mark.usefixtures("outbox_stack")
def test_never_ends(request: pytest.FixtureRequest) -> None:
    backstage: Backstage = request.getfixturevalue("_outbox_backstage")
    print("home:", backstage.home, flush=True)  # noqa: T201
    signal.pause()
