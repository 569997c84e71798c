"""A look at a run of updates can take back what it finds of it: it is handed what was before.

Expands only: a worker of the version before reads of a look's definition nothing, save where its intent is
discarded, and there it is what it was.
"""

from types import ModuleType
from typing import cast

from alembic import op
from alembic.runtime.environment import EnvironmentContext

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BEFORE = "0002"


def upgrade() -> None:
    before().run(before().script_of(revision, "questions"))


def downgrade() -> None:
    before().put_back(BEFORE, "questions", "steps")


def before() -> ModuleType:
    """The revision that made the function; it has what reads a script and runs it."""
    environment = cast(EnvironmentContext, op.get_context().environment_context)
    return environment.script.get_revision(BEFORE).module
