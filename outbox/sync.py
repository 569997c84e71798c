"""Enqueueing for synchronous callers: the same arguments, the same statement, another kind of connection."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from outbox.producer.enqueue import Call, Item, is_of
from outbox.producer.intents import Intent
from outbox.producer.requests import CreateSchedule, DeleteSchedule, Entry, Principal, UpdateSchedule

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

Caller: TypeAlias = "Session | Connection | psycopg.Connection[Any]"
"""What carries an enqueue: SQLAlchemy's, or psycopg's own."""


def enqueue_create(
    conn: Caller,
    request: CreateSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for a schedule, in the caller's transaction; see ``outbox.enqueue_create``."""
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return _enqueue(conn, Call.single(entry, CreateSchedule))[0]


def enqueue_update(
    conn: Caller,
    request: UpdateSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for fields of a live schedule to be changed; see ``outbox.enqueue_update``."""
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return _enqueue(conn, Call.single(entry, UpdateSchedule))[0]


def enqueue_delete(
    conn: Caller,
    request: DeleteSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for a schedule to be removed; see ``outbox.enqueue_delete``."""
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return _enqueue(conn, Call.single(entry, DeleteSchedule))[0]


def enqueue_many(conn: Caller, items: Iterable[Item]) -> list[Intent]:
    """Enqueue a batch in one round trip; see ``outbox.enqueue_many``."""
    return _enqueue(conn, Call(items))


def _enqueue(conn: Any, call: Call) -> list[Intent]:
    with call.errors():
        if is_of(conn, "sqlalchemy.orm", "Session") or is_of(conn, "sqlalchemy", "Connection"):
            return call.intents(conn.execute(call.statement.sqlalchemy, {"asked": call.json}).all())
        if isinstance(conn, psycopg.Connection):
            with conn.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(call.statement.psycopg, (call.json,))
                return call.intents(cursor.fetchall())
    raise TypeError(
        "conn must be a SQLAlchemy Session or Connection, or a psycopg Connection "
        f"(for async ones: outbox.enqueue_create and so on), not {type(conn).__name__}"
    )
