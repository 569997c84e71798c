"""What the page of histories says of the format, and of the published files, is what they have."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.recorder import FORMAT, VERSION
from tests.docs.pages import ROOT, Page

PAGE = Page("docs/histories.md")
FILES = sorted((ROOT / "docs/histories").iterdir())
MOST_BYTES = 300_000


@cache
def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def quoted(cell: str) -> set[str]:
    """What stands between backquotes; a cell that is nothing else has lost them."""
    return set(re.findall(r"`([\w ]+)`", f"`{cell.strip('`')}`"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_is_as_the_format_has_it(path: Path) -> None:
    first, *rest = lines(path)
    assert (first["format"], first["version"]) == (FORMAT, VERSION)
    assert first.keys() == told_of_the_first_line()
    kinds = {(by, what) for by, cell, _ in PAGE.table("`by`", "`f`", "what") for what in quoted(cell)}
    values = {
        name: (quoted(asked), quoted(answered))
        for names, asked, answered in PAGE.table("`value` of", "asked", "answered")
        for name in quoted(names)
    }
    asked_for: dict[int, str] = {}
    for line in rest:
        unasked = line["type"] == "ok" and line["op"] not in asked_for
        if line["type"] == "invoke" or unasked:
            assert (line["by"], line["f"]) in kinds
            asked_for[line["op"]] = line["f"]
        what = asked_for[line["op"]]
        asked, answered = values.get(what, (set(), set()))
        known = asked if line["type"] == "invoke" else answered
        assert line["value"].keys() <= known | ({"error"} if line["type"] in {"fail", "info"} else set()), (
            line
        )
        assert line.keys() - {"schedule"} <= {"time", "op", "type", "by", "f", "value"}


def told_of_the_first_line() -> set[str]:
    rows = PAGE.text.partition("The first line tells")[2].partition("Each other line")[0]
    return {name for cell in re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE) for name in quoted(cell)}


def test_the_table_of_published_histories_says_what_is_in_them() -> None:
    table = PAGE.table(
        "history",
        "wire",
        "seed",
        "schedules",
        "commits",
        "rolled back",
        "reads",
        "ends told",
        "events heard",
        "troubles",
    )
    assert [row[1:] for row in table] == [tuple(map(str, counted(path))) for path in FILES]
    for row, path in zip(table, FILES, strict=True):
        assert row[0] == f"[{path.name}](histories/{path.name})"
        assert path.stat().st_size < MOST_BYTES


def counted(path: Path) -> list[Any]:
    first, *rest = lines(path)
    asked: Mapping[int, Any] = {line["op"]: line for line in rest if line["type"] == "invoke"}
    answers = Counter(
        (asked[line["op"]]["f"], line["type"])
        for line in rest
        if line["type"] != "invoke" and line["op"] in asked
    )
    rolled_back = sum(line["value"].get("error") == "rolled back" for line in rest)
    heard = sum(line.get("f") == "hear" for line in rest)
    return [
        first["wire"],
        first["seed"],
        len({line["schedule"] for line in rest if "schedule" in line}),
        answers["enqueue", "ok"],
        rolled_back,
        answers["read", "ok"],
        answers["wait", "ok"],
        heard,
        answers["trouble", "ok"],
    ]
