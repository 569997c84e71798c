"""What is under way at once in Postgres, in every order of its statements that may matter."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import psycopg
import pytest

from tests.contracts.differential import compare
from tests.interleaving import of_operators, of_producers, of_workers
from tests.interleaving.body import statements
from tests.interleaving.calls import CALLED
from tests.interleaving.footprint import Footprint, Recorder
from tests.interleaving.instrument import Place, instrument
from tests.interleaving.run import play
from tests.interleaving.scenario import Scenario
from tests.interleaving.scenarios import SCENARIOS

# Played by `make orders` alone.
LONG = {
    "a take and a recall, and the next dispatch",
    "a store is halted while its step is taken",
    "two producers at SERIALIZABLE, and a claim",
}
# What is called, and in which scenarios.
CALLED_IN = {
    "workers": (of_workers.SCENARIOS, {"claim", "settle", "dispatch", "take", "recall"}),
    "operators": (
        of_operators.SCENARIOS,
        {"replay_by", "discard_by", "repair_by", "reclaim_by", "hold_by", "release_by"}
        | {"begin_prune", "prune_batch", "prune_lanes"},
    ),
    "producers": (of_producers.SCENARIOS, {"enqueue", "enqueue_many"}),
}
QUICK = {
    "a follower is placed while its head ends",
    "two settles of one lease",
    "one idempotency key, twice",
    "two producers at SERIALIZABLE, of two lanes",
}


async def test_no_order_breaks_a_rule(database: str) -> None:
    async for report in play(database, [one for one in SCENARIOS if one.name in QUICK]):
        assert report.wrong == [], report.name
        assert report.orders > 1, report.name


@pytest.mark.campaign(seconds=40)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenarios", CALLED_IN.values(), ids=CALLED_IN.keys())
async def test_no_order_of_what_is_called_from_outside_breaks_a_rule(
    database: str, scenarios: tuple[Sequence[Scenario], set[str]]
) -> None:
    played, functions = scenarios
    called: set[str] = set()
    async for report in play(database, [one for one in played if one.name not in LONG]):
        assert report.wrong == [], report.name
        assert report.orders > 1, report.name
        called |= report.called
    assert called >= functions


def test_whatever_is_called_from_outside_meets_something() -> None:
    assert set().union(*(functions for _, functions in CALLED_IN.values())) == set(CALLED)


@pytest.mark.campaign
async def test_those_that_are_left_out_come_to_nothing_else(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a statement's text allows is taken for what it did: many more orders, and the same endings."""
    (scenario,) = [one for one in SCENARIOS if one.name == "a follower is placed while its head ends"]
    exact = Recorder.stopped

    def coarse(self: Recorder, place: Place | None, told: Mapping[str, Any]) -> Footprint:
        bound = self.at_most(place) if place else Footprint()
        return exact(self, place, told) | bound

    async with aclosing(play(database, [scenario, scenario])) as reports:
        few = await anext(reports)
        monkeypatch.setattr(Recorder, "stopped", coarse)
        many = await anext(reports)
    assert many.orders > few.orders
    assert many.outcomes.keys() == few.outcomes.keys()
    assert many.wrong == few.wrong == []


def test_each_scenario_has_a_name_of_its_own() -> None:
    names = Counter(one.name for one in SCENARIOS)
    assert max(names.values()) == 1
    assert names.keys() > QUICK | LONG


async def test_stops_change_nothing_for_whoever_is_not_stopped(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as line:
        catalogue = await instrument(line, CALLED)
    assert {"settle", "choose", "enqueue", "replay"} <= {name.partition(":")[0] for name in catalogue.places}
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
        "RETURN;",
        "FOR one IN SELECT 1 FOR UPDATE LOOP",
        "DELETE FROM t;",
        "",
    ]
