"""`make screenshots`: pictures of the console's pages, light and dark, for docs/console.md."""

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize

from outbox.compose import schema
from outbox.stack import Stack, StackInfo
from outbox.store.migrations import migrate
from tests.conftest import settings_for
from tests.console.browsers import chromium
from tests.console.conftest import served
from tests.console.story import LOOKS, tell

PLACE = Path("docs/console")
SIZE = ViewportSize(width=1120, height=700)
_MOST_TALL = 1000
# Whoever takes them, it is Ada who looks.
_ADA = {"console_identity_header": "X-User", "console_operators": "*"}


async def take(page: Page) -> bytes:
    """A picture of the page as it stands, as far down as it goes. Playwright's own can't be WebP."""
    tall = min(_MOST_TALL, await page.evaluate("document.documentElement.scrollHeight"))
    line = await page.context.new_cdp_session(page)
    clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": tall, "scale": 1}
    asked = {"format": "webp", "quality": 70, "captureBeyondViewport": True, "clip": clip}
    picture = await line.send("Page.captureScreenshot", asked)
    await line.detach()
    return base64.b64decode(picture["data"])


async def take_all(browser: Browser, info: StackInfo, url: str) -> None:
    """Of all pages, in both themes."""
    words = await tell(info, url)
    async with served(info, url, **_ADA) as address:
        for theme in ("light", "dark"):
            context = await browser.new_context(
                viewport=SIZE,
                color_scheme=theme,
                extra_http_headers={"X-User": "ada"},
            )
            page = await context.new_page()
            for name, look in LOOKS.items():
                await look(page, address, words)
                keep(f"{name}-{theme}.webp", await take(page))
            await context.close()


def keep(name: str, picture: bytes) -> None:
    """Beside the page that shows it."""
    PLACE.mkdir(exist_ok=True)
    (PLACE / name).write_bytes(picture)
    print(f"{PLACE / name}: {len(picture):,} bytes")


async def main() -> None:
    """Start the stack, have the story happen, and look at it."""
    with tempfile.TemporaryDirectory(prefix="outbox-") as home, Stack(Path(home)) as stack:
        info = stack.info()
        assert info
        migrate(info.database_url, max_request_bytes=262_144)
        await schema.apply(settings_for(info), lambda _: True)
        async with chromium() as browser:
            await take_all(browser, info, info.database_url)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
