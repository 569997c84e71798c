"""Tables at every width: what identifies a row is whole, the rest goes in order, a pipe gets whole lines."""

import io

import pytest
from rich.console import Console

from outbox.cli.tables import Column, show

COLUMNS = (
    Column("intent"),
    Column("schedule"),
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


def printed(
    width: int | None,
    rows: list[list[str]] = ROWS,
    *,
    stacks: bool = False,
    columns: tuple[Column, ...] = COLUMNS,
) -> list[str]:
    """The lines at so many columns; None: into a pipe."""
    file = io.StringIO()
    console = Console(
        file=file, width=width or 80, force_terminal=width is not None, color_system=None, soft_wrap=True
    )
    show(console, columns, rows, stacks=stacks)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (140, ["intent", "schedule", "status", "attempts", "created", "error"]),
        (110, ["intent", "schedule", "status", "created", "error"]),
        (100, ["intent", "schedule", "status", "error"]),
        (80, ["intent", "schedule", "status"]),
    ],
)
def test_columns_go_in_their_order_and_no_line_is_too_long(width: int, headings: list[str]) -> None:
    lines = printed(width)
    assert lines[0].split() == headings
    assert all(len(line) <= width for line in lines)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert line.split()[:3] == row[:3]


def test_where_what_identifies_a_row_does_not_fit_it_stands_below_one_another() -> None:
    assert printed(60) == [
        INTENT,
        "  schedule: agent-1--daily-report",
        "  status: succeeded",
        INTENT,
        "  schedule: a--b",
        "  status: failed",
    ]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_longest_schedule_id_is_whole(width: int) -> None:
    lines = printed(width, [[INTENT, LONG, "pending", "0", "11-27 11:45:12", ""]])
    assert f"  schedule: {LONG}" in lines


def test_a_pipe_gets_every_column_of_every_row_in_a_line_of_its_own() -> None:
    rows = [*ROWS, [INTENT, LONG, "pending", "0", "11-27 11:45:12", "e" * 200]]
    lines = printed(None, rows)
    assert len(lines) == 4
    for line, row in zip(lines[1:], rows, strict=True):
        assert [cell for cell in row if cell] == line.replace("11-27 ", "11-27_").replace("_", " ", 1).split(
            "  "
        )[:1] + [one.strip() for one in line.split("  ")[1:] if one.strip()]


def test_what_stacks_leaves_nothing_out() -> None:
    lines = printed(60, stacks=True)
    assert lines[:5] == [
        INTENT,
        "  schedule: agent-1--daily-report",
        "  status: succeeded",
        "  attempts: 2",
        "  created: 11-27 11:45:12",
    ]
    assert lines[-1] == "  error: registration_refused"


def test_wide_characters_count_as_they_are_shown() -> None:
    lines = printed(80, [["日本", "b"], ["c", "d"]], columns=(Column("one"), Column("two")))
    assert lines == ["one   two", "日本  b", "c     d"]
