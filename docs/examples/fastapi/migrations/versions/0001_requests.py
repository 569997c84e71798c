"""Who asked for what."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "requests",
        sa.Column("intent_id", sa.Uuid, primary_key=True),
        sa.Column("schedule_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index("requests_of_schedule", "requests", ["schedule_id", "intent_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("requests")
