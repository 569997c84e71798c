"""The producers in other languages, installed and built by their lock files, on the real servers."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

import outbox
from outbox.compose.worker import open_worker
from outbox.stack import StackInfo
from tests.conftest import settings_for
from tests.docs.pages import Page
from tests.examples.conftest import EXAMPLES, SECONDS, blind
from tests.examples.transcript import replay
from tests.go_modules import download
from tests.store.conftest import Query

pytestmark = pytest.mark.toolchain

INSTALL = {"producer-node": "npm ci --silent", "producer-go": "go build -o reports ."}
RUN = {"producer-node": "node main.js", "producer-go": "./reports"}


@pytest.fixture(params=INSTALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    """A copy of the example, without what was installed into it."""
    ignored = shutil.ignore_patterns("node_modules", "reports")
    copy = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored)
    if (copy / "go.mod").exists():
        download(copy)
    return copy


@pytest.fixture
def environment(producer: str) -> dict[str, str]:
    # Nothing here needs a compiler of C.
    return blind() | {"DATABASE_URL": producer, "WAIT_SECONDS": str(SECONDS), "CGO_ENABLED": "0"}


@pytest.fixture
async def worker(stack: StackInfo, spicedb_schema: None, database: str) -> AsyncIterator[None]:
    """Works in the background."""
    del spicedb_schema  # there for its effect
    async with open_worker(settings_for(stack, database)) as working:
        running = asyncio.create_task(working.run())
        yield
        working.stop()
        await running


async def test_its_page_shows_what_happens(
    name: str, folder: Path, environment: dict[str, str], *, worker: None, query: Query, agent: str
) -> None:
    del worker  # there for its effect
    await replay(Page(f"docs/examples/{name}/README.md"), at=folder, environment=environment, agent=agent)
    # A row for each order that was committed and not cancelled; what was refused left nothing.
    orders = await query("SELECT number, intent_id FROM reports ORDER BY number")
    intents = await query("SELECT idempotency_key AS number, id AS intent_id FROM outbox.intents")
    assert [one["number"] for one in orders] == ["order-18", "order-20", "order-21"]
    assert {one["number"] for one in intents} == {"order-17", "order-18", "order-20", "order-21", None}
    assert all(order in intents for order in orders)


async def test_what_fails_to_serialize_is_tried_again(
    name: str, folder: Path, environment: dict[str, str], *, worker: None, query: Query, agent: str
) -> None:
    del worker  # there for its effect
    weekly = outbox.CreateSchedule(
        agent_id=agent,
        name="weekly",
        workflow_name="Report",
        task_queue="agents",
        workflow_params={"title": "Sales"},
        cron_expression="0 9 * * 1",
    )
    run = RUN[name]
    order = f"order-17 Sales {agent} weekly '0 9 * * 1' alice"
    with psycopg.connect(environment["DATABASE_URL"]) as other:
        other.execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'repeatable read'")
        other.commit()
        alice = outbox.Principal(user_id="alice")
        first = outbox.sync.enqueue_create(other, weekly, principal=alice, idempotency_key="order-17")
        running = await asyncio.create_subprocess_shell(
            f"{INSTALL[name]} && {run} migrate && {run} create {order}",
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS):
            while not await query("SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                assert running.returncode is None
                await asyncio.sleep(0.02)
            # The one that waits can't see this row, and its transaction fails to serialize.
            other.commit()
            printed, _ = await running.communicate()
    assert printed.decode() == f"{agent}--weekly succeeded (schedule.created)\n"
    assert await query("SELECT intent_id FROM reports") == [{"intent_id": first.id}]


async def test_the_go_code_is_formatted_and_vetted(tmp_path: Path) -> None:
    copy = shutil.copytree(EXAMPLES / "producer-go", tmp_path / "go")
    download(copy)
    running = await asyncio.create_subprocess_shell(
        "gofmt -l . && go vet . && go mod verify",
        cwd=copy,
        env=blind() | {"CGO_ENABLED": "0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await running.communicate()
    assert printed.decode() == "all modules verified\n"
