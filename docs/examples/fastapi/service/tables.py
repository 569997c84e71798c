"""The service's own tables."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Index, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What Alembic compares the database with."""


class Asked(Base):
    """Who asked for what: written in the transaction that enqueues the intent."""

    __tablename__ = "requests"
    __table_args__ = (Index("requests_of_schedule", "schedule_id", "intent_id"),)

    intent_id: Mapped[UUID] = mapped_column(primary_key=True)
    schedule_id: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
