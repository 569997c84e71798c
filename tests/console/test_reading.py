"""What the pages and the API show: the ledger, and the three stores as they are."""

import html
import re
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from outbox.console.words import visible
from outbox.stack import StackInfo
from tests.conftest import lose
from tests.console.conftest import EVIL, LONG, enqueue, schedule, work

OWNER = "owner@user:u1"


@pytest.fixture(scope="module")
async def told(stack: StackInfo, ledger: str, spicedb_schema: None) -> str:
    """An agent with a schedule that lives, one that failed, and one that was lost by both stores."""
    del spicedb_schema
    agent = "agent-of-pages"
    await enqueue(
        ledger,
        schedule(agent, "good", workflow_params={"a": EVIL, "much": LONG}),
        schedule(agent, "bad", interval_seconds=None, cron_expression="never"),
    )
    await work(stack, ledger)
    lose(ledger, f"{agent}-lost", 1)
    return agent


pytestmark = pytest.mark.usefixtures("told")


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(f"/api/v1{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def shown(client: httpx.AsyncClient, path: str) -> str:
    """A page's text as a reader has it."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


async def test_the_overview_counts_what_there_is(client: httpx.AsyncClient) -> None:
    found = await get(client, "/overview")
    assert (found["pending"], found["parked"], found["breakers"]) == (0, 0, [])
    assert len(found["last_hour"]) == 60
    page = await shown(client, "/")
    assert "Where intents are" in page
    assert "No round has ended yet." in page


async def test_intents_are_filtered_by_all_that_the_form_has(client: httpx.AsyncClient, told: str) -> None:
    async def names(**asked: Any) -> list[str]:
        return [
            one["schedule_id"].rpartition("--")[2]
            for one in (await get(client, "/intents", **asked))["intents"]
        ]

    assert await names() == ["s1", "bad", "good"]
    assert await names(status="failed") == ["bad"]
    assert await names(code="refused") == ["bad"]
    assert await names(agent=told) == ["bad", "good"]
    assert await names(schedule="oo") == ["good"]
    assert await names(kind="delete") == []
    assert await names(since="1h", status="succeeded") == ["s1", "good"]
    assert await names(until="1h") == []
    assert "create_failed" in await shown(client, "/intents?status=failed&code=")


@pytest.mark.parametrize(
    "asked",
    ["status=nonsense", "since=yesterday", "since=999999d", "limit=0", "cursor=x", "unheard=of", "agent=%00"],
)
async def test_a_bad_filter_is_refused_by_name(client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(f"/api/v1/intents?{asked}")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(asked.partition("=")[0])
    assert (await client.get(f"/intents?{asked}")).status_code == 422


async def test_pages_follow_each_other_and_end(client: httpx.AsyncClient, told: str) -> None:
    first = await get(client, "/intents", limit=2)
    rest = await get(client, "/intents", limit=2, cursor=first["next"])
    assert [one["schedule_id"] for one in first["intents"] + rest["intents"]] == [
        f"{told}-lost--s1",
        f"{told}--bad",
        f"{told}--good",
    ]
    assert rest["next"] is None
    page = await client.get("/intents?limit=2&status=")
    assert f"limit=2&amp;cursor={first['next']}" in page.text


async def test_a_live_schedule_is_shown_in_all_three_stores(client: httpx.AsyncClient, told: str) -> None:
    found = await get(client, f"/schedules/{told}--good")
    (intent,) = found["intents"]
    assert found["ledger"]["live_intent"] == found["temporal"]["stamp"] == intent["intent_id"]
    assert OWNER in found["spicedb"]["relationships"]
    assert found["temporal"]["next_runs"]
    assert (found["agrees"], found["differences"], found["waits_because"]) == (True, [], None)
    page = await shown(client, f"/schedules/{told}--good")
    assert "They agree." in page
    assert OWNER in page


async def test_a_difference_is_marked_with_its_fix(client: httpx.AsyncClient, told: str) -> None:
    found = await get(client, f"/schedules/{told}-lost--s1")
    assert (found["spicedb"], found["temporal"], found["agrees"]) == (None, None, False)
    assert {one["kind"] for one in found["differences"]} == {"missing_schedule", "missing_tuple"}
    assert "outbox audit --repair" in await shown(client, f"/schedules/{told}-lost--s1")


async def test_a_store_that_is_away_hides_nothing_of_the_others(consoles: Any, told: str) -> None:
    client = await consoles.open(temporal_address="127.0.0.1:1", spicedb_endpoint="127.0.0.1:1")
    found = await get(client, f"/schedules/{told}--good")
    assert found["temporal"]["error"]["code"] == found["spicedb"]["error"]["code"] == "unreachable"
    assert found["agrees"] is None
    assert len(found["intents"]) == 1
    assert "Can't be read: unreachable" in await shown(client, f"/schedules/{told}--good")


async def test_a_story_is_drawn_with_what_each_step_took(client: httpx.AsyncClient) -> None:
    (failed,) = (await get(client, "/intents", status="failed"))["intents"]
    found = await get(client, f"/intents/{failed['intent_id']}")
    assert [one["type"] for one in found["events"]] == [
        "schedule.create.requested",
        "schedule.registered",
        "schedule.compensation_requested",
        "schedule.create_failed",
    ]
    page = (await client.get(f"/intents/{failed['intent_id']}")).text
    assert page.count('<rect class="stretch step"') == 3
    assert "schedule.registered: 0." in page


async def test_what_a_person_has_halted_is_said_on_the_overview_and_the_schedule(
    client: httpx.AsyncClient, ledger: str, told: str
) -> None:
    name = f"{told}--good"
    with psycopg.connect(ledger, autocommit=True) as owner:
        owner.execute("SELECT outbox.hold(%s, NULL, 'ada', %s)", (name, EVIL))
        for path in ("/", f"/schedules/{name}"):
            page = await shown(client, path)
            assert f"{name} is halted by ada since" in page
            assert f"outbox release --schedule {name}" in page
        owner.execute("SELECT outbox.release_by('ada', NULL, %s)", (name,))
    assert "is halted" not in await shown(client, "/")


async def test_what_waits_says_why(client: httpx.AsyncClient, ledger: str, told: str) -> None:
    (intent,) = await enqueue(ledger, schedule(told, "waits"))
    found = await get(client, f"/schedules/{told}--waits")
    assert "is a worker running?" in found["waits_because"]
    assert found["head"] == str(intent.id)
    assert "It waits: ready for the registration" in await shown(client, f"/schedules/{told}--waits")
    with psycopg.connect(ledger) as owner:
        owner.execute("DELETE FROM outbox.queue WHERE intent_id = %s", (intent.id,))
        owner.execute("DELETE FROM outbox.intents WHERE id = %s", (intent.id,))


@pytest.mark.parametrize(
    "path", ["/intents/x", f"/intents/{UUID(int=0)}", "/schedules/nobody--knows", "/schedules/ý", "/nowhere"]
)
async def test_what_there_is_not_is_said_to_be_not_there(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
    answer = await client.get(f"/api/v1{path}")
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


async def test_finding_leads_to_an_intent_or_filters_schedules(client: httpx.AsyncClient) -> None:
    (intent,) = (await get(client, "/intents", schedule="good"))["intents"]
    by_id = await client.get("/find", params={"text": f" {intent['intent_id']} "})
    assert by_id.headers["location"] == f"/intents/{intent['intent_id']}"
    by_part = await client.get("/find", params={"text": "go&od"})
    assert by_part.headers["location"] == "/intents?schedule=go%26od"


async def test_nothing_of_what_somebody_wrote_is_executed_or_hidden(
    client: httpx.AsyncClient, ledger: str, told: str
) -> None:
    with psycopg.connect(ledger) as owner:
        owner.execute(
            "UPDATE outbox.events SET error_message = %s WHERE error_code = 'refused'", (EVIL + LONG,)
        )
    (good,) = (await get(client, "/intents", schedule="good"))["intents"]
    for path in ("/intents", f"/schedules/{told}--bad", f"/intents/{good['intent_id']}"):
        page = await client.get(path)
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert not set("\x1b\u202e\u200b") & set(page.text)
        assert len(page.text) < 100_000
    assert (await get(client, f"/intents/{good['intent_id']}"))["request"]["workflow_params"]["much"] == LONG


def test_what_can_not_be_seen_is_named() -> None:
    assert visible("a\u202eb\x1b[0m") == "a⟨U+202E⟩b⟨U+001B⟩[0m"
    assert visible("two\nlines\tand é 漢 🙂") == "two\nlines\tand é 漢 🙂"
    assert visible("abc", most=2) == "ab… (3 characters)"


async def test_a_database_that_is_gone_is_said_to_be_gone(consoles: Any, ledger: str) -> None:
    client = await consoles.open()
    with psycopg.connect(ledger, autocommit=True) as owner:
        owner.execute("REVOKE SELECT ON outbox.intents FROM outbox_operator")
        answer = await client.get("/api/v1/intents")
        owner.execute("GRANT SELECT ON outbox.intents TO outbox_operator")
    assert answer.status_code == 503
    assert "Postgres: permission denied" in answer.json()["error"]["message"]
