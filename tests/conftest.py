"""One stack of real servers for all tests, a fresh database for each test that asks for one.

A server starts when a test first needs it, so that one file of tests costs no more than it uses.

SpiceDB and Temporal are shared: tests use agents of their own (the fixture ``agent``).
"""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import structlog

from outbox.compose import schema
from outbox.compose.kafka import create_topics
from outbox.settings import Settings
from outbox.stack import Stack, StackInfo
from outbox.testing.databases import copied, copied_outbox, hang_up, prepare_template
from outbox.testing.handles import IMPATIENT
from tests.kafka.brokers import broker
from tests.kafka.patience import patiently
from tests.poolers.conftest import instead as pgbouncer_is_missing
from tests.stack.containers import ContainerStack, engine_answers
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack

# A shell's background job ignores Ctrl-C, and so would every process that a test of it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_settings() -> Iterator[None]:
    """What a test has logs go to holds for this test alone."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def servers() -> Iterator[LazyStack | ContainerStack]:
    if engine_answers():
        with ContainerStack() as containers:
            yield containers
            hang_up()
        return
    with folder() as home, LazyStack(home) as stack:
        yield stack
        hang_up()


@pytest.fixture(scope="session")
def running_stack(servers: LazyStack | ContainerStack) -> Stack | ContainerStack:
    """The stack itself, for tests that stop or kill one of its servers (and start it again)."""
    return servers if isinstance(servers, ContainerStack) else servers.whole


@pytest.fixture(scope="session")
def stack(servers: LazyStack | ContainerStack) -> StackInfo:
    """Where the servers are. Each starts when it is first asked for: see ``tests.stack.lazy``."""
    return servers.info() if isinstance(servers, ContainerStack) else servers.info


@pytest.fixture(scope="session")
def kafka(servers: LazyStack | ContainerStack) -> str:
    """The address of a broker, started for the first test that needs one: see ``tests.kafka.brokers``."""
    if isinstance(servers, ContainerStack):
        pytest.skip("the container stack has no broker")
    return f"127.0.0.1:{servers.start('kafka', broker()[0]).ports['kafka']}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest campaigns go first: one that begins last has all other processes wait."""
    seconds: Counter[Path] = Counter()
    for item in items:
        for mark in item.iter_markers("campaign"):
            seconds[item.path] += mark.kwargs.get("seconds", 0)
    items.sort(key=lambda item: -seconds[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = {kind: found for kind, found in terminalreporter.stats.items() if kind != "deselected"}
    reports = [one for found in ran.values() for one in found]
    if any("kafka" in getattr(one, "nodeid", "") for one in reports):
        name, why = broker()
        terminalreporter.write_line(f"Kafka wire: tested on {name} ({why})")
    if any("poolers" in getattr(one, "nodeid", "") for one in reports):
        why_not = pgbouncer_is_missing()
        terminalreporter.write_line(
            f"Poolers: tested on {'PgBouncer' if why_not is None else f'one of our own ({why_not})'}"
        )


@pytest.fixture
def topics(kafka: str) -> dict[str, object]:
    """Settings for topics of the test's own."""
    own: dict[str, object] = {"kafka_bootstrap": kafka, "kafka_prefix": f"t{uuid4().hex[:12]}"}
    own |= {"kafka_partitions": 4, "dispatch_seconds": 5.0}
    patiently(lambda: create_topics(Settings.model_validate(own)))
    return own


def settings_for(stack: StackInfo, database_url: str | None = None, **more: object) -> Settings:
    """Settings for the stack, impatient so that tests are quick, blind to the environment."""
    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in stack.environment().items()}
    url = {"database_url": database_url} if database_url else {}
    return Settings.model_validate({**found, **IMPATIENT, **url, **more})


@pytest.fixture(scope="session")
def template(stack: StackInfo) -> str:
    """A migrated database that nobody connects to, to copy."""
    return prepare_template(stack)


@pytest.fixture
def database(stack: StackInfo, template: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own: an outbox of its own, too."""
    with copied_outbox(stack, template) as url:
        yield url


@pytest.fixture
def empty_database(stack: StackInfo) -> Iterator[str]:
    """The URL of a database of the test's own with nothing in it."""
    with copied(stack, "template1") as url:
        yield url


@pytest.fixture(scope="session")
async def spicedb_schema(stack: StackInfo) -> None:
    """SpiceDB has the schema."""
    # Not `settings_for`, which asks for the other servers, too.
    place = {"spicedb_endpoint": stack.spicedb_endpoint, "spicedb_token": stack.spicedb_token}
    await schema.apply(Settings.model_validate({**place, "spicedb_tls": False}), lambda _: True)


@pytest.fixture
def agent() -> str:
    """An agent that no other test uses."""
    return f"agent-{uuid4().hex[:12]}"


_LOSE = """
    WITH made AS (
        INSERT INTO outbox.intents (id, schedule_id, kind, request, creator)
        SELECT outbox.uuid7(), %(agent)s || '--s' || n, 'create',
               jsonb_build_object('agent_id', %(agent)s::text, 'name', 's' || n, 'workflow_name', 'W',
                                  'task_queue', 'q', 'interval_seconds', 3600), '{"user_id": "u"}'
          FROM generate_series(1, %(count)s) AS n RETURNING id, schedule_id
    ), logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type)
        SELECT m.id, m.schedule_id, e.type FROM made m
         CROSS JOIN unnest(ARRAY['schedule.create.requested', 'schedule.registered', 'schedule.created'])
               AS e (type)
    )
    INSERT INTO outbox.lanes (schedule_id, live_intent) SELECT m.schedule_id, m.id FROM made m
"""


def lose(database: str, agent: str, count: int) -> None:
    """Have so many schedules of an agent live in the ledger, ``s1`` and so on, that no store has."""
    with psycopg.connect(database) as connection:
        connection.execute(_LOSE, {"agent": agent, "count": count})
