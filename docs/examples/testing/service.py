"""A small service: people order reports, and each order has a schedule that an agent runs by."""

from uuid import UUID

from sqlalchemy import Column, MetaData, Table, Text, insert
from sqlalchemy.ext.asyncio import AsyncEngine

import outbox

metadata = MetaData()
reports = Table(
    "reports",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
)
AGENT = "agent-7"


async def order(engine: AsyncEngine, name: str, owner: str, cron: str = "0 9 * * *") -> UUID:
    """Order a report; returns the intent, to ask for its outcome."""
    wish = outbox.CreateSchedule(
        agent_id=AGENT, name=name, workflow_name="Report", task_queue="agents", cron_expression=cron
    )
    async with engine.begin() as connection:
        intent = await outbox.enqueue_create(connection, wish, principal=outbox.Principal(user_id=owner))
        await connection.execute(insert(reports).values(name=name, owner=owner))
    return intent.id


async def move(engine: AsyncEngine, name: str, owner: str, cron: str) -> UUID:
    """Have a report come at another time."""
    change = outbox.UpdateSchedule(agent_id=AGENT, name=name, cron_expression=cron)
    async with engine.begin() as connection:
        intent = await outbox.enqueue_update(connection, change, principal=outbox.Principal(user_id=owner))
    return intent.id


async def cancel(engine: AsyncEngine, name: str, owner: str) -> UUID:
    """Take an order back."""
    gone = outbox.DeleteSchedule(agent_id=AGENT, name=name)
    async with engine.begin() as connection:
        await connection.execute(reports.delete().where(reports.c.name == name))
        intent = await outbox.enqueue_delete(connection, gone, principal=outbox.Principal(user_id=owner))
    return intent.id
