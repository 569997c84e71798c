"""Login roles of a test's own, with the rights of an outbox role or with none."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

from outbox.store.grants import GRANTS

ROLES = ("outbox_producer", "outbox_worker", "outbox_operator")


@contextmanager
def connected_as(database: str, role: str | None) -> Iterator[psycopg.Connection]:
    """A connection of a login role that is a member of this one alone; None: it may only connect."""
    name = sql.Identifier(f"login_{uuid4().hex[:8]}")
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(GRANTS.encode())
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(name))
        if role is not None:
            owner.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), name))
        login = name.as_string()[1:-1]
        with psycopg.connect(database, user=login, password="x", autocommit=True) as connection:
            yield connection
            connection.execute("DISCARD TEMP")
        owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
        owner.execute(sql.SQL("DROP ROLE {}").format(name))
