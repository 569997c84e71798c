"""A campaign in a few lines of Markdown."""

import os
import platform
from collections import Counter
from collections.abc import Iterator

from outbox.flow.table import TERMINALS, Kind
from tests.chaos.campaign import Result

_NO_ANSWER = {"timed_out", "connection_lost", "lease_expired", "released", "unexpected"}
_ASTONISHING = {"unexpected", "misconfigured"}


def machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def report(result: Result) -> str:
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    history = result.history
    kinds = Counter(row["kind"] for row in history.intents)
    ends = Counter(row["type"] for row in history.events if row["type"] in set(TERMINALS))
    errors = Counter(row["error_code"] for row in history.events if row["type"].endswith("_failed"))
    codes = Counter(row["error_code"] for row in history.attempts)
    astonishing = Counter(
        " ".join(row["error_message"].split()).replace("|", "/")[:160]
        for row in history.attempts
        if row["error_code"] in _ASTONISHING
    )
    parked = Counter(row["error_code"] for row in history.queue if row["state"] == "parked")
    lanes = len({row["schedule_id"] for row in history.intents})
    yield f"| seed {result.campaign.seed} | {result.seconds:.0f} s, {machine()} |"
    yield "|---|---|"
    yield f"| asked for | {kinds[Kind.CREATE]} creates, {kinds[Kind.DELETE]} deletes, in {lanes} lanes |"
    yield f"| ended as | {_counts(ends)} |"
    yield f"| failed for | {_counts(errors)} |"
    yield f"| parked | {_counts(parked)} |"
    yield f"| attempts without an answer | {sum(codes[code] for code in _NO_ANSWER)} |"
    yield f"| attempts that did not settle | {_counts(codes)} |"
    yield f"| unexpected or misconfigured | {_counts(astonishing)} |"
    yield f"| repairs | {kinds[Kind.REPAIR]} |"
    yield f"| late calls | {_counts(result.late)} |"
    yield f"| troubles | {_counts(result.troubles)} |"
    yield f"| processes | {', '.join(result.campaign.commands)} at a time, {result.processes} in all |"
    yield f"| counters that disagree with the ledger | {'; '.join(result.miscounted) or 'none'} |"
    yield f"| verified meanwhile | {result.verified} times |"
    yield f"| violations | {len(result.violations)} |"


def _counts(counter: "Counter[str]") -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"
