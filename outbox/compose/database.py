"""The outbox's Postgres schema through the settings."""

from outbox.settings import Settings
from outbox.store import migrations


def migrate(
    settings: Settings, *, revision: str = "head", grant: bool = False
) -> tuple[str | None, str | None]:
    """Bring the database to a revision, its roles too if asked; returns the one before and the one after."""
    return migrations.migrate(
        settings.session_url,
        max_request_bytes=settings.max_request_bytes,
        publishes=settings.kafka_bootstrap is not None,
        instance=settings.instance,
        revision=revision,
        grant=grant,
    )
