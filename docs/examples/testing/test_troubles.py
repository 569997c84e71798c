"""The same without an event loop: the fixtures serve synchronous tests, too."""

import psycopg
import pytest
from service import AGENT

import outbox
from outbox.testing import Converge, Faults

DAILY = outbox.CreateSchedule(
    agent_id=AGENT, name="daily", workflow_name="Report", task_queue="agents", interval_seconds=86_400
)
GONE = outbox.DeleteSchedule(agent_id=AGENT, name="daily")
ALICE = outbox.Principal(user_id="alice")


@pytest.mark.usefixtures("outbox_worker")
def test_a_cancel_that_comes_in_the_middle_waits_its_turn(
    outbox_database: str, outbox_converge: Converge, outbox_faults: Faults
) -> None:
    creating = outbox_faults.temporal.gate("CreateSchedule")
    with psycopg.connect(outbox_database) as connection:
        outbox.sync.enqueue_create(connection, DAILY, principal=ALICE)
    creating.reached()
    with psycopg.connect(outbox_database) as connection:
        outbox.sync.enqueue_delete(connection, GONE, principal=ALICE)
    creating.open()
    outbox_converge.sync()
    calls = outbox_faults.temporal.calls()
    assert calls.index("CreateSchedule") < calls.index("DeleteSchedule")


@pytest.mark.outbox_settings(retry_max_strikes=2)
def test_what_is_refused_again_and_again_is_parked(
    outbox_database: str, outbox_converge: Converge, outbox_faults: Faults
) -> None:
    outbox_faults.temporal.fail("CreateSchedule", status="INTERNAL", times=None)
    with psycopg.connect(outbox_database) as connection:
        outbox.sync.enqueue_create(connection, DAILY, principal=ALICE)
    outbox_converge.sync()
    with psycopg.connect(outbox_database) as connection:
        found = connection.execute("SELECT status FROM outbox.intent_status").fetchall()
    assert found == [("parked",)]
