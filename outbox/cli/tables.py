"""Tables and lines for people: what identifies a row is always whole, whatever the width.

Where stdout is no terminal, each row is one whole line: nothing is cut and nothing wrapped, so that ``grep``
and ``awk`` see all of it. On a terminal that is too narrow a table first leaves columns out, in the order
that it names; where that is not enough, what may stand below does, on a line of its own after its row, and
the other columns have their room. What is wider than the terminal all the same is left to the terminal to
wrap, so that it can be copied whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        heading: what stands above it, or before a value that stands below its row.
        goes: the order in which columns go where there is no room, the smallest first; None: it stays.
        below: it may stand below its row; of several columns the last does so first.
        styles: how values are shown that it may have.
    """

    heading: str
    goes: int | None = None
    below: bool = False
    styles: Mapping[str, str] | None = None


def show(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, with a text for each column in each row."""
    for line in lines(columns, rows, _room(console)):
        console.print(line, soft_wrap=True)


def show_parts(console: Console, *parts: Text, gap: str = _GAP, indent: str = _GAP) -> None:
    """Print what comes row by row: its parts on one line or, without room, each below the first."""
    room = _room(console)
    line = Text(gap).join(parts)
    if room is None or line.cell_len <= room:
        console.print(line, soft_wrap=True)
        return
    for place, part in enumerate(parts):
        console.print(Text(indent if place else "").append_text(part), soft_wrap=True)


def cell(text: str, style: str = "") -> Text:
    """A text as it is shown: what others put into it (Temporal takes any name) moves no cursor."""
    return Text("".join(one if one.isprintable() else repr(one)[1:-1] for one in text), style)


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> Iterator[Text]:
    """The lines of a table, each at most so wide; None: as wide as they are."""
    cells = [
        [cell(text, (column.styles or {}).get(text, "")) for column, text in zip(columns, row, strict=True)]
        for row in rows
    ]
    widths = [
        max(cell_len(column.heading), *(row[place].cell_len for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    beside, below = _layout(columns, widths, room)
    yield _side_by_side([Text(column.heading, "bold") for column in columns], widths, beside)
    for row in cells:
        yield _side_by_side(row, widths, beside)
        for place in below:
            if row[place]:
                yield Text(f"{_GAP}{columns[place].heading}: ").append_text(row[place])


def _layout(
    columns: Sequence[Column], widths: Sequence[int], room: int | None
) -> tuple[Sequence[int], Sequence[int]]:
    """Which columns stand side by side, and which below: as few as possible below, then as few left out."""
    places = range(len(columns))
    lowest_first = [place for place in reversed(places) if columns[place].below]
    first_to_go = sorted(
        (place for place in places if columns[place].goes is not None), key=lambda at: columns[at].goes or 0
    )
    layout: tuple[list[int], list[int]] = (list(places), [])
    for moved in range(len(lowest_first) + 1):
        below = sorted(lowest_first[:moved])
        for gone in range(len(first_to_go) + 1):
            beside = [place for place in places if place not in {*below, *first_to_go[:gone]}]
            layout = (beside, below)
            if room is None or sum(widths[at] for at in beside) + len(_GAP) * (len(beside) - 1) <= room:
                return layout
    return layout


def _side_by_side(row: Sequence[Text], widths: Sequence[int], beside: Sequence[int]) -> Text:
    """One line; its end is not filled up."""
    line = Text()
    for place in beside:
        line.append_text(row[place]).append(" " * (widths[place] - row[place].cell_len) + _GAP)
    line.rstrip()
    return line


def _room(console: Console) -> int | None:
    """How wide a line may be. Colours may be forced into a pipe; that makes it no terminal."""
    return console.width if console.file.isatty() else None
