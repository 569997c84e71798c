"""The loop, on either wire: credit, deadlines, the unexpected, wake-ups, restarts of Postgres, draining."""

import asyncio
import errno
import io
import sys
import time
from collections.abc import Mapping

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.exc import OperationalError, ProgrammingError
from structlog.testing import capture_logs

from outbox.cli.logs import set_up_logs
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Refused, Transient
from outbox.flow.table import Consumer, EventType
from outbox.store.url import parameters
from outbox.testing import Stop, armed
from outbox.worker.loop import Worker
from outbox.worker.source import DirectSource
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench, direct_only

SETTLES = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def listening(workers: int) -> str:
    """Finds rows once so many workers listen for wake-ups."""
    return (
        "SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'outbox wake-ups' AND query ~ 'LISTEN' AND state = 'idle' "
        f"HAVING count(*) = {workers}"
    )


async def rows_soon(query: Query, statement: str, *, seconds: float = 240) -> list[dict[str, object]]:
    """Ask until there is an answer."""
    async with asyncio.timeout(seconds):
        while not (rows := await query(statement)):  # noqa: ASYNC110 - the event is a row in Postgres
            await asyncio.sleep(0.01)
    return rows


async def test_it_takes_applies_and_settles_until_nothing_is_left(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    for place in range(10):
        await enqueue(f"s{place}")
    async with bench.worker() as worker:
        await worker.run()
    ended = await query("SELECT count(*) AS n FROM outbox.events WHERE type = 'schedule.created'")
    assert ended == [{"n": 10}]
    assert worker.summary() == {"advance": 20, "retry": 0, "hold": 0, "park": 0, "dropped": 0}


async def test_it_never_runs_more_effects_of_a_store_than_it_may(bench: Bench, enqueue: Enqueue) -> None:
    for place in range(12):
        await enqueue(f"s{place}")
    full = {consumer: asyncio.Event() for consumer in Consumer}

    async def wait_for_two_more(dispatch: Dispatch) -> Outcome:
        if bench.effects.running[dispatch.consumer] == 3:
            full[dispatch.consumer].set()
        try:
            await full[dispatch.consumer].wait()
        finally:
            full[dispatch.consumer].set()  # one that runs out of its time in vain is enough
        await asyncio.sleep(0.02)  # in which a fourth would come, were it let in
        return Done()

    bench.effects.behaviour = wait_for_two_more
    async with bench.worker(concurrency=3) as worker:
        await worker.run()
    assert bench.effects.peak == {Consumer.AUTHZ: 3, Consumer.TEMPORAL: 3}


async def test_an_unexpected_exception_is_tried_again_and_then_parked_and_never_lost(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()

    def explode(_: Dispatch) -> Outcome:
        raise KeyError("a bug")

    bench.effects.behaviour = explode
    async with bench.worker(max_strikes=3) as worker:
        await worker.run()
    assert len(bench.effects.asked) == 3
    (row,) = await query(
        "SELECT state, strikes, error_code, error_message, unknown_until > deadline AS u FROM outbox.queue"
    )
    assert row == {
        "state": "parked",
        "strikes": 3,
        "error_code": "unexpected",
        "error_message": "KeyError: 'a bug'",
        "u": True,
    }


async def test_an_effect_that_outlasts_its_deadline_is_unknown(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    attempts = 0

    async def hang_once(_: Dispatch) -> Outcome:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        return Done()

    bench.effects.behaviour = hang_once
    async with bench.worker() as worker:
        await worker.run()
    (tried,) = await query("SELECT error_code, action FROM outbox.attempts")
    assert tried == {"error_code": "timed_out", "action": "retry"}
    assert bench.effects.asked[1].unknown


async def test_a_step_that_took_its_workers_down_is_parked_unapplied(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await query("SELECT * FROM outbox.claim('{\"authz\": 1}', '{}', 0, 0, 0)")
    await query("UPDATE outbox.queue SET strikes = 2")
    async with bench.worker(max_strikes=3) as worker:
        await worker.run()
    assert bench.effects.asked == []
    (row,) = await query("SELECT state, error_code FROM outbox.queue")
    assert row == {"state": "parked", "error_code": "lease_expired"}


async def test_after_a_hold_it_looks_instead_of_applying(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    answers: list[Outcome | Exception] = [
        Done(),  # registered
        TimeoutError(),
        Refused(ErrorCode.REFUSED, "bad cron"),
        Refused(ErrorCode.REFUSED, "bad cron"),  # the look
        Done(),  # compensated
    ]

    def answer(_: Dispatch) -> Outcome:
        one = answers.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    bench.effects.behaviour = answer
    async with bench.worker() as worker:
        await worker.run()
    assert [one.event_type for one in bench.effects.looked] == [EventType.REGISTERED]
    events = await query(
        "SELECT type, error_code FROM outbox.events WHERE type NOT LIKE 'schedule.repair%' ORDER BY id"
    )
    assert [row["type"] for row in events] == [
        "schedule.create.requested",
        "schedule.registered",
        "schedule.compensation_requested",
        "schedule.create_failed",
    ]
    assert events[-1]["error_code"] == "refused"


async def test_a_wake_up_without_room_for_more_lets_the_steps_under_way_get_on(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    async with bench.worker(until_idle=False, concurrency=1, only=Consumer.AUTHZ) as worker:

        async def be_woken(_: Dispatch) -> Outcome:
            worker._source.wake()
            await asyncio.sleep(0.05)
            return Done()

        bench.effects.behaviour = be_woken
        running = asyncio.create_task(worker.run())
        await rows_soon(query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.registered'")
        worker.stop()
        await running


async def test_a_wake_up_makes_an_idle_worker_quick(bench: Bench, enqueue: Enqueue, query: Query) -> None:
    async with bench.worker(until_idle=False, poll_seconds=60) as worker:
        running = asyncio.create_task(worker.run())
        # The first claim comes before the wake-ups listen: only then does the worker depend on them.
        await rows_soon(query, listening(1))
        await enqueue()
        await rows_soon(query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.created'")
        worker.stop()
        await running


async def test_without_wake_ups_polling_finds_the_work(
    bench: Bench, enqueue: Enqueue, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As behind a transaction-pooling proxy: the channel stays silent.
    monkeypatch.setattr("outbox.store.notifier.CHANNEL", "nobody_says_anything_here")
    async with bench.worker(until_idle=False, poll_seconds=0.05) as worker:
        running = asyncio.create_task(worker.run())
        await enqueue()
        await rows_soon(query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.created'")
        worker.stop()
        await running


async def test_a_worker_of_one_store_wakes_the_other(bench: Bench, enqueue: Enqueue, query: Query) -> None:
    async with (
        bench.worker(until_idle=False, poll_seconds=60, only=Consumer.AUTHZ) as authz,
        bench.worker(until_idle=False, poll_seconds=60, only=Consumer.TEMPORAL) as temporal,
    ):
        running = [asyncio.create_task(one.run()) for one in (authz, temporal)]
        await rows_soon(query, listening(2))
        await enqueue()
        await rows_soon(query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.created'")
        authz.stop()
        temporal.stop()
        await asyncio.gather(*running)


async def test_told_to_stop_it_lets_steps_finish_and_takes_no_more(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("first")
    finish = asyncio.Event()

    async def wait(_: Dispatch) -> Outcome:
        await finish.wait()
        return Done()

    bench.effects.behaviour = wait
    async with bench.worker(until_idle=False) as worker:
        takes = Takes(worker)
        running = asyncio.create_task(worker.run())
        await bench.effects.started.wait()
        worker.stop()
        begun = takes.begun
        await enqueue("second")
        finish.set()
        await running
    assert takes.begun == begun, "what comes in after the stop is for other workers"
    events = await query("SELECT schedule_id FROM outbox.events WHERE type = 'schedule.registered'")
    assert "first" in {row["schedule_id"].split("--")[1] for row in events}, "the step under way was settled"


@direct_only
async def test_what_a_claim_under_way_brings_after_the_stop_is_applied_and_settled(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("first")
    async with bench.worker(until_idle=False) as worker:
        takes = Takes(worker)
        takes.open.clear()
        running = asyncio.create_task(worker.run())
        await takes.waits.wait()
        worker.stop()
        takes.open.set()
        await running
    assert [one.event_type for one in bench.effects.asked] == [EventType.CREATE_REQUESTED]
    (row,) = await query("SELECT state, attempts FROM outbox.queue")
    assert row == {"state": "ready", "attempts": 0}, "settled, and nothing of it is left to a lease's end"


async def test_a_creates_second_step_needs_no_further_claim(
    bench: Bench, enqueue: Enqueue, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.store.notifier.CHANNEL", "nobody_says_anything_here")
    await enqueue()
    async with bench.worker(until_idle=False, poll_seconds=60) as worker:
        takes = Takes(worker)
        running = asyncio.create_task(worker.run())
        await bench.effects.ended(EventType.REGISTERED)
        assert takes.brought == [EventType.CREATE_REQUESTED]
        worker.stop()
        await running
    assert len(await query("SELECT FROM outbox.events WHERE type = 'schedule.created'")) == 1


@direct_only
async def test_what_a_settle_under_way_hands_over_after_the_stop_is_applied_and_settled(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    settled = Stop()
    async with bench.worker(until_idle=False) as worker:
        with armed("settle.after", settled):
            running = asyncio.create_task(worker.run())
            await settled.reached.wait()
            worker.stop()
            settled.open()
            await running
    assert len(await query("SELECT FROM outbox.events WHERE type = 'schedule.created'")) == 1


async def test_a_worker_of_one_store_is_handed_nothing_of_the_other(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    async with bench.worker(until_idle=False, only=Consumer.AUTHZ) as worker:
        running = asyncio.create_task(worker.run())
        await rows_soon(query, "SELECT 1 AS one FROM outbox.queue WHERE event_type = 'schedule.registered'")
        worker.stop()
        await running
    (row,) = await query("SELECT state = 'leased' AS leased FROM outbox.queue")
    assert row == {"leased": False}
    assert [one.event_type for one in bench.effects.asked] == [EventType.CREATE_REQUESTED]


class Full(io.StringIO):
    """A stderr whose disk is full."""

    refused = 0

    def write(self, text: str, /) -> int:
        self.refused += len(text)
        raise OSError(errno.ENOSPC, "No space left on device")


class Takes:
    """Counts how often a worker begins to take, and holds it there while it is told to.

    Attributes:
        brought: the steps that takes have brought.
        open: takes go through; cleared, they wait.
        waits: one of them does.
    """

    def __init__(self, worker: Worker) -> None:
        self.begun = 0
        self.brought: list[EventType] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waits = asyncio.Event()
        self._take = worker._source.take
        worker._source.take = self.take  # type: ignore[method-assign]

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        self.begun += 1
        if not self.open.is_set():
            self.waits.set()
            await self.open.wait()
        taken = await self._take(credit)
        self.brought += [one.event_type for one in taken]
        return taken


async def test_what_handles_a_step_may_not_die_unseen(bench: Bench, enqueue: Enqueue, query: Query) -> None:
    """Its outcome is lost with it: the others' are settled, and the worker ends and says so."""
    await enqueue("dies")
    await enqueue("lives")
    # None is left for a further attempt: the outcomes of these are all that is settled.
    dying = iter([True])

    async def die_once() -> None:
        if next(dying, False):
            raise ZeroDivisionError("a defect")

    with armed("decide.before", die_once), capture_logs() as logs:
        async with bench.worker(until_idle=False) as worker:
            with pytest.raises(ZeroDivisionError, match="a defect"):
                await worker.run()
    assert [line["log_level"] for line in logs if line["event"] == "step.died"] == ["error"]
    leased = await query("SELECT count(*) AS n FROM outbox.queue WHERE state = 'leased'")
    assert leased == [{"n": 1}], "the one that died waits for its lease to end"
    assert len(bench.effects.asked) == worker.summary()["advance"] + 1


async def test_a_log_that_can_not_be_written_costs_no_outcome(
    bench: Bench, enqueue: Enqueue, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(4):
        await enqueue(f"s{place}")
    bench.effects.behaviour = lambda _: Refused(ErrorCode.REFUSED, "bad cron")
    monkeypatch.setattr(sys, "stderr", full := Full())
    set_up_logs(verbose=True)
    async with bench.worker() as worker:
        await worker.run()
    assert full.refused, "something was to be said of it"
    failed = await query("SELECT count(*) AS n FROM outbox.events WHERE type = 'schedule.create_failed'")
    assert failed == [{"n": 4}]


async def test_a_step_that_takes_too_long_to_drain_is_released(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()

    async def hang(_: Dispatch) -> Outcome:
        await asyncio.Event().wait()
        return Done()

    bench.effects.behaviour = hang
    async with bench.worker(until_idle=False, drain_seconds=0.1) as worker:
        running = asyncio.create_task(worker.run())
        await bench.effects.started.wait()
        worker.stop()
        began = time.monotonic()
        await running
    assert time.monotonic() - began < 4, "well before the step's own deadline"
    (tried,) = await query("SELECT action, error_code FROM outbox.attempts")
    assert tried == {"action": "retry", "error_code": "released"}
    (row,) = await query("SELECT error_code, unknown_until IS NOT NULL AS unknown FROM outbox.queue")
    assert row == {"error_code": "released", "unknown": True}


async def test_it_survives_the_loss_of_all_its_connections(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    """As in a restart of Postgres: idle, in the middle of a settle, and listening."""
    await enqueue("before")
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'outbox%'"
    async with bench.worker(until_idle=False, poll_seconds=0.05) as worker:
        running = asyncio.create_task(worker.run())
        await rows_soon(query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.created'")
        await query(kill)
        await enqueue("after")
        await rows_soon(
            query, "SELECT 1 AS one FROM outbox.events WHERE type = 'schedule.created' HAVING count(*) = 2"
        )
        worker.stop()
        await running


@direct_only
async def test_it_waits_out_a_read_only_server_and_connects_anew(
    bench: Bench, enqueue: Enqueue, query: Query, database: str
) -> None:
    """As a demoted primary, a standby answers: to whoever connected to it, for as long as it is one."""
    await enqueue()
    name = sql.Identifier(parameters(database)["dbname"])
    with psycopg.connect(database, autocommit=True) as writable, capture_logs() as logs:
        writable.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        async with bench.worker() as worker:
            running = asyncio.create_task(worker.run())
            async with asyncio.timeout(240):
                while not [one for one in logs if one["event"] == "take.postponed"]:  # noqa: ASYNC110 - a log
                    await asyncio.sleep(0.01)
            writable.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
            await running
    (ended,) = await query("SELECT count(*) AS n FROM outbox.events WHERE type = 'schedule.created'")
    assert ended == {"n": 1}
    assert {one["reason"] for one in logs if one["event"] == "take.postponed"} == {
        "cannot execute UPDATE in a read-only transaction"
    }


async def test_an_outcome_survives_a_settle_that_is_cut_off(
    bench: Bench, enqueue: Enqueue, query: Query, database: str
) -> None:
    await enqueue()
    finish = asyncio.Event()

    async def wait(_: Dispatch) -> Outcome:
        await finish.wait()
        return Done()

    bench.effects.behaviour = wait
    async with bench.worker() as worker:
        running = asyncio.create_task(worker.run())
        await bench.effects.started.wait()
        async with await psycopg.AsyncConnection.connect(database) as blocker:
            await blocker.execute("SELECT FROM outbox.queue FOR UPDATE")
            finish.set()
            (settling,) = await rows_soon(query, SETTLES)
            await query("SELECT pg_terminate_backend(%s)", settling["pid"])
        await running
    assert [one.event_type for one in bench.effects.asked] == [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
    ]


@direct_only
async def test_a_postgres_that_is_away_when_asked_for_more_work_does_not_end_it(
    bench: Bench, enqueue: Enqueue
) -> None:
    class AwayOnce(DirectSource):
        asked = 0

        async def pending(self, *, repairs: bool) -> bool:
            AwayOnce.asked += 1
            if AwayOnce.asked == 1:
                raise OperationalError("SELECT", {}, psycopg.OperationalError("server closed the connection"))
            return await super().pending(repairs=repairs)

    await enqueue()
    bench.source = AwayOnce
    async with bench.worker() as worker:
        await worker.run()
    assert AwayOnce.asked == 2
    assert worker.summary()["advance"] == 2


async def test_it_refuses_to_work_on_a_database_without_an_outbox(empty_database: str) -> None:
    async with Bench(empty_database).worker() as worker:
        with pytest.raises(ProgrammingError):
            await worker.run()


async def test_steps_under_way_are_settled_even_if_the_loop_dies(
    bench: Bench, enqueue: Enqueue, query: Query, wire: str
) -> None:
    await enqueue()
    takes = {"direct": "claim", "kafka": "take"}[wire]

    async def break_the_outbox(_: Dispatch) -> Outcome:
        await query(f"ALTER FUNCTION outbox.{takes} RENAME TO gone")
        await enqueue("another")
        return Done()

    bench.effects.behaviour = break_the_outbox
    async with bench.worker(until_idle=False) as worker:
        with pytest.raises(ProgrammingError):
            await worker.run()
    events = await query("SELECT type FROM outbox.events WHERE type = 'schedule.registered'")
    assert len(events) == 1


async def test_a_store_that_asks_for_patience_gets_it(bench: Bench, enqueue: Enqueue) -> None:
    await enqueue()
    answers: list[Outcome] = [Transient(ErrorCode.OVERLOADED, "later", retry_after=0.3), Done(), Done()]
    times: list[float] = []

    def answer(_: Dispatch) -> Outcome:
        times.append(time.monotonic())
        return answers.pop(0)

    bench.effects.behaviour = answer
    async with bench.worker() as worker:
        await worker.run()
    assert times[1] - times[0] >= 0.3
