"""Workers and producers of the version before share a database with new ones, while they are rolled."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import outbox
from outbox.store import migrations
from tests.cli.conftest import Cli
from tests.pipeline.ledger import Ledger
from tests.upgrades.before import unpack

ALICE = outbox.Principal(user_id="alice")
PRODUCE = """
import sys, psycopg, outbox
with psycopg.connect(sys.argv[1]) as connection:
    request = outbox.CreateSchedule(
        agent_id=sys.argv[2], name=sys.argv[3], workflow_name="Run", task_queue="agents", interval_seconds=60)
    print(outbox.sync.enqueue_create(connection, request, principal=outbox.Principal(user_id="alice")).id)
"""


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before."""
    folder = tmp_path_factory.mktemp("before")
    unpack(folder)
    return folder


@pytest.fixture
def old(before: Path, environment: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """How a process of the version before is started."""
    return {"cwd": tmp_path, "env": {**environment, "PYTHONPATH": str(before), "PATH": "/usr/bin:/bin"}}


@contextmanager
def old_worker(old: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "outbox", "run"], stderr=subprocess.PIPE, **old) as process:
        try:
            yield process
        finally:
            process.terminate()
            _, log = process.communicate(timeout=60)
            assert process.returncode == 0, log.decode()


def create(connection: psycopg.Connection[Any], agent: str, name: str) -> outbox.Intent:
    request = outbox.CreateSchedule(
        agent_id=agent, name=name, workflow_name="Run", task_queue="agents", interval_seconds=3600
    )
    return outbox.sync.enqueue_create(connection, request, principal=ALICE)


async def test_an_old_worker_goes_on_and_gets_no_update(
    old: dict[str, Any], environment: dict[str, str], database: str, agent: str
) -> None:
    with psycopg.connect(database) as connection:
        first = create(connection, agent, "one")
        paused = outbox.UpdateSchedule(agent_id=agent, name="one", paused=True)
        update = outbox.sync.enqueue_update(connection, paused, principal=ALICE)
        gone = outbox.DeleteSchedule(agent_id=agent, name="one")
        last = outbox.sync.enqueue_delete(connection, gone, principal=ALICE)
        other = create(connection, agent, "two")
    ledger = await Ledger.connect(database)
    with old_worker(old):
        await ledger.await_event(first.id, "created")
        await ledger.await_event(other.id, "created")
        # It has looked for more since: the update stands at the head of its lane, and nobody takes it.
        await ledger.await_row(
            "SELECT 1 FROM outbox.queue WHERE place = 'head' AND state = 'ready'"
            " AND event_type = 'schedule.update.requested'"
        )
        with psycopg.connect(database) as connection:
            third = create(connection, agent, "three")
        await ledger.await_event(third.id, "created")
        assert await ledger.events(update.id) == ["update.requested"]
    new = {**old, "env": {**environment, "PATH": "/usr/bin:/bin"}}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "outbox", "run", "--until-idle", **new
    )
    assert await worker.wait() == 0
    assert await ledger.ended_as(update.id) == ("updated", None)
    assert await ledger.ended_as(last.id) == ("deleted", None)
    assert await ledger.attempts(update.id) == []
    await ledger.close()


def test_an_old_producer_goes_on(
    before: Path, old: dict[str, Any], database: str, agent: str, cli: Cli
) -> None:
    made = subprocess.run(
        [sys.executable, "-c", PRODUCE, database, agent, "one"], check=True, capture_output=True, **old
    )
    assert (
        str(before)
        in subprocess.run(
            [sys.executable, "-c", "import outbox; print(outbox.__file__)"],
            check=True,
            capture_output=True,
            **old,
        ).stdout.decode()
    )
    assert cli("run", "--until-idle").code == 0
    (one,) = cli("intents", "--json").lines
    assert (one["intent_id"], one["status"]) == (made.stdout.decode().strip(), "succeeded")


def test_a_new_worker_says_what_an_old_schema_lacks(empty_database: str, cli: Cli) -> None:
    migrations.migrate(empty_database, max_request_bytes=262_144, revision="0001")
    ran = cli("run", "--until-idle", OUTBOX_DATABASE_URL=empty_database)
    assert ran.code == 1
    assert "the database is at revision 0001, needed is 0004" in ran.err
    assert "outbox migrate" in ran.err
