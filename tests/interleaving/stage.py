"""Sessions that go one step at a time, as they are told; a step ends where the next statement begins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.store.engine import async_engine
from tests.interleaving.instrument import Places, Touch, instrument

Call = Callable[[AsyncEngine], Awaitable[Any]]

_DEADLOCK_MS = 100
_KEEP = "SELECT pg_advisory_lock(%(session)s, 0), pg_advisory_lock(%(session)s, 1)"
_LET_PASS = "SELECT pg_advisory_unlock(%(session)s, %(turn)s), pg_advisory_lock(%(session)s, %(turn)s)"
# Whom each session waits for; for the stage itself, where it stops.
_WAITS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s) AS pid"
# Asked after that: each has said where it stops before it does.
_PLACES = "SELECT pid, application_name FROM pg_stat_activity WHERE pid = ANY (%s)"


class _Session:
    """One connection, by which somebody calls the outbox.

    Attributes:
        engine: of this one connection.
        call: under way, or done.
        turn: which of its two locks it waits for next.
        written: what its call has added, changed and locked so far.
    """

    def __init__(self, number: int, engine: AsyncEngine, pid: int) -> None:
        self.number = number
        self.engine = engine
        self.pid = pid
        self.call: asyncio.Future[Any] | None = None
        self.turn = 0
        self.written = Touch()


@dataclass(frozen=True, slots=True)
class Step:
    """What a session does when it goes on.

    Attributes:
        touch: what that touches; of an end, all that its call has written or locked.
        ends: the call ends, and its transaction with it.
    """

    session: int
    place: str
    touch: Touch
    ends: bool

    def meets(self, other: "Step") -> bool:
        """Whether it may matter which of the two comes first.

        What is written is waited for at once, and seen when it is committed.
        """
        return bool(self.touch.locks & other.touch.locks) or self._shows(other) or other._shows(self)

    def _shows(self, other: "Step") -> bool:
        """Whether the other sees what this one commits."""
        seen = other.touch.reads | other.touch.locks
        return self.ends and not seen.isdisjoint(self.touch.adds | self.touch.locks)


@dataclass(frozen=True, slots=True)
class Scene:
    """A moment at which nobody moves.

    Attributes:
        steps: what those would do that stop.
        waiting: others wait for locks of these.
    """

    steps: list[Step]
    waiting: bool


class Stage:
    """Keeps the locks of its sessions, and lets one go on at a time."""

    def __init__(
        self, line: psycopg.AsyncConnection[Any], places: Places, sessions: Sequence[_Session]
    ) -> None:
        self.line = line
        self._places = places
        self._all = sessions
        self._playing: Sequence[_Session] = ()

    async def begin(self, calls: Sequence[Call]) -> None:
        """Have each session begin its call; none gets past its first stop."""
        self._playing = self._all[: len(calls)]
        for one, call in zip(self._playing, calls, strict=True):
            one.turn, one.written = 0, Touch()
            async with one.engine.connect() as connection:
                await connection.execute(text("SET stepper.turn = '0'"))
            await self.line.execute(_KEEP, {"session": one.number})
            one.call = asyncio.ensure_future(call(one.engine))

    async def stopped(self) -> Scene:
        """Wait until nobody moves: each has ended, stops, or waits for one that stops."""
        while True:
            await asyncio.sleep(0)
            waits = await self._asked(_WAITS)
            going = [one for one in self._playing if one.call and not one.call.done()]
            stopping = [one for one in going if self.line.info.backend_pid in waits[one.pid]]
            # Whoever waits for somebody else, as for a vacuum that cuts off a table's end, goes on by itself.
            ours = {one.pid for one in self._playing} | {self.line.info.backend_pid}
            moving = [one for one in going if ours.isdisjoint(waits[one.pid])]
            # Where all wait for each other, Postgres ends one of them.
            if not moving and (stopping or not going):
                places = await self._asked(_PLACES)
                steps = [self._step(one, places[one.pid]) for one in stopping]
                return Scene(steps, waiting=len(stopping) < len(going))

    async def _asked(self, statement: LiteralString) -> dict[int, Any]:
        pids = [one.pid for one in self._playing]
        return dict(await (await self.line.execute(statement, (pids,))).fetchall())

    async def go_on(self, step: Step) -> None:
        """Let a session do this."""
        one = next(one for one in self._playing if one.number == step.session)
        one.written |= Touch(adds=step.touch.adds, locks=step.touch.locks)
        # Kept again as soon as the session has passed, which gives it back at once.
        await self.line.execute(_LET_PASS, {"session": one.number, "turn": one.turn})
        one.turn = 1 - one.turn

    async def end(self) -> list[Any]:
        """What the calls returned, or raised."""
        results = await asyncio.gather(
            *(one.call for one in self._playing if one.call), return_exceptions=True
        )
        await self.line.execute("SELECT pg_advisory_unlock_all()")
        return results

    def _step(self, one: _Session, place: str) -> Step:
        touch = self._places[place]
        if touch is None:
            return Step(one.number, place, one.written, ends=True)
        return Step(one.number, place, touch, ends=False)


@asynccontextmanager
async def open_stage(url: str, called: Sequence[str], sessions: int) -> AsyncIterator[Stage]:
    """A stage on a database of its own, whose functions are changed for good.

    Args:
        url: of the database, as its owner.
        called: the functions that are called.
        sessions: how many may call at once.
    """
    made: list[_Session] = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
        places = await instrument(line, called)
        try:
            for number in range(1, sessions + 1):
                options = quote(f"-c stepper.me={number} -c deadlock_timeout={_DEADLOCK_MS}")
                engine = async_engine(f"{url}?options={options}")
                async with engine.connect() as connection:
                    pid = await connection.scalar(text("SELECT pg_backend_pid()"))
                made.append(_Session(number, engine, int(pid or 0)))
            yield Stage(line, places, made)
        finally:
            for one in made:
                await one.engine.dispose()
