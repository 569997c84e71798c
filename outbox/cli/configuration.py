"""The settings that a command works with: the environment's, or else the running embedded stack's."""

import getpass
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.settings import Settings

_STORES = frozenset({"database_url", "spicedb_endpoint", "temporal_address"})


def load_settings() -> "Settings":
    """Read the settings.

    Where none of the three stores is set, the embedded stack of ``OUTBOX_HOME`` fills them in if it runs,
    so that ``outbox up --detach`` is all the set-up that a first try needs.
    """
    from outbox.settings import Settings  # noqa: PLC0415 - help and completion need none

    settings = Settings()
    if settings.model_fields_set & _STORES or importlib.util.find_spec("psutil") is None:
        return settings
    # psutil comes with the embedded stack; without it there can't be one running from this environment.
    from outbox.stack import Stack, default_home  # noqa: PLC0415

    info = Stack(default_home()).info() if default_home().is_dir() else None
    if info is None:
        return settings
    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in info.environment().items()}
    return Settings.model_validate(found | settings.model_dump(include=settings.model_fields_set))


def acting(settings: "Settings") -> str:
    """Who acts, as it is written down: who is set, or else the user of the operating system."""
    if settings.operator:
        return settings.operator
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"user {os.getuid()}"
