"""Sessions that go one step at a time, as they are told; a step ends where the next statement begins."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.store.engine import async_engine
from tests.interleaving.footprint import Footprint, Recorder
from tests.interleaving.instrument import MOST_SESSIONS, TOLD, Catalogue, Place, instrument

Call = Callable[[AsyncEngine], Awaitable[Any]]

_DEADLOCK_MS = 100
# How long nobody has to say anything before it is asked who waits for whom.
_SILENCE_SECONDS = 0.003
_KEEP = "SELECT pg_advisory_lock(%s, turn) FROM unnest(%s) AS turn"
_LET_PASS = "SELECT pg_advisory_unlock(%s, %s)"
_WAITS = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s) AS pid"


class Step:
    """What a session does when it goes on.

    Attributes:
        place: where it stopped before.
        footprint: what it did; at most, while it is not at its next stop.
        freed: those who waited for a lock, and who went on as it was given back.
    """

    def __init__(self, session: int, place: str, footprint: Footprint) -> None:
        self.session = session
        self.place = place
        self.footprint = footprint
        self.freed: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"{self.session}.{self.place}"


class _Session:
    """One connection, by which somebody calls the outbox.

    Attributes:
        engine: of this one connection.
        call: under way, or done.
        told: what it said where it stops; None: it does not.
        doing: its step that has not come to an end.
    """

    def __init__(
        self, number: int, engine: AsyncEngine, pid: int, catalogue: Catalogue, moved: asyncio.Event
    ) -> None:
        self.number = number
        self.engine = engine
        self.pid = pid
        self.call: asyncio.Future[Any] | None = None
        self.told: Mapping[str, Any] | None = None
        self.doing: Step | None = None
        self._place: Place | None = None
        self._places = catalogue.places
        self._recorder = Recorder(catalogue)
        self._moved = moved

    def begin(self, call: Call) -> None:
        self.told = self.doing = self._place = None
        self._recorder.began()
        self.call = asyncio.ensure_future(call(self.engine))
        self.call.add_done_callback(lambda _: self._moved.set())

    @property
    def is_under_way(self) -> bool:
        return self.told is None and self.call is not None and not self.call.done()

    def hear(self, notice: Any) -> None:
        """What the session says while its statement is under way."""
        said = notice.message_primary or ""
        if said.startswith(TOLD):
            told = json.loads(said.removeprefix(TOLD))
            if "wrote" in told:
                self._recorder.wrote(told)
            else:
                self._finish(self._recorder.stopped(self._place, told))
                self.told, self._place = told, self._places[told["at"]]
                self._moved.set()

    def next_step(self) -> Step | None:
        """What it does next; None: it waits for others, or has returned."""
        if self.call and self.call.done() and self.doing and self._place:
            self._finish(self._recorder.ended(self._place))
        if self.told is None or self._place is None:
            return None
        return Step(self.number, self.told["at"], self._recorder.at_most(self._place))

    def _finish(self, footprint: Footprint) -> None:
        if self.doing:
            self.doing.footprint = footprint
        self.doing = None


class Scene:
    """A moment at which nobody moves.

    Attributes:
        steps: what those would do that stop.
        waiting: others wait for locks of these.
    """

    def __init__(self, steps: Sequence[Step], waiting: frozenset[int]) -> None:
        self.steps = steps
        self.waiting = waiting


class Stage:
    """Keeps the locks of its sessions, and lets one go on at a time."""

    def __init__(
        self, line: psycopg.AsyncConnection[Any], sessions: Sequence[_Session], moved: asyncio.Event
    ) -> None:
        self.line = line
        self._all = sessions
        self._playing: Sequence[_Session] = ()
        self._moved = moved

    async def begin(self, calls: Sequence[Call]) -> Scene:
        """Have each session begin its call; none gets past its first stop."""
        self._playing = self._all[: len(calls)]
        for one, call in zip(self._playing, calls, strict=True):
            await self.line.execute(_KEEP, (one.number, [0, 1]))
            one.begin(call)
            scene = await self._stopped()
        return scene

    async def go_on(self, step: Step) -> Scene:
        """Let a session do this, until nobody moves: each has ended, stops, or waits for one that stops."""
        one = next(one for one in self._playing if one.number == step.session)
        waited = [(other.number, other.doing) for other in self._playing if other.is_under_way]
        assert one.told
        turn = one.told["turn"]
        one.told, one.doing = None, step
        await self.line.execute(_LET_PASS, (one.number, turn))
        scene = await self._stopped()
        # The session has passed, and does not come to this lock again before its next stop but one.
        await self.line.execute(_KEEP, (one.number, [turn]))
        for number, theirs in waited:
            if theirs and number not in scene.waiting:
                # What they waited to do was done only now.
                step.freed |= {number}
                step.footprint |= theirs.footprint
        return scene

    async def _stopped(self) -> Scene:
        while under_way := [one for one in self._playing if one.is_under_way]:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), _SILENCE_SECONDS)
                continue
            pids = [one.pid for one in under_way]
            waits = dict(await (await self.line.execute(_WAITS, (pids,))).fetchall())
            # Whoever waits for somebody else, as for a vacuum that cuts off a table's end, goes on by itself.
            ours = {one.pid for one in self._playing}
            stuck = not any(ours.isdisjoint(waits[pid]) for pid in pids)
            # Where all wait for each other, Postgres ends one of them.
            if stuck and not self._moved.is_set() and any(one.told for one in self._playing):
                break
        steps = [step for one in self._playing if (step := one.next_step())]
        return Scene(steps, frozenset(one.number for one in under_way))

    async def end(self) -> list[Any]:
        """What the calls returned, or raised."""
        results = await asyncio.gather(
            *(one.call for one in self._playing if one.call), return_exceptions=True
        )
        await self.line.execute("SELECT pg_advisory_unlock_all()")
        return results


@asynccontextmanager
async def open_stage(url: str, called: Sequence[str]) -> AsyncIterator[Stage]:
    """A stage on a database of its own, whose functions are changed for good.

    Args:
        url: of the database, as its owner.
        called: the functions that are called.
    """
    made: list[_Session] = []
    moved = asyncio.Event()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
        catalogue = await instrument(line, called)
        try:
            for number in range(1, MOST_SESSIONS + 1):
                # Whole tables are read where there is no other way: that says less of what was looked for.
                options = quote(
                    f"-c stepper.me={number} -c deadlock_timeout={_DEADLOCK_MS} -c enable_seqscan=off"
                )
                engine = async_engine(f"{url}?options={options}")
                async with engine.connect() as connection:
                    pid = await connection.scalar(text("SELECT pg_backend_pid()"))
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    made.append(_Session(number, engine, int(pid or 0), catalogue, moved))
                    driver.add_notice_handler(made[-1].hear)
            yield Stage(line, made, moved)
        finally:
            for one in made:
                await one.engine.dispose()
