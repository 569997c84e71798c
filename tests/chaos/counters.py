"""Whether what a campaign's processes counted agrees with the ledger.

A counter dies with its process: what one that was killed had counted since it last exported is gone. Where
Postgres is lost in the middle of a settle, the worker never learns that it was committed: it tries again, and
counts the outcomes as dropped. So counters may say less than the ledger, and never more. After troubles of
neither kind they say the same. What the database keeps says the same at any time.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from outbox.telemetry import catalogue
from tests.telemetry.ledger import Values

_LOSE_COUNTS = ("Postgres", "worker SIGKILL", "worker dies", "worker has a defect")
_OF_PROCESSES = (catalogue.INTENTS_ENDED.name, catalogue.SETTLEMENTS.name)


def disagreements(
    counted: Mapping[str, Mapping[tuple[str, ...], int]],
    kept: Mapping[tuple[str, ...], float],
    ledger: Values,
    troubles: Collection[str],
) -> list[str]:
    """Say where they don't.

    Args:
        counted: by the processes, added up.
        kept: the leases that have expired, as the database counts them.
        ledger: what both should say.
        troubles: that there were.
    """
    exact = not any(trouble.startswith(_LOSE_COUNTS) for trouble in troubles)
    found = []
    for name in _OF_PROCESSES:
        has = Counter({labels: int(many) for labels, many in ledger[name].items()})
        said = Counter(dict(counted.get(name, {})))
        if said - has or (exact and has - said):
            found.append(f"{name}: counted {dict(said)}, and the ledger has {dict(has)}")
        if not said:
            found.append(f"{name}: nothing was counted")
    if dict(kept) != ledger[catalogue.LEASES_EXPIRED.name]:
        found.append(f"leases expired: kept {dict(kept)}, ledger {ledger[catalogue.LEASES_EXPIRED.name]}")
    return found
