"""From one revision to the next and back, with what a database holds and who may do what there."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import tuple_row

import outbox
from outbox.store import migrations

CREATE = outbox.CreateSchedule(agent_id="a", name="n", workflow_name="W", task_queue="q", interval_seconds=60)
UPDATE = outbox.UpdateSchedule(agent_id="a", name="n", paused=True)
ALICE = outbox.Principal(user_id="alice")
BEFORE, AFTER = "0001", "0002"


def to(url: str, revision: str) -> None:
    migrations.migrate(url, max_request_bytes=262_144, revision=revision)


def functions(url: str) -> dict[str, str]:
    """Each function of the outbox, by its signature, with its definition and who may call it."""
    statement = """
        SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
          FROM pg_proc p WHERE p.pronamespace = 'outbox'::regnamespace AND p.prokind = 'f'
    """
    with psycopg.connect(url, row_factory=tuple_row) as connection:
        return dict(connection.execute(statement).fetchall())


def columns(url: str) -> set[tuple[str, ...]]:
    statement = """
        SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
         WHERE table_schema = 'outbox'
    """
    with psycopg.connect(url, row_factory=tuple_row) as connection:
        return set(connection.execute(statement).fetchall())


@pytest.mark.parametrize(("before", "after"), [("0001", "0002"), ("0002", "0003"), ("0003", "0004")])
def test_up_and_down_again_leaves_all_as_it_was(empty_database: str, before: str, after: str) -> None:
    to(empty_database, before)
    was = functions(empty_database), columns(empty_database)
    to(empty_database, after)
    assert functions(empty_database) != was[0]
    to(empty_database, before)
    assert functions(empty_database).keys() == was[0].keys()
    assert functions(empty_database) == was[0]
    assert columns(empty_database) == was[1]


@pytest.fixture
def role(empty_database: str) -> Iterator[str]:
    name = f"Worker {uuid4().hex[:8]}"
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        yield name
        owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_who_may_call_a_function_may_call_the_one_that_takes_its_place(
    empty_database: str, role: str
) -> None:
    to(empty_database, BEFORE)
    with psycopg.connect(empty_database, autocommit=True) as owner:
        for granted in (
            "claim(jsonb, jsonb, float8, float8, float8)",
            "settle(jsonb, jsonb, float8, float8, float8, float8, boolean)",
            "unpublished(integer)",
        ):
            grant = sql.SQL("GRANT EXECUTE ON FUNCTION outbox.{} TO {}")  # a signature is no identifier
            owner.execute(grant.format(sql.SQL(granted), sql.Identifier(role)))
    to(empty_database, AFTER)
    callable_by_role = "SELECT p.proname FROM pg_proc p WHERE has_function_privilege(%s, p.oid, 'EXECUTE')"
    with psycopg.connect(empty_database, row_factory=tuple_row) as connection:
        found = connection.execute(
            f"{callable_by_role} AND p.pronamespace = 'outbox'::regnamespace".encode(), (role,)
        ).fetchall()
    assert {name for (name,) in found} == {"claim", "settle", "unpublished", "to_publish"}
    to(empty_database, BEFORE)
    with psycopg.connect(empty_database, row_factory=tuple_row) as connection:
        found = connection.execute(
            f"{callable_by_role} AND p.pronamespace = 'outbox'::regnamespace".encode(), (role,)
        ).fetchall()
    assert {name for (name,) in found} == {"claim", "settle", "unpublished"}


def test_there_is_no_way_back_once_a_schedule_was_updated(empty_database: str) -> None:
    to(empty_database, AFTER)
    with psycopg.connect(empty_database) as connection:
        outbox.sync.enqueue_update(connection, UPDATE, principal=ALICE)
    with pytest.raises(RuntimeError, match="have been updated"):
        to(empty_database, BEFORE)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT version_num FROM outbox.alembic_version").fetchone() == (AFTER,)


def test_what_a_database_holds_stays(empty_database: str) -> None:
    to(empty_database, BEFORE)
    with psycopg.connect(empty_database) as connection:
        before = outbox.sync.enqueue_create(connection, CREATE, principal=ALICE)
    to(empty_database, AFTER)
    with psycopg.connect(empty_database) as connection:
        outbox.sync.enqueue_update(connection, UPDATE, principal=ALICE)
        claim = """SELECT intent_id FROM outbox.claim('{"authz": 9, "temporal": 9}', '{}', 30, 10, 5, true)"""
        assert connection.execute(claim).fetchall() == [(before.id,)]
