"""A look at a run of updates can take back what it finds of it: it is handed what was before.

Expands only: a worker of the version before reads of a look's definition nothing, save where its intent is
discarded, and there it is what it was.
"""

from pathlib import Path
from types import ModuleType
from typing import cast

from alembic import op
from alembic.runtime.environment import EnvironmentContext

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"
BEFORE = "0002"


def upgrade() -> None:
    before().run((SQL / f"{revision}_questions.sql").read_text("utf-8"))


def downgrade() -> None:
    statement = before().definition(before().script_of(BEFORE, "questions"), "steps")
    before().run(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))


def before() -> ModuleType:
    """The revision that made the function; it has what reads a script and runs it."""
    environment = cast(EnvironmentContext, op.get_context().environment_context)
    return environment.script.get_revision(BEFORE).module
