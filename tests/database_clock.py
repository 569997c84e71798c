"""The time of day as Postgres alone sees it: libfaketime, loaded into the servers of an embedded stack."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import psutil  # type: ignore[import-untyped]

from outbox.stack import postgres
from tests.debian import unpacked

HOUR = 3600


class DatabaseClock:
    """A clock that is right at first, for the Postgres servers that are started while it is ``worn``.

    Only the time of day is off: what waits for so many seconds waits for so many.

    Args:
        file: says by how much.

    Raises:
        NotToBeHadError: there is no libfaketime.
    """

    def __init__(self, file: Path) -> None:
        self._library = next(unpacked("libfaketime").rglob("libfaketime.so.1"))
        self._file = file
        self._write(0)

    def step(self, seconds: int) -> None:
        """Set it forward by so many seconds, or back."""
        self._write(int(re.sub(r"^\+", "", self._file.read_text())) + seconds)

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Inside, a Postgres that starts goes by this clock."""
        usual = postgres._environment
        wrong = {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        _tidy()
        try:
            with patch.object(postgres, "_environment", lambda: usual() | wrong):
                yield
        finally:
            _tidy()

    def _write(self, offset: int) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{offset:+d}")
        # In one step: a server that finds it empty would be right again for a moment.
        draft.replace(self._file)


def _tidy() -> None:
    """Remove what processes that are gone left behind: one that gets such a one's id would not start."""
    for path in Path("/dev/shm").glob("*faketime_*_*"):
        if not psutil.pid_exists(int(path.name.rpartition("_")[2])):
            path.unlink(missing_ok=True)
