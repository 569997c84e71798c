"""A test's own database behind a pooler with three sessions, fewer than most tests have connections."""

from collections.abc import Iterator
from functools import cache

import pytest

from tests.debian import NotToBeHadError
from tests.poolers import bouncer, proxy
from tests.store.conftest import enqueue, query

__all__ = ["enqueue", "query"]

SESSIONS = 3


@cache
def instead() -> str | None:
    """Why the tests run on the pooler of our own; None: they run on PgBouncer."""
    try:
        bouncer.pgbouncer()
    except NotToBeHadError as error:
        return str(error)
    return None


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    """The URL of the test's database through a pooler of transactions."""
    pooled = proxy.pooled if instead() else bouncer.pooled
    with pooled(database, sessions=SESSIONS) as url:
        yield url


@pytest.fixture
def own_pooler(database: str) -> Iterator[str]:
    """The same through the one that stands in for PgBouncer."""
    with proxy.pooled(database, sessions=SESSIONS) as url:
        yield url
