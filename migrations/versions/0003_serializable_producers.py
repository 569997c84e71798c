"""Producers at SERIALIZABLE: two of them conflict no more than their own statements do.

Expands only: the functions that producers call take the places of those before, in the same shape.
"""

from pathlib import Path
from types import ModuleType
from typing import cast

from alembic import op
from alembic.runtime.environment import EnvironmentContext

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"
REPLACED = ("enqueue", "enqueue_many")


def upgrade() -> None:
    earlier().run((SQL / f"{revision}_intake.sql").read_text("utf-8"))


def downgrade() -> None:
    was = (SQL / "0001_intake.sql").read_text("utf-8")
    for name in REPLACED:
        statement = earlier().definition(was, name)
        earlier().run(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))


def earlier() -> ModuleType:
    """The revision before: it has what reads a script and runs it."""
    environment = cast(EnvironmentContext, op.get_context().environment_context)
    return environment.script.get_revision(down_revision).module
