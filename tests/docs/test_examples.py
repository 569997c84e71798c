"""The README's Python examples run, one after another, against the real stores with a worker."""

import ast
import asyncio
import inspect
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authzed.api.v1 import (
    AsyncClient,
    ObjectReference,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from grpcutil import insecure_bearer_token_credentials
from sqlalchemy.ext.asyncio import create_async_engine

import outbox
from outbox.cli.batch import _read as read_lines
from outbox.compose.worker import open_worker
from outbox.stack import StackInfo
from tests.conftest import settings_for
from tests.docs.pages import PAGES, Page

README = Page("README.md")
USERS = ("alice", "bob")


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_python_blocks_compile(page: Page) -> None:
    for block in page.blocks("python"):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def owner_of_agent(agent: str, user: str) -> WriteRelationshipsRequest:
    owns = Relationship(
        resource=ObjectReference(object_type="agent", object_id=agent),
        relation="owner",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id=user)),
    )
    touch = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=owns)
    return WriteRelationshipsRequest(updates=[touch])


async def test_the_readmes_examples_run(
    stack: StackInfo, spicedb_schema: None, database: str, agent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del spicedb_schema  # there for its effect
    engine = create_async_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    spicedb = AsyncClient(stack.spicedb_endpoint, insecure_bearer_token_credentials(stack.spicedb_token))
    await spicedb.WriteRelationships(owner_of_agent(agent, "alice"))
    names: dict[str, Any] = {"engine": engine, "database_url": database, "spicedb": spicedb}
    async with open_worker(settings_for(stack, database)) as worker:
        working = asyncio.create_task(worker.run())
        for block in README.blocks("python", mark="run"):
            code = compile(
                block.replace("agent-7", agent), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            )
            waits = eval(code, names)
            if inspect.isawaitable(waits):
                await waits
        worker.stop()
        await working
    await engine.dispose()
    # Whoever owns the schedule and may update its agent may delete it.
    allowed = [
        await names["may"](user, "delete", "agent_schedule", f"{agent}--daily-report") for user in USERS
    ]
    assert allowed == [True, False]
    # The name that is waited for was created, deleted and created again.
    assert names["result"].status is outbox.Status.SUCCEEDED
    printed = capsys.readouterr().out
    assert f"{agent}--daily-report" in printed
    assert next(block for block in README.blocks("") if block.startswith("principal.user_id")) in printed


async def test_the_example_of_judging_a_run_runs(
    stack: StackInfo,
    spicedb_schema: None,
    database: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del spicedb_schema  # there for its effect
    monkeypatch.chdir(tmp_path)
    for name, value in {**stack.environment(), "OUTBOX_DATABASE_URL": database}.items():
        monkeypatch.setenv(name, value)
    (block,) = Page("docs/testing.md").blocks("python", mark="run")
    names: dict[str, Any] = {}
    await eval(compile(block, "testing.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert names["violations"] == []


def test_the_readmes_lines_of_json_are_as_good_and_bad_as_it_says() -> None:
    (lines,) = README.blocks("json")
    good, bad = read_lines(lines.splitlines())
    assert [line.number for line in good] == [1, 2, 3]
    said = [f"line {one.number}: {one.reason}" for one in bad]
    (shown,) = (block for block in README.blocks("console") if "--from schedules.jsonl\n" in block)
    assert all(shown.count(line) == 2 for line in said)


def test_the_readmes_sql_can_be_run(database: str) -> None:
    (script,) = README.blocks("sql")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script.encode())
        found = connection.execute(
            "SELECT schedule_id, creator, idempotency_key FROM outbox.intents"
        ).fetchall()
    assert found == [("agent-9--daily", {"user_id": "alice"}, "order-17")]
