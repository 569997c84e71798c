"""Types what a page shows after its prompts, in one shell, and compares what comes with the page."""

import asyncio
import re
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path

from tests.docs.pages import Page

SECONDS = 500
_MARK = "\x1e"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(?:\.\d+)?")
_ANYTHING = re.escape("...\n")


async def replay(
    page: Page,
    *,
    at: Path,
    environment: Mapping[str, str],
    agent: str = "agent-7",
    seconds: float = SECONDS,
) -> None:
    """Run the page's consoles that are marked ``run``, one after another; stderr is shown, too.

    Ids and times are other ones each time. A line of three dots stands for any lines.

    Args:
        page: its commands speak of ``agent-7``.
        at: the working directory.
        environment: all that the commands get.
        agent: to take instead.
        seconds: after so many, something hangs.
    """
    text = "".join(page.blocks("console", mark="run")).replace("agent-7", agent)
    shown = _commands(text)
    script = "".join(f"printf '{_MARK}'\n{command}\n" for command, _ in shown)
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=at,
        env=dict(environment),
    )
    async with asyncio.timeout(seconds):
        printed, _ = await shell.communicate()
    came = printed.decode().split(_MARK)[1:]
    assert len(came) == len(shown), printed.decode()
    seen = [
        f"$ {_plain(command)}\n{settled(output, wanted)}"
        for (command, wanted), output in zip(shown, came, strict=True)
    ]
    differences = "\n".join(unified_diff(_plain(text).splitlines(), "".join(seen).splitlines(), lineterm=""))
    assert not differences, differences


def settled(output: str, wanted: str) -> str:
    """What came, as the page would show it; what was wanted, where the two agree."""
    pattern = re.escape(_plain(wanted)).replace(_ANYTHING, "(?:.*\n)*")
    return _plain(wanted) if re.fullmatch(pattern, _plain(output)) else _plain(output)


def _plain(text: str) -> str:
    return _TIME.sub("<time>", _UUID.sub("<id>", text))


def _commands(text: str) -> list[tuple[str, str]]:
    """Each command with the output below it."""
    _, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]
