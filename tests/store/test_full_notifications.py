"""A queue of notifications that a stranger has filled: whoever notifies fails, and nothing of ours does."""

from collections.abc import Iterator

import psycopg
import pytest

from outbox.stack import Stack
from outbox.store.migrations import migrate
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack
from tests.store.roles import connected_as

FLOOD = "DO $$ BEGIN LOOP PERFORM pg_notify('anything', repeat('x', 7000)); COMMIT; END LOOP; END $$"
CLAIM = """SELECT FROM outbox.claim('{"temporal": 1}', '{}', 30, 10, 5)"""
PARK = """
SELECT outbox.settle(jsonb_build_array(jsonb_build_object(
           'intent_id', q.intent_id, 'lease_number', 1, 'event_type', q.event_type, 'attempt', 1,
           'consumer', 'temporal', 'action', 'park', 'terminal', false, 'waits', false, 'strike', false,
           'error_code', 'unexpected', 'error_message', 'x')), '{}', 1, 1, 1, 1, true)
  FROM outbox.queue q
"""


@pytest.fixture
def database() -> Iterator[str]:
    """A database on a server of the test's own, whose queue of notifications is soon full."""
    with folder() as home, LazyStack(home) as lazy:
        url = lazy.info.database_url
        with psycopg.connect(url, autocommit=True) as connection:
            if connection.info.server_version < 170000:
                pytest.skip("before Postgres 17 it holds 8 GB whatever is set")
            connection.execute("ALTER SYSTEM SET max_notify_queue_pages = 64")
        stack = Stack(home)
        stack.stop("postgres")
        stack.start("postgres")
        migrate(url, max_request_bytes=262_144)
        yield url


def test_a_full_queue_of_notifications_fails_neither_producers_nor_claims_nor_settles(database: str) -> None:
    with (
        connected_as(database, None) as listener,
        connected_as(database, None) as flood,
        connected_as(database, "outbox_producer") as producer,
        connected_as(database, "outbox_worker") as worker,
    ):
        listener.execute("LISTEN anything")
        with listener.transaction():
            listener.execute("SELECT 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                flood.execute(FLOOD)
            request = """'{"kind": "delete", "agent_id": "a", "name": "n"}'"""
            (intent,) = (
                producer.execute(f"SELECT id FROM outbox.enqueue({request})".encode()).fetchone() or ()
            )
            worker.execute(CLAIM)
            producer.execute("SELECT outbox.awaited_result(%s)", (intent,))
            with psycopg.connect(database, autocommit=True) as owner:
                owner.execute(PARK)
            result = producer.execute("SELECT status FROM outbox.intent_result(%s)", (intent,)).fetchone()
            assert result == ("parked",)
