"""Who works says so: cheaply, and without anybody waiting for it."""

from uuid import uuid4

import psycopg

from outbox.compose.presence import present
from outbox.settings import Settings

CHECK_IN = "SELECT outbox.check_in(%s, 'host', 1, '1.0', 'direct', '{authz}', 60)"
UPDATED = """
    SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_all_tables WHERE relid = 'outbox.workers'::regclass
"""


def test_saying_so_again_moves_no_index(database: str) -> None:
    with psycopg.connect(database) as connection:
        process = uuid4()
        for _ in range(4):
            connection.execute(CHECK_IN, (process,))
        assert connection.execute(UPDATED).fetchone() == (3, 3)
        (row,) = connection.execute(
            "SELECT seen_at - started_at >= interval '60 seconds', present FROM outbox.seen_workers"
        ).fetchall()
        assert row == (True, True)


def test_whoever_comes_clears_away_who_has_long_gone(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(CHECK_IN, (uuid4(),))
        connection.execute("UPDATE outbox.workers SET seen_at = now() - interval '2 hours'")
        assert connection.execute("SELECT count(*) FROM outbox.seen_workers").fetchone() == (0,)
        connection.execute(CHECK_IN, (uuid4(),))
        assert connection.execute("SELECT count(*) FROM outbox.workers").fetchone() == (1,)


async def test_where_it_can_not_be_said_the_work_goes_on() -> None:
    done = False
    async with present(Settings.model_validate({"database_url": "postgresql://x@127.0.0.1:1/x"}), ["authz"]):
        done = True
    assert done
