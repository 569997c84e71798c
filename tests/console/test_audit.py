"""What the audit has found, on a page: by kind and schedule by schedule, to choose repairs from."""

from typing import Any

import httpx
import psycopg
import pytest

from outbox.audit.drift import Fix
from outbox.compose.continuous_audit import open_continuous_audit
from outbox.stack import StackInfo
from tests.conftest import lose, settings_for
from tests.console.test_acting import PAGE, ask, state_of

BRAKED = 23
"""More than 20, and all that live."""


@pytest.fixture(scope="module", autouse=True)
async def found(stack: StackInfo, ledger: str, spicedb_schema: None) -> None:
    """A whole round has found that all that live are missing."""
    del spicedb_schema
    lose(ledger, "audited", BRAKED)
    settings = settings_for(stack, ledger, audit_rate_per_second=1_000_000.0)
    async with open_continuous_audit(settings) as audit:
        while not ended(ledger):
            await audit.step()


def ended(ledger: str) -> bool:
    with psycopg.connect(ledger) as owner:
        return owner.execute("SELECT last_ended_at FROM outbox.audit").fetchone() != (None,)


async def get(client: httpx.AsyncClient, **asked: Any) -> Any:
    answer = await client.get("/api/v1/audit", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_found_is_listed_by_kind_with_its_fix_and_by_schedule(
    client: httpx.AsyncClient,
) -> None:
    told = await get(client, kind="missing_schedule", limit=2)
    assert told["rounds"]["last_found"]["missing_schedule"] == BRAKED
    (kind,) = (one for one in told["kinds"] if one["kind"] == "missing_schedule")
    assert (kind["count"], kind["mended_by"], kind["ours"]) == (BRAKED, "repair", True)
    assert kind["fix"].startswith("outbox audit --repair")
    first = [one["schedule_id"] for one in told["drifts"]]
    assert first == ["audited--s1", "audited--s10"]
    more = await get(client, kind="missing_schedule", limit=2, cursor=told["next"])
    assert [one["schedule_id"] for one in more["drifts"]] == ["audited--s11", "audited--s12"]
    both = await get(client, cursor="audited--s:x", limit=2)
    assert [one["kind"] for one in both["drifts"]] == ["missing_schedule", "missing_tuple"]
    assert (await client.get("/api/v1/audit?cursor=x")).status_code == 422
    page = (await client.get("/audit?kind=missing_schedule")).text
    assert page.count('name="of" value="audited--s') == BRAKED
    assert "The last round ended" in page
    assert "outbox audit" in page


async def test_where_the_brake_is_on_no_more_than_a_few_are_repaired_at_once(
    client: httpx.AsyncClient,
) -> None:
    assert "of 23 live schedules are not in Temporal" in (await get(client))["braked"][0]
    assert "The brake is on" in (await client.get("/audit")).text
    chosen = [f"audited--s{n}" for n in range(1, BRAKED + 1)]
    told = await ask(client, "repair", schedules=chosen, dry_run=True)
    assert [one["action"] for one in told].count("repairing") == 20
    (refused, *_) = (one for one in told if one["action"] == "refused")
    assert "outbox audit --repair --yes" in refused["reason"]


async def test_those_chosen_are_repaired_after_a_preview_and_then_said_to_be_under_way(
    client: httpx.AsyncClient, ledger: str
) -> None:
    chosen = {"of": ["audited--s1", "audited--s1", "audited--s2"]}
    preview = (await client.post("/preview/repair", data=chosen, headers=PAGE)).text
    assert ">Repair these 2</button>" in preview
    (told, _) = await ask(client, "repair", schedules=chosen["of"][1:], dry_run=True)
    form = {"of": ["audited--s1"], "seen": [told["seen"]], "reason": "emptied"}
    assert "1 is on the way" in (await client.post("/act/repair", data=form, headers=PAGE)).text
    (one, *_) = (await get(client, kind="missing_schedule", limit=1))["drifts"]
    assert (one["schedule_id"], one["kind_since"], one["status_since"]) == (
        "audited--s1",
        "repair",
        "pending",
    )
    assert state_of(ledger, one["intent_since"]) == "queued"


async def test_what_an_adoption_mends_can_be_chosen_and_what_nobody_may_touch_can_not(
    client: httpx.AsyncClient, ledger: str
) -> None:
    with psycopg.connect(ledger) as owner:
        for name, kind, fix in (
            ("old--one", "legacy", Fix.ADOPT),
            ("strange--one", "foreign", Fix.NONE),
            ("strange--two", "foreign", "what a later version says"),
        ):
            owner.execute("INSERT INTO outbox.drifts VALUES (%s, %s, 'x', %s, now())", (name, kind, fix))
    page = (await client.get("/audit?kind=legacy")).text
    assert 'name="of" value="old--one"' in page
    assert 'formaction="/preview/adopt"' in page
    foreign = (await client.get("/audit?kind=foreign")).text
    assert "strange--two" in foreign
    assert 'name="of"' not in foreign
    assert "formaction" not in foreign
