"""Login roles of a test's own, with the rights of an outbox role or with none."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from outbox.store.grants import GRANTS

ROLES = ("outbox_producer", "outbox_worker", "outbox_operator")


@contextmanager
def login_role(database: str, role: str | None) -> Iterator[str]:
    """The database's URL for a login role that is a member of this one alone; None: it may only connect."""
    login = f"login_{uuid4().hex[:8]}"
    name = sql.Identifier(login)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(GRANTS.encode())
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(name))
        if role is not None:
            owner.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), name))
        server = urlsplit(database)
        yield server._replace(netloc=f"{login}:x@{server.hostname}:{server.port}").geturl()
        owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
        owner.execute(sql.SQL("DROP ROLE {}").format(name))


@contextmanager
def connected_as(database: str, role: str | None) -> Iterator[psycopg.Connection]:
    """A connection of such a role."""
    with login_role(database, role) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection
        connection.execute("DISCARD TEMP")
