"""The API's own document says what the API takes, and answers."""

import re
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outbox.console.api import OPERATIONS

SAMPLES = {
    "string": st.text(max_size=30),
    "integer": st.integers(),
    "boolean": st.booleans(),
    "null": st.just(""),
}
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.uuids().map(str),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["intents", "schedules", "dry_run", "seen", "reason", "force", "more"]), inner
        )
    ),
    max_leaves=12,
)


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


async def test_whatever_is_sent_is_answered_as_the_document_says(client: httpx.AsyncClient) -> None:
    paths = (await document(client))["paths"]
    codes = {int(code) for code in paths["/api/v1/replay"]["post"]["responses"]}
    tried: list[tuple[str, dict[str, str]]] = []
    sent: list[tuple[str, Any]] = []

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([one for one, found in paths.items() if "get" in found]))
        asked = {
            one["name"]: str(data.draw(st.one_of(*SAMPLES.values())))
            for one in paths[path]["get"]["parameters"]
            if one["in"] == "query" and data.draw(st.booleans())
        }
        place = data.draw(st.text(min_size=1, max_size=20))
        tried.append((re.sub(r"{\w+}", quote(place, safe=""), path), asked))
        actions = [one for one, found in paths.items() if "post" in found]
        sent.append((data.draw(st.sampled_from(actions)), data.draw(BODIES)))

    draw()
    for path, asked in tried:
        answer = await client.get(path, params=asked)
        assert answer.status_code in codes, (path, asked, answer.text)
        assert isinstance(answer.json(), dict)
    for path, body in sent:
        answer = await client.post(path, json=body)
        assert answer.status_code in codes, (path, body, answer.text)
