"""The API's own document says what the API takes, and answers."""

from typing import Any

import httpx
import jsonschema

from outbox.console.api import OPERATIONS


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
