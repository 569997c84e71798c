"""A ledger as years leave it, written by SQL: schedules that live, or that came and went."""

import json

import psycopg

from tests.bench.intake import OWNER, entry

_CHUNK = 250_000

# Schedule n is named as `entry(n)` names it, so that new requests meet lanes that are there already. Each
# intent was asked for a millisecond after the one before, long ago.
_MADE = """
    CREATE TEMP TABLE made ON COMMIT DROP AS
    SELECT n, outbox.first_id(at) AS id, at,
           'agent-' || mod(n, 1000) || '--nightly-' || n AS schedule_id,
           jsonb_build_object('agent_id', 'agent-' || mod(n, 1000), 'name', 'nightly-' || n) AS named
      FROM (SELECT n, timestamptz '2020-01-01Z' + (n + %(after)s) * interval '1 millisecond' AS at
              FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS numbers
"""
_INTENTS = """
    INSERT INTO outbox.intents (id, schedule_id, kind, request, creator, created_at)
    SELECT id, schedule_id, %(kind)s, %(request)s::jsonb || named, %(creator)s, at FROM made ORDER BY n
"""
_EVENTS = """
    INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number, zed_token)
    SELECT m.id, m.schedule_id, e.type, m.at + e.number * interval '20 milliseconds', e.consumer,
           CASE WHEN e.number > 1 THEN 1 END, nullif(e.number - 1, 0),
           CASE WHEN e.consumer = 'authz' THEN 'GhUKEzE3MzI4ODQxMjM0NTY3ODkwMTI=' END
      FROM made m
     CROSS JOIN unnest(%(types)s::text[], %(consumers)s::text[]) WITH ORDINALITY AS e (type, consumer, number)
     ORDER BY m.n, e.number
"""
_LANES = """
    INSERT INTO outbox.lanes (schedule_id, live_intent, updated_at)
    SELECT schedule_id, id, at FROM made ORDER BY n
"""
_ENDED = """
    UPDATE outbox.lanes l SET live_intent = NULL FROM made m WHERE l.schedule_id = m.schedule_id
"""
_CREATE = ("schedule.create.requested", "schedule.registered", "schedule.created")
_DELETE = ("schedule.delete.requested", "schedule.unscheduled", "schedule.deleted")


def write_schedules(url: str, schedules: int, *, deleted: bool = False) -> None:
    """Enter so many schedules that were created, with one intent each; or were deleted since, with two.

    As after years, it is vacuumed, and its statistics are there.
    """
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as line:
        line.execute("SET synchronous_commit = off")
        for first in range(0, schedules, _CHUNK):
            chunk = {"first": first, "last": min(first + _CHUNK, schedules) - 1}
            with line.transaction():
                _enter(line, {**chunk, "after": 0}, "create", _CREATE, ("authz", "temporal"))
                line.execute(_LANES)
            if deleted:
                with line.transaction():
                    _enter(line, {**chunk, "after": schedules}, "delete", _DELETE, ("temporal", "authz"))
                    line.execute(_ENDED)
        line.execute("VACUUM ANALYZE outbox.intents, outbox.events, outbox.lanes")


def _enter(
    line: psycopg.Connection,
    chunk: dict[str, int],
    kind: str,
    types: tuple[str, ...],
    consumers: tuple[str, ...],
) -> None:
    asked = {name: value for name, value in entry(0).to_json().items() if name != "kind"}
    line.execute(_MADE, chunk)
    line.execute(
        _INTENTS,
        {
            "kind": kind,
            "request": json.dumps(asked if kind == "create" else {}),
            "creator": json.dumps({"user_id": OWNER.user_id, "account_id": OWNER.account_id}),
        },
    )
    line.execute(_EVENTS, {"types": list(types), "consumers": [None, *consumers]})
