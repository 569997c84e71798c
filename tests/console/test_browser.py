"""The console in a real browser: what no test without one can see."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from playwright.async_api import Browser, Page, Route, expect
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from outbox import compose
from outbox.audit.drift import Fix
from outbox.stack import Stack, StackInfo
from tests.conftest import lose, settings_for
from tests.console.browsers import opened
from tests.console.conftest import EVIL, enqueue, schedule, served
from tests.console.test_access import TOKENS, VIEWER
from tests.console.test_acting import park, state_of
from tests.stack.containers import ContainerStack

REFUSED = re.compile(r"the server responded with a status of (403|404|503)|net::ERR_CONNECTION_")

FAIL = """
    WITH made AS (
        INSERT INTO outbox.intents (id, schedule_id, kind, request, creator)
        SELECT outbox.uuid7(), %(agent)s || '--s' || n, 'create',
               jsonb_build_object('agent_id', %(agent)s::text, 'name', 's' || n, 'workflow_name', 'W',
                                  'task_queue', 'q', 'interval_seconds', 3600), '{"user_id": "u"}'
          FROM generate_series(1, %(count)s) AS n RETURNING id, schedule_id
    ), logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type, lease_number, error_code, error_message)
        SELECT m.id, m.schedule_id, e.type, 2, e.code, 'no such cron' FROM made m
         CROSS JOIN (VALUES ('schedule.create.requested', NULL), ('schedule.create_failed', 'refused'))
               AS e (type, code)
    )
    INSERT INTO outbox.failures (intent_id, group_id, at, status, consumer, step, error_code, pattern)
    SELECT m.id, left(md5(%(agent)s), 12), clock_timestamp(), 'failed', 'temporal', 'schedule.registered',
           'refused', 'no such cron' FROM made m
"""
STAND_BEHIND = """
    WITH made AS (
        INSERT INTO outbox.intents (id, schedule_id, kind, request, creator)
        SELECT outbox.uuid7(), h.schedule_id, 'create', '{}', '{}'
          FROM outbox.queue h CROSS JOIN generate_series(1, %(count)s) WHERE h.intent_id = %(head)s
        RETURNING id, position, schedule_id
    )
    INSERT INTO outbox.queue (intent_id, position, schedule_id, event_type, consumer, place, state)
    SELECT m.id, m.position, m.schedule_id, 'schedule.create.requested', 'authz', 'behind', 'queued'
      FROM made m
"""


def fail(ledger: str, agent: str, count: int) -> str:
    """Have so many creates of an agent failed alike; returns their group."""
    with psycopg.connect(ledger) as owner:
        owner.execute(FAIL, {"agent": agent, "count": count})
        row = owner.execute("SELECT left(md5(%s), 12)", (agent,)).fetchone()
    assert row
    return str(row[0])


@pytest.fixture(scope="module")
async def url(stack: StackInfo, as_operator: str, ledger: str, spicedb_schema: None) -> AsyncIterator[str]:
    del spicedb_schema
    await enqueue(
        ledger, schedule("browsed", "waits", workflow_params={"a": EVIL}), schedule("browsed", "parked")
    )
    async with served(stack, as_operator) as address:
        yield address


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page on which nothing may be reported: no refused script, no error; but for answers that say no."""
    page = await opened(browser)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    await page.context.close()
    assert [one for one in wrong if not REFUSED.search(one)] == []


async def test_a_page_follows_what_happens_until_it_is_paused(page: Page, url: str, ledger: str) -> None:
    await page.goto(f"{url}/intents")
    await page.locator("#live[aria-pressed=true]").wait_for()
    await enqueue(ledger, schedule("browsed", "new"))
    await page.get_by_role("link", name="browsed--new", exact=True).wait_for()
    await page.locator("#live").click()
    await expect(page.locator("#live")).to_have_text("paused")


async def test_an_intent_is_replayed_from_the_page_after_its_preview(
    page: Page, url: str, ledger: str
) -> None:
    (intent,) = park(ledger, "browsed--parked")
    await page.goto(f"{url}/intents?status=parked")
    await page.get_by_label("Choose browsed--parked").check()
    await page.get_by_role("button", name="Preview replay of those chosen").click()
    assert state_of(ledger, intent) == "parked"
    await page.get_by_label("Why").fill("by hand")
    await page.get_by_role("button", name="Replay this one").click()
    await expect(page.get_by_role("status")).to_contain_text("1 is on the way")
    assert state_of(ledger, intent) == "ready"


async def test_what_the_audit_found_is_chosen_all_at_once_and_repaired(
    page: Page, url: str, ledger: str
) -> None:
    lose(ledger, "browsed-lost", 2)
    with psycopg.connect(ledger) as owner:
        owner.execute(
            """INSERT INTO outbox.drifts SELECT l.schedule_id, 'missing_schedule', 'x', %s, now()
                 FROM outbox.lanes l WHERE l.schedule_id ~ '^browsed-lost'""",
            (Fix.REPAIR,),
        )
    await page.goto(f"{url}/audit")
    await page.get_by_role("button", name="Choose all on this page").click()
    await page.get_by_role("button", name="Preview repair of those chosen").click()
    await page.get_by_role("button", name="Repair these 2").click()
    await expect(page.get_by_role("status")).to_contain_text("2 are on the way")


async def test_a_store_is_held_and_released_from_the_overview(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_text("Hold a store").click()
    await page.get_by_label("Why").fill("upgrade")
    await page.get_by_role("button", name="Preview hold").click()
    await page.get_by_role("button", name="Hold Temporal").click()
    await page.get_by_role("status").wait_for()
    await page.get_by_role("link", name="Overview").click()
    await page.get_by_role("button", name="Preview release").click()
    await page.get_by_role("button", name="Release Temporal").click()
    await expect(page.get_by_role("status")).to_contain_text("temporal goes on")


async def test_keys_find_and_go_through_rows(page: Page, url: str) -> None:
    await page.goto(f"{url}/intents")
    await page.keyboard.press("j")
    await expect(page.locator("tr.current")).to_have_count(1)
    await page.keyboard.press("/")
    await expect(page.locator("#find")).to_be_focused()
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()


async def test_pages_can_be_read_without_javascript(browser: Browser, url: str) -> None:
    page = await opened(browser, java_script_enabled=False)
    await page.goto(f"{url}/schedules/browsed--waits")
    await expect(page.locator("main")).to_contain_text("It waits:")
    await expect(page.locator("button:visible", has_text="copy")).to_have_count(0)
    await page.context.close()


async def test_dark_and_light_are_as_the_system_has_it_until_somebody_chooses(page: Page, url: str) -> None:
    async def ground() -> Any:
        return await page.evaluate("getComputedStyle(document.body).backgroundColor")

    await page.emulate_media(color_scheme="dark")
    await page.goto(url)
    dark = await ground()
    await page.emulate_media(color_scheme="light")
    assert await ground() != dark
    await page.locator("#theme").click()
    assert await ground() == dark


async def test_a_page_follows_while_a_store_is_killed_and_comes_back(
    page: Page, stack: StackInfo, running_stack: Stack | ContainerStack, database: str, spicedb_schema: None
) -> None:
    del spicedb_schema
    settings = settings_for(stack, database)
    async with served(stack, database) as address, compose.worker.open_worker(settings) as worker:
        working = asyncio.create_task(worker.run())
        await page.goto(address)
        notice = page.get_by_text("can't be used since")
        await asyncio.to_thread(running_stack.kill, "temporal")
        try:
            await enqueue(database, schedule("killed", "meanwhile"))
            await expect(notice).to_contain_text("temporal can't be used since")
        finally:
            await asyncio.to_thread(running_stack.start, "temporal")
        await notice.wait_for(state="detached")
        await page.goto(f"{address}/schedules/killed--meanwhile")
        await page.get_by_text("They agree.").wait_for()
        worker.stop()
        await working


async def test_a_page_says_that_the_database_is_gone_and_goes_on_when_it_is_back(
    page: Page, stack: StackInfo, database: str
) -> None:
    name = str(conninfo_to_dict(database)["dbname"])
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    await enqueue(database, schedule("outage", "before"))
    async with served(stack, database) as address:
        await page.goto(f"{address}/intents")
        await page.locator("#live[aria-pressed=true]").wait_for()
        with psycopg.connect(stack.database_url, autocommit=True) as owner:
            owner.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            await expect(page.get_by_role("alert")).to_have_text(re.compile(r"^\s*Postgres: "))
            owner.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
        await page.get_by_role("link", name="outage--before", exact=True).wait_for()


async def test_two_operators_act_on_one_group_at_once_and_each_intent_is_replayed_once(
    browser: Browser, url: str, ledger: str
) -> None:
    group = fail(ledger, "contested", 6)
    pages = [await opened(browser) for _ in range(2)]
    for one in pages:
        await one.goto(f"{url}/failures/{group}")
        await one.locator("#choose-all").click()
        await one.get_by_role("button", name="Preview replay of those chosen").click()
        await one.get_by_role("button", name="Replay these 6").wait_for()
    await asyncio.gather(*(one.get_by_role("button", name="Replay these 6").click() for one in pages))
    told = [await one.get_by_role("status").inner_text() for one in pages]
    counts = [[int(number) for number in re.findall(r"\d+", one)] for one in told]
    assert [sum(pair) for pair in counts] == [6, 6]
    assert sum(acted for acted, _ in counts) == 6
    with psycopg.connect(ledger) as owner:
        row = owner.execute(
            """SELECT count(*), count(DISTINCT i.replays) FROM outbox.intents i
                WHERE i.schedule_id LIKE 'contested--%' AND i.replays IS NOT NULL"""
        ).fetchone()
    assert row == (6, 6)
    for one in pages:
        await one.context.close()


async def test_what_is_chosen_while_a_page_is_read_again_stays_chosen(
    page: Page, url: str, ledger: str
) -> None:
    group = fail(ledger, "chosen", 2)
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        if "x-follows" in route.request.headers:
            asked.set()
            await answered.wait()
        await route.continue_()

    await page.route("**/failures/*", hold)
    await page.goto(f"{url}/failures/{group}")
    await asked.wait()
    await page.locator("#choose-all").click()
    async with page.expect_event("requestfinished"):
        answered.set()
    await page.wait_for_function("stale")
    await expect(page.locator('input[form="chosen"]:checked')).to_have_count(2)


async def test_a_viewer_is_offered_nothing_and_may_do_nothing(
    page: Page, stack: StackInfo, as_operator: str, ledger: str, url: str
) -> None:
    del url
    group = fail(ledger, "seen", 2)
    await enqueue(ledger, schedule("seen", "parked"))
    (parked,) = park(ledger, "seen--parked")
    async with served(stack, as_operator, **TOKENS) as address:
        await page.goto(f"{address}/failures/{group}")
        await page.get_by_label("Your name").fill("Vera")
        await page.get_by_label("Token").fill(VIEWER)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("Vera viewer").wait_for()
        for path in (f"/failures/{group}", "/intents", "/schedules/seen--parked"):
            await page.goto(address + path)
            await expect(page.locator("main")).to_contain_text("seen--")
            offers = page.locator("main :is(input[type=checkbox], form[method=post])")
            await expect(offers).to_have_count(0)
        for place in ("/preview/replay", "/act/replay", "/act/discard"):
            assert await _post(page, place, parked) == 403
    assert state_of(ledger, parked) == "parked"


async def _post(page: Page, place: str, intent: UUID) -> Any:
    """What the console answers to a form that the page itself sends."""
    send = """([place, of]) => fetch(place, {
        method: "POST", body: new URLSearchParams({ of, reason: "x" })
    }).then((answer) => answer.status)"""
    return await page.evaluate(send, [place, str(intent)])


async def test_a_group_of_a_hundred_thousand_is_counted_leafed_through_and_chosen_from(
    page: Page, url: str, ledger: str
) -> None:
    group = fail(ledger, "crowd", 100_000)
    await page.goto(f"{url}/failures")
    row = page.get_by_role("row").filter(has=page.locator(f'a[href="/failures/{group}"]'))
    await expect(row).to_contain_text("100,000")
    await row.locator(f'a[href="/failures/{group}"]').click()
    boxes = page.locator('input[form="chosen"]')
    await expect(boxes).to_have_count(50)
    first = await boxes.first.input_value()
    await page.get_by_role("link", name="Those before").click()
    await page.get_by_role("link", name="The last to fail").wait_for()
    await expect(boxes.first).not_to_have_value(first)
    await page.locator("#choose-all").click()
    await page.get_by_role("button", name="Preview replay of those chosen").click()
    await page.get_by_role("button", name="Replay these 50").wait_for()


async def test_a_lane_of_ten_thousand_is_told_of_by_its_head(page: Page, url: str, ledger: str) -> None:
    await enqueue(ledger, schedule("browsed", "long"))
    (head,) = park(ledger, "browsed--long")
    with psycopg.connect(ledger) as owner:
        owner.execute(STAND_BEHIND, {"head": head, "count": 10_000})
    await page.goto(f"{url}/schedules/browsed--long")
    await page.get_by_text("10,000 or more stand behind the head.").wait_for()
    await expect(page.locator("main")).to_contain_text("it needs a person; 10000 more behind it")
    await expect(page.locator(".story")).to_have_count(20)
