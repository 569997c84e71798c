"""``python -m tests.outside.broken``: records what clients see of products that are broken on purpose.

Each is this product with one line changed, in a short campaign. The histories go to ``testdata``, where the
judge's tests have to refuse them. docs/histories.md tells what each breaks.
"""

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign import TIMES, Campaign, run
from tests.docs.pages import ROOT

_TESTDATA = Path(__file__).parent / "testdata"
_SEED = 5
_INTENTS = 60
_QUIET = {"worker SIGTERM"}


@dataclass(frozen=True)
class Broken:
    """A product with one line changed, and the troubles in which that shows."""

    name: str
    file: str
    old: str
    new: str
    only: Collection[str] = frozenset(_QUIET)


ALL = (
    Broken(
        "registers-after-it-creates",
        "consumers/authz/effects.py",
        "            return Done(await self._client.create(sorted(wanted), requires, call))\n",
        "            import asyncio\n"
        "            soon = lambda: asyncio.ensure_future(\n"
        "                self._client.create(sorted(wanted), requires, Call.within(5)))\n"
        "            asyncio.get_running_loop().call_later(0.3, soon)\n"
        "            return Done()\n",
    ),
    Broken(
        "deregisters-before-it-deletes",
        "consumers/temporal/effects.py",
        "        await self._client.delete(schedule_id, call)\n        return Done()\n",
        "        soon = lambda: asyncio.ensure_future(self._client.delete(schedule_id, Call.within(5)))\n"
        "        asyncio.get_running_loop().call_later(0.3, soon)\n"
        "        return Done()\n",
    ),
    Broken(
        "takes-unknown-for-failed",
        "outbox/flow/settlement.py",
        "        case Refused() | Conflict():\n            return _rejected",
        "        case Refused() | Conflict() | Unknown():\n            return _rejected",
        only=frozenset({"storm at Temporal"}),
    ),
)


def record(broken: Broken) -> Counter[str]:
    """Record one; which invariants the checker from inside finds broken at rest, and how often."""
    with tempfile.TemporaryDirectory(prefix="broken-") as temporary:
        product, home = Path(temporary, "product"), Path(temporary, "home")
        home.mkdir()
        for package in ("outbox", "consumers", "migrations"):
            shutil.copytree(ROOT / package, product / package)
        file = product / broken.file
        text = file.read_text("utf-8")
        assert text.count(broken.old) == 1, f"{broken.name}: {broken.file} has changed"
        file.write_text(text.replace(broken.old, broken.new), "utf-8")
        campaign = Campaign(
            _SEED,
            _INTENTS,
            rounds=1,
            commands=("run", "run"),
            times=TIMES,
            environment={"PYTHONPATH": str(product)},
            only=broken.only,
        )
        result = asyncio.run(run(campaign, home))
        _TESTDATA.mkdir(exist_ok=True)
        shutil.copy(result.recorded, _TESTDATA / f"{broken.name}.jsonl.gz")
    return Counter(one.invariant.value for one in result.violations)


if __name__ == "__main__":
    for one in ALL:
        if not sys.argv[1:] or one.name in sys.argv[1:]:
            print(f"{one.name}: {dict(record(one)) or 'no violation'} at rest", flush=True)
