"""The API's own document says what the API takes, and answers."""

from typing import Any

import httpx
import jsonschema
import pytest

from outbox.console.api import OPERATIONS
from outbox.stack import StackInfo
from tests.console.story import Words, tell

LANE = "support-1--escalations"


@pytest.fixture(scope="module")
async def words(stack: StackInfo, ledger: str, spicedb_schema: None) -> Words:
    del spicedb_schema
    return await tell(stack, ledger)


async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_every_call_is_in_the_document_with_what_it_takes(client: httpx.AsyncClient) -> None:
    paths = (await document(client))["paths"]
    assert sum(map(len, paths.values())) == len(OPERATIONS)
    names = [one["name"] for one in paths["/api/v1/intents"]["get"]["parameters"]]
    assert names == ["status", "kind", "agent", "schedule", "code", "since", "until", "cursor", "limit"]
    (in_path, limit) = paths["/api/v1/schedules/{schedule_id}"]["get"]["parameters"]
    assert (in_path["in"], limit["name"]) == ("path", "limit")
    assert all(one["summary"] for found in paths.values() for one in found.values())
    assert "$ref" not in str(paths["/api/v1/intents"]["get"]["parameters"])


async def test_what_the_document_takes_is_what_the_api_takes(client: httpx.AsyncClient) -> None:
    schema = (await document(client))["paths"]["/api/v1/replay"]["post"]["requestBody"]["content"]
    check = jsonschema.Draft202012Validator(schema["application/json"]["schema"])
    good = {"intents": ["00000000-0000-0000-0000-000000000000"], "dry_run": True}
    for body, status in ((good, 200), ({**good, "intents": []}, 422), ({**good, "unheard": 1}, 422)):
        assert check.is_valid(body) is (status == 200)
        assert (await client.post("/api/v1/replay", json=body)).status_code == status


def closed(schema: Any) -> Any:
    """A schema that takes no field which it doesn't name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {name: closed(one) for name, one in schema.items()}
    return inner | {"additionalProperties": False} if "properties" in schema else inner


async def test_answers_have_what_the_document_says_and_nothing_else(
    client: httpx.AsyncClient, words: Words
) -> None:
    told = await document(client)
    paths = {
        "/overview": "/overview",
        "/intents": "/intents?limit=20",
        "/intents/{intent_id}": "/intents/{failed}",
        "/schedules/{schedule_id}": f"/schedules/{LANE}",
        "/failures": "/failures",
        "/failures/{group}": "/failures/{group}",
        "/audit": "/audit",
        "/operations": "/operations",
        "/replays": "/replays",
        "/replays/{replay}": "/replays/{replay}",
        "/replays/{replay}/items": "/replays/{replay}/items",
        "/doctor": "/doctor",
        "/settings": "/settings",
        "/openapi.json": "/openapi.json",
    }
    assert {one.path.replace(":path", "") for one in OPERATIONS if one.method == "GET"} == paths.keys()
    for path, filled in paths.items():
        answer = await client.get("/api/v1" + filled.format(**words))
        check(told, "get", path, answer)
    # A schedule that is live in all three stores, and one that differs.
    for lane in ("billing-7--nightly-close", "billing-9--s1"):
        check(told, "get", "/schedules/{schedule_id}", await client.get(f"/api/v1/schedules/{lane}"))
    rehearsed: dict[str, Any] = {"dry_run": True, "reason": "to see what comes of it"}
    actions: dict[str, dict[str, Any]] = {
        "/replay": {"intents": [words["failed"]]},
        "/discard": {"intents": [words["failed"]]},
        "/repair": {"schedules": ["billing-9--s1"]},
        "/adopt": {"schedules": ["billing-9--s1"]},
        "/hold": {"what": "temporal"},
        "/release": {"what": "support-1--weekly-report"},
    }
    for path, body in actions.items():
        check(told, "post", path, await client.post("/api/v1" + path, json=rehearsed | body))
    planned = await client.post("/api/v1/replays", json={"group": words["group"], "reason": "again"})
    check(told, "post", "/replays", planned)
    for step in ("start", "abort"):
        moved = await client.post(f"/api/v1/replays/{planned.json()['id']}/{step}", json={"reason": "again"})
        check(told, "post", "/replays/{replay}/" + step, moved)
    check(told, "get", "/intents", await client.get("/api/v1/intents?limit=none"), status=422)


def check(told: dict[str, Any], method: str, path: str, answer: httpx.Response, *, status: int = 200) -> None:
    assert answer.status_code == status, (path, answer.text)
    found = told["paths"]["/api/v1" + path][method]["responses"][str(status)]["content"]["application/json"]
    schema = closed(found["schema"] | {"components": told["components"]})
    jsonschema.Draft202012Validator(schema).validate(answer.json())
