"""States agree in three places: the code, the database's constraints, and the page."""

import re

import psycopg
import pytest

from outbox.errors import ErrorCode
from outbox.flow.settlement import _STRIKES, Action
from outbox.flow.table import REQUESTED, STEPS, TERMINALS, Consumer, EventType, Kind, Status
from tests.docs.pages import Page

STATES = Page("docs/states.md")


def test_the_page_has_the_flow() -> None:
    written = STATES.table(
        "event", "consumer", "effect", "done →", "skipped →", "rejected →", "rejected after unknown →"
    )
    flow = [
        (
            event,
            step.consumer,
            step.effect,
            step.done,
            step.skipped or "-",
            step.rejected or "-",
            step.rejected_after_unknown or "-",
        )
        for event, step in STEPS.items()
    ]
    assert written == flow


def test_the_page_has_the_terminal_events() -> None:
    written = STATES.table("event", "status", "live stamp")
    assert written == [(event, terminal.status, terminal.live) for event, terminal in TERMINALS.items()]


def test_the_page_has_what_counts_as_a_strike() -> None:
    written = {row[0] for row in STATES.table("strike", "why")}
    # A lost lease is counted by the claim, not by a settlement.
    assert written & set(ErrorCode) == {*_STRIKES, ErrorCode.LEASE_EXPIRED}


def test_every_event_is_pending_or_terminal() -> None:
    assert STEPS.keys() | TERMINALS.keys() == set(EventType)
    assert not STEPS.keys() & TERMINALS.keys()
    assert set(REQUESTED) == set(Kind)


def test_the_page_has_every_status() -> None:
    written = STATES.table("status", "when")
    names = [name.strip("` ") for row in written for name in row[0].split(",")]
    assert sorted(names) == sorted(Status)


@pytest.fixture
def checks(database: str) -> dict[str, set[str]]:
    """The values that each CHECK ... IN constraint of the migrated database allows."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'c' AND connamespace = 'outbox'::regnamespace"
        ).fetchall()
    return {name: set(re.findall(r"'([^']*)'", definition)) for name, definition in rows}


@pytest.fixture
def indexes(database: str) -> dict[str, set[str]]:
    """The values that each partial index of the migrated database is about."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'outbox'"
        ).fetchall()
    return {name: set(re.findall(r"'([^']*)'", definition)) for name, definition in rows}


def test_the_database_allows_the_places_and_states_of_the_page(checks: dict[str, set[str]]) -> None:
    written = STATES.table("column", "value", "meaning")
    assert {value for column, value, _ in written if column == "place"} == checks["queue_place"]
    assert {value for column, value, _ in written if column == "state"} == checks["queue_state"]


def test_the_database_allows_the_actions_of_the_page(checks: dict[str, set[str]]) -> None:
    written = {row[0] for row in STATES.table("action", "meaning")}
    assert written == checks["attempts_action"] == set(Action) - {Action.ADVANCE}


def test_the_database_allows_the_events_of_the_flow(checks: dict[str, set[str]]) -> None:
    assert checks["events_type"] == set(EventType)
    assert checks["queue_event_type"] == set(STEPS)


@pytest.mark.parametrize("constraint", ["events_consumer", "queue_consumer", "breakers_consumer"])
def test_the_database_allows_the_consumers_of_the_flow(checks: dict[str, set[str]], constraint: str) -> None:
    assert checks[constraint] == set(Consumer)


def test_the_database_allows_the_kinds_of_the_flow(checks: dict[str, set[str]]) -> None:
    assert checks["intents_kind"] == set(Kind)


def test_one_terminal_event_per_intent_means_each_of_them(indexes: dict[str, set[str]]) -> None:
    assert indexes["events_one_terminal"] == set(TERMINALS)
    failed = {event for event, terminal in TERMINALS.items() if terminal.status is Status.FAILED}
    assert indexes["events_failed"] == failed


def test_the_view_derives_the_status_of_the_flow(database: str) -> None:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT pg_get_viewdef('outbox.intent_status'::regclass)").fetchone()
    assert found
    succeeded = re.search(r"WHEN \(?t\.type = ANY \(ARRAY\[(.*?)\]", found[0])
    assert succeeded
    assert set(re.findall(r"'([^']*)'", succeeded[1])) == {
        event for event, terminal in TERMINALS.items() if terminal.status is Status.SUCCEEDED
    }
    assert set(re.findall(r"'(schedule\.[^']*)'", found[0])) == set(TERMINALS)
