"""Says which cells some seeds reached, which they didn't, and which nothing can."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from outbox.flow.table import STEPS
from tests.simulation.reach.cells import (
    LOOK,
    Act,
    Attempt,
    Beside,
    Came,
    Cell,
    Happened,
    Live,
    Settle,
    all_cells,
    step_of,
)
from tests.simulation.reach.never import reason_against

_KINDS = {Attempt: "attempts", Settle: "settlements", Beside: "what lives", Act: "acts on lanes"}
C = TypeVar("C", Attempt, Settle, Beside, Act)
S = TypeVar("S", Settle, Beside)


@dataclass(frozen=True)
class Reach:
    """What so many seeds reached.

    Attributes:
        seeds: how many they were.
        met: how often each cell was.
    """

    seeds: int
    met: Mapping[Cell, int]

    @property
    def missing(self) -> list[Cell]:
        """What might be reached, and was not."""
        return [cell for cell in all_cells() if cell not in self.met and reason_against(cell) is None]

    @property
    def disproved(self) -> list[str]:
        """What was reached though it can't be, or has no name."""
        named = set(all_cells())
        told = {cell: reason_against(cell) for cell in self.met}
        return [f"{cell}: {reason}" for cell, reason in told.items() if reason is not None] + [
            f"{cell}: there is no such cell" for cell in self.met if cell not in named
        ]


def tables(reach: Reach) -> Iterator[str]:
    """The tables, line by line, in Markdown."""
    yield f"| of {reach.seeds:,} seeds | cells | nothing can reach | might be reached | reached |"
    yield "|---|---|---|---|---|"
    for kind, name in _KINDS.items():
        cells = [cell for cell in all_cells() if isinstance(cell, kind)]
        possible = [cell for cell in cells if reason_against(cell) is None]
        reached = sum(cell in reach.met for cell in possible)
        yield f"| {name} | {len(cells)} | {len(cells) - len(possible)} | {len(possible)} | {reached} |"
    yield ""
    yield from _attempts(reach)
    yield ""
    yield from _by_step(reach, Settle, "step", Came, lambda one: one.came)
    yield ""
    yield from _by_step(reach, Beside, "step, while what lives is …", Live, lambda one: one.live)
    yield ""
    yield from _acts(reach)


def missing(reach: Reach) -> Iterator[str]:
    """What might be reached and was not, gathered by what it has in common."""
    lines: dict[str, list[str]] = defaultdict(list)
    for cell in reach.missing:
        match cell:
            case Attempt():
                lines[f"{_short(cell.step)}, {cell.happened}"].append(cell.came)
            case Settle():
                lines[f"{_short(cell.step)} comes out as {cell.came}"].append(cell.became)
            case Beside():
                lines[f"{_short(cell.step)}, live: {cell.live}"].append(cell.came)
            case Act():
                lines[f"{cell.deed}: {cell.answer}"].append(str(cell.lane))
    for what, ends in lines.items():
        yield f"- {what}: {'; '.join(ends)}"


def _attempts(reach: Reach) -> Iterator[str]:
    steps = [[event.value] for event in STEPS]
    looks = [step_of(event, look=True) for event in STEPS]
    yield f"| what happened to an attempt, last | {' | '.join(_short(step) for (step,) in steps)} | looks |"
    yield "|---" * (len(steps) + 2) + "|"
    possible = _possible(Attempt)
    for happened in Happened:
        told = [
            _share(reach, [one for one in possible if one.step in those and one.happened is happened])
            for those in [*steps, looks]
        ]
        yield f"| {happened} | {' | '.join(told)} |"


def _by_step(
    reach: Reach, kind: type[S], head: str, columns: type[Came | Live], of: Callable[[S], str]
) -> Iterator[str]:
    """A line for each step, a column for each of what its cells have."""
    yield f"| {head} | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    possible = _possible(kind)
    for step in dict.fromkeys(one.step for one in possible):
        of_step = [one for one in possible if one.step == step]
        told = [_share(reach, [one for one in of_step if of(one) == column]) for column in columns]
        yield f"| {_short(step)} | {' | '.join(told)} |"


def _acts(reach: Reach) -> Iterator[str]:
    yield "| somebody … | and the answer is … | in states of the lane | times |"
    yield "|---|---|---|---|"
    possible = _possible(Act)
    for deed, answer in dict.fromkeys((one.deed, one.answer) for one in possible):
        those = [one for one in possible if (one.deed, one.answer) == (deed, answer)]
        reached = [one for one in those if one in reach.met]
        times = sum(reach.met[one] for one in reached)
        yield f"| {deed} | {answer} | {len(reached)} of {len(those)} | {times:,} |"


def _share(reach: Reach, cells: Sequence[Cell]) -> str:
    """How often these cells were met, and how many of them; nothing where there can't be any."""
    if not cells:
        return ""
    reached = [one for one in cells if one in reach.met]
    return f"{sum(reach.met[one] for one in reached):,} ({len(reached)}/{len(cells)})"


def _possible(kind: type[C]) -> list[C]:
    return [cell for cell in all_cells() if isinstance(cell, kind) and reason_against(cell) is None]


def _short(step: str) -> str:
    return step.removeprefix("schedule.").removesuffix(LOOK) + (LOOK if step.endswith(LOOK) else "")
