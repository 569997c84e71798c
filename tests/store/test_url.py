"""One URL means the same to the pool, to migrations, to the wake-ups and to whoever waits."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from outbox.store.url import conninfo, parameters

SEVERAL = {"user": "u", "host": "h1,h2", "port": "5432,5433", "dbname": "app"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h1:5432,h2:5433/app", SEVERAL),
        ("postgresql+psycopg://u@/app?host=h1:5432&host=h2:5433", SEVERAL),
        ("postgres://u@h1,h2/app", {"user": "u", "host": "h1,h2", "port": ",", "dbname": "app"}),
        ("postgresql:///app?host=h1&host=h2", {"host": "h1,h2", "dbname": "app"}),
        ("postgresql:///app?host=h1&host=h2:5433", {"host": "h1,h2", "port": ",5433", "dbname": "app"}),
        ("postgresql:///app?host=/run/pg&port=5433", {"host": "/run/pg", "port": "5433", "dbname": "app"}),
        (
            "postgresql+asyncpg://u:a%40b@h/app",
            {"user": "u", "password": "a@b", "host": "h", "dbname": "app"},
        ),
        (
            "postgresql://h1,h2/app?target_session_attrs=read-write",
            {"host": "h1,h2", "port": ",", "dbname": "app", "target_session_attrs": "read-write"},
        ),
    ],
)
def test_every_spelling_is_read_as_libpq_reads_it(url: str, expected: dict[str, str]) -> None:
    assert parameters(url) == expected
    assert conninfo_to_dict(conninfo(url)) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("host=h dbname=app password=secret", "OUTBOX_DATABASE_URL is not a URL"),
        ("mysql://u:secret@h/app", "OUTBOX_DATABASE_URL names mysql"),
        ("postgresql://u:secret@[h/app", "OUTBOX_DATABASE_URL is not a URL that libpq takes"),
        ("postgresql://h/app?pasword=secret", "OUTBOX_DATABASE_URL is not a URL that libpq takes"),
        ("postgresql://u:sec@ret@h/app", "write an @ in the user's name or password as %40"),
    ],
)
def test_what_is_none_is_refused_without_being_repeated(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match="OUTBOX_DATABASE_URL") as refused:
        parameters(url)
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sec@ret" not in str(refused.value)
