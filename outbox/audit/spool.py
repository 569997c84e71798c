"""Sorts what the stores list by schedule id, whatever there is of it, in little memory.

SQLite keeps it in a temporary file that has no name: it is gone with the process, however that ends.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import groupby
from types import TracebackType
from typing import Self

from outbox.audit.comparison import Holding, Observed, Scheduled
from outbox.errors import StoreUnusable

_AT_ONCE = 1000
_SPICEDB, _TEMPORAL = 1, 2
_Row = tuple[str, int, str | None, str | None]


class Spool:
    """Takes in what SpiceDB and Temporal hold in any order, and gives it back by schedule id.

    Raises:
        StoreUnusable: of any method, there is no room for the file.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        # Nothing here outlives the process: no journal, no waiting for the disk.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE seen (name TEXT, store INTEGER, what TEXT, instance TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._database.close()

    async def add_holdings(self, holdings: AsyncIterator[tuple[str, Holding]]) -> None:
        """Take in all of SpiceDB's."""
        rows = ((name, _SPICEDB, "\n".join(held.relationships), None) async for name, held in holdings)
        await self._add(rows)

    async def add_schedules(self, schedules: AsyncIterator[tuple[str, Scheduled]]) -> None:
        """Take in all of Temporal's."""
        await self._add((name, _TEMPORAL, found.stamp, found.instance) async for name, found in schedules)

    def observed(self) -> Iterator[tuple[str, Observed]]:
        """Give back what was taken in, one observed for each name, in the order of the names' bytes."""
        for name, found in groupby(self._sorted(), key=lambda row: row[0]):
            what = {store: (text, instance) for _, store, text, instance in found}
            yield (
                name,
                Observed(
                    Holding(frozenset(what[_SPICEDB][0].split("\n"))) if _SPICEDB in what else Holding(),
                    Scheduled(*what[_TEMPORAL]) if _TEMPORAL in what else None,
                ),
            )

    def _sorted(self) -> Iterator[tuple[str, int, str, str | None]]:
        with _telling_of_the_file():
            yield from self._database.execute(
                "SELECT name, store, what, instance FROM seen ORDER BY name, store"
            )

    async def _add(self, rows: AsyncIterator[_Row]) -> None:
        batch: list[_Row] = []
        async for row in rows:
            batch.append(row)
            if len(batch) == _AT_ONCE:
                self._write(batch)
                batch.clear()
        self._write(batch)

    def _write(self, batch: list[_Row]) -> None:
        with _telling_of_the_file():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO seen VALUES (?, ?, ?, ?)", batch)
            self._database.execute("COMMIT")


@contextmanager
def _telling_of_the_file() -> Iterator[None]:
    """Say of what fails inside that it is the file, and how to have it elsewhere."""
    try:
        yield
    except sqlite3.OperationalError as error:
        message = (
            f"the audit's temporary file can't be written: {error} (SQLITE_TMPDIR names a folder with room)"
        )
        raise StoreUnusable(message, reachable=False) from error
