"""The models as the body of a route: what FastAPI takes, where it locates errors, what it documents."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

import outbox

MINIMAL: dict[str, Any] = {
    "agent_id": "a",
    "name": "n",
    "workflow_name": "w",
    "task_queue": "q",
    "interval_seconds": 60,
}
app = FastAPI()


@app.post("/create")
async def create(request: outbox.CreateSchedule) -> dict[str, Any]:
    return request.to_json()


@app.post("/update")
async def update(request: outbox.UpdateSchedule) -> dict[str, Any]:
    return request.to_json()


@app.post("/delete")
async def delete(request: outbox.DeleteSchedule, principal: outbox.Principal) -> dict[str, Any]:
    return request.to_json() | principal.to_json()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as one:
        yield one


async def test_a_body_may_have_times(client: httpx.AsyncClient) -> None:
    body = MINIMAL | {"start_at": "2026-12-01T00:00:00+01:00", "workflow_params": {"x": [1, None]}}
    answer = await client.post("/create", json=body)
    assert answer.json() == body | {"start_at": "2026-11-30T23:00:00+00:00"}


async def test_an_update_knows_null_from_absent(client: httpx.AsyncClient) -> None:
    body = {"agent_id": "a", "name": "n", "end_at": None, "start_at": "2026-12-01T00:00:00Z"}
    answer = await client.post("/update", json=body)
    assert answer.json() == body | {"start_at": "2026-12-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("route", "body", "place"),
    [
        ("create", MINIMAL | {"start_at": "2026-12-01T00:00:00"}, ["start_at"]),
        ("create", MINIMAL | {"name": "A"}, ["name"]),
        ("create", MINIMAL | {"bogus": 1}, ["bogus"]),
        ("create", MINIMAL | {"self": 1}, ["self"]),
        ("create", MINIMAL | {"cron_expression": "@daily"}, ["cron_expression"]),
        ("create", MINIMAL | {"workflow_params": {"a": [1, {"b": "\0"}]}}, ["workflow_params", "a", 1, "b"]),
        ("create", MINIMAL | {"workflow_args": [1, "\0"]}, ["workflow_args", 1]),
        (
            "create",
            MINIMAL | {"start_at": "2026-12-01T00:00:00Z", "end_at": "2026-12-01T00:00:00Z"},
            ["end_at"],
        ),
        ("update", {"agent_id": "a", "name": "n", "end_at": "tomorrow"}, ["end_at"]),
        ("update", {"agent_id": "a", "name": "n", "note": "unset", "paused": "unset"}, ["paused"]),
        ("update", {"agent_id": "a", "name": "n"}, []),
        ("delete", {"request": {"agent_id": "a"}, "principal": {}}, ["request", "name"]),
        (
            "delete",
            {"request": {"agent_id": "a", "name": "n"}, "principal": {"user_id": "a@example.com"}},
            ["principal", "user_id"],
        ),
    ],
)
async def test_what_is_refused_is_located(
    client: httpx.AsyncClient, route: str, body: dict[str, Any], place: list[str | int]
) -> None:
    answer = await client.post(f"/{route}", json=body)
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["body", *place]]


async def test_a_bad_time_is_told_in_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/create", json=MINIMAL | {"start_at": "2026-12-01"})
    (error,) = answer.json()["detail"]
    assert error["msg"] == (
        "must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", "a--b"),
        ("agent_id", "a" * 129),
        ("name", ""),
        ("name", "a" * 65),
        ("workflow_name", "\x1f"),
        ("cron_expression", "c" * 1001),
        ("interval_seconds", 0),
        ("interval_seconds", 315_360_001),
        ("catchup_window_seconds", 9),
        ("overlap_policy", "sometimes"),
        ("start_at", 5),
        ("workflow_args", []),
        ("retry_policy", {"maximum_attempts": 0}),
        ("retry_policy", {"bogus": 1}),
        ("memo", {"outbox_x": 1}),
        ("search_attributes", {"x": None}),
        ("bogus", 1),
    ],
)
@pytest.mark.parametrize("model", ["CreateSchedule", "UpdateSchedule"])
def test_the_document_says_the_limits(model: str, field: str, value: object) -> None:
    document = app.openapi()["components"]["schemas"][model]
    takes = Draft202012Validator(document).is_valid
    assert takes(MINIMAL)
    assert not takes(MINIMAL | {field: value})


def test_the_document_says_in_words_what_a_schema_does_not() -> None:
    models = app.openapi()["components"]["schemas"]
    assert "Exactly one of cron_expression and interval_seconds" in models["CreateSchedule"]["description"]
    assert "not both" in models["Principal"]["description"]
    assert "with its offset" in models["UpdateSchedule"]["properties"]["start_at"]["description"]
    assert "default" not in models["UpdateSchedule"]["properties"]["start_at"]
    assert models["CreateSchedule"]["properties"]["start_at"]["anyOf"][0]["format"] == "date-time"
