"""Every page as people see it: dark and light, on a phone and on a desk, by the rules of WCAG A and AA."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page

from outbox.stack import StackInfo
from tests.console.browsers import opened
from tests.console.conftest import served
from tests.console.story import LOOKS, Words, at, tell
from tests.console.test_access import TOKENS
from tests.docs.pages import ROOT
from tests.docs.pages import Page as Markdown

WIDTHS = (360, 1440)
THEMES = ("light", "dark")
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations"],
}


@pytest.fixture(scope="module")
async def words(stack: StackInfo, ledger: str, spicedb_schema: None) -> Words:
    del spicedb_schema
    return await tell(stack, ledger)


@pytest.fixture(scope="module")
async def url(stack: StackInfo, as_operator: str) -> AsyncIterator[str]:
    async with served(stack, as_operator) as address:
        yield address


@pytest.fixture(scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    page = await opened(browser)
    yield page
    await page.context.close()


async def found_wrong(page: Page) -> list[Any]:
    """What breaks a rule, in each theme and at each width."""
    wrong: list[Any] = []
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        if (wide := await page.evaluate("document.documentElement.scrollWidth")) > width:
            wrong.append(f"{wide} pixels wide, on a screen of {width}")
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            results = await Axe().run(page, options=RULES)
            wrong += [
                (theme, width, one["id"], [node["html"] for node in one["nodes"]])
                for one in results.response["violations"]
            ]
    return wrong


@pytest.mark.parametrize("name", LOOKS)
async def test_a_page_can_be_read_by_all(page: Page, url: str, words: Words, name: str) -> None:
    await LOOKS[name](page, url, words)
    assert await found_wrong(page) == []


async def test_what_is_not_there_and_the_door_can_be_read_by_all(
    page: Page, stack: StackInfo, as_operator: str
) -> None:
    async with served(stack, as_operator, **TOKENS) as address:
        await at("/login")(page, address, {})
        assert await found_wrong(page) == []
        await page.get_by_label("Your name").fill("Ada")
        await page.get_by_label("Token").fill(TOKENS["console_token"])
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("Ada operator").wait_for()
        await at("/nowhere")(page, address, {})
        assert await found_wrong(page) == []
        # What breaks a rule would be found, and what is too wide.
        await page.evaluate("document.querySelector('h1').style.cssText = 'color: #ccc; width: 2000px'")
        wrong = str(await found_wrong(page))
        assert all(one in wrong for one in ("'light', 360, 'color-contrast'", "screen of 1440")), wrong


@pytest.mark.parametrize("name", LOOKS)
def test_every_page_has_its_picture(name: str) -> None:
    for theme in THEMES:
        place = f"console/{name}-{theme}.webp"
        assert place in Markdown("docs/console.md").text
        assert (ROOT / "docs" / place).stat().st_size < 120_000
