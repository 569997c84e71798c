"""Who may notice a change, the quickest first; each in the process that has the changed module in it.

So nothing of the project is imported before a change is in place.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

_SEEDS, _FURTHER_SEEDS = range(60), range(60, 500)


@dataclass(frozen=True, slots=True)
class Judge:
    """Somebody who may notice.

    Attributes:
        name: as it is told.
        notices: what was noticed; None: nothing.
    """

    name: str
    notices: Callable[[], str | None]


def quick(unit: Sequence[str]) -> list[Judge]:
    """Those who take seconds, and need no server; ``unit``: the files of tests."""
    return [
        Judge("exploration", partial(_explored, 0)),
        Judge("simulation", partial(_simulated, _SEEDS[:10])),
        *([Judge("tests", partial(_tested, unit, "--noconftest", "-p", "no:outbox"))] if unit else []),
        Judge("simulation", partial(_simulated, _SEEDS[10:])),
        Judge("exploration", partial(_explored, 1)),
    ]


def patient(servers: Sequence[str]) -> list[Judge]:
    """Those who take longer; ``servers``: files of tests that start the real ones."""
    return [
        *([Judge("real servers", partial(_tested, servers, "-k", "not kafka"))] if servers else []),
        Judge("more seeds", partial(_simulated, _FURTHER_SEEDS)),
        Judge("two faults", partial(_explored, 2)),
    ]


def preload() -> None:
    """Import what no change is made of, once for all of their processes."""
    for name in (
        "authzed.api.v1",
        "google.protobuf.json_format",
        "hypothesis.strategies",
        "opentelemetry.trace",
        "psycopg",
        "pydantic",
        "pytest",
        "pytest_asyncio.plugin",
        "sqlalchemy.ext.asyncio",
        "structlog.testing",
        "temporalio.client",
    ):
        importlib.import_module(name)


def _simulated(seeds: Iterable[int]) -> str | None:
    from tests.simulation.run import run_seed  # noqa: PLC0415 - with the change in it, as all below

    for seed in seeds:
        if violations := run_seed(seed).violations:
            return f"seed {seed}: {violations[0]}"
    return None


def _explored(faults: int) -> str | None:
    from structlog.testing import capture_logs  # noqa: PLC0415

    from tests.model.explore import explore  # noqa: PLC0415
    from tests.model.scenarios import scenarios  # noqa: PLC0415

    with capture_logs():
        for scenario in scenarios():
            for bounded in (True, False):
                if broken := explore(scenario, faults=faults, bounded=bounded).broken:
                    return f"{scenario.name}: {broken.invariant}"
    return None


def _tested(files: Sequence[str], *more: str) -> str | None:
    import hypothesis  # noqa: PLC0415
    import pytest  # noqa: PLC0415

    # The same examples each time, and none are kept for the next change.
    hypothesis.settings.register_profile("change", derandomize=True, database=None)
    hypothesis.settings.load_profile("change")
    failures = _Failures()
    options = ["-qx", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0"]
    # Loaded before, and no tests.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *more, *files], plugins=[failures])
    return None if code is pytest.ExitCode.OK else failures.first or f"pytest ends with {code}"


class _Failures:
    """Remembers the first test that failed."""

    first = ""

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:  # type: ignore[name-defined] # noqa: F821
        if report.failed and not self.first:
            self.first = report.nodeid

    def pytest_collectreport(self, report: "pytest.CollectReport") -> None:  # type: ignore[name-defined] # noqa: F821
        if report.failed and not self.first:
            self.first = f"{report.nodeid}: not even collected"
