"""Least privilege: each role can do its work, and nothing else; found out by trying."""

from collections.abc import Iterator
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from outbox.store.grants import GRANTS
from outbox.store.migrations import migrate
from tests.store.roles import connected_as

REQUEST = (
    """'{"agent_id": "a", "name": "n", "workflow_name": "W", "task_queue": "q", "interval_seconds": 60}'"""
)
CLAIM = """SELECT * FROM outbox.claim('{"authz": 1}', '{}', 30, 10, 5)"""
SETTLE = "SELECT * FROM outbox.settle('[]', '{}', 1, 1, 1, 1, false)"
RECLAIM = "SELECT outbox.request_reclaim('a--b', gen_random_uuid(), '{}', '{}')"
# What changes something without a line in the list of operations.
UNRECORDED = (
    "SELECT outbox.replay(gen_random_uuid(), false, false)",
    "SELECT outbox.discard(gen_random_uuid(), 'why')",
    "SELECT outbox.request_repair('a--b', false)",
    RECLAIM,
    "SELECT outbox.hold('authz', NULL, 'alice', 'why')",
    "SELECT outbox.release('authz')",
    "SELECT outbox.prune(now(), '{}')",
)
TABLES = (
    "intents",
    "events",
    "attempts",
    "queue",
    "lanes",
    "budgets",
    "breakers",
    "limits",
    "audit",
    "drifts",
    "halts",
    "operations",
    "failures",
    "replays",
    "replay_items",
    "workers",
    "alembic_version",
)


@pytest.fixture
def role(request: pytest.FixtureRequest, database: str) -> Iterator[psycopg.Connection]:
    """A connection of a login role that is a member of the asked one and of nothing else."""
    with connected_as(database, request.param) as connection:
        yield connection


def refused(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def allowed(connection: psycopg.Connection, statement: str) -> None:
    connection.execute(statement.encode())


@pytest.mark.parametrize("role", ["outbox_producer"], indirect=True)
def test_a_producer_may_only_enqueue_and_wait(role: psycopg.Connection) -> None:
    allowed(role, f"SELECT * FROM outbox.enqueue({REQUEST}::jsonb)")
    allowed(role, f"SELECT * FROM outbox.enqueue_many(jsonb_build_array({REQUEST}::jsonb))")
    allowed(role, "SELECT * FROM outbox.intent_result(gen_random_uuid())")
    allowed(role, "SELECT * FROM outbox.awaited_result(gen_random_uuid())")
    for table in TABLES:
        refused(role, f"SELECT * FROM outbox.{table}")
        refused(role, f"DELETE FROM outbox.{table}")
    for statement in (CLAIM, SETTLE, "SELECT outbox.pending(true)", "SELECT outbox.standing('x', 'y')"):
        refused(role, statement)
    refused(role, "INSERT INTO outbox.queue (intent_id) VALUES (gen_random_uuid())")
    refused(role, "CREATE TABLE outbox.mine (x int)")


@pytest.mark.parametrize("role", ["outbox_worker"], indirect=True)
def test_a_worker_may_only_claim_and_settle(role: psycopg.Connection) -> None:
    allowed(role, CLAIM)
    allowed(role, SETTLE)
    allowed(role, "SELECT outbox.pending(true)")
    allowed(role, "SELECT outbox.standing('x', 'y')")
    allowed(role, "SELECT * FROM outbox.alembic_version")
    allowed(role, "SELECT * FROM outbox.audit_take(1, 1)")
    allowed(role, "SELECT * FROM outbox.audit_add('{}', 1, '{}', '[]')")
    allowed(role, "SELECT outbox.audit_pass('spicedb', '', 'x')")
    allowed(role, "SELECT * FROM outbox.audited_lanes('{a--b}')")
    allowed(role, "SELECT * FROM outbox.lane_of('{}')")
    allowed(role, "SELECT outbox.request_repair('a--b', false)")
    allowed(role, "SELECT outbox.take_turn_to_publish()")
    allowed(role, "SELECT outbox.check_in(gen_random_uuid(), 'h', 1, '1', 'direct', '{authz}', 0)")
    allowed(role, "SELECT outbox.check_out(gen_random_uuid())")
    for table in TABLES:
        refused(role, f"DELETE FROM outbox.{table}")
        if table != "alembic_version":
            refused(role, f"SELECT * FROM outbox.{table}")
    refused(role, f"SELECT * FROM outbox.enqueue({REQUEST}::jsonb)")
    for statement in UNRECORDED:
        if "request_repair" not in statement:
            refused(role, statement)
    refused(role, "SELECT outbox.settle_breakers('[]', now())")
    refused(role, "UPDATE outbox.queue SET state = 'parked'")


@pytest.mark.parametrize("role", ["outbox_operator"], indirect=True)
def test_an_operator_may_read_and_enqueue(role: psycopg.Connection) -> None:
    for table in TABLES:
        allowed(role, f"SELECT * FROM outbox.{table}")
        refused(role, f"DELETE FROM outbox.{table}")
    allowed(role, "SELECT * FROM outbox.intent_status")
    allowed(role, f"SELECT * FROM outbox.enqueue({REQUEST}::jsonb)")
    allowed(role, "SELECT * FROM outbox.audited_lanes(ARRAY(SELECT outbox.lanes_after('', '', 10)))")
    for statement in UNRECORDED:
        refused(role, statement)
    allowed(role, "SELECT outbox.replay_by('alice', 'why', gen_random_uuid(), false, false)")
    allowed(role, "SELECT outbox.discard_by('alice', 'why', gen_random_uuid())")
    allowed(role, "SELECT outbox.repair_by('alice', 'why', 'a--b', false)")
    allowed(role, "SELECT outbox.reclaim_by('alice', 'why', 'a--b', gen_random_uuid(), '{}', '{}')")
    allowed(role, "SELECT outbox.hold_by('alice', 'why', 'authz', NULL)")
    allowed(role, "SELECT outbox.release_by('alice', 'why', 'authz')")
    allowed(role, "SELECT * FROM outbox.prunable(now(), gen_random_uuid(), 10)")
    allowed(role, "SELECT outbox.prune_batch(outbox.begin_prune('alice', 'why', now()), now(), '{}')")
    allowed(role, "SELECT outbox.prune_operations('-infinity', 10)")
    allowed(role, "SELECT outbox.plan_replay('alice', 'why', '{}', false, '{1}', 0.2)")
    allowed(role, "SELECT outbox.start_replay('alice', 'why', 1)")
    allowed(role, "SELECT outbox.abort_replay('alice', 'why', 1)")
    refused(role, "SELECT outbox.carry_on_replays()")
    allowed(role, "SELECT * FROM outbox.prune_lanes(now(), '', 10)")
    refused(role, "SELECT * FROM outbox.audit_take(1, 1)")
    refused(role, CLAIM)
    refused(role, SETTLE)


@pytest.mark.parametrize("role", [None], indirect=True)
def test_what_has_no_role_may_do_nothing(role: psycopg.Connection) -> None:
    for statement in (f"SELECT * FROM outbox.enqueue({REQUEST}::jsonb)", CLAIM, "SELECT * FROM outbox.queue"):
        refused(role, statement)


def functions(connection: psycopg.Connection, condition: LiteralString) -> set[str]:
    query = f"SELECT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace AND {condition}"
    return {str(row[0]) for row in connection.execute(query)}


def test_every_function_with_its_owners_rights_pins_its_search_path(database: str) -> None:
    with psycopg.connect(database) as connection:
        entrusted = functions(connection, "prosecdef")
        pinned = functions(connection, "prosecdef AND 'search_path=pg_catalog, pg_temp' = ANY(proconfig)")
    assert entrusted == pinned
    assert {"enqueue", "enqueue_many", "claim", "settle", "standing", "pending", "intent_result"} <= entrusted


def test_an_owner_who_may_make_no_roles_grants_to_those_that_there_are(
    database: str, empty_database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as elsewhere:
        elsewhere.execute(GRANTS.encode())  # roles are the cluster's
    owner = f"owner_{uuid4().hex[:8]}"
    name = sql.Identifier(owner)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(name))
        place = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(place, name))
        migrate(f"{empty_database}?options=-crole%3D{owner}", max_request_bytes=1000, grant=True)
        admin.execute("SET ROLE outbox_worker")
        allowed(admin, CLAIM)
        admin.execute("RESET ROLE")
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
        admin.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_downgrade_takes_the_grants_along(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(GRANTS.encode())
        connection.execute(GRANTS.encode())  # may be run again
    assert migrate(database, max_request_bytes=1, revision="base") == ("0004", None)
