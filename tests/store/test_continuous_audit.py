"""The round that all workers share: its turns, its rate, its end."""

from collections.abc import AsyncIterator

import pytest

from outbox.store.continuous_audit import ContinuousAuditStore, Stage, Turn
from outbox.store.engine import open_engine
from tests.store.conftest import Enqueue, Query

RATE = 3.0


@pytest.fixture
async def rounds(database: str, query: Query) -> AsyncIterator[ContinuousAuditStore]:
    """With a rate's worth of time gone by."""
    await a_second_passes(query)
    async with open_engine(database) as engine:
        yield ContinuousAuditStore(engine)


async def a_second_passes(query: Query) -> None:
    await query("UPDATE outbox.audit SET at = at - interval '1 second'")


async def whole_round(rounds: ContinuousAuditStore, query: Query, most: int = 2) -> list[Turn]:
    """Take turns, each list of one page, until a round is over."""
    turns = []
    while True:
        turn = await rounds.take(RATE, most=most)
        if turn is None:
            await a_second_passes(query)
            continue
        turns.append(turn)
        if turn.stage is not Stage.LANES and await rounds.go_on(turn, None):
            return turns


async def test_a_round_goes_through_the_lanes_by_id_and_then_through_both_lists(
    rounds: ContinuousAuditStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    for name in ("c", "a", "b"):
        await enqueue(name)
    lanes = [f"{agent}--{name}" for name in "abc"]
    turns = await whole_round(rounds, query)
    assert [name for turn in turns for name in turn.names] == lanes
    assert max(len(turn.names) for turn in turns) == 2
    assert turns[-2:] == [Turn(Stage.SPICEDB, ""), Turn(Stage.TEMPORAL, "")]
    (row,) = await query("SELECT * FROM outbox.audit")
    assert (row["last_looked"], row["last_found"], row["looked"], row["began_at"]) == (3, {}, 0, None)
    assert row["last_ended_at"] >= row["last_began_at"]
    again = await whole_round(rounds, query)
    assert [name for turn in again for name in turn.names] == lanes


async def test_no_more_is_taken_than_the_rate_allows_whoever_takes(
    rounds: ContinuousAuditStore, database: str, enqueue: Enqueue, query: Query
) -> None:
    for place in range(9):
        await enqueue(f"s{place}")
    await query("UPDATE outbox.audit SET at = at - interval '1 hour'")
    first = await rounds.take(RATE, most=50)
    assert first
    assert len(first.names) == 3, "an hour of rest is worth one second"
    async with open_engine(database) as engine:
        other = ContinuousAuditStore(engine)
        # However long this test is held up: as if it had been taken just now, and then 700 ms ago, or more.
        await query("UPDATE outbox.audit SET at = at + interval '1 hour'")
        assert await other.take(RATE, most=50) is None
        await query("UPDATE outbox.audit SET at = clock_timestamp() - interval '700 ms'")
        second = await other.take(RATE, most=50)
    assert second
    assert len(second.names) in {2, 3}, "not more than a second's worth, whoever takes"
    assert not set(first.names) & set(second.names)


async def test_a_rate_below_one_adds_up(rounds: ContinuousAuditStore, enqueue: Enqueue, query: Query) -> None:
    await enqueue()
    await query("UPDATE outbox.audit SET at = clock_timestamp()")
    assert await rounds.take(0.01, most=1) is None
    await query("UPDATE outbox.audit SET at = at - interval '60 seconds'")
    assert await rounds.take(0.01, most=1) is None
    await query("UPDATE outbox.audit SET at = at - interval '60 seconds'")
    assert await rounds.take(0.01, most=1)


async def test_nothing_is_taken_while_a_breaker_is_open(rounds: ContinuousAuditStore, query: Query) -> None:
    await query(
        "INSERT INTO outbox.breakers (consumer, probe_at, error_code, error_message) "
        "VALUES ('temporal', now(), 'unreachable', 'away')"
    )
    assert await rounds.take(RATE, most=1) is None
    await query("DELETE FROM outbox.breakers")
    assert await rounds.take(RATE, most=1)


async def test_what_is_found_adds_up_and_is_kept_with_the_round(
    rounds: ContinuousAuditStore, query: Query
) -> None:
    await rounds.add({"foreign": 2, "missing_tuple": 1})
    await rounds.add({"foreign": 1})
    await whole_round(rounds, query)
    (row,) = await query("SELECT found, last_found FROM outbox.audit")
    assert row == {"found": {}, "last_found": {"foreign": 3, "missing_tuple": 1}}


def drift(name: str, kind: str = "missing_tuple", detail: str = "x") -> dict[str, str]:
    return {"schedule_id": name, "kind": kind, "detail": detail, "fix": "mend it"}


async def listed(query: Query) -> list[tuple[str, str, str]]:
    rows = await query("SELECT schedule_id, kind, detail FROM outbox.drifts ORDER BY 1, 2")
    return [(row["schedule_id"], row["kind"], row["detail"]) for row in rows]


async def test_what_is_found_of_a_schedule_is_listed_until_it_is_judged_again(
    rounds: ContinuousAuditStore, query: Query
) -> None:
    await rounds.add({}, judged=["a--b", "a--c"], drifts=[drift("a--b"), drift("a--c", "foreign")])
    await rounds.add({}, judged=["a--b"], drifts=[drift("a--b", "foreign"), drift("a--b", "foreign", "y")])
    assert await listed(query) == [("a--b", "foreign", "x; y"), ("a--c", "foreign", "x")]
    await rounds.add({}, judged=["a--b"])
    assert await listed(query) == [("a--c", "foreign", "x")]


async def test_what_a_whole_round_has_not_found_again_is_forgotten(
    rounds: ContinuousAuditStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    await rounds.add({}, drifts=[drift("before--it")])
    while await rounds.take(RATE, most=1) is None:
        await a_second_passes(query)
    await rounds.add({}, drifts=[drift("in--it")])
    await whole_round(rounds, query)
    assert await listed(query) == [("in--it", "missing_tuple", "x")]


async def test_of_each_kind_a_round_lists_the_first_thousand(
    rounds: ContinuousAuditStore, query: Query
) -> None:
    await rounds.add({"foreign": 999})
    await rounds.add({"foreign": 1}, drifts=[drift("the--last", "foreign")])
    await rounds.add({"foreign": 1}, drifts=[drift("one--more", "foreign")])
    await rounds.add({"missing_tuple": 1}, drifts=[drift("another--kind")])
    assert [name for name, *_ in await listed(query)] == ["another--kind", "the--last"]


async def test_of_two_that_read_one_page_one_goes_on(rounds: ContinuousAuditStore, query: Query) -> None:
    turn = None
    while turn is None or turn.stage is Stage.LANES:
        turn = await rounds.take(RATE, most=1)
        await a_second_passes(query)
    assert turn == Turn(Stage.SPICEDB, "")
    await rounds.go_on(turn, "page-2")
    await rounds.go_on(turn, "page-2, read by another")
    assert await rounds.take(RATE, most=1) == Turn(Stage.SPICEDB, "page-2")
