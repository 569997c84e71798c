"""What ``outbox doctor`` says: each component checked by itself, none for longer than a few seconds."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from outbox.compose import checks
from outbox.compose.checks import Finding
from outbox.settings import Settings

_SECONDS = 10.0


async def examine(settings: Settings) -> list[Finding]:
    """Check each component: one that says nothing hides nothing of the others."""
    reports = await asyncio.gather(
        _bounded("Postgres", checks.check_postgres(settings)),
        _bounded("SpiceDB", checks.check_spicedb(settings)),
        _bounded("Temporal", checks.check_temporal(settings)),
        _bounded("Kafka", checks.check_kafka(settings)),
        _bounded("Audit", checks.check_audit(settings)),
        _bounded("Outbox", checks.check_halts(settings)),
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
    }


async def _bounded(component: str, check: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await check
    except TimeoutError:
        problem = f"no answer within {_SECONDS:g} s"
        return [
            Finding(component, "reachable", problem, "see what holds it up, or start it", reachable=False)
        ]
