"""What the service's routes do, on either wire, with the real stores and the least of rights."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from authzed.api.v1 import CheckPermissionRequest

import outbox
from tests.examples.fastapi.conftest import BOB, SECONDS, SERVICE, Logins
from tests.pipeline.harness import NIGHTLY, Pipeline

WAIT = {"wait": 300}
"""A bound for hangs."""


@pytest.fixture
async def alice(pipeline: Pipeline) -> str:
    """Whose the agent is, and nothing else: what she may read is this test's."""
    name = pipeline.agent.replace("agent", "alice")
    await pipeline.may_use_the_agent(outbox.Principal(user_id=name))
    return name


@pytest.fixture
async def client(
    environment: dict[str, str], alice: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from service.schedules import app  # noqa: PLC0415 - of the example's folder, which is no package of ours

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", headers={"X-User": alice}) as one,
    ):
        yield one


@pytest.fixture
def nightly(pipeline: Pipeline) -> dict[str, Any]:
    named = {"agent_id": pipeline.agent, "name": NIGHTLY}
    return named | {"workflow_name": "Report", "task_queue": "agents", "interval_seconds": 3600}


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == answer.status_code
    return found


@pytest.mark.both_wires
async def test_a_schedule_is_created_read_changed_and_deleted(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any], logins: Logins
) -> None:
    url = f"/schedules/{pipeline.agent}/{NIGHTLY}"
    async with pipeline.working(database_url=logins.worker):
        body = nightly | {"start_at": "2026-12-01T00:00:00+01:00"}
        created = await client.post("/schedules", json=body, params=WAIT)
        assert (created.status_code, created.json()["status"]) == (201, "succeeded")

        found = (await client.get(url)).json()
        assert found["schedule_id"] == pipeline.lane()
        assert (found["workflow_name"], found["paused"], len(found["next_runs"])) == ("Report", False, 3)
        assert (await client.get("/schedules")).json() == [pipeline.lane()]

        change = {"agent_id": pipeline.agent, "name": NIGHTLY, "paused": True, "note": "until Monday"}
        updated = await client.patch("/schedules", json=change, params=WAIT)
        assert updated.status_code == 200
        found = (await client.get(url)).json()
        assert (found["paused"], found["note"]) == (True, "until Monday")

        deleted = await client.delete(url, params=WAIT)
        assert deleted.status_code == 200
        assert problem(await client.get(url))["status"] == 404
    await pipeline.agree()


async def test_whoever_asks_is_answered_at_once(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    asked = await client.post("/schedules", json=nightly)
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    link = asked.headers["location"]
    assert (await client.get(link)).json()["status"] == "pending"
    await pipeline.work()
    assert (await client.get(link)).json()["status"] == "succeeded"
    assert problem(await client.get(link, headers=BOB))["status"] == 404


async def test_what_is_no_longer_kept_is_gone(client: httpx.AsyncClient, alice: str, logins: Logins) -> None:
    with psycopg.connect(logins.service) as connection:
        row = connection.execute(
            "INSERT INTO requests (intent_id, schedule_id, kind, asked_by)"
            " VALUES (gen_random_uuid(), 'a--b', 'create', %s) RETURNING intent_id",
            [alice],
        ).fetchone()
    assert row
    gone = [await client.get(f"/intents/{row[0]}", params=params) for params in ({}, WAIT)]
    assert [problem(one)["status"] for one in gone] == [410, 410]


async def test_who_may_not_is_refused_before_anything_is_written(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any], logins: Logins
) -> None:
    url = f"/schedules/{pipeline.agent}/{NIGHTLY}"
    change = {"agent_id": pipeline.agent, "name": NIGHTLY, "paused": True}
    refused = [
        await client.post("/schedules", json=nightly, headers=BOB),
        # Nobody may change what is not there.
        await client.patch("/schedules", json=change),
        await client.delete(url),
        await client.get(url),
        await client.get("/schedules/agent/nightly%00"),
        await client.post("/schedules", json=nightly, headers={"X-User": "bob@example.com"}),
    ]
    assert [problem(one)["status"] for one in refused] == [403, 403, 403, 404, 422, 422]
    with psycopg.connect(logins.owner) as connection:
        assert connection.execute("SELECT count(*) FROM outbox.intents").fetchone() == (0,)


async def test_a_store_that_is_away_is_no_permission(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    async with pipeline.spicedb.outage():
        assert problem(await client.post("/schedules", json=nightly))["status"] == 503


async def test_a_schedule_that_cannot_be_described_is_not_said_to_be_gone(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    await client.post("/schedules", json=nightly)
    await pipeline.work()
    pipeline.temporal.fail("DescribeSchedule", status=grpc.StatusCode.PERMISSION_DENIED)
    assert problem(await client.get(f"/schedules/{pipeline.agent}/{NIGHTLY}"))["status"] == 503


async def test_what_fails_is_a_problem(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    del nightly["interval_seconds"]
    async with pipeline.working():
        bad = nightly | {"cron_expression": "no cron"}
        refused = await client.post("/schedules", json=bad, params=WAIT)
        found = problem(refused)
        assert (found["status"], found["type"]) == (422, "tag:example.com,2026:refused")
        assert "no cron" not in found["detail"]
        told = (await client.get(f"/intents/{found['intent_id']}")).json()
        assert (told["status"], told["problem"]) == ("failed", found)

        daily = nightly | {"cron_expression": "@daily"}
        assert (await client.post("/schedules", json=daily, params=WAIT)).status_code == 201
        taken = await client.post("/schedules", json=daily, params=WAIT)
        assert (taken.status_code, problem(taken)["type"]) == (409, "tag:example.com,2026:conflict_live")


async def test_the_same_key_asks_once(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "order-17"}
    first, again = [await client.post("/schedules", json=nightly, headers=key) for _ in range(2)]
    assert first.json() == again.json()
    other = await client.post("/schedules", json=nightly | {"name": "other"}, headers=key)
    assert (other.status_code, problem(other)["type"]) == (422, "tag:example.com,2026:used_key")
    # Nobody takes another's keys away.
    await pipeline.may_use_the_agent(outbox.Principal(user_id="bob"))
    bobs = await client.post("/schedules", json=nightly | {"name": "other"}, headers=key | BOB)
    assert bobs.status_code == 202


async def test_what_is_wrong_with_a_body_is_pointed_at(
    client: httpx.AsyncClient, nightly: dict[str, Any]
) -> None:
    bad = nightly | {"start_at": "tomorrow", "workflow_params": {"a/b": ["\0"]}}
    found = problem(await client.post("/schedules", json=bad))
    assert [one["pointer"] for one in found["errors"]] == ["#/workflow_params/a~1b/0", "#/start_at"]
    (parameter,) = problem(await client.get("/schedules/agent/nightly%00"))["errors"]
    assert parameter["parameter"] == "name"
    late = await client.post(
        "/schedules", json=nightly, headers={"Idempotency-Key": "k" * 256}, params={"wait": 1}
    )
    assert [one["pointer"] for one in problem(late)["errors"]] == ["#/idempotency_key"]


async def test_a_reader_sees_its_own_registration(
    client: httpx.AsyncClient, pipeline: Pipeline, nightly: dict[str, Any], logins: Logins
) -> None:
    asked = await client.post("/schedules", json=nightly)
    await pipeline.work()
    result = await outbox.wait(logins.service, asked.json()["intent_id"], timeout=SECONDS)
    await client.get(f"/schedules/{pipeline.agent}/{NIGHTLY}")
    check = CheckPermissionRequest.FromString(pipeline.spicedb.calls("CheckPermission")[-1].request)
    assert check.consistency.at_least_as_fresh.token == result.zed_token


def test_the_logins_may_do_no_more_than_they_need(logins: Logins) -> None:
    denied = psycopg.errors.InsufficientPrivilege
    for url, statement in [
        (logins.service, "SELECT FROM outbox.intents"),
        (logins.service, "DELETE FROM requests"),
        (logins.service, "SELECT outbox.claim('{}', '{}', 1, 1, 1, true)"),
        (logins.worker.get_secret_value(), "SELECT FROM requests"),
        (logins.worker.get_secret_value(), "SELECT outbox.enqueue('{}')"),
    ]:
        with psycopg.connect(url) as connection, pytest.raises(denied):
            connection.execute(statement.encode())


def test_the_services_migrations_are_its_models_and_take_the_outboxs_for_nobodys(logins: Logins) -> None:
    del logins  # there for its effect
    command.check(Config(SERVICE / "alembic.ini"))
