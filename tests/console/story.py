"""A story worth looking at, the same each time: for pictures of the pages, and tests that go through all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from playwright.async_api import Page

import outbox
from outbox.audit.drift import Fix
from outbox.stack import StackInfo
from outbox.store.engine import open_engine
from outbox.store.halts import HaltStore
from outbox.store.operate import OperateStore
from outbox.store.replays import ReplayStore
from tests.conftest import lose
from tests.console.conftest import enqueue, schedule, work
from tests.console.test_acting import park

_OF_AGENTS: dict[str, Any] = {"workflow_name": "RunAgent", "task_queue": "agents"}
_NEVER: dict[str, Any] = {"interval_seconds": None, "cron_expression": "0 25 * * *"} | _OF_AGENTS
_LIVE = (
    schedule("billing-7", "nightly-close", interval_seconds=None, cron_expression="0 2 * * *", **_OF_AGENTS),
    schedule("billing-7", "invoice-reminders", interval_seconds=3600, **_OF_AGENTS),
    schedule(
        "research-3",
        "paper-digest",
        interval_seconds=86_400,
        workflow_params={"topics": ["agents"]},
        **_OF_AGENTS,
    ),
    schedule("support-1", "inbox-triage", interval_seconds=900, **_OF_AGENTS),
)
_FAILED = tuple(schedule("research-3", name, **_NEVER) for name in ("arxiv-sweep", "newsletter", "trends"))
_PARKED = schedule("support-1", "escalations", **_OF_AGENTS)
_HALTED = schedule("support-1", "weekly-report", **_OF_AGENTS)

# An hour in which crews made schedules: more and more, then less, and now and then one was refused.
_HOUR = """
    CREATE TEMP TABLE made AS
    SELECT n, outbox.first_id(at) AS id, at, 'crew-' || n % 9 || '--task-' || n AS schedule_id,
           n % 53 = 0 AS bad, (60 + n * 7 % 140 + (n % 41 / 40) * 900) * interval '1 millisecond' AS took
      FROM (SELECT row_number() OVER () AS n,
                   clock_timestamp() - m * interval '1 minute' - k * interval '1 second' AS at
              FROM generate_series(58, 2, -1) AS m
             CROSS JOIN LATERAL generate_series(1, 8 + (m * 13) % 11 + (40 - abs(m - 30)) / 3) AS k) AS s;
    INSERT INTO outbox.intents (id, schedule_id, kind, request, creator, created_at)
    SELECT id, schedule_id, 'create', '{"workflow_name": "RunAgent"}', '{"user_id": "u1"}', at
      FROM made ORDER BY at;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at)
    SELECT id, schedule_id, 'schedule.create.requested', at FROM made ORDER BY at;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number, error_code,
                               error_message)
    SELECT id, schedule_id, CASE WHEN bad THEN 'schedule.create_failed' ELSE 'schedule.created' END,
           at + took, 'temporal', 1, 2, CASE WHEN bad THEN 'conflict_live' END,
           CASE WHEN bad THEN schedule_id || ' exists, created by intent ' || id || ': delete it first' END
      FROM made ORDER BY at;
    SELECT outbox.note_failures(array_agg(id), clock_timestamp() - interval '11 minutes') FROM made WHERE bad;
"""

Request = outbox.CreateSchedule | outbox.DeleteSchedule
Words = Mapping[str, str]
Look = Callable[[Page, str, Words], Awaitable[None]]


async def tell(stack: StackInfo, url: str) -> Words:
    """Have it happen in an outbox; returns what the paths of ``LOOKS`` are filled in with."""
    with psycopg.connect(url) as owner:
        owner.execute(_HOUR)
    made = await enqueue(url, *_LIVE, *_FAILED)
    await work(stack, url)
    followers: list[Request] = [outbox.DeleteSchedule(agent_id="support-1", name="escalations"), _PARKED]
    await enqueue(url, _PARKED, _HALTED)
    (parked,) = park(url, _PARKED.schedule_id)
    async with await psycopg.AsyncConnection.connect(url) as line:
        who = outbox.Principal(user_id="u1")
        await outbox.enqueue_many(line, [(one, who) for one in followers])
    lose(url, "billing-9", 1)
    with psycopg.connect(url) as owner:
        owner.execute(
            """INSERT INTO outbox.drifts
               VALUES ('billing-9--s1', 'missing_schedule', 'Temporal has no such schedule', %s, now())""",
            (Fix.REPAIR,),
        )
    failed = [one.id for one in made[len(_LIVE) :]]
    replay = await _operate(url, failed)
    with psycopg.connect(url) as owner:
        owner.execute(
            "UPDATE outbox.queue SET error_message = 'an answer that no rule covers' WHERE intent_id = %s",
            (parked,),
        )
        owner.execute(
            "UPDATE outbox.queue SET place = 'behind' WHERE schedule_id = %s AND intent_id <> %s",
            (_PARKED.schedule_id, parked),
        )
        owner.execute("SELECT outbox.note_failures(ARRAY[%s], clock_timestamp())", (parked,))
        row = owner.execute(
            "SELECT group_id FROM outbox.failures WHERE intent_id = %s", (failed[1],)
        ).fetchone()
    assert row
    return {"group": row[0], "failed": str(failed[1]), "replay": str(replay)}


async def _operate(url: str, failed: Sequence[UUID]) -> int:
    async with open_engine(url) as engine:
        ada = OperateStore(engine, "ada", "the cron is fixed")
        await ada.replay(failed[0], forced=False, rehearsed=False)
        grace = OperateStore(engine, "grace", "found by the audit")
        await grace.request_repair("billing-7--invoice-reminders")
        until = datetime.now(UTC) + timedelta(minutes=150)
        waves = ReplayStore(engine, "grace", "a few at first")
        await HaltStore(engine, "ada").hold(_HALTED.schedule_id, until=until, why="its mailbox is moving")
        return await waves.plan(failed)


def at(path: str) -> Look:
    """The page of a path."""

    async def look(page: Page, url: str, words: Words) -> None:
        await page.goto(url + path.format(**words))

    return look


async def preview(page: Page, url: str, words: Words) -> None:
    """What is told before a group is replayed."""
    await at("/failures/{group}")(page, url, words)
    for box in await page.locator('input[form="chosen"]').all():
        await box.check()
    await page.get_by_role("button", name="Preview replay of those chosen").click()
    await page.wait_for_url("**/preview/replay")  # with all that it looks by


LOOKS: Mapping[str, Look] = {
    "overview": at("/"),
    "failures": at("/failures"),
    "failure-group": at("/failures/{group}"),
    "preview": preview,
    "intents": at("/intents?limit=15"),
    "intent": at("/intents/{failed}"),
    "schedule": at("/schedules/billing-7--nightly-close"),
    "schedule-that-waits": at("/schedules/support-1--escalations"),
    "schedule-that-differs": at("/schedules/billing-9--s1"),
    "audit": at("/audit"),
    "replays": at("/replays"),
    "replay": at("/replays/{replay}"),
    "health": at("/health"),
    "operations": at("/operations"),
}
