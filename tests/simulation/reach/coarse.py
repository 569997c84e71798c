"""Cells seen from afar: what few seeds must reach already."""

from collections.abc import Iterator

from outbox.flow.table import STEPS, EventType
from tests.simulation.reach.cells import LOOK, Act, Attempt, Beside, Cell, Settle, all_cells
from tests.simulation.reach.never import reason_against


def coarse(cell: Cell) -> Iterator[str]:
    """Name what a cell is one of."""
    match cell:
        case Attempt():
            consumer = STEPS[EventType(cell.step.removesuffix(LOOK))].consumer
            yield f"{consumer}: {cell.happened}"
            yield f"{'a look' if cell.step.endswith(LOOK) else cell.step}: {cell.came}"
        case Settle():
            yield f"{cell.came}: {cell.became}"
        case Beside():
            yield f"{cell.step}: {cell.live} lives"
        case Act():
            yield f"{cell.deed}: {cell.answer}"
            yield f"{cell.deed}: its head is {cell.lane.head}"
            yield f"{cell.deed}: {cell.lane.live} lives"


def all_coarse() -> set[str]:
    """Name what might be reached."""
    return {name for cell in all_cells() if reason_against(cell) is None for name in coarse(cell)}
