"""The ledger in memory does what the SQL does."""

from tests.contracts.differential import compare
from tests.contracts.scenes import SCENES


async def test_the_ledger_in_memory_does_what_the_sql_does(database: str) -> None:
    await compare(database, seeds=range(len(SCENES)), operations=35)
