"""The comparison of pages with terminals notices what differs."""

import os
from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.examples.transcript import replay

ID = "01a22635-f65f-7592-aa41-81eb6a6f616d"
OTHER_ID = "01a22636-3dd2-7caa-ab81-3f36c508517f"


async def type_in(folder: Path, shown: str) -> None:
    (folder / "page.md").write_text(f"<!-- run -->\n```console\n{shown}```\n")
    await replay(Page(str(folder / "page.md")), at=folder, environment=os.environ, agent="agent-9")


async def test_what_comes_as_shown_passes(tmp_path: Path) -> None:
    await type_in(
        tmp_path,
        "$ export NAME=agent-7; cd /\n"
        "$ echo $NAME; pwd >&2\nagent-7\n/\n"
        f"$ echo {OTHER_ID} at 10:20:30.123\n{ID} at 11:21:31\n"
        "$ seq 5\n1\n...\n5\n",
    )


@pytest.mark.parametrize(
    "shown",
    [
        "$ echo two\none\n",
        "$ true\none\n",
        "$ echo one\n",
        f"$ echo no id\n{ID}\n",
        "$ seq 5\n1\n...\n4\n",
        "$ exit\n$ true\n",
    ],
)
async def test_what_differs_does_not(tmp_path: Path, shown: str) -> None:
    with pytest.raises(AssertionError):
        await type_in(tmp_path, shown)
