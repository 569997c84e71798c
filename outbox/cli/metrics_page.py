"""Writes ``docs/metrics.md`` from the catalogue; ``make docs`` runs it, and a test compares the two."""

import sys

from outbox.telemetry import catalogue
from outbox.telemetry.catalogue import Metric

_HEAD = """\
# Metrics

Generated from `outbox/telemetry/catalogue.py` by `make docs`. How to get at them: [telemetry](telemetry.md).

Labels are closed lists (consumers, effects, outcomes, events, codes, kinds): no metric tells of a schedule,
an agent or a person.
"""
_OF_THE_PROCESS = "What this process does; counters begin with it."
_OF_THE_OUTBOX = """\
Read from the database by each process that is asked, at most every five seconds: the same everywhere, so
take the maximum over processes, not the sum. Counts are exact up to 2,000 and estimates beyond. Where
Postgres does not answer within two seconds they are absent."""
_PARTS = (
    ("Of a worker", _OF_THE_PROCESS, catalogue.OF_A_WORKER),
    ("Of a relay", _OF_THE_PROCESS, catalogue.OF_A_RELAY),
    ("Of the outbox", _OF_THE_OUTBOX, catalogue.OF_THE_OUTBOX),
)


def page() -> str:
    """The whole page, as Markdown."""
    return _HEAD + "".join(_part(*part) for part in _PARTS)


def _part(title: str, about: str, metrics: tuple[Metric, ...]) -> str:
    rows = "".join(
        f"| `{one.prometheus}` | `{one.name}` | {one.kind.value} | {', '.join(one.labels)} "
        f"| {one.meaning}{_bounds(one)} |\n"
        for one in metrics
    )
    head = "| metric | OpenTelemetry | type | labels | meaning |\n|---|---|---|---|---|\n"
    return f"\n## {title}\n\n{about}\n\n{head}{rows}"


def _bounds(metric: Metric) -> str:
    return f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}." if metric.buckets else ""


if __name__ == "__main__":
    sys.stdout.write(page())
