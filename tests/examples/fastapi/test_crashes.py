"""A crash between the two writes: it leaks from a handler that makes them, and converges where workers do."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

import outbox
from outbox.compose.audit import compare_stores
from tests.examples.fastapi.conftest import ALICE, BOB, CHANGE, serving
from tests.pipeline.harness import NIGHTLY, Pipeline
from tests.pipeline.stores import owner, parent


@pytest.fixture
async def nightly(pipeline: Pipeline) -> dict[str, Any]:
    await pipeline.may_use_the_agent(outbox.Principal(user_id="alice"))
    named = {"agent_id": pipeline.agent, "name": NIGHTLY}
    return named | {"workflow_name": "Report", "task_queue": "agents", "interval_seconds": 3600}


async def test_a_handler_that_writes_both_stores_leaves_an_owner_of_nothing(
    environment: dict[str, str], pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    pipeline.temporal.gate("CreateSchedule")
    async with serving("service.before:app", environment) as (process, client):
        asking = asyncio.create_task(client.post("/schedules", json=nightly, headers=ALICE))
        call = await pipeline.temporal.wait_for_call("CreateSchedule")
        process.kill()
        with pytest.raises(httpx.TransportError):
            await asking
        await call.ended.wait()

    lane = pipeline.lane()
    assert await pipeline.stores.schedule(lane) is None
    assert await pipeline.stores.tuples(lane) == {owner(lane, "alice"), parent(lane)}
    # Nothing will take them away: only an audit finds them.
    (drift,) = (await compare_stores(pipeline.settings, ids={lane})).drifts
    said = "in SpiceDB, without a stamp: owner@user:alice, parent_agent@agent:agent-7"
    assert (drift.kind, drift.detail) == ("foreign", said.replace("agent-7", pipeline.agent))
    assert said in CHANGE.text


async def test_what_else_such_a_handler_leaks(
    environment: dict[str, str], pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    await pipeline.may_use_the_agent(outbox.Principal(user_id="bob"))
    lane, url = pipeline.lane(), f"/schedules/{pipeline.agent}/{NIGHTLY}"
    async with serving("service.before:app", environment) as (_, client):
        pipeline.temporal.lose_reply("CreateSchedule", status=grpc.StatusCode.DEADLINE_EXCEEDED)
        assert (await client.post("/schedules", json=nightly, headers=ALICE)).status_code == 503
        # It runs, and its owner may not delete it.
        assert await pipeline.stores.schedule(lane) is not None
        assert (await client.delete(url, headers=ALICE)).status_code == 403

        # The name is taken, and who finds that out owns what has it.
        assert (await client.post("/schedules", json=nightly, headers=BOB)).status_code == 409
        assert owner(lane, "bob") in await pipeline.stores.tuples(lane)

        # Deleted, and owned: whoever comes next shares.
        pipeline.spicedb.fail("DeleteRelationships")
        assert (await client.delete(url, headers=BOB)).status_code == 503
        assert await pipeline.stores.schedule(lane) is None
        assert (await client.post("/schedules", json=nightly, headers=ALICE)).status_code == 201
        assert {owner(lane, "alice"), owner(lane, "bob")} <= await pipeline.stores.tuples(lane)


async def test_an_intent_outlives_the_service_and_its_worker(
    environment: dict[str, str], pipeline: Pipeline, nightly: dict[str, Any], tmp_path: Path
) -> None:
    async with serving("service.schedules:app", environment) as (process, client):
        asked = await client.post("/schedules", json=nightly, headers=ALICE)
        process.kill()
    assert asked.status_code == 202

    gate = pipeline.temporal.gate("CreateSchedule")
    async with pipeline.process(tmp_path / "log") as worker:
        call = await pipeline.temporal.wait_for_call("CreateSchedule")
        worker.kill()
        await call.ended.wait()
    lane = pipeline.lane()
    # The same crash at the same place.
    assert await pipeline.stores.schedule(lane) is None
    assert owner(lane, "alice") in await pipeline.stores.tuples(lane)
    gate.open()

    await pipeline.work()
    assert await pipeline.stores.schedule(lane) is not None
    await pipeline.agree()
