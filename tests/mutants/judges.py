"""Who catches a mutant: the simulation those of Python, scenes beside the ledger in memory those of SQL.

Of SQL that only matters where calls meet: all orders in which they may.

Each is judged in a process of its own, as a changed module stays. That is why nothing of the project is
imported before a mutant is in place.
"""

import asyncio
import importlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.mutant import ROOT, Mutant, Verdict, put_in_place

if TYPE_CHECKING:
    from tests.simulation.run import Result


def preload() -> None:
    """Import what no mutant changes, once for all of their processes."""
    for name in ("authzed.api.v1", "pydantic", "sqlalchemy.ext.asyncio", "temporalio.client"):
        importlib.import_module(name)


def by_simulation(mutant: Mutant) -> Verdict:
    """Run seeds against a mutant of Python, until a rule is seen broken."""
    try:
        put_in_place(mutant.file, mutant.source())
    except LookupError as error:
        return Verdict(None, str(error))
    from tests.simulation.run import run_seed  # noqa: PLC0415 - with the mutant in it

    for seed in mutant.tried:
        if violations := _violations(run_seed, seed):
            return Verdict(f"seed {seed}", violations[0])
    return Verdict(None, f"survived {mutant.seeds} seeds")


def _violations(run_seed: Callable[[int], "Result"], seed: int) -> list[str]:
    try:
        return run_seed(seed).violations
    except Exception as error:  # noqa: BLE001 - the mutant's doing: that is caught, too
        return [f"{type(error).__name__}: {error}"]


def share(mutant: Mutant, seeds: range) -> int:
    """In how many of these seeds a mutant of Python is noticed: how good they are."""
    put_in_place(mutant.file, mutant.source())
    from tests.simulation.run import run_seed  # noqa: PLC0415 - with the mutant in it

    return sum(bool(_violations(run_seed, seed)) for seed in seeds)


def by_comparison(mutants: list[Mutant]) -> list[Verdict]:
    """Compare each mutant of SQL, on a real Postgres, with the ledger in memory."""
    # Other processes have mutants of them.
    from tests.stack.folder import folder  # noqa: PLC0415
    from tests.stack.lazy import LazyStack  # noqa: PLC0415

    with folder() as home, LazyStack(home) as stack:
        return [_compare(mutant, stack.info.database_url, home) for mutant in mutants]


def _compare(mutant: Mutant, server_url: str, home: Path) -> Verdict:
    from tests.contracts.differential import Differ, compare  # noqa: PLC0415 - as above
    from tests.contracts.scenes import SCENES  # noqa: PLC0415 - as above

    try:
        url = _database(mutant, server_url, home)
    except LookupError as error:
        return Verdict(None, str(error))
    if mutant.orders:
        return asyncio.run(_in_every_order(mutant, url))
    for number in range(len(SCENES)):
        try:
            asyncio.run(compare(url, seeds=[number], operations=0))
        except Differ as differ:
            told = str(differ).splitlines()
            differs = (line for line in told if line.endswith("differ:"))
            return Verdict(f"scene {number}", next(differs, told[-1]))
    return Verdict(None, f"survived {len(SCENES)} scenes")


async def _in_every_order(mutant: Mutant, url: str) -> Verdict:
    from tests.interleaving.run import play  # noqa: PLC0415 - as above
    from tests.interleaving.scenarios import SCENARIOS  # noqa: PLC0415 - as above

    (scenario,) = [one for one in SCENARIOS if one.name == mutant.orders]
    async for report in play(url, [scenario], patient=False):
        if report.wrong:
            return Verdict(f"order {report.orders}", report.wrong[0].splitlines()[0])
    return Verdict(None, f"survived {report.orders} orders")


def _database(mutant: Mutant, server_url: str, home: Path) -> str:
    """Migrate a database of the mutant's own by scripts that it is in."""
    import psycopg  # noqa: PLC0415

    from outbox.store import migrations  # noqa: PLC0415

    name = "mutant_" + re.sub(r"\W+", "_", mutant.name.lower())
    scripts = home / name
    shutil.copytree(ROOT / "migrations", scripts)
    (scripts / Path(mutant.file).relative_to("migrations")).write_text(mutant.source())
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    migrations.scripts = lambda: scripts
    url = server_url.rsplit("/", 1)[0] + "/" + name
    migrations.migrate(url, max_request_bytes=262_144)
    if mutant.besides:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(mutant.besides.encode())
    return url
