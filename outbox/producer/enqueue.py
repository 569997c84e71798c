"""Enqueueing: one statement in the caller's transaction, which nothing here commits (rule 1).

The statement's one parameter, its rows and its errors are the same for every kind of connection, and for
``outbox.sync`` too; a connection only carries them. SQLAlchemy is imported where a caller brings it along:
most of the time that importing this takes would be its.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row
from pydantic_core import to_json

from outbox.errors import IdempotencyConflict, InvalidRequest, OutboxError
from outbox.producer.intents import Intent
from outbox.producer.requests import (
    CreateSchedule,
    DeleteSchedule,
    Entry,
    Envelope,
    Principal,
    Request,
    UpdateSchedule,
)

if TYPE_CHECKING:
    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

AsyncCaller: TypeAlias = "AsyncSession | AsyncConnection | psycopg.AsyncConnection[Any]"
"""What carries an enqueue: SQLAlchemy's on psycopg or asyncpg, or psycopg's own."""
Item = tuple[Request, Principal] | tuple[Request, Principal, str | None] | Entry
"""A request, its principal and, if wanted, its idempotency key."""


class Statement:
    """A call of one of the database's functions, as either kind of connection sends it."""

    def __init__(self, function: str) -> None:
        self._call = f"SELECT id, schedule_id, kind, created_at FROM outbox.{function}"  # noqa: S608 - a name of ours
        self.psycopg = f"{self._call}(%s::jsonb)".encode()

    @cached_property
    def sqlalchemy(self) -> "TextClause":
        """For a connection of SQLAlchemy's, which is there to be imported."""
        from sqlalchemy import text  # noqa: PLC0415 - see above

        return text(f"{self._call}(CAST(:asked AS jsonb))")


_REQUESTS = "CreateSchedule, UpdateSchedule or DeleteSchedule"
_ONE = Statement("enqueue")
_MANY = Statement("enqueue_many")

_to_strict_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_DEFAULT_MAX_BYTES = 262_144
_MAX_TRACESTATE = 512
_OURS = {"OB001", "OB002", "42501", "3F000", "42883", "26000", "42P05"}
"""Invalid request, idempotency conflict; no privilege, schema, function; a prepared statement's name."""


class Call:
    """One enqueue, apart from its connection: the statement, its parameter, and how to read its answer.

    Raises ``InvalidRequest`` for what the models can't see: keys, trace context, size.
    """

    def __init__(self, items: Iterable[Item], *, batch: bool = True) -> None:
        self._batch = batch
        limit = _max_bytes()
        texts = [self._encode(Entry(*item), limit, index) for index, item in enumerate(items)]
        self.statement = _MANY if batch else _ONE
        self.json = f"[{','.join(texts)}]" if batch else texts[0]

    @classmethod
    def single(cls, entry: Entry, expected: type[Request]) -> Self:
        """One request, by the function for one; its errors have no index."""
        if not isinstance(entry.request, expected):
            raise TypeError(f"request must be {expected.__name__}, not {type(entry.request).__name__}")
        return cls([entry], batch=False)

    def intents(self, rows: Sequence[Sequence[Any]]) -> list[Intent]:
        """Read the statement's rows, in the order of the items."""
        return [
            Intent(id_ if isinstance(id_, UUID) else UUID(str(id_)), schedule_id, kind, created_at)
            for id_, schedule_id, kind, created_at in rows
        ]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the outbox's own database errors into exceptions of this package; all else passes."""
        try:
            yield
        except Exception as error:
            known = _reported(error)
            if known is None:
                raise
            raise self._exception(*known) from error

    def _exception(self, state: str, message: str, field: str, place: str) -> OutboxError:
        index = int(place) if self._batch and place.isdigit() else None
        match state:
            case "OB001":
                return InvalidRequest(field, message.removeprefix(f"{field}: "), index=index)
            case "OB002":
                return IdempotencyConflict(message, index=index)
            case "42501":
                return OutboxError(
                    f"this role may not enqueue ({message}): see `outbox migrate --print-grants`"
                )
            case "26000" | "42P05":
                return OutboxError(
                    f"behind a pooler of transactions, prepared statements must have no names ({message}): "
                    "docs/postgres.md says how to set that"
                )
            case _:
                return OutboxError(f"the outbox is not in this database ({message}): run `outbox migrate`")

    def _encode(self, entry: Entry, limit: int, index: int) -> str:
        if not isinstance(entry.request, Request):
            raise TypeError(f"expected {_REQUESTS}, not {type(entry.request).__name__}")
        if not isinstance(entry.principal, Principal):
            raise TypeError(f"principal must be Principal, not {type(entry.principal).__name__}")
        try:
            return _encode(entry, limit)
        except InvalidRequest as error:
            raise InvalidRequest(error.field, error.reason, index=index if self._batch else None) from None


def _encode(entry: Entry, limit: int) -> str:
    traceparent, tracestate = (
        (entry.traceparent, entry.tracestate) if entry.traceparent or entry.tracestate else current_trace()
    )
    around = {"idempotency_key": entry.idempotency_key, "traceparent": traceparent, "tracestate": tracestate}
    document = {"kind": entry.request.kind, **entry.request.to_json()}
    if any(value is not None for value in around.values()):
        document |= Envelope(**around).to_json()
    if owner := entry.principal.to_json():
        document["principal"] = owner
    try:
        encoded = to_json(document, inf_nan_mode="constants")
        if b"NaN" in encoded or b"Infinity" in encoded:  # as a number, which is no JSON, or in a text
            encoded = _to_strict_json(document).encode()
    except (TypeError, ValueError) as error:
        # The models hold copies, but what is inside a dict can be reached and changed.
        raise InvalidRequest("workflow_params", f"was changed into what is not JSON: {error}") from None
    if len(encoded) > limit:
        raise InvalidRequest("request", f"must be at most {limit} bytes as JSON")
    return encoded.decode()


def _max_bytes() -> int:
    setting = os.environ.get("OUTBOX_MAX_REQUEST_BYTES") or str(_DEFAULT_MAX_BYTES)
    try:
        return int(setting)
    except ValueError:
        raise OutboxError(f"OUTBOX_MAX_REQUEST_BYTES must be a whole number, not {setting!r}") from None


def current_trace() -> tuple[str | None, str | None]:
    """W3C ``traceparent`` and ``tracestate`` of OpenTelemetry's current span, if the caller uses it."""
    otel: Any = sys.modules.get("opentelemetry.trace")
    context = otel.get_current_span().get_span_context() if otel else None
    if context is None or not context.is_valid:
        return None, None
    state = context.trace_state.to_header()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    fits = 0 < len(state) <= _MAX_TRACESTATE and state.isascii() and state.isprintable()
    return parent, state if fits else None


def _reported(error: BaseException) -> tuple[str, str, str, str] | None:
    """State, message, column and detail of one of our own database errors, under whatever wraps it."""
    inner: Any = error
    while inner is not None:
        if getattr(inner, "sqlstate", None) in _OURS:
            if (diag := getattr(inner, "diag", None)) is not None:  # psycopg
                parts = (diag.message_primary, diag.column_name, diag.message_detail)
                return (inner.sqlstate, *(part or "" for part in parts))
            if hasattr(inner, "column_name"):  # asyncpg
                parts = (inner.message, inner.column_name, inner.detail)
                return (inner.sqlstate, *(part or "" for part in parts))
        inner = getattr(inner, "orig", None) or inner.__cause__
    return None


async def enqueue_create(
    conn: AsyncCaller,
    request: CreateSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for a schedule, in the caller's transaction.

    Args:
        conn: a SQLAlchemy ``AsyncSession`` or ``AsyncConnection``, or a psycopg ``AsyncConnection``.
        request: what to create.
        principal: whose it will be.
        idempotency_key: 1 to 255 characters, unique over the database: the same request under the same key
            gives the first intent again, for as long as that is kept. A key that another transaction is just
            using is waited for; under REPEATABLE READ and above that may end in Postgres' serialization
            failure (40001), to be retried as any other.
        traceparent: W3C trace context; default: OpenTelemetry's current span, where it is in use.
        tracestate: goes with ``traceparent``.

    Raises:
        InvalidRequest: naming the field; nothing was written.
        IdempotencyConflict: the key stands for a different request.
        OutboxError: the outbox is not there, or may not be used by this role.
    """
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return (await _enqueue(conn, Call.single(entry, CreateSchedule)))[0]


async def enqueue_update(
    conn: AsyncCaller,
    request: UpdateSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for fields of a live schedule to be changed; otherwise as ``enqueue_create``.

    The schedule keeps its owner, so the principal is only told to the stores as the one who calls.
    """
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return (await _enqueue(conn, Call.single(entry, UpdateSchedule)))[0]


async def enqueue_delete(
    conn: AsyncCaller,
    request: DeleteSchedule,
    *,
    principal: Principal,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Intent:
    """Ask for a schedule to be removed; otherwise as ``enqueue_create``."""
    entry = Entry(request, principal, idempotency_key, traceparent, tracestate)
    return (await _enqueue(conn, Call.single(entry, DeleteSchedule)))[0]


async def enqueue_many(conn: AsyncCaller, items: Iterable[Item]) -> list[Intent]:
    """Enqueue a batch in one round trip: all of it or, on the first bad one, nothing.

    The order of the items is the order in which intents of one schedule apply. Raises as ``enqueue_create``;
    an ``InvalidRequest`` has the item's ``index``.
    """
    return await _enqueue(conn, Call(items))


def is_of(conn: object, module: str, *names: str) -> bool:
    """Whether it is of one of the module's classes. Nobody has one who has not imported the module."""
    imported = sys.modules.get(module)
    return imported is not None and isinstance(conn, tuple(getattr(imported, name, ()) for name in names))


async def _enqueue(conn: Any, call: Call) -> list[Intent]:
    with call.errors():
        if is_of(conn, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
            return call.intents((await conn.execute(call.statement.sqlalchemy, {"asked": call.json})).all())
        if isinstance(conn, psycopg.AsyncConnection):
            async with conn.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(call.statement.psycopg, (call.json,))
                return call.intents(await cursor.fetchall())
    raise TypeError(
        "conn must be a SQLAlchemy AsyncSession or AsyncConnection, or a psycopg AsyncConnection "
        f"(for sync ones: outbox.sync), not {type(conn).__name__}"
    )
