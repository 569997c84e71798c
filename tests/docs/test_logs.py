"""The page of logs has every event that the code logs, at its level, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.docs.pages import ROOT, Page

LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "told": "warning",
}
"""What a logger's method is called; ``told`` is one of them, by what was found."""
MADE = {
    **{f"{process}.draining": "info" for process in ("worker", "relay", "console")},
    **{f"{process}.cut_off": "error" for process in ("worker", "relay", "console")},
    "audit.forgotten_stamp": "warning",
    "audit.foreign_stamp": "debug",
}
"""The names that are put together, which no search finds."""


def logged() -> Iterator[tuple[str, str]]:
    for top in ("outbox", "consumers"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and node.args and (found := event(node)):
                    yield found


def event(call: ast.Call) -> tuple[str, str] | None:
    match call.func, call.args[0]:
        case (ast.Attribute(value=logger, attr=level), ast.Constant(value=str(name))):
            ours = re.fullmatch(r"(self\.)?_?log", ast.unparse(logger))
            return (name, LEVELS[level]) if ours and level in LEVELS else None
        case (ast.Name(id="told"), ast.Constant(value=str(name))):
            return name, LEVELS["told"]
    return None


def test_every_event_that_is_logged_is_on_the_page_at_its_level_and_no_other_is() -> None:
    found = dict(logged())
    assert "step.failed" in found
    table = Page("docs/logs.md").table("event", "level", "says")
    assert {row[0]: row[1] for row in table} == found | MADE


def test_every_name_that_is_put_together_is_known() -> None:
    source = (ROOT / "outbox/cli/serving.py").read_text("utf-8")
    processes = set(re.findall(r'_Signals\("(\w+)"', source))
    assert {name.partition(".")[0] for name in MADE if name.endswith(".draining")} == processes
