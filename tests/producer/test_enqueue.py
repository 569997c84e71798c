"""Enqueueing is part of the caller's transaction, on every kind of connection."""

import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import outbox
from outbox import CreateSchedule, DeleteSchedule, Intent, Principal
from outbox.producer.enqueue import AsyncCaller, Item
from outbox.sync import Caller

OWNER = Principal(user_id="u1", account_id="acc")


def a_create(agent: str, name: str = "daily", **changes: Any) -> CreateSchedule:
    fields: dict[str, Any] = {"workflow_name": "w", "task_queue": "q", "interval_seconds": 60} | changes
    return CreateSchedule(agent_id=agent, name=name, **fields)


def intents_of(url: str, agent: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT id, schedule_id, kind, request, creator, created_at FROM outbox.intents"
            " WHERE schedule_id LIKE %s ORDER BY position",
            (f"{agent}--%",),
        ).fetchall()


@asynccontextmanager
async def async_caller(kind: str, url: str) -> AsyncIterator[AsyncCaller]:
    what, driver = kind.split("-")
    if what == "plain":
        async with await psycopg.AsyncConnection.connect(url) as connection:
            yield connection
        return
    engine = create_async_engine(make_url(url).set(drivername=f"postgresql+{driver}"))
    opened: AsyncSession | AsyncConnection = AsyncSession(engine) if what == "session" else engine.connect()
    async with opened as caller:
        yield caller
    await engine.dispose()


@contextmanager
def sync_caller(kind: str, url: str) -> Iterator[Caller]:
    if kind == "plain":
        with psycopg.connect(url) as connection:
            yield connection
        return
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    opened: Session | Connection = Session(engine) if kind == "session" else engine.connect()
    with opened as caller:
        yield caller
    engine.dispose()


ASYNC_KINDS = [
    "session-psycopg",
    "session-asyncpg",
    "connection-psycopg",
    "connection-asyncpg",
    "plain-psycopg",
]
SYNC_KINDS = ["session", "connection", "plain"]


@pytest.mark.parametrize("kind", ASYNC_KINDS)
async def test_async_callers(shared: str, agent: str, kind: str) -> None:
    async with async_caller(kind, shared) as conn:
        created = await outbox.enqueue_create(conn, a_create(agent), principal=OWNER)
        await conn.rollback()
        assert intents_of(shared, agent) == []
        created = await outbox.enqueue_create(conn, a_create(agent), principal=OWNER)
        deleted = await outbox.enqueue_delete(conn, delete_of(agent), principal=OWNER)
        await conn.commit()
        assert stored(shared, agent) == [created, deleted]
        with pytest.raises(outbox.IdempotencyConflict, match='request 1: idempotency_key: "k'):
            await outbox.enqueue_many(
                conn,
                [
                    (delete_of(agent), OWNER, f"k-{agent}"),
                    (delete_of(agent), Principal(), f"k-{agent}"),
                ],
            )
        await conn.rollback()
        await execute(conn, "UPDATE outbox.limits SET max_request_bytes = 10")
        with pytest.raises(outbox.InvalidRequest) as caught:
            await outbox.enqueue_many(conn, [(delete_of(agent), OWNER)])
        assert str(caught.value) == "request 0: request: must be at most 10 bytes as JSON"
        await conn.rollback()


@pytest.mark.parametrize("kind", SYNC_KINDS)
def test_sync_callers(shared: str, agent: str, kind: str) -> None:
    with sync_caller(kind, shared) as conn:
        outbox.sync.enqueue_create(conn, a_create(agent), principal=OWNER)
        conn.rollback()
        assert intents_of(shared, agent) == []
        created = outbox.sync.enqueue_create(conn, a_create(agent), principal=OWNER)
        deleted = outbox.sync.enqueue_delete(conn, delete_of(agent), principal=OWNER)
        (again,) = outbox.sync.enqueue_many(conn, [(delete_of(agent), OWNER)])
        conn.commit()
        assert stored(shared, agent) == [created, deleted, again]
        with pytest.raises(outbox.IdempotencyConflict):
            outbox.sync.enqueue_many(
                conn, [(delete_of(agent), p, f"k-{agent}") for p in (OWNER, Principal())]
            )
        conn.rollback()


def delete_of(agent: str, name: str = "daily") -> DeleteSchedule:
    return DeleteSchedule(agent_id=agent, name=name)


def stored(url: str, agent: str) -> list[Intent]:
    return [Intent(row[0], row[1], row[2], row[5]) for row in intents_of(url, agent)]


async def execute(conn: AsyncCaller, statement: str) -> None:
    if isinstance(conn, psycopg.AsyncConnection):
        await conn.execute(statement.encode())
    else:
        await conn.execute(text(statement))


def test_both_sides_take_the_same_arguments() -> None:
    for name in ("enqueue_create", "enqueue_delete", "enqueue_many"):
        asynchronous, synchronous = (inspect.signature(getattr(side, name)) for side in (outbox, outbox.sync))
        assert list(asynchronous.parameters) == list(synchronous.parameters)
        assert [p.kind for p in asynchronous.parameters.values()] == [
            p.kind for p in synchronous.parameters.values()
        ]


@pytest.mark.parametrize("wrong", [None, "postgresql://", 5])
async def test_other_connections_are_refused_by_type(wrong: Any, agent: str) -> None:
    with pytest.raises(TypeError, match="AsyncSession or AsyncConnection, or a psycopg AsyncConnection"):
        await outbox.enqueue_create(wrong, a_create(agent), principal=OWNER)
    with pytest.raises(TypeError, match="Session or Connection, or a psycopg Connection"):
        outbox.sync.enqueue_create(wrong, a_create(agent), principal=OWNER)


async def test_the_wrong_request_is_refused_by_type(aconn: psycopg.AsyncConnection, agent: str) -> None:
    wrong: Any = delete_of(agent)
    with pytest.raises(TypeError, match="request must be CreateSchedule, not DeleteSchedule"):
        await outbox.enqueue_create(aconn, wrong, principal=OWNER)
    nobody: Any = None
    with pytest.raises(TypeError, match="principal must be Principal, not NoneType"):
        await outbox.enqueue_delete(aconn, wrong, principal=nobody)
    with pytest.raises(
        TypeError, match="expected CreateSchedule, UpdateSchedule or DeleteSchedule, not Principal"
    ):
        await outbox.enqueue_many(aconn, [(OWNER, OWNER)])  # type: ignore[list-item]


async def test_a_savepoint_takes_its_intents_with_it(
    aconn: psycopg.AsyncConnection, shared: str, agent: str
) -> None:
    kept = await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)
    async with aconn.transaction(force_rollback=True):
        await outbox.enqueue_delete(aconn, delete_of(agent), principal=OWNER)
    await aconn.commit()
    assert stored(shared, agent) == [kept]


async def test_what_is_written(aconn: psycopg.AsyncConnection, agent: str) -> None:
    intent = await outbox.enqueue_create(
        aconn,
        a_create(agent, workflow_params={"x": None}, paused=True, overlap_policy="skip"),
        principal=OWNER,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=1",
    )
    assert intent.id.version == 7
    row = await (
        await aconn.execute("SELECT request, creator, trace FROM outbox.intents WHERE id = %s", (intent.id,))
    ).fetchone()
    assert row == (
        {
            "agent_id": agent,
            "name": "daily",
            "workflow_name": "w",
            "task_queue": "q",
            "interval_seconds": 60,
            "workflow_params": {"x": None},
            "paused": True,
        },
        {"user_id": "u1", "account_id": "acc"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"},
    )
    row = await (
        await aconn.execute(
            "SELECT q.place, q.state, q.event_type, q.consumer, e.type, q.position = i.position,"
            " q.schedule_id"
            " FROM outbox.intents i JOIN outbox.queue q ON q.intent_id = i.id"
            " JOIN outbox.events e ON e.intent_id = i.id WHERE i.id = %s",
            (intent.id,),
        )
    ).fetchone()
    requested = "schedule.create.requested"
    assert row == ("incoming", "queued", requested, "authz", requested, True, f"{agent}--daily")


async def test_a_delete_starts_with_temporal(aconn: psycopg.AsyncConnection, agent: str) -> None:
    intent = await outbox.enqueue_delete(aconn, delete_of(agent), principal=Principal())
    row = await (
        await aconn.execute(
            "SELECT q.event_type, q.consumer, i.request, i.creator, i.trace FROM outbox.intents i"
            " JOIN outbox.queue q ON q.intent_id = i.id WHERE i.id = %s",
            (intent.id,),
        )
    ).fetchone()
    assert row == ("schedule.delete.requested", "temporal", {"agent_id": agent, "name": "daily"}, {}, None)


async def test_a_batch_is_one_statement_in_order(shared: str, agent: str) -> None:
    engine = create_async_engine(make_url(shared).set(drivername="postgresql+psycopg"))
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    items = [(a_create(agent, f"n{number * 7919 % 1000}"), OWNER) for number in range(1000)]
    async with engine.begin() as conn:
        intents = await outbox.enqueue_many(conn, items)
    await engine.dispose()
    assert len(statements) == 1
    assert [intent.schedule_id for intent in intents] == [request.schedule_id for request, _ in items]
    assert stored(shared, agent) == intents
    assert len({intent.id for intent in intents}) == 1000


async def test_an_empty_batch(aconn: psycopg.AsyncConnection) -> None:
    assert await outbox.enqueue_many(aconn, []) == []


async def test_a_bad_one_in_a_batch_is_named(aconn: psycopg.AsyncConnection, agent: str) -> None:
    items: list[Item] = [(a_create(agent), OWNER), (delete_of(agent), OWNER, "k" * 256)]
    with pytest.raises(outbox.InvalidRequest) as caught:
        await outbox.enqueue_many(aconn, items)
    assert (caught.value.index, caught.value.field) == (1, "idempotency_key")
    with pytest.raises(outbox.InvalidRequest) as single:
        await outbox.enqueue_delete(aconn, delete_of(agent), principal=OWNER, idempotency_key="k\0")
    assert (single.value.index, single.value.field) == (None, "idempotency_key")


async def test_the_size_is_limited(
    aconn: psycopg.AsyncConnection, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = a_create(agent, workflow_params={"x": "y" * 262_144})
    with pytest.raises(outbox.InvalidRequest, match="request: must be at most 262144 bytes as JSON"):
        await outbox.enqueue_create(aconn, large, principal=OWNER)
    monkeypatch.setenv("OUTBOX_MAX_REQUEST_BYTES", "1000000")
    with pytest.raises(outbox.InvalidRequest, match=r"^request: must be at most 262144") as caught:
        await outbox.enqueue_create(aconn, large, principal=OWNER)
    assert isinstance(caught.value.__cause__, psycopg.Error), "the database has the last word"
    monkeypatch.setenv("OUTBOX_MAX_REQUEST_BYTES", "lots")
    with pytest.raises(outbox.OutboxError, match="OUTBOX_MAX_REQUEST_BYTES must be a whole number"):
        await outbox.enqueue_create(aconn, large, principal=OWNER)


async def test_params_changed_behind_the_models_back(aconn: psycopg.AsyncConnection, agent: str) -> None:
    request = a_create(agent, workflow_params={})
    assert request.workflow_params is not None
    request.workflow_params["x"] = float("nan")
    with pytest.raises(outbox.InvalidRequest, match="workflow_params: was changed into what is not JSON"):
        await outbox.enqueue_create(aconn, request, principal=OWNER)


async def test_the_current_span_goes_along(
    aconn: psycopg.AsyncConnection, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(
        is_valid=True,
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        trace_flags=1,
        trace_state=SimpleNamespace(to_header=lambda: ""),
    )
    span = SimpleNamespace(get_span_context=lambda: context)
    otel = SimpleNamespace(get_current_span=lambda: span)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", otel)
    intent = await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)
    context.is_valid = False
    without = await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)
    rows = await (
        await aconn.execute(
            "SELECT trace FROM outbox.intents WHERE id = ANY(%s) ORDER BY position",
            ([intent.id, without.id],),
        )
    ).fetchall()
    assert rows == [({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},), (None,)]


async def test_a_database_without_the_outbox_says_so(empty_database: str, agent: str) -> None:
    async with await psycopg.AsyncConnection.connect(empty_database) as conn:
        with pytest.raises(outbox.OutboxError, match="run `outbox migrate`"):
            await outbox.enqueue_create(conn, a_create(agent), principal=OWNER)


async def test_a_role_without_the_right_says_so(aconn: psycopg.AsyncConnection, agent: str) -> None:
    await aconn.execute("SET ROLE pg_monitor")
    with pytest.raises(outbox.OutboxError, match="this role may not enqueue"):
        await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)


async def test_a_producer_of_single_requests_needs_one_function(
    aconn: psycopg.AsyncConnection, agent: str
) -> None:
    await aconn.execute(f'CREATE ROLE "{agent}"'.encode())
    await aconn.execute(
        f'GRANT USAGE ON SCHEMA outbox TO "{agent}";'
        f'GRANT EXECUTE ON FUNCTION outbox.enqueue(jsonb) TO "{agent}"; SET ROLE "{agent}"'.encode()
    )
    assert await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)


async def test_other_errors_pass_through(aconn: psycopg.AsyncConnection, agent: str) -> None:
    await aconn.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await outbox.enqueue_create(aconn, a_create(agent), principal=OWNER)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (None, "request"),
        ("[]", "request"),
        ('{"kind": "repair", "agent_id": "a", "name": "n"}', "kind"),
        ('{"agent_id": "a"}', "name"),
    ],
)
def test_sql_callers_are_told_the_field(connection: psycopg.Connection, bad: str | None, field: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT * FROM outbox.enqueue(%s::jsonb)", (bad,))
    assert (caught.value.sqlstate, caught.value.diag.column_name) == ("OB001", field)
    assert (caught.value.diag.message_primary or "").startswith(f"{field}: must be ")


@pytest.mark.parametrize("bad", [None, "{}", "5"])
def test_a_batch_is_an_array(connection: psycopg.Connection, bad: str | None) -> None:
    with pytest.raises(psycopg.Error, match="requests: must be an array"):
        connection.execute("SELECT * FROM outbox.enqueue_many(%s::jsonb)", (bad,))


def test_the_sql_function_alone(connection: psycopg.Connection, agent: str) -> None:
    request = {"kind": "delete", "agent_id": agent, "name": "daily"}
    row = connection.execute(
        "SELECT id, schedule_id, kind FROM outbox.enqueue(%s::jsonb)", (json.dumps(request),)
    ).fetchone()
    assert row
    assert row[1:] == (f"{agent}--daily", "delete")


def test_importing_the_producer_side_stays_small() -> None:
    heavy = ["temporalio", "authzed", "grpc", "kafka", "typer", "rich", "structlog", "asyncpg", "alembic"]
    heavy += ["sqlalchemy", "opentelemetry", "prometheus_client"]
    code = f"import sys; from outbox import *; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
