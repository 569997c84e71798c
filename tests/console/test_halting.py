"""Halts from a page: what they keep back is told first; a release lets go what it showed."""

import re
from typing import Any

import httpx
import psycopg
import pytest

from tests.console.conftest import Consoles, enqueue, schedule
from tests.console.test_access import TOKEN, TOKENS, VIEWER, bearer
from tests.console.test_acting import PAGE, ask


@pytest.fixture
async def waiting(ledger: str) -> str:
    """A schedule with a head and another intent behind it."""
    name = "halted--waiting"
    with psycopg.connect(ledger, autocommit=True) as owner:
        owner.execute("TRUNCATE outbox.intents, outbox.events, outbox.queue, outbox.halts, outbox.operations")
    await enqueue(ledger, schedule("halted", "waiting"), schedule("halted", "waiting"))
    with psycopg.connect(ledger, autocommit=True) as owner:
        # Placed, and not leased: there is no room for SpiceDB's steps.
        owner.execute("""SELECT * FROM outbox.claim('{"temporal": 1}', '{}', 30, 10, 5)""")
    return name


def halts(ledger: str) -> list[Any]:
    with psycopg.connect(ledger) as owner:
        return owner.execute("SELECT what, who, why FROM outbox.halts").fetchall()


async def test_a_hold_is_previewed_done_and_seen_and_its_release_too(
    consoles: Consoles, ledger: str, waiting: str
) -> None:
    client = await consoles.open(console_identity_header="X-User", console_operators="ada")
    client.headers["x-user"] = "ada"
    form = {"of": waiting, "reason": "looked at", "until": "2h"}
    preview = (await client.post("/preview/hold", data=form, headers=PAGE)).text
    assert "keep back 1 that is to be applied next, with 1 behind" in " ".join(preview.split())
    assert halts(ledger) == []
    # What was previewed is a moment, and not two hours from whenever it is done.
    (until,) = re.findall(r'name="until" value="([^"]+)"', preview)
    done = await client.post("/act/hold", data=form | {"until": until, "seen": ""}, headers=PAGE)
    assert "no step of halted--waiting is begun" in done.text
    assert halts(ledger) == [(waiting, "ada", "looked at")]
    for path in ("/", f"/schedules/{waiting}"):
        page = (await client.get(path)).text
        assert "is halted by ada since" in page
        assert 'action="/preview/release"' in page
    preview = (await client.post("/preview/release", data={"of": waiting}, headers=PAGE)).text
    (seen,) = re.findall(r'name="seen" value="([^"]+)"', preview)
    assert halts(ledger)
    done = await client.post("/act/release", data={"of": waiting, "seen": seen}, headers=PAGE)
    assert "halted--waiting goes on" in done.text
    assert halts(ledger) == []
    operations = (await client.get("/api/v1/operations", params={"target": waiting})).json()["operations"]
    assert [(one["who"], one["action"]) for one in operations] == [("ada", "release"), ("ada", "hold")]


async def test_a_store_is_held_with_what_waits_for_it(
    client: httpx.AsyncClient, ledger: str, waiting: str
) -> None:
    del waiting
    (told,) = await ask(client, "hold", what="authz", reason="upgrade", dry_run=True)
    assert (told["action"], told["heads"], told["under_way"], told["until"]) == ("held", 1, 0, None)
    (other,) = await ask(client, "hold", what="temporal", reason="upgrade", dry_run=True)
    assert other["heads"] == 0
    assert halts(ledger) == []
    (held,) = await ask(client, "hold", what="authz", reason="upgrade", seen=told["seen"])
    assert held["action"] == "held"
    (again,) = await ask(client, "hold", what="authz", reason="mine", dry_run=True)
    assert "release it first" in again["reason"]
    (late,) = await ask(client, "hold", what="authz", reason="mine", seen=told["seen"])
    assert "since the preview" in late["reason"]


async def test_a_halt_that_was_not_previewed_is_not_released(
    client: httpx.AsyncClient, ledger: str, waiting: str
) -> None:
    await ask(client, "hold", what=waiting, reason="mine")
    (told,) = await ask(client, "release", what=waiting, dry_run=True)
    with psycopg.connect(ledger) as owner:
        owner.execute("SELECT outbox.release_by('bob', NULL, %s)", (waiting,))
        owner.execute("SELECT outbox.hold_by('bob', 'his', %s, NULL)", (waiting,))
    (answer,) = await ask(client, "release", what=waiting, seen=told["seen"])
    assert answer["action"] == "refused"
    assert halts(ledger) == [(waiting, "bob", "his")]
    (unknown,) = await ask(client, "hold", what="nobody--knows", reason="x")
    assert (unknown["action"], unknown["reason"]) == ("refused", "there is no intent of such a schedule")


@pytest.mark.parametrize(
    ("action", "change", "names"),
    [
        ("hold", {"what": "authz"}, "reason"),
        ("hold", {"what": "authz", "reason": " "}, "reason"),
        ("hold", {"what": "authz", "reason": "x", "until": "soon"}, "until"),
        ("hold", {"what": "authz", "reason": "x", "until": "2020-01-01"}, "until"),
        ("hold", {"what": "a store", "reason": "x"}, "what"),
        ("release", {}, "what"),
    ],
)
async def test_a_bad_request_is_refused_by_name(
    client: httpx.AsyncClient, action: str, change: dict[str, str], names: str
) -> None:
    answer = await client.post(f"/api/v1/{action}", json={"dry_run": True} | change)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(names)


async def test_only_operators_hold_and_release(consoles: Consoles, waiting: str) -> None:
    client = await consoles.open(**TOKENS)
    for action in ("hold", "release"):
        body = {"dry_run": True, "what": waiting, "reason": "x"}
        for headers, status in (({}, 401), (bearer(VIEWER), 403), (bearer(TOKEN), 200)):
            answer = await client.post(f"/api/v1/{action}", json=body, headers=headers)
            assert answer.status_code == status
    page = (await client.get(f"/schedules/{waiting}", headers=bearer(VIEWER))).text
    assert "/preview/hold" not in page
