"""What is under way at once in Postgres, in every order of its statements that may matter."""

import psycopg
import pytest

from tests.contracts.differential import compare
from tests.interleaving.instrument import instrument, statements
from tests.interleaving.run import play
from tests.interleaving.scenarios import CALLED, SCENARIOS, Scenario

# Some calls may go on in so many orders that only `make orders` plays them, three at once above all.
# What takes longer than a moment is played by `make campaigns`.
LONG = {
    "a run of updates ends while one more comes",
    "a producer commits while the head ends",
    "two producers and a claim",
    "two replays of a parked intent, and a claim",
    "repairs are asked for, twice, and claimed",
    "a repair is asked for while the head ends",
}
QUICK = {
    "two claims of one lane",
    "two settles of one lease",
    "one idempotency key, twice",
    "a replay and a discard of one parked intent",
}
SLOW = pytest.mark.campaign


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(one, id=one.name, marks=[] if one.name in QUICK else SLOW)
        for one in SCENARIOS
        if one.name not in LONG
    ],
)
async def test_no_order_breaks_a_rule(database: str, scenario: Scenario) -> None:
    async for report in play(database, [scenario]):
        assert report.wrong == []
        assert report.orders > 1


def test_each_scenario_that_is_named_here_is_there() -> None:
    assert {one.name for one in SCENARIOS} > LONG | QUICK


async def test_stops_change_nothing_for_whoever_is_not_stopped(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as line:
        places = await instrument(line, CALLED)
    assert {"settle", "choose", "enqueue", "replay"} <= {name.partition(":")[0] for name in places}
    await compare(database, seeds=range(2), operations=35)


def test_a_body_is_cut_where_statements_begin() -> None:
    body = """
    DECLARE
        many integer := 1;
    BEGIN
        -- A comment; with a semicolon.
        IF many > CASE WHEN true THEN 0 ELSE 1 END THEN
            PERFORM f(';');
        ELSIF many = 2 THEN
            RETURN QUERY SELECT (SELECT 1);
            RETURN;
        END IF;
        FOR one IN SELECT 1 FOR UPDATE LOOP
            DELETE FROM t;
        END LOOP;
    END;
    """.replace("\n    ", "\n")
    found = [" ".join(text.split()) for _, text in statements(body)]
    assert found == [
        "IF many > CASE WHEN true THEN 0 ELSE 1 END THEN",
        "PERFORM f(';');",
        "RETURN QUERY SELECT (SELECT 1);",
        "",
        "FOR one IN SELECT 1 FOR UPDATE LOOP",
        "DELETE FROM t;",
        "",
    ]
