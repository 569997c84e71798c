"""What a worker's counters should say, as the ledger has it."""

import psycopg

from outbox.flow.table import TERMINALS
from outbox.telemetry import catalogue

Values = dict[str, dict[tuple[str, ...], float]]
"""Of each metric by its name: the values by those of its labels."""

_ENDED = """
    SELECT count(*), i.kind, e.type, coalesce(e.error_code, '') FROM outbox.events e
      JOIN outbox.intents i ON i.id = e.intent_id WHERE e.type = ANY (%s) GROUP BY 2, 3, 4
"""
# What a claim writes of a lease that has ended was settled by nobody.
_EXPIRED = "action = 'retry' AND error_code = 'lease_expired'"
# All of an update's run end at once, by one settlement.
_SETTLED = f"""
    SELECT count(*), action FROM (
        SELECT 'advance' AS action FROM (
            SELECT DISTINCT schedule_id, at FROM outbox.events WHERE lease_number IS NOT NULL) AS e
        UNION ALL SELECT action FROM outbox.attempts WHERE NOT ({_EXPIRED})) AS s GROUP BY 2
"""
_LEASES = f"""
    SELECT count(a.id), c.name FROM unnest(ARRAY['authz', 'temporal', 'both']) AS c (name)
      LEFT JOIN outbox.attempts a ON a.consumer = c.name AND {_EXPIRED} GROUP BY 2
"""


async def of_the_ledger(url: str) -> Values:
    """Intents ended, settlements by action, and leases that expired; nothing may have been pruned."""
    async with await psycopg.AsyncConnection.connect(url) as connection:

        async def read(statement: str, *parameters: object) -> dict[tuple[str, ...], float]:
            cursor = await connection.execute(statement.encode(), parameters or None)
            return {tuple(labels): many for many, *labels in await cursor.fetchall()}

        return {
            catalogue.INTENTS_ENDED.name: await read(_ENDED, [event.value for event in TERMINALS]),
            catalogue.SETTLEMENTS.name: await read(_SETTLED),
            catalogue.LEASES_EXPIRED.name: await read(_LEASES),
        }
