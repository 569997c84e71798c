"""Databases for tests: one that is migrated and that nobody connects to, and copies of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from outbox.stack import StackInfo
from outbox.store.migrations import migrate

TEMPLATE = "outbox_template"
_MAX_REQUEST_BYTES = 262_144
_HASHES_AS_OFTEN_AS_TOLD = 160000
"""Since this version of Postgres."""

_lines: dict[str, psycopg.Connection] = {}


def database_url(stack: StackInfo, name: str) -> str:
    """Where a database of the stack's Postgres is."""
    return stack.database_url.rsplit("/", 1)[0] + "/" + name


def execute(stack: StackInfo, statement: sql.SQL | sql.Composed) -> None:
    """Run a statement as the owner, in a database of nobody's."""
    _line(stack.database_url).execute(statement)


def prepare_template(stack: StackInfo) -> str:
    """Make a migrated database to copy, in a Postgres that is tests' alone; returns its name."""
    # Copying is most of what tests ask of Postgres, and none of them pulls the plug.
    execute(stack, sql.SQL("ALTER SYSTEM SET fsync = off"))
    execute(stack, sql.SQL("ALTER SYSTEM SET full_page_writes = off"))
    _hash_the_password_once(stack)
    # A client that was cancelled while it connected leaves its server waiting for an answer, until it is
    # collected as garbage; and whoever drops a database waits for all servers.
    execute(stack, sql.SQL("ALTER SYSTEM SET authentication_timeout = '15s'"))
    execute(stack, sql.SQL("SELECT pg_reload_conf()"))
    execute(stack, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate(database_url(stack, TEMPLATE), max_request_bytes=_MAX_REQUEST_BYTES)
    return TEMPLATE


def _hash_the_password_once(stack: StackInfo) -> None:
    """Hash the owner's password once, not 4,096 times: half of what connecting takes is that."""
    known = conninfo_to_dict(stack.database_url)
    role, password = sql.Identifier(str(known["user"])), sql.Literal(str(known["password"]))
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        if connection.info.server_version >= _HASHES_AS_OFTEN_AS_TOLD:
            connection.execute("SET scram_iterations = 1")
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))


@contextmanager
def copied(stack: StackInfo, template: str, *, strategy: LiteralString = "file_copy") -> Iterator[str]:
    """The URL of a copy of a database, for as long as the context is open."""
    name, original = sql.Identifier(f"test_{uuid4().hex}"), sql.Identifier(template)
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}")
    execute(stack, create.format(name, original, sql.SQL(strategy)))
    try:
        yield database_url(stack, name.as_string()[1:-1])
    finally:
        execute(stack, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def copied_outbox(stack: StackInfo, template: str) -> Iterator[str]:
    """The URL of a copy of a migrated database that is an outbox of its own, too."""
    with copied(stack, template) as url:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE outbox.instance SET id = gen_random_uuid()")
        yield url


def hang_up() -> None:
    """Close what has been kept open."""
    while _lines:
        _lines.popitem()[1].close()


def _line(url: str) -> psycopg.Connection:
    """The one connection for all that is asked so, as making one takes longer than a copy."""
    line = _lines.pop(url, None)
    if line is None or not _answers(line):
        line = psycopg.connect(url, autocommit=True)
    _lines[url] = line
    return line


def _answers(line: psycopg.Connection) -> bool:
    """Whether its server has not been restarted since."""
    try:
        line.execute("SELECT 1")
    except psycopg.OperationalError:
        line.close()
        return False
    return True
