"""What ``outbox doctor`` says: each component checked by itself, none for longer than a few seconds."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from outbox.compose import checks
from outbox.compose.checks import Finding
from outbox.documentation import Problem, of_problem
from outbox.settings import Settings

# Sooner than a driver gives up to connect, which would tell it in words of its own.
_SECONDS = 8.0


async def examine(settings: Settings) -> list[Finding]:
    """Check each component: one that says nothing hides nothing of the others."""
    reports = await asyncio.gather(
        _bounded(checks.check_postgres(settings), "Postgres", "OUTBOX_DATABASE_URL"),
        _bounded(checks.check_spicedb(settings), "SpiceDB", "OUTBOX_SPICEDB_ENDPOINT"),
        _bounded(checks.check_temporal(settings), "Temporal", "OUTBOX_TEMPORAL_ADDRESS"),
        _bounded(checks.check_kafka(settings), "Kafka", "OUTBOX_KAFKA_BOOTSTRAP"),
        # What they read is in Postgres, which is told of once.
        _bounded(checks.check_audit(settings)),
        _bounded(checks.check_halts(settings)),
    )
    return [finding for report in reports for finding in report]


def shown(finding: Finding) -> dict[str, Any]:
    """A finding in its stable JSON shape."""
    return {
        "component": finding.component,
        "check": finding.what,
        "ok": finding.problem is None,
        "problem": finding.problem,
        "fix": finding.fix,
        "help": of_problem(_problem(finding)) if finding.problem else None,
    }


def _problem(finding: Finding) -> Problem:
    away = Problem.POSTGRES_AWAY if finding.component == "Postgres" else Problem.STORE_AWAY
    return Problem.STORE_UNUSABLE if finding.reachable else away


async def _bounded(
    check: Awaitable[list[Finding]], component: str | None = None, setting: str = ""
) -> list[Finding]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await check
    except TimeoutError:
        if component is None:
            return []
        problem, fix = f"no answer within {_SECONDS:g} s", f"start it, or mend {setting}"
        return [Finding(component, "reachable", problem, fix, reachable=False)]
