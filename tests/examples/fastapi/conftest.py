"""The FastAPI service as its README has it run: migrated beside the outbox, with the least of rights."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr

from outbox.store.grants import GRANTS
from tests.docs.pages import Page
from tests.examples.conftest import EXAMPLES, blind
from tests.pipeline.conftest import pipeline, pytest_generate_tests, spicedb, stores, temporal
from tests.pipeline.harness import Pipeline

__all__ = ["pipeline", "pytest_generate_tests", "spicedb", "stores", "temporal"]

SERVICE = EXAMPLES / "fastapi"
README, CHANGE = Page("docs/examples/fastapi/README.md"), Page("docs/examples/fastapi/change.md")
SECONDS = 240
ALICE, BOB = {"X-User": "alice"}, {"X-User": "bob"}


@dataclass(frozen=True)
class Logins:
    """The test's database, as each of its users connects to it."""

    owner: str
    service: str
    worker: SecretStr


@pytest.fixture
def logins(database: str, monkeypatch: pytest.MonkeyPatch) -> Logins:
    monkeypatch.syspath_prepend(SERVICE)
    monkeypatch.setenv("DATABASE_URL", database)
    command.upgrade(Config(SERVICE / "alembic.ini"), "head")
    with psycopg.connect(database) as connection:
        connection.execute(GRANTS.encode())
        connection.execute((SERVICE / "roles.sql").read_bytes())
    return as_logins(database)


def as_logins(database: str) -> Logins:
    service, worker = (
        re.sub("//[^@]+@", f"//schedules_{name}:{name}@", database) for name in ("service", "worker")
    )
    return Logins(database, service, SecretStr(worker))


@pytest.fixture
def environment(logins: Logins, pipeline: Pipeline) -> dict[str, str]:
    """What the service is told: its own login, and the stores behind the test's proxies."""
    token = pipeline.settings.spicedb_token
    assert token
    return {
        "DATABASE_URL": logins.service,
        "OUTBOX_SPICEDB_ENDPOINT": pipeline.spicedb.address,
        "OUTBOX_SPICEDB_TOKEN": token.get_secret_value(),
        "OUTBOX_TEMPORAL_ADDRESS": pipeline.temporal.address,
    }


@asynccontextmanager
async def serving(
    app: str, environment: Mapping[str, str], *, at: Path = SERVICE
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """A service as a process of its own, by the command of the README; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", app, "--port", "0"),
        cwd=at,
        env={**blind(), **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            address = await _address(process)
        # A server that answers 500 closes the connection afterwards: the next request takes another.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, timeout=SECONDS, limits=limits) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where it listens, as it says when it does."""
    assert process.stderr
    said = ""
    async for line in process.stderr:
        said += line.decode()
        if found := re.search(r"running on (http://\S+)", said):
            return found[1]
    raise AssertionError(said)
