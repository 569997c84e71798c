"""A thousand schedules from before the outbox come under it, as the example's page shows."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.examples.conftest import EXAMPLES, SECONDS, blind
from tests.examples.transcript import replay

# A minute's work, and bounds are for hangs alone.
HANGS = 2400
PATIENT = {"OUTBOX_STEP_TIMEOUT_SECONDS": "300", "OUTBOX_LEASE_SECONDS": "600"}
pytestmark = [pytest.mark.campaign(seconds=60), pytest.mark.timeout(HANGS + SECONDS)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A copy of the example, with a stack of its own that is down at the end."""
    # Short, as it holds unix sockets.
    with tempfile.TemporaryDirectory(prefix="cut-") as scratch:
        folder = shutil.copytree(EXAMPLES / "cut-over", Path(scratch) / "x")
        yield folder
        subprocess.run(["outbox", "down"], cwd=folder, env=blind(), check=True, timeout=SECONDS)


async def test_its_page_shows_what_happens(folder: Path) -> None:
    page = Page("docs/examples/cut-over/README.md")
    await replay(page, at=folder, environment=blind() | PATIENT, seconds=HANGS)
