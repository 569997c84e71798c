"""The console in a real browser, where one is installed: what no test without one can see."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from playwright.async_api import Browser, Page, async_playwright

from outbox.audit.drift import Fix
from outbox.console.server import listening
from outbox.stack import StackInfo
from tests.conftest import lose, settings_for
from tests.console.conftest import EVIL, enqueue, schedule
from tests.console.test_acting import park, state_of

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: Debian's chromium is not installed")
PAGES = (
    *("/", "/failures", "/intents", "/audit", "/replays", "/operations", "/health"),
    *("/schedules/browsed--waits", "/nowhere"),
)


@pytest.fixture(scope="module")
async def url(stack: StackInfo, as_operator: str, ledger: str, spicedb_schema: None) -> AsyncIterator[str]:
    del spicedb_schema
    await enqueue(
        ledger, schedule("browsed", "waits", workflow_params={"a": EVIL}), schedule("browsed", "parked")
    )
    async with listening(settings_for(stack, as_operator), "127.0.0.1", 0) as page:
        serving = asyncio.create_task(page.run())
        yield page.url.rstrip("/")
        page.stop()
        await serving


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page on which nothing may be reported: no refused script, no failed request, no error."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(90_000)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    await context.close()
    assert [one for one in wrong if "404" not in one] == []


@pytest.mark.parametrize("width", [360, 1440])
async def test_no_page_is_wider_than_the_screen(page: Page, url: str, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    for path in PAGES:
        await page.goto(url + path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path


async def test_a_page_follows_what_happens_until_it_is_paused(page: Page, url: str, ledger: str) -> None:
    await page.goto(f"{url}/intents")
    await page.locator("#live[aria-pressed=true]").wait_for()
    await enqueue(ledger, schedule("browsed", "new"))
    await page.get_by_role("link", name="browsed--new", exact=True).wait_for(timeout=60_000)
    await page.locator("#live").click()
    assert await page.locator("#live").inner_text() == "paused"


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
    assert "1 is on the way" in await page.get_by_role("status").inner_text()
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
    assert "2 are on the way" in await page.get_by_role("status").inner_text()


async def test_a_store_is_held_and_released_from_the_overview(page: Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_text("Hold a store").click()
    await page.get_by_label("Why").fill("upgrade")
    await page.get_by_role("button", name="Preview hold").click()
    await page.get_by_role("button", name="Hold Temporal").click()
    await page.get_by_role("link", name="Overview").click()
    await page.get_by_role("button", name="Preview release").click()
    await page.get_by_role("button", name="Release Temporal").click()
    assert "temporal goes on" in await page.get_by_role("status").inner_text()


async def test_keys_find_and_go_through_rows(page: Page, url: str) -> None:
    await page.goto(f"{url}/intents")
    await page.keyboard.press("j")
    assert await page.locator("tr.current").count() == 1
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.id") == "find"
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    assert await page.get_by_role("dialog").is_visible()


async def test_pages_can_be_read_without_javascript(browser: Browser, url: str) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{url}/schedules/browsed--waits")
    assert "It waits:" in await page.locator("main").inner_text()
    assert await page.locator("button:visible", has_text="copy").count() == 0
    await context.close()


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
