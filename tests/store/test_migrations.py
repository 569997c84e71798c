"""Migrating: beside an application's own Alembic, from two hosts at once, up, down and up again."""

import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from outbox.store import migrations
from outbox.store.engine import sync_engine

APPLICATION = """
from alembic import op
revision = "app1"
down_revision = None
def upgrade():
    op.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    op.execute("INSERT INTO orders VALUES (1)")
def downgrade():
    op.execute("DROP TABLE orders")
"""
APPLICATION_ENV = """
from alembic import context
connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""


def up(url: str) -> tuple[str | None, str | None]:
    return migrations.migrate(url, max_request_bytes=262_144)


def names(url: str) -> set[str]:
    """Everything that the outbox has in the database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('outbox') "
            "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('outbox')"
        )
        return {str(row[0]) for row in rows}


def test_up_down_and_up_beside_an_applications_own_alembic(empty_database: str, tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "app1.py").write_text(APPLICATION)
    (tmp_path / "env.py").write_text(APPLICATION_ENV)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    engine = sync_engine(empty_database)

    def application(action: str) -> None:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            (command.upgrade if action == "head" else command.downgrade)(config, action)

    application("head")
    assert up(empty_database) == (None, "0004")
    assert up(empty_database) == ("0004", "0004")
    first = names(empty_database)
    assert migrations.migrate(empty_database, max_request_bytes=1, revision="base") == ("0004", None)
    assert names(empty_database) == {"alembic_version", "alembic_version_pkc"}
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM public.alembic_version")) == "app1"
        assert connection.scalar(text("SELECT count(*) FROM orders")) == 1
    assert up(empty_database) == (None, "0004")
    assert names(empty_database) == first
    application("base")
    assert names(empty_database) == first
    engine.dispose()


def test_two_hosts_may_migrate_at_once(empty_database: str) -> None:
    results: list[tuple[str | None, str | None]] = []
    hosts = [threading.Thread(target=lambda: results.append(up(empty_database))) for _ in range(4)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
    assert sorted(results, key=str) == [("0004", "0004")] * 3 + [(None, "0004")]


def test_the_limit_of_a_request_follows_the_setting(empty_database: str) -> None:
    migrations.migrate(empty_database, max_request_bytes=1000)
    migrations.migrate(empty_database, max_request_bytes=2000)
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT max_request_bytes FROM outbox.limits").fetchall() == [(2000,)]


def test_a_database_made_anew_is_told_which_outbox_it_is(empty_database: str) -> None:
    def known() -> object:
        with psycopg.connect(empty_database) as connection:
            (row,) = connection.execute("SELECT id FROM outbox.instance").fetchall()
            return row[0]

    up(empty_database)
    drawn = known()
    assert isinstance(drawn, UUID)
    told = uuid4()
    migrations.migrate(empty_database, max_request_bytes=1000, instance=told)
    assert known() == told
    up(empty_database)
    assert known() == told, "without a setting it stays"


def test_the_scripts_are_in_the_wheel_and_run_from_there(empty_database: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        # Without the marks no type checker of a user sees our types.
        assert {"outbox/py.typed", "consumers/py.typed"} <= set(archive.namelist())
    # Before the checkout and its editable install on the path.
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import os, outbox\n"
        "from outbox.store import migrations\n"
        f"assert outbox.__file__.startswith({str(installed)!r}), outbox.__file__\n"
        f"assert migrations.scripts().is_relative_to({str(installed)!r})\n"
        "print(migrations.migrate(os.environ['URL'], max_request_bytes=1000))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "URL": empty_database},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "(None, '0004')", run.stderr
