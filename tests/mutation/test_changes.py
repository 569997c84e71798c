"""What the tool changes, what it lets be, and that the list of survivors fits the code."""

import re
from pathlib import Path

import pytest

from tests.mutation.change import ROOT, Change, changes_in
from tests.mutation.survivors import Survivor, all_survivors

CODE = '''
"""A module."""

log = structlog.get_logger()


class Lane:
    limit: int = 3

    @property
    def state(self) -> str:
        """What it is."""
        return State.IDLE if self.limit > 1 else State.BUSY

    def act(self, call, *, retry=True):
        try:
            self.store.put(call, retry=retry)
        except KeyError as error:
            log.warning("act.failed", error=str(error))
            raise
        match call:
            case Refused() | Conflict():
                return Transient(f"{call} of {self.limit}", "busy")
            case _:
                return None
'''


def changed() -> list[tuple[str, str, str]]:
    changes = changes_in("a.py", CODE, {"State": ("IDLE", "BUSY")})
    return [(one.where, one.old, one.new) for one in changes]


@pytest.mark.parametrize(
    ("where", "old", "new"),
    [
        ("Lane", "limit: int = 3", "limit: int = 4"),
        (
            "Lane.state",
            "return State.IDLE if self.limit > 1 else State.BUSY",
            "return State.BUSY if self.limit > 1 else State.BUSY",
        ),
        (
            "Lane.state",
            "return State.IDLE if self.limit > 1 else State.BUSY",
            "return State.IDLE if self.limit >= 1 else State.BUSY",
        ),
        ("Lane.state", "return State.IDLE if self.limit > 1 else State.BUSY", "return None"),
        ("Lane.act", "self.store.put(call, retry=retry)", "self.store.put(call, )"),
        ("Lane.act", "self.store.put(call, retry=retry)", "self.store.put(None, retry=retry)"),
        ("Lane.act", "self.store.put(call, retry=retry)", "pass"),
        ("Lane.act", "except KeyError as error:", "except () as error:"),
        ("Lane.act", 'log.warning("act.failed", error=str(error))', "pass"),
        ("Lane.act", "raise", "pass"),
        ("Lane.act", "case Refused() | Conflict():", "case Conflict():"),
        ("Lane.act", "case Refused() | Conflict():", "case Transient() | Conflict():"),
        (
            "Lane.act",
            'return Transient(f"{call} of {self.limit}", "busy")',
            'return Unknown(f"{call} of {self.limit}", "busy")',
        ),
        (
            "Lane.act",
            'case Refused() | Conflict(): return Transient(f"{call} of {self.limit}", "busy")',
            "",
        ),
    ],
)
def test_what_is_changed(where: str, old: str, new: str) -> None:
    assert (where, old, new) in changed()


def test_texts_for_people_stay_as_they_are() -> None:
    made = "\n".join(new for _, _, new in changed())
    assert "error=None" not in made
    assert "XXact.failedXX" not in made
    assert "XXA module.XX" not in made
    assert 'Transient(None, "busy")' not in made


def test_each_change_is_python_and_another_one() -> None:
    changes = changes_in("a.py", CODE, {})
    assert len({one.source for one in changes} | {CODE}) == len(changes) + 1
    assert len({one.name for one in changes}) == len(changes)
    for one in changes:
        compile(one.source, "a.py", "exec")


def test_a_change_keeps_its_name_where_other_lines_move() -> None:
    moved = CODE.replace("class Lane:", "one = 1\n\n\nclass Lane:")
    names = {one.name for one in changes_in("a.py", CODE, {})}
    assert names < {one.name for one in changes_in("a.py", moved, {})}


@pytest.mark.parametrize("survivor", all_survivors().values(), ids=lambda one: "-".join(map(str, one.name)))
def test_what_a_survivor_changes_is_there(survivor: Survivor) -> None:
    file, _, old, _, _ = survivor.name
    assert re.sub(r"\s+", " ", old) in re.sub(r"\s+", " ", Path(ROOT / file).read_text("utf-8"))
    assert survivor.why.strip()


def test_a_change_says_where_it_is() -> None:
    assert str(Change("a.py", "", "x = 1", "", 0, "")) == "a.py module: x = 1  ->  (nothing)"
