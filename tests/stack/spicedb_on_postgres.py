"""SpiceDB with its relationships in a Postgres of its own, as in production; the stack's has them in memory.

In memory it reads all relationships of a type for each call, which a hundred thousand make slow, and writes
come one after another. On Postgres reads have indexes, and writes meet.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import psycopg
from spicedb_embedded import ffi

from outbox.stack import Stack
from outbox.stack.component import Command
from outbox.stack.engine import Engine
from outbox.stack.spicedb import SpiceDB
from outbox.stack.spicedb_server import serve
from outbox.stack.stack import COMPONENTS
from outbox.stack.state import State
from tests.stack.lazy import LazyStack

_HERE = Path(__file__)
_URL = "SPICEDB_DATASTORE_URI"
_WRITERS = 8


class _OnPostgres(SpiceDB):
    """The stack's SpiceDB, but for what keeps its relationships."""

    module: ClassVar[str] = "tests.stack.spicedb_on_postgres"

    def __init__(self, url: str) -> None:
        self._url = url

    def command(self, home: Path, state: State) -> Command:
        """This module's server; the database's password travels in the environment."""
        usual = super().command(home, state)
        return replace(usual, env={**usual.env, _URL: self._url, "PYTHONPATH": str(_HERE.parents[2])})


@contextmanager
def spicedb_on_postgres(home: Path) -> Iterator[Stack]:
    """Inside, stacks that start have such a SpiceDB; its Postgres is that of another stack, in a folder."""
    with LazyStack(home) as servers:
        url = servers.info.database_url
        with psycopg.connect(url) as connection:
            connection.execute(_HERE.with_name("spicedb_datastore.sql").read_bytes())
        with patch.dict(COMPONENTS, {"spicedb": _OnPostgres(url)}):
            yield Stack(home)


def main() -> None:
    """Serve until a signal ends it."""
    port = int(sys.argv[2])
    engine = Engine(ffi.StartOptions(datastore="postgres", datastore_uri=os.environ[_URL]))
    asyncio.run(serve(engine, engine.call, port, os.environ["OUTBOX_SPICEDB_TOKEN"], writers=_WRITERS))
    engine.close()


if __name__ == "__main__":
    main()
