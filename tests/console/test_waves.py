"""Replays in waves from a page: planned, which is the preview; started, followed wave by wave, aborted."""

import re
from typing import Any

import httpx
import pytest

from outbox.stack import StackInfo
from outbox.store.engine import open_engine
from outbox.store.replays import RunningReplays
from tests.console.conftest import Consoles, enqueue, schedule, work
from tests.console.test_access import TOKEN, TOKENS, VIEWER, bearer
from tests.console.test_acting import PAGE

MANY = 5


@pytest.fixture(scope="module", autouse=True)
async def failed(stack: StackInfo, ledger: str, spicedb_schema: None) -> None:
    """Creates that Temporal refused, and will refuse again."""
    del spicedb_schema
    never: dict[str, Any] = {"interval_seconds": None, "cron_expression": "never"}
    await enqueue(ledger, *(schedule("in-waves", f"bad{n}", **never) for n in range(MANY)))
    await work(stack, ledger)


async def group_of(client: httpx.AsyncClient) -> str:
    (group,) = (await client.get("/api/v1/failures")).json()["groups"]
    return str(group["group_id"])


async def carry_on(ledger: str) -> None:
    async with open_engine(ledger) as engine:
        await RunningReplays(engine).carry_on()


async def told(client: httpx.AsyncClient, replay: str) -> Any:
    answer = await client.get(f"/api/v1{replay}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_whole_group_is_planned_started_and_followed_until_it_stops_by_itself(
    client: httpx.AsyncClient, stack: StackInfo, ledger: str
) -> None:
    group = await group_of(client)
    assert "Plan a replay of all 5 in waves" in (await client.get(f"/failures/{group}")).text
    form = {"tolerate": "50", "reason": "the cron is fixed"}
    planned = await client.post(f"/failures/{group}/plan", data=form, headers=PAGE)
    assert planned.status_code == 303
    replay = planned.headers["location"]
    page = (await client.get(replay)).text
    assert "Start: replay these 5" in page
    assert "more than 50% of a wave" in page
    found = await told(client, replay)
    assert (found["state"], found["planned"], found["why"]) == ("planned", MANY, "the cron is fixed")
    assert [(one["action"], one["count"]) for one in found["answers"]] == [("reenqueued", MANY)]
    items = await told(client, f"{replay}/items?limit=3")
    rest = await told(client, f"{replay}/items?cursor={items['next']}")
    assert [one["number"] for one in items["items"] + rest["items"]] == [1, 2, 3, 4, 5]

    assert (await client.post(f"{replay}/start", data={}, headers=PAGE)).status_code == 303
    await carry_on(ledger)
    page = (await client.get(replay)).text
    assert "It goes on when this page is closed." in page
    assert "Abort: begin no more waves" in page
    await work(stack, ledger)
    await carry_on(ledger)
    found = await told(client, replay)
    assert (found["state"], found["replayed"], found["failed_again"]) == ("stopped", 1, 1)
    assert found["by_wave"] == [{"wave": 1, "replayed": 1, "skipped": 0, "succeeded": 0, "failed_again": 1}]
    page = (await client.get(replay)).text
    assert "1 of 1 in wave 1 failed again" in page
    assert '<form class="confirm"' not in page
    assert re.search(r'href="/replays/\d+">Replay', (await client.get("/replays")).text)
    again = await client.post(f"/api/v1{replay}/abort", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert (await client.post(f"{replay}/start", data={}, headers=PAGE)).status_code == 409


async def test_the_api_plans_some_and_drops_the_plan(client: httpx.AsyncClient) -> None:
    listed = await told(client, f"/failures/{await group_of(client)}?limit=2")
    chosen = [one["intent_id"] for one in listed["intents"]]
    body = {"intents": chosen, "waves": [1], "tolerate": 0.0, "reason": "x"}
    planned = (await client.post("/api/v1/replays", json=body)).json()
    assert (planned["state"], planned["planned"], planned["waves"]) == ("planned", 2, [1])
    listed = (await client.get("/api/v1/replays", params={"limit": 1})).json()
    assert [one["id"] for one in listed["replays"]] == [planned["id"]]
    assert listed["next"] == planned["id"]
    dropped = await client.post(f"/api/v1/replays/{planned['id']}/abort", json={"reason": "no"})
    assert dropped.json()["state"] == "aborted"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"group": "x", "intents": ["00000000-0000-0000-0000-000000000000"]},
        {"group": "a b"},
        {"group": "x", "waves": []},
        {"group": "x", "waves": [0]},
        {"group": "x", "tolerate": 2},
    ],
)
async def test_a_bad_plan_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await client.post("/api/v1/replays", json=body)).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/replays/99999"),
        ("GET", "/api/v1/replays/x"),
        ("GET", "/replays/99999"),
        ("POST", "/api/v1/replays/99999/start"),
        ("POST", "/failures/nothing/plan"),
    ],
)
async def test_what_there_is_not_is_not_there(client: httpx.AsyncClient, method: str, path: str) -> None:
    options: dict[str, Any] = {"json": {}} if method == "POST" else {}
    assert (await client.request(method, path, **options)).status_code == 404


async def test_only_operators_plan_start_and_abort(consoles: Consoles, client: httpx.AsyncClient) -> None:
    guarded = await consoles.open(**TOKENS)
    group = await group_of(client)
    for path, body in (("", {"group": group}), ("/99999/start", {}), ("/99999/abort", {})):
        for headers, status in (
            ({}, 401),
            (bearer(VIEWER), 403),
            (bearer(TOKEN), 404 if path else 200),
        ):
            answer = await guarded.post(f"/api/v1/replays{path}", json=body, headers=headers)
            assert answer.status_code == status
    page = (await guarded.get(f"/failures/{group}", headers=bearer(VIEWER))).text
    assert "/plan" not in page
