"""Producers at SERIALIZABLE: two of them conflict no more than their own statements do.

Expands only: the functions that producers call take the places of those before, in the same shape.
"""

from types import ModuleType
from typing import cast

from alembic import op
from alembic.runtime.environment import EnvironmentContext

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

REPLACED = ("enqueue", "enqueue_many")


def upgrade() -> None:
    earlier().run(earlier().script_of(revision, "intake"))


def downgrade() -> None:
    for name in REPLACED:
        earlier().put_back("0001", "intake", name)


def earlier() -> ModuleType:
    """The revision before: it has what reads a script and runs it."""
    environment = cast(EnvironmentContext, op.get_context().environment_context)
    return environment.script.get_revision(down_revision).module
