"""What comes of programs in every order, and in those that are played: the same, on a stage in memory."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.interleaving.explore import orders
from tests.interleaving.footprint import Footprint
from tests.interleaving.stage import Call, Scene, Step

# A statement: it reads what is committed of a row, or waits for the row's lock and adds what was read last.
READ, WRITE = "read", "write"
Program = Sequence[tuple[str, str]]
ROWS = "xyz"


class Memory:
    """Sessions that run such programs and commit at their ends, one at a time, as they are told."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.programs = programs
        self.played = 0

    async def begin(self, _: Sequence[Call]) -> Scene:
        self.played += 1
        self.committed = dict.fromkeys(ROWS, 0)
        self.pending: list[dict[str, int]] = [{} for _ in self.programs]
        self.read: list[list[int]] = [[] for _ in self.programs]
        self.at = [0] * len(self.programs)
        self.blocked: dict[int, Step] = {}
        return self.scene()

    def scene(self) -> Scene:
        steps = [
            Step(session, str(self.at[session]), self.footprint(session))
            for session, program in enumerate(self.programs)
            if session not in self.blocked and self.at[session] <= len(program)
        ]
        return Scene(steps, frozenset(self.blocked))

    def footprint(self, session: int) -> Footprint:
        program, at = self.programs[session], self.at[session]
        if at == len(program):
            written = frozenset(self.pending[session])
            return Footprint(shows=written, frees=written)
        kind, row = program[at]
        return Footprint(reads=frozenset(row)) if kind == READ else Footprint(locks=frozenset(row))

    async def go_on(self, step: Step) -> Scene:
        before = set(self.blocked)
        self.do(step)
        for session in before - self.blocked.keys():
            step.freed |= {session}
        return self.scene()

    def do(self, step: Step) -> None:
        session = step.session
        program, at = self.programs[session], self.at[session]
        if at == len(program):
            self.committed |= self.pending[session]
            self.pending[session] = {}
            self.at[session] += 1
            for other in sorted(self.blocked):
                theirs = self.blocked.pop(other)
                step.footprint |= theirs.footprint
                self.do(theirs)
            return
        kind, row = program[at]
        if kind == READ:
            self.read[session].append(self.pending[session].get(row, self.committed[row]))
        elif any(row in theirs for other, theirs in enumerate(self.pending) if other != session):
            self.blocked[session] = step
            return
        else:
            was = self.pending[session].get(row, self.committed[row])
            self.pending[session][row] = 10 * was + sum(self.read[session]) + session + 1
        self.at[session] += 1

    async def end(self) -> list[Any]:
        return [*self.read, self.committed, sorted(self.blocked)]


async def nothing() -> Sequence[Call]:
    return ()


async def all_outcomes(programs: Sequence[Program]) -> tuple[int, set[str]]:
    """Of every order that there is, none left out; and how many there are."""
    memory = Memory(programs)
    found, count = set(), 0
    path: list[tuple[int, int]] = []  # which of how many
    while True:
        scene, depth = await memory.begin(()), 0
        while scene.steps:
            if depth == len(path):
                path.append((0, len(scene.steps)))
            scene = await memory.go_on(scene.steps[path[depth][0]])
            depth += 1
        count += 1
        found.add(str(await memory.end()))
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return count, found
        path[-1] = path[-1][0] + 1, path[-1][1]


async def outcomes(programs: Sequence[Program]) -> tuple[int, set[str]]:
    memory = Memory(programs)
    found = [str(ending.results) async for ending in orders(memory, nothing)]
    return len(found), set(found)


@pytest.mark.parametrize("seed", range(25))
async def test_the_orders_that_are_played_come_to_all_that_there_is(seed: int) -> None:
    dice = random.Random(seed)
    programs = [
        [(dice.choice((READ, WRITE)), dice.choice(ROWS)) for _ in range(dice.randint(1, 3))]
        for _ in range(dice.randint(2, 3))
    ]
    _, every = await all_outcomes(programs)
    _, played = await outcomes(programs)
    assert played == every, f"seed {seed}: {programs}"


async def test_who_has_nothing_to_do_with_each_other_is_played_once() -> None:
    programs = [[(READ, row), (WRITE, row), (READ, row)] for row in ROWS]
    assert (await outcomes(programs))[0] == 1


async def test_one_order_is_played_for_each_that_a_reader_may_see() -> None:
    reader: Program = [(READ, "x")] * 3
    writer: Program = [(READ, "y"), (WRITE, "x"), (READ, "y")]
    assert (await outcomes([reader, writer]))[0] == 4
    assert (await all_outcomes([reader, writer]))[0] == 35 * 2
