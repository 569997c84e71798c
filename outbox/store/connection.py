"""What a connection of psycopg's tells: whether its session is its own, and which of its errors pass.

Producers wait with it, who may have no SQLAlchemy to import.
"""

from typing import Any

import psycopg

OF_THE_SESSION = {"25006", "57014", "55P03"}
"""What a new session may be free of: a standby's refusal to write, a time-out that the role has."""


def is_passing_state(state: str) -> bool:
    """Whether an SQLSTATE says that Postgres is away, restarting or asks to try again."""
    # 08: connection, 40: serialization, 53: resources, 57P: shutdown.
    return state in OF_THE_SESSION or state.startswith(("08", "40", "53", "57P"))


async def has_own_session(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether what is set on this connection stays: false behind a pooler of transactions."""
    asked = await connection.execute(
        "SELECT pg_backend_pid() = %s", (connection.info.backend_pid,), prepare=False
    )
    return await asked.fetchone() == (True,)
