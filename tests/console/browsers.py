"""A real browser: the machine's own Chromium, or Debian's, unpacked into the user's cache.

What a page should show is asked with Playwright's ``expect``, which waits for it: a click returns before the
page is there that it leads to. Whoever acts waits for what comes of it before going on elsewhere: leaving a
page calls off what was asked of it.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.debian import library_path, unpacked

PATIENT = 120_000
"""Milliseconds."""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <cachedir>{root}/var/cache/fontconfig</cachedir>
</fontconfig>
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Chromium without a window.

    Raises:
        NotToBeHadError: there is none here, and Debian's can't be had.
    """
    own = shutil.which("chromium")
    program, environment = (own, {}) if own else _unpacked()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            env=environment or None,
            args=["--no-sandbox", "--disable-background-networking", "--font-render-hinting=none"],
        )
        try:
            yield browser
        finally:
            await browser.close()


async def opened(browser: Browser, **options: Any) -> Page:
    """A page of a visitor of its own, that waits for as long as a busy machine may take."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENT)
    expect.set_options(timeout=PATIENT)
    return await context.new_page()


def _unpacked() -> tuple[str, dict[str, str | float | bool]]:
    root = unpacked("chromium", "chromium-common", "fonts-dejavu-core")
    fonts = root / "fonts.conf"
    fonts.write_text(_FONTS.format(root=root))
    # The script before it looks for its files where an installed one has them.
    program = root / "usr/lib/chromium/chromium"
    return str(program), {**os.environ, **library_path(root), "FONTCONFIG_FILE": str(fonts)}
