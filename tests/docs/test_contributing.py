"""What CONTRIBUTING.md lists is there, and what its lists would let slip goes red here."""

import re
from pathlib import Path

import pytest

from outbox.flow.table import STEPS, TERMINALS, EventType, Status
from outbox.kafka import cloudevents
from outbox.store import why
from tests.docs.pages import ROOT, Page

SQL = sorted((ROOT / "migrations/sql").glob("*.sql"))


def test_the_files_it_names_exist() -> None:
    page = Page("CONTRIBUTING.md")
    named = set(re.findall(r"(?:tests|outbox|consumers|migrations|docs)/[\w./]+\w", page.text))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_hook_is_make_lint() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"(?:entry|repo): (.*)", hooks) == ["local", "make lint"]


def test_every_step_that_waits_has_its_words() -> None:
    assert set(why._EFFECTS) == set(STEPS)


def test_the_public_schema_has_every_event() -> None:
    assert cloudevents.schema()["properties"]["type"]["enum"] == list(EventType)


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_sql_that_lists_terminal_events_lists_all_or_all_that_end_alike(path: Path) -> None:
    alike = [{event for event, end in TERMINALS.items() if end.status is status} for status in Status]
    for listed in re.findall(r"\bIN\s*\(([^()]*)\)", path.read_text("utf-8")):
        events = set(re.findall(r"'(schedule\.[^']*)'", listed))
        if events & TERMINALS.keys():
            assert events in [set(TERMINALS), set(EventType), *alike]
