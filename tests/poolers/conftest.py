"""A test's own database behind a pooler with three sessions, fewer than any test has connections."""

from collections.abc import Iterator

import pytest

from tests.poolers.bouncer import pooled
from tests.poolers.debian import NoPgBouncerError, pgbouncer
from tests.store.conftest import enqueue, query

__all__ = ["enqueue", "query"]

SESSIONS = 3


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    """The URL of the test's database through a pooler of transactions."""
    try:
        pgbouncer()
    except NoPgBouncerError as error:
        pytest.fail(str(error))
    with pooled(database, sessions=SESSIONS) as url:
        yield url
