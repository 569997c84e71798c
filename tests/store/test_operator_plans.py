"""What an operator's question costs depends on its answer, not on how much there is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.table import Status
from outbox.stack import StackInfo
from outbox.store.browse import BrowseStore, Wanted
from outbox.store.engine import open_engine, rows
from outbox.store.operate import OperateStore
from outbox.store.reads import ReadStore
from outbox.store.retention import RetentionStore
from outbox.store.verifying import NEWEST, VerifyStore
from outbox.store.watching import gauges
from outbox.testing.databases import copied

ENDED = 90_000
WAITING = 30_000
FAILS_ONCE_IN = 3_000
PARKED = 20
# Rows of tables and entries of indexes, whatever the question; and more for each row of its answer.
READS_AT_LEAST = 500
READS_A_ROW = 60

# All ages are told from here: the tests may come to their questions long after they were loaded.
LOADED_AT = datetime.now(UTC)
# The oldest first, a second apart. Those that wait are the youngest; half of them in one long lane.
LOAD = f"""
    SET synchronous_commit = off;
    CREATE TEMP TABLE made AS
    SELECT n, outbox.first_id(at) AS id, at,
           CASE WHEN n > {ENDED} AND n % 2 = 0 THEN 'loaded--long' ELSE 'loaded--s' || n END AS schedule_id
      FROM (SELECT n, timestamptz '{LOADED_AT}' - ({ENDED + WAITING} - n) * interval '1 second' AS at
              FROM generate_series(1, {ENDED + WAITING}) AS n) AS s;
    INSERT INTO outbox.intents (id, schedule_id, kind, request, creator, created_at)
    SELECT id, schedule_id, 'create', '{{"workflow_name": "W"}}', '{{}}', at FROM made ORDER BY n;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at)
    SELECT id, schedule_id, 'schedule.create.requested', at FROM made ORDER BY n;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number, error_code)
    SELECT id, schedule_id,
           CASE WHEN n % {FAILS_ONCE_IN} = 0 THEN 'schedule.create_failed' ELSE 'schedule.created' END,
           at, 'temporal', 1, 2, CASE WHEN n % {FAILS_ONCE_IN} = 0 THEN 'refused' END
      FROM made WHERE n <= {ENDED} ORDER BY n;
    INSERT INTO outbox.queue (intent_id, position, schedule_id, event_type, consumer, due_at, place, state)
    SELECT m.id, i.position, m.schedule_id, 'schedule.create.requested', 'authz', m.at,
           CASE WHEN m.schedule_id = 'loaded--long' AND m.n > {ENDED} + 2 THEN 'behind' ELSE 'head' END,
           CASE WHEN m.schedule_id = 'loaded--long' AND m.n > {ENDED} + 2 THEN 'queued'
                WHEN m.n % 2 = 1 AND m.n <= {ENDED} + 2 * {PARKED} THEN 'parked' ELSE 'ready' END
      FROM made m JOIN outbox.intents i ON i.id = m.id WHERE m.n > {ENDED};
"""

AGES = ("oldest_head_age", "oldest_parked_age", "oldest_unparked_head_age")

Ask = Callable[[AsyncEngine], Awaitable[Any]]


@pytest.fixture(scope="module")
def loaded(stack: StackInfo, template: str) -> Iterator[str]:
    with copied(stack, template) as url:
        with psycopg.connect(url, autocommit=True) as line:
            line.execute(LOAD.encode())
            line.execute("VACUUM ANALYZE")
            line.execute("SELECT brin_summarize_new_values('outbox.events_recent')")
        yield url


@pytest.fixture
async def engine(loaded: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(loaded) as engine:
        yield engine


async def reads(engine: AsyncEngine) -> int:
    await rows(engine, "SELECT pg_stat_force_next_flush()", {})
    (row,) = await rows(
        engine,
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
        " + (SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables) AS n",
        {},
    )
    return int(row["n"])


def intents(**asked: Any) -> Ask:
    every: dict[str, Any] = {"status": None, "schedule_id": None, "since": None, "limit": 50}
    return lambda engine: ReadStore(engine).intents(**{**every, **asked})


def replayable(**asked: Any) -> Ask:
    every: dict[str, Any] = {
        "statuses": [Status.FAILED, Status.PARKED],
        "schedule_id": None,
        "error": None,
        "since": None,
    }
    return lambda engine: OperateStore(engine, "tester").replayable(**{**every, **asked})


async def prunable(engine: AsyncEngine) -> list[UUID]:
    store = RetentionStore(engine, datetime.now(UTC), batch=100, operator="tester")
    return await anext(aiter(store.prunable()))


async def lane(engine: AsyncEngine) -> list[Any]:
    store = ReadStore(engine)
    found = await store.lane("loaded--long", limit=20)
    events, attempts = await store.history([row["id"] for row in found])
    return [*found, *events, *attempts]


async def to_verify(engine: AsyncEngine) -> list[Any]:
    return [*(await VerifyStore(engine).page("loaded--s1", 100)).intents]


async def long_lane_to_verify(engine: AsyncEngine) -> list[Any]:
    return [*(await VerifyStore(engine).lanes(["loaded--s5", "loaded--long"])).intents]


def ago(**span: float) -> datetime:
    return LOADED_AT - timedelta(**span)


FAILED = ENDED // FAILS_ONCE_IN
QUESTIONS: dict[str, tuple[Ask, int]] = {
    "intents": (intents(), 50),
    "intents that failed": (intents(status=Status.FAILED), FAILED),
    "intents that are parked": (intents(status=Status.PARKED), PARKED),
    "intents that succeeded": (intents(status=Status.SUCCEEDED), 50),
    "intents that are pending": (intents(status=Status.PENDING), 50),
    "intents since": (intents(since=ago(hours=1)), 50),
    "failed intents since": (
        intents(status=Status.FAILED, since=ago(seconds=WAITING + FAILS_ONCE_IN * 1.5)),
        2,
    ),
    "intents of a schedule": (intents(schedule_id="loaded--s5"), 1),
    "intents of a long lane": (intents(schedule_id="loaded--long"), 50),
    "a lane's timeline": (lane, 40),
    "replayable": (replayable(), FAILED + PARKED),
    "replayable, failed": (replayable(statuses=[Status.FAILED]), FAILED),
    "replayable by error": (replayable(error="refused"), FAILED),
    "replayable, another error": (replayable(error="conflict_foreign"), 0),
    "replayable since": (replayable(since=ago(seconds=WAITING + FAILS_ONCE_IN * 1.5)), 2 + PARKED),
    "replayable of a schedule": (replayable(schedule_id=f"loaded--s{FAILS_ONCE_IN}"), 1),
    "prunable": (prunable, 100),
    "a page of lanes to verify": (to_verify, 100),
    # Of the long one the newest, one more that tells that there are more, and its head.
    "a long lane to verify": (long_lane_to_verify, 1 + NEWEST + 2),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_question_costs_what_its_answer_holds(engine: AsyncEngine, question: str) -> None:
    ask, answers = QUESTIONS[question]
    await ask(engine)
    begun = await reads(engine)
    found = await ask(engine)
    took = await reads(engine) - begun
    assert len(found) == answers
    assert took < READS_AT_LEAST + READS_A_ROW * answers


async def test_a_page_costs_the_same_wherever_it_is_and_whatever_it_seeks(engine: AsyncEngine) -> None:
    store = BrowseStore(engine)
    first = await store.page(Wanted(limit=50))
    begun = await reads(engine)
    second = await store.page(Wanted(limit=50, before=first.following))
    assert await reads(engine) - begun < READS_AT_LEAST + READS_A_ROW * 50
    assert len({row["id"] for row in first.rows + second.rows}) == 100
    begun = await reads(engine)
    rare = await store.page(Wanted(schedule="of nobody"))
    # It has looked at 20,000, and says where to look on.
    assert (rare.rows, rare.following is not None) == ([], True)
    assert await reads(engine) - begun < 100_000


async def test_the_last_hour_costs_a_sample_of_each_minute(engine: AsyncEngine) -> None:
    store = BrowseStore(engine)
    begun = await reads(engine)
    hour = await store.last_hour()
    assert await reads(engine) - begun < 15_000
    assert len(hour) == 60
    assert hour[0]["placed"] == pytest.approx(60, abs=1)


async def test_the_head_of_a_long_lane_is_found_at_once(engine: AsyncEngine) -> None:
    begun = await reads(engine)
    head, behind = await ReadStore(engine).head("loaded--long")
    assert head
    assert (head["place"], behind) == ("head", 10_000)
    # Those behind are counted up to the bound.
    assert await reads(engine) - begun < 25_000


async def test_the_figures_that_are_exported_cost_the_same_at_any_depth(engine: AsyncEngine) -> None:
    await gauges(engine)
    begun = await reads(engine)
    figures = await gauges(engine)
    # At most 2,000 of each kind are counted, and of heads as many looked at for the oldest.
    assert await reads(engine) - begun < 20_000
    assert dict(figures["outbox.heads"]) == {("authz", "ready"): pytest.approx(WAITING / 2, rel=0.1)}
    assert dict(figures["outbox.waiting"])["behind",] == pytest.approx(WAITING / 2, rel=0.1)
    assert dict(figures["outbox.parked"]) == {(): PARKED}
    oldest = {name: round(dict(figures[f"outbox.{name}"])[()] - WAITING) for name in AGES}
    # The first that waits is parked; the second is not.
    assert oldest["oldest_head_age"] == oldest["oldest_parked_age"] == oldest["oldest_unparked_head_age"] + 1


async def test_the_state_of_it_all_costs_the_same_however_much_waits(engine: AsyncEngine) -> None:
    await ReadStore(engine).depths()
    begun = await reads(engine)
    depths = await ReadStore(engine).depths()
    # At most 10,000 of each kind are counted: of heads that are ready, and of what stands behind a head.
    assert await reads(engine) - begun < 60_000
    assert depths["parked"] == PARKED
    assert depths["estimated"] == ["behind", "ready"]
    assert depths["behind"] == pytest.approx(WAITING / 2, rel=0.1)
    assert depths["ready"] == pytest.approx(WAITING / 2, rel=0.1)
    assert depths["pending"] == pytest.approx(WAITING, rel=0.1)
    assert depths["oldest_head"] == f"loaded--s{ENDED + 1}"
