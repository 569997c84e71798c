"""What operators do: nothing without a preview, and nothing but what it showed."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from outbox.stack import StackInfo
from tests.conftest import lose
from tests.console.conftest import Consoles, enqueue, schedule, work
from tests.console.test_access import TOKEN, TOKENS, VIEWER, bearer

PAGE = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
async def failed(stack: StackInfo, ledger: str, spicedb_schema: None) -> list[UUID]:
    """Three creates that Temporal refused."""
    del spicedb_schema
    never: dict[str, Any] = {"interval_seconds": None, "cron_expression": "never"}
    made = await enqueue(ledger, *(schedule("acted-on", f"bad{n}", **never) for n in range(3)))
    await work(stack, ledger)
    return [one.id for one in made]


async def ask(client: httpx.AsyncClient, action: str, **change: Any) -> list[Any]:
    body = {"dry_run": False, **change}
    answer = await client.post(f"/api/v1/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return [*answer.json()["answers"]]


def park(ledger: str, *names: str) -> list[UUID]:
    """Have schedules parked at their registration."""
    with psycopg.connect(ledger) as owner:
        found = owner.execute(
            """UPDATE outbox.queue SET place = 'head', state = 'parked', due_at = 'infinity', attempts = 5,
                                       error_code = 'unexpected', error_message = 'x', failing_since = now()
                WHERE schedule_id = ANY (%s) RETURNING intent_id""",
            (list(names),),
        ).fetchall()
    return [intent for (intent,) in found]


def state_of(ledger: str, intent: UUID) -> str:
    with psycopg.connect(ledger) as owner:
        row = owner.execute("SELECT state FROM outbox.queue WHERE intent_id = %s", (intent,)).fetchone()
    return row[0] if row else "ended"


async def test_a_dry_run_tells_of_each_and_changes_nothing(
    client: httpx.AsyncClient, failed: list[UUID]
) -> None:
    unknown = uuid4()
    for _ in range(2):
        told = await ask(client, "replay", intents=[str(failed[0]), str(unknown)], dry_run=True)
        assert [(one["intent_id"], one["action"]) for one in told] == [
            (str(failed[0]), "reenqueued"),
            (str(unknown), "refused"),
        ]


async def test_failures_are_listed_in_groups_to_choose_from(
    client: httpx.AsyncClient, failed: list[UUID]
) -> None:
    del failed
    groups = (await client.get("/api/v1/failures")).json()["groups"]
    assert {one["error_code"] for one in groups} >= {"refused"}
    page = (await client.get("/failures")).text
    for group in groups:
        path = f"/failures/{group['group_id']}"
        assert f'href="{path}"' in page
        first = (await client.get(f"/api/v1{path}", params={"limit": 1})).json()
        assert len(first["intents"]) == 1
        of_group = (await client.get(path)).text
        assert f'value="{first["intents"][0]["intent_id"]}"' in of_group
    assert (await client.get("/failures/nothing")).status_code == 404


async def test_two_operators_act_on_one_group_and_each_intent_is_replayed_once(
    client: httpx.AsyncClient, failed: list[UUID]
) -> None:
    chosen = [str(one) for one in failed]
    previews = [await ask(client, "replay", intents=chosen, dry_run=True) for _ in range(2)]
    seen = [{one["intent_id"]: one["seen"] for one in told} for told in previews]
    first = await ask(client, "replay", intents=chosen[:2], seen=seen[0])
    second = await ask(client, "replay", intents=chosen, seen=seen[1])
    assert [one["action"] for one in first] == ["reenqueued"] * 2
    assert [one["action"] for one in second] == ["refused", "refused", "reenqueued"]
    assert "replayed already" in second[0]["reason"]
    assert {one["new_intent_id"] is None for one in second[:2]} == {True}


async def test_what_has_changed_since_the_preview_is_left_alone(
    client: httpx.AsyncClient, ledger: str
) -> None:
    await enqueue(ledger, schedule("acted-on", "parked"))
    (intent,) = park(ledger, "acted-on--parked")
    (told,) = await ask(client, "replay", intents=[str(intent)], dry_run=True)
    seen = {str(intent): told["seen"]}
    with psycopg.connect(ledger) as owner:
        # It was replayed by somebody else, and has parked again.
        owner.execute(
            "UPDATE outbox.queue SET lease_number = lease_number + 1 WHERE intent_id = %s", (intent,)
        )
    (answer,) = await ask(client, "replay", intents=[str(intent)], seen=seen)
    assert answer["action"] == "refused"
    assert "changed since the preview" in answer["reason"]
    assert state_of(ledger, intent) == "parked"
    # One that the preview did not show is left alone, too.
    (answer,) = await ask(client, "replay", intents=[str(intent)], seen={str(uuid4()): told["seen"]})
    assert answer["action"] == "refused"
    (told,) = await ask(client, "replay", intents=[str(intent)], dry_run=True)
    (answer,) = await ask(client, "replay", intents=[str(intent)], seen={str(intent): told["seen"]})
    assert answer["action"] == "rearmed"
    assert state_of(ledger, intent) == "ready"


async def test_a_discard_is_rehearsed_by_the_very_function_that_does_it(
    client: httpx.AsyncClient, ledger: str
) -> None:
    await enqueue(ledger, schedule("acted-on", "discarded"))
    (intent,) = park(ledger, "acted-on--discarded")
    (told,) = await ask(client, "discard", intents=[str(intent)], reason="why not", dry_run=True)
    assert (told["action"], state_of(ledger, intent)) == ("discarding", "parked")
    (answer,) = await ask(client, "discard", intents=[str(intent)], reason="why not", seen={})
    assert (answer["action"], state_of(ledger, intent)) == ("discarding", "ready")


async def test_what_is_done_is_written_down_with_who_and_why(
    consoles: Consoles, ledger: str, failed: list[UUID]
) -> None:
    client = await consoles.open(console_identity_header="X-User", console_operators="ada")
    client.headers["x-user"] = "ada"
    del failed
    await enqueue(ledger, schedule("acted-on", "logged"))
    (intent,) = park(ledger, "acted-on--logged")
    await ask(client, "replay", intents=[str(intent)], reason="the store is back", dry_run=True)
    await ask(client, "replay", intents=[str(intent)], reason="the store is back")
    with psycopg.connect(ledger) as owner:
        found = owner.execute(
            "SELECT who, why, action FROM outbox.operations WHERE intent_id = %s", (intent,)
        ).fetchall()
    assert found == [("ada", "the store is back", "replay")]
    listed = (await client.get("/api/v1/operations", params={"target": "acted-on--logged"})).json()
    assert [one["who"] for one in listed["operations"]] == ["ada"]
    for path in ("/operations?since=1h", "/schedules/acted-on--logged"):
        assert "the store is back" in (await client.get(path)).text


async def test_a_repair_is_asked_for_where_one_mends(client: httpx.AsyncClient, ledger: str) -> None:
    lose(ledger, "acted-on-lost", 1)
    names = ["acted-on-lost--s1", "nobody--knows"]
    told = await ask(client, "repair", schedules=names, dry_run=True)
    assert [one["action"] for one in told] == ["repairing", "refused"]
    assert "missing_schedule" in told[0]["reason"]
    (answer, _) = await ask(
        client, "repair", schedules=names, seen={one["schedule_id"]: one["seen"] for one in told}
    )
    assert state_of(ledger, UUID(answer["new_intent_id"])) == "queued"
    (refused,) = await ask(client, "adopt", schedules=names[:1], dry_run=True)
    assert refused["action"] == "refused"


@pytest.mark.parametrize("action", ["replay", "discard", "repair", "adopt"])
async def test_only_operators_act(consoles: Consoles, ledger: str, action: str) -> None:
    client = await consoles.open(**TOKENS)
    (intent,) = await enqueue(ledger, schedule("acted-on", f"guarded-{action}"))
    body = {"dry_run": False, "reason": "x"}
    body |= {"intents": [str(intent.id)]} if action in {"replay", "discard"} else {"schedules": ["a--b"]}
    for headers, status in (({}, 401), (bearer(VIEWER), 403), (bearer(TOKEN), 200)):
        assert (await client.post(f"/api/v1/{action}", json=body, headers=headers)).status_code == status
    form = {"of": str(intent.id), "reason": "x"}
    for place in ("preview", "act"):
        answer = await client.post(f"/{place}/{action}", data=form, headers=PAGE | bearer(VIEWER))
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"intents": [], "dry_run": true}',
        '{"intents": ["x"], "dry_run": true}',
        '{"intents": ["00000000-0000-0000-0000-000000000000"]}',
    ],
)
async def test_a_bad_request_is_refused_and_acts_on_nothing(client: httpx.AsyncClient, body: str) -> None:
    headers = {"content-type": "application/json"}
    assert (await client.post("/api/v1/replay", content=body, headers=headers)).status_code == 422


async def test_too_much_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    assert (await client.post("/api/v1/replay", content=b" " * 2_000_000, headers=headers)).status_code == 413


async def test_the_pages_button_says_how_many_it_acts_on_and_acts_on_these(
    client: httpx.AsyncClient, ledger: str
) -> None:
    await enqueue(ledger, schedule("acted-on", "page1"), schedule("acted-on", "page2"))
    first, second = park(ledger, "acted-on--page1", "acted-on--page2")
    listed = (await client.get("/intents?status=parked")).text
    assert f'value="{first}"' in listed
    chosen = {"of": [str(first), str(second), str(uuid4())]}
    preview = (await client.post("/preview/replay", data=chosen, headers=PAGE)).text
    assert ">Replay these 2</button>" in preview
    assert (state_of(ledger, first), preview.count('name="of"')) == ("parked", 2)
    form = {"of": [str(first)], "seen": ["schedule.create.requested/0"], "reason": "by hand"}
    done = (await client.post("/act/replay", data=form, headers=PAGE)).text
    assert "1 is on the way; 0 were left alone." in done
    assert (state_of(ledger, first), state_of(ledger, second)) == ("ready", "parked")
