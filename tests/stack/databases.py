"""Databases of a test's own, copied from one that is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from outbox.stack import StackInfo

_lines: dict[str, psycopg.Connection] = {}


def database_url(stack: StackInfo, name: str) -> str:
    return stack.database_url.rsplit("/", 1)[0] + "/" + name


def execute(stack: StackInfo, statement: sql.SQL | sql.Composed) -> None:
    """As the owner, in a database of nobody's."""
    _line(stack.database_url).execute(statement)


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
