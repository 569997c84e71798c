"""What lies between a worker and a store: calls are delayed, lost, applied twice or late, refused.

What is promised of them, so that the rules can rest on it: a call that arrives after its caller stopped to
wait does so within the late-write bound, except in weather whose calls land
beyond the bound; and a call that was answered has arrived as often as it ever will.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.simulation.loop import Killed, SimulatedLoop, current_process


class Fault(StrEnum):
    """What goes wrong with one call."""

    NONE = "none"
    UNREACHABLE = "unreachable"
    """No connection: not sent, and said so."""
    RESET_BEFORE = "reset before"
    """The connection breaks and the call never arrives."""
    RESET_AFTER = "reset after"
    """It is applied, and the connection breaks before the answer."""
    RESET_LATE = "reset, then applied"
    """The connection breaks, and the call arrives later all the same."""
    SILENT_BEFORE = "lost"
    """It never arrives, and nobody says so."""
    SILENT_AFTER = "answer lost"
    """It is applied, and no answer comes."""
    SILENT_LATE = "late"
    """No answer comes, and it is applied after its caller's deadline."""
    TWICE = "twice"
    """It arrives twice, before it is answered once."""
    OVERLOADED = "overloaded"
    """Not applied: the store asks for patience."""
    DENIED = "denied"
    """Not applied: the store does not accept our credentials."""
    REFUSED = "refused"
    """Not applied: the store will not take it, today."""
    BROKEN_BEFORE = "server error before"
    """Not applied, and the store fails in a way of its own."""
    BROKEN_AFTER = "server error after"
    """Applied, and the store fails in a way of its own."""


APPLIED = {Fault.NONE, Fault.RESET_AFTER, Fault.SILENT_AFTER, Fault.TWICE, Fault.BROKEN_AFTER}
LATE = (Fault.RESET_LATE, Fault.SILENT_LATE)
SILENT = {Fault.SILENT_BEFORE, Fault.SILENT_AFTER, Fault.SILENT_LATE}


@dataclass(slots=True)
class Weather:
    """How bad the way to one store is.

    Attributes:
        rate: the share of calls that something goes wrong with.
        reads: of that, as much for calls that only read.
        faults: what may go wrong.
        outages: from when to when nothing gets through, and how that shows.
        calm_at: from when on nothing goes wrong any more.
        longest_delay: seconds that a call or an answer may travel.
        late_write: the bound of what arrives late.
        beyond_bound: late calls may outlast the bound, up to so many seconds.
    """

    rate: float = 0.0
    reads: float = 0.25
    faults: list[Fault] = field(default_factory=list)
    outages: list[tuple[float, float, Fault]] = field(default_factory=list)
    calm_at: float = 0.0
    longest_delay: float = 0.05
    late_write: float = 0.0
    beyond_bound: float = 0.0

    def draw(self, now: float, dice: random.Random, *, reads: bool) -> Fault:
        """What happens to a call that is made now."""
        if now >= self.calm_at:
            return Fault.NONE
        for start, end, fault in self.outages:
            if start <= now < end:
                return fault
        rate = self.rate * self.reads if reads else self.rate
        return dice.choice(self.faults) if dice.random() < rate else Fault.NONE


Record = Callable[[str], None]
Notice = Callable[[str, Fault, bool], None]


class Network:
    """The way to one store.

    Args:
        loop: tells the time.
        store: its name, for the history.
        weather: of the way.
        dice: the seed's.
        record: writes a line of the history.
        failure: what the client sees of a fault.
        on_send: told of each call of a client, just before it is sent.
        on_fault: told, in the caller's context, of each call that something goes wrong with: of which store,
            what, and whether it lands beyond the bound.
        on_arrive: told of each call, just before it takes effect, when it was made.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        store: str,
        weather: Weather,
        dice: random.Random,
        record: Record,
        failure: Callable[[Fault], Exception],
        on_send: Callable[[], None] = lambda: None,
        on_fault: Notice = lambda *_: None,
        on_arrive: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._weather = weather
        self._dice = dice
        self._record = record
        self._failure = failure
        self._on_send = on_send
        self._on_fault = on_fault
        self._on_arrive = on_arrive

    async def send(self, method: str, request: Any, act: Callable[[], Any], seconds: float) -> Any:
        """Carry one call of a client."""
        self._on_send()
        about = getattr(request, "schedule_id", "") or _object_of(request)
        return await self.call(f"{method} {about}", act, seconds=seconds)

    async def call(self, what: str, act: Callable[[], Any], *, seconds: float | None = None) -> Any:
        """Carry a call to the server and its answer back, if the weather lets it.

        Args:
            what: the call, in words.
            act: what the server does when it arrives.
            seconds: how long its caller waits for the answer; None: as long as it takes.
        """
        process = current_process()
        if process is not None and not process.alive:
            raise Killed
        reads = what.startswith(("Read", "Describe"))
        made = self._loop.time()
        fault = self._weather.draw(made, self._dice, reads=reads)
        who = process.name if process else "somebody"
        lateness = self._lateness(seconds) if fault in LATE else 0.0
        if fault is not Fault.NONE:
            self._record(f"{who} -> {self._store}: {what} [{fault.value}]")
            beyond = fault in LATE and lateness > (seconds or 0.0) + self._weather.late_write
            self._on_fault(self._store, fault, beyond)
        answer: asyncio.Future[Any] = self._loop.create_future()
        there, back = self._delay(), self._delay()
        if fault in APPLIED:
            self._loop.later(there, self._arrive, who, what, act, fault, answer, back, made)
        elif fault in LATE:
            self._loop.later(lateness, self._arrive, who, what, act, fault, None, 0.0, made)
        if fault not in APPLIED and fault not in SILENT:
            self._loop.later(there + back, _fail, answer, self._failure(fault))
        return await answer

    def _delay(self) -> float:
        return self._dice.random() * self._weather.longest_delay

    def _lateness(self, seconds: float | None) -> float:
        bound = (seconds or 0.0) + self._weather.late_write + self._weather.beyond_bound
        return self._dice.random() * bound * 0.99

    def _arrive(
        self,
        who: str,
        what: str,
        act: Callable[[], Any],
        fault: Fault,
        answer: "asyncio.Future[Any] | None",
        back: float,
        made: float,
    ) -> None:
        self._on_arrive(made)
        for _ in range(2 if fault is Fault.TWICE else 1):
            try:
                result, error = act(), None
            except Exception as caught:  # noqa: BLE001 - the server's answer, whatever it is
                result, error = None, caught
        told = "" if error is None else f" = {_brief(error)}"
        self._record(f"{self._store}: {who}'s {what}{told}{' (late)' if fault in LATE else ''}")
        if answer is None or fault is Fault.SILENT_AFTER:
            return
        if fault in {Fault.RESET_AFTER, Fault.BROKEN_AFTER}:
            error = self._failure(fault)
        if error is not None:
            self._loop.later(back, _fail, answer, error)
        else:
            self._loop.later(back, _answer, answer, result)


def _object_of(request: Any) -> str:
    wanted = getattr(request, "relationship_filter", None)
    if wanted is not None:
        return str(wanted.optional_resource_id)
    return next((str(update.relationship.resource.object_id) for update in request.updates), "")


def _brief(error: Exception) -> str:
    for name in ("message", "details"):
        text = getattr(error, name, None)
        if text is not None:
            return str(text() if callable(text) else text)
    return str(error)


def _answer(answer: "asyncio.Future[Any]", result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
