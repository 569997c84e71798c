"""The outbox: tables, the producers' intake, the workers' claim and settle, the operators' views."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).parent.parent / "sql"


PARTS = (
    "tables",
    "turns",
    "waking",
    "validation",
    "intake",
    "floors",
    "breakers",
    "halts",
    "room",
    "claiming",
    "settling",
    "questions",
    "dispatching",
    "publishing",
    "reads",
    "failures",
    "operating",
    "waves",
    "operations",
    "retention",
    "auditing",
    "continuous_audit",
    "presence",
    "watching",
)


def upgrade() -> None:
    for part in PARTS:
        run(f"{revision}_{part}.sql")
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox FROM PUBLIC")


def downgrade() -> None:
    run(f"{revision}_drop.sql")


def run(name: str) -> None:
    # Straight to the driver: it takes a script of several statements, and leaves its % alone.
    op.get_bind().connection.cursor().execute((SQL / name).read_text("utf-8"))
