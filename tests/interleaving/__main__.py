"""``python -m tests.interleaving``: every order of what is under way at once; exit 1 if a rule broke."""

import asyncio
import sys
import time
from collections.abc import Sequence

import psycopg

from outbox.stack import Stack
from outbox.store.migrations import migrate
from outbox.testing.databases import database_url
from tests.interleaving.run import play
from tests.interleaving.scenario import Scenario
from tests.interleaving.scenarios import SCENARIOS
from tests.stack.folder import folder


def main() -> int:
    """Play those whose names have one of the words."""
    words = sys.argv[1:]
    chosen = [one for one in SCENARIOS if not words or any(word in one.name for word in words)]
    with folder() as home, Stack(home) as stack:
        info = stack.info()
        assert info
        with psycopg.connect(info.database_url, autocommit=True) as line:
            line.execute("CREATE DATABASE orders")
        url = database_url(info, "orders")
        migrate(url, max_request_bytes=262_144)
        broken = asyncio.run(_played(url, chosen))
    print(f"{len(chosen) - broken} passed, {broken} failed")
    return min(broken, 1)


async def _played(url: str, chosen: Sequence[Scenario]) -> int:
    """Play them and print what came of each; how many broke."""
    broken, began = 0, time.perf_counter()
    async for report in play(url, chosen):
        took, began = time.perf_counter() - began, time.perf_counter()
        outcomes = len(report.outcomes)
        again = f", {report.to_try_again:,} to be tried again" if report.to_try_again else ""
        print(
            f"{report.orders:6,} orders {outcomes:3} outcomes {took:6.1f} s  {report.name}{again}", flush=True
        )
        if report.wrong:
            print(f"{len(report.wrong)} wrong, the first:\n{report.wrong[0]}", flush=True)
        broken += bool(report.wrong)
    return broken


if __name__ == "__main__":
    sys.exit(main())
