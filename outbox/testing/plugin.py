"""The pytest plugin: fixtures for tests of a service that uses the outbox. ``docs/testing-your-service.md``.

pytest loads it in every run of an environment that has the outbox: what most runs don't need is imported by
the fixtures. They are synchronous, so that they serve tests with any event loop, or none.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from outbox.stack import StackInfo
    from outbox.testing.handles import Backstage, Converge, Faults

_LOGGED = pytest.StashKey[tuple["Backstage", int]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "outbox_settings(name=value, …): settings of the outbox's workers, such as retry_max_strikes=2",
    )


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Add what the workers logged to the report of a test that failed."""
    logged = item.stash.get(_LOGGED, None)
    if call.excinfo is not None and logged is not None:
        backstage, since = logged
        item.add_report_section(call.when, "outbox log", backstage.log(since))


@pytest.fixture(scope="session")
def _outbox_backstage() -> Iterator["Backstage"]:
    from outbox.testing.handles import Backstage  # noqa: PLC0415

    with Backstage() as backstage:
        yield backstage


@pytest.fixture(scope="session")
def outbox_stack(_outbox_backstage: "Backstage") -> "StackInfo":
    """Real Postgres, SpiceDB and Temporal, started for this run of pytest: where they are.

    Under pytest-xdist each process has its own.
    """
    where = _outbox_backstage.ask("stack")
    from outbox.stack import StackInfo  # noqa: PLC0415

    return StackInfo(**where)


@pytest.fixture
def outbox_database(request: pytest.FixtureRequest, _outbox_backstage: "Backstage") -> Iterator[str]:
    """The URL of a database of the test's own with the outbox's tables.

    After the test it is dropped, and the schedules that were asked for in it are removed from SpiceDB and
    Temporal.
    """
    from outbox.testing.handles import IMPATIENT  # noqa: PLC0415

    request.node.stash[_LOGGED] = (_outbox_backstage, _outbox_backstage.log_size())
    changes: dict[str, object] = {}
    for mark in request.node.iter_markers("outbox_settings"):
        changes = mark.kwargs | changes
    url = _outbox_backstage.ask(
        "begin", settings={**IMPATIENT, **changes}, faults="outbox_faults" in request.fixturenames
    )
    yield url
    _outbox_backstage.ask("end", database=url)


@pytest.fixture
def outbox_worker(outbox_database: str, _outbox_backstage: "Backstage") -> None:
    """A worker in the background, for as long as the test goes on."""
    _outbox_backstage.ask("work", database=outbox_database)


@pytest.fixture
def outbox_converge(outbox_database: str, _outbox_backstage: "Backstage") -> "Converge":
    """A callable that waits until nothing goes on without a person, and judges what the stores hold.

    Asynchronous tests await it; others call its ``sync``.
    """
    from outbox.testing.handles import Converge  # noqa: PLC0415

    return Converge(_outbox_backstage, outbox_database)


@pytest.fixture
def outbox_faults(outbox_database: str, _outbox_backstage: "Backstage") -> "Faults":
    """SpiceDB and Temporal as the workers meet them: behind proxies that fail on purpose."""
    from outbox.testing.handles import Faults  # noqa: PLC0415

    return Faults(_outbox_backstage, outbox_database)
