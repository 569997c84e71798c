"""Tables for people: what identifies a row is always whole, whatever the width.

On a terminal that is too narrow the other columns go, in an order that the table says; where even what
identifies a row does not fit side by side, each row is a few lines of its own. Where stdout is no terminal,
every row is one whole line: nothing is cut and nothing wrapped, so that ``grep`` and ``awk`` see all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        heading: what stands above it.
        goes: the order in which columns go where there is no room, the smallest first; None: it stays.
        styles: how values are shown that it may have.
    """

    heading: str
    goes: int | None = None
    styles: Mapping[str, str] | None = None


def show(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, stacks: bool = False
) -> None:
    """Print a table.

    Args:
        console: where to; it prints lines as they are (``soft_wrap``).
        columns: what stays and what goes.
        rows: a text for each column.
        stacks: where there is no room, put the other columns below instead of leaving them out.
    """
    width = console.width if console.is_terminal else None
    shown = list(range(len(columns)))
    while width is not None and _width(columns, rows, shown) > width:
        leaving = [place for place in shown if columns[place].goes is not None]
        if stacks or not leaving:
            for row in rows:
                _stack(console, columns, row, range(len(columns)) if stacks else shown)
            return
        shown.remove(min(leaving, key=lambda place: columns[place].goes or 0))
    widths = _widths(columns, rows, shown)
    console.print(_line([Text(columns[place].heading, "bold") for place in shown], widths))
    for row in rows:
        console.print(_line([_cell(columns[place], row[place]) for place in shown], widths))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int]) -> list[int]:
    """The widths that hold everything."""
    return [max(cell_len(text) for text in (columns[at].heading, *(row[at] for row in rows))) for at in shown]


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    return sum(_widths(columns, rows, shown)) + len(_GAP) * (len(shown) - 1)


def _cell(column: Column, text: str) -> Text:
    return Text(text, (column.styles or {}).get(text, ""))


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Side by side; the last is not filled up."""
    line = Text()
    for cell, width in zip(cells[:-1], widths, strict=False):
        line.append_text(cell).append(" " * (width - cell_len(cell.plain)) + _GAP)
    return line.append_text(cells[-1])


def _stack(console: Console, columns: Sequence[Column], row: Sequence[str], shown: Sequence[int]) -> None:
    """Below one another: the first alone, the others with their headings."""
    first, *others = shown
    console.print(_cell(columns[first], row[first]))
    for place in others:
        if row[place]:
            text = Text(f"{_GAP}{columns[place].heading}: ").append_text(_cell(columns[place], row[place]))
            console.print(text)
