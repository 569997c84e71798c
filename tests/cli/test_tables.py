"""Tables at every width: what identifies a row is whole, the rest goes in order, a pipe gets whole lines."""

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from outbox.cli.tables import Column, cell, lines, show, show_parts

COLUMNS = (
    Column("intent"),
    Column("schedule", below=True),
    Column("status"),
    Column("attempts", goes=1),
    Column("created", goes=2),
    Column("error", goes=3),
)
INTENT = "01a21cd2-e486-7a71-83a8-3d693d4b52ee"
ROWS = [
    [INTENT, "agent-1--daily-report", "succeeded", "2", "11-27 11:45:12", ""],
    [INTENT, "a--b", "failed", "12", "11-27 11:45:13", "registration_refused"],
]
LONG = "x" * 128 + "--" + "y" * 64
LONG_ROWS = [ROWS[0], [INTENT, LONG, "pending", "0", "11-27 11:45:14", ""]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(room: int | None, rows: list[list[str]], columns: tuple[Column, ...] = COLUMNS) -> list[str]:
    """The lines that so many columns have room for; None: any."""
    return [line.plain for line in lines(columns, rows, room)]


@pytest.mark.parametrize(
    ("room", "headings"),
    [
        (140, ["intent", "schedule", "status", "attempts", "created", "error"]),
        (110, ["intent", "schedule", "status", "created", "error"]),
        (100, ["intent", "schedule", "status", "error"]),
        (80, ["intent", "schedule", "status"]),
    ],
)
def test_columns_go_in_their_order_and_no_line_is_too_long(room: int, headings: list[str]) -> None:
    shown = at(room, ROWS)
    assert shown[0].split() == headings
    assert all(len(line) <= room for line in shown)
    for line, row in zip(shown[1:], ROWS, strict=True):
        assert line.split()[:3] == row[:3]


def test_where_that_is_not_enough_a_row_has_a_second_line() -> None:
    assert at(60, ROWS) == [
        "intent                                status",
        f"{INTENT}  succeeded",
        "  schedule: agent-1--daily-report",
        f"{INTENT}  failed",
        "  schedule: a--b",
    ]


@pytest.mark.parametrize(
    ("room", "headings"),
    [
        (60, ["intent", "status", "error"]),
        (75, ["intent", "status", "created", "error"]),
        (140, ["intent", "status", "attempts", "created", "error"]),
    ],
)
def test_the_longest_schedule_id_is_whole_and_leaves_its_room_to_the_others(
    room: int, headings: list[str]
) -> None:
    header, *shown = at(room, LONG_ROWS)
    assert header.split() == headings
    assert shown[1::2] == ["  schedule: agent-1--daily-report", f"  schedule: {LONG}"]
    assert all(len(line) <= room for line in shown[::2])


def test_where_nothing_helps_lines_are_whole() -> None:
    assert at(20, ROWS)[1] == f"{INTENT}  succeeded"


def test_without_a_bound_every_row_is_one_line_with_all_of_it() -> None:
    rows = [*ROWS, *LONG_ROWS, [INTENT, LONG, "pending", "0", "11-27 11:45:12", "e" * 200]]
    header, *shown = at(None, rows)
    assert re.split(" {2,}", header) == [column.heading for column in COLUMNS]
    assert [re.split(" {2,}", line) for line in shown] == [[one for one in row if one] for row in rows]


def test_of_what_may_stand_below_the_last_does_so_first_and_what_is_empty_takes_no_line() -> None:
    columns = (Column("name"), Column("value", below=True), Column("meaning", below=True))
    rows = [["a", "v" * 10, "m" * 50], ["b", "", "none"]]
    meaning = ["  meaning: " + "m" * 50, "  meaning: none"]
    assert at(30, rows, columns) == ["name  value", "a     " + "v" * 10, meaning[0], "b", meaning[1]]
    assert at(10, rows, columns) == ["name", "a", "  value: " + "v" * 10, meaning[0], "b", meaning[1]]


def test_wide_characters_count_as_they_are_shown() -> None:
    shown = at(80, [["日本", "b"], ["c", "d"]], (Column("one"), Column("two")))
    assert shown == ["one   two", "日本  b", "c     d"]


def test_a_table_without_rows_is_its_header() -> None:
    assert at(80, []) == ["intent  schedule  status  attempts  created  error"]


def test_a_row_is_one_line_whatever_is_in_it() -> None:
    rows = [["a\nb\x1b[2J", "[bold]c"]]
    assert at(None, rows, (Column("one"), Column("two")))[1] == "a\\nb\\x1b[2J  [bold]c"


@pytest.mark.parametrize("colours", [False, True])
def test_a_pipe_has_room_for_everything_coloured_or_not(colours: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=60, force_terminal=colours or None, color_system=None)
    show(console, COLUMNS, LONG_ROWS)
    show_parts(console, Text("what"), Text("w" * 100))
    assert len(file.getvalue().splitlines()) == 4
    assert LONG in file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_has_as_much_room_as_it_is_wide(width: int) -> None:
    file = Terminal()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    show(console, COLUMNS, LONG_ROWS)
    # Nothing is folded, either: what is longer is the terminal's to wrap.
    assert [line.rstrip() for line in file.getvalue().splitlines()] == at(width, LONG_ROWS)


def test_parts_stand_below_one_another_where_a_line_has_no_room() -> None:
    def printed(width: int) -> list[str]:
        file = Terminal()
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        show_parts(console, Text(f"{INTENT} failed:"), cell("m" * 50), gap=" ")
        return file.getvalue().splitlines()

    assert printed(140) == [f"{INTENT} failed: " + "m" * 50]
    assert printed(60) == [f"{INTENT} failed:", "  " + "m" * 50]
    assert printed(40) == [f"{INTENT} failed:", "  " + "m" * 50]
