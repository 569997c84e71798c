"""Brings the schema ``outbox`` to its newest revision; safe from several hosts at once."""

from pathlib import Path
from uuid import UUID

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import outbox
from outbox.store.engine import sync_engine
from outbox.store.grants import GRANTS

# One host at a time: the second waits for the commit of the first, and finds the work done. The table is as
# Alembic would make it. Whoever made it just now, at the same time, has committed when that is found out.
_TAKE_TURN = text("""
    DO $$ BEGIN
        CREATE SCHEMA IF NOT EXISTS outbox;
        CREATE TABLE IF NOT EXISTS outbox.alembic_version (
            version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY
        );
    EXCEPTION WHEN unique_violation OR duplicate_schema OR duplicate_table THEN
        NULL;
    END $$;
    LOCK TABLE outbox.alembic_version IN SHARE ROW EXCLUSIVE MODE;
""")
_LIMIT = text("UPDATE outbox.limits SET max_request_bytes = :most WHERE max_request_bytes <> :most")
_INSTANCE = text("UPDATE outbox.instance SET id = :instance WHERE id <> :instance")
_PUBLISHES = text("UPDATE outbox.instance SET publishes = :publishes WHERE publishes <> :publishes")
_GRANT = text(GRANTS)
_VERSIONS = text("SELECT to_regclass('outbox.alembic_version') IS NOT NULL")


def scripts() -> Path:
    """Where the migration scripts are: in the package when installed, at the top level in a checkout."""
    package = Path(outbox.__file__).parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    # A percent sign in the path would be read as an interpolation.
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this version of the package needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"no migrations in {scripts()}")
    return head


def serves(found: str | None) -> bool:
    """Whether this version of the package works on a database of that revision.

    A newer one serves as well: each migration leaves what the version before it calls. Revisions are
    numbered, so their order is that of their names.
    """
    return found is not None and found >= newest()


def migrate(
    database_url: str,
    *,
    max_request_bytes: int,
    publishes: bool = False,
    instance: UUID | None = None,
    revision: str = "head",
    grant: bool = False,
) -> tuple[str | None, str | None]:
    """Upgrade (or downgrade) to a revision, in one transaction.

    Args:
        database_url: of the database.
        max_request_bytes: the largest request that may be enqueued.
        publishes: whether events are to be published.
        instance: which outbox this is; None: as the database has it.
        revision: ``head``, ``base`` or a revision's name.
        grant: whether to give each role what it needs of the newest revision.

    Returns:
        The revision before and the one after; None: the outbox isn't there.
    """
    engine = sync_engine(database_url)
    try:
        with engine.begin() as connection:
            connection.execute(_TAKE_TURN)
            before = _revision(connection)
            down = before is not None and (revision == "base" or revision < before)
            (command.downgrade if down else command.upgrade)(_config(connection), revision)
            after = _revision(connection)
            if after is not None:
                connection.execute(_LIMIT, {"most": max_request_bytes})
                connection.execute(_PUBLISHES, {"publishes": publishes})
                if instance is not None:
                    connection.execute(_INSTANCE, {"instance": instance})
            if grant:
                connection.execute(_GRANT)
            return before, after
    finally:
        engine.dispose()


def current(connection: Connection) -> str | None:
    """The revision that the database has; None: the outbox isn't there."""
    return _revision(connection) if connection.scalar(_VERSIONS) else None


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": "alembic_version", "version_table_schema": "outbox"}
    )
    return context.get_current_revision()
